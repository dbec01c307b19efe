"""What exec maps: segments of a program, and pages that the kernel owns (vDSO, vvar)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, ENODEV
from trapline.abi.mman import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    PROT_WRITE,
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_MAYEXEC,
    VM_MAYREAD,
)
from trapline.kernel.mm import mapping, seams
from trapline.kernel.mm.area import Area, Mappable
from trapline.kernel.mm.page_cache import PageCache, of_frames
from trapline.kernel.mm.populate import prefault
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace


def map_image(
    mm: AddressSpace,
    addr: int,
    length: int,
    prot: int,
    source: Mappable | PageCache | None,
    offset: int,
    file_bytes: int,
    name: bytes,
    flags: int,
) -> int:
    """Map [addr, addr + length): `file_bytes` bytes of `source` from `offset` on, privately, then zeros; returns `addr`.

    `addr` and `offset` are the same within a page, and need not be aligned. MAP_FIXED_NOREPLACE in `flags` refuses to
    replace a mapping (EEXIST). The rest of the last page of the file is zeroed only if the segment may be written.
    """
    if (addr ^ offset) & PAGE_MASK:
        raise EINVAL("address and offset disagree")
    start = addr & ~PAGE_MASK
    offset &= ~PAGE_MASK
    end = mapping.page_align(addr + length)
    file_end = mapping.page_align(addr + file_bytes) if file_bytes else start
    if source is None:
        file_end = start
    if end <= start:
        raise EINVAL("empty segment")
    mapping.choose(mm, start, end - start, flags & MAP_FIXED_NOREPLACE | MAP_FIXED)
    vm_flags = mapping.MAY_ALL | (VM_ACCOUNT if prot & PROT_WRITE else 0)
    mapping.check_limits(mm, start, end - start, prot, vm_flags, True)
    mapping.unmap(mm, start, end)
    if source is not None and file_end > start:
        cache = source if isinstance(source, PageCache) else source.page_cache
        if cache is None:
            raise ENODEV
        file = None if isinstance(source, PageCache) else source
        seams.insert(mm, Area(mm, start, min(file_end, end), prot, vm_flags, cache, offset, file, name))
    if file_end < end:
        seams.insert(mm, Area(mm, file_end, end, prot, vm_flags))
    zeros = file_end - (addr + file_bytes)
    if prot & PROT_WRITE and zeros > 0 and length > file_bytes:
        prefault(mm, start, file_end)  # in one piece, not around the page that is written now
        mm.fill_zeros(addr + file_bytes, zeros)
    return addr


def map_special(mm: AddressSpace, addr: int | None, pages: list[int], prot: int, name: bytes) -> int:
    """Map frames `pages` privately, at `addr` or wherever there is room; where. The kernel keeps its references."""
    length = len(pages) << PAGE_SHIFT
    start = mapping.choose(mm, addr or 0, length, 0 if addr is None else MAP_FIXED | MAP_FIXED_NOREPLACE)
    vm_flags = VM_MAYREAD | VM_MAYEXEC | VM_DONTEXPAND | VM_DONTDUMP
    seams.insert(mm, Area(mm, start, start + length, prot, vm_flags, of_frames(mm.ram, pages), 0, None, name))
    return start
