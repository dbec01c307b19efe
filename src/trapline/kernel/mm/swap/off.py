"""swapoff(2): everything that is in an area comes back.

Pages of files may have to go for that, and other pages elsewhere. If there is no room, the area stays: without what is back.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EIO, ENOMEM
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.reclaim import EVICT_PAGES, evict, reclaimer
from trapline.kernel.mm.swap.areas import AREA_SHIFT, Swap, SwapArea
from trapline.kernel.mm.swap.entries import swapped
from trapline.kernel.mm.swap.fault import swap_in
from trapline.kernel.mm.swap.shmem import SwappedCache
from trapline.kernel.mm.tables import BLOCK_SHIFT
from trapline.machine.contract import WRITE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace


def switch_off(swap: Swap, area: SwapArea) -> None:
    """Empty the area, and swap to it no more. ENOMEM if not all of it fits into memory and the other areas."""
    ends = reclaimer(swap.ram).ends
    while ends:
        ends.popleft()()
    swap.shrink(len(swap.cache))
    elsewhere = swap.total_pages - area.total - sum(each.used for each in swap.areas.values() if each is not area)
    if area.used > swap.frames.limit_pages - swap.frames.used_pages + elsewhere + _droppable(swap):
        raise ENOMEM("there is no room for what is there")
    accepted, area.accepts = area.accepts, False
    try:
        for mm in list(swap.holders):
            _empty_space(swap, area, mm)
        for cache in [each for each in swap.caches if isinstance(each, SwappedCache)]:
            _empty_cache(swap, area, cache)
        for slot in [each for each in swap.cache if each >> AREA_SHIFT == area.number]:
            swap.uncache(slot)
    except OutOfFrames:
        raise ENOMEM("there is no room for what is there") from None
    finally:
        area.accepts = accepted
    if area.used:
        raise AssertionError(f"{area.used} pages in swap belong to nobody")
    swap.remove(area)


def _droppable(swap: Swap) -> int:
    """At most so many clean pages of files could go."""
    return sum(len(cache.pages) - len(cache.dirty) for cache in reclaimer(swap.ram).caches)


def _empty_space(swap: Swap, area: SwapArea, mm: AddressSpace) -> None:
    tables = mm.tables
    for va, slot in list(swapped(tables, 0, mm.task_size)):
        if slot >> AREA_SHIFT != area.number or tables.entry(va) & tables.fmt.present:
            continue
        vma = mm.map.find(va)
        assert vma is not None
        before = mm.minflt, mm.majflt
        while True:
            try:
                if not swap_in(mm, vma, va, WRITE, tables.blocks[va >> BLOCK_SHIFT]):
                    raise EIO("a page could not be read")
                break
            except OutOfFrames:
                if not evict(swap.ram, EVICT_PAGES):
                    raise
            finally:
                mm.minflt, mm.majflt = before


def _empty_cache(swap: Swap, area: SwapArea, cache: SwappedCache) -> None:
    for index, slot in list(cache.swapped.items()):
        while slot >> AREA_SHIFT == area.number and index in cache.swapped:
            try:
                cache.bring(index)
            except OutOfFrames:
                if not evict(swap.ram, EVICT_PAGES):
                    raise
