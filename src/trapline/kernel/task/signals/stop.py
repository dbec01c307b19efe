"""Job control: stopping a whole process, and SIGCONT.

A stop signal marks every thread (WORK_STOP); each stops on its way to user mode, and the last one to do so completes the
stop and tells the parent. `group.stop_signal` is the signal from then until SIGCONT; `group.group_stop` is
that signal once the stop is complete; `group.wait_event` is what wait4(2) has yet to report.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.signal import (
    CLD_CONTINUED,
    CLD_STOPPED,
    SA_NOCLDSTOP,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
)
from trapline.kernel.task.signals.mask import interrupt, recalc, retarget
from trapline.kernel.task.task import DEAD, RUNNABLE, STOPPED, WORK_STOP

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

TICK_NS = 10_000_000  #: siginfo counts CPU time in ticks of 1/100 s


def begin(group: ThreadGroup, signo: int) -> None:
    """A stop signal was taken: every thread stops."""
    group.stop_signal = signo
    for task in group.tasks:
        if task.state not in (STOPPED, DEAD) and not task.work & WORK_STOP:
            task.work |= WORK_STOP
            interrupt(task)


def take(task: Task) -> None:
    """`task` is on its way to user mode and marked: it stops here."""
    task.work &= ~WORK_STOP
    group = task.group
    if group.stop_signal and not group.exiting:
        task.state = STOPPED
        _complete(group)


def _complete(group: ThreadGroup) -> None:
    if not group.group_stop and not any(each.work & WORK_STOP for each in group.tasks if each.state != DEAD):
        group.group_stop = group.stop_signal
        group.wait_event = CLD_STOPPED
        tell_parent(group, CLD_STOPPED, group.stop_signal)
        if group.kernel.on_stop is not None:
            group.kernel.on_stop(group)


def thread_exits(task: Task) -> None:
    """`task` ends: its group's signals look for another thread, and a stop that waited only for it is complete."""
    group = task.group
    if not group.exiting:
        retarget(task, ~task.blocked)
    if task.work & WORK_STOP:
        task.work &= ~WORK_STOP
        others = [each for each in group.tasks if each is not task and each.state != DEAD]
        if others and not group.exiting and group.stop_signal:
            _complete(group)


def resume(group: ThreadGroup) -> None:
    """SIGCONT was sent: every thread goes on."""
    stopped, stopping = group.group_stop, group.stop_signal
    group.group_stop = group.stop_signal = 0
    for task in group.tasks:
        task.work &= ~WORK_STOP
        wake(task)
    if stopped:
        group.wait_event = CLD_CONTINUED
        tell_parent(group, CLD_CONTINUED, SIGCONT)
    elif stopping:
        tell_parent(group, CLD_STOPPED, stopping)


def wake(task: Task) -> None:
    """Let a stopped task run again (to go on, or to die)."""
    if task.state == STOPPED:
        task.state = RUNNABLE
        recalc(task)
        task.kernel.enqueue(task)


def tell_parent(group: ThreadGroup, code: int, status: int) -> None:
    """SIGCHLD about a stop or a continuation, unless SA_NOCLDSTOP; and wake wait4(2)."""
    from trapline.kernel.task.signals.send import SigInfo, send_to_group

    parent = group.parent
    if parent is None:
        return
    if parent.actions is not None:
        action = parent.actions.table[SIGCHLD]
        if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
            utime, stime = cpu_ticks(group)
            uid = group.leader.creds.uid
            send_to_group(
                parent, SigInfo(SIGCHLD, code, pid=group.pid, uid=uid, status=status, utime=utime, stime=stime)
            )
    parent.child_wait.wake_all()


def cpu_ticks(group: ThreadGroup) -> tuple[int, int]:
    """User and system time of a process so far, in clock ticks, as siginfo has them."""
    utime = group.utime_ns + sum(each.utime_ns for each in group.tasks)
    stime = group.stime_ns + sum(each.stime_ns for each in group.tasks)
    return utime // TICK_NS, stime // TICK_NS


def orphaned(group: ThreadGroup) -> bool:
    """The process group has no member whose parent is in another group of its session: nobody could continue it.

    The first program's is none: whoever started the kernel can continue it.
    """
    first = group.kernel.first
    if first is not None and group.pgid == first.pgid:
        return False
    for each in group.kernel.groups.values():
        if each.pgid != group.pgid or each.zombie or each.parent is None:
            continue
        if each.parent.pgid != group.pgid and each.parent.sid == group.sid:
            return False
    return True
