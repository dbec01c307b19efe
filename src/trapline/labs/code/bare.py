"""Running machine code on the bare board: no kernel, all modes; reference tier, virtual time, the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from trapline.labs.code.riscv import Riscv
from trapline.labs.framework.lab import LabError
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.addresses import ACLINT, FINISHER, PLIC, RAM_BASE
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.firmware import Program
from trapline.machine.riscv.harts import HALTED

#: names that programs may use
PLACES = {
    "FINISHER": FINISHER, "PASS": 0x5555, "MTIME": ACLINT + 0xBFF8, "MTIMECMP": ACLINT + 0x4000, "PLIC": PLIC, "RAM": RAM_BASE,
}  # fmt: skip
SLICE = 100_000


def span(code: Riscv, units: int, prepare: Callable[[Board], object], *, memory: int = 8 << 20) -> list[int]:
    """Run it for so many instructions, whatever it does: the registers x0 to x31 at the end."""
    with closing(Board(memory, send=lambda data: None, native=False)) as board:
        prepare(board)
        data = code.link()
        board.load(Program(code.base, [(code.base, data, len(data))]))
        board.harts.run(units)
        return list(board.harts.each[0].xs)


def elapse(code: Riscv, units: int, prepare: Callable[[Board], object], *, memory: int = 8 << 20) -> tuple[list[int], int]:
    """As `span`, but time in which it waits for an interrupt counts too: (registers, instructions executed)."""
    with closing(Board(memory, send=lambda data: None, native=False)) as board:
        prepare(board)
        data = code.link()
        board.load(Program(code.base, [(code.base, data, len(data))]))
        board.harts.alarm = units
        board.harts.run(units)
        return list(board.harts.each[0].xs), board.harts.each[0].cpu[at.INSTRET]


class Stuck(LabError):
    """The program did not end."""


def run(
    code: Riscv, *, most: int, memory: int = 8 << 20, prepare: Callable[[Board], object] | None = None,
    pieces: Sequence[tuple[int, bytes]] = (), send: Callable[[bytes], object] = lambda data: None,
    make: Callable[..., Board] = Board,
) -> tuple[bytes, int]:  # fmt: skip
    """Run it from its beginning until it writes to the finisher: (its memory, instructions executed). `prepare` is given the
    board; `pieces` are what memory holds besides, (address, bytes); `send` gets what the serial port transmits;
    `make` makes the board.

    Raises Stuck after `most` instructions.
    """
    with closing(make(memory, send=send, native=False)) as board:
        if prepare is not None:
            prepare(board)
        data = code.link()
        board.load(Program(code.base, [(where, each, len(each)) for where, each in ((code.base, data), *pieces)]))
        for _ in range(0, most, SLICE):
            if board.harts.run(SLICE) == HALTED:
                return bytes(board.ram.mem), board.harts.each[0].cpu[at.INSTRET]
        pc = board.harts.each[0].cpu[at.PC]
        raise Stuck(f"the program had not ended after {most} instructions, at {pc:#x}")
