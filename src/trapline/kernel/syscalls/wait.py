"""Waiting for children: wait4, waitid."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import sched as w
from trapline.abi.errno import EAGAIN, EINVAL, ESRCH
from trapline.abi.fcntl import O_NONBLOCK
from trapline.kernel.syscalls.declare import Arg, Pid, Result, UserPtr, syscall
from trapline.kernel.task.usage import pack_usage
from trapline.kernel.task.wait import Found, Matches, wait

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Status = Annotated[int, Arg(64, "struct_out:wait_status")]
Options = Annotated[int, Arg(-32, "flags:WAIT_OPTIONS")]
TOLD = 28  #: bytes of siginfo_t that waitid(2) writes: up to si_status


@syscall("wait4")
def sys_wait4(task: Task, pid: Pid, wstatus: Status, options: Options, rusage: UserPtr) -> Result:
    """wait4(2): wait for a child to change state."""
    if options & ~(w.WNOHANG | w.WUNTRACED | w.WCONTINUED | w.WNOTHREAD | w.WCLONE - (1 << 32) | w.WCLONE | w.WALL):
        raise EINVAL
    if pid == -(1 << 31):
        raise ESRCH
    found = wait(task, by_pid(task, pid), options | w.WEXITED)
    if found is None:
        return 0
    if isinstance(found, Found):
        return _report(task, found, wstatus, rusage)

    async def later() -> int:
        return _report(task, await found, wstatus, rusage)

    return later()


def by_pid(task: Task, pid: int) -> Matches:
    """wait4(2)'s meaning of `pid`."""
    if pid == -1:
        return lambda child: True
    if pid > 0:
        return lambda child: child.pid == pid
    pgid = -pid if pid else task.group.pgid
    return lambda child: child.pgid == pgid


def _report(task: Task, found: Found, wstatus: int, rusage: int) -> int:
    if wstatus:
        task.mm.write_u32(wstatus, found.status)
    if rusage:
        task.mm.write(rusage, pack_usage(found.child, children=True))
    return found.child.pid


@syscall("waitid")
def sys_waitid(
    task: Task,
    idtype: Annotated[int, Arg(-32, "enum:WAITID_TYPES")],
    which: Pid,
    infop: Annotated[int, Arg(64, "struct_out:siginfo")],
    options: Options,
    rusage: UserPtr,
) -> Result:
    """waitid(2): wait for a child to change state, with all that can be told of it."""
    states = w.WEXITED | w.WSTOPPED | w.WCONTINUED
    if options & ~(states | w.WNOHANG | w.WNOWAIT | w.WNOTHREAD | w.WALL | w.WCLONE - (1 << 32)) or not options & states:
        raise EINVAL
    matches = _by_id(task, idtype, which)
    nonblocking = idtype == w.P_PIDFD and bool(task.files.get(which).flags & O_NONBLOCK)
    found = wait(task, matches, options | (w.WNOHANG if nonblocking else 0))
    if found is None and not options & w.WNOHANG:
        raise EAGAIN("a pidfd with PIDFD_NONBLOCK")
    if found is None or isinstance(found, Found):
        return _tell(task, found, infop, rusage)

    async def later() -> int:
        return _tell(task, await found, infop, rusage)

    return later()


def _by_id(task: Task, idtype: int, which: int) -> Matches:
    if idtype == w.P_ALL:
        return lambda child: True
    if idtype == w.P_PID:
        if which <= 0:
            raise EINVAL
        return lambda child: child.pid == which
    if idtype == w.P_PGID:
        if which < 0:
            raise EINVAL
        return by_pid(task, -which)
    if idtype == w.P_PIDFD:
        if which < 0:
            raise EINVAL
        from trapline.kernel.ipc.pidfd import group_of_pidfd

        group = group_of_pidfd(task.files.get(which))
        return lambda child: child is group
    raise EINVAL


def _tell(task: Task, found: Found | None, infop: int, rusage: int) -> int:
    if infop:
        told = bytes(TOLD) if found is None else found.info.pack()[:TOLD]
        task.mm.write(infop, told)
    if rusage and found is not None:
        task.mm.write(rusage, pack_usage(found.child, children=True))
    return 0
