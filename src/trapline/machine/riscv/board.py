"""The board: harts, RAM and devices put together, laid out as QEMU's `virt`, and a program loaded into it.

    0x0010_0000  finisher        0x0200_0000  ACLINT        0x0C00_0000  PLIC        0x1000_0000  UART (source 10)
    0x8000_0000  RAM

At reset every hart is in M-mode at the program's entry, with its number in a0 and zero in a1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trapline.abi import elf
from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.devices.aclint import Aclint
from trapline.machine.riscv.devices.finisher import Finisher
from trapline.machine.riscv.devices.plic import Plic
from trapline.machine.riscv.devices.uart import Uart
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.harts import Harts

if TYPE_CHECKING:
    from trapline.machine.riscv.jit.tiers import Tiers

RAM_BASE = 0x8000_0000
FINISHER, ACLINT, PLIC, UART = 0x10_0000, 0x200_0000, 0xC00_0000, 0x1000_0000
UART_SOURCE = 10
QUANTUM = 50_000  #: instructions of a hart's turn, the same in every tier, so that every tier gives the same run
MAX_HEADERS = 256
A0, A1 = 10, 11


class BadImage(ValueError):
    """The file is no program for this board; the text says why."""


@dataclass(slots=True)
class Program:
    """What an ELF file asks to be put where: (physical address, bytes, length in memory)."""

    entry: int
    pieces: list[tuple[int, bytes, int]]


def parse(data: bytes) -> Program:
    """A statically linked riscv64 ELF executable, loaded at its physical addresses. Raises BadImage."""
    if len(data) < elf.EHDR.size or data[:4] != elf.MAGIC:
        raise BadImage("not an ELF file")
    ident, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, _, _, _ = elf.EHDR.unpack_from(data)
    if ident[4] != elf.ELFCLASS64 or ident[5] != elf.ELFDATA2LSB or machine != elf.EM_RISCV:
        raise BadImage("not a program for 64-bit RISC-V")
    if kind != elf.ET_EXEC or phentsize != elf.PHDR.size or not 0 < phnum <= MAX_HEADERS:
        raise BadImage("not a statically linked executable")
    try:
        headers = [elf.PHDR.unpack_from(data, phoff + n * elf.PHDR.size) for n in range(phnum)]
    except struct.error:
        raise BadImage("its program headers are cut off") from None
    pieces = []
    for each, _, offset, _, paddr, filesz, memsz, _ in headers:
        if each != elf.PT_LOAD or not memsz:
            continue
        if filesz > memsz or offset + filesz > len(data):
            raise BadImage("a segment is cut off")
        pieces.append((paddr, data[offset : offset + filesz], memsz))
    if not pieces:
        raise BadImage("it has nothing to load")
    return Program(entry, pieces)


class Board:
    """`send(bytes)` gets what the serial port transmits. `native`: use the native tiers (needs llvmlite)."""

    def __init__(
        self, memory_bytes: int, harts: int = 1, *, send: Callable[[bytes], object], native: bool = True
    ) -> None:
        self.ram = Ram(memory_bytes)
        self.bus = Bus(self.ram, RAM_BASE)
        self.tiers: Tiers | None = None
        make: Callable[..., Hart] = Hart
        if native:
            from trapline.machine.riscv.jit.native import native_harts

            self.tiers, make = native_harts(self.ram)
        self.harts = Harts(self.bus, harts, make=make, quantum=QUANTUM)
        self.plic = Plic(self.harts)
        self.uart = Uart(send, self._uart_line)
        self.bus.attach(FINISHER, Finisher())
        self.bus.attach(ACLINT, Aclint(self.harts))
        self.bus.attach(PLIC, self.plic)
        self.bus.attach(UART, self.uart)

    def _uart_line(self, high: bool) -> None:
        (self.plic.raise_line if high else self.plic.lower_line)(UART_SOURCE)

    def load(self, program: Program) -> None:
        """Put a program into RAM and reset the harts to its entry. Raises BadImage if it does not fit."""
        for paddr, data, length in program.pieces:
            start = paddr - RAM_BASE
            if start < 0 or start + length > self.ram.size:
                end = RAM_BASE + self.ram.size
                raise BadImage(
                    f"a segment at [{paddr:#x}, {paddr + length:#x}) is outside RAM, [{RAM_BASE:#x}, {end:#x}): "
                    "link it elsewhere, or give the board more memory"
                )
            self.ram.mem[start : start + len(data)] = data
            self.ram.mem[start + len(data) : start + length] = bytes(length - len(data))
        for hart in self.harts.each:
            hart.reset(program.entry)
            hart.cpu[at.X + A0], hart.cpu[at.X + A1] = hart.cpu[at.HARTID], 0

    def close(self) -> None:
        """Let memory and threads go. Idempotent."""
        if self.tiers is not None:
            self.tiers.close()
