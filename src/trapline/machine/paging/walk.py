"""The page walk: from a virtual address to its leaf entry, and the views built on it.

`words` is RAM as 64-bit words (`Ram.words`); `root` is the frame number of the top-level table. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import NamedTuple

from trapline.machine.paging.entry import PAGE_SHIFT, Format


class Step(NamedTuple):
    """One memory reference of a walk: the entry read at one level."""

    level: int
    word: int  #: index of the entry in RAM's words (its physical address / 8)
    entry: int


class Run(NamedTuple):
    """Consecutive pages mapped to consecutive frames with equal permissions."""

    start: int
    end: int
    pa: int
    entry: int  #: the first leaf entry


def walk(words: memoryview, root: int, va: int, fmt: Format) -> Step | None:
    """The leaf entry that maps `va`, or None. Permissions are the caller's business."""
    pfn, bits = root, fmt.index_bits
    for level in range(fmt.levels - 1, -1, -1):
        index = (va >> (PAGE_SHIFT + bits * level)) & ((1 << bits) - 1)
        word = (pfn << PAGE_SHIFT >> 3) + index
        entry = words[word]
        if not entry & fmt.present:
            return None
        if level == 0 or fmt.is_leaf(entry, level):
            return Step(level, word, entry)
        pfn = (entry & fmt.pfn_mask) >> fmt.pfn_shift
    return None


def steps(words: memoryview, root: int, va: int, fmt: Format) -> Iterator[Step]:
    """Every reference of the walk, the last one being the leaf or the entry that is not present."""
    pfn, bits = root, fmt.index_bits
    for level in range(fmt.levels - 1, -1, -1):
        index = (va >> (PAGE_SHIFT + bits * level)) & ((1 << bits) - 1)
        word = (pfn << PAGE_SHIFT >> 3) + index
        entry = words[word]
        yield Step(level, word, entry)
        if not entry & fmt.present or fmt.is_leaf(entry, level):
            return
        pfn = fmt.pfn(entry)


def leaves(
    words: memoryview, root: int, start: int, end: int, fmt: Format
) -> Iterator[tuple[int, Step]]:
    """(virtual address, leaf) for every present leaf that intersects [start, end), in order."""
    present = fmt.present
    for va, level, word, entries in spans(words, root, start, end, fmt):
        size = 1 << (PAGE_SHIFT + fmt.index_bits * level)
        for index, entry in enumerate(entries):
            if entry & present:
                yield va + index * size, Step(level, word + index, entry)


def spans(
    words: memoryview, root: int, start: int, end: int, fmt: Format
) -> Iterator[tuple[int, int, int, list[int]]]:
    """(virtual address of the first, level, word of the first, entries) of all leaves that intersect [start, end), in order:
    each large one by itself, those of a lowest table together, with the entries between them that are not present."""
    table, level, base, bits = root, fmt.levels - 1, 0, fmt.index_bits
    while level:  # straight down to the table that has more than one entry for the range
        shift = PAGE_SHIFT + bits * level
        index = (start - base) >> shift
        if not 0 <= index == (end - 1 - base) >> shift < 1 << bits:
            break
        entry = words[(table << PAGE_SHIFT >> 3) + index]
        if not entry & fmt.present:
            return iter(())
        if fmt.is_leaf(entry, level):
            break
        table, level, base = fmt.pfn(entry), level - 1, base + (index << shift)
    return _spans(words, table, level, base, start, end, fmt)


def _spans(
    words: memoryview, table: int, level: int, base: int, start: int, end: int, fmt: Format
) -> Iterator[tuple[int, int, int, list[int]]]:
    shift = PAGE_SHIFT + fmt.index_bits * level
    first_index = max(0, (start - base) >> shift)
    last_index = min((1 << fmt.index_bits) - 1, (end - 1 - base) >> shift)
    word = (table << PAGE_SHIFT >> 3) + first_index
    entries = words[word : word + last_index - first_index + 1].tolist()
    if level == 0:
        yield base + (first_index << shift), 0, word, entries
        return
    for index, entry in enumerate(entries, first_index):
        if not entry & fmt.present:
            continue
        va = base + (index << shift)
        if fmt.is_leaf(entry, level):
            yield va, level, word + index - first_index, [entry]
        else:
            yield from _spans(words, fmt.pfn(entry), level - 1, va, start, end, fmt)


def runs(words: memoryview, root: int, start: int, end: int, fmt: Format) -> Iterator[Run]:
    """What [start, end) maps, as the longest runs of consecutive frames with equal leaf bits."""
    keep = ~(fmt.pfn_mask | fmt.large)
    current: Run | None = None
    for va, step in leaves(words, root, start, end, fmt):
        size = 1 << (PAGE_SHIFT + fmt.index_bits * step.level)
        pa = fmt.pfn(step.entry) << PAGE_SHIFT & ~(size - 1)
        skip = max(0, start - va)
        lo, hi = va + skip, min(va + size, end)
        if (
            current is not None
            and lo == current.end
            and pa + skip == current.pa + (current.end - current.start)
            and step.entry & keep == current.entry & keep
        ):
            current = current._replace(end=hi)
            continue
        if current is not None:
            yield current
        current = Run(lo, hi, pa + skip, step.entry)
    if current is not None:
        yield current
