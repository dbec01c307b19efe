"""Several harts that share memory and time, deterministic to the instruction.

They take turns, a span of instructions each; an instruction takes one unit of virtual time, on every hart at once, so
after a round in which each has run n instructions the time is n units later. `time` and mtime count ticks of `PER_TICK`
units. A turn is cut into pieces that end at deadlines, and where the hart itself has moved one, so a timer's interrupt lands
on the same instruction in every run, whatever tier executes it.

Invariants:
- devices see the same time as the hart that asks them; between rounds, all have seen the same;
- when every hart waits in wfi, time jumps to the next deadline; without one, nothing but the outside can wake them (`IDLE`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus, Halt
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import WAITING, Hart

PER_TICK = 100  #: instructions per tick: 1 GHz harts and a 10 MHz clock
QUANTUM = 1000  #: instructions of a hart's turn
SPENT, IDLE, HALTED, WAITS = 0, 1, 2, 3  #: why `run` returned


class Harts:
    """`count` harts on one bus. `make` builds one, of any tier, from the arguments of `Hart`."""

    def __init__(self, bus: Bus, count: int = 1, *, make: Callable[..., Hart] = Hart, quantum: int = QUANTUM) -> None:
        if not 1 <= count <= 64 or quantum < 1:
            raise ValueError(f"{count} harts with turns of {quantum} instructions: 1 to 64 harts, of at least one")
        self.bus = bus
        self.quantum = quantum
        self._turn = -1  # number of the hart that is running
        self._spent = 0  # units of its turn before the present piece
        self._running = False  # in such a piece
        self.elapsed = 0  #: units of time at the start of this round
        self.halt: Halt | None = None
        self.pause = False  #: set it, from a device, to let `run` return at the end of the round
        #: of devices that do something by themselves: the tick of the next time they will, or None
        self.deadlines: list[Callable[[], int | None]] = []
        self.advance: list[Callable[[], None]] = []  #: called after each round: devices look at the time
        self.flush: list[Callable[[], None]] = []  #: called then too, and when `run` returns: devices let go what they gathered
        code = Code(bus)
        self.each = [make(bus, code, hartid=n, time=partial(self._now, n)) for n in range(count)]

    def now(self) -> int:
        """mtime, in ticks, between rounds or for the hart that is running."""
        return self._now(self._turn) if self._turn >= 0 else self.elapsed // PER_TICK

    def _now(self, n: int) -> int:
        spent = 0
        if n == self._turn:
            spent = self._spent + (self.each[n].consumed() if self._running else 0)
        return (self.elapsed + spent) // PER_TICK

    def run(self, budget: int, *, jump: bool = True) -> int:
        """Let `budget` units of time pass, not counting time in which all wait for a deadline: SPENT, or less if all wait for
        nothing (IDLE) or a device ended it (HALTED). Without `jump`, also if all wait for a deadline (WAITS)."""
        try:
            return self._run(budget, jump=jump)
        finally:
            for each in self.flush:
                each()

    def _run(self, budget: int, *, jump: bool) -> int:
        while budget > 0:
            span = min(budget, self._span())
            waiting = self._round(span)
            if self.halt is not None:
                return HALTED
            if waiting:
                ahead = self._next_deadline()
                if ahead is None:
                    return IDLE
                if not jump:
                    self.let_pass(min(span, ahead - self.elapsed))
                    return WAITS
                self.elapsed = max(self.elapsed, ahead - span)
            self.let_pass(span)
            for each in self.flush:
                each()
            budget -= span
            if self.pause:
                self.pause = False
                break
        return SPENT

    def let_pass(self, units: int) -> None:
        """Time passes, in which no hart runs."""
        self.elapsed += units
        for each in self.advance:
            each()

    def ahead(self) -> int:
        """Units of time until the next deadline; 0 if there is none."""
        deadline = self._next_deadline()
        return 0 if deadline is None else deadline - self.elapsed

    def _round(self, span: int) -> bool:
        """Everybody's turn; whether all of them wait."""
        waiting = True
        for n, hart in enumerate(self.each):
            self._turn = n
            try:
                waiting &= self._take_turn(hart, span)
            except Halt as halt:
                self.halt = halt
            self._turn = -1
            if self.halt is not None:
                return False
        return waiting

    def _take_turn(self, hart: Hart, span: int) -> bool:
        """A hart's turn, in pieces that end where it has moved a deadline, and at deadlines; whether it waits at the end."""
        self._spent = 0
        waiting = False
        while self._spent < span:
            ahead = self._next_deadline()
            left = span - self._spent
            piece = left if ahead is None else min(left, ahead - self.elapsed - self._spent)
            self._running = True
            origin = self.elapsed + self._spent + piece
            hart.cpu[at.TIME_ORIGIN] = origin if origin <= st.MASK else 0  # a guest may have slept for ages
            try:
                waiting = hart.run(piece) == WAITING
            finally:
                self._running = False
                hart.cpu[at.TIME_ORIGIN] = 0
            self._spent += piece if waiting else hart.consumed()
            if self._spent < span:
                for each in self.advance:
                    each()
        return waiting

    def _span(self) -> int:
        ahead = self._next_deadline()
        return self.quantum if ahead is None else min(self.quantum, ahead - self.elapsed)

    def _next_deadline(self) -> int | None:
        """The first time after now, in units, at which a device or a timer of S- or VS-mode will act."""
        now = self.elapsed + (self._spent if self._turn >= 0 else 0)
        ticks = [tick for source in self.deadlines if (tick := source()) is not None]
        ticks += [hart.cpu[at.STIMECMP] for hart in self.each if hart.cpu[at.MENVCFG] & st.STCE]
        ticks += [
            hart.cpu[at.VSTIMECMP] - hart.cpu[at.HTIMEDELTA] & st.MASK
            for hart in self.each
            if hart.cpu[at.HENVCFG] & hart.cpu[at.MENVCFG] & st.STCE and hart.cpu[at.VSTIMECMP] != st.MASK
        ]
        return min((tick * PER_TICK for tick in ticks if tick * PER_TICK > now and tick != st.MASK), default=None)
