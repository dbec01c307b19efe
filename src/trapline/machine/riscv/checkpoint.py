"""A checkpoint: a whole board at one moment, in memory; `cli/checkpoints.py` keeps one in a file.

A board that goes on from one does what the board that it was taken from does, to the bit, on every tier. What disks and flash
banks hold is kept beside it: in the file (`cli/kept_disks.py`), or as marks (`timeline.py`). A checkpoint can be taken
whenever `Harts.run` is not running, even if it was stopped in the middle of a turn.

Memory is kept in pieces; a checkpoint shares with the one before it those that have not changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trapline.machine.riscv.addresses import RAM_BASE
from trapline.machine.riscv.devices.saved import BadState, State, entry
from trapline.machine.riscv.hartstate import hart_state, load_hart

if TYPE_CHECKING:
    from trapline.machine.riscv.board import Board

PIECE = 16 << 10  #: bytes of memory that are kept or left out together
_ZERO = bytes(PIECE)


class Checkpoint(NamedTuple):
    """`state`: everything but memory, as JSON. `memory`: its pieces that are not zero, by number. `programs`: what a reset puts
    into memory (address, bytes, length in memory)."""

    state: State
    memory: dict[int, bytes]
    programs: list[tuple[int, bytes, int]]


def take(board: Board, before: Checkpoint | None = None) -> Checkpoint:
    """`before`: an earlier one of this board, to share memory with."""
    state = {
        "memory": board.ram.size,
        "harts": [hart_state(hart) for hart in board.harts.each],
        "time": board.harts.state(),
        "devices": {name: device.state() for name, device in board.saveable()},
        "seed": board.seed.hex(),
    }
    return Checkpoint(state, _memory(board, before.memory if before is not None else {}), board.pieces)


def _memory(board: Board, before: dict[int, bytes]) -> dict[int, bytes]:
    mem, found = board.ram.mem, {}
    for n in range(board.ram.size // PIECE):
        data = mem[n * PIECE : (n + 1) * PIECE].tobytes()
        if data != _ZERO:
            old = before.get(n)
            found[n] = old if old == data else data
    return found


def restore(board: Board, checkpoint: Checkpoint, *, fresh: bool = False) -> None:
    """`fresh`: nothing has been put into the board's memory yet. Raises BadState; then the board is in no state to run."""
    state = checkpoint.state
    harts, devices = entry(state, "harts"), entry(state, "devices")
    here = dict(board.saveable())
    if entry(state, "memory") != board.ram.size or type(harts) is not list or len(harts) != len(board.harts.each):
        raise BadState("it is of a board with other memory, or other harts")
    if type(devices) is not dict or devices.keys() != here.keys():
        names = " ".join(sorted(devices)) if type(devices) is dict else "none"
        raise BadState(f"it is of a board with other devices: {names}"[:400])
    for address, data, length in checkpoint.programs:
        if not RAM_BASE <= address <= RAM_BASE + board.ram.size - max(length, len(data)):
            raise BadState("a program is outside RAM")
    (_fill if fresh else _put)(board, checkpoint.memory)
    for hart in board.harts.each:
        hart.device_pages.clear()
    for name, device in here.items():
        try:
            device.load(devices[name])
        except BadState as error:
            raise BadState(f"{name}: {error}") from None
    board.harts.load(entry(state, "time"))
    for n, (hart, words) in enumerate(zip(board.harts.each, harts, strict=True)):
        try:
            load_hart(hart, words)
        except BadState as error:
            raise BadState(f"hart {n}: {error}") from None
    board.pieces = checkpoint.programs


def _fill(board: Board, memory: dict[int, bytes]) -> None:
    """Make RAM so that is zero: what stays zero is not even looked at, for the host has to find memory for what is."""
    mem = board.ram.mem
    for n, data in memory.items():
        mem[n * PIECE : n * PIECE + len(data)] = data


def _put(board: Board, memory: dict[int, bytes]) -> None:
    """Make RAM so, writing only what differs."""
    mem = board.ram.mem
    for n in range(board.ram.size // PIECE):
        data = memory.get(n, _ZERO)
        if mem[n * PIECE : (n + 1) * PIECE].tobytes() != data:
            mem[n * PIECE : n * PIECE + len(data)] = data
