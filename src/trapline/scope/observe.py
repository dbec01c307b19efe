"""Subscribing to a kernel: puts itself between the trap loop and what it calls, and takes itself out again.

Invariant: a kernel nobody observes runs its own functions, untouched; the slots it offers are None.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from trapline.kernel.syscalls.declare import Parameter, SystemCall, parameters
from trapline.kernel.task.task import SLEEPING
from trapline.machine.contract import ENTRY_INT80
from trapline.scope.listener import Args, Listener
from trapline.scope.probes import Probes
from trapline.scope.strace.plan import UNDECLARED
from trapline.scope.tamper import tamper as tampering
from trapline.scope.tamper.short import shortened

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.entry.dispatch import Dispatcher
    from trapline.kernel.task.task import Task
    from trapline.scope.tamper.tamper import Interposer, Tamper

_SIX = tuple(Parameter(f"arg{n}", 64, "hex") for n in range(6))


class Observer:
    """Tells listeners of everything that happens in one kernel."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._dispatcher: Dispatcher = system.loop.dispatcher
        self._listeners: list[Listener] = []
        self._probes = Probes(system)
        self._interposers: list[Interposer] = []
        self._open: dict[Any, tuple[SystemCall, Args]] = {}
        self._undeclared: dict[str, SystemCall] = {}
        self._readers: dict[tuple[int, str], Any] = {}

    def add(self, listener: Listener) -> None:
        self._connect_first()
        self._listeners.append(listener)
        self._probes.listen(self._listeners)

    def remove(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        self._probes.listen(self._listeners)
        self._disconnect_last()

    def interpose(self, interposer: Interposer) -> None:
        """Of several that decide on a call, the first one's word stands."""
        self._connect_first()
        self._interposers.append(interposer)

    def withdraw(self, interposer: Interposer) -> None:
        self._interposers.remove(interposer)
        self._disconnect_last()

    def _connect_first(self) -> None:
        if not self._listeners and not self._interposers:
            self._connect()

    def _disconnect_last(self) -> None:
        if not self._listeners and not self._interposers:
            self._disconnect()

    def _connect(self) -> None:
        system, hooks = self._system, self._system.hooks
        self._serve, self._end, self._born = self._dispatcher.call, hooks.exit, system.sched.born
        self._dispatcher.call = self._call  # type: ignore[method-assign]
        self._dispatcher.on_done = self._done
        self._continue, self._dispatcher.step = self._dispatcher.step, self._step  # type: ignore[method-assign]
        loop = system.loop
        self._resume, loop.enter_user = loop.enter_user, self._enter_user  # type: ignore[method-assign]
        self._trap, loop.trap = loop.trap, self._trapped  # type: ignore[method-assign]
        self._serve_fault, loop.fault = loop.fault, self._page_fault  # type: ignore[method-assign]
        hooks.exit = self._exit  # type: ignore[method-assign]
        hooks.on_fault = self._fault
        system.sched.born = self._new  # type: ignore[method-assign]
        system.on_signal, system.on_ignored = self._signal, self._ignored

    def _disconnect(self) -> None:
        system, hooks = self._system, self._system.hooks
        del self._dispatcher.step, system.loop.enter_user, system.loop.trap, system.loop.fault
        del self._dispatcher.call, hooks.exit, system.sched.born  # the classes' own show again
        self._dispatcher.on_done = None
        hooks.on_fault = None
        system.on_signal = system.on_ignored = None
        self._open.clear()

    # ---- system calls

    def _call(self, task: Task) -> bool:
        ctx, probes = task.ctx, self._probes
        since_ns, known = probes.now_ns() if probes.observed else 0, len(self._readers)
        table = self._table(task)
        number = ctx.regs[self._dispatcher.nr]
        task.syscall_nr = number
        call = table.call(number) or self._unknown(table, number)
        args = self._arguments(table, call)(task, ctx.regs)
        self._open[task] = (call, args)
        tamper = self._decide(task, call, args) if self._interposers else None
        for each in self._listeners:
            each.enter(task, call, args)
        if len(self._readers) == known:  # else it was the kernel's own work that was done: finding the handler
            for own in probes.observed:
                own(task, since_ns)
        return self._serve(task) if tamper is None else self._tampered(task, tamper, args)

    def _decide(self, task: Task, call: SystemCall, args: Args) -> Tamper | None:
        """What the interposers want of a call."""
        tamper, since_ns = None, self._probes.now_ns()
        for interposer in self._interposers:
            tamper = tamper or interposer.decide(task, call, args)
        if tamper is not None and tamper.before:
            tampering.poke(task, args, tamper.before)
        verdict = "pass" if tamper is None else "refuse" if tamper.result is not None and tamper.result < 0 else "change"
        for each in self._probes.decided:
            each(task, "interposer", verdict, since_ns)
        return tamper

    def _tampered(self, task: Task, tamper: Tamper, args: Args) -> bool:
        """Serve a call with which somebody interferes."""
        if tamper.signal:
            tampering.notify(task, tamper.signal)
        make, name = self._make, self._open[task][0].name
        if tamper.args is not None:
            args = tamper.args
            make = partial(self._make_instead, name, args)
        if tamper.short and task.ctx.entry != ENTRY_INT80:  # 32-bit vectors would be of another form
            instead = shortened(task, name, args, tamper.short)
            make = make if instead is None else partial(self._make_instead, *instead)
        task.coro = tampering.serve(task, tamper, make, args)
        return self._dispatcher.step(task)

    def _make(self, task: Task) -> Any:
        """The call in the task's registers: a result, or a coroutine."""
        regs = task.ctx.regs
        table, number = self._table(task), task.syscall_nr
        if table is self._dispatcher.compat:
            number &= 0xFFFFFFFF
        if number >= len(table.thunks):
            return table.beyond(task, regs, number)
        return table.thunks[number](task, regs)

    def _make_instead(self, name: str, args: Args, task: Task) -> Any:
        """Another call than the one in the registers, which stay as they are."""
        table = self._table(task)
        number, regs = table.registers(task.ctx.regs, name, args)
        return table.thunks[number](task, regs)

    def _table(self, task: Task) -> Any:
        return self._dispatcher.compat if task.ctx.entry == ENTRY_INT80 else self._dispatcher.table

    def _step(self, task: Task) -> bool:
        """A call starts to wait, or goes on."""
        if task.state == SLEEPING:
            for each in self._listeners:
                each.continues(task)
        done = self._continue(task)
        if not done:
            self._probes.waits(task)
            for each in self._listeners:
                each.waits(task)
        return done

    def _enter_user(self, task: Task, since_ns: int) -> None:
        self._resume(task, since_ns)
        for each in self._listeners:
            each.resumed(task)
        self._probes.enters(task)

    def _trapped(self, task: Task, time_ns: int) -> None:
        probes = self._probes
        if probes.stayed:
            stay = self._system.machine.stay(task.ctx)
            for told in probes.stayed:
                told(task, stay)
        probes.trapped(task)
        for each in self._listeners:
            each.trapped(task)
        self._trap(task, time_ns)

    def _done(self, task: Task, result: int) -> None:
        opened = self._open.pop(task, None)
        if opened is not None:
            if opened[0].name == "sched_yield":
                self._probes.yields = task
            for each in self._listeners:
                each.exit(task, *opened, result)

    def _arguments(self, table: Any, call: SystemCall) -> Any:
        """A function of (task, registers) that gives the call's arguments, converted as its handler gets them."""
        key = (id(table), call.name)
        reader: Any = self._readers.get(key)
        if reader is None:
            params = parameters(call) if call.family != UNDECLARED else _SIX
            reader = self._readers[key] = table.reader(_collect, call.name, params)
        return reader

    def _unknown(self, table: Any, number: int) -> SystemCall:
        """A declaration for a call that has none: its name, and six numbers."""
        name = table.names[number] if number < len(table.names) else None
        name = name or f"syscall_{number:#x}"
        if name not in self._undeclared:
            if len(self._undeclared) > 1000:
                self._undeclared.clear()
                self._readers.clear()
            self._undeclared[name] = SystemCall(name, _never_called, (), UNDECLARED)
        return self._undeclared[name]

    # ---- everything else

    def spawned(self, task: Task) -> None:
        """A first program was loaded."""
        for each in self._listeners:
            each.spawned(task)

    def _new(self, task: Task) -> None:
        self._born(task)
        for each in self._listeners:
            each.started(task)

    def _page_fault(self, task: Task) -> None:
        """A page fault of user code, before it is served."""
        address, access = task.ctx.addr, task.ctx.access
        for each in self._interposers:
            if getattr(each, "at_faults", False):
                tamper = each.decide_fault(task, address, access)  # type: ignore[attr-defined]
                if tamper is not None and tampering.fail_fault(task, tamper, address, self._system.hooks):
                    return
        self._serve_fault(task)

    def _fault(self, task: Task, bad: tuple[int, int, int] | None) -> None:
        ctx = task.ctx
        for each in self._listeners:
            each.fault(task, ctx.addr, ctx.access, bad is None)

    def _signal(self, task: Task, info: Any) -> None:
        for each in self._listeners:
            each.signal(task, info)

    def _ignored(self, task: Task, info: Any) -> None:
        for each in self._listeners:
            each.ignored(task, info)

    def _exit(self, task: Task) -> None:
        for each in self._listeners:
            each.exiting(task)
        self._end(task)
        self._open.pop(task, None)
        self._probes.forget(task)
        for each in self._listeners:
            each.exited(task, task.exit_status)


def _collect(task: Any, *args: int) -> Any:
    return args


def _never_called(task: Any) -> int:
    raise AssertionError("it stands for a call that is not implemented")
