"""Reading clocks and sleeping: clock_gettime(2), clock_nanosleep(2), gettimeofday(2), times(2). Setting is `settime`."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import time as t
from trapline.abi.errno import EINVAL, ENOTSUP
from trapline.abi.time import NSEC, TIMER_ABSTIME, TIMESPEC
from trapline.kernel.sync.park import RESTART_BLOCK, RESTART_NOHAND, Interrupted, WaitQueue, sleep_until
from trapline.kernel.syscalls.declare import Arg, Result, UserPtr, syscall
from trapline.kernel.syscalls.timearg import (
    after,
    pack_timeval,
    read_timespec,
    write_timespec,
)
from trapline.kernel.task.alarms import Alarm
from trapline.kernel.task.cputime import cpu_clock, group_ns, group_user_ns

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

ClockId = Annotated[int, Arg(-32, "clock")]
SleepFlags = Annotated[int, Arg(-32, "flags:timer_flags")]
TimespecIn = Annotated[int, Arg(64, "struct:timespec")]
TimespecOut = Annotated[int, Arg(64, "struct_out:timespec")]
TmsOut = Annotated[int, Arg(64, "struct_out:tms")]
TimevalIn = Annotated[int, Arg(64, "struct:timeval")]
TimevalOut = Annotated[int, Arg(64, "struct_out:timeval")]

_COARSE = (t.CLOCK_REALTIME_COARSE, t.CLOCK_MONOTONIC_COARSE)
_SLEEPABLE = (t.CLOCK_REALTIME, t.CLOCK_MONOTONIC, t.CLOCK_BOOTTIME, t.CLOCK_TAI)
_ALARMS = (t.CLOCK_REALTIME_ALARM, t.CLOCK_BOOTTIME_ALARM)


def clock(task: Task, clock_id: int) -> tuple[Callable[[], int], ThreadGroup | None]:
    """What reads clock `clock_id`, and, for a clock of CPU time, whose process it measures. Raises EINVAL."""
    read = task.kernel.clock.by_id().get(clock_id)
    if read is not None:
        return read, None
    cpu = cpu_clock(task, clock_id)
    if cpu is None:
        raise EINVAL("no such clock")
    return cpu


@syscall("clock_gettime")
def sys_clock_gettime(task: Task, clockid: ClockId, tp: TimespecOut) -> int:
    """clock_gettime(2): what a clock shows.

    Partial: the _ALARM clocks need a real-time clock device, and there is none (EINVAL, as on such a computer).
    """
    read = task.kernel.clock.by_id().get(clockid)
    ns = read() if read is not None else clock(task, clockid)[0]()
    task.mm.write(tp, TIMESPEC.pack(ns // NSEC, ns % NSEC))
    return 0


@syscall("clock_getres")
def sys_clock_getres(task: Task, clockid: ClockId, res: TimespecOut) -> int:
    """clock_getres(2): how fine a clock is."""
    clock(task, clockid)
    coarse = clockid in _COARSE or (clockid < 0 and clockid & 3 != t.CPUCLOCK_SCHED)
    if res:
        write_timespec(task, res, t.COARSE_RES_NS if coarse else 1)
    return 0


@syscall("gettimeofday")
def sys_gettimeofday(task: Task, tv: TimevalOut, tz: UserPtr) -> int:
    """gettimeofday(2): the time of day, and the time zone that settimeofday(2) was last told."""
    if tv:
        task.mm.write(tv, pack_timeval(task.kernel.clock.realtime_ns()))
    if tz:
        task.mm.write(tz, t.TIMEZONE.pack(*task.kernel.clock.timezone or (0, 0)))
    return 0


@syscall("time")
def sys_time(task: Task, tloc: UserPtr) -> int:
    """time(2): seconds since the Epoch."""
    seconds: int = task.kernel.clock.realtime_ns() // NSEC
    if tloc:
        task.mm.write(tloc, seconds.to_bytes(8, "little", signed=True))
    return seconds


@syscall("times")
def sys_times(task: Task, buf: TmsOut) -> int:
    """times(2): CPU time of the process and of its waited-for children, and the time since boot, in clock ticks."""
    if buf:
        group = task.group
        user = group_user_ns(group)
        spent = user, group_ns(group) - user, group.cutime_ns, group.cstime_ns
        task.mm.write(buf, t.TMS.pack(*(each // t.TICK_NS for each in spent)))
    ticks: int = task.kernel.clock.boottime_ns() // t.TICK_NS
    return ticks


# ---- sleeping


@syscall("nanosleep")
def sys_nanosleep(task: Task, rqtp: TimespecIn, rmtp: TimespecOut) -> Result:
    """nanosleep(2): sleep for a time; on a signal, tell what is left of it."""
    delay = read_timespec(task, rqtp)
    return _sleep(task, after(task.kernel.clock.monotonic_ns(), delay), rmtp) if delay else 0


@syscall("clock_nanosleep")
def sys_clock_nanosleep(
    task: Task, clockid: ClockId, flags: SleepFlags, rqtp: TimespecIn, rmtp: TimespecOut
) -> Result:
    """clock_nanosleep(2): sleep for a time, or until a point, of a clock."""
    if clockid in _ALARMS:
        raise ENOTSUP("there is no real-time clock device")
    read, group = clock(task, clockid)
    if (group is None and clockid not in _SLEEPABLE) or clockid == t.CLOCK_THREAD_CPUTIME_ID:
        raise ENOTSUP("nobody can sleep on this clock")
    if clockid < 0 and clockid & t.CPUCLOCK_PERTHREAD and ~(clockid >> 3) in (0, task.tid):
        raise EINVAL("a thread cannot wait for its own CPU time")
    when = read_timespec(task, rqtp)
    absolute = bool(flags & TIMER_ABSTIME)
    if group is not None:
        return _sleep_cpu(task, read, group, when if absolute else after(read(), when), None if absolute else rmtp)
    if absolute:
        return _sleep_until(task, clockid, read, when)
    return _sleep(task, after(task.kernel.clock.monotonic_ns(), when), rmtp) if when else 0


async def _sleep(task: Task, deadline_ns: int, rmtp: int) -> int:
    """Sleep until a point of CLOCK_MONOTONIC; a signal that runs no handler does not end it."""
    try:
        await sleep_until(deadline_ns, restart=RESTART_BLOCK)
    except Interrupted as stop:
        left = deadline_ns - task.kernel.clock.monotonic_ns()
        if left <= 0:
            return 0
        if rmtp:
            write_timespec(task, rmtp, left)
        stop.again = lambda task: _sleep(task, deadline_ns, rmtp)
        raise
    return 0


async def _sleep_until(task: Task, clockid: int, read: Callable[[], int], when_ns: int) -> int:
    """Sleep until a clock of the wall shows `when_ns`, be it because somebody sets it."""
    while read() < when_ns:
        await sleep_until(task.kernel.clock.deadline_ns(clockid, when_ns), restart=RESTART_NOHAND)
    return 0


async def _sleep_cpu(task: Task, read: Callable[[], int], group: ThreadGroup, when_ns: int, rmtp: int | None) -> int:
    """Sleep until a CPU clock shows `when_ns`; `rmtp` is None when that was given as a point."""
    queue = WaitQueue()
    alarm = Alarm(task.kernel, read, lambda: _wake(queue), group)
    try:
        while read() < when_ns:
            alarm.set(when_ns)
            await queue.wait(restart=RESTART_NOHAND if rmtp is None else RESTART_BLOCK)
    except Interrupted as stop:
        if rmtp:
            write_timespec(task, rmtp, max(0, when_ns - read()))
        stop.again = lambda task: _sleep_cpu(task, read, group, when_ns, rmtp)
        raise
    finally:
        alarm.cancel()
    return 0


def _wake(queue: WaitQueue) -> None:
    queue.wake_all()
