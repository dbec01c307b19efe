"""Tasks as data: who there is, what each has used, and what it asked of the kernel; one sample at a time, rates between two.

In a nutshell: a `Tally` listens and counts; `sample(kernel, tally)` copies everything into plain values; `between(a, b)` is
what happened from one to the other, by second. `detail` is one process at large. Names come from programs: escape them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import TEXTS
from trapline.kernel.fs.proc.taskmm import cmdline
from trapline.kernel.fs.proc.taskstat import state_letter, totals
from trapline.kernel.task.cputime import group_user_ns, user_ns
from trapline.machine.contract import ENTRY_INT80
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.scope.listener import Args, Listener
from trapline.scope.strace import files
from trapline.scope.views.space import Space, look, memory_in

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.entry.dispatch import Dispatcher
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task, ThreadGroup
    from trapline.scope.events import Event

LAST = 40  #: calls of each process that are remembered
INIT = 1  #: the kernel's own process, which has no program
_ERRORS = {number: name for name, (number, _) in reversed(TEXTS.items())}


class Call(NamedTuple):
    """One system call of one process, or of all: what came of it so far."""

    name: str
    times: int
    errors: int
    ns: int  #: from the trap's decoding to the result, waiting included


class Done(NamedTuple):
    """One call that came to an end."""

    tid: int
    name: str
    args: tuple[int, ...]
    result: int  #: negative: minus the errno


class Row(NamedTuple):
    """One process, or with `by_thread` one thread."""

    tid: int
    pid: int
    parent: int
    state: str  #: R, S, D, T, Z as in ps(1)
    threads: int
    user_ns: int
    system_ns: int
    wait_ns: int  #: neither: asleep, or waiting for a CPU
    faults: int
    major: int
    rss: int  #: bytes
    size: int  #: bytes of areas
    calls: int
    switches: int
    nice: int
    cpu: int
    command: str
    call: str  #: the call it is in, "" in user mode


class Sample(NamedTuple):
    """One moment. Counts are since the tally began."""

    time_ns: int  #: CLOCK_MONOTONIC
    clock_ns: int  #: CLOCK_REALTIME
    up_ns: int  #: since the kernel was booted
    cpus: int
    rows: tuple[Row, ...]
    calls: tuple[Call, ...]  #: by name
    crossings: int  #: traps of every kind
    faults: int
    signals: int
    switches: int
    user_ns: int
    system_ns: int
    memory: int  #: bytes of frames in use
    memory_peak: int
    memory_total: int

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import sample

        return sample(self)


class Rates(NamedTuple):
    """What happened between two samples, for each second."""

    seconds: float
    crossings: float
    faults: float
    signals: float
    switches: float
    user: float  #: CPUs' worth
    system: float
    calls: dict[str, float]
    rows: dict[int, tuple[float, float, float, float]]  #: tid -> CPUs' worth of user and system, faults, calls


class Detail(NamedTuple):
    """One process at large."""

    pid: int
    command: str
    arguments: tuple[str, ...]
    threads: tuple[Row, ...]
    space: Space | None
    files: tuple[tuple[int, str], ...]
    last: tuple[Done, ...]
    calls: tuple[Call, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import detail

        return detail(self)


class _Counts:
    """Of one process."""

    __slots__ = ("by_call", "last", "total")

    def __init__(self) -> None:
        self.total = 0
        self.by_call: dict[str, list[int]] = {}
        self.last: deque[tuple[int, str, Args, int]] = deque(maxlen=LAST)


class Tally(Listener):
    """Counts crossings, in all and for each process. It takes 2 µs of Python for each."""

    def __init__(self, kernel: Kernel) -> None:
        self._now = kernel.clock.monotonic_ns
        self.crossings = self.faults = self.signals = self.switches = 0
        self.user_ns = self.system_ns = 0  #: of processes that are gone
        self.by_call: dict[str, list[int]] = {}  #: name -> count, errors, ns
        self._of: dict[ThreadGroup, _Counts] = {}
        self._open: dict[Task, int] = {}
        self._on: dict[int, Task] = {}  #: CPU -> who was last on it

    def of(self, group: ThreadGroup) -> _Counts:
        found = self._of.get(group)
        if found is None:
            found = self._of[group] = _Counts()
        return found

    def trapped(self, task: Task) -> None:
        self.crossings += 1

    def resumed(self, task: Task) -> None:
        if self._on.get(task.cpu) is not task:
            self.switches += 1
            self._on[task.cpu] = task

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        self._open[task] = self._now()

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        used = self._now() - self._open.pop(task, self._now())
        result = result - (1 << 64) if result >> 63 == 1 else result
        counts = self.of(task.group)
        counts.total += 1
        counts.last.append((task.tid, call.name, args, result))
        failed = -4096 < result < 0
        for table in (self.by_call, counts.by_call):
            entry = table.get(call.name)
            if entry is None:
                entry = table[call.name] = [0, 0, 0]
            entry[0] += 1
            entry[1] += failed
            entry[2] += used

    def fault(self, task: Task, address: int, access: int, served: bool) -> None:
        self.faults += 1

    def signal(self, task: Task, info: Any) -> None:
        self.signals += 1

    def exited(self, task: Task, status: int) -> None:
        self._open.pop(task, None)
        for cpu in [cpu for cpu, each in self._on.items() if each is task]:
            del self._on[cpu]
        group = task.group
        if group.zombie:
            self._of.pop(group, None)
            self.user_ns += group.utime_ns
            self.system_ns += group.stime_ns


def _calls(table: dict[str, list[int]]) -> tuple[Call, ...]:
    return tuple(Call(name, *entry) for name, entry in sorted(table.items()))


def sample(kernel: Kernel, tally: Tally, *, by_thread: bool = False) -> Sample:
    """Everything as it is now."""
    now_ns, frames = kernel.clock.monotonic_ns(), kernel.ram.frames
    groups = [each for each in kernel.groups.values() if each.pid != INIT and each.leader is not None]
    rows: list[Row] = []
    user, system = tally.user_ns, tally.system_ns
    for group in groups:
        whole = _row(group.leader, tally, now_ns, whole=True)
        rows += [_row(each, tally, now_ns, whole=False) for each in group.tasks] if by_thread else [whole]
        if not group.zombie:
            user += whole.user_ns
            system += whole.system_ns
    return Sample(
        now_ns, kernel.clock.realtime_ns(), now_ns - kernel.boot_monotonic_ns, kernel.machine.cpus, tuple(rows),
        _calls(tally.by_call), tally.crossings, tally.faults, tally.signals, tally.switches, user, system,
        frames.used_pages << PAGE_SHIFT, frames.peak_pages << PAGE_SHIFT, frames.limit_pages << PAGE_SHIFT,
    )  # fmt: skip


def _row(task: Task, tally: Tally, now_ns: int, *, whole: bool) -> Row:
    group = task.group
    mm = memory_in(group)
    _, system, minor, major = totals(task, whole)
    user = group_user_ns(group) if whole else user_ns(task)
    counts = tally.of(group) if not group.zombie else _Counts()
    return Row(
        task.tid, group.pid, group.parent.pid if group.parent is not None else 0, state_letter(task), len(group.tasks),
        user, system, max(0, now_ns - task.start_time_ns - user - system), minor, major,
        mm.rss_pages << PAGE_SHIFT if mm is not None else 0, mm.total_vm_pages << PAGE_SHIFT if mm is not None else 0,
        counts.total, sum(each.nvcsw + each.nivcsw for each in (group.tasks if whole else [task])),
        task.entity.nice if task.entity is not None else 0, task.cpu, task.comm.decode(errors="replace"), _present(task),
    )  # fmt: skip


def _present(task: Task) -> str:
    """The call that a task waits in."""
    if task.coro is None:
        return ""
    dispatcher: Dispatcher = task.kernel.loop.dispatcher  # type: ignore[attr-defined]
    table = dispatcher.compat if task.ctx.entry == ENTRY_INT80 else dispatcher.table
    number = task.syscall_nr & 0xFFFFFFFF
    return (table.names[number] if number < len(table.names) else None) or ""


def loaded(data: dict[str, Any]) -> Sample:
    """A sample again, from what `space.plain` made of it."""
    lists = {"rows": tuple(Row(**each) for each in data["rows"]), "calls": tuple(Call(**each) for each in data["calls"])}
    return Sample(**(data | lists))


def between(first: Sample, second: Sample) -> Rates:
    """What happened from `first` to `second`; a process that is new counts from its start."""
    seconds = max(1, second.time_ns - first.time_ns) / 1e9
    old_calls = {each.name: each.times for each in first.calls}
    old_rows = {each.tid: each for each in first.rows}

    def by_second(field: str) -> float:
        return float(max(0, getattr(second, field) - getattr(first, field)) / seconds)

    rows = {}
    for each in second.rows:
        old = old_rows.get(each.tid)
        used = [each.user_ns / 1e9, each.system_ns / 1e9, float(each.faults + each.major), float(each.calls)]
        if old is not None:
            before = (old.user_ns / 1e9, old.system_ns / 1e9, old.faults + old.major, old.calls)
            used = [max(0.0, new - was) for new, was in zip(used, before, strict=True)]
        user, system, faults, calls = (value / seconds for value in used)
        rows[each.tid] = user, system, faults, calls
    return Rates(
        seconds, by_second("crossings"), by_second("faults"), by_second("signals"), by_second("switches"),
        by_second("user_ns") / 1e9, by_second("system_ns") / 1e9,
        {each.name: (each.times - old_calls.get(each.name, 0)) / seconds for each in second.calls}, rows,
    )  # fmt: skip


def detail(kernel: Kernel, tally: Tally, pid: int) -> Detail:
    """Process `pid` at large. Raises KeyError."""
    group = kernel.groups.get(pid)
    if group is None or group.leader is None:
        raise KeyError(f"no process has the number {pid}")
    task = next((each for each in group.tasks if each.mm is not None), group.leader)
    now_ns = kernel.clock.monotonic_ns()
    counts = tally.of(group) if not group.zombie else _Counts()
    open_files = task.files.fds() if task.files is not None else []
    names = [(fd, (files.name_of(task, fd) or b"").decode(errors="replace")) for fd in open_files]
    arguments = cmdline(task).decode(errors="replace").split("\0")[:-1]
    return Detail(
        pid, task.comm.decode(errors="replace"), tuple(arguments),
        tuple(_row(each, tally, now_ns, whole=False) for each in group.tasks),
        look(kernel, pid) if memory_in(group) is not None else None, tuple(names),
        tuple(Done(*each) for each in counts.last), _calls(counts.by_call),
    )  # fmt: skip


# ---- as text


def done_text(done: Done) -> str:
    """A call on one line: small numbers decimal, others hexadecimal."""
    shown = ", ".join(str(each) if -4096 < each < 65536 else f"{each & (1 << 64) - 1:#x}" for each in done.args)
    failed = -4096 < done.result < 0
    result = f"-1 {_ERRORS.get(-done.result, -done.result)}" if failed else number_text(done.result)
    return f"{done.name}({shown}) = {result}"


def number_text(value: int) -> str:
    """A result: what may be an address in hexadecimal."""
    return str(value) if abs(value) < 1 << 31 else f"{value & (1 << 64) - 1:#x}"


def event_text(found: Event) -> str:
    """An event on one line, without when."""
    rest = found.rest
    if found.event != "call":
        return f"{found.event} {' '.join(f'{key}={value}' for key, value in rest.items())}"
    result = "?" if rest["result"] is None else f"-1 {rest['error']}" if rest["error"] else number_text(rest["result"])
    return f"{rest['call']}({', '.join(rest['shown'].values())}) = {result}"
