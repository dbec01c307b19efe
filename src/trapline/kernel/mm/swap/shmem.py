"""Pages of tmpfs, memfd_create(2) and shared memory in swap: a page cache some of whose pages are elsewhere.

A cache becomes a `SwappedCache` when its first page goes out, and stays one. `swapped` has the slot of each page that is out.
Such a page is not a hole: whoever would take it for one brings it back, reads it where it is, or, overwriting it, drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import VM_LOCKED
from trapline.kernel.mm.page_cache import PageCache, within
from trapline.kernel.mm.swap.areas import Page, Swap, SwapFull
from trapline.kernel.mm.swap.fault import take_frames
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.area import Area

WINDOW_PAGES = 512  #: what the hand passes at once
MOST_LOOKS = 1 << 16  #: at mappings of one cache, while the hand passes all of it: with more of them it takes longer steps
AROUND_PAGES = 8  #: an aligned chunk of so many comes back at once


class SwappedCache(PageCache):
    """`swapped`: index -> slot. A page is never both there and in `pages`."""

    __slots__ = ()

    swapped: dict[int, int]

    @property
    def _swap(self) -> Swap:
        found: Swap = self._frames.swap
        return found

    @property
    def pages_used(self) -> int:
        return len(self.pages) + len(self.swapped)

    def holds(self, index: int) -> bool:
        return index in self.pages or index in self.swapped

    def held(self) -> Iterable[int]:
        return (*self.pages, *self.swapped)

    def count_held(self, first: int, last: int) -> int:
        return len(within(self.pages, first, last)) + len(within(self.swapped, first, last))

    def stored(self, index: int) -> bool:
        return index in self.swapped

    # ---- back

    def bring(self, index: int) -> int:
        """The frame of a page that is out, brought back; neighbours come with it if memory is not short. OutOfFrames, EIO."""
        swap, frames = self._swap, self._frames
        wanted = [index]
        if swap.has_room(AROUND_PAGES):
            first = index & -AROUND_PAGES
            wanted += [each for each in range(first, first + AROUND_PAGES) if each != index and each in self.swapped]
        new = take_frames(frames, len(wanted))
        back = [(self.swapped[each], pfn) for each, pfn in zip(wanted, new, strict=False)]
        try:
            swap.read(back)
        except Errno:
            for pfn in new:
                frames.put(pfn)
            raise
        for each, (slot, pfn) in zip(wanted, back, strict=False):
            del self.swapped[each]
            self.pages[each] = pfn
            swap.put(slot)
        self._grown()
        return self.pages[index]

    def frame(self, index: int, *, write: bool = False) -> int:
        return self.bring(index) if index in self.swapped else super().frame(index, write=write)

    def _load_zeros(self, index: int) -> int:
        if index in self.swapped:
            return self.bring(index)
        chunk, first = self.chunk, index & -self.chunk
        if chunk > 1 and any(each in self.swapped for each in range(first, first + chunk)):
            self.chunk = 1
        try:
            return super()._load_zeros(index)
        finally:
            self.chunk = chunk

    def read(self, offset: int, count: int) -> bytes:
        if not self.swapped:
            return super().read(offset, count)
        end = min(offset + count, self.size)
        parts = []
        while offset < end:
            length = min(PAGE_SIZE - (offset & PAGE_MASK), end - offset)
            slot = self.swapped.get(offset >> PAGE_SHIFT)
            if slot is None:
                parts.append(super().read(offset, length))
            else:
                parts.append(self._swap.read_bytes(slot)[offset & PAGE_MASK :][:length])
            offset += length
        return b"".join(parts)

    # ---- overwritten, or gone

    def _forget(self, indices: Iterable[int]) -> None:
        for each in indices:
            slot = self.swapped.pop(each, None)
            if slot is not None:
                self._swap.put(slot)

    def _for_write(self, index: int, start: int, length: int) -> tuple[int, int]:
        if index in self.swapped and (start or length < PAGE_SIZE):
            return self.bring(index), min(length, PAGE_SIZE - start)
        found = super()._for_write(index, start, length)
        if self.swapped:
            self._forget(range(index, index + max(1, found[1] >> PAGE_SHIFT)))
        return found

    def _bring_if_out(self, index: int) -> None:
        if index in self.swapped:
            self.bring(index)

    def truncate(self, size: int) -> None:
        if size & PAGE_MASK:
            self._bring_if_out(size >> PAGE_SHIFT)
        super().truncate(size)
        first = (size + PAGE_MASK) >> PAGE_SHIFT
        self._forget([each for each in self.swapped if each >= first])

    def _clear_tail(self, end: int) -> None:
        if self.size & PAGE_MASK:
            self._bring_if_out(self.size >> PAGE_SHIFT)
        super()._clear_tail(end)

    def _zero_part(self, start: int, end: int) -> None:
        self._bring_if_out(start >> PAGE_SHIFT)
        super()._zero_part(start, end)

    def punch(self, offset: int, length: int) -> None:
        super().punch(offset, length)
        first, last = (offset + PAGE_MASK) >> PAGE_SHIFT, min(offset + length, self.size) >> PAGE_SHIFT
        self._forget([each for each in self.swapped if first <= each < last])

    def reserve(self, first: int, last: int) -> None:
        for each in sorted(each for each in self.swapped if first <= each < last):
            super().reserve(first, each)
            first = each + 1
        super().reserve(first, last)

    def close(self) -> None:
        super().close()
        if not self.mappers:
            self._forget(list(self.swapped))


# ---- out


def pass_windows(swap: Swap) -> Iterator[Callable[[], int]]:
    """What the hand passes: each cache that has pages, piece by piece."""
    for cache in list(swap.caches):
        if not cache.pages_used:
            del swap.caches[cache]
        elif _may_go(cache):
            pages, firsts = WINDOW_PAGES, {index & -WINDOW_PAGES for index in cache.pages}
            while len(firsts) > 1 and len(firsts) * len(cache.mappers) > MOST_LOOKS:
                pages, firsts = 2 * pages, {index & -2 * pages for index in firsts}
            for first in sorted(firsts):
                yield _Window(swap, cache, first, first + pages)


def _may_go(cache: PageCache) -> bool:
    return type(cache) in (PageCache, SwappedCache) and cache.fill is None and not cache.stays


class _Window:
    """Some pages of a cache, for the hand to pass."""

    __slots__ = ("cache", "first", "last", "swap")

    def __init__(self, swap: Swap, cache: PageCache, first: int, last: int) -> None:
        self.swap, self.cache, self.first, self.last = swap, cache, first, last

    def __call__(self) -> int:
        return pass_window(self.swap, self.cache, self.first, self.last)


def pass_window(swap: Swap, cache: PageCache, first: int, last: int, *, force: bool = False) -> int:
    """Put out what was not accessed of pages [first, last), or with `force` all; what was is aged. How many went."""
    if not _may_go(cache):
        return 0
    stay: set[int] = set()
    for area in cache.mappers:
        low = max(area.start, area.start + (first << PAGE_SHIFT) - area.offset)
        high = min(area.end, area.start + (last << PAGE_SHIFT) - area.offset)
        if low < high:
            if area.flags & VM_LOCKED:
                shift = area.offset - area.start
                stay.update(within(cache.pages, (low + shift) >> PAGE_SHIFT, (high + shift) >> PAGE_SHIFT))
            elif not force:
                stay |= _aged(area, low, high)
    counts, pages = swap.frames.counts, cache.pages
    indices = range(first, last) if last - first < len(pages) else sorted(each for each in pages if first <= each < last)
    return _go(swap, cache, [each for each in indices if each in pages and each not in stay and counts[pages[each]] == 1])


def _aged(area: Area, start: int, end: int) -> set[int]:
    """Take the accessed bits of the leaves in [start, end); the pages that had one."""
    mm = area.mm
    fmt, words = mm.tables.fmt, mm.tables.words
    found: set[int] = set()
    for va, word, count in mm.tables.pieces(start, end):
        if word >= 0:
            index = (va - area.start + area.offset) >> PAGE_SHIFT
            for i, entry in enumerate(words[word : word + count].tolist()):
                if entry & fmt.present and entry & fmt.soft_file and entry & fmt.accessed:
                    words[word + i] = entry & ~fmt.accessed
                    found.add(index + i)
    if found:
        mm.forget()
        mm.space.flush(start, end)
    return found


def _go(swap: Swap, cache: PageCache, indices: list[int]) -> int:
    if not indices:
        return 0
    out: list[Page] = []
    try:
        for index in indices:
            out.append((swap.alloc(), cache.pages[index]))  # noqa: PERF401 - what came before a failure counts
    except SwapFull:
        indices = indices[: len(out)]
    if not out:
        return 0
    for area in tuple(cache.mappers):
        low = max(area.start, area.start + (indices[0] << PAGE_SHIFT) - area.offset)
        high = min(area.end, area.start + (indices[-1] + 1 << PAGE_SHIFT) - area.offset)
        if low < high:
            area.mm.zap(low, high, copies=False)
    try:
        swap.write(out)
    except Errno:
        for slot, _ in out:
            swap.put(slot)
        return 0
    swapped = _swapped(cache)
    swap.caches[cache] = None
    cache.pages_go()
    for index, (slot, pfn) in zip(indices, out, strict=True):
        del cache.pages[index]
        swapped[index] = slot
        swap.frames.put(pfn)
    return len(indices)


def _swapped(cache: PageCache) -> dict[int, int]:
    """Which pages of a cache are out; from now on it minds them."""
    if not isinstance(cache, SwappedCache):
        cache.__class__ = SwappedCache
        cache.swapped = {}  # type: ignore[attr-defined]  # a slot that every cache has
    found: dict[int, int] = cache.swapped  # type: ignore[attr-defined]
    return found
