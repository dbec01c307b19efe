"""brk(2): the end of the data segment."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import ENOMEM, Errno
from trapline.abi.mman import (
    MAP_FIXED,
    MMAP_MIN_ADDR,
    PROT_READ,
    PROT_WRITE,
    RLIM_INFINITY,
    VM_ACCOUNT,
    VM_LOCKED,
)
from trapline.kernel.mm import mapping, seams
from trapline.kernel.mm.area import Area
from trapline.kernel.mm.populate import populate, prefault
from trapline.machine.paging.entry import PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace


def set_brk(mm: AddressSpace, addr: int, implied: int = 0) -> int:
    """Move the break to `addr`; the new break, or the old one if the limits or another mapping are in the way.

    What is new can be read and written, and what is `implied`: PROT_EXEC or nothing.
    """
    if addr < max(mm.start_brk, MMAP_MIN_ADDR) or addr > mm.task_size - PAGE_SIZE:
        return mm.brk
    limit = mm.limits.data
    if limit != RLIM_INFINITY and addr - mm.start_brk + mm.end_data - mm.start_data > limit:
        return mm.brk
    old, new = mapping.page_align(mm.brk), mapping.page_align(addr)
    try:
        if new < old:
            mapping.unmap(mm, new, old)
        elif new > old:
            _grow(mm, old, new, PROT_READ | PROT_WRITE | implied)
    except Errno:
        return mm.brk
    mm.brk = addr
    return addr


def _grow(mm: AddressSpace, start: int, end: int, prot: int) -> None:
    vm_flags = mapping.MAY_ALL | VM_ACCOUNT | mm.default_flags
    mapping.choose(mm, start, end - start, MAP_FIXED)
    if not mapping.is_free(mm, start, end + PAGE_SIZE):
        raise ENOMEM("another mapping is in the way")
    mapping.check_limits(mm, start, end - start, prot, vm_flags, False)
    if vm_flags & VM_LOCKED:
        mapping.check_locked(mm, end - start)
    seams.insert(mm, Area(mm, start, end, prot, vm_flags))
    if vm_flags & VM_LOCKED:
        populate(mm, start, end)
    else:
        prefault(mm, start, end)
