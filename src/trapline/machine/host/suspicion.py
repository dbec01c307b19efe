"""Suspicion: does a thread that is to obey do something else meanwhile?

A thread of a stub process that was given an order makes its held call within microseconds of having a CPU. One whose slot says
"stopped" while it runs user code, or whose command somebody else in its process tampered with, never does; the kernel, which
waits for it, must not do so for long. A busy host only keeps a thread from running: that is no ground.

Sources: proc(5), /proc/PID/task/TID/stat.
"""

from __future__ import annotations

MAX_TICKS = 2  #: more of the CPU's ticks (10 ms) than this spent in user mode: it computes
MAX_ASLEEP = 3  #: asleep at so many looks in a row: nobody wakes it


class Suspicion:
    """One thread, from the first look on. Looks come some 20 ms apart, with no held call of its own in between."""

    def __init__(self, pid: int, tid: int) -> None:
        self._path = f"/proc/{pid}/task/{tid}/stat"
        self._asleep = 0
        self._ticks = self._look()[1]

    def _look(self) -> tuple[str, int]:
        """Its state, and how many ticks it was seen in user mode; nothing of one that is gone."""
        try:
            with open(self._path, "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return "", 0
        return fields[0].decode(), int(fields[11])

    def why(self) -> str:
        """What it does instead of obeying; "": nothing that is known."""
        state, ticks = self._look()
        self._asleep = self._asleep + 1 if state == "S" else 0
        if ticks - self._ticks > MAX_TICKS:
            return "it went on computing instead of doing as it was told"
        if self._asleep >= MAX_ASLEEP:
            return "it slept instead of doing as it was told"
        return ""
