"""Output into pipes and sockets that take less than is written, and readers that take their time."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")
SIZE = 1_000_000
WRITER = ["/usr/bin/python3", "-S", "-c", f"import os\ndata = b'y' * {SIZE}\nprint(os.write(1, data))"]


def start(stdout: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trapline", "run", "--", *WRITER]
    return subprocess.Popen(command, env=support.host_environment(), cwd="/usr", stdin=subprocess.DEVNULL, stdout=stdout)


def drain(fd: int, pause_s: float) -> tuple[int, bytes]:
    """Everything that comes, in pieces of an odd size: how much, and the end of it."""
    total, tail = 0, b""
    while chunk := os.read(fd, 50_001):
        total, tail = total + len(chunk), (tail + chunk)[-8:]
        time.sleep(pause_s)
    return total, tail


@pytest.mark.parametrize("full", [0, 1, 32768, 65535, 65536])
def test_a_pipe_that_is_partly_full_at_first(full: int) -> None:
    """The first write is taken in part, before anybody ever waited for the pipe."""
    reader, writer = os.pipe()
    assert fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) == 65536
    os.write(writer, b"x" * full)
    process = start(writer)
    os.close(writer)
    timer = threading.Timer(30, process.kill)
    timer.start()
    time.sleep(0.3)
    total, tail = drain(reader, 0)
    os.close(reader)
    timer.cancel()
    assert process.wait(20) == 0 and (total, tail) == (full + SIZE + 8, b"1000000\n")


@pytest.mark.parametrize("pause_s", [0, 0.002])
def test_a_socket(pause_s: float) -> None:
    """It is shared, and must not be made non-blocking: each write is a small one."""
    ours, theirs = socket.socketpair()
    process = start(theirs.fileno())
    theirs.close()
    timer = threading.Timer(30, process.kill)
    timer.start()
    total, tail = drain(ours.fileno(), pause_s)
    ours.close()
    timer.cancel()
    assert process.wait(20) == 0 and (total, tail) == (SIZE + 8, b"1000000\n")
