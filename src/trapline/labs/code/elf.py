"""Static ELF files made of machine code: one segment of text, one of data behind it; elf(5). And one that may be anywhere."""

from __future__ import annotations

from trapline.abi import elf
from trapline.abi.arch import ABIS
from trapline.labs.code.riscv import Riscv
from trapline.labs.code.x86 import X86

TEXT, DATA = 0x40_0000, 0x80_0000  #: where programs have their code, and their memory
PAGE = 4096
_MACHINES = {"x86_64": (elf.EM_X86_64, 0), "riscv64": (elf.EM_RISCV, 5)}  #: number, and flags: compressed code, double floats


def static(arch: str, code: bytes, entry: int = TEXT, *, data_bytes: int = 1 << 16, data: bytes = b"") -> bytes:
    """A program whose `code` is at TEXT, executable, with `data_bytes` at DATA, writable: `data`, then zeroes."""
    return _file(arch, elf.ET_EXEC, entry, code, DATA, data_bytes, data, TEXT)


def _file(arch: str, kind: int, entry: int, code: bytes, memory: int, size: int, data: bytes, text: int = PAGE) -> bytes:
    machine, flags = _MACHINES[arch]
    ident = elf.MAGIC + bytes((elf.ELFCLASS64, elf.ELFDATA2LSB, 1)) + bytes(9)
    header = elf.EHDR.pack(
        ident, kind, machine, 1, entry, elf.EHDR.size, 0, flags, elf.EHDR.size, elf.PHDR.size, 3, 64, 0, 0
    )
    behind = PAGE + (len(code) + PAGE - 1 & -PAGE)
    header += elf.PHDR.pack(elf.PT_LOAD, elf.PF_R | elf.PF_X, PAGE, text, text, len(code), len(code), PAGE)
    rights = elf.PF_R | elf.PF_W
    header += elf.PHDR.pack(elf.PT_LOAD, rights, behind, memory, memory, len(data), size, PAGE)
    header += elf.PHDR.pack(elf.PT_GNU_STACK, elf.PF_R | elf.PF_W, 0, 0, 0, 0, 0, 16)
    file = header.ljust(PAGE, b"\0") + code
    return file.ljust(behind, b"\0") + data if data else file


def movable(arch: str) -> bytes:
    """A program that may be loaded anywhere, and exits with 0 at once; it has data, so that its heap has a place."""
    code = X86(0) if arch == "x86_64" else Riscv(0)
    code.syscall(ABIS[arch].numbers["exit_group"], 0)
    return _file(arch, elf.ET_DYN, PAGE, code.link(), 2 * PAGE, PAGE, b"")
