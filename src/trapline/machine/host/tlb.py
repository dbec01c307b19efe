"""The TLB's directory: which ranges of guest addresses a stub process has mapped, and to what.

In a nutshell: extents, sorted and disjoint; contiguous ones with equal rights merge, as the host's own mappings do, so their
number bounds the host's. Invariant: whatever the process may have mapped is covered by an extent.
"""

from __future__ import annotations

from bisect import bisect_left

from trapline.machine.host.layout import PROT_WRITE

Extent = tuple[int, int, int, int]  #: start, end, pa, prot


class Extents:
    """A list of extents, by start address."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[Extent] = []

    def __len__(self) -> int:
        return len(self.items)

    def _touching(self, start: int, end: int) -> tuple[int, int]:
        """Indices of the extents that intersect [start, end)."""
        items = self.items
        first = bisect_left(items, (start,))
        if first and items[first - 1][1] > start:
            first -= 1
        last = first
        if first < len(items) and items[first][0] < end:
            last = bisect_left(items, (end,), first)
        return first, last

    def covering(self, va: int) -> Extent | None:
        """The extent that holds `va`."""
        first, last = self._touching(va, va + 1)
        return self.items[first] if first < last else None

    def holds(self, start: int, end: int, pa: int, prot: int) -> bool:
        """All of [start, end) is mapped to `pa` with at least these rights."""
        found = self.covering(start)
        if found is None or found[1] < end or prot & ~found[3]:
            return False
        return found[2] + (start - found[0]) == pa

    def hull(self, start: int, end: int) -> tuple[int, int] | None:
        """The smallest range that holds all that is mapped in [start, end)."""
        first, last = self._touching(start, end)
        if first >= last:
            return None
        return max(start, self.items[first][0]), min(end, self.items[last - 1][1])

    def add(self, start: int, end: int, pa: int, prot: int) -> None:
        """[start, end) is mapped now, in place of what was there."""
        items = self.items
        first, last = self._touching(start, end)
        if first < last:
            self.remove(start, end)
            first = last = bisect_left(items, (start,))
        if first:
            lo, hi, before, rights = items[first - 1]
            if hi == start and rights == prot and before + (start - lo) == pa:
                first, start, pa = first - 1, lo, before
        if last < len(items):
            lo, hi, after, rights = items[last]
            if lo == end and rights == prot and pa + (end - start) == after:
                last, end = last + 1, hi
        items[first:last] = [(start, end, pa, prot)]

    def start_with(self, extents: list[Extent]) -> bool:
        """Put these where nothing is; False, and nothing is changed, if some of them overlap."""
        items: list[Extent] = []
        low, end, pa, prot = 0, 0, 0, -1
        for each in sorted(extents):
            start, _, at, has = each
            if start < end:
                return False
            if start == end and has == prot and at - pa == start - low:
                each = low, each[1], pa, prot
                items.pop()
            items.append(each)
            low, end, pa, prot = each
        self.items = items
        return True

    def remove(self, start: int, end: int) -> tuple[int, int] | None:
        """[start, end) is mapped no more. The smallest range that held all of it, or None if nothing was there."""
        first, last = self._touching(start, end)
        if first >= last:
            return None
        head, tail = self.items[first], self.items[last - 1]
        keep: list[Extent] = []
        if head[0] < start:
            keep.append((head[0], start, head[2], head[3]))
        if tail[1] > end:
            keep.append((end, tail[1], tail[2] + end - tail[0], tail[3]))
        self.items[first:last] = keep
        return max(start, head[0]), min(end, tail[1])

    def writable(self, start: int, end: int) -> list[Extent]:
        """The parts of [start, end) that are mapped writable."""
        first, last = self._touching(start, end)
        return [
            (max(start, lo), min(end, hi), pa + max(0, start - lo), prot)
            for lo, hi, pa, prot in self.items[first:last]
            if prot & PROT_WRITE
        ]
