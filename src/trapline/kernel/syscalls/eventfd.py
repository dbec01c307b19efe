"""eventfd(2), timerfd_create(2), signalfd(2): descriptors that are events."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import event as e
from trapline.abi.errno import ECANCELED, EINVAL
from trapline.abi.time import NSEC, TIME_MAX_NS
from trapline.kernel.ipc.eventfd import EventFd
from trapline.kernel.ipc.signalfd import SIGKILL_SIGSTOP, SignalFd
from trapline.kernel.ipc.timerfd import TimerFd, check_clock
from trapline.kernel.syscalls.declare import Arg, Fd, Size, UInt, syscall
from trapline.kernel.task.signals.pending import take

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

EventFlags = Annotated[int, Arg(-32, "flags:eventfd")]
TimerFlags = Annotated[int, Arg(-32, "flags:timerfd")]
SignalFlags = Annotated[int, Arg(-32, "flags:signalfd")]
Clock = Annotated[int, Arg(-32, "clock")]
SigSet = Annotated[int, Arg(64, "struct:sigset")]
TimerSpec = Annotated[int, Arg(64, "struct:itimerspec")]
TimerSpecOut = Annotated[int, Arg(64, "struct_out:itimerspec")]
NONBLOCK = 0o4000
CLOEXEC = 0o2000000


def install_new(task: Task, file: File, cloexec: bool) -> int:
    """A descriptor for a file that was just made; the file goes if there is none."""
    try:
        return task.files.install(file, cloexec)
    except BaseException:
        file.put()
        raise


@syscall("eventfd", returns="fd")
def sys_eventfd(task: Task, initval: UInt) -> int:
    """eventfd(2): create a counter for event notification."""
    return sys_eventfd2(task, initval, 0)


@syscall("eventfd2", returns="fd")
def sys_eventfd2(task: Task, initval: UInt, flags: EventFlags) -> int:
    """eventfd(2): create a counter for event notification, with flags."""
    if flags & ~(e.EFD_SEMAPHORE | e.EFD_NONBLOCK | e.EFD_CLOEXEC):
        raise EINVAL
    file = EventFd(task.kernel, 2 | flags & NONBLOCK, initval, bool(flags & e.EFD_SEMAPHORE))
    return install_new(task, file, bool(flags & CLOEXEC))


@syscall("timerfd_create", returns="fd")
def sys_timerfd_create(task: Task, clockid: Clock, flags: TimerFlags) -> int:
    """timerfd_create(2): create a timer that notifies through a descriptor."""
    if flags & ~(e.TFD_NONBLOCK | e.TFD_CLOEXEC):
        raise EINVAL
    check_clock(clockid, task.creds)
    return install_new(task, TimerFd(task.kernel, 2 | flags & NONBLOCK, clockid), bool(flags & CLOEXEC))


def _timer(task: Task, fd: int) -> TimerFd:
    file = task.files.get(fd)
    if not isinstance(file, TimerFd):
        raise EINVAL
    return file


@syscall("timerfd_settime")
def sys_timerfd_settime(task: Task, fd: Fd, flags: TimerFlags, new: TimerSpec, old: TimerSpecOut) -> int:
    """timerfd_settime(2): arm or disarm a timer descriptor."""
    interval_s, interval_ns, value_s, value_ns = e.ITIMERSPEC.unpack(task.mm.read(new, e.ITIMERSPEC.size))
    if flags & ~(e.TFD_TIMER_ABSTIME | e.TFD_TIMER_CANCEL_ON_SET):
        raise EINVAL
    value, interval = _ns(value_s, value_ns), _ns(interval_s, interval_ns)
    timer = _timer(task, fd)
    check_clock(timer.clockid, task.creds)
    if old:  # so that the last copy-out cannot fail
        task.mm.write(old, task.mm.read(old, e.ITIMERSPEC.size))
    missed = timer.take_cancelled(flags)
    before = timer.set(value, interval, flags)
    if old:
        task.mm.write(old, _pack(*before))
    if missed:
        raise ECANCELED
    return 0


@syscall("timerfd_gettime")
def sys_timerfd_gettime(task: Task, fd: Fd, current: TimerSpecOut) -> int:
    """timerfd_gettime(2): when a timer descriptor expires next."""
    task.mm.write(current, _pack(*_timer(task, fd).remaining()))
    return 0


def _ns(seconds: int, nanoseconds: int) -> int:
    if seconds < 0 or not 0 <= nanoseconds < NSEC:
        raise EINVAL
    return min(seconds * NSEC + nanoseconds, TIME_MAX_NS)


def _pack(value: int, interval: int) -> bytes:
    return e.ITIMERSPEC.pack(interval // NSEC, interval % NSEC, value // NSEC, value % NSEC)


@syscall("signalfd", returns="fd")
def sys_signalfd(task: Task, fd: Fd, mask: SigSet, sizemask: Size) -> int:
    """signalfd(2): accept signals through a descriptor."""
    return sys_signalfd4(task, fd, mask, sizemask, 0)


@syscall("signalfd4", returns="fd")
def sys_signalfd4(task: Task, fd: Fd, mask: SigSet, sizemask: Size, flags: SignalFlags) -> int:
    """signalfd(2): accept signals through a descriptor, with flags; an `fd` other than -1 gets a new mask."""
    if flags & ~(e.SFD_NONBLOCK | e.SFD_CLOEXEC) or sizemask != 8:
        raise EINVAL
    wanted = task.mm.read_u64(mask) & ~SIGKILL_SIGSTOP
    if fd == -1:
        file = SignalFd(task, 2 | flags & NONBLOCK, wanted, take)
        return install_new(task, file, bool(flags & CLOEXEC))
    known = task.files.get(fd)
    if not isinstance(known, SignalFd):
        raise EINVAL
    known.mask = wanted
    for queue in known.poll_queues():
        queue.wake_all()
    return fd
