"""Saved traces: what `trapline trace --json` or `--sqlite` wrote, or the page gave to keep, back as events.

A trace may come from anybody: what is no event is counted, not shown, and nothing goes on that a browser would read otherwise.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from trapline.scope.web.hub import ON_PAGE
from trapline.scope.web.tally import Tally
from trapline.scope.web.wire import encode

if TYPE_CHECKING:
    from trapline.scope.web.hub import Hub

SQLITE = b"SQLite format 3\0"
MOST_LINE = 1 << 20  #: bytes of one event
#: What an event must have, and of which type.
_COMMON = {"event": str, "time_ns": int, "pid": int, "tid": int, "command": str, "cpu": int}
_OF_KIND: dict[str, dict[str, Any]] = {
    "call": {
        "call": str, "shown": dict, "duration_ns": int, "wait_ns": int, "error": (str, NoneType), "result": (int, NoneType),
    },
    "run": {"duration_ns": int},
    "fault": {"access": str, "address": int},
    "signal": {"signal": str},
    "stop": {"signal": str},
    "switch": {"from_tid": int, "why": str},
    "interrupt": {"kind": str},
}  # fmt: skip


class NoTrace(Exception):
    """The file holds no event; the text says what it may be."""


class Saved:
    """A trace file, by its path. Raises OSError, NoTrace."""

    def __init__(self, path: str) -> None:
        self._name = Path(path).name
        self._tally = Tally()
        self._damaged = 0
        self._total = 0
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=ON_PAGE)
        for event, line in self._read(Path(path)):
            self._add(event, line)
        if not self._total:
            raise NoTrace("no events in it: write one with `trapline trace --json -o FILE -- PROGRAM`, or --sqlite FILE")

    def fill(self, hub: Hub) -> None:
        for _, line in sorted(self._lines):  # calls were written when they ended, and are shown where they began
            hub.events.append(line)
        left_out = self._total - hub.events.end + hub.events.first
        run = {"status": "saved", "program": [self._name], "why": self._remarks(left_out)}
        tasks = {"list": [], "more": 0}
        hub.update({"run": run, "tally": self._tally.as_json(), "tasks": tasks, "lost": 0, "input": False})

    def _remarks(self, left_out: int) -> str:
        parts = [f"{self._total} events"]
        if left_out:
            parts.append(f"the last {self._total - left_out} are shown")
        if self._damaged:
            parts.append(f"{self._damaged} lines are no events")
        return ", ".join(parts)

    def _add(self, event: Any, line: bytes) -> None:
        """`line`: the event as JSON, if it need not be written anew."""
        if not is_event(event):
            self._damaged += 1
            return
        try:
            line = line or encode(event)
        except (ValueError, TypeError):  # bytes in a database
            self._damaged += 1
            return
        self._total += 1
        self._tally.add(event["event"], event)
        self._lines.append((event["time_ns"], line))

    def _read(self, path: Path) -> Iterable[tuple[Any, bytes]]:
        with path.open("rb") as file:
            start = file.read(len(SQLITE))
        if start == SQLITE:
            from trapline.scope.web.database import events

            return ((each, b"") for each in events(path))
        return _json_lines(path)


def _json_lines(path: Path) -> Iterator[tuple[Any, bytes]]:
    """Each line's event, or None, and the line itself, unless it has what ends a line in a stream of events."""
    with path.open("rb") as file:
        while line := file.readline(MOST_LINE):
            try:
                event = json.loads(line.decode(), parse_constant=_no_constant)
            except (ValueError, RecursionError):
                yield None, b""
            else:
                line = line.strip()
                yield event, b"" if b"\r" in line else line


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def is_event(event: Any) -> bool:
    """It has what every event has, and what those of its kind have."""
    if not isinstance(event, dict) or not _has(event, _COMMON):
        return False
    return _is(event.get("duration_ns", 0), int) and _has(event, _OF_KIND.get(event["event"], {}))


def _has(event: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(_is(event.get(name, _has), kind) for name, kind in wanted.items())


def _is(value: Any, kind: Any) -> bool:
    """As isinstance, but a truth value is no number here, and numbers have 64 bits."""
    return isinstance(value, kind) and not isinstance(value, bool) and (not isinstance(value, int) or abs(value) < 1 << 64)
