"""Two scheduling classes in the place of the fair one: round robin, and a lottery (Waldspurger and Weihl, 1994)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kernel.sched.entity import Entity
    from trapline.kernel.task.task import Task

SLICE_NS = 10_000_000


class RoundRobin:
    """Who came first goes first, and to the end of the queue when its slice is used up; nice values mean nothing."""

    def __init__(self) -> None:
        self._waiting: list[Task] = []
        self.clock_ns = 0  #: there is no virtual run time here

    @property
    def count(self) -> int:
        return len(self._waiting)

    def enqueue(self, task: Task, entity: Entity, woken: bool) -> None:
        self._waiting.append(task)

    def pick(self) -> Task | None:
        return self.pick_bound(-1)

    def pick_bound(self, free: int) -> Task | None:
        able = [n for n, each in enumerate(self._waiting) if each.entity.fits(free)]
        if not able:
            return None
        task = self._waiting.pop(self._choose(able))
        task.entity.queued = False
        return task

    def goes_on(self, entity: Entity) -> bool:
        """Whoever stops of itself has given the CPU up: its slice would begin anew with every system call."""
        return False

    def _choose(self, able: list[int]) -> int:
        """Of those that may run, as places in the queue."""
        return able[0]

    def dequeue(self, entity: Entity) -> None:
        self._waiting = [each for each in self._waiting if each.entity is not entity]

    def slice_ns(self, entity: Entity) -> int:
        return SLICE_NS

    def give_way(self, entity: Entity) -> None:
        """To the end of the queue is where it goes anyhow."""


class Lottery(RoundRobin):
    """Each task has tickets, as many as the fair class would give it weight; one is drawn. No task is owed anything."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self._seed = seed

    def _choose(self, able: list[int]) -> int:
        tickets = [self._waiting[n].entity.weight for n in able]
        self._seed = self._seed * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        drawn = (self._seed >> 33) % sum(tickets)
        for n, count in zip(able, tickets, strict=True):
            drawn -= count
            if drawn < 0:
                return n
        raise AssertionError("more was drawn than there are tickets")
