"""Programs that take all they can: forks, threads, memory, files, descriptors, names, signals, time."""

from __future__ import annotations

import os

import pytest
from attack import Guest, unharmed

import support

POLITE = {
    "forks": ("--pids", "50"),
    "threads": ("--pids", "60"),
    "descriptors": (),
    "deep": (),
    "links": (),
    "signals": (),
}


@pytest.mark.parametrize(("bomb", "options"), POLITE.items(), ids=POLITE.keys())
def test_refused_politely(bomb: str, options: tuple[str, ...], guest: Guest) -> None:
    got = guest("bombs", bomb, options=options, alive=bomb not in ("forks", "threads"), timeout_s=120)
    assert got.status == 42, got.tail()


CROWDS = {
    "files": ("--user", "0"),
    "crowd": ("--pids", "6000"),
    "full": ("--user", "0"),
    "storm": (),
    "recursion": (),
}


@pytest.mark.parametrize(("bomb", "options"), CROWDS.items(), ids=CROWDS.keys())
def test_served_to_the_end(bomb: str, options: tuple[str, ...], guest: Guest) -> None:
    """Ten thousand files, five thousand threads, a full file system, signals without end: all of it works."""
    got = guest("bombs", bomb, options=options, timeout_s=180)
    assert got.status == 42, got.tail()


def test_fork_tree_is_ended_by_the_time_limit(guest: Guest) -> None:
    got = guest("bombs", "fork-tree", options=("--pids", "40", "--timeout", "3"), alive=False, timeout_s=30)
    assert got.status == 124, got.tail()


def test_memory_bomb(guest: Guest) -> None:
    """The out-of-memory killer ends the bomb, and says so; the shell that started it lives."""
    got = guest("bombs", "memory", options=("--memory", "200M", "--log"), timeout_s=120)
    assert got.status == 137, got.tail()
    assert b"Out of memory: Killed process 3 (guest-bombs-" in got.stderr and b"--memory" in got.stderr, got.tail()


def test_file_memory_bomb(guest: Guest) -> None:
    """A file in memory cannot grow beyond the memory there is."""
    got = guest("bombs", "file-memory", options=("--memory", "200M"), timeout_s=120)
    assert got.status in (42, 137), got.tail()


def test_all_signals_blocked_and_spinning(guest: Guest) -> None:
    got = guest("bombs", "spin", options=("--timeout", "1"), alive=False)
    assert got.status == 124, got.tail()


def test_shell_bombs(no_process_left: None) -> None:
    """The classic one, as an unprivileged user, under both limits."""
    got = support.trapline(
        ["bash", "-c", "f() { f | f & }; f; sleep 100"],
        ["--pids", "40", "--timeout", "3"],
        uid=support.users()[-1],
        timeout_s=40,
    )
    assert got.status in (124, 254, 1), got.tail()


@pytest.mark.parametrize("limit", ["--nofile=128:128", "--nproc=60:60"])
def test_a_host_that_refuses_more_processes(limit: str, no_process_left: None) -> None:
    """What cannot be started is killed, and the log says why; the rest goes on, and when there is room again, so do new ones."""
    forks = "i=0; while [ $i -lt 150 ]; do sleep 9 & p=\"$p $!\"; i=$((i + 1)); done; kill $p; wait; echo alive; /bin/echo again; exit 3"
    uid = 61234 + len(limit) if os.getuid() == 0 else os.getuid()  # RLIMIT_NPROC counts all of a user's processes
    words = ["prlimit", limit, *support.trapline_command(["bash", "-c", forks], ["--log"], uid=uid)]
    got = support._execute(words, support.host_environment(), "/", b"", 60, " ".join(words))
    assert unharmed(got.stderr) and got.status == 3 and got.text == "alive\nagain\n", got.tail()
    assert b"the host refuses another process" in got.stderr, got.tail()
