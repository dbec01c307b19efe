"""Subscribing to a kernel: puts itself between the trap loop and its dispatcher, and takes itself out again.

Invariant: a kernel nobody observes runs its own functions, untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.kernel.entry.table import compile_thunk
from trapline.kernel.syscalls.declare import Parameter, SystemCall, parameters
from trapline.machine.contract import ENTRY_INT80
from trapline.scope.listener import Args, Listener
from trapline.scope.strace import UNDECLARED

if TYPE_CHECKING:
    from trapline.kernel.entry.dispatch import Dispatcher
    from trapline.kernel.task.task import Task


class Crossings:
    """Tells listeners of the system calls of one dispatcher."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._listeners: list[Listener] = []
        self._open: dict[Any, tuple[SystemCall, Args]] = {}
        self._undeclared: dict[str, SystemCall] = {}
        self._readers: dict[tuple[int, str], Any] = {}
        self._serve = dispatcher.call

    def add(self, listener: Listener) -> None:
        if not self._listeners:
            self._dispatcher.call = self._call  # type: ignore[method-assign]
            self._dispatcher.on_done = self._done
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        if not self._listeners:
            del self._dispatcher.call  # the class's own shows again
            self._dispatcher.on_done = None
            self._open.clear()

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
            reader = self._readers[key] = compile_thunk(_collect, params, table._args, table._width)
        return reader

    def _unknown(self, table: Any, number: int) -> SystemCall:
        name = table.names[number] if number < len(table.names) else None
        name = name or f"syscall_{number:#x}"
        if name not in self._undeclared:
            if len(self._undeclared) > 1000:
                self._undeclared.clear()
                self._readers.clear()
            self._undeclared[name] = SystemCall(name, _none, (), UNDECLARED)
        return self._undeclared[name]


_SIX = tuple(Parameter(f"arg{n}", 64, "hex") for n in range(6))


def _collect(task: Any, *args: int) -> Any:
    return args


def _none(task: Any) -> int:
    raise AssertionError("never called: it stands for a call that is not implemented")
