"""Waiting for descriptors, by looking again and again for a moment before sleeping.

A process that sleeps for half a millisecond is not woken at once: its CPU has gone to sleep too, and where that is a virtual
machine's, somebody else must start it. Who answers a machine's frames within that time is better waited for awake. So a wait
that was short makes the next ones look for up to `AWAKE_NS`; one that finds nothing in that time makes the next look half as
long. And where somebody else needs the CPU, which shows between two looks, nobody looks for a while.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from trapline.typed import Protocol

AWAKE_NS = 1_000_000
_LEAST_NS = 100_000  #: looking for less is not worth it
_CROWDED_NS = 200_000  #: between two looks: somebody else has had the CPU
_RESERVED = 200  #: waits without looking after that


class Descriptor(Protocol):
    def fileno(self) -> int: ...


class Patience:
    """Remembers how long waits have been."""

    def __init__(self) -> None:
        self._awake_ns = 0
        self._reserved = 0

    def wait(
        self, readable: Sequence[int | Descriptor], writable: Sequence[int | Descriptor], timeout_s: float | None
    ) -> tuple[list[int | Descriptor], list[int | Descriptor]]:
        """What can be read, and what can be written, as select.select; `timeout_s`: None for ever."""
        if timeout_s == 0.0:
            return select.select(readable, writable, (), 0.0)[:2]
        began = time.monotonic_ns()
        if self._awake_ns:
            found = self._look(readable, writable, began, timeout_s)
            if found[0] or found[1]:
                return found
            if timeout_s is not None:
                timeout_s = max(0.0, timeout_s - (time.monotonic_ns() - began) / 1e9)
        found = select.select(readable, writable, (), timeout_s)[:2]
        if (found[0] or found[1]) and time.monotonic_ns() - began < AWAKE_NS:
            if self._reserved:
                self._reserved -= 1
            else:
                self._awake_ns = AWAKE_NS
        return found

    def _look(
        self, readable: Sequence[int | Descriptor], writable: Sequence[int | Descriptor], began: int, timeout_s: float | None
    ) -> tuple[list[int | Descriptor], list[int | Descriptor]]:
        before, end = began, began + self._awake_ns
        if timeout_s is not None:
            end = min(end, began + int(timeout_s * 1e9))
        while True:
            found = select.select(readable, writable, (), 0.0)[:2]
            now = time.monotonic_ns()
            if found[0] or found[1]:
                return found
            if now - before > _CROWDED_NS:
                self._awake_ns, self._reserved = 0, _RESERVED
                return found
            if now >= end:
                self._awake_ns = self._awake_ns // 2 if self._awake_ns > _LEAST_NS else 0
                return found
            before = now
            os.sched_yield()
