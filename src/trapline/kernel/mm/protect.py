"""mprotect(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EACCES, EINVAL, ENOMEM
from trapline.abi.mman import (
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_NORESERVE,
    VM_SHARED,
)
from trapline.kernel.mm import leaves, mapping, seams
from trapline.kernel.mm.area import Area
from trapline.kernel.mm.populate import populate
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

_ALL = PROT_READ | PROT_WRITE | PROT_EXEC


def mprotect(mm: AddressSpace, addr: int, length: int, prot: int, implied: int = 0) -> None:
    """mprotect(2); areas that may have what is `implied` get that, too.

    On ENOMEM for a gap, or EACCES, the areas before it have been changed, as on Linux.
    """
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP or addr & PAGE_MASK:
        raise EINVAL
    if not length:
        return
    length = mapping.page_align(length)
    end = addr + length
    if end > mm.task_size:
        raise ENOMEM
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if prot & ~(_ALL | PROT_SEM):
        raise EINVAL
    prot &= _ALL
    area = mm.map.find(addr)
    if grows and area is None:
        areas = mm.map.overlapping(addr, end)
        area = areas[0] if areas else None
    if area is None:
        raise ENOMEM("not mapped")
    if grows == PROT_GROWSDOWN:
        if not area.flags & VM_GROWSDOWN:
            raise EINVAL
        addr = area.start
    elif grows:
        raise EINVAL("no area grows up")
    _protect(mm, addr, end, prot, implied)


def _protect(mm: AddressSpace, start: int, end: int, asked: int, implied: int) -> None:
    reached = start
    try:
        for area in mm.map.overlapping(start, end):
            if area.start > reached:
                break
            stop = min(area.end, end)
            prot = asked | implied & area.flags >> 4
            if area.prot != prot:
                if prot & ~(area.flags >> 4):  # VM_MAYREAD is PROT_READ << 4, and so on
                    raise EACCES
                _change(mm, area, max(area.start, start), stop, prot)
            reached = stop
    finally:
        seams.merge_range(mm, start, reached)
    if reached < end:
        raise ENOMEM("not mapped")


def _change(mm: AddressSpace, area: Area, start: int, end: int, prot: int) -> None:
    """Give [start, end), which is part of `area`, permissions `prot`."""
    old = area.prot
    pages = (end - start) >> PAGE_SHIFT
    account = prot & PROT_WRITE and not area.flags & (VM_SHARED | VM_NORESERVE | VM_ACCOUNT)
    if prot & PROT_WRITE and not old & PROT_WRITE and mapping.is_data(prot, area.flags):
        if (mm.data_pages + pages) << PAGE_SHIFT > mm.limits.data:
            raise ENOMEM("RLIMIT_DATA")
    if account and pages > mapping.all_pages(mm.ram.frames):
        raise ENOMEM("more than all memory")
    (part,) = seams.isolate(mm, start, end)
    mm.account(part, -pages)
    part.prot = prot
    if account:
        part.flags |= VM_ACCOUNT
    mm.account(part, pages)
    may_write = not part.flags & VM_SHARED or part.cache is None or not part.cache.tracked
    if leaves.protect(mm.tables, start, end, prot, may_write):
        mm.forget()
        lost = old & ~prot
        if lost or not prot:
            mm.space.flush(start, end, downgrade=lost == PROT_WRITE and bool(prot))
    if part.flags & VM_LOCKED and prot & PROT_WRITE and not old & PROT_WRITE and not part.flags & VM_SHARED:
        populate(mm, start, end)
