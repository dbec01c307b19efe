"""The clock of the kernel: what it knows of time, read from the host or, for tests and repeatable runs, made up.

All of the kernel's time comes from here. A clock has `monotonic_ns`, `realtime_ns`, `boottime_ns`, `raw_ns` and `tai_ns`,
which take no arguments and return nanoseconds. CLOCK_MONOTONIC is also what timers and machines count in.

The guest may set its CLOCK_REALTIME (`step`), and CLOCK_TAI moves with it; the host's clock is left alone. Whoever keeps a
clock keeps what `by_id` has, which follows; `realtime_ns` and `tai_ns` themselves are other functions after a step.

Invariants: `monotonic_ns`, `boottime_ns` and `raw_ns` never go back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from trapline.abi.time import (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE,
    CLOCK_TAI,
    TIME_MAX_NS,
)
from trapline.kernel.sync.timers import WallDeadline

SETTABLE = (CLOCK_REALTIME, CLOCK_TAI)  #: the clocks that `step` moves
_STABLE_SOURCES = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page")


class Clock:
    """The host's clocks. `virtual`: a clock's time has nothing to do with the host's counters."""

    virtual = False

    def __init__(self) -> None:
        self.monotonic_ns: Callable[[], int] = time.monotonic_ns
        self.realtime_ns: Callable[[], int] = time.time_ns
        self.boottime_ns: Callable[[], int] = partial(time.clock_gettime_ns, CLOCK_BOOTTIME)
        self.raw_ns: Callable[[], int] = partial(time.clock_gettime_ns, CLOCK_MONOTONIC_RAW)
        self.tai_ns: Callable[[], int] = partial(time.clock_gettime_ns, CLOCK_TAI)
        self._ids: dict[int, Callable[[], int]] | None = None
        #: what settimeofday(2) was last told: minutes west of Greenwich, and a kind of daylight saving time
        self.timezone: tuple[int, int] | None = None
        self.stepped_ns = 0  #: how far CLOCK_REALTIME was set from the host's

    def by_id(self) -> dict[int, Callable[[], int]]:
        """The clocks that are not about CPU time, by clock id."""
        if self._ids is None:
            self._ids = {
                CLOCK_REALTIME: self._show_realtime,
                CLOCK_MONOTONIC: self.monotonic_ns,
                CLOCK_MONOTONIC_RAW: self.raw_ns,
                CLOCK_REALTIME_COARSE: self._show_realtime,
                CLOCK_MONOTONIC_COARSE: self.monotonic_ns,
                CLOCK_BOOTTIME: self.boottime_ns,
                CLOCK_TAI: self._show_tai,
            }
        return self._ids

    def _show_realtime(self) -> int:
        return self.realtime_ns()

    def _show_tai(self) -> int:
        return self.tai_ns()

    def deadline_ns(self, clock_id: int, when_ns: int) -> int:
        """The point of CLOCK_MONOTONIC at which clock `clock_id` shows `when_ns`; timers move it when that clock is set."""
        if clock_id == CLOCK_MONOTONIC:
            return when_ns
        deadline_ns = min(self.monotonic_ns() + when_ns - self.by_id()[clock_id](), TIME_MAX_NS)
        return WallDeadline(deadline_ns) if clock_id in SETTABLE else deadline_ns

    def step(self, ns: int) -> None:
        """Set CLOCK_REALTIME forward (or, below zero, back)."""
        self.stepped_ns += ns
        self.realtime_ns = partial(_shifted, time.time_ns, self.stepped_ns)
        self.tai_ns = partial(_shifted, partial(time.clock_gettime_ns, CLOCK_TAI), self.stepped_ns)

    def counter_is_steady(self) -> bool:
        """The CPU's time-stamp counter runs at one rate on all CPUs, so that user code may read it."""
        if self.virtual:
            return False
        try:
            with open("/sys/devices/system/clocksource/clocksource0/current_clocksource") as source:
                if source.read().strip() not in _STABLE_SOURCES:
                    return False
            with open("/proc/cpuinfo") as info:
                flags = next((line for line in info if line.startswith("flags")), "").split()
        except OSError:
            return False
        return "constant_tsc" in flags and "nonstop_tsc" in flags


def _shifted(read: Callable[[], int], by_ns: int) -> int:
    return read() + by_ns


class VirtualClock(Clock):
    """Time that passes only when told to."""

    virtual = True

    def __init__(self, monotonic_ns: int = 1_000_000_000, realtime_ns: int = 1_700_000_000_000_000_000) -> None:
        super().__init__()
        self.now_ns = monotonic_ns
        self._real_offset_ns = realtime_ns - monotonic_ns
        self.monotonic_ns = self.boottime_ns = self.raw_ns = lambda: self.now_ns
        self.realtime_ns = self.tai_ns = lambda: self.now_ns + self._real_offset_ns

    def advance(self, ns: int) -> None:
        """Let `ns` nanoseconds pass."""
        if ns < 0:
            raise ValueError("time does not go back")
        self.now_ns += ns

    def step(self, ns: int) -> None:
        self.stepped_ns += ns
        self._real_offset_ns += ns
