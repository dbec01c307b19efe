"""Sending signals: whether it counts at all, who takes it, and waking that task.

The entry points are `send_to_task`, `send_to_group` and `force` (a fault the task cannot go on without
hearing of). Permission is the caller's business: `may_signal`.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EAGAIN
from trapline.abi.signal import (
    CORE_SIGNALS,
    DEFAULT_IGNORED,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIGCONT,
    SIGKILL,
    SIGRTMIN,
    STOP_SIGNALS,
    bit,
)
from trapline.kernel.task.creds import Credentials
from trapline.kernel.task.signals import stop
from trapline.kernel.task.signals.action import DEFAULT
from trapline.kernel.task.signals.mask import interrupt
from trapline.kernel.task.signals.pending import Pending
from trapline.kernel.task.signals.siginfo import SigInfo
from trapline.kernel.task.task import DEAD, STOPPED, WORK_EXIT, WORK_SIGNAL

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

__all__ = ["SigInfo", "force", "may_signal", "send_to_group", "send_to_task"]

RLIMIT_SIGPENDING = 11
CAP_KILL = 5


def send_to_task(task: Task, info: SigInfo) -> bool:
    """Send to one thread, as tgkill(2). False when the signal is ignored. Raises EAGAIN: RLIMIT_SIGPENDING."""
    if task.state == DEAD or not _prepare(task.group, task, info):
        return False
    if info.signo == SIGKILL:
        return _kill(task.group)
    if _queue(task.pending, task, info) and not task.blocked & bit(info.signo):
        _wake(task, info.signo)
    return True


def send_to_group(group: ThreadGroup, info: SigInfo) -> bool:
    """Send to a process, as kill(2). False when the signal is ignored. Raises EAGAIN: RLIMIT_SIGPENDING."""
    main = next((each for each in group.tasks if each.state != DEAD), None)
    if main is None or not _prepare(group, main, info):
        return False
    if info.signo == SIGKILL:
        return _kill(group)
    if _queue(group.pending, main, info):
        target = _choose(group, bit(info.signo))
        if target is not None:
            _wake(target, info.signo)
    return True


def force(task: Task, info: SigInfo) -> None:
    """A signal `task` must act on: if it blocks or ignores it, the default action (death) is taken."""
    table = task.group.actions.table
    blocked = task.blocked & bit(info.signo)
    if blocked or table[info.signo].handler == SIG_IGN:
        table[info.signo] = DEFAULT
        task.blocked &= ~bit(info.signo)
    send_to_task(task, info)


def force_fatal(task: Task, info: SigInfo) -> None:
    """A signal that kills `task` whatever its handler."""
    task.group.actions.table[info.signo] = DEFAULT
    force(task, info)


def may_signal(sender: Task, target: ThreadGroup, signo: int) -> bool:
    """kill(2): the sender's real or effective uid is the target's real or saved uid, or it has CAP_KILL; SIGCONT may
    go anywhere in the session."""
    if target is sender.group:
        return True
    mine = sender.creds
    theirs = target.leader.creds if target.leader is not None else Credentials()  # init has no task: it is root's
    if mine.euid in (theirs.suid, theirs.uid) or mine.uid in (theirs.suid, theirs.uid):
        return True
    if mine.has_cap(CAP_KILL):
        return True
    return signo == SIGCONT and target.sid == sender.group.sid


# ---- what sending does at once


def _prepare(group: ThreadGroup, task: Task, info: SigInfo) -> bool:
    """Effects that do not wait for delivery; False when the signal is to be dropped."""
    signo = info.signo
    if group.exiting or group.zombie:
        return False
    if STOP_SIGNALS & bit(signo):
        _discard(group, bit(SIGCONT))
    elif signo == SIGCONT:
        _discard(group, STOP_SIGNALS)
        stop.resume(group)
    if task.blocked & bit(signo) or not group.actions.ignores(signo):
        return True
    if task.kernel.on_ignored is not None:
        task.kernel.on_ignored(task, info)
    return False


def _discard(group: ThreadGroup, unwanted: int) -> None:
    group.pending.discard(unwanted)
    for task in group.tasks:
        task.pending.discard(unwanted)


def _kill(group: ThreadGroup) -> bool:
    """SIGKILL: the group begins to exit now."""
    from trapline.kernel.task.exit import exit_group

    exit_group(next(each for each in group.tasks if each.state != DEAD), SIGKILL)
    return True


def _queue(pending: Pending, task: Task, info: SigInfo) -> bool:
    """Queue it within RLIMIT_SIGPENDING; False when it is pending already."""
    if info.signo >= SIGRTMIN and not within_limit(task):
        if info.code != SI_USER:
            raise EAGAIN("RLIMIT_SIGPENDING")
        if pending.mask & bit(info.signo):
            return False
        info = SigInfo(info.signo, SI_USER)
    added = pending.add(info)
    queue = task.group.signal_wait
    if queue.waiters or queue.listeners:
        queue.wake_all()
    return added


def within_limit(task: Task) -> bool:
    """One more signal may be queued under RLIMIT_SIGPENDING."""
    rlimits = task.group.rlimits
    limit = rlimits[RLIMIT_SIGPENDING][0] if len(rlimits) > RLIMIT_SIGPENDING else 1 << 63
    return limit >= 1 << 63 or queued_by(task) < limit


def queued_by(task: Task) -> int:
    """How many signals are queued to processes of the user `task` runs as."""
    uid = task.creds.uid
    total = 0
    for group in task.kernel.groups.values():
        if not group.tasks or group.tasks[0].creds.uid != uid:
            continue
        total += len(group.pending) + sum(len(each.pending) for each in group.tasks)
        if group.posix_timers is not None:
            total += len(group.posix_timers)
    return total


# ---- who takes a group's signal


def _choose(group: ThreadGroup, bit_: int) -> Task | None:
    """The thread to wake for a group signal: the first that would take it, one without a signal to take if possible."""
    fallback = None
    for task in group.tasks:
        if task.state in (DEAD, STOPPED) or task.blocked & bit_ or task.work & WORK_EXIT:
            continue
        if task.on_cpu or not task.work & WORK_SIGNAL:
            return task
        fallback = fallback or task
    return fallback


def _wake(task: Task, signo: int) -> None:
    task.work |= WORK_SIGNAL
    waiter = task.waiter
    if waiter is not None and not waiter.interruptible and _ends(task.group, signo):
        from trapline.kernel.task.exit import exit_group

        exit_group(task, signo)  # not even a sleep that signals do not end goes on then (`complete_signal` of kernel/signal.c)
    else:
        interrupt(task)


def _ends(group: ThreadGroup, signo: int) -> bool:
    """The signal ends the process, and leaves no core dump."""
    return group.actions.table[signo].handler == SIG_DFL and not bit(signo) & (DEFAULT_IGNORED | STOP_SIGNALS | CORE_SIGNALS)


def action_changed(group: ThreadGroup, signo: int) -> None:
    """sigaction(2) made a signal ignored: what is pending of it is discarded."""
    from trapline.kernel.task.signals.mask import recalc

    if group.actions.ignores(signo):
        _discard(group, bit(signo))
        for task in group.tasks:
            recalc(task)


def reset_handler(group: ThreadGroup, signo: int) -> None:
    """SA_RESETHAND: the handler is about to run once."""
    action = group.actions.table[signo]
    group.actions.table[signo] = action._replace(handler=SIG_DFL)
