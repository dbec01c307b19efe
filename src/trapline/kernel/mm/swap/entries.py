"""The entries of a space whose pages are in swap: who they are, and bringing them back."""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.swap.fault import swap_in
from trapline.kernel.mm.tables import BLOCK_SHIFT, SLOT_SHIFT
from trapline.machine.contract import READ
from trapline.machine.paging.entry import PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area
    from trapline.kernel.mm.tables import PageTables


def swapped(tables: PageTables, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(address, slot) of each page in [start, end) that is in swap, in order. Large leaves stay whole."""
    for block in tables.in_range(start, end) if tables.swapped else ():
        base, va = tables.blocks[block], block << BLOCK_SHIFT
        if base < 0:
            continue
        first, last = (max(va, start) - va) >> PAGE_SHIFT, (min(va + (1 << BLOCK_SHIFT), end) - va) >> PAGE_SHIFT
        for lane, entry in enumerate(tables.words[base + first : base + last].tolist(), first):
            if entry and not entry & tables.fmt.present:
                yield va + (lane << PAGE_SHIFT), entry >> SLOT_SHIFT


def bring_back(mm: AddressSpace, area: Area, start: int, end: int) -> bool:
    """Bring back private pages of [start, end), within `area`, as memory permits; whether all are back. That is no fault."""
    tables = mm.tables
    before = mm.minflt, mm.majflt
    try:
        for va, _ in list(swapped(tables, start, end)):
            if not tables.entry(va) & tables.fmt.present and not swap_in(mm, area, va, READ, tables.blocks[va >> BLOCK_SHIFT]):
                return False
    except OutOfFrames:
        return False
    finally:
        mm.minflt, mm.majflt = before
    return True
