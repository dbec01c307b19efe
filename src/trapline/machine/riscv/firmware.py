"""What a board starts from: files put into RAM, and the reset ROM that leads to them, as on QEMU's `virt`.

    RAM + 0            firmware (or a program, where its ELF headers want it)
    + 2 MiB            a kernel that is a flat file; behind the firmware, on a multiple of 2 MiB
    + half of RAM      an initial RAM disk: that far behind the kernel, at most 128 MiB
    top                the device tree, on a multiple of 2 MiB

The ROM starts every hart with its number in a0, the tree's address in a1 and, in a2, where OpenSBI's fw_dynamic finds what to
start next.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from trapline.typed import NamedTuple

from trapline.abi import elf
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.isa.decode import encode

MAX_HEADERS = 256
ALIGN = 2 << 20
MAX_INITRD_GAP = 128 << 20
TREE_END = 3 << 30  #: the device tree stays below, for firmware of 32 bits
ROM_INFO = 0x28  #: offset of the description for fw_dynamic in the ROM
_DYNAMIC = struct.Struct("<6Q")
_DYNAMIC_MAGIC, _DYNAMIC_VERSION, _S_MODE = 0x4942_534F, 2, 1
GZIP = b"\x1f\x8b"
_FLAT, _FLAT_AT = b"RSC\x05", 56  #: magic number of a flat Linux image (Documentation/arch/riscv/boot-image-header.rst)


class BadImage(ValueError):
    """The file is no program for this board; the text says why."""


class Program(NamedTuple):
    """What a file asks to be put where: (physical address, bytes, length in memory)."""

    entry: int
    pieces: list[tuple[int, bytes, int]]

    @property
    def end(self) -> int:
        return max(at + length for at, _, length in self.pieces)


def parse(data: bytes) -> Program:
    """A statically linked riscv64 ELF executable, loaded at its physical addresses. Raises BadImage."""
    if len(data) < elf.EHDR.size or data[:4] != elf.MAGIC:
        flat = data[_FLAT_AT : _FLAT_AT + len(_FLAT)] == _FLAT
        raise BadImage("not an ELF file" + (", but a kernel image: write --kernel before it" if flat else ""))
    ident, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, _, _, _ = elf.EHDR.unpack_from(data)
    if ident[4] != elf.ELFCLASS64 or ident[5] != elf.ELFDATA2LSB or machine != elf.EM_RISCV:
        raise BadImage("not a program for 64-bit RISC-V")
    if kind not in (elf.ET_EXEC, elf.ET_DYN) or phentsize != elf.PHDR.size or not 0 < phnum <= MAX_HEADERS:
        raise BadImage("not a statically linked executable")
    if phoff + phnum * elf.PHDR.size > len(data):
        raise BadImage("its program headers are cut off")
    headers = [elf.PHDR.unpack_from(data, phoff + n * elf.PHDR.size) for n in range(phnum)]
    if any(each[0] == elf.PT_INTERP for each in headers):
        raise BadImage("not a statically linked executable")
    start = entry
    pieces = []
    for each, _, offset, vaddr, paddr, filesz, memsz, _ in headers:
        if each != elf.PT_LOAD or not memsz:
            continue
        if filesz > memsz or offset + filesz > len(data):
            raise BadImage("a segment is cut off")
        pieces.append((paddr, data[offset : offset + filesz], memsz))
        if vaddr <= entry < vaddr + memsz:
            start = entry - vaddr + paddr  # execution starts without translation
    if not pieces:
        raise BadImage("it has nothing to load")
    return Program(start, pieces)


def flat(data: bytes, address: int) -> Program:
    """A file that is its own picture in memory, entered at its start. Raises BadImage."""
    if not data:
        raise BadImage("it is empty")
    if data[:2] == GZIP:
        raise BadImage("it is compressed: decompress it with gunzip")
    return Program(address, [(address, data, len(data))])


def either(data: bytes, address: int) -> Program:
    """An ELF file where it wants to be, or a flat one at `address`. Raises BadImage."""
    return parse(data) if data[:4] == elf.MAGIC else flat(data, address)


class Files(NamedTuple):
    """The contents of what is to be loaded; empty for what is not there. `tree`: a device tree, instead of the board's own."""

    bios: bytes = b""
    kernel: bytes = b""
    initrd: bytes = b""
    append: str = ""
    tree: bytes = b""


class Plan(NamedTuple):
    """Where things go. `start`: the harts' first instruction behind the ROM. `next`: what fw_dynamic starts, 0 for nothing."""

    programs: list[Program]
    start: int
    next: int
    initrd: tuple[int, int] | None  #: [start, end)


def plan(files: Files, ram_base: int, ram_size: int, otherwise: int = 0) -> Plan:
    """Raises BadImage, with the option that gave the file. `otherwise`: where to start if no file says so, 0 for nowhere."""
    programs: list[Program] = []
    start = end = ram_base
    if files.bios:
        firmware = _said("--bios", either, files.bios, ram_base)
        programs.append(firmware)
        start, end = firmware.entry, firmware.end
    following = 0
    if files.kernel:
        kernel = _said("--kernel", either, files.kernel, end + -end % ALIGN)
        programs.append(kernel)
        following = kernel.entry
        if not files.bios:
            start = following
    if not programs and otherwise:
        start = otherwise
    elif not programs:
        raise BadImage("there is nothing to start")
    initrd = None
    if files.initrd:
        at = (following or start) + min(ram_size // 2, MAX_INITRD_GAP)
        programs.append(_said("--initrd", lambda data, at: Program(at, [(at, data, len(data))]), files.initrd, at))
        initrd = at, at + len(files.initrd)
    return Plan(programs, start, following, initrd)


def _said(option: str, make: Callable[[bytes, int], Program], data: bytes, at: int) -> Program:
    try:
        return make(data, at)
    except BadImage as error:
        raise BadImage(f"{option}: {error}") from None


def tree_address(tree_bytes: int, ram_base: int, ram_size: int) -> int:
    """Where the device tree goes."""
    return min(ram_base + ram_size, max(TREE_END, ram_base + ALIGN)) - tree_bytes & -ALIGN


def reset_code(start: int, tree: int, following: int) -> bytes:
    """The ROM's contents."""
    t0, a0, a1, a2 = 5, 10, 11, 12
    code = (
        encode("auipc", rd=t0),
        encode("addi", rd=a2, rs1=t0, imm=ROM_INFO),
        encode("csrrs", rd=a0, csr=NUMBERS["mhartid"]),
        encode("ld", rd=a1, rs1=t0, imm=ROM_INFO - 8),
        encode("ld", rd=t0, rs1=t0, imm=ROM_INFO - 16),
        encode("jalr", rs1=t0),
    )
    info = _DYNAMIC.pack(_DYNAMIC_MAGIC, _DYNAMIC_VERSION, following, _S_MODE, 0, 0)
    return struct.pack("<6I", *code) + struct.pack("<QQ", start, tree) + info
