"""`trapline trace` as its user meets it: its own formats, what it refuses, pipes that break, Ctrl-C. (Its text: tests/differential.)"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import support
from trapline.cli.sqlite import TABLES, Sqlite
from trapline.scope.events import Event

pytestmark = pytest.mark.usefixtures("no_process_left")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "trapline", "trace", *words]


def trace(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=support.host_environment(), cwd="/usr", capture_output=True, text=True, timeout=60, check=False
    )


REFUSED = {
    "-p 1": "nothing runs before PROGRAM", "--attach=1": "nothing runs before PROGRAM", "-d true": "--log", "-fd true": "--log",
    "-e trace=nosuch true": "invalid system call 'nosuch'", "-e signal=FOO true": "invalid signal 'FOO'",
    "-e trace=/( true": "regular expression", "-e trace=read@16 true": "invalid system call", "-e status=odd true": "invalid status 'odd'",
    "-e quiet=odd true": "invalid quiet", "-e read=x true": "invalid descriptor 'x'", "-X odd true": "-X odd", "-S odd true": "invalid sortby", "-U odd true": "column",
    "-U name,name true": "more than once", "-s x true": "-s x", "-s -1 true": "-s -1", "-o": "-o needs a value", "--output": "needs a value",
    "-ff -o |cat true": "-f once", "-cC true": "exclude", "-c --json true": "--json", "--json=x true": "takes no value", "-@ true": "unknown",
    "--nosuch true": "unknown option", "--memory x true": "not a size", "": "no program", "-f": "no program",
    "-e inject=read true": "say error=", "-e inject=read:error=EODD true": "error=EODD", "-e inject=read:error=4096 true": "error=4096",
    "-e inject=read:error=EIO:retval=1 true": "invalid inject", "-e inject=read:when=1 true": "say error=",
    "-e inject=read:error=EIO:when=0 true": "when=0", "-e inject=read:error=EIO:when=5..2 true": "when=5..2",
    "-e inject=read:delay_enter=1h true": "delay_enter", "-e inject=read:poke_enter=@arg9=00 true": "poke_enter",
    "-e inject=read:poke_exit=@arg1=0 true": "poke_exit", "-e inject=read:retval=0:syscall=open true": "syscall=open",
    "-e fault=read:retval=1 true": "only error= and what says when", "-e fault=read:delay_exit=1 true": "invalid fault",
    "--strings-in-hex=odd true": "--strings-in-hex odd", "-o /nosuch/x true": "No such file", "--syscall-times=h true": "--syscall-times h",
    "-O x true": "-O x", "-e abbrev=nosuch true": "invalid system call", "-e verbose=nosuch true": "invalid system call",
}  # fmt: skip


def test_what_makes_no_sense_is_refused_with_advice(capfd: pytest.CaptureFixture[str]) -> None:
    from trapline.cli.main import main

    for words, phrase in REFUSED.items():
        assert main(["trace", *words.split()]) == 125, words
        out, err = capfd.readouterr()
        assert out == "" and err.startswith("trapline: ") and err.count("\n") == 1 and phrase in err, (words, err)


def test_help_fits_a_terminal() -> None:
    for words in (["trace", "--help"], ["trace", "-h"], ["help", "trace"]):
        done = subprocess.run(
            [sys.executable, "-m", "trapline", *words], env=support.host_environment(), capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("usage: trapline trace") and max(map(len, done.stdout.splitlines())) <= 80


def test_exit_status_is_the_programs() -> None:
    assert trace("-qq", "-e", "trace=none", "sh", "-c", "exit 7").returncode == 7
    assert trace("-e", "trace=none", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert trace("nosuchprogram").returncode == 127


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    words = ["-e", "inject=rmdir:error=EBUSY", "sh", "-c", "rmdir /nosuch; sleep 0.05; exit 3"]
    done = trace("--json", "-f", "-o", str(file), *words)
    assert done.returncode == 3, done.stderr
    events = [json.loads(line) for line in file.read_text().splitlines()]
    for each in events:
        assert {"event", "time_ns", "pid", "tid", "command", "cpu"} <= set(each)
    assert [each["event"] for each in events].count("start") == 3
    calls = [each for each in events if each["event"] == "call"]
    removed = next(each for each in calls if each["call"] == "rmdir")
    assert (removed["result"], removed["error"], removed["injected"]) == (-16, "EBUSY", "(INJECTED)")
    assert removed["shown"] == {"pathname": '"/nosuch"'} and removed["command"] == "rmdir"
    slept = next(each for each in calls if each["call"] == "clock_nanosleep")
    assert slept["result"] == 0 and 50_000_000 <= slept["wait_ns"] <= slept["duration_ns"]
    ended = [each for each in calls if each["call"] == "exit_group"]
    assert len(ended) == 3 and all(each["result"] is None for each in ended)
    first = events[0]["pid"]
    assert [each["status"] for each in events if each["event"] == "exit" and each["pid"] == first] == [3]
    assert {each["signal"] for each in events if each["event"] == "signal"} == {"SIGCHLD"}


def assert_nested(slices: list[dict[str, Any]]) -> None:
    """Each slice ends before the next begins, or holds it whole (within the microseconds that two clocks may differ)."""
    around: list[float] = []
    for each in slices:
        while around and around[-1] <= each["ts"] + 500:
            around.pop()
        end = each["ts"] + each["dur"]
        assert not around or end <= around[-1] + 500, each
        around.append(end)


def test_timelines_keep_to_the_trace_event_format(tmp_path: Path) -> None:
    """What "Trace Event Format" asks of each phase; flows begin and end in slices."""
    file = tmp_path / "t.json"
    script = "yes | head -c 200000 | wc -c; sleep 0.01; true & wait"
    assert trace("--perfetto", str(file), "-f", "-o", "/dev/null", "sh", "-c", script).returncode == 0
    events = json.loads(file.read_text())
    assert isinstance(events, list) and {each["ph"] for each in events} == {"M", "X", "i", "s", "f"}
    begun: dict[int, float] = {}
    for each in events:
        assert isinstance(each["name"], str) and type(each["pid"]) is type(each["tid"]) is int, each
        if each["ph"] == "M":
            assert each["name"] in ("process_name", "thread_name") and isinstance(each["args"]["name"], str)
            continue
        assert isinstance(each["ts"], int | float) and isinstance(each["cat"], str), each
        if each["ph"] == "X":
            assert each["dur"] >= 0 and isinstance(each["args"], dict), each
        elif each["ph"] == "i":
            assert each["s"] == "t", each
        elif each["ph"] == "s":
            assert each["id"] not in begun
            begun[each["id"]] = each["ts"]
        else:
            assert each["bp"] == "e" and each["ts"] >= begun[each["id"]], each
    spans = [(each["pid"], each["tid"], each["ts"], each["ts"] + each["dur"]) for each in events if each["ph"] == "X"]
    flows = [each for each in events if each["ph"] in "sf"]
    held = [any(s[:2] == (f["pid"], f["tid"]) and s[2] <= f["ts"] <= s[3] for s in spans) for f in flows]
    assert len(flows) >= 4 and sum(held) >= 0.9 * len(flows), "a thread may be woken when it is not in a call: by a signal"


def test_databases_answer_the_questions_of_the_documentation(tmp_path: Path) -> None:
    file = tmp_path / "t.db"
    file.write_text("what was there before")
    script = "cat /nosuch; { sleep 0.1; echo x; } | cat; true & wait"
    done = trace("--sqlite", str(file), "--json", "-o", str(tmp_path / "t.jsonl"), "-f", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    page = (support.ROOT / "docs/tracing.md").read_text()
    by_cost, not_opened, wakes = (each.strip() for each in re.findall(r"^```sql\n(.*?)^```$", page, re.M | re.S))
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute(by_cost).fetchall()
        assert rows[0][2] >= rows[-1][2] > 0 and len(rows) == 10
        assert ("cat", '"/nosuch"', "ENOENT") in database.execute(not_opened).fetchall()
        assert any(row[0] == "cat" and row[1] == "sh" for row in database.execute(wakes)), "echo is the shell's own"
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kinds = {kind: database.execute(f"SELECT count(*) FROM {kind}").fetchone()[0] for kind in TABLES}
        assert all(kinds[kind] for kind in TABLES if kind not in ("stop", "switch", "interrupt")), kinds
        events = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
        for kind in ("call", "signal", "start", "exit"):
            assert kinds[kind] == sum(each["event"] == kind for each in events), "the same events as in JSON"
        lines = [tuple(each[name] for name in ("tid", "call", "result", "error")) for each in events if each["event"] == "call"]
        assert database.execute("SELECT tid, call, result, error FROM call ORDER BY id").fetchall() == lines
        arguments = sum(len(each["args"]) for each in events if each["event"] == "call")
        assert database.execute("SELECT count(*) FROM argument").fetchone() == (arguments,)


def test_looking_at_arguments_makes_no_faults(tmp_path: Path) -> None:
    """A path that ends near the end of the stack is read up to there, and what the microscope tries beyond is not the program's."""
    file = tmp_path / "t.db"
    assert trace("--sqlite", str(file), "-o", "/dev/null", "--", "ls", "-ld", "/usr").returncode == 0
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT count(*) FROM fault WHERE kind <> 'invalid'").fetchone()[0] > 10
        assert database.execute("SELECT count(*) FROM fault WHERE kind = 'invalid'").fetchone() == (0,)


def test_a_database_that_cannot_be_is_refused_and_a_full_one_ends_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = trace("--sqlite", "/nosuch/x", "true")
    assert done.returncode == 125 and "--sqlite /nosuch/x: No such file or directory" in done.stderr
    full = Sqlite(str(tmp_path / "t.db"))
    full._database.execute("PRAGMA max_page_count = 20")
    for number in range(10_000):
        full.put(Event("call", number, 1, 1, "x\udcff", 0, {
            "call": "read", "args": {"fd": (1 << 64) - 1}, "shown": {"fd": "-1"}, "result": -9, "error": "EBADF",
            "duration_ns": 1, "wait_ns": 0,
        }))  # fmt: skip
    full.close()
    assert f"trapline: --sqlite {tmp_path}/t.db: not all was written: database or disk is full" in capfd.readouterr().err


def test_timeline(tmp_path: Path) -> None:
    """A Chrome trace: every event on a named track, slices of a track one after the other or inside each other."""
    file = tmp_path / "t.json"
    done = trace("--perfetto", str(file), "-f", "-o", "/dev/null", "sh", "-c", "sleep 0.02; exit 0")
    assert done.returncode == 0, done.stderr
    events = json.loads(file.read_text())
    named = {(each["pid"], each["tid"]) for each in events if each["name"] == "thread_name"}
    slices = [each for each in events if each["ph"] == "X"]
    assert {each["cat"] for each in slices} == {"user", "cpu", "call", "fault"}
    assert {(each["pid"], each["tid"]) for each in events if each["ph"] != "M"} <= named
    for track in named:
        mine = [each for each in slices if (each["pid"], each["tid"]) == track]
        assert_nested(sorted(mine, key=lambda each: (each["ts"], -each["dur"])))
    assert {each["cat"] for each in events if each["ph"] == "i"} >= {"start", "exit", "switch", "interrupt"}
    names = {each["args"]["name"] for each in events if each["name"] == "process_name"}
    assert {"CPUs", "sh", "sleep"} <= names


def test_a_reader_that_goes_away_does_not_disturb_the_program() -> None:
    done = trace("-o", "|exit 0", "sh", "-c", "for i in 1 2 3 4 5; do cat /dev/null; done; echo whole")
    assert (done.returncode, done.stdout) == (0, "whole\n")
    assert "not all was written" in done.stderr


def test_a_name_with_control_characters_does_not_reach_the_terminal() -> None:
    guest = 'import ctypes, os; ctypes.CDLL(None).prctl(15, b"a\\x1b[2J<\\n", 0, 0, 0); os.fork() or os._exit(3)'
    done = trace("-f", "-Y", "-e", "trace=exit_group", "/usr/bin/python3", "-S", "-c", guest)
    assert done.returncode == 0 and "\x1b" not in done.stderr and "<a\\33[2J\\74\\n>] exit_group(3)" in done.stderr, done.stderr


def test_files_of_threads_are_closed_when_they_end(tmp_path: Path) -> None:
    """More threads than descriptors."""
    words = ["-ff", "-o", f"{tmp_path}/t", "-e", "trace=exit_group", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (:); (:); (:); (:); (:); done"]
    limited = ["prlimit", "--nofile=50", *command(*words)]
    done = subprocess.run(limited, env=support.host_environment(), cwd="/usr", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 46


def test_ctrl_c_ends_the_program_and_the_table_is_written() -> None:
    process = subprocess.Popen(
        command("-c", "sh", "-c", "echo ready; exec sleep 30"), env=support.host_environment(), cwd="/usr", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "% time" in err and " total\n" in err and "Traceback" not in err


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
def test_the_other_machine(tmp_path: Path) -> None:
    source = tmp_path / "small.c"
    source.write_text('#include <unistd.h>\nint main(void) { return write(1, "hi\\n", 3) != 3 || write(1, "ho\\n", 3) != -1; }\n')
    program = support.compile_c(source, ["-static"], compiler=support.RISCV_GCC)
    done = trace(
        "--machine", "riscv", "--bind", f"{program}:/tmp/small", "-yy", "-e", "trace=write", "-e", "inject=write:error=EIO:when=2",
        "/tmp/small",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("write(1<pipe:[") and lines[0].endswith("= 3")
    assert lines[1].endswith("= -1 EIO (Input/output error) (INJECTED)") and lines[2] == "+++ exited with 0 +++"
