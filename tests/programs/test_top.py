"""`trapline top` as its user meets it: tables in a pipe, JSON, and the screen over a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")
BUSY = "import os, time\nend = time.time() + 0.7\nwhile time.time() < end: os.getppid()\nprint('done')"


def top(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "trapline", "top", *words], env=support.host_environment(), cwd="/usr", capture_output=True,
        input=stdin, timeout=60, check=False,
    )  # fmt: skip


def test_tables_in_a_pipe_and_the_programs_output_beside_them() -> None:
    done = top("--batch", "-d", "0.3", "python3", "-c", BUSY)
    assert done.returncode == 0 and done.stderr == b"done\n"
    tables = done.stdout.decode().split("\n\n")
    heads = [each for each in tables if each.startswith("trapline top ")]
    assert len(heads) >= 2 and max(map(len, done.stdout.decode().splitlines())) <= 80
    assert any("python3" in each for each in tables) and any("getppid" in each for each in heads)
    assert "\x1b" not in done.stdout.decode()


def test_so_many_tables_and_the_exit_status() -> None:
    done = top("--batch", "-n", "1", "-d", "0.1", "sh", "-c", "sleep 0.4; exit 5")
    assert done.returncode == 5 and done.stdout.count(b"trapline top ") == 1
    short = top("--batch", "-d", "60", "false")
    assert short.returncode == 1 and short.stdout.count(b"trapline top ") == 1  # at its end


def test_output_goes_to_a_file_and_input_is_the_callers(tmp_path: Path) -> None:
    file = tmp_path / "out"
    done = top("--batch", "--output", str(file), "sh", "-c", "cat; echo err >&2", stdin=b"hello\n")
    assert done.returncode == 0 and done.stderr == b"err\n" and file.read_text() == "hello\n"


def test_a_full_disk_is_said() -> None:
    command = [sys.executable, "-m", "trapline", "top", "--batch", "true"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=support.host_environment(), stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == b"trapline: standard output: not all was written: No space left on device\n"


def test_json_counts_what_the_program_did() -> None:
    program = "import os\nfor i in range(500): os.getppid()\nfor i in range(3):\n try: os.close(99)\n except OSError: pass"
    done = top("--batch", "--json", "python3", "-c", program)
    last = json.loads(done.stdout.splitlines()[-1])["sample"]
    calls = {each["name"]: each for each in last["calls"]}
    assert calls["getppid"]["times"] == 500 and calls["close"]["errors"] >= 3 and calls["getppid"]["ns"] > 0
    assert last["crossings"] >= sum(each["times"] for each in last["calls"]) + last["faults"] and last["faults"] > 10
    assert last["memory_peak"] > 1 << 20 and last["user_ns"] > 0 and last["rows"] == []


def test_threads_and_sorting() -> None:
    program = "import threading, time\nt = [threading.Thread(target=time.sleep, args=(1.2,)) for _ in range(3)]\n[x.start() for x in t]"
    done = top("--batch", "--json", "-d", "0.2", "--threads", "python3", "-c", program)
    rows = max((json.loads(line)["sample"]["rows"] for line in done.stdout.splitlines()), key=len)
    assert len(rows) == 4 and len({each["tid"] for each in rows}) == 4 and {each["pid"] for each in rows} == {2}
    text = top("--batch", "--sort", "pid", "--reverse", "-d", "0.2", "sh", "-c", "sleep 1 & sleep 1; wait").stdout.decode()
    tables = [[int(line.split()[0]) for line in each.splitlines() if line[:7].strip().isdigit()] for each in text.split("trapline top ")]
    assert max(map(len, tables)) == 3 and all(pids == sorted(pids, reverse=True) for pids in tables)


REFUSED = {
    "": "no program", "true": "needs a terminal", "--json true": "for --batch", "-n 3 true": "for --batch", "--batch -n 0 true": "-n 0",
    "--batch --sort odd true": "--sort odd", "--batch -d 0 true": "-d 0", "--batch --output /nosuch/x true": "No such file",
    "--feed 77,78 true": "no such descriptor", "--nosuch true": "unknown option",
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_sense_is_refused_with_advice(words: str) -> None:
    done = top(*words.split())
    err = done.stderr.decode()
    assert done.returncode == 125 and done.stdout == b""
    assert err.startswith("trapline: ") and err.count("\n") == 1 and REFUSED[words] in err, err


def test_a_program_that_is_not_there_has_no_table() -> None:
    done = top("--batch", "nosuchprogram")
    assert done.returncode == 127 and done.stdout == b"" and b"not found in the guest" in done.stderr


def on_a_terminal(program: list[str], send: bytes | int, when: bytes) -> tuple[int, bytes]:
    """The exit status, and all that was drawn, of a screen that gets keys or a signal once it has drawn `when`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(support.host_environment(), TERM="xterm-256color")
        os.execv(sys.executable, [sys.executable, "-m", "trapline", "top", "-d", "0.1", "--", *program])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, 130, 0, 0))
    drawn, sent, answered, deadline = b"", 0, False, time.monotonic() + 40
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while time.monotonic() < deadline and (data := os.read(terminal, 1 << 16)):
            drawn += data
            if not sent and when and when in drawn:
                sent = len(drawn)
                os.kill(pid, send) if isinstance(send, int) else os.write(terminal, send)
            elif sent and not answered and b"end it?" in drawn[sent:]:
                answered = True
                os.write(terminal, b"\r")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), drawn


@pytest.mark.parametrize(("send", "code"), [(b"q", -signal.SIGKILL), (b"\x03", -signal.SIGKILL), (int(signal.SIGTERM), -signal.SIGTERM)])
def test_a_real_terminal_is_left_as_it_was(send: bytes | int, code: int) -> None:
    pytest.importorskip("textual", reason="not installed: textual (pip install 'trapline[top]')")
    status, drawn = on_a_terminal(["sleep", "100"], send, b"clock_nanos")
    assert status == code and b"\x1b[?1049h" in drawn and drawn.rfind(b"\x1b[?1049l") > drawn.rfind(b"\x1b[?1049h")


def test_a_flood_of_output_does_not_drown_the_keys() -> None:
    pytest.importorskip("textual", reason="not installed: textual (pip install 'trapline[top]')")
    assert on_a_terminal(["yes"], b"q", b"lines are not shown")[0] == -signal.SIGKILL


def test_a_program_that_is_not_there_leaves_the_terminal_at_once() -> None:
    pytest.importorskip("textual", reason="not installed: textual (pip install 'trapline[top]')")
    status, drawn = on_a_terminal(["nosuchprogram"], b"", b"")
    assert status == 127 and b"trapline: nosuchprogram: not found in the guest" in drawn[drawn.rfind(b"\x1b[?1049l") :]


def test_help_fits_a_terminal() -> None:
    done = top("--help")
    assert done.stdout.startswith(b"usage: trapline top") and max(map(len, done.stdout.decode().splitlines())) <= 80


def test_a_reader_that_goes_away_ends_nothing() -> None:
    command = [sys.executable, "-m", "trapline", "top", "--batch", "-d", "0.1", "sh", "-c", "sleep 0.5; exit 3"]
    with subprocess.Popen(command, env=support.host_environment(), stdout=subprocess.PIPE, cwd="/usr") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(30) == 3


def test_without_textual_the_pip_command_is_named() -> None:
    program = "import sys, os, pty\nsys.modules['textual'] = None\nfrom trapline.cli.main import main\nsys.exit(main(['top', 'true']))"
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], env=support.host_environment(), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
            timeout=30, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 125 and b"pip install 'trapline[top]'" in done.stderr


def test_the_screen_over_a_real_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples come, a process is opened, a signal is sent and kills it, and its end is the exit status."""
    pytest.importorskip("textual", reason="not installed: textual (pip install 'trapline[top]')")
    from textual.widgets import DataTable, RichLog

    from trapline.cli.options import parse
    from trapline.cli.top import FEED, KERNEL, OPTIONS
    from trapline.cli.top_screen import Watcher
    from trapline.cli.top_widgets import Details

    monkeypatch.setenv("PYTHONPATH", str(support.SRC))
    words = ["-d", "0.3", "--sort", "pid", "--", "sh", "-c", "echo hello; while :; do sleep 0.2; done"]
    app = Watcher(words, parse(words, (*OPTIONS, FEED, *KERNEL)))

    async def until(condition: Callable[[], object]) -> None:
        for _ in range(200):
            await asyncio.sleep(0.1)
            if condition():
                return
        raise AssertionError("it never happened")

    async def run() -> None:
        async with app.run_test(size=(120, 36)) as pilot:
            tasks = app.query_one("#tasks", DataTable)
            await until(lambda: tasks.row_count and str(tasks.get_row_at(0)[9]) == "sh")
            output = app.query_one("#output", RichLog)
            await until(lambda: "hello" in "".join(segment.text for strip in output.lines for segment in strip))
            await pilot.press("enter")  # the shell is the first
            await until(lambda: isinstance(app.screen, Details) and app.screen.query_one("#memory-table", DataTable).row_count > 5)
            ledger = app.screen.query_one("#ledger-table", DataTable)
            assert "mmap" in [str(ledger.get_row_at(n)[0]) for n in range(ledger.row_count)]
            calls = app.screen.query_one("#calls-table", DataTable)
            await until(lambda: any("si_signo=SIGCHLD" in str(calls.get_row_at(n)[1]) for n in range(calls.row_count)))
            await pilot.press("k", "enter")  # SIGTERM
            await until(lambda: app.ended)

    asyncio.run(run())
    assert app.code == -15
