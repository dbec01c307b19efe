"""Crossings with names that hold from run to run: the n-th system call of a task, and the task by its descent.

A task is known by whose k-th child it is: () is the first, (2,) its second child, (2, 1) the first child of that. So the name
of a crossing does not depend on how tasks take turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.scope.listener import Args, Listener

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.scope.tamper.tamper import Tamper


class Crossing(NamedTuple):
    """`nth` counts from 1."""

    task: tuple[int, ...]
    nth: int

    def __str__(self) -> str:
        return ".".join(map(str, self.task)) + ("/" if self.task else "") + str(self.nth)


class Census(Listener):
    """Names every crossing. Subscribe and interpose it: it decides nothing."""

    def __init__(self) -> None:
        self.tasks: dict[int, tuple[int, ...]] = {}  #: thread id -> its descent
        self.loading: set[Crossing] = set()  #: those that the dynamic loader made, not the program
        self._children: dict[Any, int] = {}
        self._counts: dict[Any, int] = {}

    def spawned(self, task: Task) -> None:
        self.tasks[task.tid] = ()

    def started(self, task: Task) -> None:
        parent = task.kernel.current
        if parent is None or parent.tid not in self.tasks:
            return
        self._children[parent] = self._children.get(parent, 0) + 1
        self.tasks[task.tid] = (*self.tasks[parent.tid], self._children[parent])

    def decide(self, task: Task, call: SystemCall, args: Args) -> Tamper | None:
        self._counts[task] = self._counts.get(task, 0) + 1
        if _is_loader(task):
            self.loading.add(self.crossing(task))
        return None

    def crossing(self, task: Task) -> Crossing:
        """The one that `task` is in."""
        return Crossing(self.tasks.get(task.tid, (0,)), self._counts.get(task, 0))


def _is_loader(task: Task) -> bool:
    """The calling instruction is in glibc's dynamic loader. (musl's is its C library, and as much the program as that is.)"""
    area = task.mm.map.find(task.ctx.regs[task.kernel.machine.arch.pc])
    return area is not None and area.file is not None and b"/ld-linux" in area.file.display_path()


class OneFailure(Census):
    """Tampers with one crossing. `hit`: the call that was made there; None: the program never came to it."""

    def __init__(self, where: Crossing, tamper: Tamper) -> None:
        super().__init__()
        self._where, self._tamper = where, tamper
        self.hit: str | None = None

    def decide(self, task: Task, call: SystemCall, args: Args) -> Tamper | None:
        super().decide(task, call, args)
        if self.hit is not None or self.crossing(task) != self._where:
            return None
        self.hit = call.name
        return self._tamper

    def mark(self, task: Task, result: int | None) -> str:
        """What a trace writes behind the result of the call that was tampered with."""
        return " (INJECTED)" if self.hit is not None and self.crossing(task) == self._where else ""
