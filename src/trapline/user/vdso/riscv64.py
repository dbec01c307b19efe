"""The riscv64 vDSO: assembled here, as the kernel starts, so that nobody needs a cross compiler.

It is the smallest shared object a loader accepts: one read-only, executable segment whose file offsets are its addresses, with
symbols, their version and a hash table. `__vdso_rt_sigreturn` is where signal handlers return to (there is no
sa_restorer), and unwinders know it by its two instructions. The other functions make their system call: on an emulated
machine one crossing costs less than the code that would read the clock without it.

Sources: elf(5); System V ABI, "Hash Table"; GNU symbol versioning, "Version Definition Section"; RISC-V Instruction Set Manual,
volume I, "Integer Computational Instructions"; arch/riscv/kernel/vdso/ of Linux for names and version.
"""

from __future__ import annotations

from struct import Struct, pack

from trapline.abi import elf
from trapline.abi.riscv64 import A7, EF_FLOAT_ABI_DOUBLE, EF_RVC
from trapline.abi.syscalls import RISCV64

SONAME, VERSION = "linux-vdso.so.1", "LINUX_4.15"
SIGRETURN = "__vdso_rt_sigreturn"
#: function -> the system call it makes
FUNCTIONS = {
    SIGRETURN: "rt_sigreturn", "__vdso_gettimeofday": "gettimeofday", "__vdso_clock_gettime": "clock_gettime",
    "__vdso_clock_getres": "clock_getres", "__vdso_getcpu": "getcpu", "__vdso_flush_icache": "riscv_flush_icache",
    "__vdso_riscv_hwprobe": "riscv_hwprobe",
}  # fmt: skip

ECALL, RET = 0x0000_0073, 0x0000_8067
_SYMBOL = Struct("<IBBHQQ")
_VERDEF, _VERDAUX = Struct("<HHHHIII"), Struct("<II")
_STB_GLOBAL_FUNC, _TEXT_SECTION = 0x12, 1  #: only "not undefined" matters: there are no section headers
_VER_FLG_BASE = 1
# dynamic section tags
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME = 4, 5, 6, 10, 11, 14
DT_VERSYM, DT_VERDEF, DT_VERDEFNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD


def li(rd: int, value: int) -> int:
    """`li rd, value` for a small value: addi rd, x0, value."""
    if not -2048 <= value < 2048:
        raise ValueError(f"li: {value} does not fit")
    return (value & 0xFFF) << 20 | rd << 7 | 0x13


def function(call: str) -> bytes:
    """li a7, NUMBER; ecall; ret."""
    return pack("<III", li(A7, RISCV64[call]), ECALL, RET)


def sysv_hash(name: str) -> int:
    """The hash function of DT_HASH and of version names."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF000_0000
        value = (value ^ high >> 24) & 0x0FFF_FFFF
    return value


def build() -> tuple[bytes, dict[str, int]]:
    """(the image, where in it each symbol is)."""
    return _Image().build()


class _Image:
    """The image while it grows: parts are appended, each aligned to 16, and remembered by their addresses."""

    def __init__(self) -> None:
        self.data = bytearray(elf.EHDR.size + 2 * elf.PHDR.size)
        self.strings = bytearray(1)

    def part(self, data: bytes) -> int:
        """Append `data`; its address."""
        self.data += bytes(-len(self.data) % 16)
        at = len(self.data)
        self.data += data
        return at

    def string(self, text: str) -> int:
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def build(self) -> tuple[bytes, dict[str, int]]:
        symbols = {name: self.part(function(call)) for name, call in FUNCTIONS.items()}
        table = bytes(_SYMBOL.size)
        for name, at in symbols.items():
            table += _SYMBOL.pack(self.string(name), _STB_GLOBAL_FUNC, 0, _TEXT_SECTION, at, len(function(FUNCTIONS[name])))
        soname, version = self.string(SONAME), self.string(VERSION)
        tags = [
            (DT_SONAME, soname), (DT_HASH, self.part(_hash_table(list(FUNCTIONS)))), (DT_SYMTAB, self.part(table)),
            (DT_SYMENT, _SYMBOL.size), (DT_STRTAB, self.part(bytes(self.strings))), (DT_STRSZ, len(self.strings)),
            (DT_VERSYM, self.part(pack(f"<{1 + len(symbols)}H", 0, *[2] * len(symbols)))),
            (DT_VERDEF, self.part(_versions(soname, version))), (DT_VERDEFNUM, 2), (0, 0),
        ]  # fmt: skip
        dynamic = b"".join(pack("<QQ", tag, value) for tag, value in tags)
        self._headers(self.part(dynamic), len(dynamic))
        return bytes(self.data), symbols

    def _headers(self, dynamic: int, dynamic_size: int) -> None:
        size = len(self.data)
        ident = elf.MAGIC + bytes((elf.ELFCLASS64, elf.ELFDATA2LSB, 1)) + bytes(9)
        head = elf.EHDR.pack(
            ident, elf.ET_DYN, elf.EM_RISCV, 1, 0, elf.EHDR.size, 0, EF_RVC | EF_FLOAT_ABI_DOUBLE, elf.EHDR.size, elf.PHDR.size,
            2, 0, 0, 0,
        )  # fmt: skip
        head += elf.PHDR.pack(elf.PT_LOAD, elf.PF_R | elf.PF_X, 0, 0, 0, size, size, 4096)
        head += elf.PHDR.pack(elf.PT_DYNAMIC, elf.PF_R, dynamic, dynamic, dynamic, dynamic_size, dynamic_size, 8)
        self.data[: len(head)] = head


def _hash_table(names: list[str]) -> bytes:
    """DT_HASH with one bucket per symbol: bucket -> symbol -> next symbol with the same hash -> 0."""
    count = len(names)
    buckets, chains = [0] * count, [0] * (count + 1)
    for number, name in enumerate(names, 1):
        bucket = sysv_hash(name) % count
        chains[number], buckets[bucket] = buckets[bucket], number
    return pack(f"<{2 + count + count + 1}I", count, count + 1, *buckets, *chains)


def _versions(soname: int, version: int) -> bytes:
    """Two definitions: the object's own name, and the version of its symbols."""
    size = _VERDEF.size + _VERDAUX.size
    base = _VERDEF.pack(1, _VER_FLG_BASE, 1, 1, sysv_hash(SONAME), _VERDEF.size, size) + _VERDAUX.pack(soname, 0)
    return base + _VERDEF.pack(1, 0, 2, 1, sysv_hash(VERSION), _VERDEF.size, 0) + _VERDAUX.pack(version, 0)
