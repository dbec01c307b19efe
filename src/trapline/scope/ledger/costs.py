"""Costs: what crossings of one sort took, in all and in each part, and how they are spread.

A spread counts durations in buckets no wider than a 32nd of what they hold, so that medians and percentiles are exact to 2 %
whatever the number of crossings; least, most and sum are exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

TRAP, DECODE, POLICY, COPIES, BODY, WAIT, QUEUE, RESUME, PROBES = range(9)
#: What each part is, in order.
PARTS = {
    "trap": "from the end of user code until the kernel sees the trap",
    "decode": "until the handler is called: bookkeeping, table, conversion of the arguments",
    "policy": "of that, what interposers and seccomp rules took",
    "copies": "from and to the program's memory, with the page faults in them",
    "body": "the handler's own work; of a fault, its repair",
    "wait": "asleep",
    "queue": "ready to go on, but for a CPU",
    "resume": "from the result until user code runs: signals, registers, the machine",
    "probes": "measuring, which is in no other part",
}
_BITS = 6


def bucket(ns: int) -> int:
    """The number of the bucket of a duration."""
    shift = max(ns.bit_length() - _BITS, 0)
    return shift << _BITS | ns >> shift


def middle(number: int) -> int:
    """A duration that stands for those in a bucket."""
    shift = number >> _BITS
    return ((number & (1 << _BITS) - 1) << shift) + (1 << shift) // 2


class Cost:
    """Of crossings of one sort. Times are nanoseconds."""

    __slots__ = ("bytes_in", "bytes_out", "count", "errors", "max_ns", "min_ns", "parts", "spread", "total_ns")

    def __init__(self) -> None:
        self.count = self.errors = self.total_ns = self.max_ns = self.bytes_in = self.bytes_out = 0
        self.min_ns = -1
        self.parts = [0] * len(PARTS)
        self.spread: dict[int, int] = {}

    def add(self, total_ns: int, parts: list[int], failed: bool, bytes_in: int, bytes_out: int) -> None:
        """One crossing more."""
        self.count += 1
        self.errors += failed
        self.total_ns += total_ns
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        if total_ns > self.max_ns:
            self.max_ns = total_ns
        if total_ns < self.min_ns or self.min_ns < 0:
            self.min_ns = total_ns
        mine = self.parts
        for index, ns in enumerate(parts):
            if ns:
                mine[index] += ns
        number = bucket(total_ns)
        self.spread[number] = self.spread.get(number, 0) + 1

    def merge(self, other: Cost) -> None:
        """All of `other`'s crossings too."""
        self.count += other.count
        self.errors += other.errors
        self.total_ns += other.total_ns
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.max_ns = max(self.max_ns, other.max_ns)
        self.min_ns = min((each for each in (self.min_ns, other.min_ns) if each >= 0), default=-1)
        self.parts = [a + b for a, b in zip(self.parts, other.parts, strict=True)]
        for number, count in other.spread.items():
            self.spread[number] = self.spread.get(number, 0) + count

    @property
    def mean_ns(self) -> float:
        return self.total_ns / self.count if self.count else 0.0

    def percentile_ns(self, percent: float) -> int:
        """So many percent of the crossings took no longer."""
        left = self.count * percent / 100
        for number in sorted(self.spread):
            left -= self.spread[number]
            if left <= 0:
                return min(max(middle(number), self.min_ns), self.max_ns)
        return self.max_ns

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "count": self.count, "errors": self.errors, "total_ns": self.total_ns, "min_ns": max(self.min_ns, 0),
            "median_ns": self.percentile_ns(50), "p99_ns": self.percentile_ns(99), "max_ns": self.max_ns,
            "bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "parts_ns": dict(zip(PARTS, self.parts, strict=True)),
            "spread": [[number, count] for number, count in sorted(self.spread.items())],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Cost:
        """What `as_dict` made. Raises KeyError, TypeError, ValueError for anything else."""
        cost = cls()
        cost.count, cost.errors, cost.total_ns = int(saved["count"]), int(saved["errors"]), int(saved["total_ns"])
        cost.min_ns, cost.max_ns = int(saved["min_ns"]), int(saved["max_ns"])
        cost.bytes_in, cost.bytes_out = int(saved["bytes_in"]), int(saved["bytes_out"])
        cost.parts = [int(saved["parts_ns"][name]) for name in PARTS]
        cost.spread = {int(number): int(count) for number, count in saved["spread"]}
        return cost


def total(costs: Iterable[Cost]) -> Cost:
    """All of them in one."""
    whole = Cost()
    for each in costs:
        whole.merge(each)
    return whole
