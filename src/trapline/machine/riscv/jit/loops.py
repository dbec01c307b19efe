"""The innermost loops of a region, and how far the registers they access memory through move in each round.

In a nutshell: if a register moves by a known distance in every round, one comparison tells that all accesses of the next
`rounds` rounds stay within a window (window.py), and those rounds need no checks of their own: a *chunk*.

Invariants:
- a loop has one header; taking away the edges that lead to it leaves no cycle;
- a round executes at least `shortest` instructions, so that a budget of rounds * shortest bounds the rounds;
- a reach holds for every path through the loop, or it is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from trapline.typed import NamedTuple

from trapline.machine.riscv.isa.declare import OPS, Instruction
from trapline.machine.riscv.jit.groups import accesses, is_add_immediate, result
from trapline.machine.riscv.jit.groups import find as groups
from trapline.machine.riscv.jit.shape import Block, successors

MAX_BODY = 96  #: instructions of a loop that is worth a second form
MAX_ROUNDS = 128  #: of a chunk, at most
CHUNK_BYTES = 1024  #: what a chunk passes over, at most (but for steps that are not known)
UNKNOWN_ROUNDS = 64  #: a power of two: rounds of a chunk in which a register moves by another's value
MAX_STEP = 1 << 16  #: what that value may be
_ADD = next(id(op.body) for op in OPS if op.name == "add")


class Origin(NamedTuple):
    """A value: what `register` held when the round began, plus `distance`, plus what register `by` holds (0: nothing)."""

    register: int
    distance: int
    by: int


class Reach(NamedTuple):
    """Accesses in a round: bytes from register + low on up to register + high; `step`, or register `by`: how far it moves."""

    register: int
    window: int
    low: int
    high: int
    step: int
    by: int


class Loop(NamedTuple):
    """`accesses`: for the place of an access, the index of its reach."""

    header: int
    blocks: dict[int, Block]
    reaches: list[Reach]
    accesses: dict[int, int]
    rounds: int
    shortest: int


def find(blocks: Mapping[int, Block]) -> list[Loop]:
    """The loops of a region that chunks make faster."""
    edges = {start: [to for to in successors(block) if to in blocks] for start, block in blocks.items()}
    found = []
    for header, members in _innermost(set(blocks), edges):
        body = {start: blocks[start] for start in members}
        if sum(len(each.body) for each in body.values()) <= MAX_BODY:
            loop = _Analysis(header, body, edges).loop()
            if loop.reaches:
                found.append(loop)
    return found


def _innermost(nodes: set[int], edges: Mapping[int, list[int]]) -> Iterator[tuple[int, set[int]]]:
    """(header, blocks) of each loop that holds no other."""
    for members in _components(nodes, edges):
        outside = {to for start in edges if start not in members for to in edges[start]} & members
        header = min(outside or members)
        cut = {start: [to for to in edges[start] if to != header] for start in members}
        if _components(members, cut):
            yield from _innermost(members, {**edges, **cut})
        else:
            yield header, members


def _components(nodes: set[int], edges: Mapping[int, list[int]]) -> list[set[int]]:
    """The strongly connected components that hold a cycle."""
    found: list[set[int]] = []
    left = set(nodes)
    backward: dict[int, list[int]] = {start: [] for start in nodes}
    for start in nodes:
        for to in edges[start]:
            if to in backward:
                backward[to].append(start)
    while left:
        start = min(left)
        forth = _reachable(start, edges, left)
        members = (forth & _reachable(start, backward, left)) | {start}
        if start in forth:
            found.append(members)
        left -= members
    return found


def _reachable(start: int, edges: Mapping[int, list[int]], within: set[int]) -> set[int]:
    """What a path of at least one edge leads to."""
    found: set[int] = set()
    todo = [start]
    while todo:
        for to in edges[todo.pop()]:
            if to in within and to not in found:
                found.add(to)
                todo.append(to)
    return found


class _Analysis:
    """One loop, its blocks in an order in which every path goes forward."""

    def __init__(self, header: int, blocks: dict[int, Block], edges: Mapping[int, list[int]]) -> None:
        self._header, self._blocks = header, blocks
        self._edges = {start: [to for to in edges[start] if to in blocks] for start in blocks}
        self._at: dict[int, dict[int, Origin | None]] = {header: {}}  #: registers that are not themselves, by block
        self._length = {header: 0}  #: instructions of the shortest way to a block
        self._ends: list[tuple[int, dict[int, Origin | None]]] = []  #: length and registers wherever a round ends
        self._places: list[tuple[int, Origin, int, int]] = []  #: (place, from where, bytes, window)

    def loop(self) -> Loop:
        for start in self._order():
            self._block(start)
        grouped: dict[tuple[int, int], list[tuple[int, Origin, int]]] = {}
        for place, origin, size, index in self._places:
            grouped.setdefault((origin.register, index), []).append((place, origin, size))
        reaches: list[Reach] = []
        known: dict[int, int] = {}
        for (register, index), each in grouped.items():
            step = self._step(register)
            if step is None or any(origin.by not in (0, step.by) for _, origin, _ in each):
                continue
            low = min(origin.distance for _, origin, _ in each)
            high = max(origin.distance + size for _, origin, size in each)
            known |= {place: len(reaches) for place, _, _ in each}
            reaches.append(Reach(register, index, low, high, step.distance, step.by))
        rounds = min(
            [UNKNOWN_ROUNDS if each.by else max(8, min(MAX_ROUNDS, CHUNK_BYTES // max(1, abs(each.step)))) for each in reaches],
            default=0,
        )
        return Loop(self._header, self._blocks, reaches, known, rounds, min(length for length, _ in self._ends))

    def _order(self) -> list[int]:
        done: list[int] = []
        seen = {self._header}
        todo = [(self._header, iter(self._edges[self._header]))]
        while todo:
            start, rest = todo[-1]
            to = next((each for each in rest if each not in seen), None)
            if to is None:
                done.append(start)
                todo.pop()
            else:
                seen.add(to)
                todo.append((to, iter(self._edges[to])))
        return done[::-1]

    def _block(self, start: int) -> None:
        registers = dict(self._at[start])
        block = self._blocks[start]
        plan, shared = accesses(block.body), groups(block.body)
        for position, (pc, i) in enumerate(block.body):
            origin = registers.get(i.rs1, Origin(i.rs1, 0, 0))
            access = plan.get(position)
            if access is not None:
                if origin is not None:
                    window = shared[position].group.window
                    self._places.append((pc, origin._replace(distance=origin.distance + i.imm), access.size, window))
            rd = result(i)
            if rd:
                registers[rd] = None if access is not None else self._result(i, registers)
        length = self._length[start] + len(block.body)
        for to in self._edges[start]:
            if to == self._header:
                self._ends.append((length, registers))
            elif to not in self._at:
                self._at[to], self._length[to] = dict(registers), length
            else:
                self._length[to] = min(self._length[to], length)
                at = self._at[to]
                for each in {*at, *registers}:
                    itself = Origin(each, 0, 0)
                    if at.get(each, itself) != registers.get(each, itself):
                        at[each] = None

    def _result(self, i: Instruction, registers: Mapping[int, Origin | None]) -> Origin | None:
        """Where the result of an instruction that is not a load comes from."""
        origin = registers.get(i.rs1, Origin(i.rs1, 0, 0))
        if is_add_immediate(i):
            return None if origin is None or not i.rs1 else origin._replace(distance=origin.distance + i.imm)
        if id(i.body) != _ADD or not (i.rs1 and i.rs2):
            if id(i.body) == _ADD and i.rs2:  # mv
                return registers.get(i.rs2, Origin(i.rs2, 0, 0))
            return None
        other = registers.get(i.rs2, Origin(i.rs2, 0, 0))
        if origin is None or other is None or origin.by or other.by:
            return None
        if other == (i.rs2, 0, 0) and origin.register == i.rd:
            return origin._replace(by=i.rs2)
        if origin == (i.rs1, 0, 0) and other.register == i.rd:
            return other._replace(by=i.rs1)
        return None

    def _step(self, register: int) -> Origin | None:
        """How a register moves in a round: the farthest of all ways; None if that is not known, or ways differ in direction."""
        farthest = Origin(register, 0, 0)
        itself = farthest
        for _, registers in self._ends:
            end = registers.get(register, itself)
            if end is None or end.register != register or (end.by and end.distance):
                return None
            if end.by and any(each.get(end.by, Origin(end.by, 0, 0)) != (end.by, 0, 0) for _, each in self._ends):
                return None
            if end in (itself, farthest):
                continue
            if end.by or farthest.by or end.distance * farthest.distance < 0:
                if farthest != itself:
                    return None
            if end.by or abs(end.distance) > abs(farthest.distance):
                farthest = end
        return farthest
