"""Suspicion: does a thread that is to obey do something else meanwhile?

A thread of a stub process that was given an order makes its held call within microseconds of having a CPU. One whose slot says
"stopped" while it runs user code, or whose command somebody else in its process tampered with, never does; the kernel, which
waits for it, must not do so for long. A busy host only keeps a thread from running: that is no ground.

Sources: proc(5), /proc/PID/task/TID/stat.
"""

from __future__ import annotations

import time

MAX_TICKS = 2  #: more of the CPU's ticks (10 ms) than this spent in user mode: it computes
MAX_ASLEEP = 3  #: asleep at so many looks in a row: nobody wakes it
TICK_NS = 10_000_000
LONGEST_NS = 30_000_000_000  #: and even a host that runs a thread never has so much time, and no more


class Suspicion:
    """One thread, from the first look on. Looks come some 20 ms apart, with no held call of its own in between."""

    def __init__(self, pid: int, tid: int) -> None:
        self._path = f"/proc/{pid}/task/{tid}/stat"
        self._asleep = 0
        self._since_ns = time.monotonic_ns()
        _, self._ticks, self._system = self._look()

    def _look(self) -> tuple[str, int, int]:
        """Its state, and how many ticks it was seen in user mode, and in the host's kernel; nothing of one that is gone."""
        try:
            with open(self._path, "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return "", 0, 0
        return fields[0].decode(), int(fields[11]), int(fields[12])

    def why(self) -> str:
        """What it does instead of obeying; "": nothing that is known."""
        state, ticks, _ = self._look()
        self._asleep = self._asleep + 1 if state == "S" else 0
        if ticks - self._ticks > MAX_TICKS:
            return "it went on computing instead of doing as it was told"
        if self._asleep >= MAX_ASLEEP:
            return "it slept instead of doing as it was told"
        return ""

    def starved(self, patience_ns: int) -> bool:
        """It wants to run, and the host has not let it for `patience_ns` since the first look, which was not too long ago."""
        state, user, system = self._look()
        spent_ns = (user - self._ticks + system - self._system) * TICK_NS
        return state in ("R", "D") and spent_ns < patience_ns and time.monotonic_ns() - self._since_ns < LONGEST_NS
