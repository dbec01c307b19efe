"""Tamper: what becomes of one system call: refused, faked, delayed, its memory changed, a signal sent; and how that is done.

An `Interposer` decides at each call; `kernel.interpose` puts it to work. Without one, none of this is on any path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trapline.abi.errno import EFAULT, ENOMEM, Errno
from trapline.abi.signal import BUS_ADRERR
from trapline.kernel.mm.errors import OutOfMemory
from trapline.kernel.sync.park import Interrupted, Waiter, park
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.entry.loop import Hooks
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.scope.listener import Args

MAX_ARGUMENTS = 6
SIGBUS = 7


class Tamper(NamedTuple):
    """`result`: what the call returns without being made: a value, or minus an errno; None: it is made.

    `args`: what it is made with instead of what it came with, which the program's registers keep; None: that itself.
    `before` and `after`: bytes to write where an argument (0 to 5) points to, when the call comes in and when it succeeded.
    """

    result: int | None = None
    signal: int = 0  #: sent to the task when the call comes in
    delay_enter_ns: int = 0
    delay_exit_ns: int = 0
    short: int = 0  #: bytes that a transfer moves at most; 0: as many as it would
    before: tuple[tuple[int, bytes], ...] = ()
    after: tuple[tuple[int, bytes], ...] = ()
    args: tuple[int, ...] | None = None


class Interposer(Protocol):
    """One with `at_faults` set also has a `decide_fault`: see `FaultInterposer`."""

    def decide(self, task: Task, call: SystemCall, args: Args) -> Tamper | None:
        """What becomes of the call; None: what its kernel makes of it."""


class FaultInterposer(Protocol):
    at_faults: bool  #: it wants to be asked

    def decide_fault(self, task: Task, address: int, access: int) -> Tamper | None:
        """What becomes of a page fault of user code: `result` -ENOMEM: there is no memory for the page (the kernel kills
        for it), any other: it cannot be read (SIGBUS); `signal`: sent, and the fault served; None: it is served."""


def fail_fault(task: Task, tamper: Tamper, address: int, hooks: Hooks) -> bool:
    """Do that to a page fault; False if it is still to be served."""
    if tamper.signal:
        notify(task, tamper.signal)
    if tamper.result is None:
        return False
    if tamper.result == -ENOMEM.number:
        hooks.out_of_memory(task)
    else:
        hooks.fault(task, (SIGBUS, BUS_ADRERR, address))
    return True


def poke(task: Task, args: Args, writes: tuple[tuple[int, bytes], ...]) -> bool:
    """Write into the task's memory, as the task itself could; False if some of it could not be written, and is as it was."""
    done = True
    for index, data in writes:
        try:
            task.mm.write(args[index], data)
        except (EFAULT, OutOfMemory, IndexError):
            done = False
    return done


def notify(task: Task, signo: int) -> None:
    """The signal, as from the kernel."""
    from trapline.kernel.task.signals.send import send_to_task

    send_to_task(task, SigInfo(signo))


async def serve(task: Task, tamper: Tamper, make: Callable[[Task], Any], args: Args) -> int:
    """The kernel coroutine of a tampered call; `make` is the call itself, or what is made of it."""
    if tamper.delay_enter_ns:
        await _pause(task, tamper.delay_enter_ns)
    result: int
    if tamper.result is not None:
        result = tamper.result
    else:
        try:
            made = make(task)
            result = made if made.__class__ is int else await made
        except Errno as error:
            result = -error.number
    if tamper.after and not -4096 < result < 0:
        poke(task, args, tamper.after)
    if tamper.delay_exit_ns:
        await _pause(task, tamper.delay_exit_ns)
    return result


async def _pause(task: Task, time_ns: int) -> None:
    """Sleep; a signal that does not kill is left for later."""
    deadline_ns = task.kernel.clock.monotonic_ns() + time_ns
    try:
        await park(Waiter(task, True), deadline_ns)
    except Interrupted:
        if task.group.exiting:
            raise
        await park(Waiter(task, False), deadline_ns)
