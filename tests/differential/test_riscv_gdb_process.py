"""`trapline run --machine riscv --gdb`: GDB debugs a program under our kernel, with threads, a child, and signals."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import support
from trapline.scope.gdb.packets import Framer, pack

CC = "riscv64-linux-gnu-gcc"
GDB = "gdb-multiarch"
pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))

PROGRAM = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
int total; double half = 0.5; char text[] = "some text";
int add(int n) { total += n; return total; }
static void *work(void *p) { for (int i = 0; i < 3; i++) add(i); return p; }
int main(int count, char **words) {
	pthread_t thread;
	if (count > 1 && !strcmp(words[1], "spin"))
		for (;;)
			total++;
	if (count > 1 && !strcmp(words[1], "sleep"))
		pause();
	if (count > 1 && !strcmp(words[1], "again"))
		execl(words[0], words[0], "7", (char *)0);
	if (fork() == 0) {
		add(100);
		_exit(0);
	}
	wait(0);
	add(1);
	add(2);
	pthread_create(&thread, 0, work, 0);
	pthread_join(thread, 0);
	printf("total %d, half %g, %s\\n", total, half, text);
	fflush(stdout);
	if (count > 1 && !strcmp(words[1], "crash"))
		*(volatile int *)8 = 1;
	return count > 1 ? atoi(words[1]) : 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("program")
    (where / "program.c").write_text(PROGRAM)
    command = [CC, "-g", "-O1", "-fno-inline", "-static", "-pthread", "-o", str(where / "program"), str(where / "program.c")]
    subprocess.run(command, check=True)
    return where / "program"


@contextmanager
def machine(program: Path, tmp_path: Path, *words: str, options: tuple[str, ...] = (), cpus: int = 2) -> Iterator[subprocess.Popen[str]]:
    """The kernel with its program, which listens on tmp_path / "gdb"."""
    command = [sys.executable, "-m", "trapline", "run", "--machine", "riscv", "--memory", "256M", "--cpus", str(cpus), "--timeout", "100"]
    command += [f"--gdb={tmp_path / 'gdb'}", *options, "./program", *words]
    environment = {**os.environ, "PYTHONPATH": str(support.SRC)}
    process = subprocess.Popen(
        command, cwd=program.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    try:
        end = time.monotonic() + 30
        while not (tmp_path / "gdb").exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


def gdb(program: Path, tmp_path: Path, *commands: str) -> str:
    script = ["set pagination off", "set confirm off", f"target remote {tmp_path / 'gdb'}", *commands]
    words = [GDB, "-nx", "-batch", *(word for line in script for word in ("-ex", line)), str(program)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    return done.stdout + done.stderr


needs_gdb = pytest.mark.skipif(shutil.which(GDB) is None, reason=f"not installed: {GDB}")


@needs_gdb
@pytest.mark.parametrize("tier", ["reference", "native"])
def test_breakpoints_watchpoints_steps_and_threads(program: Path, tmp_path: Path, tier: str) -> None:
    if tier == "native":
        pytest.importorskip("llvmlite")
    with machine(program, tmp_path, "5", options=("--tier", tier)) as process:
        said = gdb(
            program, tmp_path, "break add", "continue", 'printf "A %d %d\\n", n, total', "bt", "continue", 'printf "B %d\\n", n',
            "watch total", "continue", 'printf "C %d\\n", total', "delete 2", "continue", 'printf "D %d\\n", n', "info threads",
            'printf "E %g %s\\n", half, text', "set var total = 1000", "stepi", "stepi", "stepi", "set var half = 2.5", "finish",
            "delete", 'set var text = "more text"', "x/2i $pc", "continue",
        )  # fmt: skip
        out, errors = process.communicate(timeout=30)
    marks = dict(re.findall(r"^([A-E]) (.*)$", said, re.MULTILINE))
    assert marks == {"A": "1 0", "B": "2", "C": "3", "D": "0", "E": "0.5 some text"}, said + errors  # not the child's 100
    assert "in main (" in said and len(re.findall(r"^[* ] +\d +Thread [\d.]+ \(program\)", said, re.MULTILINE)) == 2, said
    assert "exited with code 05" in said and process.returncode == 5, said
    assert out == "total 1003, half 2.5, more text\n"


@needs_gdb
def test_a_crash_halts_before_it_is_delivered(program: Path, tmp_path: Path) -> None:
    with machine(program, tmp_path, "crash") as process:
        said = gdb(program, tmp_path, "continue", 'printf "A %lx\\n", $pc', "info symbol $pc", "continue")
        process.communicate(timeout=30)
    assert "received signal SIGSEGV" in said and "main" in said and "terminated with signal SIGSEGV" in said, said
    assert process.returncode == -11


@needs_gdb
def test_breakpoints_hold_through_execve(program: Path, tmp_path: Path) -> None:
    with machine(program, tmp_path, "again") as process:
        said = gdb(program, tmp_path, "break add", "continue", 'printf "A %d\\n", n', "delete", "continue")
        process.communicate(timeout=30)
    assert "A 1" in said and "exited with code 07" in said and process.returncode == 7, said


class Client:
    """Raw packets."""

    def __init__(self, path: Path) -> None:
        self.end = socket.socket(socket.AF_UNIX)
        self.end.settimeout(20)
        self.end.connect(str(path))
        self._framer = Framer()
        self._found: list[bytes] = []
        self.last = b""

    def ask(self, packet: bytes) -> bytes:
        self.last = packet
        self.end.sendall(pack(packet))
        return self.reply()

    def reply(self) -> bytes:
        while not self._found:
            data = self.end.recv(65536)
            assert data, f"it has hung up; {self.last!r}"
            self._found += self._framer.feed(data)
            with suppress(BrokenPipeError):  # it has answered, and hung up
                self.end.sendall(self._framer.acknowledge)
            self._framer.acknowledge = b""
        return self._found.pop(0)


@pytest.mark.parametrize("doing", ["spin", "sleep"])
def test_interrupting_detaching_coming_back_and_killing(program: Path, tmp_path: Path, doing: str) -> None:
    with machine(program, tmp_path, doing, options=("--gdb-nowait",), cpus=1) as process:
        time.sleep(1)
        for last in (False, True):
            client = Client(tmp_path / "gdb")
            assert client.ask(b"?").startswith(b"T05thread:")
            client.end.sendall(pack(b"vCont;c"))
            time.sleep(0.3)
            client.end.sendall(b"\3")
            assert client.reply().startswith(b"T02thread:")
            assert len(client.ask(b"g")) == 16 * 33
            if last:
                client.end.sendall(pack(b"k"))
            else:
                assert client.ask(b"D") == b"OK"
            client.end.close()
        process.communicate(timeout=30)
    assert process.returncode == -9


def test_packets_that_nobody_sane_sends(program: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    kinds = [b"QCatchSyscalls:", b"QThreadEvents:", b"Tp", b"Hgp", b"qXfer:exec-file:read:", b"qSupported:"]
    kinds += [b"g", b"p", b"P", b"m", b"M", b"X", b"Z0,", b"Z2,", b"z1,", b"H", b"T", b"q", b"Q", b"vCont", b"G", b"qXfer:features:read:", b"?"]
    with machine(program, tmp_path, "3", cpus=1) as process:
        client = Client(tmp_path / "gdb")
        for _ in range(400):
            rest = bytes(rng.choice(b"0123456789abcdef,;:=-ffff") for _ in range(rng.randrange(20)))
            packet = rng.choice(kinds) + rest
            if re.match(rb"vCont;[cCsS]", packet):
                continue
            client.ask(packet)
        assert client.ask(b"mffffffffffffffff,10").startswith(b"E") and client.ask(b"m0,ffffffff").startswith(b"E")
        client.end.close()  # and nobody debugs any more
        process.communicate(timeout=60)
    assert process.returncode in (3, -4, -5, -11, -7)  # its registers may be nonsense now


def test_only_on_the_machine_that_can(tmp_path: Path) -> None:
    got = subprocess.run([sys.executable, "-m", "trapline", "run", "--gdb", "true"], capture_output=True, text=True, check=False)
    assert got.returncode == 125 and "--machine riscv" in got.stderr
