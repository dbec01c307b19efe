"""MADV_COLLAPSE, madvise(2): ordinary pages of anonymous memory become one large leaf, at once."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, ENOMEM
from trapline.abi.mman import VM_NOHUGEPAGE, VM_SHARED
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.leaves import put_runs, zap
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, Run
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.ram import BLOCK_ORDER, BLOCK_PAGES

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area


def collapse(mm: AddressSpace, area: Area, start: int, end: int, behaviour: int) -> None:
    """Every whole block of [start, end). EINVAL: the area cannot have any, or nothing was ever touched in one; ENOMEM."""
    first, last = (start + BLOCK_SIZE - 1) >> BLOCK_SHIFT, end >> BLOCK_SHIFT
    fits = (area.start + BLOCK_SIZE - 1) >> BLOCK_SHIFT < area.end >> BLOCK_SHIFT
    if area.cache is not None or area.flags & (VM_SHARED | VM_NOHUGEPAGE) or not fits or not mm.policy.huge:
        raise EINVAL("no large pages here")
    untouched = no_memory = False
    for block in range(first, last):
        base = mm.tables.blocks.get(block)
        if base is None:
            untouched = True
        elif base >= 0 and not _collapse(mm, area, block, base):
            no_memory = True
    if no_memory:
        raise ENOMEM
    if untouched:
        raise EINVAL("nothing was ever there")


def _collapse(mm: AddressSpace, area: Area, block: int, base: int) -> bool:
    """Unmap the block's pages, copy them together, and map the result; False if there is no memory for it."""
    tables, frames, fmt = mm.tables, mm.tables.frames, mm.tables.fmt
    va = block << BLOCK_SHIFT
    try:
        pfn = frames.alloc(BLOCK_ORDER)
    except OutOfFrames:
        return False
    if tables.swapped and not _all_back(mm, area, va):
        frames.put_run(pfn, BLOCK_PAGES)
        return False
    entries = tables.words[base : base + BLOCK_PAGES].tolist()
    runs: list[Run] = []
    files, others = zap(tables, va, va + BLOCK_SIZE, runs)
    mm.unmapped(files, others)
    mm.forget()
    mm.space.flush(va, va + BLOCK_SIZE)
    mem, to = mm.ram.mem, pfn << PAGE_SHIFT
    for lane, entry in enumerate(entries):
        if entry:
            source, at = fmt.pfn(entry) << PAGE_SHIFT, to + (lane << PAGE_SHIFT)
            mem[at : at + PAGE_SIZE] = mem[source : source + PAGE_SIZE]
    slot = tables.slot(block)
    tables.words[slot] = pfn << fmt.pfn_shift | tables.rw[area.prot] | fmt.large
    tables.blocks[block] = ~slot
    mm.rss_anon += BLOCK_PAGES
    put_runs(frames, runs)
    return True


def _all_back(mm: AddressSpace, area: Area, va: int) -> bool:
    """No page of the block is in swap any more."""
    from trapline.kernel.mm.swap.entries import bring_back

    return bring_back(mm, area, va, va + BLOCK_SIZE)
