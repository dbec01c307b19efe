"""Seams: how areas are put in, split where a call needs an edge, and merged again where nothing tells them apart."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL
from trapline.abi.mman import VM_HUGETLB
from trapline.kernel.mm.area import Area
from trapline.kernel.mm.errors import OutOfFrames, OutOfMemory
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace


def insert(mm: AddressSpace, area: Area) -> None:
    """Add an area to its space and merge it with neighbours it continues."""
    mm.account(area, area.pages)
    merge_at(mm, mm.map.insert(area))


def merge_at(mm: AddressSpace, i: int) -> int:
    """Merge area number i with its neighbours if they could be one; the number of the area that holds it now."""
    areas, starts = mm.map.areas, mm.map.starts
    if i + 1 < len(areas) and areas[i].joins(areas[i + 1]):
        _swallow(areas, starts, i)
    if i > 0 and areas[i - 1].joins(areas[i]):
        i -= 1
        _swallow(areas, starts, i)
    return i


def _swallow(areas: list[Area], starts: list[int], i: int) -> None:
    gone = areas.pop(i + 1)
    del starts[i + 1]
    areas[i].end = gone.end
    gone.close()


def merge_range(mm: AddressSpace, start: int, end: int) -> None:
    """Merge whatever can be in [start, end) and at its edges."""
    i = mm.map.index_from(max(0, start - 1))
    while i < len(mm.map.areas) and mm.map.areas[i].start <= end:
        i = merge_at(mm, i) + 1


def split(mm: AddressSpace, at: int) -> None:
    """Let an area boundary be at `at`, if an area is there; and a boundary of leaves. Raises ENOMEM."""
    area = mm.map.find(at)
    if area is None or area.start == at:
        return
    if area.flags & VM_HUGETLB and at & (BLOCK_SIZE - 1):
        raise EINVAL("inside a huge page")
    mm.admit()
    split_leaf(mm, at)
    upper = area.part(at, area.end)
    area.end = at
    mm.map.insert(upper)


def split_leaf(mm: AddressSpace, at: int) -> None:
    """Let no large leaf straddle `at`."""
    if at & (BLOCK_SIZE - 1) and mm.tables.blocks.get(at >> BLOCK_SHIFT, 0) < 0:
        try:
            mm.tables.split(at >> BLOCK_SHIFT)
        except OutOfFrames:
            raise OutOfMemory from None


def isolate(mm: AddressSpace, start: int, end: int) -> list[Area]:
    """The areas that make up what is mapped of [start, end), none reaching beyond. Raises ENOMEM."""
    split(mm, start)
    split(mm, end)
    return mm.map.overlapping(start, end)
