"""The scheduling interface: what the trap loop asks, whatever class answers.

Invariant: a task is in at most one queue, and never while it is on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


class Scheduler(Protocol):
    """Who runs next."""

    def born(self, task: Task) -> None:
        """A new task; it is queued later."""

    def enqueue(self, task: Task, woken: bool) -> None:
        """`task` wants a CPU; `woken`: it slept, or is new, rather than was preempted."""

    def pick(self) -> Task | None:
        """Take the task that is to run next."""

    def dequeue(self, task: Task) -> None:
        """`task` no longer wants a CPU; no effect if it was not queued."""

    def waiting(self) -> int:
        """How many tasks are queued."""

    def charge(self, task: Task, used_ns: int) -> None:
        """`task` used this much CPU time."""

    def slice_ns(self, task: Task) -> int:
        """How long `task` may run while others wait."""

    def set_nice(self, task: Task, nice: int) -> None:
        """Give `task` a nice value of -20 to 19."""
