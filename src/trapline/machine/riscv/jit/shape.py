"""The shape of a region: which instructions it holds, as basic blocks, found from one hot place.

In a nutshell: from the entry, follow every branch and direct jump whose target is in a page that is mapped for execution now; a
call is followed too, and the place it returns to becomes a target of the region's indirect jumps. Where the limits are
reached, and where the program has never been, a block ends and the program goes on in the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import NamedTuple

from trapline.machine.riscv.isa.declare import Instruction
from trapline.machine.riscv.isa.decode import decode, length

MAX_INSTRUCTIONS = 800
MAX_PAGES = 6
LINKS = (1, 5)  #: registers that hold return addresses
MASK64 = (1 << 64) - 1
BRANCHES = frozenset("beq bne blt bge bltu bgeu c.beqz c.bnez".split())
JUMPS = frozenset(("jal", "c.j"))
INDIRECT = frozenset(("jalr", "c.jr", "c.jalr"))
Page = Callable[[int], bytes | None]  #: a page's virtual address -> its bytes, or None if it cannot be executed now
Jumped = Callable[[int], list[int]]  #: a page's virtual address -> where jumps in it have often led, the most frequent first
Known = Callable[[int], bool]  #: whether the instruction at an address of such a page has been executed


class Block:
    """Instructions that run one after the other: (pc, instruction). `after`: where it falls through to, or None."""

    __slots__ = ("after", "body", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.body: list[tuple[int, Instruction]] = []
        self.after: int | None = None


class Shape(NamedTuple):
    """Blocks by address, the entry's first. `returns`: those that calls come back to. `computed`: those that other indirect
    jumps may well lead to."""

    entry: int
    blocks: dict[int, Block]
    returns: list[int]
    computed: list[int]
    pages: list[int]  #: virtual addresses of the pages that it has code from, the entry's first
    whole: bool  #: no limit has cut it off


def successors(block: Block) -> list[int]:
    """Where the last instruction of a block leads; nothing, if it is an indirect jump."""
    pc, i = block.body[-1]
    after = [] if block.after is None else [block.after]
    if i.op.name in BRANCHES or i.op.name in JUMPS:
        return [pc + i.imm & MASK64, *after]
    return after


def is_return(i: Instruction) -> bool:
    """Whether an indirect jump goes back from a call (by the manual's hints for return-address stacks)."""
    return not i.rd and i.rs1 in LINKS


def discover(entry: int, page: Page, known: Known, jumped: Jumped = lambda _: []) -> Shape:
    """The region around `entry`."""
    return _Search(entry, page, known, jumped).shape()


class _Search:
    def __init__(self, entry: int, page: Page, known: Known, jumped: Jumped) -> None:
        self._page, self._known, self._jumped = page, known, jumped
        self._profiled: set[int] = set()  # pages whose jumps' targets have been taken in
        self._computed: list[int] = []
        self._whole = True
        self._pages: dict[int, bytes | None] = {}
        self._taken: list[int] = []
        self._at: dict[int, Instruction] = {}
        self._leaders = {entry}
        self._returns: list[int] = []
        self._entry = entry

    def shape(self) -> Shape:
        todo = [self._entry]
        while todo and len(self._at) < MAX_INSTRUCTIONS:
            todo += self._run(todo.pop(0))
        self._whole &= len(self._at) < MAX_INSTRUCTIONS
        blocks: dict[int, Block] = {}
        for start in [self._entry, *sorted(self._leaders - {self._entry})]:
            if start in self._at:
                blocks[start] = self._block(start)
        returns, computed = ([pc for pc in dict.fromkeys(each) if pc in blocks] for each in (self._returns, self._computed))
        return Shape(self._entry, blocks, returns, computed, self._taken, self._whole)

    def _fetch(self, pc: int) -> Instruction | None:
        """The instruction at `pc`, or None if the region must end before it."""
        start = pc & -4096
        if start not in self._pages:
            if len(self._taken) >= MAX_PAGES:
                self._whole = False
                return None
            self._pages[start] = self._page(start)
            if self._pages[start] is not None:
                self._taken.append(start)
        data, offset = self._pages[start], pc & 4095
        if data is None or not self._known(pc):
            return None
        raw = int.from_bytes(data[offset : offset + 2], "little")
        if length(raw) == 4:
            if offset > 4092:
                return None
            raw = int.from_bytes(data[offset : offset + 4], "little")
        found = decode(raw)
        return None if found is None or found.op.system else found

    def _run(self, pc: int) -> list[int]:
        """Take in instructions from `pc` to the next jump; where that leads."""
        while pc not in self._at and len(self._at) < MAX_INSTRUCTIONS:
            i = self._fetch(pc)
            if i is None:
                return []
            self._at[pc] = i
            following = pc + i.length & MASK64
            if i.op.name in BRANCHES:
                targets = [following, pc + i.imm & MASK64]
            elif i.op.name in JUMPS:
                targets = [pc + i.imm & MASK64]
                if i.rd:
                    self._returns.append(following)
                    targets.append(following)
            elif i.op.name in INDIRECT:
                targets = self._profile(pc) if not i.rd and not is_return(i) else []
                if i.rd:
                    self._returns.append(following)
                    targets.append(following)
            else:
                pc = following
                continue
            self._leaders.update(targets)
            return targets
        return []

    def _profile(self, pc: int) -> list[int]:
        """Where a computed jump at `pc` may lead: wherever jumps in its page have led."""
        page = pc & -4096
        if page in self._profiled:
            return []
        self._profiled.add(page)
        found = self._jumped(page)
        self._computed += found
        return found

    def _block(self, start: int) -> Block:
        block = Block(start)
        pc = start
        while True:
            i = self._at.get(pc)
            if i is None or (pc != start and pc in self._leaders):
                block.after = pc
                return block
            block.body.append((pc, i))
            pc = pc + i.length & MASK64
            if i.op.name in JUMPS or i.op.name in INDIRECT:
                return block
            if i.op.name in BRANCHES:
                block.after = pc
                return block
