"""madvise(2), msync(2), mincore(2): what user space says, and asks, about the content of its mappings.

Pages given up by MADV_FREE are freed at once, as madvise(2) allows.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EACCES, EBUSY, EFAULT, EINVAL, ENOMEM, EOPNOTSUPP, EPERM
from trapline.abi.fcntl import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
from trapline.abi.mman import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_HWPOISON,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_SOFT_OFFLINE,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_WIPEONFORK,
)
from trapline.kernel.mm import hugetlb, mapping, seams
from trapline.kernel.mm.area import Area
from trapline.kernel.mm.collapse import collapse
from trapline.kernel.mm.populate import DENIED, FAULTED, MAPPED, populate
from trapline.machine.contract import READ, WRITE
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

#: advice that sets and clears area flags: (set, clear)
_FLAGS = {
    MADV_NORMAL: (0, VM_RAND_READ | VM_SEQ_READ),
    MADV_RANDOM: (VM_RAND_READ, VM_SEQ_READ),
    MADV_SEQUENTIAL: (VM_SEQ_READ, VM_RAND_READ),
    MADV_DONTFORK: (VM_DONTCOPY, 0),
    MADV_DOFORK: (0, VM_DONTCOPY),
    MADV_WIPEONFORK: (VM_WIPEONFORK, 0),
    MADV_KEEPONFORK: (0, VM_WIPEONFORK),
    MADV_DONTDUMP: (VM_DONTDUMP, 0),
    MADV_DODUMP: (0, VM_DONTDUMP),
    MADV_MERGEABLE: (VM_MERGEABLE, 0),
    MADV_UNMERGEABLE: (0, VM_MERGEABLE),
    MADV_HUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
    MADV_NOHUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
}


def madvise(mm: AddressSpace, addr: int, length: int, behaviour: int) -> None:
    """madvise(2). Gaps are skipped and answered with ENOMEM in the end."""
    if behaviour in (MADV_HWPOISON, MADV_SOFT_OFFLINE):
        raise EPERM
    act = _ACTIONS.get(behaviour)
    if act is None and behaviour not in _FLAGS and behaviour not in _POPULATE:
        raise EINVAL("unknown advice")
    if addr & PAGE_MASK or addr + length + PAGE_MASK >= 1 << 64:
        raise EINVAL
    end = addr + mapping.page_align(length)
    if end == addr:
        return
    if behaviour in _POPULATE:
        _populate(mm, addr, end, _POPULATE[behaviour])
        return
    gap = False
    reached = addr
    for area in mm.map.overlapping(addr, min(end, mm.task_size)):
        gap |= area.start > reached
        low, high = max(area.start, addr), min(area.end, end)
        if act is not None:
            act(mm, area, low, high, behaviour)
        else:
            _set_flags(mm, area, low, high, behaviour)
        reached = high
    if act is None:
        seams.merge_range(mm, addr, reached)
    if gap or reached < end:
        raise ENOMEM("not mapped")


def _set_flags(mm: AddressSpace, area: Area, start: int, end: int, behaviour: int) -> None:
    on, off = _FLAGS[behaviour]
    if behaviour == MADV_WIPEONFORK and (area.cache is not None or area.flags & VM_SHARED):
        raise EINVAL
    if behaviour == MADV_DODUMP and area.flags & (VM_DONTEXPAND | VM_HUGETLB) == VM_DONTEXPAND:
        raise EINVAL
    if area.flags & (on | off) == on:
        return
    for part in seams.isolate(mm, start, end):
        part.flags = part.flags & ~off | on


def _dont_need(mm: AddressSpace, area: Area, start: int, end: int, behaviour: int) -> None:
    if area.flags & VM_HUGETLB and behaviour != MADV_FREE:
        hugetlb.dont_need(area, start, end)
        return
    if area.flags & VM_DONTEXPAND or (area.flags & VM_LOCKED and behaviour != MADV_DONTNEED_LOCKED):
        raise EINVAL
    if behaviour == MADV_FREE and area.cache is not None:
        raise EINVAL("not private anonymous memory")
    seams.split_leaf(mm, start)
    seams.split_leaf(mm, end)
    mm.zap(start, end, copies=True)


def _remove(mm: AddressSpace, area: Area, start: int, end: int, behaviour: int) -> None:
    if area.flags & VM_LOCKED or area.cache is None or area.flags & (VM_DONTEXPAND | VM_HUGETLB) == VM_DONTEXPAND:
        raise EINVAL
    if area.flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise EACCES
    offset = area.offset + start - area.start
    if area.file is None:
        area.cache.punch(offset, end - start)
    elif area.cache.fill is not None:
        raise EOPNOTSUPP
    else:
        area.file.inode.allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, end - start)


def _will_need(mm: AddressSpace, area: Area, start: int, end: int, behaviour: int) -> None:
    """Bring back what is in swap; read a file's pages ahead, up to 2 MiB of them."""
    cache = area.cache
    if mm.tables.swapped and not area.flags & VM_SHARED:
        from trapline.kernel.mm.swap.entries import bring_back

        bring_back(mm, area, start, end)
    if cache is not None and cache.fill is not None:
        first = (area.offset + start - area.start) >> PAGE_SHIFT
        last = min(first + 512, first + ((end - start) >> PAGE_SHIFT), (cache.size + PAGE_MASK) >> PAGE_SHIFT)
        for index in range(first, last):
            cache.frame(index)


def _cold(mm: AddressSpace, area: Area, start: int, end: int, behaviour: int) -> None:
    """MADV_COLD and MADV_PAGEOUT. Pages of files go by themselves when memory is short; others, if there is swap."""
    if area.flags & (VM_LOCKED | VM_DONTEXPAND):
        raise EINVAL
    if mm.ram.frames.swap is not None:
        from trapline.kernel.mm.swap.advice import age, page_out

        (page_out if behaviour == MADV_PAGEOUT else age)(mm, area, start, end)


def _populate(mm: AddressSpace, start: int, end: int, access: int) -> None:
    result = populate(mm, start, end, access)
    if result == DENIED:
        raise EINVAL
    if result == FAULTED:
        raise EFAULT
    if result != MAPPED:
        raise ENOMEM


_POPULATE = {MADV_POPULATE_READ: READ, MADV_POPULATE_WRITE: WRITE}
_ACTIONS: dict[int, Callable[[AddressSpace, Area, int, int, int], None]] = {
    MADV_DONTNEED: _dont_need,
    MADV_DONTNEED_LOCKED: _dont_need,
    MADV_FREE: _dont_need,
    MADV_REMOVE: _remove,
    MADV_WILLNEED: _will_need,
    MADV_COLD: _cold,
    MADV_COLLAPSE: collapse,
    MADV_PAGEOUT: _cold,
}


def msync(mm: AddressSpace, addr: int, length: int, flags: int) -> None:
    """msync(2). What is written back is written before the call returns, with MS_ASYNC too."""
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or addr & PAGE_MASK:
        raise EINVAL
    if flags & MS_ASYNC and flags & MS_SYNC:
        raise EINVAL
    end = addr + mapping.page_align(length)
    if end >= 1 << 64:
        raise ENOMEM
    gap = False
    reached = addr
    for area in mm.map.overlapping(addr, end):
        gap |= area.start > reached
        if flags & MS_INVALIDATE and area.flags & VM_LOCKED:
            raise EBUSY
        low, high = max(area.start, addr), min(area.end, end)
        if area.cache is not None and area.flags & VM_SHARED and flags & (MS_SYNC | MS_ASYNC):
            area.cache.sync(area.offset + low - area.start, area.offset + high - area.start)
        reached = high
    if gap or reached < end:
        raise ENOMEM("not mapped")


def mincore(mm: AddressSpace, addr: int, length: int) -> bytes:
    """mincore(2): a byte for each page, 1 if it is present (of a file: in the page cache)."""
    if addr & PAGE_MASK:
        raise EINVAL
    end = addr + mapping.page_align(length)
    if end > mm.task_size or not mm.map.covered(addr, end):
        raise ENOMEM
    answer = bytearray((end - addr) >> PAGE_SHIFT)
    for area in mm.map.overlapping(addr, end):
        low, high = max(area.start, addr), min(area.end, end)
        at = (low - addr) >> PAGE_SHIFT
        if area.cache is not None and not area.flags & VM_HUGETLB:
            first = (area.offset + low - area.start) >> PAGE_SHIFT
            for index in range(first, first + ((high - low) >> PAGE_SHIFT)):
                answer[at + index - first] = area.cache.resident(index)
        else:
            _present(mm, low, high, answer, at)
    return bytes(answer)


def _present(mm: AddressSpace, start: int, end: int, answer: bytearray, at: int) -> None:
    for va in range(start, end, 1 << PAGE_SHIFT):
        if mm.tables.entry(va) & mm.tables.fmt.present:
            answer[at + ((va - start) >> PAGE_SHIFT)] = 1
