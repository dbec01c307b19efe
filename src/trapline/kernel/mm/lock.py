"""mlock(2), mlock2(2), munlock(2), mlockall(2), munlockall(2): pages that stay present, and how many may be.

Locking means populating and counting; what goes to swap passes locked areas by (see mm.swap.out).
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, ENOMEM, EPERM
from trapline.abi.mman import (
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    RLIM_INFINITY,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_LOCKONFAULT,
)
from trapline.kernel.mm import mapping, seams
from trapline.kernel.mm.populate import MAPPED, populate
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace


def mlock(mm: AddressSpace, addr: int, length: int, flags: int) -> None:
    """mlock2(2)."""
    if flags & ~MLOCK_ONFAULT:
        raise EINVAL
    if not mapping.may_lock(mm):
        raise EPERM
    start, end = _range(addr, length)
    if not mm.limits.lock_freely and mm.limits.memlock != RLIM_INFINITY:
        overlap = sum(
            min(area.end, end) - max(area.start, start)
            for area in mm.map.overlapping(start, max(end, start))
            if area.flags & VM_LOCKED
        )
        if (mm.locked_pages << PAGE_SHIFT) + end - start - overlap > mm.limits.memlock:
            raise ENOMEM("RLIMIT_MEMLOCK")
    on_fault = bool(flags & MLOCK_ONFAULT)
    _set(mm, start, end, VM_LOCKED | (VM_LOCKONFAULT if on_fault else 0))
    if not on_fault and start < end and populate(mm, start, end) != MAPPED:
        raise ENOMEM("not all could be made present")


def munlock(mm: AddressSpace, addr: int, length: int) -> None:
    """munlock(2)."""
    start, end = _range(addr, length)
    _set(mm, start, end, 0)


def _range(addr: int, length: int) -> tuple[int, int]:
    if addr + length >= 1 << 64:
        raise EINVAL("the range wraps around")
    return addr & ~PAGE_MASK, mapping.page_align(addr + length)


def _set(mm: AddressSpace, start: int, end: int, bits: int) -> None:
    """Set the lock flags of [start, end) to `bits`; raises ENOMEM at a gap, after changing what is before it."""
    reached = start
    if start == end:
        return
    if end > mm.task_size:
        raise ENOMEM
    for area in mm.map.overlapping(start, end):
        if area.start > reached:
            break
        reached = min(area.end, end)
        _set_area(mm, max(area.start, start), reached, bits)
    seams.merge_range(mm, start, reached)
    if reached < end:
        raise ENOMEM("not mapped")


def _set_area(mm: AddressSpace, start: int, end: int, bits: int) -> None:
    area = mm.map.find(start)
    assert area is not None
    if area.flags & VM_DONTEXPAND or area.flags & (VM_LOCKED | VM_LOCKONFAULT) == bits:
        return
    (part,) = seams.isolate(mm, start, end)
    mm.account(part, -part.pages)
    part.flags = part.flags & ~(VM_LOCKED | VM_LOCKONFAULT) | bits
    mm.account(part, part.pages)


def mlockall(mm: AddressSpace, flags: int) -> None:
    """mlockall(2)."""
    if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) or flags == MCL_ONFAULT:
        raise EINVAL
    if not mapping.may_lock(mm):
        raise EPERM
    if flags & MCL_CURRENT and not mapping.may_lock(mm, mm.total_vm_pages - mm.locked_pages):
        raise ENOMEM("RLIMIT_MEMLOCK")
    bits = VM_LOCKED | (VM_LOCKONFAULT if flags & MCL_ONFAULT else 0)
    mm.default_flags = bits if flags & MCL_FUTURE else 0
    if not flags & MCL_CURRENT:
        return
    _set_all(mm, bits)
    if not flags & MCL_ONFAULT:
        for area in tuple(mm.map.areas):
            populate(mm, area.start, area.end)


def munlockall(mm: AddressSpace) -> None:
    """munlockall(2)."""
    mm.default_flags = 0
    _set_all(mm, 0)


def _set_all(mm: AddressSpace, bits: int) -> None:
    for area in tuple(mm.map.areas):
        _set_area(mm, area.start, area.end, bits)
    seams.merge_range(mm, 0, mm.task_size)
