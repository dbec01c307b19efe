"""Forward: a listener that passes what it hears on to others, task by task: it stands between a kernel and a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.scope.listener import Args, Listener

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.machine.contract import Stay

BELOW = frozenset("stayed decided body copied faulted woken queued switched observed interrupt".split())


class Forward(Listener):
    """Override `target`: who is told of a task, or None for nobody."""

    def target(self, task: Task) -> Listener | None:
        raise NotImplementedError

    def started(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.started(task)

    def spawned(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.spawned(task)

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        if (listener := self.target(task)) is not None:
            listener.enter(task, call, args)

    def waits(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.waits(task)

    def continues(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.continues(task)

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        if (listener := self.target(task)) is not None:
            listener.exit(task, call, args, result)

    def fault(self, task: Task, address: int, access: int, served: bool) -> None:
        if (listener := self.target(task)) is not None:
            listener.fault(task, address, access, served)

    def signal(self, task: Task, info: Any) -> None:
        if (listener := self.target(task)) is not None:
            listener.signal(task, info)

    def ignored(self, task: Task, info: Any) -> None:
        if (listener := self.target(task)) is not None:
            listener.ignored(task, info)

    def stopped(self, task: Task, signo: int) -> None:
        if (listener := self.target(task)) is not None:
            listener.stopped(task, signo)

    def exiting(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.exiting(task)

    def exited(self, task: Task, status: int) -> None:
        if (listener := self.target(task)) is not None:
            listener.exited(task, status)

    def resumed(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.resumed(task)

    def trapped(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.trapped(task)

    def stayed(self, task: Task, stay: Stay | None) -> None:
        if (listener := self.target(task)) is not None:
            listener.stayed(task, stay)

    def decided(self, task: Task, by: str, verdict: str, since_ns: int) -> None:
        if (listener := self.target(task)) is not None:
            listener.decided(task, by, verdict, since_ns)

    def body(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.body(task)

    def copied(self, task: Task, address: int, size: int, out: bool, since_ns: int) -> None:
        if (listener := self.target(task)) is not None:
            listener.copied(task, address, size, out, since_ns)

    def faulted(self, task: Task, address: int, access: int, kind: str, pages: int, since_ns: int) -> None:
        if (listener := self.target(task)) is not None:
            listener.faulted(task, address, access, kind, pages, since_ns)

    def woken(self, task: Task, by: Task | None) -> None:
        if (listener := self.target(task)) is not None:
            listener.woken(task, by)

    def queued(self, task: Task) -> None:
        if (listener := self.target(task)) is not None:
            listener.queued(task)

    def switched(self, task: Task, cpu: int, before: Task | None, why: str) -> None:
        if (listener := self.target(task)) is not None:
            listener.switched(task, cpu, before, why)

    def observed(self, task: Task, since_ns: int) -> None:
        if (listener := self.target(task)) is not None:
            listener.observed(task, since_ns)

    def interrupt(self, kind: str, task: Task | None) -> None:
        if task is not None and (listener := self.target(task)) is not None:
            listener.interrupt(kind, task)


class Through(Forward):
    """A forwarder with one listener behind it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def hears(self, callback: str) -> bool:
        return self._listener.hears(callback)

    def target(self, task: Task) -> Listener | None:
        return self._listener

    def interrupt(self, kind: str, task: Task | None) -> None:
        """Those of the kernel's own are nobody's, and everybody's."""
        if task is None or self.target(task) is not None:
            self._listener.interrupt(kind, task)


class First(Through):
    """Passes on what concerns the first task, as strace without -f."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._task: Any = None

    def spawned(self, task: Task) -> None:
        if self._task is None:
            self._task = task
            self._listener.spawned(task)

    def target(self, task: Task) -> Listener | None:
        return self._listener if task is self._task else None


class Separate(Forward):
    """A listener for each task, made by `make` when it is first heard of, as strace with -ff; `done` is told of its end."""

    def __init__(self, make: Callable[[Task], Listener], done: Callable[[Task], object]) -> None:
        self._make = make
        self._done = done
        self._listeners: dict[Any, Listener] = {}

    def hears(self, callback: str) -> bool:
        """Nobody is asked who is not there yet: what is below the calls is not passed on."""
        return callback not in BELOW

    def target(self, task: Task) -> Listener:
        if task not in self._listeners:
            self._listeners[task] = self._make(task)
        return self._listeners[task]

    def exited(self, task: Task, status: int) -> None:
        self.target(task).exited(task, status)
        del self._listeners[task]
        self._done(task)
