"""The TLB's directory: which ranges of guest addresses a stub process has mapped, and to what.

In a nutshell: extents, sorted and disjoint; contiguous ones with equal rights merge, as the host's own mappings do, so their
number bounds the host's. Invariant: whatever the process may have mapped is covered by an extent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from trapline.machine.host.layout import PROT_WRITE


class Extents:
    """Parallel lists, by start address."""

    __slots__ = ("ends", "pas", "prots", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.pas: list[int] = []
        self.prots: list[int] = []

    def __len__(self) -> int:
        return len(self.starts)

    def clear(self) -> None:
        self._splice(0, len(self.starts), [])

    def _splice(self, first: int, last: int, extents: list[tuple[int, int, int, int]]) -> None:
        self.starts[first:last] = [extent[0] for extent in extents]
        self.ends[first:last] = [extent[1] for extent in extents]
        self.pas[first:last] = [extent[2] for extent in extents]
        self.prots[first:last] = [extent[3] for extent in extents]

    def _touching(self, start: int, end: int) -> tuple[int, int]:
        """Indices of the extents that intersect [start, end)."""
        return bisect_right(self.ends, start), bisect_left(self.starts, end)

    def covering(self, va: int) -> tuple[int, int, int, int] | None:
        """The extent that holds `va`."""
        i = bisect_right(self.starts, va) - 1
        if i >= 0 and va < self.ends[i]:
            return self.starts[i], self.ends[i], self.pas[i], self.prots[i]
        return None

    def add(self, start: int, end: int, pa: int, prot: int) -> None:
        """[start, end) is mapped now, in place of what was there."""
        self.remove(start, end)
        at = bisect_left(self.starts, start)
        first = last = at
        if at and self.ends[at - 1] == start and self.prots[at - 1] == prot:
            if self.pas[at - 1] + (start - self.starts[at - 1]) == pa:
                first, start, pa = at - 1, self.starts[at - 1], self.pas[at - 1]
        if at < len(self.starts) and self.starts[at] == end and self.prots[at] == prot:
            if pa + (end - start) == self.pas[at]:
                last, end = at + 1, self.ends[at]
        self._splice(first, last, [(start, end, pa, prot)])

    def remove(self, start: int, end: int) -> tuple[int, int] | None:
        """[start, end) is mapped no more. The smallest range that held all of it, or None if nothing was there."""
        first, last = self._touching(start, end)
        if first >= last:
            return None
        lo, hi = max(start, self.starts[first]), min(end, self.ends[last - 1])
        keep = []
        if self.starts[first] < start:
            keep.append((self.starts[first], start, self.pas[first], self.prots[first]))
        if self.ends[last - 1] > end:
            cut = end - self.starts[last - 1]
            keep.append((end, self.ends[last - 1], self.pas[last - 1] + cut, self.prots[last - 1]))
        self._splice(first, last, keep)
        return lo, hi

    def writable(self, start: int, end: int) -> list[tuple[int, int, int, int]]:
        """The parts of [start, end) that are mapped writable."""
        first, last = self._touching(start, end)
        found = []
        for i in range(first, last):
            if self.prots[i] & PROT_WRITE:
                lo, hi = max(start, self.starts[i]), min(end, self.ends[i])
                found.append((lo, hi, self.pas[i] + lo - self.starts[i], self.prots[i]))
        return found
