"""What tasks and processes have used: getrusage(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.resource import RUSAGE

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup


def _pack(utime_ns: int, stime_ns: int, maxrss_kb: int, minflt: int, majflt: int, nvcsw: int, nivcsw: int) -> bytes:
    seconds = [part for ns in (utime_ns, stime_ns) for part in (ns // 10**9, ns % 10**9 // 1000)]
    return RUSAGE.pack(*seconds, maxrss_kb, 0, 0, 0, minflt, majflt, 0, 0, 0, 0, 0, 0, nvcsw, nivcsw)


def add_child(parent: ThreadGroup, child: ThreadGroup) -> None:
    """`child` was waited for: what it and its own children used counts as used by the parent's children.

    Children that are never waited for do not count (getrusage(2), "Notes").
    """
    parent.cutime_ns += child.utime_ns + child.cutime_ns
    parent.cstime_ns += child.stime_ns + child.cstime_ns
    parent.cminflt += child.minflt + child.cminflt
    parent.cmajflt += child.majflt + child.cmajflt
    parent.cnvcsw += child.nvcsw + child.cnvcsw
    parent.cnivcsw += child.nivcsw + child.cnivcsw
    parent.cmaxrss_kb = max(parent.cmaxrss_kb, child.maxrss_kb, child.cmaxrss_kb)


def pack_usage(group: ThreadGroup, *, children: bool = False) -> bytes:
    """struct rusage of a process; `children`: with what its own waited-for children used."""
    tasks = group.tasks
    mm = tasks[0].mm if tasks else None
    maxrss = max(group.maxrss_kb, mm.hiwater_rss_pages << 2 if mm is not None else 0, group.cmaxrss_kb if children else 0)
    return _pack(
        group.utime_ns + sum(each.utime_ns for each in tasks) + (group.cutime_ns if children else 0),
        group.stime_ns + sum(each.stime_ns for each in tasks) + (group.cstime_ns if children else 0),
        maxrss,
        group.minflt + sum(each.minflt for each in tasks) + (mm.minflt if mm else 0) + (group.cminflt if children else 0),
        group.majflt + sum(each.majflt for each in tasks) + (mm.majflt if mm else 0) + (group.cmajflt if children else 0),
        group.nvcsw + sum(each.nvcsw for each in tasks) + (group.cnvcsw if children else 0),
        group.nivcsw + sum(each.nivcsw for each in tasks) + (group.cnivcsw if children else 0),
    )


def pack_children(group: ThreadGroup) -> bytes:
    """struct rusage of the children that were waited for."""
    return _pack(
        group.cutime_ns, group.cstime_ns, group.cmaxrss_kb, group.cminflt, group.cmajflt, group.cnvcsw, group.cnivcsw
    )


def pack_task(task: Task) -> bytes:
    """struct rusage of one thread; the resident set is its process's."""
    maxrss = max(task.group.maxrss_kb, task.mm.hiwater_rss_pages << 2)
    return _pack(task.utime_ns, task.stime_ns, maxrss, task.minflt, task.majflt, task.nvcsw, task.nivcsw)
