"""A person at a terminal: every test drives a pseudo-terminal as a keyboard and a screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")

TIMEOUT_S = 30.0
ESCAPES = re.compile(rb"\x1b(\[[0-9;?>]*[a-zA-Z]|[()][A-Z0-9]|[=>]|\][^\x07]*\x07)|\r")
TRAPLINE = support.trapline_command([], ["--env", "TERM=xterm", "--env", "PS1=guest> "])[:-1]


class Terminal:
    """A child process that leads a session on its own pseudo-terminal."""

    def __init__(self, argv: list[str], rows: int = 24, cols: int = 80, cwd: str | Path = "/") -> None:
        self.screen = b""
        self._seen = 0
        self.master, slave = os.openpty()
        self.resize(rows, cols)
        self.child = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, start_new_session=True,
            preexec_fn=self._take,  # noqa: PLW1509 - there is one thread
            env=support.host_environment() | {"TERM": "xterm", "PS1": "host> "},
        )  # fmt: skip
        self.slave = slave

    @staticmethod
    def _take() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, pattern: str, timeout_s: float = TIMEOUT_S) -> re.Match[bytes]:
        """Wait until the screen shows `pattern` after what was expected before."""
        deadline = time.monotonic() + timeout_s
        while True:
            text = ESCAPES.sub(b"", self.screen)
            if found := re.compile(pattern.encode(), re.M).search(text, self._seen):
                self._seen = found.end()
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                pytest.fail(f"{pattern!r} did not come after {text[: self._seen][-200:]!r}; there is {text[self._seen :]!r}")

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self.master], [], [], timeout_s)[0]:
            return False
        with contextlib.suppress(OSError):
            self.screen += os.read(self.master, 65536)
            return True
        return False

    def wait(self) -> int:
        """The child's status, as a shell has it; output goes on being read meanwhile."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.child.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; the screen shows {self.screen[-500:]!r}"
            self._read(0.05)
        while self._read(0.05):
            pass
        status = self.child.returncode
        return 128 - status if status < 0 else status

    def modes(self) -> list[object]:
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
        os.close(self.slave)
        os.close(self.master)


Start = Callable[..., Terminal]


@pytest.fixture
def start() -> Iterator[Start]:
    """start(words...): the program under Trapline in a new terminal; start(host=[...]): a program of the host."""
    terminals: list[Terminal] = []

    def begin(*words: str, host: list[str] | None = None, **kwargs: object) -> Terminal:
        terminals.append(Terminal(host if host is not None else [*TRAPLINE, "--", *words], **kwargs))
        return terminals[-1]

    yield begin
    for each in terminals:
        each.close()


def test_interactive_shell(start: Start) -> None:
    t = start("bash", "--norc", "-i")
    t.expect("guest> ")
    t.type("echo $((6 * 7))\n")
    t.expect(r"^42\n")
    t.type("tty; stty size\n")
    t.expect(r"^/dev/pts/0\n24 80\n")
    t.type("exit 5\n")
    assert t.wait() == 5
    assert "no job control" not in t.screen.decode()


def test_interrupt_kills_a_program(start: Start) -> None:
    t = start("sh", "-c", "echo ready; exec sleep 100")
    t.expect("ready")
    t.type("\x03")
    assert t.wait() == 130
    assert b"Traceback" not in t.screen


def test_interrupt_in_a_shell_ends_the_command_only(start: Start) -> None:
    t = start("bash", "--norc", "-i")
    t.expect("guest> ")
    t.type("sleep 100\n")
    time.sleep(0.3)
    t.type("\x03")
    t.expect("guest> ")
    t.type("echo status $?\n")
    t.expect("^status 130")
    t.expect("guest> ")
    t.type("\x04")
    assert t.wait() == 0


def test_quit_key(start: Start) -> None:
    t = start("sh", "-c", "echo ready; exec sleep 100")
    t.expect("ready")
    t.type("\x1c")
    assert t.wait() == 131


def test_program_that_catches_the_interrupt(start: Start) -> None:
    t = start("/usr/bin/python3", "-c", "import time\ntry:\n print('ready', flush=True); time.sleep(50)\nexcept KeyboardInterrupt: print('caught')")
    t.expect("ready")
    t.type("\x03")
    t.expect("caught")
    assert t.wait() == 0


def test_end_of_file_key(start: Start) -> None:
    t = start("cat")
    t.type("line\n")
    t.expect(r"line\nline\n")
    t.type("\x04")
    assert t.wait() == 0


def test_job_control_in_the_guest(start: Start) -> None:
    t = start("bash", "--norc", "-i")
    t.expect("guest> ")
    t.type("sleep 100\n")
    time.sleep(0.3)
    t.type("\x1a")
    t.expect(r"Stopped +sleep 100")
    t.type("jobs; bg; jobs\n")
    t.expect(r"\[1\]\+ +Running +sleep 100")
    t.type("cat &\n")
    t.expect(r"guest> ")
    t.type("sleep 0.1\n")
    t.expect(r"Stopped +cat")
    t.type("fg\n")
    t.expect(r"^cat\n")
    time.sleep(0.3)
    t.type("typed\n")
    t.expect(r"typed\ntyped\n")
    t.type("\x04")
    t.type("kill %1; wait %1; echo status $?\n")
    t.expect("^status 143")
    t.type("exit\n")
    t.wait()


def test_window_size_changes(start: Start) -> None:
    t = start("bash", "--norc", "-c", "trap 'stty size' WINCH; echo ready; while :; do read -t 0.05 x && break; done", rows=30, cols=100)
    t.expect("ready")
    t.resize(41, 132)
    t.expect(r"^41 132\n")
    t.type("\n")
    assert t.wait() == 0


def test_modes_are_restored_however_the_program_ends(start: Start) -> None:
    for how in ("exit 0", "kill -9 $$", "sleep 100"):
        t = start("sh", "-c", f"stty raw -echo; echo ready; {how}")
        before = t.modes()
        t.expect("ready")
        if how.startswith("sleep"):
            os.kill(t.child.pid, signal.SIGTERM)
        t.wait()
        assert t.modes() == before, how


def test_password_is_not_echoed(start: Start) -> None:
    t = start("bash", "-c", "read -s -p 'password: ' p; echo; echo got ${#p}")
    t.expect("password: ")
    t.type("secret\n")
    t.expect("got 6")
    assert t.wait() == 0
    assert b"secret" not in t.screen


def test_suspend_key_stops_the_whole_thing_and_fg_continues_it(start: Start) -> None:
    t = start(host=["bash", "--norc", "-i"])
    t.expect("host> ")
    t.type(" ".join(TRAPLINE).replace("PS1=guest> ", "PS1=g") + " -- sh -c 'echo ready; read x; echo got $x; sleep 0.1; exit 7'\n")
    t.expect("^ready")
    t.type("\x1a")
    t.expect("Stopped")
    t.type("echo the shell is back\n")
    t.expect("^the shell is back")
    t.type("fg\n")
    t.expect("trapline")
    t.type("hello\n")
    t.expect("^got hello")
    t.expect("host> ")
    t.type("echo status $?; exit\n")
    t.expect("^status 7")
    t.wait()


def test_background_job_may_write_and_stops_when_it_reads(start: Start) -> None:
    command = " ".join(TRAPLINE).replace("PS1=guest> ", "PS1=g")
    t = start(host=["bash", "--norc", "-i"])
    t.expect("host> ")
    t.type(f"{command} -- echo from the background &\n")
    t.expect("from the background\n")
    t.type("wait; echo ended $?\n")  # bash does not always say "Done" of a job that has ended before
    t.expect("^ended 0")
    t.type(f"{command} -- sh -c 'read x; echo got $x' &\n")
    t.expect("host> ")
    for _ in range(40):
        t.type("jobs\n")
        t.expect("host> ")
        if re.search(rb"Stopped", t.screen):
            break
        time.sleep(0.2)
    t.type("fg\n")
    time.sleep(0.3)
    t.type("late\n")
    t.expect("^got late")
    t.type("exit\n")
    t.wait()


@pytest.mark.parametrize("ends", ["| cat", "</dev/null | cat", "</dev/null >/dev/null"])
def test_interrupt_in_a_pipeline_of_the_host(ends: str, start: Start) -> None:
    """Whatever of the three descriptors is the terminal, the key reaches us through the foreground group."""
    command = " ".join(TRAPLINE).replace("PS1=guest> ", "PS1=g")
    t = start(host=["bash", "--norc", "-i"])
    t.expect("host> ")
    t.type(f"{command} -- sh -c 'echo up >&2; exec sleep 100' {ends}; echo status ${{PIPESTATUS[0]}}\n")
    t.expect("^up")
    t.type("\x03")
    t.expect("host> ")
    t.type("echo status ${PIPESTATUS[0]}; exit\n")
    t.expect("^status")
    t.wait()
    assert b"Traceback" not in t.screen


def test_suspended_and_killed(start: Start) -> None:
    command = " ".join(TRAPLINE).replace("PS1=guest> ", "PS1=g")
    t = start(host=["bash", "--norc", "-i"])
    t.expect("host> ")
    t.type(f"{command} -- sh -c 'stty -echo; echo up; sleep 100'\n")
    t.expect("^up")
    time.sleep(0.5)  # whoever stops between vfork and exec keeps its parent from stopping, natively too
    t.type("\x1a")
    t.expect("Stopped")
    t.type("stty -a | grep -o -e '-*echo ' | tr -d ' '; kill %1; fg; echo status $?\n")
    t.expect("^echo\n")
    t.expect("^status 143")
    t.type("exit\n")
    t.wait()


def test_hang_up_ends_it(start: Start) -> None:
    t = start("sh", "-c", "echo ready; sleep 100")
    t.expect("ready")
    os.kill(t.child.pid, signal.SIGHUP)
    assert t.wait() == 129


@pytest.mark.skipif(bool(support.have("less")), reason="not installed: less")
def test_less(start: Start) -> None:
    t = start("sh", "-c", "seq 1 500 | less")
    t.expect(r"^23\n:")
    t.type(" ")
    t.expect(r"46\n:")
    t.type("/444\n")
    t.expect("^444")
    t.type("q")
    assert t.wait() == 0


@pytest.mark.skipif(bool(support.have("vim")), reason="not installed: vim")
def test_vim(start: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    t = start(host=[*TRAPLINE, "--bind", f"{tmp_path}:/edit:rw", "--", "vim", "-u", "NONE", "-N", "/edit/file"])
    t.expect("/edit/file")
    t.type("ihello from vim\x1b")
    t.type(":wq\n")
    assert t.wait() == 0
    assert (tmp_path / "file").read_text() == "hello from vim\n"


@pytest.mark.skipif(bool(support.have("tmux")), reason="not installed: tmux")
def test_tmux(start: Start) -> None:
    t = start("tmux", "-f", "/dev/null", "new-session", "sh -c 'echo inside; read x; echo $x back; sleep 0.5'")
    t.expect("inside")
    t.type("and\n")
    t.expect("and back")
    t.expect("exited")
    assert t.wait() == 0


def test_top_runs_until_q(start: Start) -> None:
    if reason := support.have("top"):
        pytest.skip(reason)
    t = start("top", "-d", "0.2")
    t.expect("PID USER")
    t.type("q")
    assert t.wait() == 0


def test_python_prompt(start: Start) -> None:
    t = start("/usr/bin/python3", "-q")
    t.expect(">>> ")
    t.type("6 * 7\n")
    t.expect("^42")
    t.type("import time; time.sleep(50)\n")
    time.sleep(0.4)
    t.type("\x03")
    t.expect("KeyboardInterrupt")
    t.type("exit(3)\n")
    assert t.wait() == 3


def test_two_descriptors_on_files_and_one_on_the_terminal(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = " ".join(TRAPLINE).replace("PS1=guest> ", "PS1=g")
    t = start(host=["sh", "-c", f"{command} -- sh -c 'tty; test -t 1; echo $?; echo to stderr >&2' >{out}"])
    t.expect("to stderr")
    assert t.wait() == 0
    assert out.read_text() == "/dev/pts/0\n1\n"


def test_trace_goes_to_the_terminal_with_the_output(start: Start) -> None:
    t = start(host=[*TRAPLINE, "--trace", "--", "echo", "hi"])
    t.expect(r'write\(1, "hi\\n", 3')
    assert t.wait() == 0
