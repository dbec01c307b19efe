"""Events: what happened in a kernel, as data: the one schema behind JSON lines, timelines and databases.

Every event has `event`, `time_ns` (CLOCK_REALTIME, when it began), `pid`, `tid`, `command` and `cpu`. Besides:

    call    call, args {name: number}, shown {name: strace's text}, result, error (the errno's name), duration_ns (to the
            result), wait_ns (of that, asleep), injected (strace's words for it, if somebody interfered); a call that does
            not return has result null
    signal  signal, shown (strace's siginfo)
    start   a task ran for the first time
    stop    signal: the task stopped
    exit    status (exit(2)'s) or signal

and, for sinks that want to know what CPUs do:

    run     duration_ns: a stay in user mode, on `cpu`; at its end the task came into the kernel
    fault   address, access ("read", "write", "exec"), kind and pages (`Listener.faulted`), duration_ns (of the repair), kernel
            (it was the kernel that read or wrote), served (false: a signal follows, or EFAULT)
    switch  `cpu` was another thread's before: from_tid, from_command, and why that left it
    wake    a wait is over: by, the number of the thread whose call ended it (null: time, or the host)
    interrupt  kind ("timer", "device", "kick", "spurious"); those of the kernel's own are of thread 0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trapline.abi.errno import TEXTS
from trapline.machine.contract import EXEC, FAULT, WRITE
from trapline.scope.listener import NEVER_RETURN, Args, Listener
from trapline.scope.strace import names
from trapline.scope.strace.choice import status_of
from trapline.scope.strace.plan import Plans
from trapline.scope.strace.siginfo import render as siginfo
from trapline.scope.strace.style import PLAIN, Style

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.scope.strace.memory import Decoder

_OF_CPUS = frozenset(("faulted", "switched", "woken", "interrupt"))
ERRORS = {number: name for name, (number, _) in reversed(TEXTS.items())}


class Event(NamedTuple):
    """`rest` are the members of its kind."""

    event: str
    time_ns: int
    pid: int
    tid: int
    command: str
    cpu: int
    rest: dict[str, Any]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import event

        return event(self)


class Sink(Protocol):
    """What takes events."""

    cpus: bool  #: it wants to know what CPUs do

    def put(self, event: Event) -> None: ...


class _Open:
    __slots__ = ("call", "decoder", "shown", "since_ns", "wait_ns", "waiting_ns", "wall_ns")

    def __init__(self, call: SystemCall, decoder: Decoder, since_ns: int, wall_ns: int) -> None:
        self.call, self.decoder, self.since_ns, self.wall_ns = call, decoder, since_ns, wall_ns
        self.shown: dict[str, str] = {}
        self.wait_ns = self.waiting_ns = 0


class Recorder(Listener):
    """Makes events for a sink. `statuses` and `mark` as for `strace.Strace`."""

    def __init__(
        self,
        sink: Sink,
        *,
        style: Style = PLAIN,
        statuses: frozenset[str] | None = None,
        mark: Callable[[Task, int | None], str] | None = None,
    ) -> None:
        self._sink = sink
        self._plans = Plans(style)
        self._statuses = statuses
        self._mark = mark
        self._open: dict[Any, _Open] = {}
        self._now: Callable[[], int] | None = None  #: the clock of the kernel that was first heard of
        self._running: dict[Any, tuple[int, int]] = {}  #: task -> since when it is in user mode: monotonic, wall-clock

    def hears(self, callback: str) -> bool:
        return super().hears(callback) and (self._sink.cpus or callback not in _OF_CPUS)

    def spawned(self, task: Task) -> None:
        self._put(task, "start", {})

    def started(self, task: Task) -> None:
        if task.comm:  # the first task has no program yet: see `spawned`
            self._put(task, "start", {})

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        clock = task.kernel.clock
        state = _Open(call, self._plans.decoder(task, call, args), clock.monotonic_ns(), clock.realtime_ns())
        self._show(state, late=False)
        self._open[task] = state

    def waits(self, task: Task) -> None:
        if task in self._open:
            self._open[task].waiting_ns = task.kernel.clock.monotonic_ns()

    def continues(self, task: Task) -> None:
        state = self._open.get(task)
        if state is not None and state.waiting_ns:
            state.wait_ns += task.kernel.clock.monotonic_ns() - state.waiting_ns
            state.waiting_ns = 0

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        state = self._open.pop(task, None)
        if state is not None:
            lost = task.group.exiting or call.name in NEVER_RETURN
            self._ended(task, state, None if lost else result - (1 << 64) if result >> 63 == 1 else result)

    def faulted(self, task: Task, address: int, access: int, kind: str, pages: int, since_ns: int) -> None:
        clock = task.kernel.clock
        rest = {
            "address": address, "access": "exec" if access & EXEC else "write" if access & WRITE else "read", "kind": kind,
            "pages": pages, "duration_ns": clock.monotonic_ns() - since_ns, "kernel": task.ctx.kind != FAULT,
            "served": kind not in ("invalid", "memory"),
        }  # fmt: skip
        self._put(task, "fault", rest, clock.realtime_ns() - rest["duration_ns"])

    def switched(self, task: Task, cpu: int, before: Task | None, why: str) -> None:
        if before is not None:
            from_command = before.comm.decode(errors="replace")
            self._put(task, "switch", {"from_tid": before.tid, "from_command": from_command, "why": why})

    def woken(self, task: Task, by: Task | None) -> None:
        self._put(task, "wake", {"by": by.tid if by is not None else None})

    def interrupt(self, kind: str, task: Task | None) -> None:
        if task is not None:
            self._put(task, "interrupt", {"kind": kind})
        elif self._now is not None:
            self._sink.put(Event("interrupt", self._now(), 0, 0, "kernel", 0, {"kind": kind}))

    def signal(self, task: Task, info: Any) -> None:
        self._put(task, "signal", {"signal": names.signal_name(info.signo), "shown": siginfo(info)})

    def stopped(self, task: Task, signo: int) -> None:
        self._put(task, "stop", {"signal": names.signal_name(signo)})

    def resumed(self, task: Task) -> None:
        if self._sink.cpus:
            self._running[task] = task.kernel.clock.monotonic_ns(), task.kernel.clock.realtime_ns()

    def trapped(self, task: Task) -> None:
        since = self._running.pop(task, None)
        if since is not None:
            self._put(task, "run", {"duration_ns": task.kernel.clock.monotonic_ns() - since[0]}, since[1])

    def exited(self, task: Task, status: int) -> None:
        state = self._open.pop(task, None)
        if state is not None:
            self._ended(task, state, None)
        self._running.pop(task, None)
        signo = status & 0x7F
        self._put(task, "exit", {"signal": names.signal_name(signo)} if signo else {"status": status >> 8 & 0xFF})

    def _ended(self, task: Task, state: _Open, result: int | None) -> None:
        if self._statuses is not None and status_of(result) not in self._statuses:
            return
        decoder = state.decoder
        decoder.result = result
        self._show(state, late=True)
        failed = result is not None and -4096 < result < 0
        rest: dict[str, Any] = {
            "call": state.call.name, "args": decoder.values, "shown": state.shown, "result": result,
            "error": ERRORS.get(-result, str(-result)) if failed and result is not None else None,
            "duration_ns": task.kernel.clock.monotonic_ns() - state.since_ns, "wait_ns": state.wait_ns,
        }  # fmt: skip
        mark = self._mark(task, result).strip() if self._mark is not None else ""
        if mark:
            rest["injected"] = mark
        self._put(task, "call", rest, state.wall_ns)

    def _show(self, state: _Open, *, late: bool) -> None:
        """Arguments are shown as they were when the call came in, but those that it writes."""
        keys = tuple(state.decoder.values)
        for index, each in self._plans.of(state.call):
            if each.late == late and index < len(keys):
                text = each.render(state.decoder, state.decoder.args[index])
                if text is not None:
                    state.shown[keys[index]] = text

    def _put(self, task: Task, kind: str, rest: dict[str, Any], time_ns: int = 0) -> None:
        self._now = task.kernel.clock.realtime_ns
        time_ns = time_ns or self._now()
        command = task.comm.decode(errors="replace")
        self._sink.put(Event(kind, time_ns, task.group.pid, task.tid, command, task.cpu, rest))
