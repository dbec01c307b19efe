"""A trace from SQLite, as `trapline trace --sqlite` writes it, back as events; in the order in which they began, nearly.

The file may come from anybody: it is opened for reading, nothing in its schema is trusted, and only tables of events are read.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

KINDS = ("call", "signal", "start", "stop", "exit", "run", "fault", "switch", "wake", "interrupt")
_KEEP = frozenset(("result", "error", "by"))  #: members that may be null
_GUARDS = ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0")


def events(path: Path) -> Iterator[dict[str, Any] | None]:
    """Every event; None in the place of what is damaged."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        database.text_factory = lambda data: data.decode(errors="replace")
        try:
            for each in _GUARDS:
                database.execute(f"PRAGMA {each}")
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            streams = [_rows(database, kind) for kind in KINDS if kind in tables]
            if "call" in tables and "argument" in tables:
                streams[0] = _with_arguments(database, streams[0])
            yield from heapq.merge(*streams, key=_time)
        except sqlite3.Error:
            yield None


def _time(event: dict[str, Any]) -> int:
    time_ns = event.get("time_ns")
    return time_ns if isinstance(time_ns, int) else 0


def _rows(database: sqlite3.Connection, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of one table as events; `id` stays for whoever joins."""
    cursor = database.execute(f"SELECT * FROM {kind} ORDER BY rowid")
    names = [each[0] for each in cursor.description]
    for row in cursor:
        found = {name: value for name, value in zip(names, row, strict=True) if value is not None or name in _KEEP}
        event = {"event": kind, **found}
        if kind != "call":
            event.pop("id", None)
        if kind == "fault":
            event["address"] = _unsigned(event.get("address"))
            event["served"], event["kernel"] = bool(event.get("served")), bool(event.get("kernel"))
        yield event


def _with_arguments(database: sqlite3.Connection, calls: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each call with the rows of `argument` that belong to it: both tables are in the order of the calls."""
    rows = iter(database.execute("SELECT call_id, name, value, shown FROM argument ORDER BY rowid"))
    row = next(rows, None)
    for call in calls:
        number = call.pop("id", None)
        values: dict[str, Any] = {}
        shown: dict[str, Any] = {}
        while row is not None and row[0] == number:
            values[str(row[1])] = _unsigned(row[2])
            if row[3] is not None:
                shown[str(row[1])] = row[3]
            row = next(rows, None)
        yield {**call, "args": values, "shown": shown}


def _unsigned(value: Any) -> Any:
    return value + (1 << 64) if isinstance(value, int) and value < 0 else value
