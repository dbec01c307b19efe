"""prctl(2) on what the hardware does: machine checks, speculation, counters; and the mark of I/O helpers.

Machine checks never happen here, and nobody's I/O makes room in memory, so of PR_MCE_KILL and PR_SET_IO_FLUSHER there
is only what is kept, inherited and reported.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi import prctl as p
from trapline.abi.capability import CAP_SYS_RESOURCE
from trapline.abi.errno import EINVAL, ENODEV, ENXIO, EPERM, ERANGE
from trapline.kernel.drivers.hostcpu import speculation

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.task.task import Task

# include/linux/sched.h
PF_MCE_PROCESS = 0x0000_0080
PF_IO_FLUSHER = 0x0018_0000  #: PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE
PF_MCE_EARLY = 0x0800_0000

Args = tuple[int, int, int, int]


def _zero(args: Args, start: int) -> None:
    if any(args[start:]):
        raise EINVAL("unused arguments must be 0")


def _mce_kill(task: Task, args: Args) -> int:
    way, policy = args[:2]
    _zero(args, 2)
    flags = task.flags & ~(PF_MCE_PROCESS | PF_MCE_EARLY)
    if way == p.PR_MCE_KILL_SET:
        if policy not in (p.PR_MCE_KILL_LATE, p.PR_MCE_KILL_EARLY, p.PR_MCE_KILL_DEFAULT):
            raise EINVAL
        if policy != p.PR_MCE_KILL_DEFAULT:
            flags |= PF_MCE_PROCESS | (PF_MCE_EARLY if policy == p.PR_MCE_KILL_EARLY else 0)
    elif way != p.PR_MCE_KILL_CLEAR or policy:
        raise EINVAL
    task.flags = flags
    return 0


def _mce_kill_get(task: Task, args: Args) -> int:
    _zero(args, 0)
    if not task.flags & PF_MCE_PROCESS:
        return p.PR_MCE_KILL_DEFAULT
    return p.PR_MCE_KILL_EARLY if task.flags & PF_MCE_EARLY else p.PR_MCE_KILL_LATE


def _set_io_flusher(task: Task, args: Args) -> int:
    if not task.creds.has_cap(CAP_SYS_RESOURCE):
        raise EPERM("CAP_SYS_RESOURCE")
    if args[0] > 1:
        raise EINVAL
    _zero(args, 1)
    task.flags = task.flags & ~PF_IO_FLUSHER | (PF_IO_FLUSHER if args[0] else 0)
    return 0


def _get_io_flusher(task: Task, args: Args) -> int:
    if not task.creds.has_cap(CAP_SYS_RESOURCE):
        raise EPERM("CAP_SYS_RESOURCE")
    _zero(args, 0)
    return int(task.flags & PF_IO_FLUSHER == PF_IO_FLUSHER)


def _set_timing(task: Task, args: Args) -> int:
    if args[0] != p.PR_TIMING_STATISTICAL:
        raise EINVAL
    return 0


# ---- speculation: the host's settings hold, and no program here can change them


def _known(task: Task) -> tuple[int, int]:
    known = speculation(task.kernel.machine.arch)
    if known is None:
        raise EINVAL("this architecture has no such control")
    return known


def _get_speculation(task: Task, args: Args) -> int:
    _zero(args, 1)
    stores, branches = _known(task)
    if args[0] == p.PR_SPEC_STORE_BYPASS:
        return stores
    if args[0] == p.PR_SPEC_INDIRECT_BRANCH:
        return branches
    if args[0] == p.PR_SPEC_L1D_FLUSH:
        return p.PR_SPEC_FORCE_DISABLE
    raise ENODEV


def _set_speculation(task: Task, args: Args) -> int:
    what, control = args[:2]
    _zero(args, 2)
    _, branches = _known(task)
    if what == p.PR_SPEC_STORE_BYPASS:
        raise ENXIO("not controlled by prctl")
    if what == p.PR_SPEC_L1D_FLUSH:
        raise EPERM
    if what != p.PR_SPEC_INDIRECT_BRANCH:
        raise ENODEV
    if control not in (p.PR_SPEC_ENABLE, p.PR_SPEC_DISABLE, p.PR_SPEC_FORCE_DISABLE):
        raise ERANGE
    is_enabled = branches != p.PR_SPEC_DISABLE
    if (control == p.PR_SPEC_ENABLE) != is_enabled:
        raise EPERM
    return 0


OPTIONS: dict[int, Callable[[Task, Args], int]] = {
    p.PR_MCE_KILL: _mce_kill,
    p.PR_MCE_KILL_GET: _mce_kill_get,
    p.PR_SET_IO_FLUSHER: _set_io_flusher,
    p.PR_GET_IO_FLUSHER: _get_io_flusher,
    p.PR_GET_TIMING: lambda task, args: p.PR_TIMING_STATISTICAL,
    p.PR_SET_TIMING: _set_timing,
    p.PR_TASK_PERF_EVENTS_DISABLE: lambda task, args: 0,
    p.PR_TASK_PERF_EVENTS_ENABLE: lambda task, args: 0,
    p.PR_GET_SPECULATION_CTRL: _get_speculation,
    p.PR_SET_SPECULATION_CTRL: _set_speculation,
}
