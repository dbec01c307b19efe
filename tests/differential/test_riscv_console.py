"""`trapline boot` in a terminal: keys for the guest and for us, and the terminal as it was found, however the machine ends."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_riscv_boot import CC, assemble

import support

pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))

#: It prints "ready", then what it receives, in brackets; q ends it with status 5.
ECHO = """
	.globl _start
_start:	li s0, 0x10000000
	la s1, text
1:	lbu a0, 0(s1)
	beqz a0, 2f
	sb a0, 0(s0)
	addi s1, s1, 1
	j 1b
2:	lbu a1, 5(s0)
	andi a1, a1, 1
	beqz a1, 2b
	lbu a0, 0(s0)
	li a1, 'q'
	beq a0, a1, 3f
	li a1, '['
	sb a1, 0(s0)
	addi a0, a0, 32              # so that a control character can be seen
	sb a0, 0(s0)
	li a1, ']'
	sb a1, 0(s0)
	j 2b
3:	li a0, 0x53333
	li a1, 0x100000
	sw a0, 0(a1)
4:	j 4b
text:	.asciz "ready\\n"
"""


class Terminal:
    """A machine whose standard streams are a terminal."""

    def __init__(self, image: Path, *options: str) -> None:
        self.ours, self._theirs = pty.openpty()
        self.before = termios.tcgetattr(self._theirs)
        environment = {**os.environ, "PYTHONPATH": str(support.SRC)}
        command = [sys.executable, "-m", "trapline", "boot", *options, str(image)]
        self.process = subprocess.Popen(command, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, env=environment)
        self.seen = b""

    def expect(self, text: bytes, timeout_s: float = 30) -> None:
        """Read until `text` has come."""
        until = time.monotonic() + timeout_s
        while text not in self.seen:
            ready, _, _ = select.select([self.ours], [], [], max(0, until - time.monotonic()))
            assert ready, self.seen
            self.seen += os.read(self.ours, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def end(self) -> int:
        """The exit status, once the terminal is as it was."""
        status = self.process.wait(30)
        assert termios.tcgetattr(self._theirs) == self.before
        return status

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self._theirs)[3] & (termios.ICANON | termios.ISIG)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(assemble(tmp_path, ECHO))
    made.expect(b"ready")
    yield made
    made.close()


def test_keys_reach_the_guest_and_its_end_restores_the_terminal(terminal: Terminal) -> None:
    assert terminal.raw
    terminal.type(b"x\x03")
    terminal.expect(b"[\x98][#]")  # x, and Ctrl-C, each with 32 added
    terminal.type(b"q")
    assert terminal.end() == 5


def test_escape_keys(terminal: Terminal) -> None:
    terminal.type(b"\x01h")
    terminal.expect(b"ends the machine")
    terminal.type(b"\x01s")
    terminal.expect(b"instructions in")
    terminal.type(b"\x01\x01")
    terminal.expect(b"[!]")
    terminal.type(b"\x01rA")  # a reset
    terminal.expect(b"ready\r\n", 30)
    terminal.type(b"\x01x")
    assert terminal.end() == 0 and terminal.seen.count(b"ready") >= 1


def test_reset_key_starts_the_program_again(terminal: Terminal) -> None:
    terminal.seen = b""
    terminal.type(b"\x01r")
    terminal.expect(b"ready")
    terminal.type(b"q")
    assert terminal.end() == 5


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGHUP])
def test_signals_restore_the_terminal(terminal: Terminal, signo: int) -> None:
    terminal.process.send_signal(signo)
    assert terminal.end() == 128 + signo


def test_stop_gives_the_terminal_back_until_it_goes_on(terminal: Terminal) -> None:
    terminal.process.send_signal(signal.SIGTSTP)
    _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status) and termios.tcgetattr(terminal.ours) == terminal.before
    terminal.process.send_signal(signal.SIGCONT)
    terminal.type(b"A")
    terminal.expect(b"[a]")
    assert terminal.raw
    terminal.type(b"\x01x")
    assert terminal.end() == 0


def test_error_restores_the_terminal(tmp_path: Path) -> None:
    made = Terminal(assemble(tmp_path, ECHO), "--timeout", "2")
    try:
        made.expect(b"ready")
        assert made.end() == 124
    finally:
        made.close()


def test_waiting_takes_its_time_in_a_terminal(tmp_path: Path) -> None:
    """Two seconds of wfi are two seconds there, and nothing elsewhere; a key ends the wait early."""
    program = """
	.globl _start
_start:	li t0, 0x200bff8
	ld t1, 0(t0)
	li t2, 20000000
	add t1, t1, t2
	li t0, 0x2004000
	sd t1, 0(t0)
	li t0, 0x80
	csrw mie, t0
	wfi
	li t0, 0x100000
	li t1, 0x5555
	sw t1, 0(t0)
1:	j 1b
"""
    image = assemble(tmp_path, program)
    took = {}
    for clock in ("host", "virtual"):
        start = time.monotonic()
        made = Terminal(image, "--clock", clock)
        try:
            assert made.end() == 0
        finally:
            made.close()
        took[clock] = time.monotonic() - start
    assert took["host"] - took["virtual"] > 1.5, took


def test_nobody_who_reads_does_not_hold_up_the_timeout(tmp_path: Path) -> None:
    """A pipe that is full blocked the machine for ever."""
    program = ".globl _start\n_start: li s0, 0x10000000\n li a0, 'x'\n1: sb a0, 0(s0)\n j 1b\n"
    words = [sys.executable, "-m", "trapline", "boot", "--timeout", "3", str(assemble(tmp_path, program))]
    environment = {**os.environ, "PYTHONPATH": str(support.SRC)}
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as process:
        assert process.wait(40) == 124
        assert process.stdout is not None and len(process.stdout.read()) >= 4096
