"""Moulds: the copy of a small process, worked out once. fork(2) casts one child after another while its parent's tables stay.

In a nutshell: a `Mould` is what looking at the parent's leaves has found: which runs of frames to copy, and the child's leaves,
but for where its frames begin. `cast` makes these leaves and copies. A `Cast` remembers what a child was given: if its tables
are still the same at its end, all its frames go back as the one run that they came in, and nobody walks the tables.

Both compare whole tables with what they remember, as bytes: nothing has to tell them what has changed.
"""

from __future__ import annotations

from array import array

from trapline.kernel.mm.leaves import census
from trapline.kernel.mm.tables import BLOCK_SHIFT, LANE_MASK, PageTables, Run
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.paging.lanes import LANES

Leaves = tuple[int, int, int]  #: (address, the leaf there, address behind): consecutive frames, mapped with the same rights
Piece = tuple[int, int, int]  #: (address, first word, entries) of a stretch of a leaf table
KEPT_LEAVES = 2  #: places of the child's frames for which a mould keeps the leaves


class Mould:
    """How to copy the private pages that some pieces of `tables` map; none of their leaves is large.

    files, others: how many pages of files they map, which the child maps too, and how many others, which are copied.
    """

    __slots__ = ("_blocks", "_copies", "_kept", "_runs", "_sources", "_targets", "files", "others")

    def __init__(self, tables: PageTables, pieces: list[Piece]) -> None:
        self.files = self.others = 0
        self._blocks = tables.blocks.copy()
        self._sources: list[tuple[int, int, bytes]] = []  #: (from, to, content) in bytes of memory
        self._copies: list[tuple[int, int, int]] = []  #: (from, to, size) in bytes; `to` counts from the child's first frame
        self._runs: list[Leaves] = []
        #: (block, lane, leaves as if the child's frames began at 0, bit 0 of those that map one of them, size in bytes)
        self._targets: list[tuple[int, int, int, int, int]] = []
        self._kept: dict[int, list[bytes]] = {}
        for va, word, pages in pieces:
            data = tables.mem[word << 3 : (word + pages) << 3].tobytes()
            self._sources.append((word << 3, (word + pages) << 3, data))
            self._look(tables, data, va, word & LANE_MASK)

    def _look(self, tables: PageTables, data: bytes, va: int, lane: int) -> None:
        files, others, first, last = census(tables, data)
        self.files += files
        entries, moved = array("Q", data), array("Q", bytes(len(data)))
        if others:
            self._find_pages(tables, entries, moved, range(first, last), va)
        leaves, ones = int.from_bytes(entries.tobytes(), "little"), int.from_bytes(moved.tobytes(), "little")
        self._targets.append((va >> BLOCK_SHIFT, lane, leaves, ones, len(data)))

    def _find_pages(self, tables: PageTables, entries: array[int], moved: array[int], lanes: range, va: int) -> None:
        """Turn those among `entries[lanes]` that are not a file's into the child's, and find the runs; `va` is lane 0's."""
        fmt, step = tables.fmt, tables.step
        mask, shift, soft_file, keep = fmt.pfn_mask, fmt.pfn_shift, fmt.soft_file, ~(fmt.pfn_mask | fmt.soft_cow)
        to = self.others << shift
        source = count = 0
        follows = -1  #: in the parent
        lead = lead_va = 0
        goes_on = -1  #: in the child
        for lane in lanes:
            entry = entries[lane]
            if not entry or entry & soft_file:
                goes_on = -1
                continue
            at = entry & mask
            if at != follows:
                self._copy(source, count, shift)
                source, count = at, 0
            follows, count = at + step, count + 1
            entry = entries[lane] = entry & keep | to
            moved[lane] = 1
            to += step
            self.others += 1
            if entry != goes_on:
                lead, lead_va = entry, va + (lane << PAGE_SHIFT)
                self._runs.append((lead_va, lead, lead_va))
            self._runs[-1] = lead_va, lead, va + (lane + 1 << PAGE_SHIFT)
            goes_on = entry + step
        self._copy(source, count, shift)

    def _copy(self, source: int, count: int, shift: int) -> None:
        """A run of `count` frames is complete, the last ones that were counted."""
        if count:
            self._copies.append((source >> shift << PAGE_SHIFT, self.others - count << PAGE_SHIFT, count << PAGE_SHIFT))

    def fits(self, tables: PageTables) -> bool:
        """`tables` still have the leaves that the mould was made from, and no more leaf tables."""
        if tables.blocks != self._blocks:
            return False
        mem = tables.mem
        return all(mem[start:end].tobytes() == content for start, end, content in self._sources)

    def cast(self, child: PageTables, pfn: int) -> list[tuple[int, bytes]]:
        """Copy the pages to frames from `pfn` on, and write the leaves: (where, in bytes of memory, and what)."""
        mem, blocks, to = child.mem, child.blocks, pfn << PAGE_SHIFT
        for source, at, size in self._copies:
            at += to
            mem[at : at + size] = mem[source : source + size]
        written = []
        for (block, lane, _, _, size), leaves in zip(self._targets, self._leaves(pfn << child.fmt.pfn_shift), strict=True):
            at = blocks[block] + lane << 3
            mem[at : at + size] = leaves
            written.append((at, leaves))
        return written

    def _leaves(self, first: int) -> list[bytes]:
        """The child's leaves, if `first` is the frame number of its first page as it stands in a leaf."""
        found = self._kept.get(first)
        if found is None:
            found = [(leaves + ones * first).to_bytes(size, "little") for _, _, leaves, ones, size in self._targets]
            if len(self._kept) == KEPT_LEAVES:
                self._kept.clear()
            self._kept[first] = found
        return found

    def runs(self, first: int) -> list[Leaves]:
        """Where the copied pages are mapped, `first` as above."""
        return [(start, leaf + first, end) for start, leaf, end in self._runs]


class Cast:
    """The tables of a child as they were when it was made: all frames, but for the root's, are `frames` from `first` on."""

    __slots__ = ("_blocks", "_leaves", "_upper", "first", "frames")

    def __init__(self, tables: PageTables, first: int, frames: int, leaves: list[tuple[int, bytes]]) -> None:
        """`leaves`: where each leaf table is, in bytes of memory, and all it holds."""
        self.first, self.frames = first, frames
        self._leaves = leaves
        self._blocks = tables.blocks.copy()
        self._upper = [each.copy() for each in tables.upper]

    def holds(self, tables: PageTables) -> bool:
        """The tables are the same still, with the same leaves, which hold one reference to each frame."""
        if tables.blocks != self._blocks or tables.upper != self._upper:
            return False
        mem = tables.mem
        return all(mem[at : at + len(content)].tobytes() == content for at, content in self._leaves)

    def run(self) -> Run:
        return self.first, self.frames


def whole_tables(tables: PageTables) -> list[Piece]:
    """All leaf tables, as pieces, by address."""
    return [(block << BLOCK_SHIFT, base, LANES) for block, base in sorted(tables.blocks.items())]
