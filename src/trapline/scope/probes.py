"""Probes: what is put into the kernel's slots below the trap loop, each only while a listener hears it, and taken out again.

Policy and bodies of calls (`Table.set_around`), copies and faults (`watched.py`), wake-ups, queues and switches, interrupts.

Invariant: a slot that nobody listens at holds what the kernel itself put there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trapline.kernel.entry.table import BODY, GUARD
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.sync.park import WOKEN, Waiter
from trapline.kernel.task.task import DEAD, STOPPED
from trapline.machine.contract import INTERRUPT
from trapline.scope.forward import BELOW
from trapline.scope.watched import Watch, Watched, watch

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.task.task import Task
    from trapline.scope.listener import Listener

Said = list[Callable[..., None]]
_wake = Waiter.wake


class Probes:
    """The probes of one kernel. `listen` says who hears."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.now_ns: Callable[[], int] = system.clock.monotonic_ns
        self.stayed: Said = []
        self.observed: Said = []
        self.decided: Said = []
        self.body: Said = []
        self.copied: Said = []
        self.faulted: Said = []
        self.woken: Said = []
        self.queued: Said = []
        self.switched: Said = []
        self.interrupt: Said = []
        self._judged: dict[Any, int] = {}  #: whose call seccomp looks at, and since when
        self._kicked: set[Any] = set()
        self._away: dict[Any, str] = {}  #: tasks that left their CPU, and why
        self._on: dict[int, Any] = {}  #: who was on each CPU last
        self.yields: Any = None  #: who has just asked for it
        self._own = False  #: the kernel does what time or the host has it do, and no task

    def listen(self, listeners: Sequence[Listener]) -> None:
        """From now on these are told."""
        before = self._needs()
        for name in sorted(BELOW):
            getattr(self, name)[:] = [getattr(each, name) for each in listeners if each.hears(name)]
        for old, new, switch in zip(before, self._needs(), self._switches(), strict=True):
            if old != new:
                switch(new)

    def _needs(self) -> tuple[bool, ...]:
        return (
            bool(self.stayed), bool(self.decided or self.body), bool(self.copied or self.faulted), bool(self.woken),
            bool(self.queued or self.switched), bool(self.interrupt or self.woken),
        )  # fmt: skip

    def _switches(self) -> tuple[Callable[[bool], None], ...]:
        machine = self._system.machine
        return machine.measure, self._around_calls, self._watch_memory, self._watch_wakes, self._watch_queue, self._watch_host

    # ---- calls

    def _around_calls(self, on: bool) -> None:
        for table in self._system.loop.dispatcher.tables():
            table.set_around(self._around if on else None)

    def _around(self, stage: int, number: int, it: Callable[..., Any]) -> Callable[..., Any]:
        if stage == BODY:
            return self._before_body(it)
        return self._before_guard(it) if stage == GUARD else self._behind_guard(it)

    def _before_body(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        told = self.body

        def probed(task: Task, *args: Any) -> Any:
            for each in told:
                each(task)
            return handler(task, *args)

        return probed

    def _before_guard(self, guarded: Callable[..., Any]) -> Callable[..., Any]:
        def probed(task: Task, regs: Any) -> Any:
            self._judged[task] = self.now_ns()
            result: Any = None
            try:
                result = guarded(task, regs)
            finally:
                if result is None or result.__class__ is int:  # else somebody is asked, and decides later
                    self._decide(task, "refuse")
            return result

        return probed

    def _behind_guard(self, thunk: Callable[..., Any]) -> Callable[..., Any]:
        def probed(task: Task, regs: Any) -> Any:
            self._decide(task, "pass")
            return thunk(task, regs)

        return probed

    def _decide(self, task: Task, verdict: str) -> None:
        since_ns = self._judged.pop(task, None)
        if since_ns is not None and task.seccomp is not None:
            for each in self.decided:
                each(task, "seccomp", verdict, since_ns)

    # ---- memory

    def _watch_memory(self, on: bool) -> None:
        system = self._system
        watch(system.machine, Watch(self.now_ns, self._copied, self._faulted) if on else None)
        for task in system.tasks.values():
            if task.mm is not None:
                task.mm.__class__ = Watched if on else AddressSpace

    def _copied(self, *what: Any) -> None:
        for each in self.copied:
            each(self._system.current, *what)

    def _faulted(self, *what: Any) -> None:
        for each in self.faulted:
            each(self._system.current, *what)

    # ---- tasks and CPUs

    def trapped(self, task: Task) -> None:
        """A task comes into the kernel."""
        if (self.copied or self.faulted) and task.mm is not None and task.mm.__class__ is not Watched:
            task.mm.__class__ = Watched
        if task.ctx.kind == INTERRUPT and self.interrupt:
            kind = "kick" if task.ctx in self._kicked else "spurious"
            for each in self.interrupt:
                each(kind, task)
        self._kicked.discard(task.ctx)

    def waits(self, task: Task) -> None:
        if self.switched:
            self._away[task] = "blocked"

    def enters(self, task: Task) -> None:
        """A task went to user mode."""
        if not self.switched:
            return
        self._away.pop(task, None)
        before = self._on.get(task.cpu)
        if before is task:
            return
        self._on[task.cpu] = task
        why = ""
        if before is not None:
            why = self._away.get(before, "pre-empted")
            why = "ended" if before.state == DEAD else "stopped" if before.state == STOPPED else why
        for each in self.switched:
            each(task, task.cpu, before, why)

    def forget(self, task: Task) -> None:
        """A task has ended."""
        self._away.pop(task, None)
        self._judged.pop(task, None)

    def _watch_queue(self, on: bool) -> None:
        sched: Any = self._system.sched
        if on:
            self._enqueue = sched.enqueue
            sched.enqueue = self._queue
        else:
            del sched.enqueue
            self._away.clear()
            self._on.clear()

    def _queue(self, task: Task, woken: bool) -> None:
        self._away.setdefault(task, "yielded" if self.yields is task else "pre-empted")
        self.yields = None
        for each in self.queued:
            each(task)
        self._enqueue(task, woken)

    def _watch_wakes(self, on: bool) -> None:
        _wakers.pop(self._system, None)
        if on:
            _wakers[self._system] = self
        Waiter.wake = _tell_wake if _wakers else _wake  # type: ignore[method-assign]

    def wakes(self, task: Task) -> None:
        by = None if self._own else self._system.current
        for each in self.woken:
            each(task, None if by is task else by)

    # ---- interrupts

    def _watch_host(self, on: bool) -> None:
        machine, timers, hooks = self._system.machine, self._system.timers, self._system.hooks
        if on:
            self._kick, self._run_due, self._ready = machine.kick, timers.run_due, hooks.host_ready
            machine.kick = self._kicks  # type: ignore[method-assign,assignment]
            timers.run_due = self._time  # type: ignore[method-assign]
            hooks.host_ready = self._device
        else:
            del machine.kick, timers.run_due
            hooks.host_ready = self._ready
            self._kicked.clear()

    def _kicks(self, ctx: Any) -> None:
        self._kicked.add(ctx)
        self._kick(ctx)

    def _time(self, now_ns: int) -> None:
        self._of_its_own("timer", lambda: self._run_due(now_ns))

    def _device(self) -> None:
        self._of_its_own("device", self._ready)

    def _of_its_own(self, kind: str, do: Callable[[], None]) -> None:
        for each in self.interrupt:
            each(kind, None)
        self._own = True
        try:
            do()
        finally:
            self._own = False


_wakers: dict[Any, Probes] = {}


def _tell_wake(self: Waiter, reason: int = WOKEN) -> bool:
    sleeper: Any = self.sleeper
    if not _wake(self, reason):
        return False
    probes = _wakers.get(getattr(sleeper, "kernel", None))
    if probes is not None:
        probes.wakes(sleeper)
    return True
