"""Interval timers, setitimer(2) and alarm(2): one per process for real, user and CPU time.

`group.itimers` is None until one is used. An interval timer of real time is set again when its SIGALRM is taken, not
when it goes off, so that a short interval cannot drown the kernel: signals that nobody takes do not repeat.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EAGAIN
from trapline.abi.signal import SI_KERNEL, SIGALRM, SIGPROF, SIGVTALRM
from trapline.abi.time import ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL
from trapline.kernel.task.alarms import TICK_NS, Alarm, monotonic_alarm
from trapline.kernel.task.cputime import group_ns, group_user_ns
from trapline.kernel.task.signals.send import SigInfo, send_to_group

if TYPE_CHECKING:
    from trapline.kernel.task.task import ThreadGroup

_SIGNALS = {ITIMER_REAL: SIGALRM, ITIMER_VIRTUAL: SIGVTALRM, ITIMER_PROF: SIGPROF}


class Itimer:
    """One interval timer of one process."""

    __slots__ = ("_epoch", "alarm", "group", "interval_ns", "which")

    def __init__(self, group: ThreadGroup, which: int) -> None:
        self.group = group
        self.which = which
        self.interval_ns = 0
        self._epoch = 0  #: when the running interval began; the next one ends a whole number of intervals later
        kernel = group.kernel
        if which == ITIMER_REAL:
            self.alarm = monotonic_alarm(kernel, self._due)
        elif which == ITIMER_VIRTUAL:
            self.alarm = Alarm(kernel, lambda: group_user_ns(group), self._due, group)
        else:
            self.alarm = Alarm(kernel, lambda: group_ns(group), self._due, group)

    def get(self) -> tuple[int, int]:
        """(interval, time left), both in nanoseconds; 0 left: not set."""
        left = self.alarm.left_ns()
        return self.interval_ns, left

    def set(self, interval_ns: int, value_ns: int) -> None:
        self.interval_ns = interval_ns if value_ns or self.which != ITIMER_REAL else 0  # as Linux: the others keep theirs
        self.alarm.cancel()
        if value_ns:
            self._epoch = self.alarm.read() + value_ns
            self.alarm.set(self._epoch)

    def _due(self) -> None:
        if self.group.zombie or self.group.exiting:
            return
        source = self if self.which == ITIMER_REAL else None
        info = SigInfo(_SIGNALS[self.which], SI_KERNEL, source=source)
        pending = self.group.pending.mask >> (info.signo - 1) & 1
        try:
            queued = send_to_group(self.group, info) and not pending
        except EAGAIN:
            queued = False
        if self.interval_ns and (source is None or not queued):
            self._again(TICK_NS)

    def taken(self, info: SigInfo) -> SigInfo:
        """The SIGALRM was taken from its queue: begin the next interval."""
        if self.interval_ns and not self.alarm.when_ns:
            self._again(1)
        return info

    def _again(self, least_ns: int) -> None:
        """Set the alarm to the next end of an interval that is at least `least_ns` away."""
        now, interval = self.alarm.read(), self.interval_ns
        missed = max(0, now + least_ns - self._epoch - 1) // interval + 1
        self._epoch += missed * interval
        self.alarm.set(self._epoch)


def itimer(group: ThreadGroup, which: int) -> Itimer:
    """Interval timer `which` of a process, made when first used."""
    if group.itimers is None:
        group.itimers = {}
    timers: dict[int, Itimer] = group.itimers
    if which not in timers:
        timers[which] = Itimer(group, which)
    return timers[which]


def release(group: ThreadGroup) -> None:
    """The process ends: its interval timers stop."""
    for each in (group.itimers or {}).values():
        each.alarm.cancel()
    group.itimers = None
