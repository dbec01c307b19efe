"""Nice values and I/O priorities: getpriority(2), setpriority(2), ioprio_get(2), ioprio_set(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import ioprio as i
from trapline.abi import resource as r
from trapline.abi.capability import CAP_SYS_ADMIN, CAP_SYS_NICE
from trapline.abi.errno import EACCES, EINVAL, EPERM, ESRCH, Errno
from trapline.kernel.syscalls.declare import Arg, Int, syscall
from trapline.kernel.task import ioprio

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Which = Annotated[int, Arg(-32, "enum:PRIO")]
IoWhich = Annotated[int, Arg(-32, "enum:ioprio_who")]
IoPriority = Annotated[int, Arg(-32, "hex")]


def same_owner(task: Task, target: Task) -> bool:
    """setpriority(2): the caller's effective user id is the target's real or effective one."""
    return task.creds.euid in (target.creds.uid, target.creds.euid)


def within_nice_limit(target: Task, nice: int) -> bool:
    """Anybody may give `target` the nice value: RLIMIT_NICE, getrlimit(2)."""
    return 20 - nice <= target.group.rlimits[r.RLIMIT_NICE][0]


# ---- nice values


def _who(task: Task, which: int, who: int) -> list[Task]:
    """The threads that getpriority(2) and ioprio_get(2) mean."""
    tasks = task.kernel.tasks
    if which == r.PRIO_PROCESS:
        if _is_init(task, which, who):
            raise EPERM("the kernel's own process")
        found = [tasks[who]] if who in tasks else [] if who else [task]
    elif which == r.PRIO_PGRP:
        pgid = who or task.group.pgid
        found = [each for each in tasks.values() if each.group.pgid == pgid]
    elif which == r.PRIO_USER:
        uid = who & 0xFFFFFFFF if who else task.creds.uid
        found = [each for each in tasks.values() if each.creds.uid == uid]
    else:
        raise EINVAL
    if not found:
        raise ESRCH
    return found


def _is_init(task: Task, which: int, who: int) -> bool:
    """The kernel's own process, which nobody ever changed, is meant."""
    return which == r.PRIO_PROCESS and who == task.kernel.init.pid and who not in task.kernel.tasks


@syscall("getpriority")
def sys_getpriority(task: Task, which: Which, who: Int) -> int:
    """getpriority(2): 20 minus the lowest nice value."""
    if _is_init(task, which, who):
        return 20
    return 20 - min(int(each.entity.nice) for each in _who(task, which, who))


@syscall("setpriority")
def sys_setpriority(task: Task, which: Which, who: Int, prio: Int) -> int:
    """setpriority(2): set the nice value; of several threads, those that may be changed are, whatever the result."""
    nice = max(-20, min(19, prio))
    error: type[Errno] | None = None
    for each in _who(task, which, who):
        if not same_owner(task, each) and not task.creds.has_cap(CAP_SYS_NICE):
            error = EPERM
        elif nice < each.entity.nice and not (within_nice_limit(each, nice) or task.creds.has_cap(CAP_SYS_NICE)):
            error = EACCES
        else:
            task.kernel.sched.set_nice(each, nice)
    if error is not None:
        raise error
    return 0


# ---- I/O priorities

_PRIO_WHICH = {
    i.IOPRIO_WHO_PROCESS: r.PRIO_PROCESS, i.IOPRIO_WHO_PGRP: r.PRIO_PGRP, i.IOPRIO_WHO_USER: r.PRIO_USER,
}  # fmt: skip


@syscall("ioprio_set")
def sys_ioprio_set(task: Task, which: IoWhich, who: Int, prio: IoPriority) -> int:
    """ioprio_set(2): set the I/O class and priority of threads.

    Partial: the value is kept, inherited and reported; files live in memory, so no request ever waits for another.
    """
    _check_ioprio(task, prio)
    for each in _who(task, _PRIO_WHICH.get(which, -1), who):
        if each.creds.uid not in (task.creds.euid, task.creds.uid) and not task.creds.has_cap(CAP_SYS_NICE):
            raise EPERM
        ioprio.set_priority(each, prio)
    return 0


def _check_ioprio(task: Task, value: int) -> None:
    """A class that exists, a level it has, and the right to ask for it."""
    kind, level = i.split(value)
    if kind == i.IOPRIO_CLASS_RT:
        if not (task.creds.has_cap(CAP_SYS_NICE) or task.creds.has_cap(CAP_SYS_ADMIN)):
            raise EPERM
    if kind in (i.IOPRIO_CLASS_RT, i.IOPRIO_CLASS_BE):
        if level >= i.IOPRIO_NR_LEVELS:
            raise EINVAL
    elif kind == i.IOPRIO_CLASS_NONE:
        if level:
            raise EINVAL
    elif kind != i.IOPRIO_CLASS_IDLE:
        raise EINVAL


@syscall("ioprio_get", returns="hex")
def sys_ioprio_get(task: Task, which: IoWhich, who: Int) -> int:
    """ioprio_get(2): the I/O class and priority of a thread, or the highest of several threads."""
    if _is_init(task, _PRIO_WHICH.get(which, -1), who):
        return i.IOPRIO_DEFAULT
    look = ioprio.own_priority if which == i.IOPRIO_WHO_PROCESS else ioprio.priority
    return min(look(each) for each in _who(task, _PRIO_WHICH.get(which, -1), who))
