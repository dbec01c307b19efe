"""Injector: the interposer behind `-e inject=` and `-e fault=`: it applies rules (`scope.tamper.rules`), and counts for them.

Invocations are counted per call and per task, for each rule by itself, unless it counts all together; the execve(2) of the
first program counts, but is the kernel's own doing and cannot be tampered with. What the program cannot write, a poke cannot
(ptrace(2) can).
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import translate
from re import Pattern
from re import compile as pattern
from typing import TYPE_CHECKING, Any

from trapline.scope.listener import Args, Listener
from trapline.scope.strace.choice import paths_of
from trapline.scope.tamper.rules import PAGE_FAULT, Rule
from trapline.scope.tamper.tamper import Tamper, poke

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

_WORD = (1 << 64) - 1
_TOGETHER = None  #: whose count it is when all tasks and calls are counted together


class Injector(Listener):
    """Decides by its rules, and remembers what it did for `mark`. It also listens: it counts the first execve(2)."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = [(each, _glob(each.path), draws(each.seed)) for each in rules]
        self._counts: dict[Any, dict[tuple[int, str], int]] = {}
        self._done: dict[Any, Tamper] = {}
        self.at_faults = any(PAGE_FAULT in each.calls for each in rules)

    def decide(self, task: Task, call: SystemCall, args: Args) -> Tamper | None:
        self._done.pop(task, None)
        for index, (each, glob, random) in enumerate(self._rules):
            if call.name not in each.calls or (glob is not None and not any(map(glob.match, paths_of(task, call, args)))):
                continue
            if self._is_due(task, index, each, call.name, random):
                written = bool(each.tamper.before) and poke(task, args, each.tamper.before)
                self._done[task] = each.tamper if written else each.tamper._replace(before=())
                return each.tamper._replace(before=())
        return None

    def decide_fault(self, task: Task, address: int, access: int) -> Tamper | None:
        for index, (each, glob, random) in enumerate(self._rules):
            if PAGE_FAULT not in each.calls or (glob is not None and not glob.match(_file_at(task, address))):
                continue
            if self._is_due(task, index, each, PAGE_FAULT, random):
                return each.tamper
        return None

    def _is_due(self, task: Task, index: int, each: Rule, name: str, random: Iterator[float]) -> bool:
        count = self._count(_TOGETHER, index, "") if each.together else self._count(task, index, name)
        return each.when.includes(count) and (each.chance == 1 or next(random) < each.chance)

    def _count(self, task: Any, index: int, name: str) -> int:
        counts = self._counts.setdefault(task, {})
        counts[index, name] = counts.get((index, name), 0) + 1
        return counts[index, name]

    def spawned(self, task: Task) -> None:
        for index, (each, _, _) in enumerate(self._rules):
            if "execve" in each.calls:
                self._count(*((_TOGETHER, index, "") if each.together else (task, index, "execve")))

    def exited(self, task: Task, status: int) -> None:
        self._counts.pop(task, None)
        self._done.pop(task, None)

    def mark(self, task: Task, result: int | None) -> str:
        """What strace writes behind the result of a call that was tampered with."""
        tamper = self._done.get(task)
        if tamper is None:
            return ""
        changed = tamper.before or tamper.short or (tamper.after and result is not None and not -4096 < result < 0)
        parts = ["args"] if changed else []
        parts += ["retval"] if tamper.result is not None and parts else []
        text = f" (INJECTED: {', '.join(parts)})" if parts else " (INJECTED)" if tamper.result is not None else ""
        return text + (" (DELAYED)" if tamper.delay_enter_ns or tamper.delay_exit_ns else "")


def draws(seed: int) -> Iterator[float]:
    """Numbers in [0, 1) that look random, the same for the same seed: splitmix64 (Steele, Lea and Flood, 2014)."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & _WORD
        mixed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _WORD
        yield (mixed ^ mixed >> 31) / (_WORD + 1)


def _glob(path: bytes | None) -> Pattern[bytes] | None:
    return None if path is None else pattern(translate(path.decode("latin-1")).encode("latin-1"))


def _file_at(task: Task, address: int) -> bytes:
    """The file mapped at `address`; empty: none."""
    area = task.mm.map.find(address)
    return b"" if area is None or area.file is None else area.file.display_path()
