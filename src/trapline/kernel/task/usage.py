"""What tasks and processes have used: getrusage(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.abi.resource import RUSAGE

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup


def _pack(utime_ns: int, stime_ns: int, maxrss_kb: int, minflt: int, majflt: int, nvcsw: int, nivcsw: int) -> bytes:
    seconds = [part for ns in (utime_ns, stime_ns) for part in (ns // 10**9, ns % 10**9 // 1000)]
    return RUSAGE.pack(*seconds, maxrss_kb, 0, 0, 0, minflt, majflt, 0, 0, 0, 0, 0, 0, nvcsw, nivcsw)


def pack_usage(group: ThreadGroup, *, children: bool = False) -> bytes:
    """struct rusage of a process; `children`: with what its own waited-for children used."""
    tasks = group.tasks
    mm = tasks[0].mm if tasks else None
    maxrss = max(group.maxrss_kb, mm.hiwater_rss_pages << 2 if mm is not None else 0)
    return _pack(
        group.utime_ns + sum(each.utime_ns for each in tasks) + (group.cutime_ns if children else 0),
        group.stime_ns + sum(each.stime_ns for each in tasks) + (group.cstime_ns if children else 0),
        maxrss,
        group.minflt + sum(each.minflt for each in tasks) + (mm.minflt if mm else 0) + (group.cminflt if children else 0),
        group.majflt + sum(each.majflt for each in tasks) + (mm.majflt if mm else 0) + (group.cmajflt if children else 0),
        group.nvcsw + sum(each.nvcsw for each in tasks),
        group.nivcsw + sum(each.nivcsw for each in tasks),
    )


def pack_children(group: ThreadGroup) -> bytes:
    """struct rusage of the children that were waited for."""
    return _pack(group.cutime_ns, group.cstime_ns, group.maxrss_kb, group.cminflt, group.cmajflt, 0, 0)


def pack_task(task: Task) -> bytes:
    """struct rusage of one thread."""
    maxrss = task.mm.hiwater_rss_pages << 2
    return _pack(task.utime_ns, task.stime_ns, maxrss, task.minflt, task.majflt, task.nvcsw, task.nivcsw)
