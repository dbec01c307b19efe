"""Ending: exit, exit_group."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.kernel.syscalls.declare import Int, syscall
from trapline.kernel.task import exit as exits
from trapline.kernel.task.task import WORK_EXIT

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


@syscall("exit")
def sys_exit(task: Task, status: Int) -> int:
    """_exit(2): end the calling thread."""
    task.exit_status = (status & 0xFF) << 8
    task.work |= WORK_EXIT
    return 0


@syscall("exit_group")
def sys_exit_group(task: Task, status: Int) -> int:
    """exit_group(2): end all threads of the process."""
    exits.exit_group(task, (status & 0xFF) << 8)
    return 0
