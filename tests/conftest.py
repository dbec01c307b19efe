"""Fixtures of all tests: order of layers, and the watch that no test leaves a process behind.

A process that a test's commands leave behind becomes a child of the test process (it declares itself a subreaper), whatever it
did to its session or its parent; so whoever is left over after a test is found without guessing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = ("unit", "conformance", "differential", "programs", "hostile")
PR_SET_CHILD_SUBREAPER = 36


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast layers first."""
    tests = Path(__file__).parent

    def layer(item: pytest.Item) -> int:
        try:
            name = item.path.relative_to(tests).parts[0]
        except ValueError:
            return len(LAYERS)
        return LAYERS.index(name) if name in LAYERS else len(LAYERS)

    items.sort(key=layer)


def pytest_configure() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> dict[int, str]:
    """All processes below `root`: number and command line. Zombies that nobody reaps are left out, and reaped if ours."""
    parents: dict[int, int] = {}
    states: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            text = Path("/proc", name, "stat").read_text(errors="replace")
        except OSError:
            continue
        head, _, rest = text.rpartition(")")
        fields = rest.split()
        parents[int(name)], states[int(name)] = int(fields[1]), fields[0] + " " + head.partition("(")[2]
    found: dict[int, str] = {}
    wave = [root]
    while wave:
        wave = [pid for pid, parent in parents.items() if parent in wave]
        found.update({pid: states[pid] for pid in wave})
    return {pid: state for pid, state in found.items() if not _reaped(pid, state, parents[pid] == root)}


def _reaped(pid: int, state: str, ours: bool) -> bool:
    if not state.startswith("Z"):
        return False
    if ours:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return True


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Fails the test if, two seconds after it, any process that it started still lives. (Use it in all tests that run trapline.)"""
    before = descendants(os.getpid())
    yield
    left: dict[int, str] = {}
    for _ in range(40):
        left = {pid: what for pid, what in descendants(os.getpid()).items() if pid not in before}
        if not left:
            return
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    pytest.fail(f"processes left behind: {left}")
