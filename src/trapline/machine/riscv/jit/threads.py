"""Harts on threads of the host's: they run at the same time, by the host's clock.

In a nutshell: as `Harts` to devices and to whoever runs the board, but `run` lets each hart's thread go and then only watches:
deadlines of devices, a machine that ended, a pause that somebody wants. A hart's own timers are its own affair; in wfi its
thread sleeps. What is deterministic with turns is not: two runs differ.

Invariants:
- outside `run` no hart runs: each is between two instructions, with all its state in the CPU struct;
- devices, and all that is Python, are used only with the lock held, or outside `run`;
- `elapsed`, the machine's time, is the host's clock less a constant: it goes on while nothing runs.
"""

from __future__ import annotations

import sys
import threading
from functools import partial

from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus, Halt
from trapline.machine.riscv.devices.saved import State
from trapline.machine.riscv.doorbell import monotonic_ns
from trapline.machine.riscv.harts import HALTED, IDLE, PER_TICK, SPENT, STOPPED, WAITS, Harts
from trapline.machine.riscv.jit import state
from trapline.machine.riscv.jit.threaded import ThreadedHart, ThreadTiers
from trapline.machine.riscv.jit.turnlock import TurnLock

FAR = 1 << 40  #: instructions of a hart's run: until something happens
SWITCH_S = 0.0005  #: how long Python code may keep others from Python's lock
MASK64 = (1 << 64) - 1


class ThreadedHarts(Harts):
    """`count` harts on one bus, each with its own of `tiers`."""

    each: list[ThreadedHart]  # type: ignore[assignment]  # all are

    def __init__(self, bus: Bus, count: int, tiers: ThreadTiers) -> None:
        self.lock = TurnLock()
        self._origin = monotonic_ns()
        self._event = threading.Event()  # something that `run` must look at
        self._go = [threading.Semaphore(0) for _ in range(count)]
        self._threads: list[threading.Thread] = []
        self._active = 0  # threads that have not stopped
        self._ending = self._closing = False
        self._failure: BaseException | None = None
        self._until = 0  # ns: when `run` will look anyway
        super().__init__(bus, count, make=partial(tiers.make, crew=self))
        bus.fence = tiers.fence

    # ---- time

    @property
    def elapsed(self) -> int:
        """ns since the machine's time began."""
        return monotonic_ns() - self._origin

    @elapsed.setter
    def elapsed(self, ns: int) -> None:
        self._origin = monotonic_ns() - ns

    def now(self) -> int:
        return self.elapsed // PER_TICK

    def _now(self, n: int) -> int:
        return self.elapsed // PER_TICK

    def let_pass(self, units: int) -> None:
        """It has: devices look at the time."""
        for each in self.advance:
            each()

    def ahead(self) -> int:
        return max(0, super().ahead())  # time goes on while it is asked

    def load(self, state: State) -> None:
        """What was left of a turn is not gone on with."""
        super().load(state)
        self.abandon()

    # ---- running

    def run(self, budget: int, *, jump: bool = True) -> int:
        """Let `budget` ns pass, or less: HALTED, IDLE and, without `jump`, WAITS are as of `Harts.run`, and STOPPED says that
        a hart's debugger has stopped it. What a hart's thread raises is raised here."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(min(interval, SWITCH_S))
        try:
            self._start()
            try:
                ended = self._watch(monotonic_ns() + budget, jump=jump)
            finally:
                self._stop()
        finally:
            sys.setswitchinterval(interval)
            for each in self.flush:
                each()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return HALTED if self.halt is not None else STOPPED if self.wanted else ended

    def _start(self) -> None:
        for n in range(len(self._threads), len(self.each)):
            thread = threading.Thread(target=self._live, args=(n,), name=f"trapline-hart-{n}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._event.clear()
        self.wanted = False
        self._active = len(self.each)
        for hart, go in zip(self.each, self._go, strict=True):
            hart.cpu[state.CLOCK_ORIGIN_WORD] = self._origin & MASK64
            go.release()

    def _watch(self, end_ns: int, *, jump: bool) -> int:
        """Until then, or until something has happened."""
        while True:
            with self.lock:
                ahead = self._next_deadline()
                due = None if ahead is None else ahead + self._origin
                if not self._over() and self._idle():
                    if due is None:
                        return IDLE
                    if not jump:
                        return WAITS
                self._until = end_ns if due is None else min(end_ns, due)
            self._event.wait(max(0, self._until - monotonic_ns()) / 1e9)
            self._event.clear()
            with self.lock:
                if self._over():
                    self.pause = False
                    return SPENT
                self.let_pass(0)
                self.tell()
            if monotonic_ns() >= end_ns:
                return SPENT

    def _over(self) -> bool:
        return self._ending or self.pause or self.halt is not None or self._failure is not None or self._active < len(self.each)

    def _idle(self) -> bool:
        """Whether all wait for an interrupt, and have none."""
        return all(hart.waiting and not hart.interrupts() & hart.cpu[at.MIE] for hart in self.each)

    def _stop(self) -> None:
        """Let every thread stop, at an instruction's end."""
        with self.lock:
            self._end()
        while self._active:
            self._event.wait()
            self._event.clear()
        self._ending = False

    def _end(self) -> None:
        self._ending = True
        for hart in self.each:
            hart.attention = True
            hart.kick()

    def tell(self) -> None:
        for hart in self.each:
            hart.told()

    def hurry(self) -> None:
        """Let `run` look now."""
        self._event.set()

    def _next_deadline(self) -> int | None:
        """In ns: devices', which `run` must see to, and those of harts that sleep, so that somebody may wait for them."""
        now = self.elapsed
        ticks = [tick for source in self.deadlines if (tick := source()) is not None]
        times = [tick * PER_TICK for tick in ticks if tick < MASK64] + [hart.alarm_ns() for hart in self.each if hart.waiting]
        return min((each for each in times if each > now), default=None)

    # ---- on a hart's thread

    def _live(self, n: int) -> None:
        hart, go = self.each[n], self._go[n]
        while True:
            go.acquire()
            if self._closing:
                return
            self.lock.acquire()
            try:
                self._drive(hart)
            except Halt as halt:
                self.halt = self.halt or halt
            except BaseException as error:  # `run` raises it
                self._failure = self._failure or error
            self._active -= 1
            self.lock.release()
            self._event.set()

    def _drive(self, hart: ThreadedHart) -> None:
        while not self._ending:
            if hart.waiting:
                alarm_ns = hart.alarm_ns()  # asked before: one that has fired since then is an interrupt
                if not hart.interrupts() & hart.cpu[at.MIE]:
                    self._sleep(hart, alarm_ns)
                    continue
            hart.run(FAR)
            if hart.stopping:
                self.wanted = True
                self._end()
            elif hart.attention:
                self._look_again()
            self.lock.release()
            self.lock.acquire()

    def _sleep(self, hart: ThreadedHart, alarm_ns: int) -> None:
        """In wfi: until somebody rings, or the hart's own timer fires."""
        if self._idle():
            self._event.set()
        self.lock.release()
        hart.bell.acquire(timeout=max(0, alarm_ns - self.elapsed) / 1e9 if alarm_ns else -1)
        self.lock.acquire()

    def _look_again(self) -> None:
        """A deadline has moved: is it one that `run` must not miss?"""
        ahead = self._next_deadline()
        if ahead is not None and ahead + self._origin < self._until:
            self._event.set()

    def close(self) -> None:
        """End the threads. Idempotent; not while `run` runs."""
        self._closing = True
        for go in self._go:
            go.release()
        for each in self._threads:
            each.join()
        self._threads = []
