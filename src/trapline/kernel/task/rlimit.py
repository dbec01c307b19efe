"""Resource limits of a process: their first values, and where they bite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.abi import resource as r
from trapline.kernel.mm.policy import MmLimits
from trapline.kernel.task.cpulimit import watch_cpu_limit

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import ThreadGroup

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


def apply(group: ThreadGroup) -> None:
    """The limits of `group` changed: tell the objects that keep their own copy."""
    watch_cpu_limit(group)
    soft = [each[0] for each in group.rlimits]
    for task in group.tasks:
        if task.files is not None:
            task.files.limit = soft[r.RLIMIT_NOFILE]
        if task.mm is not None:
            limits = task.mm.limits
            limits.as_bytes, limits.data = soft[r.RLIMIT_AS], soft[r.RLIMIT_DATA]
            limits.stack, limits.memlock = soft[r.RLIMIT_STACK], soft[r.RLIMIT_MEMLOCK]
