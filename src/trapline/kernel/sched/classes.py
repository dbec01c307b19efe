"""The scheduler: real-time tasks before fair ones.

A task's class follows from its entity: `priority` is not 0 for real-time tasks. Hot: `waiting`, `charge` and `slice_ns` run in
every trap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from trapline.typed import TYPE_CHECKING

from trapline.abi.sched import SCHED_RR
from trapline.kernel.sched.entity import NICE_0_WEIGHT, Entity
from trapline.kernel.sched.fair import FairQueue
from trapline.kernel.sched.realtime import RR_SLICE_NS, RealtimeQueue

if TYPE_CHECKING:
    from trapline.kernel.sched.interface import Ordinary
    from trapline.kernel.task.task import Task


class ClassScheduler:
    """Implements `interface.Scheduler`. `ordinary`: the class of tasks that are not real-time ones; the fair one if None."""

    def __init__(self, now_ns: Callable[[], int], ordinary: Ordinary | None = None) -> None:
        self._fair: Ordinary = FairQueue() if ordinary is None else ordinary
        self._realtime = RealtimeQueue(now_ns)
        self._count = 0
        self.urgent = False
        self.careful = False

    # ---- tasks

    def inherit(self, parent: Task) -> Entity:
        return self._entity(parent).fork(self._fair.clock_ns)

    def born(self, task: Task) -> None:
        self._entity(task)

    def _entity(self, task: Task) -> Entity:
        entity: Entity | None = task.entity
        if entity is None:
            entity = task.entity = Entity(vruntime_ns=self._fair.clock_ns)
        return entity

    # ---- the queues

    def enqueue(self, task: Task, woken: bool) -> None:
        entity = task.entity
        if entity.queued:
            return
        entity.queued = True
        self._count += 1
        if entity.priority:
            self._realtime.enqueue(task, entity)
            self.urgent = True
        else:
            self._fair.enqueue(task, entity, woken)

    def pick(self, free: int) -> Task | None:
        task = None
        if self._realtime.count and not (self._fair.count and self._realtime.spent()):
            task = self._realtime.pick(free)
        if task is None:
            task = self._fair.pick_bound(free) if self.careful else self._fair.pick()
        if task is not None:
            self._count -= 1
        return task

    def fits(self, task: Task, free: int) -> bool:
        return self._entity(task).fits(free)

    def dequeue(self, task: Task) -> None:
        entity = task.entity
        self._realtime.left(task)
        if entity is None or not entity.queued:
            return
        entity.queued = False
        self._count -= 1
        if entity.priority:
            self._realtime.dequeue(task, entity)
        else:
            self._fair.dequeue(entity)

    def waiting(self) -> int:
        return self._count

    # ---- time

    def charge(self, task: Task) -> None:
        entity = task.entity
        total = task.utime_ns + task.stime_ns
        used = total - entity.charged_ns
        entity.charged_ns = total
        if entity.priority:
            self._realtime.charge(task, entity, used)
        else:
            entity.vruntime_ns += used * NICE_0_WEIGHT // entity.weight

    def slice_ns(self, task: Task) -> int:
        entity = task.entity
        return self._realtime.slice_ns(task, entity) if entity.priority else self._fair.slice_ns(entity)

    def interval_ns(self, task: Task) -> int:
        entity = self._entity(task)
        if entity.priority:
            return RR_SLICE_NS if entity.policy == SCHED_RR else 0
        return self._fair.slice_ns(entity)

    def displaced(self, running: Iterable[Task]) -> list[Task]:
        self.urgent = False
        safe = self._realtime.spent()  # the fair ones have their share now
        lowest = sorted((each for each in running if _rank(each) or not safe), key=_rank)
        found = []
        for waiting in self._realtime.waiting():
            rank = _rank(waiting)
            task = next((each for each in lowest if _rank(each) < rank and waiting.entity.fits(1 << each.cpu)), None)
            if task is not None:
                lowest.remove(task)
                found.append(task)
        return found

    def give_way(self, task: Task) -> None:
        entity = self._entity(task)
        if entity.priority:
            entity.to_tail = True
        else:
            self._fair.give_way(entity)

    # ---- what system calls change

    def set_nice(self, task: Task, nice: int) -> None:
        entity = self._entity(task)
        entity.nice = nice
        entity.weigh()

    def bind(self, task: Task, mask: int) -> None:
        self._entity(task).affinity = mask
        self.careful = self.careful or mask != 0

    def set_policy(self, task: Task, policy: int, priority: int) -> None:
        entity = self._entity(task)
        entity.own_priority = priority
        if entity.lent < 99:
            priority = max(priority, 99 - entity.lent)
        self._move(task, entity, policy, priority)

    def lend(self, task: Task, rank: int) -> None:
        entity = self._entity(task)
        entity.lent = rank
        priority = max(entity.own_priority, 99 - rank)
        if priority != entity.priority:
            self._move(task, entity, entity.policy, priority)

    def _move(self, task: Task, entity: Entity, policy: int, priority: int) -> None:
        """From now on `task` is scheduled as of this policy and effective priority."""
        old = entity.priority
        queued = entity.queued and priority != old  # else it keeps its place
        if queued:
            self.dequeue(task)
        if not priority:
            self._realtime.left(task)
        entity.policy, entity.priority = policy, priority
        entity.left_ns = RR_SLICE_NS
        entity.to_tail = priority > old  # sched(7), "SCHED_FIFO": lowered, it goes to the front
        entity.vruntime_ns = max(entity.vruntime_ns, self._fair.clock_ns)
        entity.weigh()
        self.careful = self.careful or priority > 0
        if queued:
            self.enqueue(task, True)
        self.urgent = self.urgent or self._realtime.count > 0


def _rank(task: Task) -> int:
    priority: int = task.entity.priority
    return priority
