"""Task and ThreadGroup: what the kernel knows of one thread and of one process. Data only; verbs live beside it.

Words are Linux's: a *task* is a thread, a *thread group* a process; `tid` names the first, `pid` the second.

Invariants:
- a task is in exactly one place: on a CPU, on the scheduler's run queue, on the ready queue (its kernel coroutine is to
  be continued), asleep (`waiter` set), stopped, or dead;
- `work` is non-zero exactly when something must happen before the task's next user instruction.
"""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.core import DEFAULT_FILTER
from trapline.kernel.sync.park import Waiter, WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.fs.fdtable import FdTable
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.fscontext import FsContext
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.creds import Credentials
    from trapline.kernel.task.signals.action import SignalActions
    from trapline.kernel.task.signals.pending import Pending
    from trapline.machine.contract import Context

# Task.state
RUNNABLE = 0  #: on a CPU, on the run queue or on the ready queue
SLEEPING = 1
STOPPED = 2  #: by a job-control signal
DEAD = 3

# Task.work: what to do before user code runs again
WORK_SIGNAL = 1  #: a deliverable signal may be pending
WORK_EXIT = 2  #: the whole group is exiting
WORK_STOP = 4  #: the whole group is stopping
WORK_RESCHED = 8  #: the slice is used up
WORK_RESTORE_MASK = 16  #: `saved_mask` is to be restored once signals were delivered (sigsuspend and its kin)


class Task:
    """One thread."""

    __slots__ = (
        "again",
        "altstack",
        "before_result",
        "blocked",
        "clear_child_tid",
        "comm",
        "coro",
        "cpu",
        "creds",
        "ctx",
        "death_signal",
        "dumpable",
        "entity",
        "exit_signal",
        "exit_status",
        "files",
        "flags",
        "fs",
        "group",
        "io_context",
        "kernel",
        "majflt",
        "minflt",
        "mm",
        "nivcsw",
        "no_new_privs",
        "nproc_exceeded",
        "nvcsw",
        "on_cpu",
        "pending",
        "personality",
        "restart",
        "robust_list",
        "rseq",
        "saved_mask",
        "seccomp",
        "sem_undo",
        "set_child_tid",
        "start_time_ns",
        "state",
        "stime_ns",
        "syscall_entry",
        "syscall_nr",
        "tid",
        "timer_slack_default_ns",
        "timer_slack_ns",
        "user_dispatch",
        "user_since_ns",
        "utime_ns",
        "vfork_done",
        "waiter",
        "work",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, tid: int, group: ThreadGroup, ctx: Context | None) -> None:
        self.kernel = kernel
        self.tid = tid
        self.group = group
        self.ctx: Context = ctx  # type: ignore[assignment]  # None only for the kernel's own init
        self.comm = b""
        self.state = RUNNABLE
        self.work = 0
        self.on_cpu = False
        self.cpu = 0  #: the CPU it is on, or was on last
        self.coro: Coroutine[Any, Any, int] | None = None
        self.waiter: Waiter | None = None
        # shared or copied by clone(2); put by exit
        self.mm: AddressSpace = None  # type: ignore[assignment]  # None after exit
        self.fs: FsContext = None  # type: ignore[assignment]
        self.files: FdTable = None  # type: ignore[assignment]
        self.creds: Credentials = None  # type: ignore[assignment]
        # the system call in progress
        self.syscall_nr = -1  #: its number, or -1 outside a call: restarts need it
        self.syscall_entry = 0
        self.restart = 0  #: RESTART_* after an interrupted call, until signal delivery decided
        self.again: Any = None  #: what restart_syscall(2) continues
        self.before_result = 0  #: what the result register held when a signal interrupted the call
        # signals
        self.pending: Pending = None  # type: ignore[assignment]
        self.blocked = 0  #: bit signo-1
        self.saved_mask = 0
        self.altstack: tuple[int, int, int] = (0, 0, 2)  #: (sp, size, flags), SS_DISABLE
        # thread bookkeeping
        self.set_child_tid = 0
        self.clear_child_tid = 0
        self.robust_list: tuple[int, int] = (0, 0)
        self.rseq: tuple[int, int, int] = (0, 0, 0)  #: (address, length, signature)
        self.vfork_done: WaitQueue | None = None
        self.exit_signal = 0
        self.exit_status = 0
        self.death_signal = 0  #: PR_SET_PDEATHSIG
        self.no_new_privs = False
        self.nproc_exceeded = False  #: it became a user that had too many tasks; execve(2) fails while that is so
        self.dumpable = 1
        self.personality = 0
        self.flags = 0  #: PF_* that prctl(2) sets
        self.timer_slack_ns = self.timer_slack_default_ns = 50_000
        self.io_context: Any = None  #: task.ioprio.IoContext once a priority was set; shared by CLONE_IO
        self.sem_undo: Any = None  #: adjustments of semop(2) with SEM_UNDO; shared by CLONE_SYSVSEM
        self.seccomp: Any = None  #: filters of seccomp(2), or None
        self.user_dispatch: Any = None  #: security.user_dispatch.Dispatch, if its calls are sent back to it
        # accounting
        self.utime_ns = 0
        self.stime_ns = 0
        self.user_since_ns = 0
        self.start_time_ns = 0
        self.minflt = 0
        self.majflt = 0
        self.nvcsw = 0
        self.nivcsw = 0
        self.entity: Any = None  #: the scheduling class's own state

    def signal_wakes(self) -> bool:
        """A signal (or the group's exit or stop) must end an interruptible wait."""
        return bool(self.work & (WORK_SIGNAL | WORK_EXIT | WORK_STOP))

    def __repr__(self) -> str:
        return f"<Task {self.tid} of {self.group.pid} {self.comm.decode(errors='replace')}>"


class ThreadGroup:
    """One process: what its threads share."""

    __slots__ = (
        "actions",
        "child_subreaper",
        "child_wait",
        "children",
        "cmajflt",
        "cmaxrss_kb",
        "cminflt",
        "cnivcsw",
        "cnvcsw",
        "core",
        "core_filter",
        "creator",
        "cstime_ns",
        "cutime_ns",
        "did_exec",
        "exe",
        "exit_status",
        "exiting",
        "group_stop",
        "itimers",
        "kernel",
        "leader",
        "majflt",
        "maxrss_kb",
        "minflt",
        "nivcsw",
        "nvcsw",
        "oom_score_adj",
        "parent",
        "pending",
        "pgid",
        "pid",
        "pidfd_wait",
        "posix_timers",
        "rchar",
        "rlimits",
        "sid",
        "signal_wait",
        "stime_ns",
        "stop_signal",
        "syscr",
        "syscw",
        "tasks",
        "tty",
        "utime_ns",
        "wait_event",
        "wchar",
        "zombie",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, pid: int, parent: ThreadGroup | None) -> None:
        self.kernel = kernel
        self.pid = pid
        self.parent = parent
        self.creator: Task | None = None  #: the parent's thread that made it, or one that stands in for it
        self.leader: Task = None  # type: ignore[assignment]  # set with the first task
        self.tasks: list[Task] = []
        self.children: list[ThreadGroup] = []
        self.pgid = pid
        self.sid = pid
        self.tty: Any = None  #: controlling terminal
        self.actions: SignalActions = None  # type: ignore[assignment]
        self.pending: Pending = None  # type: ignore[assignment]
        self.signal_wait = WaitQueue()  #: signalfd and sigtimedwait listen here
        self.child_wait = WaitQueue()  #: parents sleep here in wait4(2)
        self.pidfd_wait = WaitQueue()
        self.rlimits: list[tuple[int, int]] = []
        self.itimers: Any = None
        self.posix_timers: Any = None
        self.exe: File | None = None
        # life and death
        self.exiting = False  #: exit_group has begun
        self.zombie = False  #: every thread is gone; waits to be reaped
        self.exit_status = 0  #: as wait(2) encodes it
        self.core: Any = None  #: task.coredump.dump.Dump while one is due
        self.core_filter = DEFAULT_FILTER  #: /proc/PID/coredump_filter
        self.did_exec = False
        self.group_stop = 0  #: signal number while stopped, else 0
        self.stop_signal = 0
        self.wait_event = 0  #: CLD_STOPPED or CLD_CONTINUED not yet reported to the parent, else 0
        self.child_subreaper = False
        self.oom_score_adj = 0
        self.rchar = self.wchar = self.syscr = self.syscw = 0  #: bytes and calls of read(2), write(2) and their kin
        # of threads that are gone, and of children that were waited for
        self.utime_ns = self.stime_ns = self.minflt = self.majflt = self.nvcsw = self.nivcsw = 0
        self.cutime_ns = self.cstime_ns = self.cminflt = self.cmajflt = self.cnvcsw = self.cnivcsw = 0
        self.maxrss_kb = self.cmaxrss_kb = 0

    def __repr__(self) -> str:
        return f"<ThreadGroup {self.pid} with {len(self.tasks)} threads>"
