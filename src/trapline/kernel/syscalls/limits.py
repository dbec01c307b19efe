"""Resource limits and usage: getrlimit(2), prlimit(2), getrusage(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import resource as r
from trapline.abi.capability import CAP_SYS_RESOURCE
from trapline.abi.errno import EINVAL, EPERM, ESRCH
from trapline.kernel.syscalls.declare import Arg, Pid, syscall
from trapline.kernel.task import rlimit
from trapline.kernel.task.creds import Credentials
from trapline.kernel.task.usage import pack_children, pack_task, pack_usage

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

Resource = Annotated[int, Arg(32, "enum:RLIMITS")]
Limit = Annotated[int, Arg(64, "struct:rlimit")]
LimitOut = Annotated[int, Arg(64, "struct_out:rlimit")]
NR_OPEN = 1_048_576


# ---- limits


@syscall("getrlimit")
def sys_getrlimit(task: Task, resource: Resource, rlim: LimitOut) -> int:
    """getrlimit(2): read a resource limit."""
    if resource >= r.RLIM_NLIMITS:
        raise EINVAL
    task.mm.write(rlim, r.RLIMIT.pack(*task.group.rlimits[resource]))
    return 0


@syscall("setrlimit")
def sys_setrlimit(task: Task, resource: Resource, rlim: Limit) -> int:
    """setrlimit(2): set a resource limit."""
    if resource >= r.RLIM_NLIMITS:
        raise EINVAL
    _set(task, task.group, resource, r.RLIMIT.unpack(task.mm.read(rlim, 16)))
    return 0


@syscall("prlimit64")
def sys_prlimit64(task: Task, pid: Pid, resource: Resource, new_limit: Limit, old_limit: LimitOut) -> int:
    """prlimit(2): read and set a resource limit of any process one may control."""
    if resource >= r.RLIM_NLIMITS:
        raise EINVAL
    wanted = r.RLIMIT.unpack(task.mm.read(new_limit, 16)) if new_limit else None
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None and pid != task.kernel.init.pid:
        raise ESRCH
    group = target.group if target is not None else task.kernel.init
    if group is not task.group:
        _check_control(task, target.creds if target is not None else Credentials())
    old = group.rlimits[resource]
    if wanted is not None:
        if target is None:
            raise EPERM("the kernel's own process")
        _set(task, group, resource, wanted)
    if old_limit:
        task.mm.write(old_limit, r.RLIMIT.pack(*old))
    return 0


def _check_control(task: Task, its: Credentials) -> None:
    """Raises EPERM."""
    mine = task.creds
    same = {its.uid, its.euid, its.suid} == {mine.uid} and {its.gid, its.egid, its.sgid} == {mine.gid}
    if not same and not mine.has_cap(CAP_SYS_RESOURCE):
        raise EPERM


def _set(task: Task, group: ThreadGroup, resource: int, wanted: tuple[int, ...]) -> None:
    soft, hard = wanted
    if soft > hard:
        raise EINVAL
    if hard > group.rlimits[resource][1] and not task.creds.has_cap(CAP_SYS_RESOURCE):
        raise EPERM
    if resource == r.RLIMIT_NOFILE and hard > NR_OPEN:
        raise EPERM
    group.rlimits[resource] = (soft, hard)
    rlimit.apply(group)


# ---- usage


@syscall("getrusage")
def sys_getrusage(
    task: Task, who: Annotated[int, Arg(-32, "enum:RUSAGE")], usage: Annotated[int, Arg(64, "struct_out:rusage")]
) -> int:
    """getrusage(2): what has been used."""
    if who == r.RUSAGE_SELF:
        raw = pack_usage(task.group)
    elif who == r.RUSAGE_CHILDREN:
        raw = pack_children(task.group)
    elif who == r.RUSAGE_THREAD:
        raw = pack_task(task)
    else:
        raise EINVAL
    task.mm.write(usage, raw)
    return 0
