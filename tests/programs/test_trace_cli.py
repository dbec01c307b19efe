"""`trapline trace` as its user meets it: its own formats, what it refuses, pipes that break, Ctrl-C. (Its text: tests/differential.)"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "trapline", "trace", *words]


def trace(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=support.host_environment(), cwd="/usr", capture_output=True, text=True, timeout=60, check=False
    )


REFUSED = {
    "-p 1": "nothing runs before PROGRAM", "--attach=1": "nothing runs before PROGRAM", "-k true": "unwinder", "-fk true": "unwinder",
    "-V": "trapline --version", "-e trace=nosuch true": "invalid system call 'nosuch'", "-e signal=FOO true": "invalid signal 'FOO'",
    "-e trace=/( true": "regular expression", "-e trace=read@16 true": "invalid system call", "-e status=odd true": "invalid status 'odd'",
    "-e quiet=odd true": "invalid quiet", "-e read=3 true": "not dumped", "-S odd true": "invalid sortby", "-U odd true": "column",
    "-U name,name true": "more than once", "-s x true": "-s x", "-s -1 true": "-s -1", "-o": "-o needs a value", "--output": "needs a value",
    "-ff -o |cat true": "-f once", "-cC true": "exclude", "-c --json true": "--json", "--json=x true": "takes no value", "-@ true": "unknown",
    "--nosuch true": "unknown option", "--memory x true": "not a size", "": "no program", "-f": "no program",
    "-e inject=read true": "say error=", "-e inject=read:error=EODD true": "error=EODD", "-e inject=read:error=4096 true": "error=4096",
    "-e inject=read:error=EIO:retval=1 true": "invalid inject", "-e inject=read:when=1 true": "say error=",
    "-e inject=read:error=EIO:when=0 true": "when=0", "-e inject=read:error=EIO:when=5..2 true": "when=5..2",
    "-e inject=read:delay_enter=1h true": "delay_enter", "-e inject=read:poke_enter=@arg9=00 true": "poke_enter",
    "-e inject=read:poke_exit=@arg1=0 true": "poke_exit", "-e inject=read:retval=0:syscall=open true": "syscall=open",
    "-e fault=read:retval=1 true": "only error= and when=", "-e fault=read:delay_exit=1 true": "invalid fault",
    "--strings-in-hex=odd true": "--strings-in-hex odd", "-o /nosuch/x true": "No such file", "--syscall-times=h true": "--syscall-times h",
    "-O x true": "-O x", "-e abbrev=stat true": "abbreviated",
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


def test_timeline(tmp_path: Path) -> None:
    """A Chrome trace: every event on a named track, slices of a track one after the other or inside each other."""
    file = tmp_path / "t.json"
    done = trace("--perfetto", str(file), "-f", "-o", "/dev/null", "sh", "-c", "sleep 0.02; exit 0")
    assert done.returncode == 0, done.stderr
    events = json.loads(file.read_text())
    named = {(each["pid"], each["tid"]) for each in events if each["name"] == "thread_name"}
    slices = [each for each in events if each["ph"] == "X"]
    assert {each["cat"] for each in slices} == {"user", "cpu", "call"}
    assert {(each["pid"], each["tid"]) for each in events if each["ph"] != "M"} <= named
    assert any(each["cat"] == "fault" for each in events if each["ph"] == "i")
    for track in named:
        mine = sorted((each for each in slices if (each["pid"], each["tid"]) == track), key=lambda each: each["ts"])
        for before, after in pairwise(mine):
            assert before["ts"] + before["dur"] <= after["ts"] + 500, (before, after)
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
