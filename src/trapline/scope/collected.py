"""Trace: the events of one run, kept in memory, with questions and assertions about them.

    trace.calls("openat", path="/etc/*", error="ENOENT")      # the calls that match
    trace.assert_called("fsync", times=1)
    trace.assert_not_called("connect", "sendto")

A call matches a `path` if one of its arguments names it, or is a descriptor of it (fnmatch patterns); the first argument of
the questions may be a name, a class (`%file`) or a set as for `trapline trace -e trace=`.
"""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from trapline.scope.events import Event
from trapline.scope.strace.choice import calls as names_in

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 200_000  #: events that are kept; what comes later is counted
_SHOWN = 12


class Call(NamedTuple):
    """One system call. `args` are numbers and `shown` strace's text of them, both by name; `result` None: it did not return."""

    name: str
    tid: int
    args: dict[str, int]
    shown: dict[str, str]
    result: int | None
    error: str | None
    duration_ns: int
    wait_ns: int
    injected: bool

    def __str__(self) -> str:
        result = "?" if self.result is None else f"-1 {self.error}" if self.error else _number(self.result)
        return f"{self.name}({', '.join(self.shown.values())}) = {result}{' (INJECTED)' if self.injected else ''}"

    def concerns(self, pattern: str) -> bool:
        return any(fnmatchcase(each, pattern) for each in self.paths())

    def paths(self) -> Iterator[str]:
        """The paths in its arguments: quoted strings, and what -y shows behind descriptors."""
        for text in self.shown.values():
            if text[:1] == '"':
                yield text[1:].rpartition('"')[0]
            elif text[-1:] == ">" and "<" in text and not text.startswith("AT_"):
                yield text.partition("<")[2][:-1]


class Trace:
    """A sink for events. Of a program that makes very many, the first are kept, and `lost` says how many are not."""

    cpus = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lost = 0

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import trace

        return trace(self)

    def put(self, event: Event) -> None:
        if len(self.events) < LIMIT:
            self.events.append(event)
        else:
            self.lost += 1

    def __len__(self) -> int:
        return len(self.events)

    def calls(self, which: str = "all", *, path: str | None = None, error: str | None = None) -> list[Call]:
        """The calls in set `which` that concern `path` and failed with `error` ("any": with whichever). Raises SetError."""
        wanted = None if which == "all" else names_in(which)
        return [
            each
            for each in self._calls()
            if (wanted is None or each.name in wanted)
            and (path is None or each.concerns(path))
            and (error is None or each.error == error or (error == "any" and each.error is not None))
        ]

    def counts(self) -> Counter[str]:
        """How often each call was made."""
        return Counter(each.name for each in self._calls())

    def signals(self) -> list[str]:
        """The signals that were delivered, in order."""
        return [each.rest["signal"] for each in self.events if each.event == "signal"]

    def deaths(self) -> list[str]:
        """The signals that tasks died of."""
        return [each.rest["signal"] for each in self.events if each.event == "exit" and "signal" in each.rest]

    def assert_called(
        self, which: str, *, times: int | None = None, path: str | None = None, error: str | None = None
    ) -> list[Call]:
        """The matching calls; AssertionError if there is none, or not `times`."""
        __tracebackhide__ = True
        found = self.calls(which, path=path, error=error)
        wrong = not found if times is None else len(found) != times
        if wrong:
            near = found or self.calls(which) or list(self._calls())[-_SHOWN:]
            wanted = "at least one call" if times is None else f"{times} calls"
            raise AssertionError(f"{wanted} of {_words(which, path, error)}, but {len(found)} were made\n{_listed(near)}")
        return found

    def assert_not_called(self, *which: str, path: str | None = None, error: str | None = None) -> None:
        """AssertionError if a call in one of the sets was made."""
        __tracebackhide__ = True
        for each in which:
            found = self.calls(each, path=path, error=error)
            if found:
                raise AssertionError(f"no call of {_words(each, path, error)}, but {len(found)} were made\n{_listed(found)}")

    def assert_order(self, *which: str) -> None:
        """AssertionError if the first task's calls do not include one of each set, in this order."""
        __tracebackhide__ = True
        found = [each for each in self._calls() if each.tid == self.events[0].tid] if self.events else []
        rest = iter(found)
        for each in which:
            wanted = names_in(each)
            if not any(call.name in wanted for call in rest):
                made = _listed(found[-_SHOWN:])
                raise AssertionError(f"no call of {each} in its place in the order {', '.join(which)}\n{made}")

    def _calls(self) -> Iterator[Call]:
        for each in self.events:
            if each.event == "call":
                rest = each.rest
                yield Call(
                    rest["call"], each.tid, rest["args"], rest["shown"], rest["result"], rest["error"], rest["duration_ns"],
                    rest["wait_ns"], "injected" in rest,
                )  # fmt: skip


def _number(value: int) -> str:
    """An address is written as one."""
    return hex(value) if value >> 31 else str(value)


def _words(which: str, path: str | None, error: str | None) -> str:
    return which + (f" on {path}" if path is not None else "") + (f" with {error}" if error is not None else "")


def _listed(calls: list[Call]) -> str:
    lines = [f"  {each}" for each in calls[:_SHOWN]]
    return "\n".join(lines + ([f"  and {len(calls) - _SHOWN} more"] if len(calls) > _SHOWN else []))
