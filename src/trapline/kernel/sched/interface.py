"""The scheduling interface: what the trap loop asks, whatever class answers; and what sched(7)'s system calls change.

Invariant: a task is in at most one queue, and never while it is on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from trapline.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from trapline.kernel.sched.deadline import Wanted
    from trapline.kernel.sched.entity import Entity
    from trapline.kernel.task.task import Task


class Scheduler(Protocol):
    """Who runs next."""

    urgent: bool  #: somebody waits who may go before one that runs: ask `displaced`
    careful: bool  #: there are tasks with deadlines, real-time or bound ones: nobody passes the queues, nor goes without `fits`

    def inherit(self, parent: Task) -> Entity:
        """The scheduling state of a new child of `parent`."""

    def born(self, task: Task) -> None:
        """A new task; it is queued later."""

    def enqueue(self, task: Task, woken: bool) -> None:
        """`task` wants a CPU; `woken`: it slept, or is new, rather than was preempted."""

    def pick(self, free: int) -> Task | None:
        """Take the task that is to run next on one of the CPUs of the mask `free`."""

    def goes_on(self, task: Task) -> bool:
        """`task` has trapped, and wants to go on; others wait. May it, before them?"""

    def fits(self, task: Task, free: int) -> bool:
        """`task` may run on one of the CPUs of the mask `free`."""

    def dequeue(self, task: Task) -> None:
        """`task` no longer wants a CPU; no effect if it was not queued."""

    def ends(self, task: Task) -> None:
        """`task` is to end: no share of a CPU holds it up any more."""

    def ended(self, task: Task) -> None:
        """`task` is no more."""

    def waiting(self) -> int:
        """How many tasks are queued, and may run now."""

    def charge(self, task: Task) -> None:
        """`task` used CPU time: its `utime_ns` and `stime_ns` have grown."""

    def slice_ns(self, task: Task) -> int:
        """`task` goes to user mode: how long it may stay while others wait."""

    def displaced(self, running: Iterable[Task]) -> list[Task]:
        """Which of the tasks in user mode must make room for those that wait."""

    def give_way(self, task: Task) -> None:
        """sched_yield(2): `task`, which runs, lets others of its rank go first."""

    def interval_ns(self, task: Task) -> int:
        """sched_rr_get_interval(2): the length of a slice; 0: without end."""

    def set_nice(self, task: Task, nice: int) -> None:
        """Give `task` a nice value of -20 to 19."""

    def bind(self, task: Task, mask: int) -> None:
        """`task` may run on the CPUs of `mask` only; 0: on any. It may be on another one still."""

    def set_policy(self, task: Task, policy: int, priority: int) -> None:
        """Move `task` to the class of `policy` (SCHED_*); `priority` is 1 to 99 for real-time ones, else 0."""

    def reserve(self, task: Task, wanted: Wanted) -> bool:
        """Move `task` to the deadline class, or change what is set aside for it; False if so much is not to be had."""

    def lend(self, task: Task, rank: int) -> None:
        """Somebody of that rank (`entity.rank`) waits for `task`, which counts as no less urgent; MAX_PRIO: nobody does."""


class Ordinary(Protocol):
    """A class of tasks that are not real-time ones: `fair.FairQueue`, or another in its place."""

    clock_ns: int  #: what a new task begins with as its virtual run time

    @property
    def count(self) -> int:
        """How many wait."""

    def enqueue(self, task: Task, entity: Entity, woken: bool) -> None:
        """`entity.queued` is set already; `woken` as for a scheduler."""

    def pick(self) -> Task | None:
        """Take who is next; `entity.queued` is false then."""

    def goes_on(self, entity: Entity) -> bool:
        """As for a scheduler; what the task has run is charged already."""

    def pick_bound(self, free: int) -> Task | None:
        """As `pick`, who is next of those that may run on one of the CPUs `free`."""

    def dequeue(self, entity: Entity) -> None:
        """One that waits no longer; `entity.queued` is false already."""

    def slice_ns(self, entity: Entity) -> int:
        """How long it may stay while others wait."""

    def give_way(self, entity: Entity) -> None:
        """It lets others go first."""
