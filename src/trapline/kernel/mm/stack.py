"""Stacks: the area that exec makes, and how areas with MAP_GROWSDOWN grow when the page below them is touched."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MMAP_MIN_ADDR,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    STACK_GUARD_GAP,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
)
from trapline.kernel.mm import mapping, seams
from trapline.kernel.mm.area import Area
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

INITIAL_STACK = 132 << 10  #: bytes that exec makes at once
STACK_RND_BITS = 22  #: pages of randomness below the end of user space, as STACK_RND_MASK on x86-64


def set_stack(mm: AddressSpace, top: int, size_limit: int | None, executable: bool) -> int:
    """Make the stack area; its end. Raises ENOMEM, or EEXIST if something is there."""
    if size_limit is not None:
        mm.limits.stack = size_limit
    if not top:
        top = mm.task_size - PAGE_SIZE - (mm.random_bits(STACK_RND_BITS) << PAGE_SHIFT)
    top &= ~PAGE_MASK
    length = max(PAGE_SIZE, min(INITIAL_STACK, mapping.page_align(mm.limits.stack)))
    start = mapping.choose(mm, top - length, length, MAP_FIXED_NOREPLACE | MAP_FIXED)
    prot = PROT_READ | PROT_WRITE | (PROT_EXEC if executable else 0)
    vm_flags = mapping.MAY_ALL | VM_GROWSDOWN | VM_ACCOUNT | mm.default_flags
    seams.insert(mm, Area(mm, start, top, prot, vm_flags))
    mm.stack_top = top
    return top


def expand(mm: AddressSpace, addr: int) -> Area | None:
    """Grow the stack above `addr` down to it; None if there is none or it may not grow so far."""
    i = mm.map.index_from(addr)
    if i == len(mm.map.areas):
        return None
    area = mm.map.areas[i]
    if not area.flags & VM_GROWSDOWN or addr < MMAP_MIN_ADDR:
        return None
    exact = addr & ~PAGE_MASK
    ample = min(exact, area.start - (mm.policy.stack_grow_pages << PAGE_SHIFT))
    for start in (ample, exact):
        if _may_grow(mm, i, start):
            pages = (area.start - start) >> PAGE_SHIFT
            mm.account(area, pages)
            mm.map.move_start(area, start)
            return area
    return None


def _may_grow(mm: AddressSpace, i: int, start: int) -> bool:
    """Limits and the guard gap let area number i start at `start`."""
    area = mm.map.areas[i]
    if start < MMAP_MIN_ADDR or area.end - start > mm.limits.stack:
        return False
    length = area.start - start
    if i:
        below = mm.map.areas[i - 1]
        gap = STACK_GUARD_GAP if below.prot and not below.flags & VM_GROWSDOWN else 0
        if start < below.end + gap:
            return False
    if area.flags & VM_LOCKED and not mapping.may_lock(mm, length >> PAGE_SHIFT):
        return False
    try:
        mapping.check_limits(mm, start, length, area.prot, area.flags, False)
    except Errno:
        return False
    return True
