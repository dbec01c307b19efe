"""How tasks and processes end.

`exit_group` and `kill_task` only mark: each task ends by itself, in `exit_task`, when the trap loop next has it in hand. A
sleeping task is woken for that, a running one is kicked. The last thread's end is the process's: children go to the nearest
subreaper or to init, the parent is told, and what is left is a zombie until it is waited for.

Invariants:
- `group.tasks` are the live tasks; `kernel.tasks` has them by tid; a group stays in `kernel.groups` until it is reaped;
- whatever a task held (memory, files, timers) is let go exactly once, in `exit_task`.
"""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EAGAIN, Errno
from trapline.abi.signal import (
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    NSIG,
    SI_USER,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
)
from trapline.kernel.ipc.futex.robust import exit_robust_list
from trapline.kernel.sync.park import SIGNALLED
from trapline.kernel.task.signals import stop
from trapline.kernel.task.signals.send import SigInfo, send_to_group
from trapline.kernel.task.task import DEAD, RUNNABLE, STOPPED, WORK_EXIT

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

CORE = 0x80


def exit_group(task: Task, status: int) -> None:
    """The whole process of `task` ends with the wait(2) status `status`."""
    group = task.group
    if group.exiting:
        return
    group.exiting = True
    group.exit_status = status
    for each in group.tasks:
        kill_task(each)


def kill_task(task: Task) -> None:
    """Make one task end as soon as the trap loop has it in hand."""
    task.work |= WORK_EXIT
    task.kernel.sched.ends(task)
    if task.state == STOPPED:
        task.state = RUNNABLE
        task.kernel.enqueue(task)
    elif task.waiter is not None:
        task.waiter.wake(SIGNALLED)
    else:
        task.kernel.kick(task)


def exit_task(task: Task, status: int) -> None:
    """`task` ends here: nothing of it runs afterwards. Its context is closed by the trap loop."""
    if task.state == DEAD:
        return
    group, kernel = task.group, task.kernel
    task.exit_status = status
    stop.thread_exits(task)
    if len(group.tasks) == 1:
        _release_timers(group)
        if kernel.accounting is not None:
            kernel.accounting.process_ends(task, group.exit_status if group.exiting else status)
    leave_memory(task)
    if task.sem_undo is not None:
        from trapline.kernel.ipc.sysv import undo

        undo.leave(task)
    task.seccomp = None
    task.state = DEAD
    task.files.put()
    task.fs.put()
    group.tasks.remove(task)
    del kernel.tasks[task.tid]
    kernel.sched.ended(task)
    _account(task)
    _leave_children(task)
    if group.tasks:
        group.child_wait.wake_all()  # an execve of another thread waits for this
    else:
        _group_exits(group, group.exit_status if group.exiting else status)


def _release_timers(group: ThreadGroup) -> None:
    if group.itimers is not None:
        from trapline.kernel.task import itimers

        itimers.release(group)
    if group.posix_timers is not None:
        from trapline.kernel.task import posix_timers

        posix_timers.release(group)


def leave_memory(task: Task) -> None:
    """`task` stops using its address space, at its end or in execve(2): locks and waiters in it are told."""
    mm = task.mm
    if mm is None:
        return
    exit_robust_list(task)
    if task.clear_child_tid:
        if mm.users > 1:
            from trapline.kernel.ipc.futex import queue as futex

            try:
                mm.write_u32(task.clear_child_tid, 0)
                futex.wake(mm, task.clear_child_tid, 1)
            except Errno:
                pass
        task.clear_child_tid = 0
    task.group.maxrss_kb = max(task.group.maxrss_kb, mm.hiwater_rss_pages << 2)
    task.minflt, task.majflt = task.minflt + mm.minflt, task.majflt + mm.majflt
    mm.minflt = mm.majflt = 0
    task.mm = None  # type: ignore[assignment]
    mm.put(task.kernel.afterwards.append)
    if task.vfork_done is not None:
        task.vfork_done.wake_all()
        task.vfork_done = None


def _account(task: Task) -> None:
    group = task.group
    group.utime_ns += task.utime_ns
    group.stime_ns += task.stime_ns
    group.minflt += task.minflt
    group.majflt += task.majflt
    group.nvcsw += task.nvcsw
    group.nivcsw += task.nivcsw


# ---- the end of a process


def _group_exits(group: ThreadGroup, status: int) -> None:
    group.exiting = True
    group.exit_status = status
    _leave_terminal(group)
    group.zombie = True
    _reparent_children(group)
    group.pidfd_wait.wake_all()
    parent = group.parent
    assert parent is not None
    _hang_up_orphans(group, parent)
    _tell_parent(group)


def _tell_parent(group: ThreadGroup) -> None:
    """The parent of a zombie hears of it; nobody waits for a child of init's, or of a parent that said so."""
    parent = group.parent
    assert parent is not None
    signo = group.leader.exit_signal
    reaps = parent is group.kernel.init or (signo == SIGCHLD and parent.actions.reaps_children())
    sent = signo != SIGCHLD or parent.actions.table[SIGCHLD].handler != SIG_IGN  # else not even where it is blocked
    if sent and 1 <= signo <= NSIG and parent is not group.kernel.init:
        _notify(parent, child_info(group, signo))
    if reaps:
        reap(group)
    parent.child_wait.wake_all()


def child_info(group: ThreadGroup, signo: int) -> SigInfo:
    """What SIGCHLD (or the exit signal) and waitid(2) say of an ended child."""
    low = group.exit_status & 0x7F
    if low:
        code, status = (CLD_DUMPED if group.exit_status & CORE else CLD_KILLED), low
    else:
        code, status = CLD_EXITED, group.exit_status >> 8 & 0xFF
    utime, stime = stop.cpu_ticks(group)
    return SigInfo(signo, code, pid=group.pid, uid=group.leader.creds.uid, status=status, utime=utime, stime=stime)


def reap(group: ThreadGroup) -> None:
    """A zombie was waited for, or nobody ever will: the last trace of it goes."""
    if group.parent is not None:
        group.parent.children.remove(group)
    group.kernel.groups.pop(group.pid, None)


def _notify(group: ThreadGroup, info: SigInfo) -> None:
    """A signal of the kernel's own: it is lost if it may not be queued."""
    with suppress(EAGAIN):
        send_to_group(group, info)


def _leave_children(task: Task) -> None:
    """The children that `task` made belong to another thread now, and get the signals of PR_SET_PDEATHSIG."""
    group = task.group
    heir = group.tasks[0] if group.tasks else None
    for child in group.children:
        if child.creator is task:
            child.creator = heir
            for each in child.tasks:
                if each.death_signal:
                    _notify(child, SigInfo(each.death_signal, SI_USER))


def _reparent_children(group: ThreadGroup) -> None:
    """Children go to the nearest living subreaper, or to init."""
    if not group.children:
        return
    heir = group.parent
    init = group.kernel.init
    while heir is not None and heir is not init and (not heir.child_subreaper or heir.exiting):
        heir = heir.parent
    heir = heir or init
    for child in tuple(group.children):
        group.children.remove(child)
        child.parent = heir
        child.creator = heir.tasks[0] if heir.tasks else None
        heir.children.append(child)
        child.leader.exit_signal = SIGCHLD  # whatever it was: it counts as an ordinary child from now on
        if child.zombie:
            _tell_parent(child)
        _hang_up_orphans(child, group)


def _leave_terminal(group: ThreadGroup) -> None:
    """A session leader takes its terminal with it: the foreground group is hung up."""
    if group.tty is not None and group.sid == group.pid:
        from trapline.kernel.drivers.tty import disassociate

        disassociate(group)


def _hang_up_orphans(group: ThreadGroup, parent: ThreadGroup) -> None:
    """`group` and `parent` were child and parent until now: one of them ends, and the link between their process groups.

    A process group that becomes orphaned by that with a stopped member gets SIGHUP and SIGCONT (_exit(2), "Notes").
    """
    if parent.sid != group.sid or parent.pgid == group.pgid:
        return
    members = group.kernel.each_group(lambda each: each.pgid == group.pgid and not each.zombie)
    if any(each.group_stop for each in members) and stop.orphaned(members[0]):
        for each in members:
            send_to_group(each, SigInfo(SIGHUP))
            send_to_group(each, SigInfo(SIGCONT))
