"""Subscribing to a kernel: puts itself between the trap loop and what it calls, and takes itself out again.

Invariant: a kernel nobody observes runs its own functions, untouched; the slots it offers are None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.kernel.syscalls.declare import Parameter, SystemCall, parameters
from trapline.machine.contract import ENTRY_INT80
from trapline.scope.listener import Args, Listener
from trapline.scope.strace import UNDECLARED

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.entry.dispatch import Dispatcher
    from trapline.kernel.task.task import Task

_SIX = tuple(Parameter(f"arg{n}", 64, "hex") for n in range(6))


class Observer:
    """Tells listeners of everything that happens in one kernel."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._dispatcher: Dispatcher = system.loop.dispatcher
        self._listeners: list[Listener] = []
        self._open: dict[Any, tuple[SystemCall, Args]] = {}
        self._undeclared: dict[str, SystemCall] = {}
        self._readers: dict[tuple[int, str], Any] = {}

    def add(self, listener: Listener) -> None:
        if not self._listeners:
            self._connect()
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        if not self._listeners:
            self._disconnect()

    def _connect(self) -> None:
        system, hooks = self._system, self._system.hooks
        self._serve, self._end, self._born = self._dispatcher.call, hooks.exit, system.sched.born
        self._dispatcher.call = self._call  # type: ignore[method-assign]
        self._dispatcher.on_done = self._done
        hooks.exit = self._exit  # type: ignore[method-assign]
        hooks.on_fault = self._fault
        system.sched.born = self._new  # type: ignore[method-assign]
        system.on_signal = self._signal

    def _disconnect(self) -> None:
        system, hooks = self._system, self._system.hooks
        del self._dispatcher.call, hooks.exit, system.sched.born  # the classes' own show again
        self._dispatcher.on_done = None
        hooks.on_fault = None
        system.on_signal = None
        self._open.clear()

    # ---- system calls

    def _call(self, task: Task) -> bool:
        ctx = task.ctx
        table = self._dispatcher.compat if ctx.entry == ENTRY_INT80 else self._dispatcher.table
        number = ctx.regs[self._dispatcher.nr]
        call = table.call(number) or self._unknown(table, number)
        args = self._arguments(table, call)(task, ctx.regs)
        self._open[task] = (call, args)
        for each in self._listeners:
            each.enter(task, call, args)
        return self._serve(task)

    def _done(self, task: Task, result: int) -> None:
        opened = self._open.pop(task, None)
        if opened is not None:
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

    def _fault(self, task: Task, bad: tuple[int, int, int] | None) -> None:
        ctx = task.ctx
        for each in self._listeners:
            each.fault(task, ctx.addr, ctx.access, bad is None)

    def _signal(self, task: Task, info: Any) -> None:
        for each in self._listeners:
            each.signal(task, info)

    def _exit(self, task: Task) -> None:
        for each in self._listeners:
            each.exiting(task)
        self._end(task)
        self._open.pop(task, None)
        for each in self._listeners:
            each.exited(task, task.exit_status)


def _collect(task: Any, *args: int) -> Any:
    return args


def _never_called(task: Any) -> int:
    raise AssertionError("it stands for a call that is not implemented")
