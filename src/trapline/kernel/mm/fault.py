"""The repair of a page fault that its area permits: zero pages, pages of files, copies on write.

How many pages one fault repairs is `Policy`. Everything is mapped accessed and, where it may be written, dirty.
Measured budget: 5 µs for a chunk of zero pages, 1 µs for each page copied.

Invariants:
- a fault on a page makes that page accessible, or says which signal, or raises OutOfFrames; its neighbours are a bonus;
- a leaf that is replaced by one for another frame is flushed before the old frame is put.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import VM_HUGEPAGE, VM_NOHUGEPAGE, VM_RAND_READ, VM_SHARED
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, LANE_MASK, Run
from trapline.machine.contract import WRITE
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.ram import BLOCK_ORDER, BLOCK_PAGES

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area

SIGBUS, BUS_ADRERR = 7, 2
SIGSEGV, SEGV_MAPERR, SEGV_ACCERR = 11, 1, 2

Signal = tuple[int, int, int]  #: (signo, si_code, si_addr)


def repair(mm: AddressSpace, area: Area, addr: int, access: int) -> Signal | None:
    """Make the page at `addr` accessible; None, or the signal that says why not. Raises OutOfFrames."""
    tables = mm.tables
    base = tables.blocks.get(addr >> BLOCK_SHIFT)
    if base is not None:
        word = ~base if base < 0 else base + (addr >> PAGE_SHIFT & LANE_MASK)
        entry = tables.words[word]
        if entry:
            if access & WRITE and not entry & tables.fmt.write:
                _write_to_present(mm, area, addr, word, entry)
            return None  # else: somebody else's fault has repaired it
    if area.cache is None:
        _zero_pages(mm, area, addr, base)
        return None
    return _file_pages(mm, area, addr, access)


# ---- anonymous memory


def _zero_pages(mm: AddressSpace, area: Area, addr: int, base: int | None) -> None:
    tables, policy = mm.tables, mm.policy
    block = addr >> BLOCK_SHIFT
    if base is None:
        if policy.huge and _may_be_large(mm, area, block) and _map_large(mm, area, block):
            return
        base = tables.make(block)
    frames = tables.frames
    first, pages = _empty_around(mm, area, addr, base)
    order = (pages - 1).bit_length()
    try:
        pfn = frames.alloc(order)
    except OutOfFrames:
        if not order:
            raise
        first, pages, order = addr >> PAGE_SHIFT & LANE_MASK, 1, 0
        pfn = frames.alloc()
    if pages < 1 << order:
        frames.put_run(pfn + pages, (1 << order) - pages)
    tables.fill(base + first, pfn << tables.fmt.pfn_shift | tables.rw[area.prot], pages)
    mm.rss_anon += pages
    mm.minflt += 1


def _empty_around(mm: AddressSpace, area: Area, addr: int, base: int) -> tuple[int, int]:
    """(first lane, lanes) of what is not mapped yet around `addr`, within the area and policy's aligned chunk."""
    lane = addr >> PAGE_SHIFT & LANE_MASK
    around = mm.policy.anon_around_pages
    if around == 1 or area.flags & VM_RAND_READ:
        return lane, 1
    block_va = addr >> BLOCK_SHIFT << BLOCK_SHIFT
    first = max(lane & -around, (area.start - block_va) >> PAGE_SHIFT)
    last = min((lane & -around) + around, (area.end - block_va) >> PAGE_SHIFT)
    present = mm.tables.words[base + first : base + last].tolist()
    if not any(present):
        return first, last - first
    low = high = lane
    while low > first and not present[low - 1 - first]:
        low -= 1
    while high + 1 < last and not present[high + 1 - first]:
        high += 1
    return low, high + 1 - low


def _may_be_large(mm: AddressSpace, area: Area, block: int) -> bool:
    """The area holds the whole block, wants large pages, and memory is not half full."""
    va = block << BLOCK_SHIFT
    if va < area.start or va + BLOCK_SIZE > area.end or area.flags & (VM_NOHUGEPAGE | VM_RAND_READ):
        return False
    frames = mm.tables.frames
    return bool(area.flags & VM_HUGEPAGE) or 2 * frames.used_pages < frames.limit_pages


def _map_large(mm: AddressSpace, area: Area, block: int) -> bool:
    tables = mm.tables
    slot = tables.slot(block)
    try:
        pfn = tables.frames.alloc(BLOCK_ORDER)
    except OutOfFrames:
        return False
    tables.words[slot] = pfn << tables.fmt.pfn_shift | tables.rw[area.prot] | tables.fmt.large
    tables.blocks[block] = ~slot
    mm.rss_anon += BLOCK_PAGES
    mm.minflt += 1
    return True


# ---- files


def _file_pages(mm: AddressSpace, area: Area, addr: int, access: int) -> Signal | None:
    cache = area.cache
    assert cache is not None
    index = (addr - area.start + area.offset) >> PAGE_SHIFT
    if index << PAGE_SHIFT >= cache.size:
        return SIGBUS, BUS_ADRERR, addr
    tables = mm.tables
    base = tables.blocks.get(addr >> BLOCK_SHIFT)
    if base is None:
        base = tables.make(addr >> BLOCK_SHIFT)  # first: it may reclaim pages that are not mapped yet
    if index in cache.pages:
        mm.minflt += 1
    else:
        mm.majflt += 1
        try:
            cache.frame(index)
        except Errno:  # what is behind the file cannot be read
            return SIGBUS, BUS_ADRERR, addr
    shared = area.flags & VM_SHARED
    if access & WRITE and not shared:
        copy_on_write(mm, area, addr, base)
    elif access & WRITE:
        bits = cache.frame(index, write=True) << tables.fmt.pfn_shift | tables.rw[area.prot] | tables.fmt.soft_file
        tables.words[base + (addr >> PAGE_SHIFT & LANE_MASK)] = bits
        mm.rss_file += 1
    _map_around(mm, area, addr, base)
    return None


def _map_around(mm: AddressSpace, area: Area, addr: int, base: int) -> None:
    """Map the resident pages around `addr` that are not mapped yet, so that reading them needs no fault."""
    cache, tables = area.cache, mm.tables
    assert cache is not None
    fmt = tables.fmt
    lane = addr >> PAGE_SHIFT & LANE_MASK
    around = 1 if area.flags & VM_RAND_READ else mm.policy.file_around_pages
    block_va = addr >> BLOCK_SHIFT << BLOCK_SHIFT
    first = max(lane & -around, (area.start - block_va) >> PAGE_SHIFT)
    last = min((lane & -around) + around, (area.end - block_va) >> PAGE_SHIFT)
    index = (block_va + (first << PAGE_SHIFT) - area.start + area.offset) >> PAGE_SHIFT
    bits = tables.ro[area.prot] | fmt.soft_file
    if not area.flags & VM_SHARED:
        bits |= fmt.soft_cow
    elif not cache.tracked:
        bits = tables.rw[area.prot] | fmt.soft_file
    here = tables.mem[(base + first) << 3 : (base + last) << 3]
    frames = list(map(cache.pages.get, range(index, index + last - first)))
    pfn = frames[0]
    if pfn is not None and frames == list(range(pfn, pfn + last - first)) and not any(here):
        here[:] = tables.consecutive(pfn << fmt.pfn_shift | bits, last - first)
        mm.rss_file += last - first
        return
    words, shift = tables.words, fmt.pfn_shift
    for word, pfn in enumerate(frames, base + first):
        if pfn is not None and not words[word]:
            words[word] = pfn << shift | bits
            mm.rss_file += 1


# ---- writes to what may only be read so far


def _write_to_present(mm: AddressSpace, area: Area, addr: int, word: int, entry: int) -> None:
    """The area may be written, the leaf may not: a page to be copied, or a file's page that becomes dirty."""
    tables = mm.tables
    fmt = tables.fmt
    mm.minflt += 1
    if area.flags & VM_SHARED:
        if area.cache is not None:
            area.cache.frame((addr - area.start + area.offset) >> PAGE_SHIFT, write=True)
        tables.words[word] = entry | fmt.write | fmt.dirty
        return
    if not entry & fmt.soft_cow:
        tables.words[word] = entry | fmt.write | fmt.dirty
        return
    base = tables.blocks[addr >> BLOCK_SHIFT]
    if base < 0:
        pfn = fmt.pfn(entry)
        if tables.counts[pfn : pfn + BLOCK_PAGES].count(1) == BLOCK_PAGES:  # nobody shares it any more
            tables.words[word] = entry & ~fmt.soft_cow | fmt.write | fmt.dirty
            return
        base = tables.split(addr >> BLOCK_SHIFT)
    copy_on_write(mm, area, addr, base)


def copy_on_write(mm: AddressSpace, area: Area, addr: int, base: int) -> None:
    """Give a private area its own, writable page at `addr`; and its neighbours, as far as policy wants them.

    A page that nobody shares any more is not copied. Where the page is not mapped yet, the source is the cache's page.
    """
    tables = mm.tables
    block_va = addr >> BLOCK_SHIFT << BLOCK_SHIFT
    lane = addr >> PAGE_SHIFT & LANE_MASK
    around = mm.policy.cow_around_pages
    first = max(lane & -around, (area.start - block_va) >> PAGE_SHIFT)
    last = min((lane & -around) + around, (area.end - block_va) >> PAGE_SHIFT)
    sources = _sources(mm, area, block_va, base, first, last)
    if not sources:
        return
    try:
        _replace(mm, area, block_va, base, sources, _frames_for(mm, sources, lane))
    finally:
        for _, pfn, _ in sources:
            tables.frames.put(pfn)


def _sources(
    mm: AddressSpace, area: Area, block_va: int, base: int, first: int, last: int
) -> list[tuple[int, int, int]]:
    """(lane, frame to copy, leaf there now) for each page to copy, its frame held; what is exclusive becomes writable."""
    tables = mm.tables
    fmt, counts = tables.fmt, tables.counts
    found = []
    cached = area.cache.pages if area.cache is not None else {}
    index = (block_va + (first << PAGE_SHIFT) - area.start + area.offset) >> PAGE_SHIFT
    for lane, entry in enumerate(tables.words[base + first : base + last].tolist(), first):
        if entry & fmt.soft_cow:
            pfn = (entry & fmt.pfn_mask) >> fmt.pfn_shift
            if counts[pfn] == 1 and not entry & fmt.soft_file:
                tables.words[base + lane] = entry & ~fmt.soft_cow | fmt.write | fmt.dirty
            else:
                counts[pfn] += 1
                found.append((lane, pfn, entry))
        elif not entry:
            source = cached.get(index + lane - first)
            if source is not None:
                counts[source] += 1
                found.append((lane, source, 0))
    return found


def _frames_for(mm: AddressSpace, sources: list[tuple[int, int, int]], lane: int) -> list[int]:
    """A frame for each source, consecutive if possible. When memory is short, `sources` shrinks to the page at `lane`."""
    frames = mm.tables.frames
    count = len(sources)
    if count > 1:
        try:
            order = (count - 1).bit_length()
            pfn = frames.alloc(order, zero=False)
            if count < 1 << order:
                frames.put_run(pfn + count, (1 << order) - count)
            return list(range(pfn, pfn + count))
        except OutOfFrames:
            for other in [each for each in sources if each[0] != lane]:
                frames.put(other[1])
                sources.remove(other)
            if not sources:  # the page itself was exclusive
                return []
    return [frames.alloc(zero=False)]


def _replace(
    mm: AddressSpace, area: Area, block_va: int, base: int, sources: list[tuple[int, int, int]], new: list[int]
) -> None:
    """Copy the sources to `new` frames, map these, and let go of the leaves they replace."""
    tables = mm.tables
    fmt, mem, words = tables.fmt, tables.mem, tables.words
    bits = tables.rw[area.prot]
    old: list[Run] = []
    for (lane, source, entry), pfn in zip(sources, new, strict=True):
        to, start = pfn << PAGE_SHIFT, source << PAGE_SHIFT
        mem[to : to + PAGE_SIZE] = mem[start : start + PAGE_SIZE]
        words[base + lane] = pfn << fmt.pfn_shift | bits
        mm.rss_anon += 1
        if entry:
            old.append((lane, 0 if entry & fmt.soft_file else source))
            if entry & fmt.soft_file:
                mm.rss_file -= 1
            else:
                mm.rss_anon -= 1
    mm.cow_pages += len(new)
    if old:
        mm.forget()
        mm.space.flush(block_va + (old[0][0] << PAGE_SHIFT), block_va + ((old[-1][0] + 1) << PAGE_SHIFT))
        for _, source in old:
            if source:
                tables.frames.put(source)
