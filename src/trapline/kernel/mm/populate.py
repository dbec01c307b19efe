"""Populate: fault in a whole range at once, for MAP_POPULATE, mlock(2) and MADV_POPULATE_*; and what exec does early."""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import PROT_WRITE, VM_SHARED
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.fault import Signal, repair
from trapline.kernel.mm.policy import DEFAULT
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE
from trapline.machine.contract import READ, WRITE
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area, Mappable

WRITTEN_EARLY = 16 * PAGE_SIZE  #: so much of its data a program probably writes before anything else

MAPPED, UNMAPPED, DENIED, FAULTED, NO_MEMORY = range(5)


def populate(mm: AddressSpace, start: int, end: int, access: int = 0) -> int:
    """Make every page of [start, end) present for `access` (0: as the area's permissions suggest).

    MAPPED, or why it stopped: at a gap, at an area that denies the access, at a page that would raise SIGBUS, for memory.
    """
    for area in mm.map.overlapping(start, end):
        if area.start > start:
            return UNMAPPED
        wanted = access or (WRITE if area.prot & PROT_WRITE and not area.flags & VM_SHARED else READ)
        if not (area.prot if wanted == READ else area.prot & wanted):
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


def preload(source: Mappable) -> None:
    """A program is about to be mapped: read its beginning in one piece, so that its segments are runs of frames."""
    cache = source.page_cache
    if cache is not None and not cache.resident(0):
        with suppress(Errno, OutOfFrames):  # then whoever needs a page is told
            cache.load(0, DEFAULT.whole_pages)


def prefault(mm: AddressSpace, start: int, end: int) -> None:
    """A segment of a program is mapped: repair what it will touch at once, and let the machine load it early.

    What cannot be had is left to faults.
    """
    most = mm.policy.whole_pages << PAGE_SHIFT
    if most <= PAGE_SIZE:
        return
    end = end + PAGE_MASK & ~PAGE_MASK
    for area in mm.map.overlapping(start, end):
        low, high = max(area.start, start), min(area.end, end)
        if area.prot & PROT_WRITE:
            high = min(high, low + WRITTEN_EARLY)
            populate(mm, low, high, WRITE)
        elif area.prot:
            high = min(high, low + most)
            with suppress(OutOfFrames):
                repair(mm, area, low, READ)
        mm.space.hint(low, high)


def _populate_area(mm: AddressSpace, area: Area, start: int, end: int, access: int) -> Signal | None:
    tables = mm.tables
    needed = tables.fmt.present | (tables.fmt.write if access == WRITE else 0)
    while start < end:
        if tables.entry(start) & needed != needed:
            signal = repair(mm, area, start, access)
            if signal is not None:
                return signal
        large = tables.blocks.get(start >> BLOCK_SHIFT, 0) < 0
        start = (start | BLOCK_SIZE - 1) + 1 if large else start + PAGE_SIZE
    return None
