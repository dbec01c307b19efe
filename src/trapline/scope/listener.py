"""Listener: what a subscriber is told of a running kernel. Subclass it and override what you want to hear.

Callbacks run on the kernel's thread, between a trap and the return to user mode: they may read anything and must not wait.
`call` is the declaration of the system call (`kernel.syscalls.declare.SystemCall`), `args` its arguments as C sees them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

Args = tuple[int, ...]
NEVER_RETURN = frozenset(("exit", "exit_group"))


class Listener:
    """Every callback does nothing."""

    def started(self, task: Task) -> None:
        """A new task is about to run for the first time."""

    def spawned(self, task: Task) -> None:
        """The kernel itself loaded a first program into `task`: there was no execve(2)."""

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        """A system call came in and is about to be served."""

    def waits(self, task: Task) -> None:
        """The call has to wait: the task gives its CPU away."""

    def continues(self, task: Task) -> None:
        """The call goes on after a wait."""

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        """It has its result: negative errno, or what it returns. `task.restart` is set if a signal will decide."""

    def fault(self, task: Task, address: int, access: int, served: bool) -> None:
        """A page fault at `address` (contract.READ, WRITE, EXEC); `served`: repaired, else a signal follows."""

    def signal(self, task: Task, info: Any) -> None:
        """A signal (a SigInfo) is about to be delivered."""

    def stopped(self, task: Task, signo: int) -> None:
        """The task stopped for job control."""

    def resumed(self, task: Task) -> None:
        """The task goes (back) to user mode, on `task.cpu`."""

    def trapped(self, task: Task) -> None:
        """The task came from user mode: a call, a fault, an exception, or the end of its slice."""

    def exiting(self, task: Task) -> None:
        """The task ends; its memory is still there."""

    def exited(self, task: Task, status: int) -> None:
        """The task ended with a wait(2) status."""
