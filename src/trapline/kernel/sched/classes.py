"""The scheduler: tasks with deadlines before real-time ones, and these before fair ones.

A task's class follows from its entity's `priority`: 0 for fair tasks, 1 to 99 for real-time ones, above that with a deadline;
the class of those is made when the first one is. Hot: `waiting`, `charge` and `slice_ns` run in every trap, and ask of fair
tasks no more than that they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from trapline.typed import TYPE_CHECKING

from trapline.abi.sched import SCHED_DEADLINE, SCHED_RR
from trapline.kernel.sched.entity import NICE_0_WEIGHT, Entity
from trapline.kernel.sched.fair import FairQueue
from trapline.kernel.sched.realtime import RR_SLICE_NS, RealtimeQueue

if TYPE_CHECKING:
    from trapline.kernel.sched.deadline import DeadlineQueue, Wanted
    from trapline.kernel.sched.interface import Ordinary
    from trapline.kernel.task.task import Task


class ClassScheduler:
    """Implements `interface.Scheduler`. `ordinary`: the class of tasks that are not real-time ones; the fair one if None."""

    def __init__(self, now_ns: Callable[[], int], ordinary: Ordinary | None = None) -> None:
        self._fair: Ordinary = FairQueue() if ordinary is None else ordinary
        self._realtime = RealtimeQueue(now_ns)
        self._deadline: DeadlineQueue | None = None
        self._now_ns = now_ns
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
        if not entity.priority:
            self._fair.enqueue(task, entity, woken)
        elif entity.priority > 99 and self._deadline is not None:
            if not self._deadline.enqueue(task, entity):
                return
            self.urgent = True
        else:
            self._realtime.enqueue(task, entity)
            self.urgent = True
        self._count += 1

    def pick(self, free: int) -> Task | None:
        task = self._pick_carefully(free) if self.careful else self._fair.pick()
        if task is not None:
            self._count -= 1
        return task

    def _pick_carefully(self, free: int) -> Task | None:
        task = None if self._deadline is None else self._deadline.pick(free)
        if task is None and self._realtime.count and not (self._fair.count and self._realtime.spent()):
            task = self._realtime.pick(free)
        return self._fair.pick_bound(free) if task is None else task

    def fits(self, task: Task, free: int) -> bool:
        entity = self._entity(task)
        if entity.priority > 99 and self._deadline is not None:
            self.charge(task)
            return self._deadline.may_run(task, entity) and entity.fits(free)
        return entity.fits(free)

    def goes_on(self, task: Task) -> bool:
        if self.careful:
            return False
        self.charge(task)
        return self._fair.goes_on(task.entity)

    def dequeue(self, task: Task) -> None:
        entity = task.entity
        self._realtime.left(task)
        if entity is None or not entity.queued:
            return
        entity.queued = False
        if not entity.priority:
            self._fair.dequeue(entity)
        elif entity.priority > 99 and self._deadline is not None:
            if not self._deadline.dequeue(task, entity):
                return
        else:
            self._realtime.dequeue(task, entity)
        self._count -= 1

    def ends(self, task: Task) -> None:
        if self._deadline is not None and task.entity.reservation is not None:
            task.entity.reservation.indulge()
            self._deadline.release(task)

    def ended(self, task: Task) -> None:
        self.dequeue(task)
        if self._deadline is not None and task.entity is not None:
            self._deadline.leave(task.entity)

    def waiting(self) -> int:
        return self._count

    # ---- time

    def charge(self, task: Task) -> None:
        entity = task.entity
        total = task.utime_ns + task.stime_ns
        used = total - entity.charged_ns
        entity.charged_ns = total
        if not entity.priority:
            entity.vruntime_ns += used * NICE_0_WEIGHT // entity.weight
        elif entity.priority > 99 and self._deadline is not None:
            self._deadline.charge(task, entity, used)
        else:
            self._realtime.charge(task, entity, used)

    def slice_ns(self, task: Task) -> int:
        entity = task.entity
        if not entity.priority:
            return self._fair.slice_ns(entity)
        if entity.priority > 99 and self._deadline is not None:
            return self._deadline.slice_ns(task, entity)
        return self._realtime.slice_ns(task, entity)

    def interval_ns(self, task: Task) -> int:
        entity = self._entity(task)
        if entity.priority:
            return RR_SLICE_NS if entity.policy == SCHED_RR else 0
        return self._fair.slice_ns(entity)

    def displaced(self, running: Iterable[Task]) -> list[Task]:
        self.urgent = False
        lowest = sorted(running, key=_rank)
        found = [] if self._deadline is None else _displace(self._deadline.waiting(), lowest)
        if self._realtime.spent():  # the fair ones have their share now
            lowest = [each for each in lowest if _rank(each)]
        return found + _displace(self._realtime.waiting(), lowest)

    def give_way(self, task: Task) -> None:
        entity = self._entity(task)
        if entity.reservation is not None:
            entity.reservation.yielded = True
        elif entity.priority:
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
        queued = entity.queued
        if self._deadline is not None and entity.reservation is not None:
            self.dequeue(task)
            self._deadline.leave(entity)
        entity.own_priority = priority
        self._move(task, entity, policy, entity.effective())
        if queued:
            self.enqueue(task, True)

    def reserve(self, task: Task, wanted: Wanted) -> bool:
        entity = self._entity(task)
        if self._deadline is None:
            from trapline.kernel.sched.deadline import DeadlineQueue

            self._deadline = DeadlineQueue(self._now_ns, task.kernel.timers, task.kernel.machine.cpus, self._ready)
        self.charge(task)  # what it has run until now is not to be taken off
        had = entity.reservation
        entity.charged_ns += self._now_ns() - task.user_since_ns if task.on_cpu else 0
        if not self._deadline.admit(entity, wanted):
            return False
        if had is None:
            entity.own_priority = 0
            self._move(task, entity, SCHED_DEADLINE, entity.effective())
        return True

    def _ready(self) -> None:
        """Somebody's throttling is over."""
        self._count += 1
        self.urgent = True

    def lend(self, task: Task, rank: int) -> None:
        entity = self._entity(task)
        entity.lent = rank
        priority = entity.effective()
        if priority != entity.priority:
            self._move(task, entity, entity.policy, priority)
        if self._deadline is not None and rank < 0:
            self._deadline.release(task)

    def _move(self, task: Task, entity: Entity, policy: int, priority: int) -> None:
        """From now on `task` is scheduled as of this policy and effective priority."""
        old = entity.priority
        queued = entity.queued and priority != old  # else it keeps its place
        if queued:
            self.dequeue(task)
        if not 0 < priority < 100:
            self._realtime.left(task)
        entity.policy, entity.priority = policy, priority
        entity.left_ns = RR_SLICE_NS
        entity.to_tail = priority > old  # sched(7), "SCHED_FIFO": lowered, it goes to the front
        entity.vruntime_ns = max(entity.vruntime_ns, self._fair.clock_ns)
        entity.weigh()
        self.careful = self.careful or priority > 0
        if queued:
            self.enqueue(task, True)
        self.urgent = self.urgent or self._realtime.count > 0 or self._deadline is not None


def _displace(waiting: Iterable[Task], lowest: list[Task]) -> list[Task]:
    """Who of `lowest`, sorted, must make room for those that wait; they are taken out of it."""
    found = []
    for each in waiting:
        rank = _rank(each)
        task = next((other for other in lowest if _rank(other) < rank and each.entity.fits(1 << other.cpu)), None)
        if task is not None:
            lowest.remove(task)
            found.append(task)
    return found


def _rank(task: Task) -> int:
    priority: int = task.entity.priority
    return priority
