"""Injector: the interposer behind `-e inject=` and `-e fault=`, strace(1), "Tampering".

Invocations are counted per call and per task, for each expression by itself; the execve(2) of the first program counts,
but is the kernel's own doing and cannot be tampered with. What the program cannot write, a poke cannot (ptrace(2) can).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import TEXTS
from trapline.scope import choice
from trapline.scope.choice import SetError
from trapline.scope.classes import CLASSES
from trapline.scope.listener import Args, Listener
from trapline.scope.tamper import MAX_ARGUMENTS, Tamper, poke

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

MAX_COUNT = 65535
_UNITS_NS = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": 1_000_000_000, "": 1000}
_GIVEN_ONCE = {"error": "result", "retval": "result", "signal": "signal", "syscall": "syscall"}


class When(NamedTuple):
    """Which invocations: `first`, and every `step`-th after it (0: none) up to `last` (0: for ever)."""

    first: int = 1
    last: int = 0
    step: int = 1

    def includes(self, count: int) -> bool:
        if count < self.first or (self.last and count > self.last):
            return False
        return count == self.first if not self.step else (count - self.first) % self.step == 0


class Rule(NamedTuple):
    """`calls`: whom it concerns."""

    calls: frozenset[str]
    tamper: Tamper
    when: When


def rule(text: str, *, fault: bool = False) -> Rule:
    """One inject= or fault= expression. Raises SetError."""
    word, *options = text.split(":")
    calls = choice.calls(word)
    given: dict[str, str] = {}
    when = When()
    for each in options:
        name, equals, value = each.partition("=")
        kind = _GIVEN_ONCE.get(name, name)
        if not equals or not value or (kind in given and name != "when"):
            raise SetError(f"invalid {_what(fault)} argument '{text}'")
        given[kind] = each
    if fault:
        if set(given) - {"result", "when"} or given.get("result", "error=").startswith("retval"):
            raise SetError(f"invalid fault argument '{text}': only error= and when= go with fault")
        given.setdefault("result", "error=ENOSYS")
    tamper = Tamper()
    for each in given.values():
        name, _, value = each.partition("=")
        try:
            if name == "when":
                when = _when(value)
            elif name == "syscall":
                _pure(value)
            else:
                tamper = _with(tamper, name, value)
        except (ValueError, KeyError):
            raise SetError(f"invalid {_what(fault)} argument '{text}': {each}") from None
    if tamper == Tamper() or ("syscall" in given and tamper.result is None):
        raise SetError(f"invalid {_what(fault)} argument '{text}': say error=, retval=, signal=, a delay or a poke")
    return Rule(calls, tamper, when)


def _what(fault: bool) -> str:
    return "fault" if fault else "inject"


def _with(tamper: Tamper, name: str, value: str) -> Tamper:
    """`tamper` with one option more. Raises ValueError, KeyError."""
    if name == "error":
        return tamper._replace(result=-_errno(value))
    if name == "retval":
        return tamper._replace(result=_in_range(int(value, 0), 0, (1 << 63) - 1))
    if name == "signal":
        return tamper._replace(signal=choice.signal(value))
    if name == "delay_enter":
        return tamper._replace(delay_enter_ns=duration_ns(value))
    if name == "delay_exit":
        return tamper._replace(delay_exit_ns=duration_ns(value))
    if name == "poke_enter":
        return tamper._replace(before=_pokes(value))
    if name == "poke_exit":
        return tamper._replace(after=_pokes(value))
    raise ValueError


def _errno(value: str) -> int:
    return _in_range(int(value), 1, 4095) if value.isdigit() else TEXTS[value][0]


def _in_range(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError
    return value


def duration_ns(value: str) -> int:
    """A number with s, ms, us (default) or ns behind it. Raises ValueError."""
    digits = value.rstrip("munsec")
    return _in_range(int(float(digits) * _UNITS_NS.get(value[len(digits) :], -1)), 0, 1 << 62)


def _pure(value: str) -> None:
    """`syscall=` names what is made instead; as that has no effect and its result is replaced, nothing need be made here."""
    if value not in CLASSES["pure"]:
        raise ValueError


def _pokes(value: str) -> tuple[tuple[int, bytes], ...]:
    """@argN=HEX[,@argM=HEX]..., arguments being counted from 1."""
    writes = []
    for each in value.split(","):
        name, _, data = each.partition("=")
        if not name.startswith("@arg") or not data:
            raise ValueError
        writes.append((_in_range(int(name[4:]), 1, MAX_ARGUMENTS) - 1, bytes.fromhex(data)))
    return tuple(writes)


def _when(value: str) -> When:
    """first[..last][+[step]]"""
    numbers, plus, step = value.partition("+")
    first, dots, last = numbers.partition("..")
    end = _in_range(int(last), int(first), MAX_COUNT - 1) if dots else 0
    every = _in_range(int(step), 1, MAX_COUNT) if step else 1 if plus or dots else 0
    return When(_in_range(int(first), 1, MAX_COUNT), end, every)


class Injector(Listener):
    """Decides by its rules, and remembers what it did for `mark`. It also listens: it counts the first execve(2)."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules
        self._counts: dict[Any, dict[tuple[int, str], int]] = {}
        self._done: dict[Any, Tamper] = {}

    def decide(self, task: Task, call: SystemCall, args: Args) -> Tamper | None:
        self._done.pop(task, None)
        for index, each in enumerate(self._rules):
            if call.name in each.calls and each.when.includes(self._count(task, index, call.name)):
                written = bool(each.tamper.before) and poke(task, args, each.tamper.before)
                self._done[task] = each.tamper if written else each.tamper._replace(before=())
                return each.tamper._replace(before=())
        return None

    def _count(self, task: Any, index: int, name: str) -> int:
        counts = self._counts.setdefault(task, {})
        counts[index, name] = counts.get((index, name), 0) + 1
        return counts[index, name]

    def spawned(self, task: Task) -> None:
        for index, each in enumerate(self._rules):
            if "execve" in each.calls:
                self._count(task, index, "execve")

    def exited(self, task: Task, status: int) -> None:
        self._counts.pop(task, None)
        self._done.pop(task, None)

    def mark(self, task: Task, result: int | None) -> str:
        """What strace writes behind the result of a call that was tampered with."""
        tamper = self._done.get(task)
        if tamper is None:
            return ""
        parts = ["args"] if tamper.before or (tamper.after and result is not None and not -4096 < result < 0) else []
        parts += ["retval"] if tamper.result is not None and parts else []
        text = f" (INJECTED: {', '.join(parts)})" if parts else " (INJECTED)" if tamper.result is not None else ""
        return text + (" (DELAYED)" if tamper.delay_enter_ns or tamper.delay_exit_ns else "")
