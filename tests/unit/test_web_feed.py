"""The wire that never waits, the counts, the questions, and traces from files."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.scope.web import wire as module
from trapline.scope.web.answers import Wrong, address, exact, number
from trapline.scope.web.hub import Hub
from trapline.scope.web.saved import NoTrace, Saved, is_event
from trapline.scope.web.tally import Tally, bucket
from trapline.scope.web.wire import Wire, encode

CALL = {
    "event": "call", "time_ns": 5, "pid": 2, "tid": 2, "command": "ls", "cpu": 0, "call": "read", "args": {}, "shown": {"fd": "3"},
    "result": -2, "error": "ENOENT", "duration_ns": 3000, "wait_ns": 1000,
}  # fmt: skip


def test_a_server_that_does_not_read_never_stops_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    line = b"x" * 1000
    for _ in range(20_000):
        wire.events([line])
        wire.flush()
    assert wire.lost > 10_000 and wire.waiting
    wire.drain(0.05)
    assert wire.waiting
    theirs.close()
    wire.flush()
    assert wire.closed and not wire.waiting
    wire.close()


def test_what_fits_arrives_whole_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    wire.events([b'{"n":1}', b'{"n":2}'])
    wire.events([])
    wire.send(b"S", {"a": "ä\n"})
    wire.flush()
    assert theirs.recv(1000) == b'E{"n":1}\nE{"n":2}\nS{"a":"\\u00e4\\n"}\n'
    theirs.send(b'{"do":"pause","id":1}\n{"do":')
    assert wire.questions() == [{"do": "pause", "id": 1}]
    theirs.send(b'"step"}\n')
    assert wire.questions() == [{"do": "step"}]
    theirs.close()
    assert wire.questions() == [] and wire.closed
    wire.close()


def test_the_wire_holds_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    wire.events([b"x" * 60])
    wire.events([b"y" * 60])
    assert wire.lost == 1
    wire.close()
    theirs.close()


def test_calls_are_counted_with_their_time_without_sleep() -> None:
    tally = Tally()
    tally.add("call", CALL)
    tally.add("call", {**CALL, "error": None, "duration_ns": 6000})
    tally.add("run", {"duration_ns": 7})
    tally.add("fault", {"access": "write"})
    tally.add("fault", {"access": "write", "kind": "cow", "duration_ns": 9})
    tally.add("switch", {"why": "blocked"})
    tally.add("interrupt", {"kind": "timer"})
    tally.add("signal", {"signal": "SIGCHLD"})
    found = tally.as_json()
    read = found["calls"]["read"]
    assert (read["count"], read["errors"], read["ns"], read["wait_ns"]) == (2, 1, 7000, 2000)
    assert (read["min_ns"], read["max_ns"], read["which"]) == (2000, 5000, {"ENOENT": 1})
    assert sum(read["histogram"]) == 2 and read["histogram"][bucket(2000)] == 1
    assert found["faults"] == {"write": [1, 0], "cow": [1, 9]} and found["signals"] == {"SIGCHLD": 1} and found["user_ns"] == 7
    assert found["switches"] == {"blocked": 1} and found["interrupts"] == {"timer": 1}
    assert found["events"] == {"call": 2, "run": 1, "fault": 2, "signal": 1, "switch": 1, "interrupt": 1}


def test_the_histogram_takes_every_time() -> None:
    assert bucket(-5) == bucket(0) == bucket(511) == 0
    assert bucket(512) == 1 and bucket(1 << 60) == 25


@pytest.mark.parametrize("value", [None, "2", 2.0, True, -1, 1 << 63, [2]])
def test_numbers_of_questions_are_checked(value: Any) -> None:
    with pytest.raises(Wrong, match="pid"):
        number({"pid": value}, "pid")
    assert number({"pid": 2}, "pid") == 2


@pytest.mark.parametrize("text", [None, 5, "", "x", "0x", "-1", "0x1" + "0" * 16, "1" * 50, "12 34"])
def test_addresses_of_questions_are_checked(text: Any) -> None:
    with pytest.raises(Wrong, match="address"):
        address({"address": text})
    assert address({"address": "0xffffffffffffffff"}) == (1 << 64) - 1


def test_numbers_that_a_script_cannot_hold_become_text() -> None:
    assert exact({"a": [1, 1 << 53, {"b": (1 << 53) - 1}], "c": "x"}) == {"a": [1, "0x20000000000000", {"b": (1 << 53) - 1}], "c": "x"}


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    return str(path)


def test_a_saved_trace_is_shown_in_the_order_in_which_things_began(tmp_path: Path) -> None:
    late = {**CALL, "time_ns": 9, "call": "write"}
    hub = Hub()
    Saved(write(tmp_path, "\n".join(json.dumps(each) for each in (late, CALL)))).fill(hub)
    lines, _, _ = hub.events.since(0, 10)
    assert [json.loads(each)["call"] for each in lines] == ["read", "write"]
    assert hub.state["run"]["status"] == "saved" and hub.state["run"]["program"] == ["trace.jsonl"]
    assert hub.state["tally"]["calls"].keys() == {"read", "write"}


def test_what_is_no_event_is_counted_and_not_shown(tmp_path: Path) -> None:
    bad = ["nonsense", json.dumps(CALL).encode("utf-16").decode("latin-1"), "[]", "{}", '{"event":"call"}', json.dumps({**CALL, "error": 5}), json.dumps({**CALL, "cpu": True}), json.dumps({**CALL, "time_ns": 1 << 70}),
        json.dumps({**CALL, "event": "fault", "access": "read", "address": 1, "duration_ns": "long"}), json.dumps({**CALL, "x": float("nan")}), "[" * 9999]
    hub = Hub()
    Saved(write(tmp_path, "\n".join([json.dumps(CALL), *bad]))).fill(hub)
    assert hub.events.end == 1
    assert hub.state["run"]["why"] == f"1 events, {len(bad)} lines are no events"


def test_what_would_end_a_line_of_the_stream_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(json.dumps({**CALL, "command": "ü"}, ensure_ascii=False).replace(", ", ",\r").encode() + b"\r\n")
    hub = Hub()
    Saved(str(path)).fill(hub)
    (line,), _, _ = hub.events.since(0, 10)
    assert b"\r" not in line and json.loads(line)["command"] == "ü"


def test_of_a_long_trace_the_newest_are_shown_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trapline.scope.web.saved.ON_PAGE", 3)
    hub = Hub()
    Saved(write(tmp_path, "\n".join(json.dumps({**CALL, "time_ns": n}) for n in range(10)))).fill(hub)
    assert [json.loads(each)["time_ns"] for each in hub.events.since(0, 10)[0]] == [7, 8, 9]
    assert hub.state["run"]["why"] == "10 events, the last 3 are shown"
    assert hub.state["tally"]["calls"]["read"]["count"] == 10


def test_a_file_without_events_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoTrace, match="trapline trace --json"):
        Saved(write(tmp_path, "hello\n"))
    with pytest.raises(FileNotFoundError):
        Saved(str(tmp_path / "none"))


@settings(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)))
def test_no_json_breaks_the_check_of_events(value: Any) -> None:
    assert is_event(value) in (True, False)
    assert b"\n" not in encode(value)


def test_a_database_of_trace_is_shown_as_the_events_it_was_made_of(tmp_path: Path) -> None:
    from trapline.cli.sqlite import Sqlite
    from trapline.scope.events import Event

    path = str(tmp_path / "trace.db")
    database = Sqlite(path)
    rest = {name: value for name, value in CALL.items() if name not in Event._fields}
    database.put(Event("call", 5, 2, 2, "ls", 0, {**rest, "args": {"fd": (1 << 64) - 1, "buf": 7}, "shown": {"fd": "-1"}}))
    database.put(Event("call", 9, 2, 2, "ls", 0, {**rest, "args": {}, "shown": {}}))
    fault = {"address": (1 << 64) - 4096, "access": "read", "kind": "invalid", "pages": 0, "duration_ns": 3, "kernel": False, "served": False}
    database.put(Event("fault", 7, 2, 2, "ls", 0, fault))
    database.put(Event("exit", 8, 2, 2, "ls", 0, {"status": 0}))
    database.close()
    hub = Hub()
    Saved(path).fill(hub)
    found = [json.loads(each) for each in hub.events.since(0, 10)[0]]
    assert [each["event"] for each in found] == ["call", "fault", "exit", "call"]
    assert found[0]["args"] == {"fd": (1 << 64) - 1, "buf": 7} and found[0]["shown"] == {"fd": "-1"} and found[0]["error"] == "ENOENT"
    assert found[1] == {"event": "fault", "time_ns": 7, "pid": 2, "tid": 2, "command": "ls", "cpu": 0, **fault}
    assert found[2] == {"event": "exit", "time_ns": 8, "pid": 2, "tid": 2, "command": "ls", "cpu": 0, "status": 0}
    assert hub.state["run"]["why"] == "4 events"


def test_a_damaged_or_hostile_database_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "trace.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE start (id, time_ns, pid, tid, command, cpu, more)")
        database.execute("INSERT INTO start VALUES (1, 5, 2, 2, 'ls', 0, NULL), (2, 'x', 2, 2, 'ls', 0, 1), (3, 6, 2, 2, 'ls', 0, x'ff')")
        database.execute("CREATE VIEW run AS SELECT * FROM start")
        database.execute("CREATE TABLE argument (odd)")
        database.execute("CREATE TABLE call (id)")
    database.close()
    with pytest.raises(NoTrace):  # its calls have no arguments that could be read
        Saved(str(path))
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE argument")
    database.close()
    hub = Hub()
    Saved(str(path)).fill(hub)
    assert hub.events.end == 1 and hub.state["run"]["why"] == "1 events, 2 lines are no events"
    data = bytearray(path.read_bytes())
    data[2000:] = b"\xff" * (len(data) - 2000)
    path.write_bytes(data)
    with pytest.raises(NoTrace):
        Saved(str(path))


class Idle:
    """As much of a kernel as a feed needs: a clock that stands until it is moved, timers, no tasks."""

    def __init__(self) -> None:
        from trapline.kernel.sync.timers import Timers

        self.ns = 10**12
        self.clock = self
        self.timers = Timers()
        self.hooks = self.loop = self.machine = self
        self.tasks: dict[int, Any] = {}
        self.first = None
        self.ready: list[tuple[int, int]] = []

    def monotonic_ns(self) -> int:
        return self.ns

    def host_ready(self) -> None:
        pass

    def watch(self, fd: int, mask: int) -> None:
        pass

    def pass_time(self, ms: int) -> int:
        """Let timers run; how many did."""
        ran = 0
        for _ in range(ms):
            self.ns += 1_000_000
            before = self.timers.next_deadline_ns()
            if before is not None and before <= self.ns:
                self.timers.run_due(self.ns)
                ran += 1
        return ran


def test_an_idle_kernel_is_left_alone_once_everything_was_told() -> None:
    from trapline.scope.events import Event
    from trapline.scope.web.feed import Feed

    kernel, (ours, theirs) = Idle(), socket.socketpair()
    feed = Feed(kernel, Wire(ours))  # type: ignore[arg-type]
    rest = {name: value for name, value in CALL.items() if name not in Event._fields}
    for _ in range(10):
        feed.put(Event("call", 5, 2, 2, "ls", 0, rest))
        kernel.pass_time(20)
    assert kernel.pass_time(1000) <= 10
    assert kernel.timers.next_deadline_ns() is None
    told = theirs.recv(1 << 20).decode().splitlines()
    assert sum(line.startswith("E") for line in told) == 10
    assert json.loads([line for line in told if '"tally"' in line][-1][1:])["tally"]["calls"]["read"]["count"] == 10


def test_a_server_that_stands_still_costs_one_timer_not_ever_more() -> None:
    from trapline.scope.events import Event
    from trapline.scope.web.feed import Feed

    kernel, (ours, theirs) = Idle(), socket.socketpair()
    feed = Feed(kernel, Wire(ours))  # type: ignore[arg-type]
    rest = {name: value for name, value in CALL.items() if name not in Event._fields} | {"shown": {"buf": "x" * 500}}
    for _ in range(20_000):
        feed.put(Event("call", 5, 2, 2, "ls", 0, rest))
    assert kernel.pass_time(2000) <= 45
    theirs.setblocking(False)
    total = 0
    for _ in range(400):  # it goes on: everything that was not dropped comes
        kernel.pass_time(51)
        while True:
            try:
                total += theirs.recv(1 << 20).count(b'\nE{"event"')
            except BlockingIOError:
                break
    assert kernel.timers.next_deadline_ns() is None
    assert 3000 < total < 20_000
    theirs.close()


def test_what_the_kernel_refuses_is_an_answer_and_no_panic(monkeypatch: pytest.MonkeyPatch) -> None:
    from trapline.abi.errno import EAGAIN
    from trapline.scope.web.answers import Answers
    from trapline.scope.web.feed import Feed

    def refuse(self: Answers, question: dict[str, Any]) -> Any:
        raise EAGAIN("too many signals")

    kernel, (ours, theirs) = Idle(), socket.socketpair()
    Feed(kernel, Wire(ours))  # type: ignore[arg-type]
    monkeypatch.setattr(Answers, "answer", refuse)
    theirs.send(b'{"do":"signal","id":7}\n')
    kernel.ready = [(ours.fileno(), 1), (99, 1)]
    kernel.host_ready()
    assert kernel.ready == [(99, 1)]  # the others' are left to them
    reply = json.loads(theirs.recv(1000)[1:])
    assert reply["id"] == 7 and "too many signals" in reply["error"]
    theirs.close()
