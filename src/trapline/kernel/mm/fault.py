"""The repair of a page fault that its area permits: zero pages, pages of files, copies on write.

How many pages one fault repairs is `Policy`: more and more for whoever goes on where the last one ended. Everything is
mapped accessed and, where it may be written, dirty.
Measured budget: 5 µs for a chunk of zero pages, 1 µs for each page copied.

Invariants:
- a fault on a page makes that page accessible, or says which signal, or raises OutOfFrames; its neighbours are a bonus;
- a leaf that is replaced by one for another frame is flushed before the old frame is put.
"""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import (
    PROT_EXEC,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_LOCKONFAULT,
    VM_NOHUGEPAGE,
    VM_RAND_READ,
    VM_SHARED,
)
from trapline.kernel.mm import hugetlb
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.hugepages import ADVISED, NEVER, pool_of
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, LANE_MASK
from trapline.machine.contract import WRITE
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.paging.lanes import LANES
from trapline.machine.ram import BLOCK_ORDER, BLOCK_PAGES

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area

SIGBUS, BUS_ADRERR = 7, 2
SIGSEGV, SEGV_MAPERR, SEGV_ACCERR = 11, 1, 2

Signal = tuple[int, int, int]  #: (signo, si_code, si_addr)

UNMAPPED, OF_FILE, ANONYMOUS = range(3)  #: a page to be copied is the cache's, not mapped here; the cache's, mapped; neither
Source = tuple[int, int, int, int]  #: consecutive pages to copy: (first lane, first frame, pages, kind)


def repair(mm: AddressSpace, area: Area, addr: int, access: int) -> Signal | None:
    """Make the page at `addr` accessible; None, or the signal that says why not. Raises OutOfFrames."""
    tables = mm.tables
    base = tables.blocks.get(addr >> BLOCK_SHIFT)
    if base is not None:
        word = ~base if base < 0 else base + (addr >> PAGE_SHIFT & LANE_MASK)
        entry = tables.words[word]
        if entry & tables.fmt.present:
            if access & WRITE and not entry & tables.fmt.write:
                if area.flags & VM_HUGETLB:
                    return None if hugetlb.write(mm, area, addr) else (SIGBUS, BUS_ADRERR, addr)
                _write_to_present(mm, area, addr, word, entry)
            return None  # else: somebody else's fault has repaired it
        if entry:
            from trapline.kernel.mm.swap.fault import swap_in

            return None if swap_in(mm, area, addr, access, base) else (SIGBUS, BUS_ADRERR, addr)
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
    """(first lane, lanes) of what is not mapped yet around `addr`, within the area and as policy wants it."""
    first, last = _chunk(mm, area, addr, _share(mm, area))
    if last - first == 1:
        return first, 1
    lane = addr >> PAGE_SHIFT & LANE_MASK
    present = mm.tables.words[base + first : base + last].tolist()
    if not any(present):
        return first, last - first
    low = high = lane
    while low > first and not present[low - 1 - first]:
        low -= 1
    while high + 1 < last and not present[high + 1 - first]:
        high += 1
    return low, high + 1 - low


def _share(mm: AddressSpace, area: Area) -> int:
    """How many pages around a fault: where policy wants it, more in a larger area, so that its pages lie together in RAM."""
    around, most = mm.policy.anon_around_pages, mm.policy.anon_most_pages
    if most <= around:
        return around
    half = (area.end - area.start) >> PAGE_SHIFT + 1
    return around if half < 2 * around else min(most, 1 << half.bit_length() - 1)


def _chunk(mm: AddressSpace, area: Area, addr: int, around: int) -> tuple[int, int]:
    """(first lane, last lane + 1) that a fault at `addr` is about: an aligned chunk of `around` pages, or what follows.

    A fault where the last one's chunk ended goes on with it: twice as many pages as then, from `addr` on.
    """
    lane = addr >> PAGE_SHIFT & LANE_MASK
    if around == 1 or area.flags & (VM_RAND_READ | VM_LOCKONFAULT):
        return lane, lane + 1
    block_va = addr >> BLOCK_SHIFT << BLOCK_SHIFT
    end = min(LANES, (area.end - block_va) >> PAGE_SHIFT)
    if block_va + (lane << PAGE_SHIFT) == area.streak_end:
        pages = min(2 * area.streak_pages, mm.policy.streak_pages)
        first, last = lane, min(lane + max(pages, 1), end)
    else:
        pages = around
        first = max(lane & -around, (area.start - block_va) >> PAGE_SHIFT)
        last = min((lane & -around) + around, end)
    area.streak_end, area.streak_pages = block_va + (last << PAGE_SHIFT), pages
    return first, last


def _may_be_large(mm: AddressSpace, area: Area, block: int) -> bool:
    """The area holds the whole block, wants large pages, and memory is not half full."""
    va = block << BLOCK_SHIFT
    if va < area.start or va + BLOCK_SIZE > area.end or area.flags & (VM_NOHUGEPAGE | VM_RAND_READ):
        return False
    frames, rule = mm.tables.frames, pool_of(mm.ram).transparent
    if area.flags & VM_HUGEPAGE:
        return rule != NEVER
    return rule < ADVISED and 2 * frames.used_pages < frames.limit_pages


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
    if area.flags & VM_HUGETLB:
        return None if hugetlb.repair(mm, area, addr, access) else (SIGBUS, BUS_ADRERR, addr)
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
        if cache.stored(index):
            mm.majflt += 1
        else:
            mm.minflt += 1
        try:
            _read_around(mm, area, addr)
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


def _around(mm: AddressSpace, area: Area) -> int:
    """How many pages around a fault on a page of a file are worth looking at."""
    policy = mm.policy
    if area.flags & VM_RAND_READ:
        return 1
    if not area.flags & VM_SHARED and (area.prot & PROT_EXEC or area.end - area.start <= policy.whole_pages << PAGE_SHIFT):
        return max(policy.whole_pages, policy.file_around_pages)
    return policy.file_around_pages


def _lanes_around(area: Area, addr: int, around: int) -> tuple[int, int]:
    """(first lane, last lane + 1) of the aligned chunk around `addr`, as far as the area holds it."""
    block_va = addr >> BLOCK_SHIFT << BLOCK_SHIFT
    first = (addr >> PAGE_SHIFT & LANE_MASK) & -around
    return max(first, (area.start - block_va) >> PAGE_SHIFT), min(first + around, (area.end - block_va) >> PAGE_SHIFT)


def _read_around(mm: AddressSpace, area: Area, addr: int) -> None:
    """Read a small or executable mapping in large pieces, so that its frames are consecutive. No matter if that fails."""
    around = _around(mm, area)
    if around <= mm.policy.file_around_pages or area.cache is None:
        return
    first, last = _lanes_around(area, addr, around)
    index = ((addr >> BLOCK_SHIFT << BLOCK_SHIFT) - area.start + area.offset) >> PAGE_SHIFT
    with suppress(Errno, OutOfFrames):
        area.cache.load(index + first, index + last)


def _map_around(mm: AddressSpace, area: Area, addr: int, base: int) -> None:
    """Map the resident pages around `addr` that are not mapped yet, so that reading them needs no fault."""
    cache, tables = area.cache, mm.tables
    assert cache is not None
    fmt = tables.fmt
    block_va = addr >> BLOCK_SHIFT << BLOCK_SHIFT
    first, last = _lanes_around(area, addr, _around(mm, area))
    index = (block_va + (first << PAGE_SHIFT) - area.start + area.offset) >> PAGE_SHIFT
    bits = tables.ro[area.prot] | fmt.soft_file
    if not area.flags & VM_SHARED:
        bits |= fmt.soft_cow
    elif not cache.tracked:
        bits = tables.rw[area.prot] | fmt.soft_file
    here = tables.mem[(base + first) << 3 : (base + last) << 3]
    frames = list(map(cache.pages.get, range(index, index + last - first)))
    pfn = frames[0]
    if pfn is not None and frames == list(range(pfn, pfn + last - first)) and not here.tobytes().strip(b"\0"):
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
    first, last = _chunk(mm, area, addr, mm.policy.cow_around_pages)
    if tables.frames.swap is not None:
        tables.frames.swap.reuse(tables, base + first, base + last)
    sources = _whole_chunk(mm, base, first, last)
    if sources is None:
        sources = _sources(mm, area, block_va, base, first, last)
    if not sources:
        return
    for _, pfn, pages, _ in sources:
        tables.frames.get_run(pfn, pages)
    try:
        _replace(mm, area, block_va, base, sources, lane)
    finally:
        for _, pfn, pages, _ in sources:
            tables.frames.put_run(pfn, pages)


def _whole_chunk(mm: AddressSpace, base: int, first: int, last: int) -> list[Source] | None:
    """`_sources` for consecutive frames that are all shared, or all exclusive, as fork and streaks leave them; else None."""
    tables = mm.tables
    fmt = tables.fmt
    entry, pages = tables.words[base + first], last - first
    if not entry & fmt.soft_cow or entry & fmt.soft_file:
        return None
    if tables.mem[(base + first) << 3 : (base + last) << 3].tobytes() != tables.consecutive(entry, pages):
        return None
    pfn = (entry & fmt.pfn_mask) >> fmt.pfn_shift
    counts = tables.counts[pfn : pfn + pages]
    if min(counts) > 1:
        return [(first, pfn, pages, ANONYMOUS)]
    if max(counts) > 1:
        return None
    tables.fill(base + first, entry & ~fmt.soft_cow | fmt.write | fmt.dirty, pages)
    return []


def _sources(mm: AddressSpace, area: Area, block_va: int, base: int, first: int, last: int) -> list[Source]:
    """The runs of pages to copy; what is exclusive becomes writable."""
    tables = mm.tables
    fmt, counts = tables.fmt, tables.counts
    found: list[Source] = []
    cached = area.cache.pages if area.cache is not None else {}
    index = (block_va + (first << PAGE_SHIFT) - area.start + area.offset) >> PAGE_SHIFT
    for lane, entry in enumerate(tables.words[base + first : base + last].tolist(), first):
        if entry & fmt.soft_cow:
            pfn = (entry & fmt.pfn_mask) >> fmt.pfn_shift
            kind = OF_FILE if entry & fmt.soft_file else ANONYMOUS
            if counts[pfn] == 1 and kind == ANONYMOUS:
                tables.words[base + lane] = entry & ~fmt.soft_cow | fmt.write | fmt.dirty
                continue
        elif entry or (index + lane - first) not in cached:
            continue
        else:
            pfn, kind = cached[index + lane - first], UNMAPPED
        if found:
            start, run, pages, same = found[-1]
            if start + pages == lane and run + pages == pfn and same == kind:
                found[-1] = start, run, pages + 1, kind
                continue
        found.append((lane, pfn, 1, kind))
    return found


def _frames_for(mm: AddressSpace, sources: list[Source], lane: int) -> tuple[int, list[Source]]:
    """Consecutive frames for the sources; when memory is short, a frame for the page at `lane` only. (first frame, sources)"""
    frames = mm.tables.frames
    count = sum(pages for _, _, pages, _ in sources)
    order = (count - 1).bit_length()
    try:
        pfn = frames.alloc(order, zero=False)
    except OutOfFrames:
        if not order:
            raise
        for start, run, pages, kind in sources:
            if start <= lane < start + pages:
                return frames.alloc(zero=False), [(lane, run + lane - start, 1, kind)]
        return 0, []  # the page itself was exclusive
    if count < 1 << order:
        frames.put_run(pfn + count, (1 << order) - count)
    return pfn, sources


def _replace(mm: AddressSpace, area: Area, block_va: int, base: int, sources: list[Source], lane: int) -> None:
    """Copy the sources to new frames, map these, and let go of the leaves they replace."""
    tables = mm.tables
    mem, shift, bits = tables.mem, tables.fmt.pfn_shift, tables.rw[area.prot]
    pfn, sources = _frames_for(mm, sources, lane)
    old: list[Source] = []
    for each in sources:
        first, source, pages, kind = each
        to, start, size = pfn << PAGE_SHIFT, source << PAGE_SHIFT, pages << PAGE_SHIFT
        mem[to : to + size] = mem[start : start + size]
        tables.fill(base + first, pfn << shift | bits, pages)
        pfn += pages
        mm.cow_pages += pages
        if kind != ANONYMOUS:
            mm.rss_anon += pages
        if kind == OF_FILE:
            mm.rss_file -= pages
        if kind != UNMAPPED:
            old.append(each)
    if not old:
        return
    mm.forget()
    first, last = old[0][0], old[-1][0] + old[-1][2]
    mm.space.reload(block_va + (first << PAGE_SHIFT), block_va + (last << PAGE_SHIFT))
    for _, source, pages, kind in old:
        if kind == ANONYMOUS:
            tables.frames.put_run(source, pages)
