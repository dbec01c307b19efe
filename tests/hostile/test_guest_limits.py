"""Programs that take all they can: forks, threads, memory, files, descriptors, names, signals, time."""

from __future__ import annotations

import os

import pytest
from attack import Guest, compiled, unharmed

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
def test_fork_fails_with_eagain_where_the_host_has_no_room(limit: str, no_process_left: None) -> None:
    """Only the first refusal comes as a surprise: it costs the children that were on their way. Then fork fails until there is room."""
    program = compiled("crowded")
    uid = 61234 + len(limit) if os.getuid() == 0 else os.getuid()  # RLIMIT_NPROC counts all of a user's processes
    options = ["--log", "--bind", f"{program.parent}:/guest:ro"]
    words = ["prlimit", limit, *support.trapline_command([f"/guest/{program.name}"], options, uid=uid)]
    got = support._execute(words, support.host_environment(), "/", b"", 60, " ".join(words))
    assert unharmed(got.stderr) and got.status == 42, got.tail()
    assert b"fork fails with EAGAIN: the host refuses another process" in got.stderr, got.tail()


@pytest.mark.parametrize("call", ["mincore", "copy"])
def test_one_long_call_does_not_outlast_the_time_limit(call: str, guest: Guest) -> None:
    got = guest("slow", call, options=("--timeout", "6", "--memory", "512M"), alive=False, timeout_s=40)
    assert got.status == 124, got.tail()


@pytest.mark.parametrize("what", ["core", "copy-up"])
def test_terabytes_of_holes_take_no_time(what: str, guest: Guest) -> None:
    got = guest("sparse", what, options=("--timeout", "30", "--memory", "512M", "--user", "0"), timeout_s=60)
    assert got.status == 42, got.tail()
