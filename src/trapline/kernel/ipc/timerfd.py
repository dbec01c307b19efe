"""timerfd_create(2): timers whose expirations are read like data.

As in Linux an interval timer that has expired is not armed again before somebody looks (read or timerfd_gettime): the
missed expirations are computed then, so a timer nobody reads costs nothing.

Invariants: `next_ns` is the next expiration on the timer's own clock, 0 when disarmed; the kernel timer `_timer` is armed
exactly while `next_ns` is set and has not passed.
"""

from __future__ import annotations

from trapline.typed import Any
from weakref import WeakSet

from trapline.abi.errno import ECANCELED, EINVAL, ENOTTY, EPERM
from trapline.abi.event import TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET
from trapline.abi.ioctl import TFD_IOC_SET_TICKS
from trapline.abi.poll import POLL_IN
from trapline.abi.time import (
    CLOCK_BOOTTIME,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    CLOCK_REALTIME_ALARM,
    TIME_MAX_NS,
)
from trapline.kernel.ipc.anon import AnonFile
from trapline.kernel.sync.park import WaitQueue
from trapline.kernel.sync.timers import Timer

CLOCKS = (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)
CAP_WAKE_ALARM = 35

_wall: WeakSet[TimerFd] = WeakSet()  #: timers that setting the real-time clock concerns


class TimerFd(AnonFile):
    """One timer on clock `clockid`; `ticks` expirations have not been read."""

    __slots__ = ("__weakref__", "_cancelled", "_timer", "clockid", "flags_set", "interval_ns", "next_ns", "queue", "ticks")

    kind = b"[timerfd]"

    def __init__(self, kernel: Any, flags: int, clockid: int) -> None:
        super().__init__(kernel, flags)
        self.clockid = clockid
        self.next_ns = 0
        self.interval_ns = 0
        self.ticks = 0
        self.flags_set = 0
        self.queue = WaitQueue()
        self._timer: Timer | None = None
        self._cancelled = False

    def _now(self) -> int:
        clock = self.kernel.clock
        elapses = self.clockid == CLOCK_REALTIME and not self.flags_set & TFD_TIMER_ABSTIME  # whatever that clock is set to
        if self.clockid == CLOCK_MONOTONIC or elapses:
            return int(clock.monotonic_ns())
        if self.clockid in (CLOCK_REALTIME, CLOCK_REALTIME_ALARM):
            return int(clock.realtime_ns())
        return int(clock.boottime_ns())

    def set(self, value_ns: int, interval_ns: int, flags: int) -> tuple[int, int]:
        """Arm (or, with 0, disarm) the timer; the (value, interval) it had before."""
        old = self.remaining()
        self._disarm()
        self.ticks = 0
        self.flags_set = flags
        self.interval_ns = interval_ns
        wall = self.clockid in (CLOCK_REALTIME, CLOCK_REALTIME_ALARM) and bool(flags & TFD_TIMER_ABSTIME)
        if wall:
            _wall.add(self)
        else:
            _wall.discard(self)
        if value_ns:
            self.next_ns = value_ns if flags & TFD_TIMER_ABSTIME else min(self._now() + value_ns, TIME_MAX_NS)
            self._arm()
        return old

    def take_cancelled(self, flags: int) -> bool:
        """The clock jumped since the timer was armed, and the caller asks again to hear of that (timerfd_create(2))."""
        cancelled = self._cancelled and bool(flags & TFD_TIMER_CANCEL_ON_SET)
        self._cancelled = False
        return cancelled

    def remaining(self) -> tuple[int, int]:
        """(time to the next expiration, interval); the first is 0 when the timer is disarmed."""
        self._catch_up()
        if not self.next_ns:
            return 0, self.interval_ns
        return max(1, self.next_ns - self._now()), self.interval_ns

    def _arm(self) -> None:
        ahead = self.next_ns - self._now()
        self._timer = self.kernel.timers.add(self.kernel.clock.monotonic_ns() + max(0, ahead), self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.next_ns = 0

    def _expired(self) -> None:
        self._timer = None
        if not self.interval_ns:
            self.next_ns = 0
        self.ticks += 1
        self.queue.wake_all(POLL_IN)

    def _catch_up(self) -> None:
        """An interval timer expired a while ago: count what was missed and arm it for the next time."""
        if self._timer is not None or not self.next_ns:
            return
        missed = max(0, self._now() - self.next_ns) // self.interval_ns
        self.ticks += missed
        self.next_ns = min(self.next_ns + (missed + 1) * self.interval_ns, TIME_MAX_NS)
        self._arm()

    def clock_was_set(self) -> None:
        """The real-time clock jumped."""
        if self.flags_set & TFD_TIMER_CANCEL_ON_SET:
            self._cancelled = True
            self.queue.wake_all(POLL_IN)
        if self._timer is not None:
            self._timer.cancel()
            self._arm()

    def try_read(self, count: int) -> bytes | None:
        if count < 8:
            raise EINVAL
        if self._cancelled:
            self._cancelled = False
            raise ECANCELED
        if not self.ticks:
            return None
        self._catch_up()
        ticks, self.ticks = self.ticks, 0
        return (ticks & (1 << 64) - 1).to_bytes(8, "little")

    def poll(self) -> int:
        return POLL_IN if self.ticks or self._cancelled else 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.queue,)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        if cmd != TFD_IOC_SET_TICKS:
            raise ENOTTY
        ticks = task.mm.read_u64(arg)
        if not ticks:
            raise EINVAL
        if self._cancelled:
            raise ECANCELED
        self.ticks = ticks
        self.queue.wake_all(POLL_IN)
        return 0

    def release(self) -> None:
        self._disarm()
        _wall.discard(self)


def check_clock(clockid: int, creds: Any) -> None:
    """Raise EINVAL for a clock that timerfd does not know, EPERM for an alarm clock without CAP_WAKE_ALARM."""
    if clockid not in CLOCKS:
        raise EINVAL
    if clockid in (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM) and not creds.has_cap(CAP_WAKE_ALARM):
        raise EPERM


def clock_was_set(kernel: Any) -> None:
    """The real-time clock of `kernel` was set: absolute timers on it move, or are cancelled."""
    for timer in list(_wall):
        if timer.kernel is kernel:
            timer.clock_was_set()
