"""Timers: callbacks at points of CLOCK_MONOTONIC, in a heap.

The trap loop asks for the next deadline and runs what is due; cancelled timers stay in the heap until they surface.
A deadline that was given as a point of CLOCK_REALTIME is a `WallDeadline`: it moves when that clock is set.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class WallDeadline(int):
    """A point of CLOCK_MONOTONIC, in ns, that stands for one of a clock that can be set."""


class Timer:
    """One pending callback; `cancel` is idempotent."""

    __slots__ = ("callback", "deadline_ns")

    def __init__(self, deadline_ns: int, callback: Callable[[], object]) -> None:
        self.deadline_ns = deadline_ns
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """A heap of timers, ordered by deadline, then by age."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._count = 0

    def add(self, deadline_ns: int, callback: Callable[[], object]) -> Timer:
        timer = Timer(deadline_ns, callback)
        self._count += 1
        heapq.heappush(self._heap, (deadline_ns, self._count, timer))
        return timer

    def next_deadline_ns(self) -> int | None:
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def clock_stepped(self, ns: int) -> None:
        """CLOCK_REALTIME was set `ns` forward (below zero: back): what waits for a point of it waits that much less."""
        heap = self._heap
        for index, (deadline_ns, age, timer) in enumerate(heap):
            if type(deadline_ns) is WallDeadline:
                timer.deadline_ns = WallDeadline(max(0, deadline_ns - ns))
                heap[index] = timer.deadline_ns, age, timer
        heapq.heapify(heap)

    def run_due(self, now_ns: int) -> None:
        """Call everything whose deadline is not later than `now_ns`."""
        heap = self._heap
        while heap and heap[0][0] <= now_ns:
            timer = heapq.heappop(heap)[2]
            callback = timer.callback
            if callback is not None:
                timer.callback = None
                callback()
