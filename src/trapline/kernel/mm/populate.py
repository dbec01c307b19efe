"""Populate: fault in a whole range at once, for MAP_POPULATE, mlock(2) and MADV_POPULATE_*; and what exec does early."""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import PROT_EXEC, PROT_WRITE, VM_HUGETLB, VM_SHARED
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.fault import Signal, repair
from trapline.kernel.mm.page_cache import READAHEAD_MAX_PAGES
from trapline.kernel.mm.reclaim import EVICT_PAGES, evict
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, LANE_MASK
from trapline.machine.contract import READ, WRITE
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area, Mappable
    from trapline.kernel.mm.tables import PageTables

WRITTEN_EARLY = 16 * PAGE_SIZE  #: so much of its data a program probably writes before anything else
READ_EARLY = 512 * PAGE_SIZE  #: and so much of its text it may run
PRELOAD_PAGES = 512

MAPPED, UNMAPPED, DENIED, FAULTED, NO_MEMORY = range(5)


def populate(mm: AddressSpace, start: int, end: int, access: int = 0) -> int:
    """Make every page of [start, end) present for `access` (0: as the area's permissions suggest).

    MAPPED, or why it stopped: at a gap, at an area that denies the access, at a page that would raise SIGBUS, for memory.
    Nobody may rely on where a page of a program's is: room may have to be made.
    """
    frames = mm.ram.frames
    frames.kept = frames.swap.reserve if frames.swap is not None else 0
    try:
        return _populate(mm, start, end, access)
    finally:
        frames.kept = 0


def _populate(mm: AddressSpace, start: int, end: int, access: int) -> int:
    for area in mm.map.overlapping(start, end):
        if area.start > start:
            return UNMAPPED
        wanted = access or (WRITE if area.prot & PROT_WRITE and not area.flags & VM_SHARED else READ)
        if not (area.prot & wanted if access or wanted == WRITE else area.prot):
            if access:
                return DENIED
            start = area.end
            continue
        stop = min(area.end, end)
        try:
            if _populate_area(mm, area, start, stop, wanted) is not None:
                return FAULTED
        except OutOfFrames:
            return NO_MEMORY
        start = stop
    return MAPPED if start >= end else UNMAPPED


def preload(source: Mappable, offset: int = 0) -> None:
    """Text at `offset` of a file is about to be mapped: read the file's beginning in one piece, so that segments are runs.

    What little is there already, since ld.so(8) has looked at the headers, is read again with the rest if nobody uses it.
    """
    cache = source.page_cache
    if cache is not None and not cache.resident(offset >> PAGE_SHIFT):
        if len(cache.pages) <= READAHEAD_MAX_PAGES:
            cache.shrink(READAHEAD_MAX_PAGES)
        with suppress(Errno, OutOfFrames):  # then whoever needs a page is told
            cache.load(0, PRELOAD_PAGES)


def prefault(mm: AddressSpace, start: int, end: int) -> None:
    """A segment of a program is mapped: repair what it will touch at once, and let the machine load it early.

    What cannot be had is left to faults.
    """
    chunk = mm.policy.whole_pages << PAGE_SHIFT
    if chunk <= PAGE_SIZE:
        return
    end = end + PAGE_MASK & ~PAGE_MASK
    for area in mm.map.overlapping(start, end):
        low, high = max(area.start, start), min(area.end, end)
        if area.prot & PROT_WRITE:
            high = min(high, low + WRITTEN_EARLY)
            leaf = _populate_run(mm, area, low, high)
            if leaf is None:
                populate(mm, low, high, WRITE)
        elif area.prot:
            high = min(high, low + READ_EARLY)
            leaf = _map_run(mm, area, low, high)
            if leaf is None:
                at = low
                with suppress(OutOfFrames):
                    while at < high and repair(mm, area, at, READ) is None:
                        at = (at | chunk - 1) + 1
        else:
            continue
        mm.space.hint(low, high, leaf or 0)


def _map_run(mm: AddressSpace, area: Area, low: int, high: int) -> int | None:
    """Map [low, high) of a private area of a file to the cache's pages, if they are in consecutive frames: the first leaf.

    None, and nothing is mapped, if they are not, if some page is mapped already, or memory is short.
    """
    tables, cache = mm.tables, area.cache
    if cache is None or area.flags & (VM_SHARED | VM_HUGETLB):
        return None
    index, pages = (low - area.start + area.offset) >> PAGE_SHIFT, (high - low) >> PAGE_SHIFT
    try:
        stretches = _stretches(tables, low, high)  # first: it may reclaim pages that are not mapped yet
    except OutOfFrames:
        return None
    pfn = cache.in_a_row(index, pages)
    if pfn is None:
        return None
    if any(word < 0 or tables.mem[word << 3 : (word + count) << 3].tobytes() != bytes(count << 3) for word, count in stretches):
        return None
    fmt = tables.fmt
    leaf = first = pfn << fmt.pfn_shift | tables.ro[area.prot] | fmt.soft_file | fmt.soft_cow
    for word, count in stretches:
        tables.fill(word, leaf, count)
        leaf += count * tables.step
    mm.rss_file += pages
    mm.minflt += 1
    return first


def _stretches(tables: PageTables, low: int, high: int) -> list[tuple[int, int]]:
    """(first word, or -1 if a large leaf is there; pages) of [low, high) in each table, made if there is none. OutOfFrames."""
    found = []
    while low < high:
        end = min((low | BLOCK_SIZE - 1) + 1, high)
        block = low >> BLOCK_SHIFT
        base = tables.blocks.get(block)
        if base is None:
            base = tables.make(block)
        found.append((base + (low >> PAGE_SHIFT & LANE_MASK) if base >= 0 else -1, (end - low) >> PAGE_SHIFT))
        low = end
    return found


def _populate_run(mm: AddressSpace, area: Area, low: int, high: int) -> int | None:
    """Give [low, high) of a private, writable area pages of its own in consecutive frames: one mapping, and no fault.

    The first leaf; 0 if all of it has such pages already, but not in one run. None, and nothing is changed, if some pages are
    there, a page of the file is not to be had, or memory is short.
    """
    tables, block = mm.tables, low >> BLOCK_SHIFT
    if area.flags & (VM_SHARED | VM_HUGETLB) or high - 1 >> BLOCK_SHIFT != block:
        return None
    lane, pages = low >> PAGE_SHIFT & LANE_MASK, (high - low) >> PAGE_SHIFT
    base = tables.blocks.get(block)
    if base is not None:
        present = tables.words[base + lane : base + lane + pages].tolist() if base >= 0 else [0, 1]
        if any(present):
            leaf: int = present[0]
            if present == list(range(leaf, leaf + pages * tables.step, tables.step)) and leaf & tables.fmt.write:
                return leaf
            return 0 if all(entry & tables.fmt.write for entry in present) else None
    frames, order = tables.frames, (pages - 1).bit_length()
    try:
        word = (base if base is not None else tables.make(block)) + lane
        pfn = frames.alloc(order, zero=area.cache is None)
    except OutOfFrames:
        return None
    if pages < 1 << order:
        frames.put_run(pfn + pages, (1 << order) - pages)
    if area.cache is not None and not _copy_of_file(mm, area, low, pages, pfn):
        frames.put_run(pfn, pages)
        return None
    leaf = pfn << tables.fmt.pfn_shift | tables.rw[area.prot]
    tables.fill(word, leaf, pages)
    mm.rss_anon += pages
    mm.minflt += 1
    return leaf


def _copy_of_file(mm: AddressSpace, area: Area, low: int, pages: int, pfn: int) -> bool:
    """Copy pages of the area's file to frames from `pfn` on; False if one is not to be had."""
    cache = area.cache
    assert cache is not None
    index = (low - area.start + area.offset) >> PAGE_SHIFT
    try:
        cache.load(index, index + pages)
    except (Errno, OutOfFrames):
        return False
    sources = list(map(cache.pages.get, range(index, index + pages)))
    mem, to = mm.tables.mem, pfn << PAGE_SHIFT
    first = sources[0]
    if first is not None and sources == list(range(first, first + pages)):
        size, source = pages << PAGE_SHIFT, first << PAGE_SHIFT
        mem[to : to + size] = mem[source : source + size]
    else:
        for each in sources:
            if each is None:
                return False
            mem[to : to + PAGE_SIZE] = mem[each << PAGE_SHIFT : (each + 1) << PAGE_SHIFT]
            to += PAGE_SIZE
    mm.cow_pages += pages
    return True


def prefault_kin(mm: AddressSpace, area: Area) -> None:
    """A page of `area`, a private mapping of a file, was needed for the first time: prefault the library that it is part of.

    That is the neighbours that map the same open file, as ld.so(8) places them, if one of them is executable: it will
    touch most of them, and each would be a fault.
    """
    areas = mm.map.areas
    first = last = mm.map.index_from(area.start)
    while first and _follows(areas[first - 1], areas[first]):
        first -= 1
    while last + 1 < len(areas) and _follows(areas[last], areas[last + 1]):
        last += 1
    kin = areas[first : last + 1]
    if any(each.prot & PROT_EXEC for each in kin):
        for each in kin:
            if not each.known:
                each.known = True
                prefault(mm, each.start, each.end)


def _follows(area: Area, other: Area) -> bool:
    """`other` begins where `area` ends, and both are of one library, whose data come last."""
    if area.end != other.start or area.file is not other.file or (area.flags | other.flags) & (VM_SHARED | VM_HUGETLB):
        return False
    return not area.prot & PROT_WRITE


def _populate_area(mm: AddressSpace, area: Area, start: int, end: int, access: int) -> Signal | None:
    tables = mm.tables
    needed = tables.fmt.present | (tables.fmt.write if access == WRITE else 0)
    while start < end:
        if tables.entry(start) & needed != needed:
            try:
                signal = repair(mm, area, start, access)
            except OutOfFrames:
                if mm.ram.frames.swap is None or not evict(mm.ram, EVICT_PAGES):
                    raise
                continue
            if signal is not None:
                return signal
        large = tables.blocks.get(start >> BLOCK_SHIFT, 0) < 0
        start = (start | BLOCK_SIZE - 1) + 1 if large else start + PAGE_SIZE
    return None
