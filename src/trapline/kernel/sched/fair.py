"""The fair class: the task that has run least, weighed by its nice value, runs next. SCHED_OTHER, SCHED_BATCH, SCHED_IDLE.

Virtual run time advances at 1024/weight of real time; the queue is a heap of it. A task that slept does not come back with
more than a slice of credit, so sleeping earns no monopoly. SCHED_IDLE weighs next to nothing, and has a shorter slice so that
others do not wait for it.
"""

from __future__ import annotations

import heapq
from trapline.typed import TYPE_CHECKING

from trapline.abi.sched import SCHED_IDLE

if TYPE_CHECKING:
    from trapline.kernel.sched.entity import Entity
    from trapline.kernel.task.task import Task

SLICE_NS = 10_000_000
IDLE_SLICE_NS = 1_000_000
LEAD_NS = 500_000  #: so far ahead of who waits a task may run from one system call to the next


class FairQueue:
    """A heap of (virtual run time, arrival, task)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Task]] = []
        self._arrivals = 0
        self.count = 0
        self.clock_ns = 0  #: virtual time of the last task picked

    def enqueue(self, task: Task, entity: Entity, woken: bool) -> None:
        if woken and entity.vruntime_ns < self.clock_ns - SLICE_NS:
            entity.vruntime_ns = self.clock_ns - SLICE_NS
        self._arrivals += 1
        entity.key = self._arrivals
        heapq.heappush(self._heap, (entity.vruntime_ns, self._arrivals, task))
        self.count += 1

    def goes_on(self, entity: Entity) -> bool:
        """Until somebody who waits has run `LEAD_NS` less: it costs much to change the CPU's owner at each system call."""
        heap = self._heap
        while heap and heap[0][1] != heap[0][2].entity.key:
            heapq.heappop(heap)
        entity.vruntime_ns = max(entity.vruntime_ns, self.clock_ns - SLICE_NS)
        return not heap or entity.vruntime_ns <= heap[0][0] + LEAD_NS

    def pick(self) -> Task | None:
        heap = self._heap
        while heap:
            vruntime_ns, key, task = heapq.heappop(heap)
            entity = task.entity
            if entity.queued and entity.key == key:
                entity.queued = False
                self.count -= 1
                if vruntime_ns > self.clock_ns:
                    self.clock_ns = vruntime_ns
                return task
        return None

    def pick_bound(self, free: int) -> Task | None:
        """As `pick`, the first task that may run on one of the CPUs `free`."""
        clock_ns, passed = self.clock_ns, []
        while (task := self.pick()) is not None and not task.entity.fits(free):
            passed.append(task)
        for each in passed:
            each.entity.queued = True
            self.enqueue(each, each.entity, False)
        if passed and task is None:
            self.clock_ns = clock_ns
        return task

    def dequeue(self, entity: Entity) -> None:
        """Its entry stays in the heap, stale."""
        entity.key = 0
        self.count -= 1

    def slice_ns(self, entity: Entity) -> int:
        return IDLE_SLICE_NS if entity.policy == SCHED_IDLE else SLICE_NS

    def give_way(self, entity: Entity) -> None:
        """Behind everybody who is not a whole slice ahead."""
        entity.vruntime_ns = max(entity.vruntime_ns, self.clock_ns) + SLICE_NS // 10
