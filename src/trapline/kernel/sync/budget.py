"""Budgets: how much of one kind of thing a kernel holds for its programs at most.

What the kernel keeps for programs is Python objects in our own process, outside the guest's RAM. Linux charges such memory to
the program's cgroup; here each kind has a limit in proportion to the RAM, and a call that would exceed it is refused.

Invariant: 0 <= `used`; it exceeds `limit` only by what was taken without asking (`force`).
"""

from __future__ import annotations

from weakref import WeakKeyDictionary


class Budget:
    """`used` of `limit`."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def has(self, count: int = 1) -> bool:
        return self.used + count <= self.limit

    def take(self, count: int = 1) -> bool:
        """Take `count` if they are there; False if not."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def force(self, count: int) -> None:
        """Take `count` that cannot be refused any more."""
        self.used += count

    def give(self, count: int = 1) -> None:
        self.used -= count


class Budgets:
    """One kind's budgets, by kernel: `per_page` of them for each page of its RAM, and at least `least`."""

    def __init__(self, per_page: float, least: int) -> None:
        self._per_page = per_page
        self._least = least
        self._of: WeakKeyDictionary[object, Budget] = WeakKeyDictionary()

    def of(self, kernel: object) -> Budget:
        found = self._of.get(kernel)
        if found is None:
            pages = kernel.ram.frames.limit_pages  # type: ignore[attr-defined]  # a Kernel: sync knows nothing of it
            found = self._of[kernel] = Budget(max(self._least, int(pages * self._per_page)))
        return found
