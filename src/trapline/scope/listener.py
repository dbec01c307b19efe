"""Listener: what a subscriber is told of a running kernel. Subclass it and override what you want to hear.

Callbacks run on the kernel's thread, between a trap and the return to user mode: they may read anything and must not wait.
`call` is the declaration of the system call (`kernel.syscalls.declare.SystemCall`), `args` its arguments as C sees them.
Times are of the kernel's monotonic clock, in ns; `since_ns`: when what is told of began. A slot of the kernel that no listener
overrides the callback of stays empty.

In the order of one call:

    stayed  trapped  enter  decided  body  (copied, waits, continues)*  exit  signal*  queued?  resumed  switched?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.machine.contract import Stay

Args = tuple[int, ...]
NEVER_RETURN = frozenset(("exit", "exit_group"))


class Listener:
    """Every callback does nothing."""

    def hears(self, callback: str) -> bool:
        """Whether it has a use for the callback of that name."""
        return getattr(type(self), callback) is not getattr(Listener, callback)

    def started(self, task: Task) -> None:
        """A new task is about to run for the first time."""

    def spawned(self, task: Task) -> None:
        """The kernel itself loaded a first program into `task`: there was no execve(2)."""

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        """A system call came in and is about to be served."""

    def decided(self, task: Task, by: str, verdict: str, since_ns: int) -> None:
        """`by` ("interposer", "seccomp") decided what becomes of the call: verdict "pass", "change" or "refuse"."""

    def body(self, task: Task) -> None:
        """The call's handler begins: it was decoded, and let through."""

    def copied(self, task: Task, address: int, size: int, out: bool, since_ns: int) -> None:
        """The kernel read `size` bytes of the task's memory, or wrote them (`out`). What exec(2) writes is not told."""

    def waits(self, task: Task) -> None:
        """The call has to wait: the task gives its CPU away."""

    def continues(self, task: Task) -> None:
        """The call goes on after a wait."""

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        """It has its result: negative errno, or what it returns. `task.restart` is set if a signal will decide."""

    def fault(self, task: Task, address: int, access: int, served: bool) -> None:
        """A page fault at `address` (contract.READ, WRITE, EXEC); `served`: repaired, else a signal follows."""

    def faulted(self, task: Task, address: int, access: int, kind: str, pages: int, since_ns: int) -> None:
        """A page fault, the task's own (`fault` follows) or the kernel's while it copied, was dealt with.

        kind: "major" (read from a file), "cow", "zero", "file" (found in the page cache), "write" (needs no copy any more),
        "spurious" (repaired before), "invalid" (a signal or EFAULT follows), "memory" (there is none). `pages` it made present.
        """

    def signal(self, task: Task, info: Any) -> None:
        """A signal (a SigInfo) is about to be delivered."""

    def ignored(self, task: Task, info: Any) -> None:
        """A signal (a SigInfo) was sent that the process ignores: it is dropped. `task` may be anywhere."""

    def stopped(self, task: Task, signo: int) -> None:
        """The task stopped for job control."""

    def woken(self, task: Task, by: Task | None) -> None:
        """A wait of `task` is over, thanks to a call of `by`, or to time, or to the host (None)."""

    def queued(self, task: Task) -> None:
        """The task could go to user mode, but for a CPU."""

    def switched(self, task: Task, cpu: int, before: Task | None, why: str) -> None:
        """`task` is the next on `cpu` after `before`, which left it: "blocked", "pre-empted", "yielded", "stopped", "ended"."""

    def interrupt(self, kind: str, task: Task | None) -> None:
        """ "timer", "device": the kernel's own; "kick", "spurious": `task` was forced out of user mode, or came for nothing."""

    def resumed(self, task: Task) -> None:
        """The task goes (back) to user mode, on `task.cpu`."""

    def stayed(self, task: Task, stay: Stay | None) -> None:
        """The stay in user mode that has just ended, as the machine measured it. Comes before `trapped`."""

    def trapped(self, task: Task) -> None:
        """The task came from user mode: `task.ctx.kind` says how (`contract.SYSCALL`, `FAULT`, `EXCEPTION`, `INTERRUPT`)."""

    def observed(self, task: Task, since_ns: int) -> None:
        """Since then the observer worked for its listeners, and not for the task: who measures wants to know."""

    def exiting(self, task: Task) -> None:
        """The task ends; its memory is still there."""

    def exited(self, task: Task, status: int) -> None:
        """The task ended with a wait(2) status."""
