"""Summary: a listener that counts calls, errors and time per call, and writes strace(1)'s table: -c."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.syscalls import X86_64
from trapline.scope.listener import NEVER_RETURN, Args, Listener
from trapline.scope.strace.choice import SetError, status_of

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

SECOND_NS = 1_000_000_000
NAME_WIDTH = 16


class Count:
    """Of one call. Times in nanoseconds."""

    __slots__ = ("calls", "errors", "longest", "name", "shortest", "total")

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = self.errors = self.total = self.longest = 0
        self.shortest = -1

    def add(self, ns: int, failed: bool) -> None:
        self.calls += 1
        self.errors += failed
        self.total += ns
        self.longest = max(self.longest, ns)
        self.shortest = ns if self.shortest < 0 else min(self.shortest, ns)


class Column(NamedTuple):
    title: str
    width: int
    show: Callable[[Count, int], str]  #: of a count and the time of all


COLUMNS = {
    "time-percent": Column("% time", 6, lambda c, every: f"{100 * c.total / every if every else 0:.2f}"),
    "total-time": Column("seconds", 11, lambda c, every: f"{c.total / SECOND_NS:.6f}"),
    "min-time": Column("shortest", 8, lambda c, every: f"{max(c.shortest, 0) / SECOND_NS:.6f}"),
    "max-time": Column("longest", 8, lambda c, every: f"{c.longest / SECOND_NS:.6f}"),
    "avg-time": Column("usecs/call", 11, lambda c, every: str(c.total // c.calls // 1000 if c.calls else 0)),
    "calls": Column("calls", 9, lambda c, every: str(c.calls)),
    "errors": Column("errors", 9, lambda c, every: str(c.errors or "")),
    "name": Column("syscall", NAME_WIDTH, lambda c, every: c.name),
}
DEFAULT_COLUMNS = ("time-percent", "total-time", "avg-time", "calls", "errors", "name")
#: Other words for the same, and -S's keys.
ALIASES = {
    "time": "time-percent", "time-total": "total-time", "shortest": "min-time", "time-min": "min-time", "longest": "max-time",
    "time-max": "max-time", "time-avg": "avg-time", "count": "calls", "error": "errors", "syscall": "name",
    "syscall-name": "name", "none": "nothing",
}  # fmt: skip
ORDERS: dict[str, Callable[[Count], Any]] = {
    "time-percent": lambda c: -c.total, "total-time": lambda c: -c.total, "min-time": lambda c: -c.shortest,
    "max-time": lambda c: -c.longest, "avg-time": lambda c: -(c.total / c.calls), "calls": lambda c: -c.calls,
    "errors": lambda c: -c.errors, "name": lambda c: c.name, "nothing": lambda c: 0,
}  # fmt: skip


def columns(text: str) -> tuple[str, ...]:
    """-U's value. Raises SetError."""
    found = [ALIASES.get(word, word) for word in text.split(",")]
    for word in found:
        if word not in COLUMNS:
            raise SetError(f"invalid column name: '{word}'")
        if found.count(word) > 1:
            raise SetError(f"call summary column has been provided more than once: '{word}'")
    return tuple(found) if "name" in found else (*found, "name")


def order(text: str) -> str:
    """-S's value. Raises SetError."""
    found = ALIASES.get(text, text)
    if found not in ORDERS:
        raise SetError(f"invalid sortby: '{text}'")
    return found


class Summary(Listener):
    """`wall`: count the time from a call's coming in to its result, else only what the kernel worked on it.

    `overhead_ns` is taken off each call.
    """

    def __init__(self, *, wall: bool = False, overhead_ns: int = 0, statuses: frozenset[str] | None = None) -> None:
        self._wall = wall
        self._overhead_ns = overhead_ns
        self._statuses = statuses
        self._counts: dict[str, Count] = {}
        self._since: dict[Any, int] = {}  #: task -> when its call, or the part of it that runs, began
        self._spent: dict[Any, int] = {}  #: task -> what the parts before took

    def spawned(self, task: Task) -> None:
        self._count("execve", 0, 0)

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        self._spent[task] = 0
        self._since[task] = task.kernel.clock.monotonic_ns()

    def waits(self, task: Task) -> None:
        if not self._wall and task in self._since:
            self._spent[task] += task.kernel.clock.monotonic_ns() - self._since[task]

    def continues(self, task: Task) -> None:
        if not self._wall and task in self._since:
            self._since[task] = task.kernel.clock.monotonic_ns()

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        if task in self._since:
            if task.group.exiting or call.name in NEVER_RETURN:
                return
            now = task.kernel.clock.monotonic_ns()
            self._count(call.name, self._spent.pop(task) + now - self._since.pop(task), result)

    def exited(self, task: Task, status: int) -> None:
        self._since.pop(task, None)
        self._spent.pop(task, None)

    def _count(self, name: str, ns: int, result: int) -> None:
        how = status_of(result)
        if self._statuses is None or how in self._statuses:
            count = self._counts.setdefault(name, Count(name))
            count.add(max(0, ns - self._overhead_ns), how == "failed")

    def table(self, shown: Sequence[str] = DEFAULT_COLUMNS, by: str = "time-percent") -> str:
        """The whole table; nothing if there was no call."""
        if not self._counts:
            return ""
        rows = sorted(self._counts.values(), key=lambda c: X86_64.get(c.name, len(X86_64)))
        rows.sort(key=ORDERS[by])
        total = Count("total")
        for row in rows:
            total.calls += row.calls
            total.errors += row.errors
            total.total += row.total
            total.longest = max(total.longest, row.longest)
        total.shortest = min(row.shortest for row in rows)
        every = total.total
        ruler = " ".join("-" * COLUMNS[name].width for name in shown)
        title = _line(shown, [COLUMNS[name].title for name in shown])
        lines = [_line(shown, [COLUMNS[name].show(row, every) for name in shown]) for row in rows]
        last = ["100.00" if name == "time-percent" else COLUMNS[name].show(total, every) for name in shown]
        return "\n".join([title, ruler, *lines, ruler, _line(shown, last)]) + "\n"


def _line(shown: Sequence[str], cells: Sequence[str]) -> str:
    """Cells in their columns: names to the left, without blanks at the end of a line, the rest to the right."""
    out = []
    for name, cell in zip(shown, cells, strict=True):
        out.append(f"{cell:<{NAME_WIDTH}}" if name == "name" else f"{cell:>{COLUMNS[name].width}}")
    if shown[-1] == "name":
        out[-1] = cells[-1]
    return " ".join(out)
