"""mremap(2): grow, shrink, move and duplicate mappings."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EFAULT, EINVAL, ENOMEM
from trapline.abi.mman import (
    MAP_FIXED,
    MAX_MAP_COUNT,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    VM_DONTEXPAND,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_SHARED,
)
from trapline.kernel.mm import hugetlb, leaves, mapping, seams
from trapline.kernel.mm.area import Area
from trapline.kernel.mm.errors import OutOfFrames, OutOfMemory
from trapline.kernel.mm.populate import populate
from trapline.kernel.mm.tables import BLOCK_SIZE
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

_FLAGS = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP


def mremap(mm: AddressSpace, old: int, old_length: int, new_length: int, flags: int, new: int) -> int:
    """mremap(2); the address of the mapping now."""
    if flags & ~_FLAGS or (flags & MREMAP_FIXED and not flags & MREMAP_MAYMOVE):
        raise EINVAL
    if flags & MREMAP_DONTUNMAP and (not flags & MREMAP_MAYMOVE or old_length != new_length):
        raise EINVAL
    if old & PAGE_MASK:
        raise EINVAL("address not aligned")
    old_length, new_length = mapping.page_align(old_length), mapping.page_align(new_length)
    if not new_length or new_length > mm.task_size or old_length > mm.task_size:
        raise EINVAL
    area = mm.map.find(old)
    if area is None:
        raise EFAULT
    align = PAGE_SIZE
    if area.flags & VM_HUGETLB:
        old_length, new_length = hugetlb.check_moves(old, old_length, new_length, new if flags & MREMAP_FIXED else 0)
        align = BLOCK_SIZE
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return _to(mm, old, old_length, new_length, flags, new, align)
    if old_length >= new_length:
        if old_length > new_length:
            mapping.unmap(mm, old + new_length, old + old_length)
        return old
    area = _check(mm, old, old_length, new_length, flags)
    if old_length == area.end - old and _grows_in_place(mm, area, new_length - old_length):
        return old
    if not flags & MREMAP_MAYMOVE:
        raise ENOMEM("no room to grow")
    return _move(mm, area, old, old_length, new_length, flags, mapping.choose(mm, 0, new_length, 0))


def _to(mm: AddressSpace, old: int, old_length: int, new_length: int, flags: int, new: int, align: int) -> int:
    """MREMAP_FIXED and MREMAP_DONTUNMAP: the mapping moves in any case."""
    if flags & MREMAP_FIXED:
        if new & PAGE_MASK or new > mm.task_size - new_length:
            raise EINVAL
        if old + old_length > new and new + new_length > old:
            raise EINVAL("the ranges overlap")
    if len(mm.map.areas) + 2 >= MAX_MAP_COUNT - 3:
        raise ENOMEM("too many areas")
    if flags & MREMAP_FIXED:
        mapping.choose(mm, new, new_length, MAP_FIXED)
        mapping.unmap(mm, new, new + new_length)
    if old_length > new_length:
        mapping.unmap(mm, old + new_length, old + old_length)
        old_length = new_length
    area = _check(mm, old, old_length, new_length, flags)
    if flags & MREMAP_DONTUNMAP:
        mapping.check_limits(mm, old, new_length, area.prot, area.flags, False)
    if not flags & MREMAP_FIXED:
        new = mapping.choose(mm, new, new_length, 0, align)
    return _move(mm, area, old, old_length, new_length, flags, new)


def _check(mm: AddressSpace, old: int, old_length: int, new_length: int, flags: int) -> Area:
    """The area at `old` may be resized so (vma_to_resize)."""
    area = mm.map.find(old)
    if area is None:
        raise EFAULT
    if not old_length and not area.flags & VM_SHARED:
        raise EINVAL("only shared mappings can be duplicated")
    if flags & MREMAP_DONTUNMAP and area.flags & VM_DONTEXPAND:
        raise EINVAL
    if old_length > area.end - old:
        raise EFAULT("more than one mapping")
    grown = new_length - old_length
    if grown <= 0:
        return area
    if area.flags & VM_DONTEXPAND:
        raise EFAULT
    if area.flags & VM_LOCKED:
        mapping.check_locked(mm, grown)
    mapping.check_limits(mm, old, grown, area.prot, area.flags, False)
    return area


def _grows_in_place(mm: AddressSpace, area: Area, grown: int) -> bool:
    end = area.end
    if end + grown > mm.task_size or not mapping.is_free(mm, end, end + grown):
        return False
    area.end = end + grown
    mm.account(area, grown >> PAGE_SHIFT)
    seams.merge_at(mm, mm.map.index_from(area.start))
    if area.flags & VM_LOCKED:
        populate(mm, end, end + grown)
    return True


def _move(
    mm: AddressSpace, area: Area, old: int, old_length: int, new_length: int, flags: int, new: int
) -> int:
    """Move [old, old + old_length) of `area` to `new`, where nothing is mapped, `new_length` long."""
    if len(mm.map.areas) >= MAX_MAP_COUNT - 3:
        raise ENOMEM("too many areas")
    part = area
    if old_length:
        (part,) = seams.isolate(mm, old, old + old_length)
    offset = part.offset + old - part.start if part.cache is not None else 0
    moved = type(part)(mm, new, new + new_length, part.prot, part.flags, part.cache, offset, part.file, part.name)
    if old_length:
        try:
            leaves.move(mm.tables, old, new, old_length)
        except OutOfFrames:
            moved.close()
            raise OutOfMemory from None
        mm.forget()
        mm.space.flush(old, old + old_length)
        if isinstance(part, hugetlb.HugeArea) and isinstance(moved, hugetlb.HugeArea):
            moved.promised, part.promised = part.promised, None
    if flags & MREMAP_DONTUNMAP:
        mm.account(part, -part.pages)
        part.flags &= ~(VM_LOCKED | VM_LOCKONFAULT)
        mm.account(part, part.pages)
    seams.insert(mm, moved)
    if old_length and not flags & MREMAP_DONTUNMAP:
        mapping.unmap(mm, old, old + old_length)
    locked = moved.flags & VM_LOCKED
    seams.merge_range(mm, old, old + old_length)
    if locked and new_length > old_length:
        populate(mm, new + old_length, new + new_length)
    return new

