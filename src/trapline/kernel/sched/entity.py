"""Entity: what the scheduler keeps of one task, whatever its class."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.sched import DEFAULT_PRIO, MAX_PRIO, SCHED_DEADLINE, SCHED_IDLE, SCHED_OTHER

if TYPE_CHECKING:
    from trapline.kernel.sched.deadline import Reservation

NICE_0_WEIGHT = 1024
IDLE_WEIGHT = 3
#: weight of nice -20..19: each step is about 25 % of CPU (sched_prio_to_weight in kernel/sched/core.c)
WEIGHTS = tuple(round(NICE_0_WEIGHT / 1.25**nice) for nice in range(-20, 20))


def urgency(due_ns: int) -> int:
    """The priority of a task whose deadline is at `due_ns`: above every real-time one, and the higher the nearer."""
    return (1 << 64) - due_ns


class Entity:
    """`nice` is kept while the policy is a real-time one, as `own_priority` is 0 while it is not.

    `priority`, which the queues go by, is `own_priority`, or the urgency of a deadline; or that of who waits for a lock of the
    task, if it is higher.
    """

    __slots__ = (
        "affinity", "busy_ns", "charged_ns", "key", "left_ns", "lent", "nice", "own_priority", "policy", "priority",
        "queued", "reservation", "reset_on_fork", "to_tail", "vruntime_ns", "weight",
    )  # fmt: skip

    def __init__(self, nice: int = 0, vruntime_ns: int = 0) -> None:
        self.policy = SCHED_OTHER
        self.nice = nice
        self.own_priority = 0  #: 1 to 99 for SCHED_FIFO and SCHED_RR
        self.priority = 0  #: what counts: the own one, or one that is lent
        self.lent = MAX_PRIO  #: the best rank among those who wait for a lock of the task's
        self.reset_on_fork = False
        self.affinity = 0  #: mask of CPUs; 0: any
        self.charged_ns = 0  #: how much of the task's CPU time was charged
        self.queued = False
        # the fair class's
        self.weight = WEIGHTS[nice + 20]
        self.vruntime_ns = vruntime_ns
        self.key = 0  #: of its entry in the heap; older entries are stale
        # the real-time class's
        self.left_ns = 0  #: of its slice
        self.busy_ns = 0  #: how long it has run since it slept last: what RLIMIT_RTTIME limits
        self.to_tail = True  #: it slept, yielded or used its slice up: it goes behind its equals
        self.reservation: Reservation | None = None  #: the deadline class's

    def fits(self, free: int) -> bool:
        """The task may run on one of the CPUs of the mask `free`."""
        return not self.affinity or bool(self.affinity & free)

    def own(self) -> int:
        """The task's own priority: 0 for ordinary tasks, 1 to 99 for real-time ones, above that with a deadline."""
        return self.own_priority if self.reservation is None else urgency(self.reservation.due_ns)

    def effective(self) -> int:
        """What `priority` is to be."""
        own = self.own()
        return max(own, 99 - self.lent) if self.lent < 99 else own

    def rank(self) -> int:
        """The task's place among all: smaller goes first; below 0 with a deadline."""
        own = self.own()
        return min(99 - own if own else DEFAULT_PRIO + self.nice, self.lent)

    def weigh(self) -> None:
        """`nice` or `policy` changed."""
        self.weight = IDLE_WEIGHT if self.policy == SCHED_IDLE else WEIGHTS[self.nice + 20]

    def fork(self, vruntime_ns: int) -> Entity:
        """What a child starts with: nothing that is lent; SCHED_RESET_ON_FORK: nothing privileged (sched(7))."""
        child = Entity(self.nice, vruntime_ns)
        child.policy, child.own_priority, child.affinity = self.policy, self.own_priority, self.affinity
        if self.reset_on_fork and (self.own_priority or self.policy == SCHED_DEADLINE):
            child.policy, child.own_priority, child.nice = SCHED_OTHER, 0, 0
        elif self.reset_on_fork:
            child.nice = max(0, self.nice)
        child.priority = child.own_priority
        child.weigh()
        return child
