"""Several harts that share memory and time, deterministic to the instruction.

They take turns, a span of instructions each; an instruction takes one unit of virtual time, on every hart at once, so
after a round in which each has run n instructions the time is n units later. `time` and mtime count ticks of `PER_TICK`
units. A turn is cut into pieces that end at deadlines, and where the hart itself has moved one, so a timer's interrupt lands
on the same instruction in every run, whatever tier executes it.

Invariants:
- devices see the same time as the hart that asks them; between rounds, all have seen the same;
- when every hart waits in wfi, time jumps to the next deadline; without one, nothing but the outside can wake them (`IDLE`);
- a run that was stopped (`STOPPED`: at `target`, at `alarm`, after a step, or where a hart's debugger wanted it) goes on, by
  the next call of `run`, as if it had not been: the round, the turn and the piece that were cut are finished first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus, Halt
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.devices.saved import (
    BadState,
    Kind,
    State,
    entry,
    flag,
    pack,
    unpack,
    whole,
    wholes,
)
from trapline.machine.riscv.hart import WAITING, Hart

PER_TICK = 100  #: instructions per tick: 1 GHz harts and a 10 MHz clock
QUANTUM = 1000  #: instructions of a hart's turn
MOST_LEFT = 1 << 24  #: units of a run that a checkpoint may have left
SPENT, IDLE, HALTED, WAITS, STOPPED = 0, 1, 2, 3, 4  #: why `run` returned
#: When: the number of the round, whose turn it is (-1: nobody's yet), units of that turn that have passed. Later is greater.
Position = tuple[int, int, int]


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
        # of a run, round, turn and piece that were stopped:
        self.rounds = 0  # that have begun
        self.wanted = False  #: it was stopped after a step or by a debugger, not at `target`
        #: of each hart: where it last executed something (round, units of its turn before), and how many instructions
        self.executed: list[tuple[int, int, int]] = [(0, 0, 0)] * count
        self._left = 0  # units that the run has left; 0: no run
        self._jump = True
        self._span = 0  # units of the round; 0: no round
        self._next = 0  # number of the hart whose turn it is, or is next
        self._piece = 0  # units that the piece has left; 0: no piece
        self._asleep = False  # the hart waited at the end of its last piece
        self._waiting = True  # all that have had their turn wait
        self.target: Position | None = None  #: stop there
        self.alarm: int | None = None  #: stop after so many units of time
        self.stepping = -1  #: stop when this hart has executed one instruction
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

    def position(self) -> Position:
        return (self.rounds, self._turn, self._spent) if self._span else (self.rounds + 1, -1, 0)

    @property
    def turn(self) -> int:
        """Number of the hart that was stopped in its turn; -1: none was."""
        return self._turn

    @property
    def midway(self) -> bool:
        """Whether a run was stopped, and is to be gone on with."""
        return self._left > 0

    def run(self, budget: int, *, jump: bool = True) -> int:
        """Let `budget` units of time pass, not counting time in which all wait for a deadline: SPENT, or less if all wait for
        nothing (IDLE) or a device ended it (HALTED). Without `jump`, also if all wait for a deadline (WAITS). After STOPPED, go
        on with what is left of that run, whatever `budget` says."""
        if not self._left:
            self._left, self._jump = budget, jump
        try:
            ended = self._run()
        finally:
            for each in self.flush:
                each()
        if ended != STOPPED:
            self._left = 0
        return ended

    def _run(self) -> int:
        while self._left > 0:
            if not self._span and self._begin_round():
                return STOPPED
            if self._round():
                return STOPPED
            span, self._span = self._span, 0
            if self.halt is not None:
                return HALTED
            if self._waiting:
                ahead = self._next_deadline()
                if ahead is None:
                    return IDLE
                if not self._jump:
                    self.let_pass(min(span, ahead - self.elapsed))
                    return WAITS
                self.elapsed = max(self.elapsed, ahead - span)
            self.let_pass(span)
            for each in self.flush:
                each()
            self._left -= span
            if self.pause:
                self.pause = False
                break
        return SPENT

    def _begin_round(self) -> bool:
        """Whether to stop before it."""
        if self.target is not None and self.position() >= self.target:
            self.wanted = False
            return True
        self.rounds += 1
        self._span = min(self._left, self._limit())
        self._next, self._waiting = 0, True
        if self.alarm is not None and self.alarm <= self.elapsed + self._span:
            self.target, self.alarm = (self.rounds, 0, max(0, self.alarm - self.elapsed)), None
        return False

    def let_pass(self, units: int) -> None:
        """Time passes, in which no hart runs."""
        self.elapsed += units
        for each in self.advance:
            each()

    def ahead(self) -> int:
        """Units of time until the next deadline; 0 if there is none."""
        deadline = self._next_deadline()
        return 0 if deadline is None else deadline - self.elapsed

    def _round(self) -> bool:
        """Everybody's turn. Whether it was stopped; `_waiting`: whether all of them wait."""
        while self._next < len(self.each):
            self._turn = self._next
            try:
                stopped = self._take_turn(self.each[self._turn])
            except Halt as halt:
                self.halt = halt
                stopped = False
            if stopped:
                return True
            self._turn, self._spent, self._piece = -1, 0, 0
            if self.halt is not None:
                return False
            self._waiting &= self._asleep
            self._next += 1
        return False

    def _take_turn(self, hart: Hart) -> bool:
        """A hart's turn, in pieces that end where it has moved a deadline, and at deadlines. Whether it was stopped; `_asleep`:
        whether the hart waits at its end."""
        span = self._span
        while self._spent < span:
            whole = self._piece or self._next_piece(span)
            part = self._part(hart, whole)
            if not part:
                self._piece, self.wanted = whole, False
                return True
            self._running = True
            origin = self.elapsed + self._spent + part
            hart.cpu[at.TIME_ORIGIN] = origin if origin <= st.MASK else 0  # a guest may have slept for ages
            try:
                self._asleep = hart.run(part) == WAITING
            finally:
                self._running = False
                hart.cpu[at.TIME_ORIGIN] = 0
            executed = hart.consumed()
            if executed:
                self.executed[self._turn] = self.rounds, self._spent, executed
            passed = part if self._asleep and not hart.stopping else executed
            self._spent += passed
            self._piece = 0 if hart.attention else whole - passed
            if self._piece:
                hart.cpu[at.RESERVED] = hart.held
            elif self._spent < span:
                for each in self.advance:
                    each()
            if hart.stopping or (executed and self.stepping == self._turn):
                self.wanted = True
                return True
        self.wanted = False
        return self.target is not None and self.target[:2] == (self.rounds, self._turn) and self.target[2] <= self._spent

    def _next_piece(self, span: int) -> int:
        ahead = self._next_deadline()
        left = span - self._spent
        return left if ahead is None else min(left, ahead - self.elapsed - self._spent)

    def _part(self, hart: Hart, whole: int) -> int:
        """How much of a piece may run before it must stop."""
        part = whole
        if self.stepping == self._turn and not (hart.waiting and not hart.interrupts() & hart.cpu[at.MIE]):
            part = 1
        if self.target is not None and self.target[:2] <= (self.rounds, self._turn):
            beyond = self.target[:2] < (self.rounds, self._turn)
            part = 0 if beyond else min(part, max(0, self.target[2] - self._spent))
        return part

    def hurry(self) -> None:
        """Something outside has changed that `run` should look at soon."""

    def close(self) -> None:
        """Nothing runs any more. Idempotent."""

    def reconsider(self) -> None:
        """Somebody has changed a hart: what is due when is worked out anew."""
        self._piece = 0

    def state(self) -> State:
        """Of time and turns, not of the harts."""
        return {**pack(self, self._saved()), "executed": [list(each) for each in self.executed]}

    def load(self, state: State) -> None:
        executed = entry(state, "executed")
        if type(executed) is not list or len(executed) != len(self.each):
            raise BadState("executed: not a list of what each hart has")
        found = [wholes(3).read(each) for each in executed]
        unpack(self, self._saved(), state)
        self.executed = [(each[0], each[1], each[2]) for each in found]
        self.halt = self.target = self.alarm = None
        self.stepping = -1

    def _saved(self) -> dict[str, Kind]:
        count = len(self.each)
        units = whole(MOST_LEFT)
        return {
            "elapsed": whole(1 << 80), "rounds": whole(),
            "_turn": whole(count - 1, -1), "_spent": units, "_left": units, "_jump": flag,
            "_span": units, "_next": whole(count), "_piece": units, "_asleep": flag, "_waiting": flag, "pause": flag,
        }  # fmt: skip

    def abandon(self) -> None:
        """What was stopped is not gone on with: the board is reset."""
        self._left = self._span = self._next = self._piece = self._spent = 0
        self._turn = -1

    def _limit(self) -> int:
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
