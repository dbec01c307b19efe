"""Setting the clock: clock_settime(2), settimeofday(2), adjtimex(2).

CLOCK_REALTIME is the guest's own: it runs as the host's does, from wherever the guest has set it, and CLOCK_TAI with it. Nobody
sets the host's. What waits for a point of time on these clocks follows; what waits for a time to pass does not notice.
"""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import time as t
from trapline.abi.capability import CAP_SYS_TIME
from trapline.abi.errno import EINVAL, ENOTSUP, EPERM
from trapline.abi.time import NSEC, TIMESPEC
from trapline.kernel.syscalls.declare import Arg, UserPtr, syscall
from trapline.kernel.syscalls.time import ClockId, TimespecIn, TimevalIn, clock
from trapline.kernel.syscalls.timearg import timespec_ns, timeval_ns

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task

TimezoneIn = Annotated[int, Arg(64)]
LATEST_S = t.TIME_MAX_NS // NSEC - 30 * 365 * 24 * 3600  #: so that no clock overflows within 30 years of uptime
WEST_MAX = 15 * 60  #: minutes


def set_realtime(kernel: Kernel, ns: int) -> None:
    """Let CLOCK_REALTIME show `ns`. Raises EINVAL if the computer would have been started before the Epoch."""
    clocks = kernel.clock
    if ns < clocks.monotonic_ns():
        raise EINVAL("the time would be less than the time since boot")
    stepped_ns = ns - clocks.realtime_ns()
    clocks.step(stepped_ns)
    kernel.timers.clock_stepped(stepped_ns)
    kernel.vfs.use_clock(clocks.realtime_ns)
    if kernel.vdso is not None:
        kernel.vdso.clock_was_set()
    from trapline.kernel.ipc.timerfd import clock_was_set  # few set a clock

    clock_was_set(kernel)


def _settable(task: Task, seconds: int) -> None:
    if seconds >= LATEST_S:
        raise EINVAL("too far in the future")
    _permitted(task)


def _permitted(task: Task) -> None:
    if not task.creds.has_cap(CAP_SYS_TIME):
        raise EPERM("CAP_SYS_TIME")


@syscall("clock_settime")
def sys_clock_settime(task: Task, clockid: ClockId, tp: TimespecIn) -> int:
    """clock_settime(2): set a clock. Only CLOCK_REALTIME can be."""
    if clockid < 0:
        clock(task, clockid)
        raise EPERM("CPU clocks cannot be set")
    if clockid != t.CLOCK_REALTIME:
        raise EINVAL("this clock cannot be set")
    seconds, nanoseconds = TIMESPEC.unpack(task.mm.read(tp, TIMESPEC.size))
    ns = timespec_ns(seconds, nanoseconds)
    _settable(task, seconds)
    set_realtime(task.kernel, ns)
    return 0


@syscall("settimeofday")
def sys_settimeofday(task: Task, tv: TimevalIn, tz: TimezoneIn) -> int:
    """settimeofday(2): set the time of day, and the time zone.

    The kernel keeps the zone for gettimeofday(2), and moves the clock by the first that comes alone: it says that the clock was
    started with local time.
    """
    ns = west = dst = 0
    if tv:
        seconds, microseconds = t.TIMEVAL.unpack(task.mm.read(tv, t.TIMEVAL.size))
        ns = timeval_ns(seconds, microseconds)
    if tz:
        west, dst = t.TIMEZONE.unpack(task.mm.read(tz, t.TIMEZONE.size))
    if tv:
        _settable(task, seconds)
    else:
        _permitted(task)
    if abs(west) > WEST_MAX:
        raise EINVAL("tz_minuteswest")
    if tv:
        set_realtime(task.kernel, ns)
    if tz:
        _set_timezone(task.kernel, west, dst, warp=not tv)
    return 0


def _set_timezone(kernel: Kernel, west: int, dst: int, *, warp: bool) -> None:
    clocks = kernel.clock
    first = clocks.timezone is None
    clocks.timezone = west, dst
    if kernel.vdso is not None:
        kernel.vdso.set_timezone(west, dst)
    if first and warp and west:
        with suppress(EINVAL):
            set_realtime(kernel, clocks.realtime_ns() + west * 60 * NSEC)


# ---- adjusting


@syscall("adjtimex")
def sys_adjtimex(task: Task, buf: UserPtr) -> int:
    """adjtimex(2): the state of the clock's discipline.

    Partial: ADJ_SETOFFSET moves the clock; it runs as the host's does, so any other adjustment is EPERM, as without
    CAP_SYS_TIME, and it reads as unsynchronised.
    """
    return _adjtimex(task, buf)


@syscall("clock_adjtime")
def sys_clock_adjtime(task: Task, clockid: ClockId, buf: UserPtr) -> int:
    """clock_adjtime(2): adjtimex(2) for a given clock.

    Partial: as adjtimex(2).
    """
    if clockid != t.CLOCK_REALTIME:
        clock(task, clockid)
        raise ENOTSUP("this clock cannot be adjusted")
    return _adjtimex(task, buf)


def _adjtimex(task: Task, buf: int) -> int:
    fields = list(t.TIMEX.unpack(task.mm.read(buf, t.TIMEX.size)))
    modes: int = fields[0]
    if modes & t.ADJ_ADJTIME and not modes & t.ADJ_OFFSET:
        raise EINVAL("modes")
    if modes and modes != t.ADJ_OFFSET_SS_READ:
        _adjust(task, modes, *fields[9:11])
    ids = task.kernel.clock.by_id()
    now = ids[t.CLOCK_REALTIME]()
    tai = (ids[t.CLOCK_TAI]() - now + NSEC // 2) // NSEC
    task.mm.write(buf, t.TIMEX.pack(
        modes, 0, 0, 16_000_000, 16_000_000, t.STA_UNSYNC, 2, 1, 32_768_000,
        now // NSEC, now % NSEC // 1000, 10_000, 0, 0, 0, 0, 0, 0, 0, 0, tai,
    ))  # fmt: skip
    return t.TIME_ERROR


def _adjust(task: Task, modes: int, seconds: int, fraction: int) -> None:
    """Move the clock by a time that may be negative: then its seconds are, rounded down."""
    _permitted(task)
    if modes & ~(t.ADJ_NANO | t.ADJ_MICRO) != t.ADJ_SETOFFSET:
        raise EPERM("the clock's rate is the host's")
    unit = 1 if modes & t.ADJ_NANO else t.USEC_NS
    if not 0 <= fraction < NSEC // unit:
        raise EINVAL("time.tv_usec")
    wanted_ns = task.kernel.clock.realtime_ns() + seconds * NSEC + fraction * unit
    if wanted_ns // NSEC >= LATEST_S:
        raise EINVAL("too far in the future")
    set_realtime(task.kernel, wanted_ns)
