"""Signals that were sent and not yet taken: one queue per task, one per thread group.

Invariants:
- `mask` has the bit of every signal in `queue`;
- a standard signal is in a queue at most once; real-time signals queue in order (signal(7), "Queueing and
  delivery semantics for standard signals").
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.signal import SIGRTMIN, SYNCHRONOUS
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


class Pending:
    """One queue of pending signals."""

    __slots__ = ("mask", "queue")

    def __init__(self) -> None:
        self.mask = 0
        self.queue: list[SigInfo] = []

    def __len__(self) -> int:
        return len(self.queue)

    def add(self, info: SigInfo) -> bool:
        """Queue a signal; False when it is a standard one that is pending already."""
        bit = 1 << (info.signo - 1)
        if info.signo < SIGRTMIN and self.mask & bit:
            return False
        self.mask |= bit
        self.queue.append(info)
        return True

    def take(self, wanted: int) -> SigInfo | None:
        """Remove and return the next signal of the set `wanted`: synchronous ones first, then the lowest number."""
        ready = self.mask & wanted
        if not ready:
            return None
        ready = ready & SYNCHRONOUS or ready
        signo = (ready & -ready).bit_length()
        queue = self.queue
        index = next(i for i, each in enumerate(queue) if each.signo == signo)
        info = queue.pop(index)
        if signo < SIGRTMIN or all(each.signo != signo for each in queue):
            self.mask &= ~(1 << (signo - 1))
        return info

    def discard(self, unwanted: int) -> None:
        """Forget the signals of a set."""
        if self.mask & unwanted:
            self.mask &= ~unwanted
            self.queue = [each for each in self.queue if not unwanted >> (each.signo - 1) & 1]

    def clear(self) -> None:
        self.mask = 0
        self.queue = []


def take(task: Task, wanted: int) -> SigInfo | None:
    """The next signal for `task` in the set `wanted`: its own, then its group's. A timer's signal re-arms its timer."""
    info = task.pending.take(wanted) or task.group.pending.take(wanted)
    if info is not None and info.source is not None:
        taken: SigInfo = info.source.taken(info)
        return taken
    return info


def pending_set(task: Task) -> int:
    """All that is pending for `task`, blocked or not."""
    return task.pending.mask | task.group.pending.mask
