"""A model of a speculative processor: the reference hart with a data cache, and with loads that do not wait for their rights.

Every load, store and step of a walk touches a line of the cache; a miss takes `MISS` cycles, a step of a walk `HIT` more,
which the cycle counter counts. Where a load must not be done because the page is the supervisor's, the instructions
behind it go on with its value for a while, before the fault is taken and all that they did to registers is undone. Where
a branch goes another way than two-bit counters predict, the instructions of the other way run for a while, too. What
either did to the cache stays. `fence` ends it: nothing behind runs ahead of it.

What it leaves out: execution out of order of everything else, indirect branches, levels of caches. It is a model of two flaws.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.machine.contract import READ
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.code import raw_at
from trapline.machine.riscv.counting import CountingHart
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.isa.decode import decode
from trapline.machine.riscv.trap import LOAD_PAGE, Trap
from trapline.machine.riscv.twostage import FORMATS
from trapline.machine.riscv.walk import walk

LINE_SHIFT, LINES = 6, 1024  #: of 64 bytes
MISS, HIT = 100, 4  #: cycles; those of a load that hits are in the instruction's one
M64 = (1 << 64) - 1


class SpeculativeHart(CountingHart):
    """`window`: how many instructions run ahead of a fault; 0: none."""

    __slots__ = ("cache", "history", "physical", "transient", "window")

    def __init__(self, *arguments: Any, window: int = 0, **options: Any) -> None:
        self.cache: dict[int, None] = {}  # lines, the oldest first
        self.physical = 0  # of the last access
        self.history: dict[int, int] = {}  # of each branch: 0 and 1 predict that it is not taken, 2 and 3 that it is
        self.transient = False
        self.window = window
        super().__init__(*arguments, **options)

    def translate(self, va: int, access: int, size: int = 1) -> int:
        self.physical = super().translate(va, access, size)
        return self.physical

    def load(self, address: int, size: int, *, signed: bool = False) -> int:
        try:
            value = super().load(address, size, signed=signed)
        except Trap as raised:
            if raised.cause == LOAD_PAGE and self.window and not self.transient:
                self._run_ahead(address & M64, size)
            raise
        self._touch(self.physical)
        return value

    def store(self, address: int, size: int, value: int) -> None:
        if not self.transient:  # it has not been decided yet that it is done
            super().store(address, size, value)
            self._touch(self.physical)

    def read_entry(self, address: int) -> int | None:
        """Walks go through the cache, too."""
        self._touch(address)
        self.cpu[at.CYCLE_OFFSET] = self.cpu[at.CYCLE_OFFSET] + HIT & M64
        return super().read_entry(address)

    def cbo(self, name: str, address: int) -> None:
        super().cbo(name, address)
        if name == "flush":
            self.cache.pop(self.translate(address & M64, READ) >> LINE_SHIFT, None)

    def _touch(self, pa: int) -> None:
        line = pa >> LINE_SHIFT
        if line in self.cache:
            del self.cache[line]
        else:
            self.cpu[at.CYCLE_OFFSET] = self.cpu[at.CYCLE_OFFSET] + MISS & M64
            if len(self.cache) >= LINES:
                del self.cache[next(iter(self.cache))]
        self.cache[line] = None

    def branch(self, condition: int, target: int) -> None:
        if self.window and not self.transient:
            taken, seen = bool(condition), self.history.get(self.at, 1)
            if taken != (seen > 1):
                self._run(self.next if taken else target & M64)
            self.history[self.at] = min(3, seen + 1) if taken else max(0, seen - 1)
        super().branch(condition, target)

    def _run_ahead(self, address: int, size: int) -> None:
        """Go on behind the load at `self.at` with the value that it must not have."""
        value = self._forbidden(address, size)
        load = decode(raw_at(self, self.at))
        if value is not None and load is not None:
            self._run(self.at + load.length, load.rd, value)

    def _run(self, pc: int, rd: int = 0, value: int = 0) -> None:
        """Execute from `pc` on, with `value` in a register, then take everything back but the cache."""
        saved, here, behind = bytes(self.bytes_), self.at, self.next
        self.transient = True
        try:
            self.w(rd, value)
            self.next = pc
            for _ in range(self.window):
                found = decode(raw_at(self, self.next & M64))
                if found is None or found.op.system or found.op.name == "fence":
                    break
                self.at = self.next & M64
                self.next = self.at + found.length
                found.body(self, found)
        except Trap:
            pass
        finally:
            self.transient = False
            self.bytes_[:] = saved
            self.at, self.next = here, behind

    def _forbidden(self, address: int, size: int) -> int | None:
        """What is in memory there, if the tables map it at all: whose page it is, nobody asks yet."""
        satp = self.cpu[at.SATP]
        fmt = FORMATS.get(satp >> st.MODE_SHIFT)
        if fmt is None:
            return None
        found, _ = walk(self.read_entry, (satp & st.PPN_MASK) << 12, address, fmt)
        if isinstance(found, int):
            return None
        pa = found.pa | address & ((1 << found.shift) - 1)
        return self.bus.read(pa, size) if self.bus.in_ram(pa, size) else None


class SpeculativeBoard(Board):
    """A board with such a hart. `window` as there."""

    window = 16

    def reference_hart(self, *arguments: Any, **options: Any) -> Hart:
        return SpeculativeHart(*arguments, window=self.window, **options)


class CarefulBoard(SpeculativeBoard):
    """One whose loads wait for the verdict on their rights."""

    window = 0
