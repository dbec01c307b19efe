"""The half of signals that is an architecture's own: its frame, and what its hardware raises. `abi.arch` is the other half."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.kernel.task.signals import frame_riscv64, frame_x86_64, trap_riscv64, trap_x86_64

if TYPE_CHECKING:
    from trapline.kernel.task.signals.action import Action
    from trapline.kernel.task.signals.siginfo import SigInfo
    from trapline.kernel.task.task import Task


class Half(NamedTuple):
    """What each `frame_*` and `trap_*` module offers; see there."""

    build: Callable[[Task, SigInfo, Action, int], bool]
    read_back: Callable[[Task], tuple[int, tuple[int, int, int] | None] | None]
    frame_size: int  #: without what depends on the CPU, its floating-point image
    sigmask: int  #: where, from the stack pointer at rt_sigreturn(2), the saved mask is
    note_fault: Callable[[Task], None]
    explain: Callable[[Task], SigInfo | None]


_HALVES = {
    "x86_64": Half(
        frame_x86_64.build, frame_x86_64.read_back, frame_x86_64.FRAME_SIZE, frame_x86_64.SIGMASK - 8,
        trap_x86_64.note_fault, trap_x86_64.explain,
    ),
    "riscv64": Half(
        frame_riscv64.build, frame_riscv64.read_back, frame_riscv64.FRAME_SIZE, frame_riscv64.SIGMASK,
        trap_riscv64.note_fault, trap_riscv64.explain,
    ),
}  # fmt: skip


def half(task: Task) -> Half:
    """The architecture's half for `task`."""
    return _HALVES[task.kernel.machine.arch.name]
