"""Timers that send signals: setitimer(2), alarm(2), and the POSIX timers of timer_create(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import signal as s
from trapline.abi import time as t
from trapline.abi.errno import EAGAIN, EINVAL, ENOTSUP
from trapline.abi.time import ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, NSEC, TIMER_ABSTIME
from trapline.kernel.syscalls.declare import Arg, Int, UInt, UserPtr, syscall
from trapline.kernel.syscalls.time import clock
from trapline.kernel.syscalls.timearg import timespec_ns, timeval_ns
from trapline.kernel.task.itimers import itimer
from trapline.kernel.task.posix_timers import PosixTimer, new_id
from trapline.kernel.task.signals.send import within_limit

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

ClockId = Annotated[int, Arg(-32, "clock")]
ItimerWhich = Annotated[int, Arg(-32, "enum:itimer")]
TimerId = Annotated[int, Arg(-32, "dec")]
TimerFlags = Annotated[int, Arg(-32, "flags:timer_flags")]
ItimervalIn = Annotated[int, Arg(64, "struct:itimerval")]
ItimervalOut = Annotated[int, Arg(64, "struct_out:itimerval")]
ItimerspecIn = Annotated[int, Arg(64, "struct:itimerspec")]
ItimerspecOut = Annotated[int, Arg(64, "struct_out:itimerspec")]
SigeventIn = Annotated[int, Arg(64, "struct:sigevent")]

_TIMER_CLOCKS = (t.CLOCK_REALTIME, t.CLOCK_MONOTONIC, t.CLOCK_BOOTTIME, t.CLOCK_TAI)


def _pack_itimerval(interval_ns: int, value_ns: int) -> bytes:
    value_ns = max(1000, value_ns) if value_ns else 0  # not over yet: not zero
    return t.ITIMERVAL.pack(
        interval_ns // NSEC, interval_ns % NSEC // 1000, value_ns // NSEC, value_ns % NSEC // 1000
    )


@syscall("getitimer")
def sys_getitimer(task: Task, which: ItimerWhich, curr_value: ItimervalOut) -> int:
    """getitimer(2): an interval timer of the process."""
    if which not in (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF):
        raise EINVAL("which")
    interval, left = itimer(task.group, which).get() if task.group.itimers else (0, 0)
    task.mm.write(curr_value, _pack_itimerval(interval, left))
    return 0


@syscall("setitimer")
def sys_setitimer(task: Task, which: ItimerWhich, new_value: ItimervalIn, old_value: ItimervalOut) -> int:
    """setitimer(2): set an interval timer of the process. A null `new_value` stops it, as Linux has it."""
    interval = value = 0
    if new_value:
        fields = t.ITIMERVAL.unpack(task.mm.read(new_value, t.ITIMERVAL.size))
        interval, value = timeval_ns(*fields[:2]), timeval_ns(*fields[2:])
    if which not in (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF):
        raise EINVAL("which")
    timer = itimer(task.group, which)
    old = timer.get()
    timer.set(interval, value)
    if old_value:
        task.mm.write(old_value, _pack_itimerval(*old))
    return 0


@syscall("alarm")
def sys_alarm(task: Task, seconds: UInt) -> int:
    """alarm(2): send SIGALRM after some seconds; the seconds that were left of the last one."""
    timer = itimer(task.group, ITIMER_REAL)
    left = timer.get()[1]
    timer.set(0, seconds * NSEC)
    rounded = (left + NSEC // 2) // NSEC
    return rounded or (1 if left else 0)


# ---- POSIX timers


def _find(task: Task, timer_id: int) -> PosixTimer:
    timer: PosixTimer | None = (task.group.posix_timers or {}).get(timer_id)
    if timer is None:
        raise EINVAL("no such timer")
    return timer


def _event(task: Task, address: int, timer_id: int) -> tuple[tuple[int, int, int], Task | None]:
    """struct sigevent as (notify, signal, value), and the thread it names. Raises EFAULT, EINVAL."""
    if not address:
        return (s.SIGEV_SIGNAL, s.SIGALRM, timer_id), None
    value, signo, notify, tid = s.SIGEVENT.unpack(task.mm.read(address, s.SIGEVENT.size))
    thread = None
    if notify == s.SIGEV_SIGNAL | s.SIGEV_THREAD_ID:
        thread = task.kernel.tasks.get(tid)
        if thread is None or thread.group is not task.group:
            raise EINVAL("no such thread in this process")
    elif notify not in (s.SIGEV_SIGNAL, s.SIGEV_THREAD, s.SIGEV_NONE):
        raise EINVAL("sigev_notify")
    if notify != s.SIGEV_NONE and not 1 <= signo <= s.NSIG:
        raise EINVAL("sigev_signo")
    return (notify, signo, value), thread


@syscall("timer_create")
def sys_timer_create(task: Task, clockid: ClockId, sevp: SigeventIn, timerid: UserPtr) -> int:
    """timer_create(2): make a timer of the process on a clock.

    Partial: the _ALARM clocks need a real-time clock device, and there is none (ENOTSUP).
    """
    if clockid in (t.CLOCK_REALTIME_ALARM, t.CLOCK_BOOTTIME_ALARM):
        raise ENOTSUP("there is no real-time clock device")
    read, measured = clock(task, clockid)
    if measured is None and clockid not in _TIMER_CLOCKS:
        raise ENOTSUP("this clock has no timers")
    if not within_limit(task):
        raise EAGAIN("RLIMIT_SIGPENDING")
    group = task.group
    number = new_id(group)
    event, thread = _event(task, sevp, number)
    task.mm.write(timerid, number.to_bytes(4, "little"))
    group.posix_timers[number] = PosixTimer(group, number, clockid, read, measured, event, thread)
    return 0


def _pack_itimerspec(interval_ns: int, value_ns: int) -> bytes:
    return t.ITIMERSPEC.pack(interval_ns // NSEC, interval_ns % NSEC, value_ns // NSEC, value_ns % NSEC)


@syscall("timer_settime")
def sys_timer_settime(
    task: Task, timerid: TimerId, flags: TimerFlags, new_value: ItimerspecIn, old_value: ItimerspecOut
) -> int:
    """timer_settime(2): arm or disarm a timer."""
    if not new_value:
        raise EINVAL("new_value")
    fields = t.ITIMERSPEC.unpack(task.mm.read(new_value, t.ITIMERSPEC.size))
    interval, value = timespec_ns(*fields[:2]), timespec_ns(*fields[2:])
    timer = _find(task, timerid)
    old = timer.get()
    timer.set(interval, value, bool(flags & TIMER_ABSTIME))
    if old_value:
        task.mm.write(old_value, _pack_itimerspec(*old))
    return 0


@syscall("timer_gettime")
def sys_timer_gettime(task: Task, timerid: TimerId, curr_value: ItimerspecOut) -> int:
    """timer_gettime(2): how long until a timer expires, and its interval."""
    task.mm.write(curr_value, _pack_itimerspec(*_find(task, timerid).get()))
    return 0


@syscall("timer_getoverrun")
def sys_timer_getoverrun(task: Task, timerid: Int) -> int:
    """timer_getoverrun(2): the expiries that the last signal of a timer stood for, beyond one."""
    return _find(task, timerid).overrun


@syscall("timer_delete")
def sys_timer_delete(task: Task, timerid: TimerId) -> int:
    """timer_delete(2): delete a timer of the process."""
    _find(task, timerid).delete()
    del task.group.posix_timers[timerid]
    return 0
