"""What becomes of a system call that a signal interrupted, signal(7), "Interruption of system calls".

The call left -EINTR as its provisional result and a RESTART_* code in `task.restart`. Delivery decides, once: a
handler runs (`with_handler`), or none does (`without_handler`).
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.signal import SA_RESTART
from trapline.abi.syscalls import I386
from trapline.kernel.sync.park import RESTART_BLOCK, RESTART_NOINTR, RESTART_SYS
from trapline.machine.contract import ENTRY_INT80

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def with_handler(task: Task, flags: int) -> None:
    """A handler with `flags` is about to run: restart the call after it, or let EINTR stand."""
    kind, task.restart = task.restart, 0
    if kind == RESTART_NOINTR or (kind == RESTART_SYS and flags & SA_RESTART):
        _again(task, task.syscall_nr)
    task.again = None


def without_handler(task: Task) -> None:
    """No handler runs: the call goes on as if nothing had happened."""
    kind, task.restart = task.restart, 0
    _again(task, _restart_syscall(task) if kind == RESTART_BLOCK else task.syscall_nr)


def _again(task: Task, number: int) -> None:
    arch = task.kernel.machine.arch
    regs = task.ctx.regs
    regs[arch.pc] -= arch.syscall_len
    regs[arch.ret] = task.before_result
    regs[arch.nr] = number


def _restart_syscall(task: Task) -> int:
    if task.ctx.entry == ENTRY_INT80:
        return I386["restart_syscall"]
    return task.kernel.abi.numbers["restart_syscall"]
