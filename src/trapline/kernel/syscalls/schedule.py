"""How threads are scheduled: sched(7), sched_setscheduler(2), sched_setattr(2), sched_setaffinity(2) and their kin."""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import sched as s
from trapline.abi.capability import CAP_SYS_NICE
from trapline.abi.errno import E2BIG, EBUSY, EINVAL, EPERM, ESRCH
from trapline.kernel.sched.entity import Entity
from trapline.kernel.syscalls.declare import Arg, Pid, UInt, UserPtr, syscall
from trapline.kernel.syscalls.policy import KEEP, POLICIES, REALTIME, Attr, change, kept, resched, times_of
from trapline.kernel.syscalls.priority import same_owner
from trapline.kernel.task.task import WORK_RESCHED

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Policy = Annotated[int, Arg(-32, "enum:SCHED_POLICIES")]
#: struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
SCHED_ATTR = struct.Struct("<IIQiIQQQII")
SCHED_ATTR_V0 = 48
MAX_MASK = 128  #: bytes of a CPU mask that are looked at


def _target(task: Task, pid: int) -> Task:
    """The thread that is to be changed; pid 1 is the kernel's own process, and not to be: EPERM."""
    if pid < 0:
        raise EINVAL
    return _thread(task, pid)


def _thread(task: Task, pid: int) -> Task:
    """As `_target`, for the calls on affinity, to which a negative number is one that nobody has: ESRCH."""
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None:
        raise EPERM if pid == task.kernel.init.pid else ESRCH
    return target


def _look(task: Task, pid: int) -> Entity:
    """How a thread is scheduled; pid 1 as one that nobody ever changed."""
    if pid < 0:
        raise EINVAL
    return _entity(task, pid)


def _entity(task: Task, pid: int) -> Entity:
    """As `_look`, for the calls on affinity."""
    if pid == task.kernel.init.pid and pid not in task.kernel.tasks:
        return Entity()
    entity: Entity = _thread(task, pid).entity
    return entity


@syscall("sched_yield")
def sys_sched_yield(task: Task) -> int:
    """sched_yield(2): let others run."""
    task.kernel.sched.give_way(task)
    task.work |= WORK_RESCHED
    return 0


# ---- policy and priority


@syscall("sched_getscheduler")
def sys_sched_getscheduler(task: Task, pid: Pid) -> int:
    """sched_getscheduler(2): the policy of a thread, with SCHED_RESET_ON_FORK if it is set."""
    entity = _look(task, pid)
    return int(entity.policy) | (s.SCHED_RESET_ON_FORK if entity.reset_on_fork else 0)


@syscall("sched_setscheduler")
def sys_sched_setscheduler(task: Task, pid: Pid, policy: Policy, param: UserPtr) -> int:
    """sched_setscheduler(2): set the policy of a thread.

    SCHED_DEADLINE needs times, which only sched_setattr(2) can give: EINVAL.
    """
    if policy < 0 or not param or pid < 0:
        raise EINVAL
    priority = _read_priority(task, param)
    target = _target(task, pid)
    flags = s.SCHED_FLAG_RESET_ON_FORK if policy & s.SCHED_RESET_ON_FORK else 0
    return change(task, target, Attr(policy & ~s.SCHED_RESET_ON_FORK, flags, priority, target.entity.nice))


@syscall("sched_setparam")
def sys_sched_setparam(task: Task, pid: Pid, param: UserPtr) -> int:
    """sched_setparam(2): set the priority within the policy."""
    if not param or pid < 0:
        raise EINVAL
    priority = _read_priority(task, param)
    target = _target(task, pid)
    return change(task, target, Attr(KEEP, 0, priority, target.entity.nice))


def _read_priority(task: Task, param: int) -> int:
    return int.from_bytes(task.mm.read(param, 4), "little", signed=True)


@syscall("sched_getparam")
def sys_sched_getparam(task: Task, pid: Pid, param: UserPtr) -> int:
    """sched_getparam(2): the priority within the policy."""
    if not param:
        raise EINVAL
    task.mm.write_u32(param, _look(task, pid).own_priority)
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
    """sched_rr_get_interval(2): the slice of a thread; 0 for SCHED_FIFO, which has no end, and for pid 1, which never runs."""
    is_init = pid == task.kernel.init.pid and pid not in task.kernel.tasks
    slice_ns = 0 if is_init else task.kernel.sched.interval_ns(_target(task, pid))
    task.mm.write(interval, struct.pack("<qq", *divmod(slice_ns, 10**9)))
    return 0


# ---- attributes


@syscall("sched_getattr")
def sys_sched_getattr(task: Task, pid: Pid, attr: UserPtr, size: UInt, flags: UInt) -> int:
    """sched_getattr(2): policy and parameters of a thread."""
    if not attr or pid < 0 or not SCHED_ATTR_V0 <= size <= 4096 or flags:
        raise EINVAL
    entity = _look(task, pid)
    attr_flags = s.SCHED_FLAG_RESET_ON_FORK if entity.reset_on_fork else 0
    if entity.reservation is not None:
        attr_flags |= entity.reservation.wanted.flags
    nice = 0 if entity.own() else entity.nice
    length = min(size, SCHED_ATTR.size)
    raw = SCHED_ATTR.pack(length, entity.policy, attr_flags, nice, entity.own_priority, *times_of(entity), 0, 0)
    task.mm.write(attr, raw[:length].ljust(size, b"\0"))
    return 0


@syscall("sched_setattr")
def sys_sched_setattr(task: Task, pid: Pid, attr: UserPtr, flags: UInt) -> int:
    """sched_setattr(2): set policy and parameters of a thread.

    Partial: utilisation clamps fail with EOPNOTSUPP, as without CONFIG_UCLAMP_TASK.
    """
    if not attr or pid < 0 or flags:
        raise EINVAL
    wanted = _read_attr(task, attr)
    if wanted.flags & s.SCHED_FLAG_KEEP_POLICY:
        wanted = wanted._replace(policy=KEEP)
    target = _target(task, pid)
    if wanted.flags & s.SCHED_FLAG_KEEP_PARAMS:
        wanted = kept(target, wanted)
    return change(task, target, wanted)


def _read_attr(task: Task, attr: int) -> Attr:
    """Raises E2BIG after writing the size that is known."""
    raw = task.mm.read(attr, 4)
    size = int.from_bytes(raw, "little") or SCHED_ATTR_V0
    known = False
    if SCHED_ATTR_V0 <= size <= 4096:
        raw += task.mm.read(attr + 4, size - 4)
        known = not any(raw[SCHED_ATTR.size :])
    if not known:
        task.mm.write_u32(attr, SCHED_ATTR.size)
        raise E2BIG
    _, policy, flags, nice, priority, *times, _, _ = SCHED_ATTR.unpack(raw[: SCHED_ATTR.size].ljust(SCHED_ATTR.size, b"\0"))
    if flags & s.SCHED_FLAG_UTIL_CLAMP and size < SCHED_ATTR.size:
        raise EINVAL
    if policy >> 31:
        raise EINVAL("policy")
    return Attr(policy, flags, priority, max(-20, min(19, nice)), *times)


# ---- affinity


@syscall("sched_getaffinity")
def sys_sched_getaffinity(task: Task, pid: Pid, cpusetsize: UInt, mask: UserPtr) -> int:
    """sched_getaffinity(2): the CPUs a thread may use."""
    if cpusetsize * 8 < task.kernel.machine.cpus or cpusetsize % 8:
        raise EINVAL
    task.mm.write_u64(mask, _entity(task, pid).affinity or all_cpus(task))
    return 8


def all_cpus(task: Task) -> int:
    return (1 << task.kernel.machine.cpus) - 1


@syscall("sched_setaffinity")
def sys_sched_setaffinity(task: Task, pid: Pid, cpusetsize: UInt, mask: UserPtr) -> int:
    """sched_setaffinity(2): choose the CPUs of a thread.

    CPUs are the kernel's own: each runs one thread at a time, on whatever CPU the machine has for it.
    """
    wanted = int.from_bytes(task.mm.read(mask, min(cpusetsize, MAX_MASK)), "little") & all_cpus(task)
    target = _thread(task, pid)
    if not same_owner(task, target) and not task.creds.has_cap(CAP_SYS_NICE):
        raise EPERM
    if target.entity.reservation is not None and wanted != all_cpus(task):
        raise EBUSY("SCHED_DEADLINE takes all CPUs")
    if not wanted:
        raise EINVAL
    task.kernel.sched.bind(target, wanted if wanted != all_cpus(task) else 0)
    if not wanted >> target.cpu & 1:
        resched(target, task)
    return 0
