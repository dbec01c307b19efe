"""How tasks come into being: clone(2) and its kin, and the first process of all.

In a nutshell: decide what is shared and what is copied, copy the registers, give the child 0, and queue it. Everything that
may fail comes first.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import sched as c
from trapline.abi.errno import EAGAIN, EINVAL, EPERM
from trapline.abi.signal import SIG_IGN, SIGCHLD
from trapline.kernel.sync.park import RESTART_NOINTR, Interrupted, WaitQueue
from trapline.kernel.task.creds import Credentials
from trapline.kernel.task.rlimit import first_limits, over_nproc, watch_cpu_limits
from trapline.kernel.task.signals.action import DEFAULT, SignalActions
from trapline.kernel.task.signals.pending import Pending
from trapline.kernel.task.task import Task, ThreadGroup
from trapline.machine.contract import NoRoom

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.machine.contract import Context


class CloneArgs(NamedTuple):
    """struct clone_args, as far as it is implemented."""

    flags: int = 0
    pidfd: int = 0
    child_tid: int = 0
    parent_tid: int = 0
    exit_signal: int = 0
    stack: int = 0
    tls: int = 0
    wanted_tid: int = 0  #: 0: any


def check(task: Task, args: CloneArgs) -> None:
    """clone(2), ERRORS."""
    flags = args.flags
    if flags & c.CLONE_SIGHAND and not flags & c.CLONE_VM:
        raise EINVAL("CLONE_SIGHAND needs CLONE_VM")
    if flags & c.CLONE_THREAD and not flags & c.CLONE_SIGHAND:
        raise EINVAL("CLONE_THREAD needs CLONE_SIGHAND")
    if flags & c.CLONE_FS and flags & (c.CLONE_NEWNS | c.CLONE_NEWUSER):
        raise EINVAL("CLONE_FS contradicts a new mount or user namespace")
    if flags & c.CLONE_CLEAR_SIGHAND and flags & c.CLONE_SIGHAND:
        raise EINVAL("CLONE_CLEAR_SIGHAND contradicts CLONE_SIGHAND")
    if flags & c.CLONE_PIDFD and flags & (c.CLONE_THREAD | c.CLONE_DETACHED):
        raise EINVAL("CLONE_PIDFD contradicts CLONE_THREAD")
    if flags & c.NAMESPACES:
        task.kernel.log_once("namespaces", "clone: namespaces are not implemented: EPERM")
        raise EPERM("namespaces")


def clone_task(task: Task, args: CloneArgs) -> Task:
    """A new task, not yet queued. Raises EAGAIN, ENOMEM.

    Signals come first: a process that is being killed must not leave a child, nor its group a new thread.
    """
    if task.signal_wakes():
        raise Interrupted(RESTART_NOINTR)
    kernel, flags = task.kernel, args.flags
    if over_nproc(task, 1):
        raise EAGAIN("RLIMIT_NPROC")
    if task.entity.reservation is not None and not task.entity.reset_on_fork:
        raise EAGAIN("a task under SCHED_DEADLINE makes no other without SCHED_FLAG_RESET_ON_FORK")
    if not flags & c.CLONE_FILES:
        task.files.check_copy()
    tid = kernel.alloc_tid(args.wanted_tid)
    mm = task.mm.get() if flags & c.CLONE_VM else _copy_memory(task)
    if flags & c.CLONE_THREAD:
        group = task.group
    else:
        group = _new_group(task, tid, flags)
    ctx: Context = kernel.machine.new_context(mm.space)
    child = Task(kernel, tid, group, ctx)
    ctx.owner = child
    ctx.copy_from(task.ctx)
    child.mm = mm
    child.fs = task.fs.share() if flags & c.CLONE_FS else task.fs.fork()
    child.files = _share(task.files) if flags & c.CLONE_FILES else task.files.fork()
    child.pending = Pending()
    _inherit(task, child, flags)
    if flags & c.CLONE_SYSVSEM:
        from trapline.kernel.ipc.sysv.sem import undo_list

        child.sem_undo = undo_list(task).share()
    child.exit_signal = group.leader.exit_signal if flags & c.CLONE_THREAD else args.exit_signal
    if flags & c.CLONE_PARENT and not flags & c.CLONE_THREAD:
        child.exit_signal = task.group.leader.exit_signal
    _enroll(kernel, child)
    _set_registers(child, args)
    if child is group.leader:
        watch_cpu_limits(group)
    return child


def _copy_memory(task: Task) -> AddressSpace:
    """A copy of the address space, and room on the machine to run in it. Raises ENOMEM, EAGAIN."""
    mm: AddressSpace = task.mm.fork()
    try:
        mm.space.secure()
    except NoRoom as refused:
        mm.put()
        task.kernel.log_once("no room", f"fork fails with EAGAIN: {refused}")
        raise EAGAIN(str(refused)) from None
    return mm


def _share(files: Any) -> Any:
    files.users += 1
    return files


def _new_group(task: Task, pid: int, flags: int) -> ThreadGroup:
    old = task.group
    parent = old.parent if flags & c.CLONE_PARENT else old
    group = ThreadGroup(task.kernel, pid, parent)
    group.creator = old.creator if flags & c.CLONE_PARENT else task
    group.pgid, group.sid, group.tty = old.pgid, old.sid, old.tty
    group.pending = Pending()
    if flags & c.CLONE_SIGHAND:
        group.actions = old.actions
    elif flags & c.CLONE_CLEAR_SIGHAND:
        table = [each if each.handler == SIG_IGN else DEFAULT for each in old.actions.table]
        group.actions = SignalActions(table)
    else:
        group.actions = old.actions.fork()
    group.rlimits = list(old.rlimits)
    group.exe = old.exe
    group.oom_score_adj = old.oom_score_adj
    group.core_filter = old.core_filter
    return group


def _inherit(task: Task, child: Task, flags: int) -> None:
    child.entity = task.kernel.sched.inherit(task)
    child.cpu = task.cpu
    child.comm = task.comm
    child.creds = task.creds
    child.blocked = task.blocked
    child.no_new_privs = task.no_new_privs
    child.dumpable = task.dumpable
    child.personality = task.personality
    child.flags = task.flags
    child.timer_slack_ns = child.timer_slack_default_ns = task.timer_slack_ns
    child.seccomp = task.seccomp
    child.start_time_ns = task.kernel.clock.monotonic_ns()
    if flags & (c.CLONE_VM | c.CLONE_VFORK) != c.CLONE_VM:
        child.altstack = task.altstack
    if not flags & c.CLONE_VM:
        child.rseq = task.rseq
    if task.io_context is not None:
        from trapline.kernel.task import ioprio

        ioprio.inherit(task, child, bool(flags & c.CLONE_IO))


def _enroll(kernel: Kernel, child: Task) -> None:
    group = child.group
    if not group.tasks:
        group.leader = child
        kernel.groups[group.pid] = group
        if group.parent is not None:
            group.parent.children.append(group)
    group.tasks.append(child)
    kernel.tasks[child.tid] = child
    kernel.sched.born(child)


def _set_registers(child: Task, args: CloneArgs) -> None:
    arch = child.kernel.machine.arch
    regs = child.ctx.regs
    regs[arch.ret] = 0
    if args.stack:
        regs[arch.sp] = args.stack
    if args.flags & c.CLONE_SETTLS:
        regs[arch.tls] = args.tls
    if args.flags & c.CLONE_CHILD_SETTID:
        child.set_child_tid = args.child_tid
    if args.flags & c.CLONE_CHILD_CLEARTID:
        child.clear_child_tid = args.child_tid
    if args.flags & c.CLONE_VFORK:
        child.vfork_done = WaitQueue()


# ---- the first processes


def new_init(kernel: Kernel) -> ThreadGroup:
    """Pid 1: the kernel's own. It has no task; it adopts orphans, and what it adopts is reaped at once."""
    init = ThreadGroup(kernel, kernel.alloc_tid(), None)
    init.actions = SignalActions()
    init.pending = Pending()
    init.rlimits = first_limits(kernel)
    kernel.groups[init.pid] = init
    return init


def new_process(kernel: Kernel, creds: Credentials, files: Any, fs: Any) -> Task:
    """A process without a program yet, a child of init and leader of a session of its own."""
    pid = kernel.alloc_tid()
    group = ThreadGroup(kernel, pid, kernel.init)
    group.actions = SignalActions()
    group.pending = Pending()
    group.rlimits = list(kernel.init.rlimits)
    task = Task(kernel, pid, group, None)
    task.creds, task.files, task.fs = creds, files, fs
    task.pending = Pending()
    task.start_time_ns = kernel.clock.monotonic_ns()
    task.exit_signal = SIGCHLD
    _enroll(kernel, task)
    return task
