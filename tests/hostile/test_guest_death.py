"""Deaths from outside: stubs killed, trapline killed or told to stop. No process stays behind, and the status says what happened."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack import unharmed

import support

pytestmark = pytest.mark.usefixtures("no_process_left")
SCRIPT = "trap 'echo TERM; exit 9' TERM; trap 'echo INT; exit 8' INT; sleep 100 & sleep 100 & echo ready; wait; wait; echo end"


def children(pid: int) -> list[int]:
    """All processes below `pid`, the oldest first (numbers start anew at the host's limit)."""
    return [each for _, each in sorted(_children(pid))]


def _children(pid: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[1]) == pid and stat[0] != "Z":
                found += [(int(stat[19]), int(name)), *_children(int(name))]
    return found


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    """A sandbox with a shell and two sleepers, ready."""
    process = subprocess.Popen(
        support.trapline_command(["sh", "-c", SCRIPT], uid=support.users()[-1]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=support.host_environment(),
        start_new_session=True,
    )
    assert process.stdout
    line = process.stdout.readline()
    assert line == b"ready\n", process.stderr and process.stderr.read()
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=10)


def gone(pids: list[int], within_s: float = 3) -> list[int]:
    """Those of `pids` that still live after a while."""
    end = time.monotonic() + within_s
    alive = pids
    while alive and time.monotonic() < end:
        time.sleep(0.05)
        alive = [pid for pid in alive if os.path.exists(f"/proc/{pid}") and " Z " not in Path(f"/proc/{pid}/stat").read_text()]
    return alive


def test_trapline_killed(running: subprocess.Popen[bytes]) -> None:
    """SIGKILL cannot be handled: the kernel of the host must end everything."""
    pids = children(running.pid)
    running.kill()
    running.wait()
    assert not gone(pids)


@pytest.mark.skipif(os.getuid() != 0, reason="needs a user of its own, so root")
def test_nothing_is_left_when_trapline_is_killed() -> None:
    """No file, no shared memory, no mount: there is nothing to clean up after a kernel that cannot do it itself."""
    uid = 61777
    process = subprocess.Popen(
        support.trapline_command(["sh", "-c", "echo x >/tmp/f; mkdir /tmp/d; sleep 100 & echo ready; wait"], uid=uid),
        stdout=subprocess.PIPE, env=support.host_environment(), start_new_session=True,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == b"ready\n"
    pids = children(process.pid)
    process.kill()
    process.communicate()
    assert not gone(pids)
    left = [each.path for top in ("/tmp", "/var/tmp", "/dev/shm", "/run") for each in os.scandir(top) if each.stat(follow_symlinks=False).st_uid == uid]
    assert not left and "trapline" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(("signo", "word", "status"), [(signal.SIGTERM, b"TERM", 9), (signal.SIGINT, b"INT", 8)])
def test_trapline_told_to_stop(signo: int, word: bytes, status: int, running: subprocess.Popen[bytes]) -> None:
    """The signal reaches the program, which may clean up; or the whole sandbox ends as if by that signal."""
    pids = children(running.pid)
    running.send_signal(signo)
    out, err = running.communicate(timeout=10)
    assert (running.returncode == status and word in out) or running.returncode in (128 + signo, -signo), (running.returncode, out, err)
    assert unharmed(err)
    assert not gone(pids)


def test_trapline_hung_up(running: subprocess.Popen[bytes]) -> None:
    pids = children(running.pid)
    running.send_signal(signal.SIGHUP)
    running.communicate(timeout=10)
    assert not gone(pids)


def test_one_stub_killed(running: subprocess.Popen[bytes]) -> None:
    """The program in it dies as if by SIGKILL; the others and the kernel go on, or the sandbox says why it ends."""
    time.sleep(0.3)  # the sleepers' first processes, until execve, are gone
    pids = children(running.pid)
    assert pids, "this machine runs user code in child processes"
    os.kill(pids[-1], signal.SIGKILL)
    time.sleep(0.3)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=15)
    assert unharmed(err)
    assert not gone(pids)


def test_all_stubs_killed(running: subprocess.Popen[bytes]) -> None:
    pids = children(running.pid)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, err = running.communicate(timeout=15)
    assert running.returncode in (137, -9, 125), (running.returncode, err)
    assert unharmed(err)


BUSY = "i=0; while :; do echo $i | cat >/dev/null; [ $((i % 7)) = 0 ] && (ls / & ls /usr; wait) >/dev/null; i=$((i + 1)); done"


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("seed", range(3))
def test_stubs_killed_or_stopped_at_random(signo: int, seed: int) -> None:
    """While programs start and end: the kernel goes on with whoever is left, and ends what does not answer."""
    rng = random.Random(seed)
    process = subprocess.Popen(
        support.trapline_command(["sh", "-c", BUSY], ["--log"], uid=support.users()[-1]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=support.host_environment(), start_new_session=True,
    )  # fmt: skip
    pids: set[int] = set()
    hits, end = 0, time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end and hits < 25:
        time.sleep(rng.random() * 0.05)
        victims = children(process.pid)[2:]  # the zygote and the shell, the first two, live
        pids.update(victims)
        if victims:
            hits += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signo)
    for pid in children(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert hits >= 10 and unharmed(err) and process.returncode in (143, -15), (hits, process.returncode, out, err[-2000:])
    assert not gone(list(pids))


def test_a_stub_stopped_and_continued(running: subprocess.Popen[bytes]) -> None:
    for signo in (signal.SIGSTOP, signal.SIGCONT):
        for pid in children(running.pid):
            with contextlib.suppress(ProcessLookupError):  # one that was kept ready has gone
                os.kill(pid, signo)
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=10)


def test_output_closed_early() -> None:
    """`trapline run yes | head -1`: SIGPIPE inside, a quiet end outside."""
    got = support._execute(
        ["sh", "-c", '"$@" | head -1', "sh", *support.trapline_command(["yes"], uid=support.users()[-1])],
        support.host_environment(), "/", b"", 20, "yes | head",
    )  # fmt: skip
    assert got.stdout == b"y\n" and unharmed(got.stderr), got.tail()


def test_background_processes_end_with_the_first() -> None:
    """The sandbox lives as long as its first process; what that leaves behind is ended."""
    got = support.trapline(["sh", "-c", "sleep 1000 & (setsid sleep 1000 &) ; exit 3"], uid=support.users()[-1])
    assert got.status == 3, got.tail()
