"""Kernel: what every part of the kernel shares, and the few services that all of them use.

It is plain state; `trapline.kernel.boot` composes one with its file systems, devices and trap loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cached_property
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.arch import ABIS
from trapline.abi.errno import EAGAIN, EEXIST
from trapline.abi.sched import PID_MAX
from trapline.kernel.sync import park
from trapline.kernel.sync.park import WaitQueue
from trapline.kernel.sync.timers import Timers

if TYPE_CHECKING:
    from trapline.kernel.fs.vfs import Vfs
    from trapline.kernel.ipc.sysv.namespace import IpcNamespace
    from trapline.kernel.mm.swap.areas import Backing, Swap
    from trapline.kernel.sched.interface import Scheduler
    from trapline.kernel.task.accounting import Accounting
    from trapline.kernel.task.task import Task, ThreadGroup
    from trapline.machine.contract import Machine

LOG_LINES = 1000  #: how much syslog(2) can read back


class Kernel:
    """One running kernel on one machine."""

    vfs: Vfs
    ipc: IpcNamespace
    sched: Scheduler
    console: Any  #: drivers.console: what the first program's descriptors 0, 1 and 2 are
    vdso: Any  #: user.vdso.Vdso, or None when there is none
    core_pattern = b"core"  #: what core dumps are called
    core_uses_pid = False
    lease_break_time_s = 45  #: what holders of leases are given to part with them; 0: for ever
    accounting: Accounting | None = None  #: task.accounting: where records of processes go
    accounting_limits = (4, 2, 30)  #: /proc/sys/kernel/acct
    ctrl_alt_del = 0  #: what reboot(2) said that the keys do: 1: restart at once, 0: tell init
    first: ThreadGroup | None = None  #: the first program, which stands for us in the eyes of who started us
    swap: Swap | None = None  #: task.swap: made when something is swapped to first
    on_stop: Callable[[ThreadGroup], None] | None = None  #: told of every process that has stopped
    init: ThreadGroup  #: pid 1: the kernel's own, without user code; adopts orphans and reaps them at once

    def __init__(
        self,
        machine: Machine,
        clock: Any,
        random: Callable[[int], bytes],
        *,
        hostname: bytes = b"trapline",
        pid_limit: int = 32768,
        aslr: bool = True,
        seed: int | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.machine = machine
        self.ram = machine.ram
        self.abi = ABIS[machine.arch.name]
        self.clock = clock  #: drivers.hostclock.Clock: monotonic_ns(), realtime_ns(), boottime_ns()
        self.random = random  #: n -> n bytes: the host's, or a deterministic stream when there is a seed
        self.timers = Timers()
        park.use_timers(self.timers)
        self.tasks: dict[int, Task] = {}  #: by tid
        self.groups: dict[int, ThreadGroup] = {}  #: by pid, zombies included
        self.hostname = hostname
        self.domainname = b"(none)"
        self.current: Task | None = None  #: whose trap is served
        self.pid_limit = pid_limit  #: most tasks at once
        self.aslr = aslr
        self.seed = seed
        self.boot_realtime_ns: int = clock.realtime_ns()
        self.boot_monotonic_ns: int = clock.monotonic_ns()
        self.log_lines: list[tuple[int, str, int]] = []  #: (ns since boot, text, priority), the last LOG_LINES
        self.log_dropped = 0  #: how many lines came before them
        self.log_wait = WaitQueue()  #: syslog(2) waits here for a line
        self.log_read = self.log_partial = 0  #: up to which line, and byte of it, SYSLOG_ACTION_READ has come
        self.log_cleared = 0  #: up to which line SYSLOG_ACTION_CLEAR has hidden
        self._log_sink = log
        self._logged: set[object] = set()
        self._last_tid = 0
        self._reused = False  #: a number may be given that was given before
        self.vdso = None
        #: what is to be done once all who can run do so, and before the next trap is served
        self.afterwards: deque[Callable[[], None]] = deque()
        self.swap_devices: dict[int, Backing] = {}  #: by number: block devices, which are good for nothing else
        self.newborn: Task | None = None  #: the process that the call being served has made, queued by now
        self.on_signal: Callable[[Task, Any], None] | None = None  #: while somebody observes: a task takes a signal
        self.on_ignored: Callable[[Task, Any], None] | None = None  #: while somebody observes: one is dropped, as it is ignored

    def log(self, message: str, priority: int = 6) -> None:
        """A line on the kernel log; its priority as in syslog(3): 6, "informational", if the kernel itself speaks."""
        self.log_lines.append((self.clock.monotonic_ns() - self.boot_monotonic_ns, message, priority))
        if len(self.log_lines) > LOG_LINES:
            del self.log_lines[0]
            self.log_dropped += 1
        if self.log_wait.waiters:
            self.log_wait.wake_all()
        if self._log_sink is not None:
            self._log_sink(message)

    def log_once(self, key: object, message: str) -> None:
        """A line on the kernel log, the first time `key` is seen."""
        if key not in self._logged and len(self._logged) < 10_000:
            self._logged.add(key)
            self.log(message)

    def kick(self, task: Task) -> None:
        """If `task` is in user mode on a CPU, make it trap soon."""
        if task.on_cpu:
            self.machine.kick(task.ctx)

    def alloc_tid(self, wanted: int = 0) -> int:
        """A free task number, or `wanted`; raises EAGAIN at the limit, EEXIST if `wanted` is taken."""
        if len(self.tasks) >= self.pid_limit:
            self.log_once("pids", f"the limit of {self.pid_limit} tasks is reached: clone fails with EAGAIN")
            raise EAGAIN("too many tasks")
        if wanted:
            if self._taken(wanted):
                raise EEXIST
            self._reused = True
            return wanted
        tid = self._last_tid
        while True:
            tid += 1
            if tid >= PID_MAX:
                tid, self._reused = 300, True
            if not self._taken(tid):
                self._last_tid = tid
                return tid

    def _taken(self, tid: int) -> bool:
        """A task or process has the number; or, once numbers come again, a group or session that outlived its leader."""
        if tid in self.tasks or tid in self.groups:
            return True
        return self._reused and any(tid in (each.pgid, each.sid) for each in self.groups.values())

    @cached_property
    def kcmp_secret(self) -> tuple[int, int]:
        """A mask and an odd factor that hide the addresses kcmp(2) orders by."""
        raw = self.random(16)
        return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little") | 1

    def enqueue(self, task: Task) -> None:
        """A new or continued task wants a CPU in user mode."""
        self.sched.enqueue(task, True)

    def each_group(self, matches: Callable[[ThreadGroup], bool]) -> list[ThreadGroup]:
        return [each for each in self.groups.values() if matches(each)]
