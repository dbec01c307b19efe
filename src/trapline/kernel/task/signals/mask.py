"""Blocked signals: changing a task's mask, and telling the task when something became deliverable.

Invariant: WORK_SIGNAL is set in `task.work` when a signal is pending that the task does not block.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.signal import UNBLOCKABLE
from trapline.kernel.sync.park import SIGNALLED
from trapline.kernel.task.task import DEAD, STOPPED, WORK_RESTORE_MASK, WORK_SIGNAL

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def recalc(task: Task) -> None:
    """Make WORK_SIGNAL say whether `task` has a signal to take."""
    if (task.pending.mask | task.group.pending.mask) & ~task.blocked:
        task.work |= WORK_SIGNAL
    else:
        task.work &= ~WORK_SIGNAL


def interrupt(task: Task) -> None:
    """`task.work` changed: end its interruptible wait, or make it trap if it is in user mode."""
    waiter = task.waiter
    if waiter is not None:
        if waiter.interruptible:
            waiter.wake(SIGNALLED)
    elif task.on_cpu:
        task.kernel.kick(task)


def set_blocked(task: Task, mask: int) -> None:
    """Change the mask of `task`. Group signals it now blocks go to another thread."""
    mask &= ~UNBLOCKABLE
    newly = mask & ~task.blocked
    task.blocked = mask
    if newly & task.group.pending.mask:
        retarget(task, newly)
    recalc(task)


def retarget(task: Task, which: int) -> None:
    """Let other threads look at the group's pending signals of the set `which`, which `task` will not take."""
    which &= task.group.pending.mask
    for other in task.group.tasks:
        if not which:
            return
        if other is task or other.state in (DEAD, STOPPED) or not which & ~other.blocked:
            continue
        which &= other.blocked
        if not other.work & WORK_SIGNAL:
            other.work |= WORK_SIGNAL
            interrupt(other)


def set_temporary(task: Task, mask: int) -> None:
    """Use `mask` until the present call is over, as sigsuspend(2), ppoll(2) and epoll_pwait(2) do.

    If a handler ends the call, it runs with the temporary mask and the old one goes into its frame; in every other case
    the old mask comes back before signals are looked at. Both happen in delivery.
    """
    if not task.work & WORK_RESTORE_MASK:
        task.saved_mask = task.blocked
    set_blocked(task, mask)
    task.work |= WORK_RESTORE_MASK


def restore(task: Task) -> None:
    """Bring the saved mask back, if one waits."""
    if task.work & WORK_RESTORE_MASK:
        task.work &= ~WORK_RESTORE_MASK
        set_blocked(task, task.saved_mask)
