"""POSIX timers, timer_create(2): any number per process, on any clock, with a signal that counts overruns.

A timer has at most one signal queued. An interval timer is set again when that signal is taken, and the intervals that
passed meanwhile are the overrun. `group.posix_timers` is None until one is made.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EAGAIN
from trapline.abi.signal import SI_TIMER, SIGEV_NONE, SIGEV_THREAD_ID
from trapline.abi.time import CLOCK_REALTIME, CLOCK_TAI
from trapline.kernel.task.alarms import TICK_NS, Alarm
from trapline.kernel.task.signals.send import SigInfo, send_to_group, send_to_task

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

OVERRUN_MAX = (1 << 31) - 1  #: DELAYTIMER_MAX
TIMERS_MAX = 65_536  #: per process, beside RLIMIT_SIGPENDING


class PosixTimer:
    """One timer. `notify` is SIGEV_SIGNAL, SIGEV_NONE or SIGEV_THREAD_ID (then `thread` gets the signal)."""

    __slots__ = (
        "_generation", "_queued", "_read", "alarm", "clock_id", "expiry_ns", "group", "id", "interval_ns", "notify", "overrun",
        "signo", "thread", "value",
    )  # fmt: skip

    def __init__(
        self,
        group: ThreadGroup,
        timer_id: int,
        clock_id: int,
        read: Callable[[], int],
        measured: ThreadGroup | None,
        event: tuple[int, int, int],
        thread: Task | None,
    ) -> None:
        self.group = group
        self.id = timer_id
        self.clock_id = clock_id
        self.notify, self.signo, self.value = event
        self.thread = thread
        self.interval_ns = 0
        self.expiry_ns = 0  #: on the timer's clock; the last one set
        self.overrun = 0  #: of the last signal that was taken
        self._queued = False
        self._generation = 0
        self._read = read
        self.alarm = Alarm(group.kernel, read, self._due, measured)

    def get(self) -> tuple[int, int]:
        """(interval, time left) in nanoseconds; 0 left: not set."""
        left = self.alarm.left_ns()
        if not left and self.interval_ns and self.expiry_ns and (self._queued or self.notify == SIGEV_NONE):
            missed = (self.alarm.read() - self.expiry_ns) // self.interval_ns + 1
            left = max(1, self.expiry_ns + missed * self.interval_ns - self.alarm.read())
        return self.interval_ns, left

    def set(self, interval_ns: int, value_ns: int, absolute: bool) -> None:
        """Arm, or disarm when `value_ns` is 0. A signal of the old setting does not re-arm the timer.

        A timer that was given a point of CLOCK_REALTIME follows when that clock is set; one that was given a time does not.
        """
        self._generation += 1
        self._queued = False
        self.overrun = 0
        self.alarm.cancel()
        self.interval_ns = interval_ns if value_ns else 0
        self.expiry_ns = 0
        elapses = self.clock_id == CLOCK_REALTIME and not absolute
        self.alarm.read = self.group.kernel.clock.monotonic_ns if elapses else self._read
        self.alarm.wall = self.clock_id in (CLOCK_REALTIME, CLOCK_TAI) and not elapses
        if value_ns:
            self.expiry_ns = value_ns if absolute else self.alarm.read() + value_ns
            self.alarm.set(self.expiry_ns)

    def delete(self) -> None:
        self._generation += 1
        self.alarm.cancel()

    def _due(self) -> None:
        if self.notify == SIGEV_NONE or self.group.zombie or self.group.exiting:
            return
        info = SigInfo(
            self.signo, SI_TIMER, tid=self.id, value=self.value, source=Queued(self, self._generation)
        )
        try:
            self._queued = self._send(info)
        except EAGAIN:
            self._queued = False
        if not self._queued and self.interval_ns:  # ignored: the timer goes on by itself, no faster than a tick
            self._forward(TICK_NS)

    def _send(self, info: SigInfo) -> bool:
        """Queue the signal; False when it was not queued: ignored, or a like one is pending from somebody else."""
        if self.notify & SIGEV_THREAD_ID and self.thread is not None:
            before = len(self.thread.pending)
            return send_to_task(self.thread, info) and len(self.thread.pending) > before
        before = len(self.group.pending)
        return send_to_group(self.group, info) and len(self.group.pending) > before

    def _forward(self, least_ns: int) -> int:
        """Set the alarm to the first expiry at least `least_ns` from now; how many intervals that passes over."""
        now = self.alarm.read()
        missed = max(0, now + least_ns - self.expiry_ns - 1) // self.interval_ns + 1
        self.expiry_ns += missed * self.interval_ns
        self.alarm.set(self.expiry_ns)
        return missed

    def signal_taken(self, info: SigInfo, generation: int) -> SigInfo:
        """Its signal was taken: re-arm, and say how many expiries the signal stands for beyond one."""
        if generation != self._generation:
            return info
        self._queued = False
        self.overrun = 0
        if self.interval_ns:
            self.overrun = min(self._forward(1) - 1, OVERRUN_MAX)
        return info._replace(overrun=self.overrun)


class Queued:
    """The source of a queued timer signal: which setting of which timer it belongs to."""

    __slots__ = ("_generation", "_timer")

    def __init__(self, timer: PosixTimer, generation: int) -> None:
        self._timer = timer
        self._generation = generation

    def taken(self, info: SigInfo) -> SigInfo:
        return self._timer.signal_taken(info, self._generation)


def new_id(group: ThreadGroup) -> int:
    """A free timer number. Raises EAGAIN when there are too many."""
    if group.posix_timers is None:
        group.posix_timers = {}
    timers: dict[int, PosixTimer] = group.posix_timers
    if len(timers) >= TIMERS_MAX:
        raise EAGAIN("too many timers")
    timer_id = len(timers)
    while timer_id in timers:
        timer_id += 1
    return timer_id


def release(group: ThreadGroup) -> None:
    """The process ends or executes a program: its timers are deleted."""
    for each in (group.posix_timers or {}).values():
        each.delete()
    group.posix_timers = None
