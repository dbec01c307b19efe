"""Resource limits and usage, priorities and scheduling."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Annotated

from trapline.abi import resource as r
from trapline.abi import sched as s
from trapline.abi.capability import CAP_SYS_NICE, CAP_SYS_RESOURCE
from trapline.abi.errno import E2BIG, EACCES, EINVAL, EPERM, ESRCH
from trapline.kernel.syscalls.declare import Arg, Int, Pid, Result, UInt, UserPtr, syscall
from trapline.kernel.task import rlimit
from trapline.kernel.task.task import WORK_RESCHED
from trapline.kernel.task.usage import pack_children, pack_task, pack_usage

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

Resource = Annotated[int, Arg(32, "enum:RLIMITS")]
Policy = Annotated[int, Arg(-32, "enum:SCHED_POLICIES")]
Limit = Annotated[int, Arg(64, "struct:rlimit")]
LimitOut = Annotated[int, Arg(64, "struct_out:rlimit")]
SCHED_ATTR = struct.Struct("<IIQiIQQQII")
SCHED_ATTR_V0 = 48
POLICIES = (s.SCHED_OTHER, s.SCHED_BATCH, s.SCHED_IDLE)
REALTIME = (s.SCHED_FIFO, s.SCHED_RR)
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
    if target is None:
        raise ESRCH
    if target.group is not task.group:
        _check_control(task, target)
    old = target.group.rlimits[resource]
    if wanted is not None:
        _set(task, target.group, resource, wanted)
    if old_limit:
        task.mm.write(old_limit, r.RLIMIT.pack(*old))
    return 0


def _check_control(task: Task, target: Task) -> None:
    mine, its = task.creds, target.creds
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


# ---- priorities


def _who(task: Task, which: int, who: int) -> list[Task]:
    """The threads that getpriority(2) means."""
    tasks = task.kernel.tasks
    if which == r.PRIO_PROCESS:
        found = [tasks[who]] if who in tasks else [] if who else [task]
    elif which == r.PRIO_PGRP:
        pgid = who or task.group.pgid
        found = [each for each in tasks.values() if each.group.pgid == pgid]
    elif which == r.PRIO_USER:
        uid = who or task.creds.uid
        found = [each for each in tasks.values() if each.creds.uid == uid]
    else:
        raise EINVAL
    if not found:
        raise ESRCH
    return found


@syscall("getpriority")
def sys_getpriority(task: Task, which: Annotated[int, Arg(-32, "enum:PRIO")], who: Int) -> int:
    """getpriority(2): 20 minus the nice value."""
    return 20 - min(int(each.entity.nice) for each in _who(task, which, who))


@syscall("setpriority")
def sys_setpriority(task: Task, which: Annotated[int, Arg(-32, "enum:PRIO")], who: Int, prio: Int) -> int:
    """setpriority(2): set the nice value."""
    nice = max(-20, min(19, prio))
    targets = _who(task, which, who)
    for each in targets:
        if each.creds.euid not in (task.creds.euid, task.creds.uid) and not task.creds.has_cap(CAP_SYS_NICE):
            raise EPERM
        if nice < each.entity.nice and not _may_raise(task, nice):
            raise EACCES
    for each in targets:
        task.kernel.sched.set_nice(each, nice)
    return 0


def _may_raise(task: Task, nice: int) -> bool:
    return task.creds.has_cap(CAP_SYS_NICE) or 20 - nice <= task.group.rlimits[r.RLIMIT_NICE][0]


# ---- scheduling


def _target(task: Task, pid: int) -> Task:
    if pid < 0:
        raise EINVAL
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None:
        raise ESRCH
    return target


@syscall("sched_yield")
def sys_sched_yield(task: Task) -> int:
    """sched_yield(2): let others run."""
    task.work |= WORK_RESCHED
    return 0


@syscall("sched_getscheduler")
def sys_sched_getscheduler(task: Task, pid: Pid) -> int:
    """sched_getscheduler(2): the policy of a thread."""
    return int(_target(task, pid).entity.policy)


@syscall("sched_setscheduler")
def sys_sched_setscheduler(task: Task, pid: Pid, policy: Policy, param: UserPtr) -> int:
    """sched_setscheduler(2): set the policy of a thread.

    Partial: SCHED_FIFO, SCHED_RR and SCHED_DEADLINE are refused with EPERM; SCHED_BATCH and SCHED_IDLE run as SCHED_OTHER.
    """
    priority = struct.unpack("<i", task.mm.read(param, 4))[0]
    return _set_policy(task, _target(task, pid), policy, priority)


def _set_policy(task: Task, target: Task, policy: int, priority: int) -> int:
    policy &= ~s.SCHED_RESET_ON_FORK
    if policy in REALTIME:
        if not 1 <= priority <= 99:
            raise EINVAL
        task.kernel.log_once("realtime", "sched_setscheduler: real-time classes are not implemented: EPERM")
        raise EPERM
    if policy == s.SCHED_DEADLINE:
        raise EPERM
    if policy not in POLICIES or priority:
        raise EINVAL
    target.entity.policy = policy
    return 0


@syscall("sched_setparam")
def sys_sched_setparam(task: Task, pid: Pid, param: UserPtr) -> int:
    """sched_setparam(2): set the priority within the policy."""
    target = _target(task, pid)
    return _set_policy(task, target, target.entity.policy, struct.unpack("<i", task.mm.read(param, 4))[0])


@syscall("sched_getparam")
def sys_sched_getparam(task: Task, pid: Pid, param: UserPtr) -> int:
    """sched_getparam(2): the priority within the policy."""
    _target(task, pid)
    task.mm.write_u32(param, 0)
    return 0


@syscall("sched_get_priority_max")
def sys_sched_get_priority_max(task: Task, policy: Policy) -> int:
    """sched_get_priority_max(2): the highest priority of a policy."""
    return _priority(policy, 99)


@syscall("sched_get_priority_min")
def sys_sched_get_priority_min(task: Task, policy: Policy) -> int:
    """sched_get_priority_min(2): the lowest priority of a policy."""
    return _priority(policy, 1)


def _priority(policy: int, realtime: int) -> int:
    if policy in REALTIME:
        return realtime
    if policy not in POLICIES and policy != s.SCHED_DEADLINE:
        raise EINVAL
    return 0


@syscall("sched_rr_get_interval")
def sys_sched_rr_get_interval(task: Task, pid: Pid, interval: UserPtr) -> int:
    """sched_rr_get_interval(2): the slice of a thread."""
    target = _target(task, pid)
    task.mm.write(interval, struct.pack("<qq", *divmod(task.kernel.sched.slice_ns(target), 10**9)))
    return 0


@syscall("sched_getaffinity")
def sys_sched_getaffinity(task: Task, pid: Pid, cpusetsize: UInt, mask: UserPtr) -> int:
    """sched_getaffinity(2): the CPUs a thread may use."""
    if cpusetsize < 8 or cpusetsize % 8:
        raise EINVAL
    task.mm.write_u64(mask, _target(task, pid).entity.affinity or _all_cpus(task))
    return 8


def _all_cpus(task: Task) -> int:
    return (1 << task.kernel.machine.cpus) - 1


@syscall("sched_setaffinity")
def sys_sched_setaffinity(task: Task, pid: Pid, cpusetsize: UInt, mask: UserPtr) -> int:
    """sched_setaffinity(2): choose the CPUs of a thread.

    Partial: the mask is kept and reported; CPUs are alike, and tasks have no fixed one.
    """
    target = _target(task, pid)
    wanted = int.from_bytes(task.mm.read(mask, min(cpusetsize, 128)), "little") & _all_cpus(task)
    if not wanted:
        raise EINVAL
    if target.creds.uid not in (task.creds.euid,) and not task.creds.has_cap(CAP_SYS_NICE):
        raise EPERM
    target.entity.affinity = wanted
    return 0


@syscall("sched_getattr")
def sys_sched_getattr(task: Task, pid: Pid, attr: UserPtr, size: UInt, flags: UInt) -> int:
    """sched_getattr(2): policy and parameters of a thread."""
    if size < SCHED_ATTR_V0 or size > 4096 or flags:
        raise EINVAL
    entity = _target(task, pid).entity
    raw = SCHED_ATTR.pack(min(size, SCHED_ATTR.size), entity.policy, 0, entity.nice, 0, 0, 0, 0, 0, 0)
    task.mm.write(attr, raw[:size].ljust(size, b"\0"))
    return 0


@syscall("sched_setattr")
def sys_sched_setattr(task: Task, pid: Pid, attr: UserPtr, flags: UInt) -> Result:
    """sched_setattr(2): set policy and parameters of a thread.

    Partial: as sched_setscheduler.
    """
    if flags:
        raise EINVAL
    size = task.mm.read_u32(attr) or SCHED_ATTR_V0
    if not SCHED_ATTR_V0 <= size <= 4096:
        task.mm.write_u32(attr, SCHED_ATTR.size)
        raise E2BIG
    raw = task.mm.read(attr, size)
    if any(raw[SCHED_ATTR.size :]):
        raise E2BIG
    _, policy, _, nice, priority, *_ = SCHED_ATTR.unpack(raw[: SCHED_ATTR.size].ljust(SCHED_ATTR.size, b"\0"))
    target = _target(task, pid)
    _set_policy(task, target, policy, priority)
    if not -20 <= nice <= 19:
        raise EINVAL
    if nice < target.entity.nice and not _may_raise(task, nice):
        raise EPERM
    task.kernel.sched.set_nice(target, nice)
    return 0


