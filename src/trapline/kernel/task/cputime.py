"""CPU time of threads and processes, and the clocks that show it (clock_gettime(2), getcpuclockid(3)).

Times are what has been charged so far, plus, for a thread that is in user mode right now, what it has used since.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL
from trapline.abi.time import (
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCKFD,
    CPUCLOCK_PERTHREAD,
    CPUCLOCK_VIRT,
)

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup


def user_ns(task: Task) -> int:
    """User time of a thread, the present stay in user mode included."""
    total = task.utime_ns
    if task.on_cpu:
        total += max(0, task.kernel.clock.monotonic_ns() - task.user_since_ns)
    return total


def task_ns(task: Task) -> int:
    """User and system time of a thread."""
    return user_ns(task) + task.stime_ns


def group_user_ns(group: ThreadGroup) -> int:
    """User time of a process, threads that are gone included."""
    total: int = group.utime_ns
    for task in group.tasks:
        total += user_ns(task)
    return total


def group_ns(group: ThreadGroup) -> int:
    """User and system time of a process, threads that are gone included."""
    total: int = group.utime_ns + group.stime_ns
    for task in group.tasks:
        total += task_ns(task)
    return total


def cpu_clock(task: Task, clock_id: int) -> tuple[Callable[[], int], ThreadGroup] | None:
    """What reads CPU clock `clock_id` for `task`, and whose process it measures; None if it is not a CPU clock.

    Raises EINVAL for a process or thread that does not exist, or that may not be looked at.
    """
    group = task.group
    if clock_id == CLOCK_PROCESS_CPUTIME_ID:
        return (lambda: group_ns(group)), group
    if clock_id == CLOCK_THREAD_CPUTIME_ID:
        return (lambda: task_ns(task)), group
    if clock_id >= 0:
        return None
    which, pid = clock_id & 3, ~(clock_id >> 3)
    if which == CLOCKFD:
        raise EINVAL("there are no clock devices")
    if clock_id & CPUCLOCK_PERTHREAD:
        return _thread_clock(task, pid, which)
    return _process_clock(task, pid, which)


def _thread_clock(task: Task, tid: int, which: int) -> tuple[Callable[[], int], ThreadGroup]:
    target = task.kernel.tasks.get(tid) if tid else task
    if target is None or target.group is not task.group:
        raise EINVAL("no such thread in this process")
    read = user_ns if which == CPUCLOCK_VIRT else task_ns
    return (lambda: read(target)), target.group


def _process_clock(task: Task, pid: int, which: int) -> tuple[Callable[[], int], ThreadGroup]:
    group = task.kernel.groups.get(pid) if pid else task.group
    if group is None:
        raise EINVAL("no such process")
    read = group_user_ns if which == CPUCLOCK_VIRT else group_ns
    return (lambda: read(group)), group
