"""Sqlite: events as a database, to be asked in SQL: a table for each kind of event, with the members of `scope.events` as
columns.

Every table has `id` and what every event has: time_ns, pid, tid, command, cpu. A call's arguments are rows of `argument`:
call_id, position, name, value, shown. SQLite's integers are signed: what is 2^63 or more is stored less 2^64.

A file is written anew, in transactions of MANY events: a run that is cut off leaves a database with what it had come to.
What cannot be written any more (a full disk) ends the database and not the program.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

from trapline.cli.main import complain
from trapline.cli.options import UsageError

if TYPE_CHECKING:
    from trapline.scope.events import Event

MANY = 5000
_COMMON = "id INTEGER PRIMARY KEY, time_ns INTEGER, pid INTEGER, tid INTEGER, command TEXT, cpu INTEGER"
#: The members of each kind, in order.
TABLES = {
    "call": "call TEXT, result INTEGER, error TEXT, duration_ns INTEGER, wait_ns INTEGER, injected TEXT",
    "signal": "signal TEXT, shown TEXT",
    "start": "",
    "stop": "signal TEXT",
    "exit": "status INTEGER, signal TEXT",
    "run": "duration_ns INTEGER",
    "fault": "address INTEGER, access TEXT, kind TEXT, pages INTEGER, duration_ns INTEGER, kernel INTEGER, served INTEGER",
    "switch": "from_tid INTEGER, from_command TEXT, why TEXT",
    "wake": "by INTEGER",
    "interrupt": "kind TEXT",
}
_ARGUMENT = "call_id INTEGER REFERENCES call (id), position INTEGER, name TEXT, value INTEGER, shown TEXT"
_MEMBERS = {kind: [each.split()[0] for each in columns.split(", ") if each] for kind, columns in TABLES.items()}


def _value(value: Any) -> Any:
    """What SQLite can hold."""
    if isinstance(value, int) and value >> 63 > 0:
        return value - (1 << 64)
    return value.encode(errors="replace").decode(errors="replace") if isinstance(value, str) else value


class Sqlite:
    """A sink of events; `close` ends the file. Raises UsageError if there can be no such file."""

    cpus = True

    def __init__(self, path: str) -> None:
        self._path = path
        self._lost = ""
        self._pending = 0
        try:
            with open(path, "w"):
                pass
            for each in ("-journal", "-wal"):  # what a database of that name left behind is not this one's
                if os.path.exists(path + each):
                    os.unlink(path + each)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._make()
        except (OSError, sqlite3.Error) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"--sqlite {path}: {why}: choose another file") from None
        marks = {kind: ", ".join("?" * (5 + len(members))) for kind, members in _MEMBERS.items()}
        self._inserts = {kind: f"INSERT INTO {kind} VALUES (NULL, {each})" for kind, each in marks.items()}

    def _make(self) -> None:
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = MEMORY")
        self._database.execute("BEGIN")
        for kind, columns in TABLES.items():
            self._database.execute(f"CREATE TABLE {kind} ({', '.join(filter(None, (_COMMON, columns)))})")
        self._database.execute(f"CREATE TABLE argument ({_ARGUMENT})")

    def put(self, event: Event) -> None:
        if self._lost:
            return
        rest = event.rest
        row = [*event[1:6], *(rest.get(name) for name in _MEMBERS[event.event])]
        try:
            done = self._database.execute(self._inserts[event.event], list(map(_value, row)))
            if event.event == "call":
                self._put_arguments(done.lastrowid, rest["args"], rest["shown"])
            self._pending += 1
            if self._pending >= MANY:
                self._pending = 0
                self._database.execute("COMMIT")
                self._database.execute("BEGIN")
        except sqlite3.Error as error:
            self._lost = str(error)

    def _put_arguments(self, call_id: int | None, values: dict[str, int], shown: dict[str, str]) -> None:
        rows = [
            (call_id, position, name, _value(value), _value(shown.get(name)))
            for position, (name, value) in enumerate(values.items())
        ]
        self._database.executemany("INSERT INTO argument VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Write what is left, and an index of the arguments."""
        try:
            if not self._lost:
                self._database.execute("CREATE INDEX argument_of_call ON argument (call_id)")
                self._database.execute("COMMIT")
            self._database.close()
        except sqlite3.Error as error:
            self._lost = self._lost or str(error)
        if self._lost:
            complain(f"--sqlite {self._path}: not all was written: {self._lost}")
