"""Tally: calls, faults and signals counted, from events: exact, however many events were dropped on their way to a page."""

from __future__ import annotations

from collections import Counter
from typing import Any

BUCKETS = 26  #: of the histogram: the n-th holds times from 2**n ns up, the last one everything longer; the first is 2**8
FIRST = 8


class _Call:
    __slots__ = ("count", "errors", "histogram", "longest_ns", "shortest_ns", "total_ns", "wait_ns", "which")

    def __init__(self) -> None:
        self.count = self.errors = self.total_ns = self.wait_ns = self.longest_ns = 0
        self.shortest_ns = 1 << 62
        self.histogram = [0] * BUCKETS
        self.which: Counter[str] = Counter()  #: errno's name -> how often

    def as_json(self) -> dict[str, Any]:
        return {
            "count": self.count, "errors": self.errors, "ns": self.total_ns, "wait_ns": self.wait_ns,
            "min_ns": self.shortest_ns, "max_ns": self.longest_ns, "histogram": self.histogram, "which": dict(self.which),
        }  # fmt: skip


class Tally:
    """Counts events; see `events.py` for their members."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._events: Counter[str] = Counter()
        self._faults: dict[str, list[int]] = {}  #: kind -> [count, ns]
        self._signals: Counter[str] = Counter()
        self._switches: Counter[str] = Counter()  #: by why the thread before left the CPU
        self._interrupts: Counter[str] = Counter()
        self._user_ns = 0

    def add(self, event: str, members: dict[str, Any]) -> None:
        self._events[event] += 1
        if event == "call":
            self._call(members)
        elif event == "run":
            self._user_ns += members["duration_ns"]
        elif event == "fault":
            kind = members.get("kind")
            fault = self._faults.setdefault(kind if isinstance(kind, str) else members["access"], [0, 0])
            fault[0] += 1
            fault[1] += members.get("duration_ns", 0)
        elif event == "signal":
            self._signals[members["signal"]] += 1
        elif event == "switch":
            self._switches[members["why"]] += 1
        elif event == "interrupt":
            self._interrupts[members["kind"]] += 1

    def _call(self, members: dict[str, Any]) -> None:
        call = self._calls.get(members["call"])
        if call is None:
            call = self._calls[members["call"]] = _Call()
        work_ns = members["duration_ns"] - members["wait_ns"]
        call.count += 1
        call.total_ns += work_ns
        call.wait_ns += members["wait_ns"]
        call.shortest_ns = min(call.shortest_ns, work_ns)
        call.longest_ns = max(call.longest_ns, work_ns)
        call.histogram[bucket(work_ns)] += 1
        if members["error"]:
            call.errors += 1
            call.which[members["error"]] += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": {name: call.as_json() for name, call in self._calls.items()},
            "events": dict(self._events), "faults": self._faults, "signals": dict(self._signals),
            "switches": dict(self._switches), "interrupts": dict(self._interrupts), "user_ns": self._user_ns,
        }  # fmt: skip


def bucket(ns: int) -> int:
    """The place of a time in the histogram."""
    return min(max(ns.bit_length() - 1 - FIRST, 0), BUCKETS - 1)
