"""Resource limits of a process: their first values, and where they bite."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi import resource as r
from trapline.abi.capability import CAP_SYS_ADMIN, CAP_SYS_RESOURCE
from trapline.kernel.mm.policy import MmLimits

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task, ThreadGroup

NOFILE_SOFT, NOFILE_HARD = 1024, 1_048_576


def first_limits(kernel: Kernel) -> list[tuple[int, int]]:
    """(soft, hard) by RLIMIT_*: what the first program starts with, as a fresh Linux has it."""
    unlimited = (r.RLIM_INFINITY, r.RLIM_INFINITY)
    limits = [unlimited] * r.RLIM_NLIMITS
    limits[r.RLIMIT_STACK] = (8 << 20, r.RLIM_INFINITY)
    limits[r.RLIMIT_CORE] = (0, r.RLIM_INFINITY)
    limits[r.RLIMIT_NPROC] = (kernel.pid_limit, kernel.pid_limit)
    limits[r.RLIMIT_NOFILE] = (NOFILE_SOFT, NOFILE_HARD)
    limits[r.RLIMIT_MEMLOCK] = (8 << 20, 8 << 20)
    limits[r.RLIMIT_SIGPENDING] = (kernel.pid_limit, kernel.pid_limit)
    limits[r.RLIMIT_MSGQUEUE] = (819200, 819200)
    limits[r.RLIMIT_NICE] = limits[r.RLIMIT_RTPRIO] = (0, 0)
    return limits


def mm_limits(group: ThreadGroup) -> MmLimits:
    """The limits an address space of `group` has to keep."""
    soft = [each[0] for each in group.rlimits]
    return MmLimits(soft[r.RLIMIT_AS], soft[r.RLIMIT_DATA], soft[r.RLIMIT_STACK], soft[r.RLIMIT_MEMLOCK])


def tasks_of(kernel: Kernel, uid: int) -> int:
    """How many threads and zombies the real user `uid` has: what RLIMIT_NPROC counts."""
    zombies = sum(each.zombie and each.leader.creds.uid == uid for each in kernel.groups.values())
    return zombies + sum(each.creds.uid == uid for each in kernel.tasks.values())


def over_nproc(task: Task, more: int = 0) -> bool:
    """With `more` tasks, the user of `task` would have too many of them: RLIMIT_NPROC, getrlimit(2)."""
    limit, creds = task.group.rlimits[r.RLIMIT_NPROC][0], task.creds
    if limit >= task.kernel.pid_limit or creds.uid == 0 or creds.has_cap(CAP_SYS_RESOURCE) or creds.has_cap(CAP_SYS_ADMIN):
        return False
    return tasks_of(task.kernel, creds.uid) + more > limit


def watch_cpu_limits(group: ThreadGroup) -> None:
    """RLIMIT_CPU or RLIMIT_RTTIME of a process was set or inherited."""
    limits = group.rlimits
    if group.itimers or not limits[r.RLIMIT_CPU][0] == limits[r.RLIMIT_RTTIME][0] == r.RLIM_INFINITY:
        from trapline.kernel.task.cpulimit import watch

        watch(group)


def apply(group: ThreadGroup) -> None:
    """The limits of `group` changed: tell the objects that keep their own copy."""
    watch_cpu_limits(group)
    soft = [each[0] for each in group.rlimits]
    for task in group.tasks:
        if task.files is not None:
            task.files.limit = soft[r.RLIMIT_NOFILE]
        if task.mm is not None:
            limits = task.mm.limits
            limits.as_bytes, limits.data = soft[r.RLIMIT_AS], soft[r.RLIMIT_DATA]
            limits.stack, limits.memlock = soft[r.RLIMIT_STACK], soft[r.RLIMIT_MEMLOCK]
