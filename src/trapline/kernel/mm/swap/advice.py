"""MADV_COLD and MADV_PAGEOUT, madvise(2), on private memory and on shared memory without a file behind it."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.mman import VM_SHARED
from trapline.kernel.mm.swap.out import pass_block
from trapline.kernel.mm.swap.shmem import pass_window
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE
from trapline.machine.paging.entry import PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area


def age(mm: AddressSpace, area: Area, start: int, end: int) -> None:
    """What is there counts as not accessed."""
    _each_block(mm, start, end, force=False, only_age=True)


def page_out(mm: AddressSpace, area: Area, start: int, end: int) -> None:
    """What is there goes out, but for pages that other processes have too."""
    swap = mm.ram.frames.swap
    if not area.flags & VM_SHARED:
        _each_block(mm, start, end, force=True, only_age=False)
    elif area.cache is not None:
        first, last = (start - area.start + area.offset) >> PAGE_SHIFT, (end - area.start + area.offset) >> PAGE_SHIFT
        pass_window(swap, area.cache, first, last, force=True)


def _each_block(mm: AddressSpace, start: int, end: int, *, force: bool, only_age: bool) -> None:
    for block in mm.tables.in_range(start, end):
        va = block << BLOCK_SHIFT
        low, high = max(va, start), min(va + BLOCK_SIZE, end)
        if mm.tables.blocks[block] < 0 and high - low < BLOCK_SIZE and not force:
            continue
        pass_block(mm.ram.frames.swap, mm, low, high, force=force, only_age=only_age)
