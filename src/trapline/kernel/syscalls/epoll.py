"""epoll_create(2), epoll_ctl(2), epoll_wait(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EINTR, EINVAL, EPERM
from trapline.abi.poll import (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLL_MAX_BYTES,
    EPOLLWAKEUP,
)
from trapline.kernel.ipc.epoll import Epoll, pack
from trapline.kernel.sync.park import Interrupted
from trapline.kernel.syscalls.declare import Arg, Fd, Int, Result, Size, syscall
from trapline.kernel.syscalls.eventfd import install_new
from trapline.kernel.syscalls.timearg import after, read_timespec
from trapline.kernel.task.signals.mask import set_temporary

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Events = Annotated[int, Arg(64, "struct_out:epoll_events")]
Event = Annotated[int, Arg(64, "struct:epoll_event")]
Op = Annotated[int, Arg(-32, "enum:epoll_ctl")]
SigSet = Annotated[int, Arg(64, "struct:sigset")]
TimeSpec = Annotated[int, Arg(64, "struct:timespec")]
CAP_BLOCK_SUSPEND = 36


@syscall("epoll_create", returns="fd")
def sys_epoll_create(task: Task, size: Int) -> int:
    """epoll_create(2): open an epoll instance; `size` is a hint of old, and must be positive."""
    if size <= 0:
        raise EINVAL
    return sys_epoll_create1(task, 0)


@syscall("epoll_create1", returns="fd")
def sys_epoll_create1(task: Task, flags: Annotated[int, Arg(-32, "flags:epoll_create")]) -> int:
    """epoll_create1(2): open an epoll instance."""
    if flags & ~EPOLL_CLOEXEC:
        raise EINVAL
    return install_new(task, Epoll(task.kernel), bool(flags))


@syscall("epoll_ctl")
def sys_epoll_ctl(task: Task, epfd: Fd, op: Op, fd: Fd, event: Event) -> int:
    """epoll_ctl(2): add, change or remove an interest.

    EPOLLWAKEUP has no suspend to prevent.
    """
    events = data = 0
    if op != EPOLL_CTL_DEL:
        layout = task.kernel.abi.epoll_event
        events, data = layout.unpack(task.mm.read(event, layout.size))
    epoll = task.files.get(epfd)
    file = task.files.get(fd)
    if not file.poll_queues():
        raise EPERM
    if file is epoll or not isinstance(epoll, Epoll):
        raise EINVAL
    if events & EPOLLWAKEUP and not task.creds.has_cap(CAP_BLOCK_SUSPEND):
        events &= ~EPOLLWAKEUP
    if op == EPOLL_CTL_ADD:
        epoll.add(file, fd, events, data, task)
    elif op == EPOLL_CTL_MOD:
        epoll.modify(file, fd, events, data)
    elif op == EPOLL_CTL_DEL:
        epoll.remove(file, fd)
    else:
        raise EINVAL
    return 0


def _epoll(task: Task, epfd: int, maxevents: int) -> Epoll:
    if not 0 < maxevents <= EPOLL_MAX_BYTES // task.kernel.abi.epoll_event.size:
        raise EINVAL
    epoll = task.files.get(epfd)
    if not isinstance(epoll, Epoll):
        raise EINVAL
    return epoll


def _deliver(task: Task, epoll: Epoll, address: int, maxevents: int) -> int:
    """Copy out what is ready; how many events."""
    found = epoll.collect(maxevents)
    if not found:
        return 0
    try:
        task.mm.write(address, pack(found, task.kernel.abi.epoll_event))
    except BaseException:
        epoll.give_back(found)
        raise
    return len(found)


def _wait(task: Task, epoll: Epoll, address: int, maxevents: int, delay_ns: int | None) -> Result:
    if epoll.ready:
        count = _deliver(task, epoll, address, maxevents)
        if count:
            return count
    if delay_ns == 0:
        return 0
    deadline = None if delay_ns is None else after(task.kernel.clock.monotonic_ns(), delay_ns)
    return _waiting(task, epoll, address, maxevents, deadline)


async def _waiting(task: Task, epoll: Epoll, address: int, maxevents: int, deadline: int | None) -> int:
    epoll.get()
    try:
        while True:
            woken = await epoll.queue.wait(deadline)
            count = _deliver(task, epoll, address, maxevents)
            if count or not woken:
                return count
    except Interrupted:  # signal(7): never restarted, whatever SA_RESTART says
        raise EINTR from None
    finally:
        epoll.put()


def _milliseconds(timeout: int) -> int | None:
    return None if timeout < 0 else timeout * 1_000_000


@syscall("epoll_wait")
def sys_epoll_wait(task: Task, epfd: Fd, events: Events, maxevents: Int, timeout: Int) -> Result:
    """epoll_wait(2): wait for events on an epoll instance."""
    return _wait(task, _epoll(task, epfd, maxevents), events, maxevents, _milliseconds(timeout))


@syscall("epoll_pwait")
def sys_epoll_pwait(
    task: Task, epfd: Fd, events: Events, maxevents: Int, timeout: Int, sigmask: SigSet, sigsetsize: Size
) -> Result:
    """epoll_pwait(2): epoll_wait with a temporary signal mask."""
    _use_mask(task, sigmask, sigsetsize)
    return _wait(task, _epoll(task, epfd, maxevents), events, maxevents, _milliseconds(timeout))


@syscall("epoll_pwait2")
def sys_epoll_pwait2(
    task: Task, epfd: Fd, events: Events, maxevents: Int, timeout: TimeSpec, sigmask: SigSet, sigsetsize: Size
) -> Result:
    """epoll_pwait2(2): epoll_pwait with a precise time-out."""
    delay = read_timespec(task, timeout) if timeout else None
    _use_mask(task, sigmask, sigsetsize)
    return _wait(task, _epoll(task, epfd, maxevents), events, maxevents, delay)


def _use_mask(task: Task, address: int, size: int) -> None:
    if not address:
        return
    if size != 8:
        raise EINVAL
    set_temporary(task, task.mm.read_u64(address))
