"""How a private page comes back from swap: at the next access to it, with neighbours that are out too.

A page that is read keeps its slot, and its frame goes into the swap cache: unless it is written, it need not be stored again.
It is mapped read-only, as what is shared until written. A page that is written, and that nobody else has, gives its slot back.
Neighbours are mapped as accessed: else the clock, whose hand may be there, would take them before anybody can use them.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import VM_LOCKONFAULT, VM_RAND_READ
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.swap.areas import Swap
from trapline.kernel.mm.tables import BLOCK_SHIFT, LANE_MASK, SLOT_SHIFT, PageTables
from trapline.machine.contract import WRITE
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.paging.lanes import LANES

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area
    from trapline.machine.ram import Frames

AROUND_PAGES = 8  #: an aligned chunk of so many comes back at once, as with vm.page-cluster 3
MOST_PAGES = 64  #: whoever goes on where the last chunk ended gets twice as many each time, up to this


def swap_in(mm: AddressSpace, area: Area, addr: int, access: int, base: int) -> bool:
    """Bring back the page at `addr`, whose leaf table begins at `base`; False if it cannot be read. Raises OutOfFrames.

    If others share it, a write still has to fault once more.
    """
    tables = mm.tables
    swap: Swap = tables.frames.swap
    lane = addr >> PAGE_SHIFT & LANE_MASK
    major = tables.words[base + lane] >> SLOT_SHIFT not in swap.cache
    found = _frames_of(swap, tables, base, _lanes(swap, tables, area, addr, base), lane)
    try:
        swap.read([(slot, pfn) for _, slot, pfn in found if slot not in swap.cache])
    except Errno:
        for _, _, pfn in found:
            tables.frames.put(pfn)
        return False
    keep = not access & WRITE and swap.roomy
    for each, slot, pfn in found:
        tables.words[base + each] = _leaf(swap, tables, area.prot, slot, pfn, keep)
    tables.swapped -= len(found)
    mm.rss_anon += len(found)
    if major:
        mm.majflt += 1
    else:
        mm.minflt += 1
    return True


def _lanes(swap: Swap, tables: PageTables, area: Area, addr: int, base: int) -> list[int]:
    """The lanes to bring back: of `addr`, and of its neighbours in swap, if memory is not short."""
    lane = addr >> PAGE_SHIFT & LANE_MASK
    va = addr >> BLOCK_SHIFT << BLOCK_SHIFT
    if area.streak_pages and 0 <= va + (lane << PAGE_SHIFT) - area.streak_end < AROUND_PAGES << PAGE_SHIFT:  # some were there
        pages = min(2 * area.streak_pages, MOST_PAGES)
        first = lane
    else:
        pages = AROUND_PAGES
        first = max(lane & -AROUND_PAGES, (area.start - va) >> PAGE_SHIFT)
    if area.flags & (VM_RAND_READ | VM_LOCKONFAULT) or not swap.has_room(pages):
        return [lane]
    last = min((first & -AROUND_PAGES) + pages, LANES, (area.end - va) >> PAGE_SHIFT)
    area.streak_end, area.streak_pages = va + (last << PAGE_SHIFT), pages
    entries = tables.words[base + first : base + last].tolist()
    return [each for each, entry in enumerate(entries, first) if entry and not entry & 1]


def _frames_of(swap: Swap, tables: PageTables, base: int, lanes: list[int], lane: int) -> list[tuple[int, int, int]]:
    """(lane, slot, frame) of pages to bring back, `lane` among them: frames of the swap cache, or new ones; each with one more
    reference. Raises OutOfFrames."""
    frames, cache = swap.frames, swap.cache
    slots = {each: tables.words[base + each] >> SLOT_SHIFT for each in lanes}
    found = [(each, slot, cache[slot]) for each, slot in slots.items() if slot in cache]
    for _, _, pfn in found:
        frames.get(pfn)
    fresh = [each for each in lanes if slots[each] not in cache]
    try:
        new = take_frames(frames, len(fresh)) if fresh else []
    except OutOfFrames:
        if lane not in fresh:
            return found
        for _, _, pfn in found:
            frames.put(pfn)
        raise
    if len(new) < len(fresh) and lane in fresh:
        fresh = [lane, *(each for each in fresh if each != lane)]
    return found + [(each, slots[each], pfn) for each, pfn in zip(fresh, new, strict=False)]


def take_frames(frames: Frames, count: int) -> list[int]:
    """Up to `count` frames, and at least one, in as few runs as there are. Raises OutOfFrames."""
    found: list[int] = []
    size = count
    while len(found) < count:
        size = min(size, count - len(found))
        order = (size - 1).bit_length()
        try:
            pfn = frames.alloc(order, zero=False)
        except OutOfFrames:
            if order:
                size = 1 << order - 1
                continue
            if not found:
                raise
            break
        if size < 1 << order:
            frames.put_run(pfn + size, (1 << order) - size)
        found += range(pfn, pfn + size)
    return found


def _leaf(swap: Swap, tables: PageTables, prot: int, slot: int, pfn: int, keep: bool) -> int:
    """The leaf for a page that has come back to `pfn`, which takes the place of a reference to `slot`."""
    where = pfn << tables.fmt.pfn_shift
    if slot not in swap.cache and (keep or swap.count(slot) > 1):
        swap.keep(slot, pfn)
    swap.put(slot)
    if slot in swap.cache and not keep and swap.count(slot) == 1 and swap.frames.counts[pfn] == 2:
        swap.uncache(slot)
    if swap.cache.get(slot) == pfn:
        return where | tables.ro[prot] | tables.fmt.soft_cow
    return where | tables.rw[prot]
