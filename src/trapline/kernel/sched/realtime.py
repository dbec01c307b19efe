"""The real-time class, sched(7): the highest priority first; among equals, who came first. SCHED_FIFO, SCHED_RR.

A task keeps its place at the head while it is only preempted; it goes to the tail when it sleeps, yields, or (SCHED_RR) has
used its slice up. As with Linux's sched_rt_runtime_us, real-time tasks may use 95 % of every second; what is left is for
others, if any wait, so that a shell can still end a real-time task that spins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi.sched import SCHED_RR
from trapline.kernel.task.task import RUNNABLE

if TYPE_CHECKING:
    from trapline.kernel.sched.entity import Entity
    from trapline.kernel.task.task import Task

RR_SLICE_NS = 100_000_000
PERIOD_NS = 1_000_000_000
RUNTIME_NS = 950_000_000
LOOK_NS = 10_000_000  #: the share is not looked at more often
LEVELS = 100


class RealtimeQueue:
    """One FIFO per priority; bit n of `_busy` says that level n holds somebody."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._levels: list[deque[Task]] = [deque() for _ in range(LEVELS)]
        self._busy = 0
        self._now_ns = now_ns
        self._running: set[Task] = set()  #: real-time tasks in user mode
        self._since_ns = 0  #: since when there has been one
        self._used_ns = 0  #: how long there was one in this period, before `_since_ns`
        self._period_end_ns = 0
        self.count = 0

    def enqueue(self, task: Task, entity: Entity) -> None:
        level = self._levels[entity.priority]
        if entity.to_tail:
            level.append(task)
        else:
            level.appendleft(task)
        self._busy |= 1 << entity.priority
        self.count += 1

    def pick(self, free: int) -> Task | None:
        for task in self.waiting():
            if task.entity.fits(free):
                task.entity.queued = False
                self.dequeue(task, task.entity)
                return task
        return None

    def dequeue(self, task: Task, entity: Entity) -> None:
        self._levels[entity.priority].remove(task)
        self._taken(entity.priority)

    def _taken(self, priority: int) -> None:
        self.count -= 1
        if not self._levels[priority]:
            self._busy &= ~(1 << priority)

    def waiting(self) -> Iterator[Task]:
        """All that wait, who goes first first."""
        busy = self._busy
        while busy:
            level = busy.bit_length() - 1
            yield from tuple(self._levels[level])
            busy ^= 1 << level

    def charge(self, task: Task, entity: Entity, used_ns: int) -> None:
        self.left(task)
        entity.busy_ns += used_ns
        if task.state != RUNNABLE:
            entity.to_tail = True
            entity.busy_ns = 0
        if entity.policy == SCHED_RR:
            entity.left_ns -= used_ns
            if entity.left_ns <= 0:
                entity.left_ns = RR_SLICE_NS
                entity.to_tail = True

    # ---- the share of each second

    def left(self, task: Task) -> None:
        """`task` is no longer in user mode, or no longer a real-time task."""
        if task in self._running:
            self._running.remove(task)
            if not self._running:
                self._used_ns += self._now_ns() - self._since_ns

    def _left_ns(self) -> int:
        """How much of their share of this second real-time tasks have left: while any of them runs, it shrinks."""
        now_ns = self._now_ns()
        if now_ns >= self._period_end_ns:
            self._period_end_ns = now_ns + PERIOD_NS
            self._used_ns, self._since_ns = 0, now_ns
        return RUNTIME_NS - self._used_ns - (now_ns - self._since_ns if self._running else 0)

    def spent(self) -> bool:
        """Real-time tasks have had their share of this second."""
        return self._left_ns() <= 0

    def slice_ns(self, task: Task, entity: Entity) -> int:
        """Up to the end of its slice, or until the share has to be looked at again."""
        entity.to_tail = False
        if not self._running:
            self._since_ns = self._now_ns()
        left = max(self._left_ns(), LOOK_NS)
        self._running.add(task)
        return min(left, entity.left_ns) if entity.policy == SCHED_RR else left
