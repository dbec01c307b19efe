"""Which accesses of a block go through one register whose value is the same but for a known distance.

In a nutshell: a function's stores to its stack frame, or an unrolled loop's loads, differ by constants only. One check that the
whole span of them lies within a window (see window.py) serves them all.

Invariant: between the first and the last access of a group nothing can change what is mapped: the group is within a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import NamedTuple

from trapline.machine.riscv.isa.declare import OPS, Instruction
from trapline.machine.riscv.layout import WINDOW_COUNT

MAX_SPAN = 2048  #: bytes
STACK = 2  #: the register whose loads and stores share a window
KIND_WINDOWS = WINDOW_COUNT // 2  #: the first are for loads, the others for stores
_SIZES = {
    "lb": 1, "lbu": 1, "lh": 2, "lhu": 2, "lw": 4, "lwu": 4, "ld": 8, "flw": 4, "fld": 8,
    "sb": 1, "sh": 2, "sw": 4, "sd": 8, "fsw": 4, "fsd": 8,
}  # fmt: skip
#: by the body's identity, which a compressed instruction shares: (bytes, whether it is a store)
_ACCESSES = {id(op.body): (_SIZES[op.name], "s" in op.name) for op in OPS if op.name in _SIZES}
_ADD_IMMEDIATE = next(id(op.body) for op in OPS if op.name == "addi")


class Group:
    """Accesses through one register, as it was when the block began, or when it was last written. `window`: the number of the
    window that they share, see window.py; `host`: see Windowed."""

    __slots__ = ("count", "high", "host", "low", "window", "write")

    def __init__(self, window: int, *, write: bool) -> None:
        self.window, self.write = window, write
        self.low, self.high = 1 << 63, -1 << 63  #: from the lowest byte's distance to the one behind the highest
        self.count = 0
        self.host = ""

    def fits(self, low: int, high: int) -> bool:
        return not self.count or max(self.high, high) - min(self.low, low) <= MAX_SPAN

    def add(self, low: int, high: int) -> None:
        self.low, self.high, self.count = min(self.low, low), max(self.high, high), self.count + 1


class Access(NamedTuple):
    """One load or store: its group, and its distance from what the group counts from."""

    group: Group
    offset: int


class Plain(NamedTuple):
    """One load or store by itself: through which register, as it was when the block began or when it was last written."""

    register: int
    version: int
    distance: int
    size: int
    write: bool


def is_add_immediate(i: Instruction) -> bool:
    return id(i.body) == _ADD_IMMEDIATE


def result(i: Instruction) -> int:
    """The integer register that an instruction writes; 0 if none."""
    return 0 if i.op.operands.startswith("fd") else i.rd


def accesses(body: Sequence[tuple[int, Instruction]]) -> dict[int, Plain]:
    """The accesses of a block, by position."""
    origins: dict[int, tuple[int, int, int]] = {}  # register -> (register, version, distance) that its value comes from
    found: dict[int, Plain] = {}
    for position, (_, i) in enumerate(body):
        register, version, distance = origins.get(i.rs1, (i.rs1, 0, 0))
        size, write = _ACCESSES.get(id(i.body), (0, False))
        if size:
            found[position] = Plain(register, version, distance + i.imm, size, write)
        rd = result(i)
        if rd:
            moved = i.rs1 and is_add_immediate(i)
            origins[rd] = (register, version, distance + i.imm) if moved else (rd, position + 1, 0)
    return found


def find(body: Sequence[tuple[int, Instruction]]) -> dict[int, Access]:
    """The accesses of a block in groups, by position."""
    groups: dict[tuple[int, int, bool], Group] = {}
    found: dict[int, Access] = {}
    for position, each in accesses(body).items():
        write = each.write or each.register == STACK
        place = STACK if each.register == STACK else body[position][0] >> 1
        low, high = each.distance, each.distance + each.size
        key = each.register, each.version, write
        group = groups.get(key)
        if group is None or not group.fits(low, high):
            group = groups[key] = Group(place % KIND_WINDOWS + (KIND_WINDOWS if write else 0), write=write)
        group.add(low, high)
        found[position] = Access(group, low)
    return found
