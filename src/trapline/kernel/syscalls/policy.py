"""Giving a thread another scheduling policy: what sched(7) checks, in Linux's order."""

from __future__ import annotations

from functools import partial
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.abi import resource as r
from trapline.abi import sched as s
from trapline.abi.capability import CAP_SYS_NICE
from trapline.abi.errno import EBUSY, EINVAL, EOPNOTSUPP, EPERM
from trapline.abi.signal import SI_KERNEL, SIGXCPU
from trapline.kernel.ipc.futex import inherit
from trapline.kernel.syscalls.priority import same_owner, within_nice_limit
from trapline.kernel.task.signals.mask import interrupt
from trapline.kernel.task.signals.send import SigInfo, send_to_group
from trapline.kernel.task.task import WORK_RESCHED

if TYPE_CHECKING:
    from trapline.kernel.sched.entity import Entity
    from trapline.kernel.task.task import Task

FAIR = (s.SCHED_OTHER, s.SCHED_BATCH)
POLICIES = (s.SCHED_OTHER, s.SCHED_BATCH, s.SCHED_IDLE)
REALTIME = (s.SCHED_FIFO, s.SCHED_RR)
KEEP = -1  #: the policy the thread has
DEADLINE_FLAGS = s.SCHED_FLAG_RECLAIM | s.SCHED_FLAG_DL_OVERRUN
SHORTEST_RUNTIME_NS = 1024
PERIODS_NS = range(100_000, (1 << 22) * 1000 + 1)  #: what Linux's sched_deadline_period_min_us and _max_us are by default


class Attr(NamedTuple):
    """struct sched_attr; `policy` may be KEEP; times in nanoseconds."""

    policy: int
    flags: int
    priority: int
    nice: int
    runtime: int = 0
    deadline: int = 0
    period: int = 0


def times_of(entity: Entity) -> tuple[int, int, int]:
    """Run time, deadline and period of a thread, in ns: 0 unless it has a deadline."""
    mine = entity.reservation
    return (0, 0, 0) if mine is None else (mine.wanted.runtime_ns, mine.wanted.deadline_ns, mine.wanted.period_ns)


def kept(target: Task, attr: Attr) -> Attr:
    """`attr` with the parameters that `target` has: SCHED_FLAG_KEEP_PARAMS."""
    entity, flags = target.entity, attr.flags
    if entity.reservation is not None:
        flags = flags & ~DEADLINE_FLAGS | entity.reservation.wanted.flags
    return Attr(attr.policy, flags, entity.own_priority, entity.nice, *times_of(entity))


def change(task: Task, target: Task, attr: Attr) -> int:
    """Give `target` a policy. Raises EINVAL for what makes no sense, EPERM, EOPNOTSUPP, EBUSY."""
    entity, sched = target.entity, task.kernel.sched
    reset = bool(attr.flags & s.SCHED_FLAG_RESET_ON_FORK)
    if attr.policy == KEEP:
        attr, reset = attr._replace(policy=entity.policy), entity.reset_on_fork
    _check(attr)
    if _needs_privilege(task, target, attr, reset) and not task.creds.has_cap(CAP_SYS_NICE):
        raise EPERM
    if attr.flags & s.SCHED_FLAG_UTIL_CLAMP:
        raise EOPNOTSUPP
    if attr.policy == s.SCHED_DEADLINE:
        _reserve(target, attr)
    else:
        if attr.policy in FAIR:
            sched.set_nice(target, attr.nice)
        sched.set_policy(target, attr.policy, attr.priority)
    entity.reset_on_fork = reset
    inherit.reprioritised(target)
    resched(target, task)
    return 0


def _check(attr: Attr) -> None:
    if attr.policy not in (*POLICIES, *REALTIME, s.SCHED_DEADLINE):
        raise EINVAL("policy")
    if attr.flags & ~s.SCHED_FLAG_ALL:
        raise EINVAL("sched_flags")
    if not 0 <= attr.priority <= 99 or (attr.policy in REALTIME) != (attr.priority != 0):
        raise EINVAL("priority")
    if attr.policy == s.SCHED_DEADLINE:
        period = attr.period or attr.deadline
        if not SHORTEST_RUNTIME_NS <= attr.runtime <= attr.deadline <= period or period not in PERIODS_NS:
            raise EINVAL("1024 ns <= runtime <= deadline <= period, and a period of 100 us to 4.19 s")


def _reserve(target: Task, attr: Attr) -> None:
    """Set time aside for `target`, of all CPUs alike. Raises EPERM, EBUSY."""
    from trapline.kernel.sched.deadline import Wanted

    flags, period = attr.flags & DEADLINE_FLAGS, attr.period or attr.deadline
    entity = target.entity
    mine = entity.reservation
    if mine is not None and (*times_of(entity), mine.wanted.flags) == (attr.runtime, attr.deadline, period, flags):
        return
    if entity.affinity:
        raise EPERM("SCHED_DEADLINE takes all CPUs, and the thread may use some only")
    overran = partial(send_to_group, target.group, SigInfo(SIGXCPU, SI_KERNEL))
    if not target.kernel.sched.reserve(target, Wanted(attr.runtime, attr.deadline, period, flags, overran)):
        raise EBUSY("no bandwidth left for SCHED_DEADLINE")


def resched(target: Task, caller: Task) -> None:
    """If `target` runs, whether it still may is asked again at once."""
    if target.on_cpu or target is caller:
        target.work |= WORK_RESCHED
        interrupt(target)


def _needs_privilege(task: Task, target: Task, attr: Attr, reset: bool) -> bool:
    """sched(7), "Privileges and resource limits"."""
    entity, policy = target.entity, attr.policy
    limit = target.group.rlimits[r.RLIMIT_RTPRIO][0]
    if policy in REALTIME:
        raises = attr.priority > entity.own_priority and attr.priority > limit
        denied = raises or (policy != entity.policy and not limit)
    elif policy == s.SCHED_DEADLINE:
        denied = True
    else:
        denied = policy in FAIR and attr.nice < entity.nice and not within_nice_limit(target, attr.nice)
    leaves_idle = entity.policy == s.SCHED_IDLE and policy != s.SCHED_IDLE
    return (
        denied
        or (leaves_idle and not within_nice_limit(target, entity.nice))
        or not same_owner(task, target)
        or (entity.reset_on_fork and not reset)
    )
