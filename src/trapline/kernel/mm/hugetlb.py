"""Mappings of huge pages: their cache, their areas, and the repair of their faults; hugetlbpage.rst of the kernel.

Every such area is of a file (an unnamed one for MAP_ANONYMOUS), whose cache holds what shared mappings wrote. A page is
mapped by one large leaf with soft_file set, which keeps it out of the counts of ordinary memory.

Invariants:
- an area begins and ends at a multiple of 2 MiB, and so does what any call changes of it;
- the leaf of a private area has soft_cow set, always, and holds one reference to its page; that of a shared one holds none,
  as its cache unmaps a page before letting go of it;
- `HugeArea.promised`, and `HugeCache.promised`, are pages that the pool keeps for whoever touches them first.
"""

from __future__ import annotations

from collections.abc import Iterable
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, ENOMEM, ENOSPC
from trapline.abi.mman import PROT_WRITE, VM_DONTEXPAND, VM_HUGETLB, VM_LOCKED, VM_NORESERVE, VM_SHARED
from trapline.kernel.mm.area import Area
from trapline.kernel.mm.hugepages import BLOCK_BYTES, pool_of
from trapline.kernel.mm.leaves import put_runs
from trapline.kernel.mm.page_cache import PageCache
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, PageTables, Run
from trapline.machine.contract import WRITE
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from trapline.machine.ram import BLOCK_PAGES, Ram

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Mappable

BLOCK_MASK = BLOCK_SIZE - 1
_PAGES_SHIFT = BLOCK_SHIFT - PAGE_SHIFT


def align_up(length: int) -> int:
    return length + BLOCK_MASK & ~BLOCK_MASK


class HugeCache(PageCache):
    """The pages of a file in hugetlbfs. `huge` has first frames by number of the huge page; `pages` all frames, as ever."""

    __slots__ = ("huge", "pool", "promised", "quota")

    def __init__(self, ram: Ram, size: int = 0, quota: Quota | None = None) -> None:
        super().__init__(ram, size)
        self.pool = pool_of(ram)
        self.huge: dict[int, int] = {}
        self.promised: set[int] = set()
        self.quota = quota  #: what the file system may have; None: all

    def huge_frame(self, index: int) -> int | None:
        """The first frame of huge page `index`, made if need be; None if none is left."""
        pfn = self.huge.get(index)
        if pfn is not None:
            return pfn
        promised = index in self.promised
        if not promised and self.quota is not None and not self.quota.take(1):
            return None
        pfn = self.pool.take(promised)
        if pfn is None:
            if self.quota is not None:
                self.quota.give(1)
            return None
        self.promised.discard(index)
        self.huge[index] = pfn
        first = index << _PAGES_SHIFT
        self.pages.update(zip(range(first, first + BLOCK_PAGES), range(pfn, pfn + BLOCK_PAGES), strict=True))
        return pfn

    def promise(self, first: int, last: int) -> bool:
        """Shared mappings of huge pages [first, last) will find them, or this is False."""
        new = set(range(first, last)).difference(self.huge, self.promised)
        if self.quota is not None and not self.quota.take(len(new)):
            return False
        if not self.pool.reserve(len(new)):
            if self.quota is not None:
                self.quota.give(len(new))
            return False
        self.promised |= new
        return True

    def _load_zeros(self, index: int) -> int:
        pfn = self.huge_frame(index >> _PAGES_SHIFT)
        if pfn is None:
            raise ENOSPC("no huge page is left")
        return pfn + (index & BLOCK_PAGES - 1)

    def truncate(self, size: int) -> None:
        """`size` is a multiple of 2 MiB."""
        old, self.size = self.size, size
        if size < old:
            self._unmap(size, None, copies=True)
            self._forget(size >> BLOCK_SHIFT, 1 << 52)

    def punch(self, offset: int, length: int) -> None:
        end = min(offset + length, self.size)
        first, last = align_up(offset), end & ~BLOCK_MASK
        if first > last:
            self._zero_present(offset, end)
            return
        self._zero_present(offset, first)
        self._zero_present(last, end)
        self._unmap(first, last, copies=True)  # unlike with small pages, private copies go too
        self._forget(first >> BLOCK_SHIFT, last >> BLOCK_SHIFT)

    def _zero_present(self, start: int, end: int) -> None:
        while start < end:
            stop = min(end, (start | PAGE_MASK) + 1)
            pfn = self.pages.get(start >> PAGE_SHIFT)
            if pfn is not None:
                at = start & PAGE_MASK
                self._zero(pfn, at, at + stop - start)
            start = stop

    def _forget(self, first: int, last: int) -> None:
        """Drop huge pages [first, last), which nothing maps any more, and what was promised of them."""
        gone = [index for index in self.huge if first <= index < last]
        self.pages_go()
        for index in gone:
            for page in range(index << _PAGES_SHIFT, index + 1 << _PAGES_SHIFT):
                del self.pages[page]
            self._frames.put(self.huge.pop(index))
        broken = {index for index in self.promised if first <= index < last}
        self.promised -= broken
        self.pool.unreserve(len(broken))
        self.pool.settle()
        if self.quota is not None:
            self.quota.give(len(gone) + len(broken))

    def _unmap(self, start: int, end: int | None, *, copies: bool) -> None:
        for area in tuple(self.mappers):
            low = area.start + max(0, start - area.offset)
            high = area.end if end is None else min(area.end, area.start + end - area.offset)
            if low < high:
                _unmap_area(area, low, high, None)

    def close(self) -> None:
        if self.mappers:
            self.owned = True
        else:
            self._forget(0, 1 << 52)


class Quota:
    """How many huge pages one file system may use and promise."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        self.used -= count


class HugeArea(Area):
    """`promised`: by number in the file, what the pool keeps for a private area; None: nothing was ever promised, as to the
    copy that fork(2) makes. Parts of an area share it. `robbed`: its pages went to who was promised them."""

    __slots__ = ("promised", "robbed")

    def __init__(
        self, mm: AddressSpace, start: int, end: int, prot: int, flags: int, cache: PageCache | None = None,
        offset: int = 0, file: Mappable | None = None, name: bytes = b"",
    ) -> None:  # fmt: skip
        super().__init__(mm, start, end, prot, flags, cache, offset, file, name)
        self.promised: set[int] | None = None
        self.robbed = False

    @property
    def huge_cache(self) -> HugeCache:
        assert isinstance(self.cache, HugeCache)
        return self.cache

    def index(self, addr: int) -> int:
        """The number in the file of the huge page at `addr`."""
        return addr - self.start + self.offset >> BLOCK_SHIFT

    def close(self) -> None:
        pool = self.huge_cache.pool
        if self.promised:
            low, high = self.index(self.start), self.index(self.end)
            broken = {index for index in self.promised if low <= index < high}
            self.promised -= broken
            pool.unreserve(len(broken))
        super().close()
        pool.settle()

    def part(self, start: int, end: int, mm: AddressSpace | None = None) -> Area:
        part = HugeArea(
            mm or self.mm, start, end, self.prot, self.flags, self.cache, self.offset + start - self.start, self.file, self.name
        )
        part.promised, part.robbed = self.promised, self.robbed
        return part

    def joins(self, after: Area) -> bool:
        return False


# ---- making one


def flags_of(vm_flags: int) -> int:
    """The flags of an area of huge pages, from what mmap(2) asked for."""
    return (vm_flags | VM_HUGETLB | VM_DONTEXPAND) & ~VM_LOCKED


def make(
    mm: AddressSpace, start: int, end: int, prot: int, flags: int, cache: HugeCache, offset: int, file: Mappable
) -> HugeArea:
    """An area for which all pages are promised, unless VM_NORESERVE. A writable one lengthens its file. Raises ENOMEM."""
    first, last = offset >> BLOCK_SHIFT, offset + end - start >> BLOCK_SHIFT
    promised: set[int] | None = None
    if flags & VM_SHARED:
        if not flags & VM_NORESERVE and not cache.promise(first, last):
            raise ENOMEM("not so many huge pages are free")
    elif not flags & VM_NORESERVE:
        if not cache.pool.reserve(last - first):
            raise ENOMEM("not so many huge pages are free")
        promised = set(range(first, last))
    if prot & PROT_WRITE and cache.size < offset + end - start:
        cache.size = offset + end - start
    area = HugeArea(mm, start, end, prot, flags, cache, offset, file)
    area.promised = promised
    return area


def check_moves(old: int, old_length: int, new_length: int, new: int) -> tuple[int, int]:
    """mremap(2) of huge pages: the lengths it means. EINVAL: to grow, or to be anywhere but at whole pages."""
    old_length, new_length = align_up(old_length), align_up(new_length)
    if (old | new) & BLOCK_MASK or new_length > old_length:
        raise EINVAL
    return old_length, new_length


# ---- faults


def repair(mm: AddressSpace, area: Area, addr: int, access: int) -> bool:
    """Map the huge page at `addr`, where nothing is mapped; False: it cannot be had, a SIGBUS. Raises OutOfFrames."""
    assert isinstance(area, HugeArea)
    cache, tables = area.huge_cache, mm.tables
    index, private = area.index(addr), not area.flags & VM_SHARED
    if index << BLOCK_SHIFT >= cache.size or area.robbed:
        return False
    slot = tables.slot(addr >> BLOCK_SHIFT)
    bits = tables.rw[area.prot]
    pfn = cache.huge.get(index)
    if not private:
        pfn = cache.huge_frame(index)
    elif pfn is None:
        pfn = _take(area, index)
    elif access & WRITE:
        pfn = _copy(mm, area, index, pfn)
    else:
        tables.frames.get(pfn)
        bits = tables.ro[area.prot]
    if pfn is None:
        return False
    _put_leaf(tables, addr >> BLOCK_SHIFT, slot, _entry(tables, pfn, bits, private))
    mm.minflt += 1
    return True


def _entry(tables: PageTables, pfn: int, bits: int, private: bool) -> int:
    fmt = tables.fmt
    return pfn << fmt.pfn_shift | bits | fmt.large | fmt.soft_file | (fmt.soft_cow if private else 0)


def _put_leaf(tables: PageTables, block: int, slot: int, entry: int) -> None:
    tables.words[slot] = entry
    tables.blocks[block] = ~slot


def _take(area: HugeArea, index: int) -> int | None:
    """A page of its own for a private area."""
    promised = area.promised is not None and index in area.promised
    pfn = area.huge_cache.pool.take(promised)
    if promised and area.promised is not None:
        area.promised.discard(index)
    return pfn


def _copy(mm: AddressSpace, area: HugeArea, index: int, source: int) -> int | None:
    """A copy of a page that belongs to others too."""
    pfn = _take(area, index)
    if pfn is not None:
        to, start = pfn << PAGE_SHIFT, source << PAGE_SHIFT
        mm.ram.mem[to : to + BLOCK_BYTES] = mm.ram.mem[start : start + BLOCK_BYTES]
    return pfn


def write(mm: AddressSpace, area: Area, addr: int) -> bool:
    """The area may be written, the leaf at `addr` may not: copy on write. False: no page is left, a SIGBUS."""
    assert isinstance(area, HugeArea)
    tables, fmt = mm.tables, mm.tables.fmt
    word = ~tables.blocks[addr >> BLOCK_SHIFT]
    entry = tables.words[word]
    old, start = fmt.pfn(entry), addr & ~BLOCK_MASK
    mm.minflt += 1
    if area.flags & VM_SHARED or _alone(mm, old):
        tables.words[word] = entry | fmt.write | fmt.dirty
        return True
    pfn = _copy(mm, area, area.index(addr), old)
    if pfn is None:
        if area.promised is None or old in area.huge_cache.huge.values():
            return False
        _rob(area, old)  # who was promised the page keeps it; those it was forked to lose it
        tables.words[word] = entry | fmt.write | fmt.dirty
        return True
    tables.words[word] = _entry(tables, pfn, tables.rw[area.prot], True)
    mm.cow_pages += BLOCK_PAGES
    mm.forget()
    mm.space.reload(start, start + BLOCK_SIZE)
    tables.frames.put(old)
    return True


def _alone(mm: AddressSpace, pfn: int) -> bool:
    """One leaf is all that refers to the page, besides the pool."""
    return mm.tables.counts[pfn] == 2


def _rob(owner: HugeArea, pfn: int) -> None:
    for area in tuple(owner.huge_cache.mappers):
        if area is not owner and isinstance(area, HugeArea) and not area.flags & VM_SHARED:
            if _unmap_area(area, area.start, area.end, frozenset((pfn,))):
                area.robbed = True


# ---- unmapping and copying


def _unmap_area(area: Area, start: int, end: int, only: frozenset[int] | None) -> bool:
    """Unmap [start, end) of an area (`only` these pages of it); whether any was mapped."""
    mm = area.mm
    tables, fmt = mm.tables, mm.tables.fmt
    runs: list[Run] = []
    for block in tables.in_range(start, end):
        word = ~tables.blocks[block]
        entry = tables.words[word]
        pfn = fmt.pfn(entry)
        if only is None or pfn in only:
            tables.words[word] = 0
            del tables.blocks[block]
            runs.append((pfn, 1 if entry & fmt.soft_cow else 0))
    if runs:
        mm.forget()
        mm.space.flush(start, end)
        put_runs(tables.frames, runs)
    return bool(runs)


def dont_need(area: Area, start: int, end: int) -> None:
    """MADV_DONTNEED: whole pages go; to whom they were promised, new ones are. EINVAL if `start` is inside a page."""
    assert isinstance(area, HugeArea)
    if start & BLOCK_MASK:
        raise EINVAL
    end &= ~BLOCK_MASK
    if start >= end:
        return
    cache, pool = area.huge_cache, area.huge_cache.pool
    blocks = area.mm.tables.in_range(start, end)
    _unmap_area(area, start, end, None)
    pool.settle()
    if area.promised is None:
        return
    for index in (area.index(block << BLOCK_SHIFT) for block in blocks):
        if index not in area.promised and index not in cache.huge and pool.reserve(1):
            area.promised.add(index)


def fork(mm: AddressSpace, child: AddressSpace) -> None:
    """The child's areas of huge pages, which were copied as ordinary ones, get the leaves. Raises OutOfFrames."""
    child.huge_pages = 0
    for at, area in enumerate(child.map.areas):
        if area.flags & VM_HUGETLB:
            new = HugeArea(child, area.start, area.end, area.prot, area.flags, area.cache, area.offset, area.file, area.name)
            child.map.areas[at] = new
            area.close()
            child.huge_pages += new.pages
            _copy_leaves(mm, child, new)


def _copy_leaves(mm: AddressSpace, child: AddressSpace, area: HugeArea) -> None:
    tables, fmt = mm.tables, mm.tables.fmt
    private = not area.flags & VM_SHARED
    lost = False
    for block in tables.in_range(area.start, area.end):
        word = ~tables.blocks[block]
        slot = child.tables.slot(block)
        entry = tables.words[word]
        if private:
            tables.frames.get(fmt.pfn(entry))
            lost |= bool(entry & fmt.write)
            entry &= ~fmt.write
            tables.words[word] = entry
        _put_leaf(child.tables, block, slot, entry)
    if lost:
        mm.space.flush(area.start, area.end, downgrade=True)


# ---- what is there


def mapped_pages(tables: PageTables, blocks: Iterable[int]) -> int:
    """How many pages of 4 KiB the huge pages in `blocks` come to."""
    words, soft_file = tables.words, tables.fmt.soft_file
    bases = (tables.blocks[block] for block in blocks)
    return sum(BLOCK_PAGES for base in bases if base < 0 and words[~base] & soft_file)


def transparent_pages(tables: PageTables) -> int:
    """How many pages of 4 KiB large leaves of ordinary memory map."""
    words, soft_file = tables.words, tables.fmt.soft_file
    return sum(BLOCK_PAGES for base in tables.blocks.values() if base < 0 and not words[~base] & soft_file)


assert BLOCK_SIZE == BLOCK_BYTES == BLOCK_PAGES * PAGE_SIZE
