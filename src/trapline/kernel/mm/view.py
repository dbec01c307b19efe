"""Views of an address space for people: what one address goes through, and what an area holds. Nothing here writes.

Every line is read from the page tables themselves, as a machine would walk them.
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE, Format
from trapline.machine.paging.walk import Run, leaves, runs, steps

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area


class Line(NamedTuple):
    """One memory reference of a walk."""

    level: int  #: 0 is the leaf level
    lane: int  #: number of the entry in its table
    pa: int  #: of the entry
    entry: int
    text: str


class Usage(NamedTuple):
    """What an area holds, in pages."""

    present: int
    file: int  #: pages of a page cache
    shared: int  #: frames with more than one reference, besides the page cache's own
    referenced: int
    dirty: int
    large: int  #: pages mapped by large leaves


def describe(mm: AddressSpace, addr: int) -> tuple[list[Line], str]:
    """The walk for `addr`, step by step, and what it comes to."""
    fmt = mm.tables.fmt
    lines = []
    step = None
    for step in steps(mm.ram.words, mm.tables.root, addr, fmt):
        shift = PAGE_SHIFT + fmt.index_bits * step.level
        index = addr >> shift & ((1 << fmt.index_bits) - 1)
        lines.append(Line(step.level, index, step.word << 3, step.entry, explain(fmt, step.entry, step.level)))
    if step is None or not step.entry & fmt.present:
        return lines, "not mapped: page fault"
    size = PAGE_SIZE << fmt.index_bits * step.level
    pa = (fmt.pfn(step.entry) << PAGE_SHIFT & -size) + (addr & (size - 1))
    count = mm.ram.frames.counts[pa >> PAGE_SHIFT]
    return lines, f"physical address {pa:#x}, frame {pa >> PAGE_SHIFT:#x}, {count} reference{'s' if count != 1 else ''}"


def explain(fmt: Format, entry: int, level: int) -> str:
    """One entry in words."""
    if not entry & fmt.present:
        return "not present"
    if not fmt.is_leaf(entry, level):
        return f"table in frame {fmt.pfn(entry):#x}"
    words = [f"{'page' if level == 0 else 'large page'} in frame {fmt.pfn(entry):#x}"]
    words.append("rw" if entry & fmt.write else "r-")
    words[-1] += "x" if fmt.can_execute(entry) else "-"
    words.append("user" if entry & fmt.user else "kernel only (PROT_NONE)")
    for mask, text in (
        (fmt.accessed, "accessed"), (fmt.dirty, "dirty"), (fmt.soft_cow, "copy on write"), (fmt.soft_file, "of a file")
    ):  # fmt: skip
        if entry & mask:
            words.append(text)
    return ", ".join(words)


def mapped(mm: AddressSpace) -> Iterator[Run]:
    """Everything that is mapped, as runs of consecutive frames."""
    return runs(mm.ram.words, mm.tables.root, 0, mm.task_size, mm.tables.fmt)


def usage(mm: AddressSpace, area: Area) -> Usage:
    """Count the leaves of an area."""
    fmt, counts = mm.tables.fmt, mm.ram.frames.counts
    present = file = shared = referenced = dirty = large = 0
    for va, step in leaves(mm.ram.words, mm.tables.root, area.start, area.end, fmt):
        size = PAGE_SIZE << fmt.index_bits * step.level
        pages = (min(va + size, area.end) - max(va, area.start)) >> PAGE_SHIFT
        of_file = bool(step.entry & fmt.soft_file)
        present += pages
        file += pages if of_file else 0
        shared += pages if counts[fmt.pfn(step.entry)] > 1 + of_file else 0
        referenced += pages if step.entry & fmt.accessed else 0
        dirty += pages if step.entry & fmt.dirty else 0
        large += pages if step.level else 0
    return Usage(present, file, shared, referenced, dirty, large)
