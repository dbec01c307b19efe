"""The fair class: the task that has run least, weighed by its nice value, runs next.

Virtual run time advances at 1024/weight of real time; the queue is a heap of it. A task that slept does not come back with
more than a slice of credit, so sleeping earns no monopoly.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

SLICE_NS = 10_000_000
NICE_0_WEIGHT = 1024
#: weight of nice -20..19: each step is about 25 % of CPU (sched_prio_to_weight in kernel/sched/core.c)
WEIGHTS = tuple(round(NICE_0_WEIGHT / 1.25**nice) for nice in range(-20, 20))


class FairEntity:
    """What the fair class keeps of a task."""

    __slots__ = ("affinity", "key", "nice", "policy", "queued", "vruntime_ns", "weight")

    def __init__(self, nice: int = 0, vruntime_ns: int = 0) -> None:
        self.nice = nice
        self.weight = WEIGHTS[nice + 20]
        self.vruntime_ns = vruntime_ns
        self.policy = 0  #: SCHED_OTHER, SCHED_BATCH or SCHED_IDLE
        self.affinity = 0  #: mask of CPUs; 0: any
        self.queued = False
        self.key = 0  #: of its entry in the heap; older entries are stale


class FairScheduler:
    """A heap of (virtual run time, arrival, task)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Task]] = []
        self._arrivals = 0
        self._count = 0
        self._clock_ns = 0  #: virtual time of the last task picked

    def entity(self, task: Task) -> FairEntity:
        entity = task.entity
        if entity is None:
            entity = task.entity = FairEntity(vruntime_ns=self._clock_ns)
        fair: FairEntity = entity
        return fair

    def born(self, task: Task) -> None:
        self.entity(task)

    def enqueue(self, task: Task, woken: bool) -> None:
        entity = self.entity(task)
        if entity.queued:
            return
        if woken and entity.vruntime_ns < self._clock_ns - SLICE_NS:
            entity.vruntime_ns = self._clock_ns - SLICE_NS
        entity.queued = True
        self._arrivals += 1
        entity.key = self._arrivals
        heapq.heappush(self._heap, (entity.vruntime_ns, self._arrivals, task))
        self._count += 1

    def pick(self) -> Task | None:
        heap = self._heap
        while heap:
            vruntime_ns, key, task = heapq.heappop(heap)
            entity = task.entity
            if entity.queued and entity.key == key:
                entity.queued = False
                self._count -= 1
                if vruntime_ns > self._clock_ns:
                    self._clock_ns = vruntime_ns
                return task
        return None

    def dequeue(self, task: Task) -> None:
        entity = task.entity
        if entity is not None and entity.queued:
            entity.queued = False
            self._count -= 1

    def waiting(self) -> int:
        return self._count

    def charge(self, task: Task, used_ns: int) -> None:
        entity = task.entity
        if entity is None:
            entity = self.entity(task)
        entity.vruntime_ns += used_ns * NICE_0_WEIGHT // entity.weight

    def slice_ns(self, task: Task) -> int:
        return SLICE_NS

    def set_nice(self, task: Task, nice: int) -> None:
        entity = self.entity(task)
        entity.nice, entity.weight = nice, WEIGHTS[nice + 20]
