"""Signals that hardware raises: faults that cannot be repaired, and exceptions."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.kernel.task.signals.arch import half
from trapline.kernel.task.signals.send import force
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def from_fault(task: Task, bad: tuple[int, int, int]) -> None:
    """A page fault that the address space could not repair: (signal, code, address)."""
    signo, code, address = bad
    half(task).note_fault(task)
    force(task, SigInfo(signo, code, addr=address))


def from_trap(task: Task) -> None:
    """An exception that the running code raised."""
    info = half(task).explain(task)
    if info is not None:
        force(task, info)
