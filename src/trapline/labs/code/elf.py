"""Static ELF files made of machine code: one segment of text, one of data behind it; elf(5)."""

from __future__ import annotations

from trapline.abi import elf

TEXT, DATA = 0x40_0000, 0x80_0000  #: where programs have their code, and their memory
PAGE = 4096
_MACHINES = {"x86_64": (elf.EM_X86_64, 0), "riscv64": (elf.EM_RISCV, 5)}  #: number, and flags: compressed code, double floats


def static(arch: str, code: bytes, entry: int = TEXT, *, data_bytes: int = 1 << 16, data: bytes = b"") -> bytes:
    """A program whose `code` is at TEXT, executable, with `data_bytes` at DATA, writable: `data`, then zeroes."""
    machine, flags = _MACHINES[arch]
    ident = elf.MAGIC + bytes((elf.ELFCLASS64, elf.ELFDATA2LSB, 1)) + bytes(9)
    header = elf.EHDR.pack(
        ident, elf.ET_EXEC, machine, 1, entry, elf.EHDR.size, 0, flags, elf.EHDR.size, elf.PHDR.size, 3, 64, 0, 0
    )
    text = elf.PHDR.pack(elf.PT_LOAD, elf.PF_R | elf.PF_X, PAGE, TEXT, TEXT, len(code), len(code), PAGE)
    behind = PAGE + (len(code) + PAGE - 1 & -PAGE)
    memory = elf.PHDR.pack(elf.PT_LOAD, elf.PF_R | elf.PF_W, behind, DATA, DATA, len(data), data_bytes, PAGE)
    stack = elf.PHDR.pack(elf.PT_GNU_STACK, elf.PF_R | elf.PF_W, 0, 0, 0, 0, 0, 16)
    head = header + text + memory + stack
    file = head.ljust(PAGE, b"\0") + code
    return file.ljust(behind, b"\0") + data if data else file
