"""Delivering signals, on the way to user mode.

`deliver` is called when `task.work` or `task.restart` says that something is due. It takes signals until one ends the
process, stops it, or runs a handler, and settles what becomes of an interrupted system call.

Invariant: on return `task.restart` is 0 unless the task stopped or its group is exiting, and WORK_SIGNAL is true to what
is pending.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.resource import RLIMIT_CORE
from trapline.abi.signal import (
    CORE_SIGNALS,
    DEFAULT_IGNORED,
    SA_NODEFER,
    SA_RESETHAND,
    SI_KERNEL,
    SIG_DFL,
    SIG_IGN,
    SIGSEGV,
    SIGSTOP,
    STOP_SIGNALS,
    bit,
)
from trapline.kernel.task import rseq
from trapline.kernel.task.signals import restart, stop
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.arch import half
from trapline.kernel.task.signals.mask import recalc, restore, set_blocked
from trapline.kernel.task.signals.pending import take
from trapline.kernel.task.signals.send import force, force_fatal, reset_handler
from trapline.kernel.task.signals.siginfo import SigInfo
from trapline.kernel.task.task import STOPPED, WORK_EXIT, WORK_RESTORE_MASK, WORK_STOP

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def deliver(task: Task) -> None:
    """Act on what is pending for `task`. See the file's head for what holds afterwards."""
    if task.work & WORK_RESTORE_MASK and not task.restart:
        restore(task)  # the call is over without a signal: its temporary mask goes before any signal is looked at
    actions = task.group.actions
    while not task.work & WORK_EXIT:
        if task.work & WORK_STOP:
            stop.take(task)
            if task.state == STOPPED:
                return
        info = take(task, ~task.blocked)
        if info is None:
            _nothing_left(task)
            return
        if task.kernel.on_signal is not None:
            task.kernel.on_signal(task, info)
        action = actions.table[info.signo]
        if action.handler > SIG_IGN:
            _handle(task, info, action)
            return
        if action.handler == SIG_DFL and not DEFAULT_IGNORED & bit(info.signo):
            _default(task, info)


def _nothing_left(task: Task) -> None:
    """No handler runs."""
    if task.restart:
        restart.without_handler(task)
    recalc(task)
    restore(task)


def _default(task: Task, info: SigInfo) -> None:
    """The default action of a signal that is not ignored: stop, or die."""
    signo = info.signo
    if STOP_SIGNALS & bit(signo):
        if signo == SIGSTOP or not stop.orphaned(task.group):
            stop.begin(task.group, signo)
        return
    die(task, info)


def die(task: Task, info: SigInfo) -> None:
    """A signal ends the process of `task`; it may leave a core dump."""
    if CORE_SIGNALS & bit(info.signo) and task.group.rlimits[RLIMIT_CORE][0]:
        from trapline.kernel.task.coredump.dump import begin

        begin(task, info)
    else:
        from trapline.kernel.task.exit import exit_group

        exit_group(task, info.signo)
    task.work |= WORK_EXIT


def _handle(task: Task, info: SigInfo, action: Action) -> None:
    """Run the handler: settle the interrupted call, build the frame, block what the handler asked for."""
    signo = info.signo
    if task.restart:
        restart.with_handler(task, action.flags)
    if action.flags & SA_RESETHAND:
        reset_handler(task.group, signo)
    saved = task.saved_mask if task.work & WORK_RESTORE_MASK else task.blocked
    task.work &= ~WORK_RESTORE_MASK
    good = not task.rseq[0] or rseq.interrupted(task)
    if not good or not half(task).build(task, info, action, saved):
        set_blocked(task, saved)
        no_frame(task, signo)
        return
    mask = task.blocked | action.mask
    if not action.flags & SA_NODEFER:
        mask |= bit(signo)
    set_blocked(task, mask)


def no_frame(task: Task, signo: int) -> None:
    """A frame could not be built for `signo`, or was not believed: SIGSEGV, which kills if it was SIGSEGV already."""
    info = SigInfo(SIGSEGV, SI_KERNEL)
    if signo == SIGSEGV:
        force_fatal(task, info)
    else:
        force(task, info)
    recalc(task)


def sigreturn(task: Task) -> None:
    """rt_sigreturn(2): go back to what the handler interrupted, to SIGSEGV if the frame cannot be true."""
    from trapline.kernel.task.signals import altstack

    task.restart, task.again = 0, None
    back = half(task).read_back(task)
    if back is None:
        no_frame(task, 0)
        return
    mask, stack = back
    set_blocked(task, mask)
    if stack is None:
        no_frame(task, 0)
        return
    altstack.restore(task, stack)
