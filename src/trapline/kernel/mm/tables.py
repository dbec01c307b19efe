"""PageTables: the page tables of one address space, real entries in RAM in the machine's own format.

The tree is mirrored by dictionaries, so that finding an entry costs one lookup, not a walk. A *block* is what one
leaf table maps, 2 MiB; it is numbered by va >> 21. Words are indices into `Ram.words`.

Invariants:
- `blocks[block]` is the first word of the block's leaf table, or ~word when the entry at `word`, one level up, is a large leaf;
- every present leaf holds one reference to its frame (a large leaf: to each of its 512), but a leaf of a file's page
  (soft_file) holds none: the page cache unmaps its pages before it lets go of them; large leaves of files are `hugetlb`'s;
- a leaf without user permission maps a page of an area with PROT_NONE: its frame waits for mprotect(2);
- a leaf that permits writing has its dirty bit set, and every leaf its accessed bit unless reclaim took it (see mm.swap.out);
- an entry that is neither zero nor present says where in swap the page is (see mm.swap.areas): there are `swapped` of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cache

from trapline.machine.paging.entry import PAGE_SHIFT, Format
from trapline.machine.paging.lanes import LANES, pattern
from trapline.machine.ram import Ram

BLOCK_SHIFT = 21
BLOCK_SIZE = 1 << BLOCK_SHIFT
LANE_MASK = LANES - 1
SLOT_SHIFT = PAGE_SHIFT  #: an entry of a page in swap is its slot, above bits that are all zero (see mm.swap.areas)
ZEROS = memoryview(array("Q", bytes(8 * LANES)))

Run = tuple[int, int]  #: (first frame, frames)


class PageTables:
    __slots__ = (
        "blocks", "counts", "fmt", "frames", "mem", "ro", "root", "rw", "step", "swapped", "table_pages", "upper", "words",
    )  # fmt: skip

    def __init__(self, ram: Ram, fmt: Format) -> None:
        if fmt.index_bits != 9 or fmt.present != 1:
            raise ValueError(f"{fmt.name}: tables of 512 entries with the present bit lowest are needed")
        self.fmt = fmt
        self.frames = ram.frames
        self.counts = ram.frames.counts
        self.words = ram.words
        self.mem = ram.mem
        self.root = ram.frames.alloc()
        self.table_pages = 1
        self.swapped = 0
        self.blocks: dict[int, int] = {}
        #: upper[k]: first word of the tables of level k by va >> (21 + 9 * k); the root's level has one, the lowest none
        self.upper: list[dict[int, int]] = [{} for _ in range(fmt.levels)]
        self.upper[-1][0] = self.root << 9
        self.step = 1 << fmt.pfn_shift  #: from one frame's entry to the next frame's
        self.ro, self.rw = _leaf_bits(fmt)

    # ---- the tree

    def make(self, block: int) -> int:
        """The first word of the leaf table of a block that has none. Raises OutOfFrames."""
        slot = self.slot(block)
        pfn = self.frames.alloc()
        self.table_pages += 1
        self.words[slot] = self.fmt.table(pfn)
        base = self.blocks[block] = pfn << 9
        return base

    def take_shape(self, other: PageTables, frame: int) -> int:
        """Make the tables that `other` has, but for those of large leaves, in consecutive frames from `frame` on.

        These read as zeros, and have one reference each, which is taken over. The first frame that was not needed.
        """
        words, mask = self.words, LANE_MASK
        first = frame
        entry, step = self.fmt.table(frame), self.step
        for level in range(len(self.upper) - 2, 0, -1):
            above, here = self.upper[level + 1], self.upper[level]
            for key in other.upper[level]:
                words[above[key >> 9] + (key & mask)] = entry
                here[key] = frame << 9
                frame, entry = frame + 1, entry + step
        above, here = self.upper[1], self.blocks
        for block, base in other.blocks.items():
            if base >= 0:
                words[above[block >> 9] + (block & mask)] = entry
                here[block] = frame << 9
                frame, entry = frame + 1, entry + step
        self.table_pages += frame - first
        return frame

    def size_of_shape(self) -> int:
        """How many frames `take_shape` needs at most to make the same tables elsewhere."""
        return len(self.blocks) + sum(map(len, self.upper)) - 1

    def slot(self, block: int) -> int:
        """The word one level up whose entry is the block's table or large leaf."""
        return self._table(1, block >> 9) + (block & LANE_MASK)

    def _table(self, level: int, key: int) -> int:
        base = self.upper[level].get(key)
        if base is None:
            slot = self._table(level + 1, key >> 9) + (key & LANE_MASK)
            pfn = self.frames.alloc()
            self.table_pages += 1
            self.words[slot] = self.fmt.table(pfn)
            base = self.upper[level][key] = pfn << 9
        return base

    def entry(self, va: int) -> int:
        """The leaf that maps `va` (of whatever size), or 0."""
        base = self.blocks.get(va >> BLOCK_SHIFT)
        if base is None:
            return 0
        if base < 0:
            found: int = self.words[~base]
        else:
            found = self.words[base + (va >> PAGE_SHIFT & LANE_MASK)]
        return found

    def frame(self, va: int, entry: int) -> int:
        """The frame of the page at `va`, given its leaf."""
        pfn = self.fmt.pfn(entry)
        return pfn + (va >> PAGE_SHIFT & LANE_MASK) if self.blocks[va >> BLOCK_SHIFT] < 0 else pfn

    def in_range(self, start: int, end: int) -> list[int]:
        """The blocks with a table or a large leaf that intersect [start, end), in order."""
        first, last = start >> BLOCK_SHIFT, (end - 1) >> BLOCK_SHIFT
        blocks = self.blocks
        if last - first <= len(blocks):
            return [block for block in range(first, last + 1) if block in blocks]
        return sorted(block for block in blocks if first <= block <= last)

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(first page's address, first word, entries) for the part of each leaf table in [start, end).

        A large leaf comes as (address of the block, ~word, 512) if the range holds all of it, else it is split first.
        """
        for block in self.in_range(start, end):
            va = block << BLOCK_SHIFT
            base = self.blocks[block]
            low, high = max(va, start), min(va + BLOCK_SIZE, end)
            if base < 0:
                if high - low == BLOCK_SIZE:
                    yield va, base, LANES
                    continue
                base = self.split(block)
            yield low, base + (low >> PAGE_SHIFT & LANE_MASK), (high - low) >> PAGE_SHIFT

    def split(self, block: int) -> int:
        """Replace a large leaf by a table of leaves that map the same; its first word. Nothing need be flushed."""
        word = ~self.blocks[block]
        fmt = self.fmt
        entry = self.words[word] & ~fmt.large
        pfn = self.frames.alloc(zero=False)
        self.table_pages += 1
        self.fill(pfn << 9, entry, LANES)
        self.words[word] = fmt.table(pfn)
        base = self.blocks[block] = pfn << 9
        return base

    def fill(self, word: int, entry: int, pages: int) -> None:
        """Write leaves for consecutive frames, the first of which is `entry`."""
        self.mem[word << 3 : (word + pages) << 3] = self.consecutive(entry, pages)

    def consecutive(self, entry: int, pages: int) -> bytes:
        """The bytes of leaves for consecutive frames, the first of which is `entry`."""
        ones, stairs = pattern(pages)
        return (entry * ones + stairs * self.step).to_bytes(pages << 3, "little")

    # ---- several entries as one number (machine.paging.lanes)

    def lanes(self, word: int, pages: int) -> int:
        return int.from_bytes(self.mem[word << 3 : (word + pages) << 3], "little")

    def set_lanes(self, word: int, pages: int, lanes: int) -> None:
        self.mem[word << 3 : (word + pages) << 3] = lanes.to_bytes(pages << 3, "little")

    # ---- the end of tables

    def drop_empty(self, start: int, end: int, floor: int, ceiling: int, runs: list[Run]) -> None:
        """Unhook the tables that map part of [start, end) and nothing outside [floor, ceiling), where no area is left.

        Their frames are appended to `runs`, to be put after the flush.
        """
        words = self.words
        for level, tables in enumerate([self.blocks, *self.upper[1:-1]]):
            shift = BLOCK_SHIFT + 9 * level
            for key in _keys_in(tables, start >> shift, (end - 1) >> shift):
                if key << shift < floor or (key + 1) << shift > ceiling:
                    continue
                base = tables[key]
                if any(words[base : base + LANES].tolist()):
                    raise AssertionError(f"a table of level {level} for {key << shift:#x} maps what no area covers")
                words[self.upper[level + 1][key >> 9] + (key & LANE_MASK)] = 0
                del tables[key]
                runs.append((base >> 9, 1))
                self.table_pages -= 1

    def unhook(self, block: int, runs: list[Run]) -> None:
        """Take the empty leaf table of a block out of the tree; its frame is appended to `runs`."""
        self.words[self.slot(block)] = 0
        runs.append((self.blocks.pop(block) >> 9, 1))
        self.table_pages -= 1

    def close(self, runs: list[Run]) -> None:
        """Take every table apart; no leaf is needed, no machine uses them. Their frames are appended to `runs`, to be put."""
        for tables in (self.blocks, *self.upper):
            runs += [(base >> 9, 1) for base in tables.values()]
            tables.clear()
        self.table_pages = 0


@cache
def _leaf_bits(fmt: Format) -> tuple[list[int], list[int]]:
    """Leaves for pages with PROT_* as index, without their frames: read-only ones, and as writable as may be.

    As on x86, what is accessible is readable.
    """
    ro = [fmt.leaf(0, read=True, write=False, execute=bool(prot & 4), user=prot != 0) | fmt.accessed for prot in range(8)]
    return ro, [bits | fmt.dirty | (fmt.write if prot & 2 else 0) for prot, bits in enumerate(ro)]


def _keys_in(tables: dict[int, int], first: int, last: int) -> list[int]:
    if last - first <= len(tables):
        return [key for key in range(first, last + 1) if key in tables]
    return [key for key in tables if first <= key <= last]
