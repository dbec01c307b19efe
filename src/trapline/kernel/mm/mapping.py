"""mmap(2) and munmap(2): where a mapping goes, what it may be, and how it is removed.

Errors come in the order of Linux's do_mmap: arguments, address, locked memory, file, limits. A call that raises has changed
nothing, except that MAP_FIXED may have unmapped what was there, as on Linux.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EACCES, EAGAIN, EEXIST, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EOVERFLOW, EPERM
from trapline.abi.fcntl import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE
from trapline.abi.mman import (
    MAP_32BIT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LEGACY,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_TYPE,
    MMAP_MIN_ADDR,
    PROT_EXEC,
    PROT_WRITE,
    RLIM_INFINITY,
    STACK_GUARD_GAP,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_SHARED,
)
from trapline.abi.mount import MS_NOEXEC
from trapline.kernel.mm import hugetlb, seams
from trapline.kernel.mm.area import Area, Mappable
from trapline.kernel.mm.errors import OutOfMemory
from trapline.kernel.mm.leaves import put_runs, zap
from trapline.kernel.mm.page_cache import PageCache, anonymous
from trapline.kernel.mm.populate import populate, prefault, preload
from trapline.kernel.mm.tables import BLOCK_SIZE, Run
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.machine.ram import Frames

LOW_START, LOW_END = 0x4000_0000, 0x8000_0000  #: where MAP_32BIT mappings go
MAX_OFFSET = 1 << 63
MAY_ALL = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC


def page_align(length: int) -> int:
    return (length + PAGE_MASK) & ~PAGE_MASK


def mmap(
    mm: AddressSpace, addr: int, length: int, prot: int, flags: int, file: Mappable | None, offset: int
) -> int:
    """mmap(2); the address of the mapping. `file` is None exactly for MAP_ANONYMOUS."""
    if file is not None and getattr(file, "maps_zero", False):
        if not file.readable:
            raise EACCES
        file, offset = None, 0
    align = BLOCK_SIZE if file is not None and getattr(file, "maps_huge", False) else PAGE_SIZE
    if length == 0:
        raise EINVAL("length 0")
    length = length + align - 1 & -align
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if length > mm.task_size:
        raise ENOMEM("longer than user space")
    if offset + length > MAX_OFFSET:
        raise EOVERFLOW
    mm.admit()
    prot &= 7
    start = choose(mm, addr, length, flags, align)
    vm_flags = _vm_flags(mm, prot, flags, length)
    cache: PageCache | None = None
    if file is not None:
        vm_flags, cache = _of_file(file, prot, flags, vm_flags)
    else:
        vm_flags = _of_nothing(prot, flags, vm_flags)
    check_limits(mm, start, length, prot, vm_flags, bool(flags & MAP_FIXED))
    if flags & MAP_FIXED:
        unmap(mm, start, start + length)
    populates = vm_flags & VM_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE
    if isinstance(cache, hugetlb.HugeCache) and file is not None:
        if offset & (BLOCK_SIZE - 1):
            raise EINVAL("offset inside a huge page")
        vm_flags = hugetlb.flags_of(vm_flags)
        area: Area = hugetlb.make(mm, start, start + length, prot, vm_flags, cache, offset, file)
    else:
        if file is not None and prot & PROT_EXEC and not vm_flags & VM_SHARED:
            preload(file, offset)
        area = _ordinary(mm, start, length, prot, vm_flags, cache, offset, file)
    seams.insert(mm, area)
    if populates:
        populate(mm, start, start + length)
    elif file is None and flags & MAP_FIXED and prot & PROT_WRITE and _behind_data(mm, start):
        prefault(mm, start, start + length)
    return start


def _behind_data(mm: AddressSpace, start: int) -> bool:
    """What is mapped before `start` is a library's data that is in use: so ld.so(8) places the zeros behind them."""
    area = mm.map.find(start - 1)
    return area is not None and area.known


def _ordinary(
    mm: AddressSpace, start: int, length: int, prot: int, vm_flags: int, cache: PageCache | None, offset: int,
    file: Mappable | None,
) -> Area:  # fmt: skip
    if file is None:
        offset = 0
        if vm_flags & VM_SHARED:
            cache = anonymous(mm.ram, length, mm.policy.anon_around_pages)
    return Area(mm, start, start + length, prot, vm_flags, cache, offset, file)


def _vm_flags(mm: AddressSpace, prot: int, flags: int, length: int) -> int:
    vm_flags = mm.default_flags | MAY_ALL
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        if not may_lock(mm):
            raise EPERM
        vm_flags |= VM_LOCKED
    if flags & MAP_STACK:
        vm_flags |= VM_NOHUGEPAGE
    if flags & MAP_NORESERVE:
        vm_flags |= VM_NORESERVE
    if vm_flags & VM_LOCKED:
        check_locked(mm, length)
    return vm_flags


def may_lock(mm: AddressSpace, pages: int = 0) -> bool:
    """RLIMIT_MEMLOCK is not zero and permits so many more pages of locked memory, or CAP_IPC_LOCK makes it not count."""
    limits = mm.limits
    return limits.lock_freely or 0 < limits.memlock >= (mm.locked_pages + pages) << PAGE_SHIFT


def check_locked(mm: AddressSpace, length: int) -> None:
    """`length` more bytes of memory may be locked; else EAGAIN."""
    if not may_lock(mm, length >> PAGE_SHIFT):
        raise EAGAIN("RLIMIT_MEMLOCK")


def _of_file(file: Mappable, prot: int, flags: int, vm_flags: int) -> tuple[int, PageCache]:
    kind = flags & MAP_TYPE
    if kind == MAP_SHARED_VALIDATE and flags & ~MAP_LEGACY & ~MAP_TYPE & ~MAP_FIXED_NOREPLACE:
        raise EOPNOTSUPP
    if kind not in (MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE):
        raise EINVAL
    shared = kind != MAP_PRIVATE
    if shared:
        if prot & PROT_WRITE and not file.writable:
            raise EACCES("a shared writable mapping of a file opened for reading")
        vm_flags |= VM_SHARED
        if not file.writable:
            vm_flags &= ~VM_MAYWRITE
    if not file.readable:
        raise EACCES
    if file.path is not None and file.path.mount.flags & MS_NOEXEC:
        if prot & PROT_EXEC:
            raise EPERM("noexec mount")
        vm_flags &= ~VM_MAYEXEC
    cache = file.page_cache
    if cache is None:
        raise ENODEV
    if vm_flags & VM_GROWSDOWN:
        raise EINVAL
    if shared and file.inode.seals > 0 and file.inode.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
        if prot & PROT_WRITE:
            raise EPERM("sealed against writing")
        vm_flags &= ~VM_MAYWRITE
    return _accounted(vm_flags, prot), cache


def _of_nothing(prot: int, flags: int, vm_flags: int) -> int:
    kind = flags & MAP_TYPE
    if kind == MAP_SHARED:
        if vm_flags & VM_GROWSDOWN:
            raise EINVAL
        vm_flags |= VM_SHARED
    elif kind != MAP_PRIVATE:
        raise EINVAL
    return _accounted(vm_flags, prot) | (VM_ACCOUNT if vm_flags & VM_SHARED and not vm_flags & VM_NORESERVE else 0)


def _accounted(vm_flags: int, prot: int) -> int:
    """VM_ACCOUNT: the area may need as much memory of its own as it is long."""
    if prot & PROT_WRITE and not vm_flags & (VM_SHARED | VM_NORESERVE):
        vm_flags |= VM_ACCOUNT
    return vm_flags


def check_limits(
    mm: AddressSpace, start: int, length: int, prot: int, vm_flags: int, replaces: bool
) -> None:
    """RLIMIT_AS, RLIMIT_DATA and the overcommit heuristic permit an area; else ENOMEM."""
    limits, pages = mm.limits, length >> PAGE_SHIFT
    if limits.as_bytes != RLIM_INFINITY or limits.data != RLIM_INFINITY:
        gone = data_gone = 0
        if replaces:
            for area in mm.map.overlapping(start, start + length):
                part = (min(area.end, start + length) - max(area.start, start)) >> PAGE_SHIFT
                gone += part
                data_gone += part if is_data(area.prot, area.flags) else 0
        if (mm.total_vm_pages - gone + pages) << PAGE_SHIFT > limits.as_bytes:
            raise ENOMEM("RLIMIT_AS")
        if is_data(prot, vm_flags) and (mm.data_pages - data_gone + pages) << PAGE_SHIFT > limits.data:
            raise ENOMEM("RLIMIT_DATA")
    if vm_flags & VM_ACCOUNT and pages > all_pages(mm.ram.frames):
        raise ENOMEM("more than all memory")


def all_pages(frames: Frames) -> int:
    """Pages of memory and swap together."""
    return frames.limit_pages + (frames.swap.total_pages if frames.swap is not None else 0)


def is_data(prot: int, vm_flags: int) -> bool:
    """What RLIMIT_DATA counts: private, writable, no stack."""
    return bool(prot & PROT_WRITE) and not vm_flags & (VM_SHARED | VM_GROWSDOWN)


# ---- where


def choose(mm: AddressSpace, addr: int, length: int, flags: int, align: int = PAGE_SIZE) -> int:
    """The address for a new mapping of `length` bytes, a multiple of `align`, as is the address."""
    if flags & MAP_FIXED:
        if addr > mm.task_size - length:
            raise ENOMEM
        if addr & align - 1:
            raise EINVAL("address not aligned")
        if addr < MMAP_MIN_ADDR:
            raise EPERM("below mmap_min_addr")
        if flags & MAP_FIXED_NOREPLACE and mm.map.overlapping(addr, addr + length):
            raise EEXIST
        return addr
    if addr & ~PAGE_MASK:
        hint = max(addr + align - 1 & -align, MMAP_MIN_ADDR)
        if hint <= mm.task_size - length and is_free(mm, hint, hint + length):
            return hint
    if flags & MAP_32BIT and mm.machine.arch.name == "x86_64":
        found, _ = find_gap(mm, length, LOW_START, LOW_END, align)
    else:
        huge = length % BLOCK_SIZE == 0 and flags & MAP_ANONYMOUS and mm.policy.huge
        found = mm.cached_gap(length, BLOCK_SIZE if huge else align)
        if found is None:
            found, _ = find_gap(mm, length, MMAP_MIN_ADDR, mm.task_size, align)
    if found is None:
        raise ENOMEM("no gap in user space")
    return found


def is_free(mm: AddressSpace, start: int, end: int) -> bool:
    i = mm.map.index_from(start)
    areas = mm.map.areas
    return i == len(areas) or end <= _start_with_gap(areas[i])


def _start_with_gap(area: Area) -> int:
    return area.start - STACK_GUARD_GAP if area.flags & VM_GROWSDOWN else area.start


def find_gap(
    mm: AddressSpace, length: int, low: int, high: int, align: int = PAGE_SIZE
) -> tuple[int | None, int]:
    """The highest aligned address in [low, high) with `length` free bytes, or None; and the largest gap above it."""
    areas = mm.map.areas
    i = bisect_left(mm.map.starts, high)
    top = min(high, _start_with_gap(areas[i])) if i < len(areas) else high
    largest = 0
    while True:
        i -= 1
        bottom = max(areas[i].end, low) if i >= 0 else low
        start = (top - length) & -align
        if start >= bottom:
            return start, max(largest, top - start - length)
        if top - bottom > largest:
            largest = top - bottom
        if i < 0 or areas[i].start <= low:
            return None, largest
        top = min(top, _start_with_gap(areas[i]))


def lowest_gap(mm: AddressSpace, length: int, low: int, high: int, align: int) -> int | None:
    """The lowest aligned address in [low, high) with `length` free bytes, or None."""
    bottom = low
    for area in islice(mm.map.areas, mm.map.index_from(low), None):
        start = bottom + align - 1 & -align
        if start + length <= min(high, _start_with_gap(area)):
            return start
        bottom = max(bottom, area.end)
    start = bottom + align - 1 & -align
    return start if start + length <= high else None


def unmap(mm: AddressSpace, start: int, end: int) -> None:
    """Remove every mapping in [start, end). Raises ENOMEM before anything is changed."""
    areas = seams.isolate(mm, start, end)
    if not areas:
        return
    i = mm.map.index_from(start)
    del mm.map.areas[i : i + len(areas)]
    del mm.map.starts[i : i + len(areas)]
    floor = mm.map.areas[i - 1].end if i else 0
    ceiling = mm.map.areas[i].start if i < len(mm.map.areas) else 1 << 64
    start, end = areas[0].start, areas[-1].end
    runs: list[Run] = []
    files, others = zap(mm.tables, start, end, runs)
    mm.tables.drop_empty(start, end, floor, ceiling, runs)
    mm.unmapped(files, others)
    mm.forget_gaps(end)
    if files or runs:
        mm.forget()
        mm.space.flush(start, end)
        put_runs(mm.ram.frames, runs)
    for area in areas:
        mm.account(area, -area.pages)
        area.close()


def munmap(mm: AddressSpace, addr: int, length: int) -> None:
    """munmap(2). What the machine keeps of the architecture's user space is a hole, which may be unmapped too."""
    limit = mm.machine.arch.nominal_size or mm.task_size
    if addr & PAGE_MASK or addr > limit or length > limit - addr:
        raise EINVAL
    length = page_align(length)
    if length == 0:
        raise EINVAL("length 0")
    end = min(addr + length, mm.task_size)
    if addr < end:
        unmap(mm, addr, end)


def remap_file_pages(mm: AddressSpace, addr: int, length: int, prot: int, page: int, flags: int) -> int:
    """remap_file_pages(2): map page `page` and on of the same file in a part of a shared mapping."""
    start, length = addr & ~PAGE_MASK, length & ~PAGE_MASK
    if prot or not length or start + length > mm.task_size or (page << PAGE_SHIFT) + length > MAX_OFFSET:
        raise EINVAL
    area = mm.map.find(start)
    if area is None or not area.flags & VM_SHARED or area.cache is None:
        raise EINVAL
    areas = mm.map.overlapping(start, start + length)
    if not mm.map.covered(start, start + length) or any(
        each.cache is not area.cache or each.flags != area.flags or each.prot != area.prot for each in areas
    ):
        raise EINVAL
    new = Area(mm, start, start + length, area.prot, area.flags, area.cache, page << PAGE_SHIFT, area.file, area.name)
    try:
        unmap(mm, start, start + length)
    except OutOfMemory:
        new.close()
        raise
    seams.insert(mm, new)
    if not flags & MAP_NONBLOCK:
        populate(mm, start, start + length)
    return 0
