"""Alarm: one point in time at which a callback runs, on a clock of the wall or of CPU time.

A clock of CPU time has no timer of its own: the alarm looks at it when it could be reached at the earliest, all
threads running, and again until it is. Looking is no finer than TICK_NS, as with Linux's own CPU timers, and gets rarer
while the process does not run. An alarm that is not set costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.abi.time import CLOCK_MONOTONIC, TIME_MAX_NS
from trapline.kernel.sync.timers import WallDeadline

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.sync.timers import Timer
    from trapline.kernel.task.task import ThreadGroup

TICK_NS = 1_000_000
RAREST_LOOK_NS = 16_000_000


class Alarm:
    """`read` is the clock in nanoseconds; `due` is called once when it reaches `when_ns`."""

    __slots__ = ("_due", "_last_ns", "_pause_ns", "_timer", "group", "kernel", "read", "wall", "when_ns")

    def __init__(
        self, kernel: Kernel, read: Callable[[], int], due: Callable[[], None], group: ThreadGroup | None = None
    ) -> None:
        self.kernel = kernel
        self.read = read
        self.group = group  #: whose CPU time `read` is; None for clocks of the wall
        self.when_ns = 0  #: 0: not set
        self.wall = False  #: `read` is a clock that can be set; the alarm goes by what it shows then
        self._due = due
        self._timer: Timer | None = None
        self._last_ns = 0
        self._pause_ns = TICK_NS

    def set(self, when_ns: int) -> None:
        """Go off when the clock shows `when_ns` (at once if it has passed); instead of what was set before."""
        self.cancel()
        self.when_ns = max(1, min(when_ns, TIME_MAX_NS))
        self._last_ns = self.read()
        self._pause_ns = TICK_NS
        self._wait(self._last_ns)

    def cancel(self) -> None:
        self.when_ns = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def left_ns(self) -> int:
        """How long until it goes off, on its own clock: 0 if it is not set, at least 1 if it is."""
        return max(1, self.when_ns - self.read()) if self.when_ns else 0

    def _wait(self, now_ns: int) -> None:
        left = max(0, self.when_ns - now_ns)
        if self.group is not None:
            left = max(self._pause_ns, left // max(1, min(len(self.group.tasks), self.kernel.machine.cpus)))
        deadline = min(self.kernel.clock.monotonic_ns() + left, TIME_MAX_NS)
        self._timer = self.kernel.timers.add(WallDeadline(deadline) if self.wall else deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        group = self.group
        if group is not None and group.zombie:
            return
        now_ns = self.read()
        if now_ns >= self.when_ns:
            self.when_ns = 0
            self._due()
            return
        self._pause_ns = TICK_NS if now_ns != self._last_ns else min(2 * self._pause_ns, RAREST_LOOK_NS)
        self._last_ns = now_ns
        self._wait(now_ns)


def wall_alarm(kernel: Kernel, clock_id: int, due: Callable[[], None]) -> Alarm:
    """An alarm on a clock that runs whether or not anybody does."""
    return Alarm(kernel, kernel.clock.by_id()[clock_id], due)


def monotonic_alarm(kernel: Kernel, due: Callable[[], None]) -> Alarm:
    return wall_alarm(kernel, CLOCK_MONOTONIC, due)
