"""The processes that GDB debugs, and what becomes of them: they fork, execute other programs, begin and end threads, end.

In a nutshell: `news` says what has happened since it was last asked, one thing at a time, and is asked before any of their code
runs again. A child is debugged from its first instruction on, if GDB wants to hear of it. Breakpoints are where they would be
had they been written into memory, which is what GDB reckons with: a child has its parent's, a new program has none.
"""

from __future__ import annotations

from collections import deque
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.task.task import Task, ThreadGroup
    from trapline.machine.riscv.debug import Watch

FORK, VFORK, EXEC, THREADS = "fork", "vfork", "exec", "threads"


class Debuggee:
    """A process. `mm`: the address space that GDB knows it by."""

    def __init__(self, group: ThreadGroup, mm: Any) -> None:
        self.group, self.mm = group, mm
        self.breaks: set[int] = set()
        self.watches: set[Watch] = set()


class News(NamedTuple):
    """`what`: "fork", "vfork", "vforkdone", "exec", "create" (a thread), "exited" (there is no task then). `other`: a child."""

    what: str
    group: ThreadGroup
    task: Task | None = None
    other: Task | None = None


class Family:
    """Of `system`. `wanted`: what GDB wants to hear of, of FORK, VFORK, EXEC, THREADS."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.each: dict[ThreadGroup, Debuggee] = {}
        self.wanted: set[str] = set()
        self._born: deque[tuple[Task, Task]] = deque()
        self._vforks: list[tuple[Task, Task]] = []  # parents that wait for their children
        born = system.sched.born

        def note(task: Task) -> None:
            born(task)
            by = system.current
            if self.wanted and by is not None and by.group in self.each:
                self._born.append((by, task))

        system.sched.born = note  # type: ignore[method-assign]

    def tasks(self) -> list[Task]:
        """All of them, in order."""
        found = (task for group in self.each for task in group.tasks if task.mm is not None)
        return sorted(found, key=lambda task: (task.group.pid, task.tid))

    def add(self, group: ThreadGroup) -> Debuggee:
        self.each[group] = debuggee = Debuggee(group, self._mm(group))
        return debuggee

    def clear(self) -> None:
        self.each.clear()
        self.wanted.clear()
        self._born.clear()
        self._vforks.clear()

    @staticmethod
    def _mm(group: ThreadGroup) -> Any:
        return next((task.mm for task in group.tasks if task.mm is not None), None)

    def news(self) -> News | None:
        """The next thing that has happened; None: nothing more."""
        while self._born:
            found = self._birth(*self._born.popleft())
            if found is not None:
                return found
        for parent, child in self._vforks:
            if child.vfork_done is None:
                self._vforks.remove((parent, child))
                if parent.group in self.each and parent.mm is not None:
                    return News("vforkdone", parent.group, parent)
                break
        for debuggee in tuple(self.each.values()):
            found = self._change(debuggee)
            if found is not None:
                return found
        return None

    def _birth(self, parent: Task, child: Task) -> News | None:
        debuggee = self.each.get(parent.group)
        if debuggee is None or child.mm is None:
            return None
        if child.group is parent.group:
            return News("create", child.group, child) if THREADS in self.wanted else None
        what = VFORK if child.vfork_done is not None else FORK
        if what not in self.wanted:
            return None
        young = self.add(child.group)
        young.breaks |= debuggee.breaks
        young.watches |= debuggee.watches
        if what == VFORK:
            self._vforks.append((parent, child))
        return News(what, parent.group, parent, child)

    def _change(self, debuggee: Debuggee) -> News | None:
        """A program that is another one, an end: but not of the first process, which ends everything."""
        group = debuggee.group
        if group.zombie:
            if group is self._system.first:
                return None
            del self.each[group]
            return News("exited", group)
        mm = self._mm(group)
        if mm is debuggee.mm or mm is None:
            return None
        debuggee.mm = mm
        if EXEC not in self.wanted:
            return None
        debuggee.breaks.clear()
        debuggee.watches.clear()
        return News("exec", group, next(task for task in group.tasks if task.mm is not None))
