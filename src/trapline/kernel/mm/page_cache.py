"""PageCache: the pages of one file in RAM, for read(2), write(2) and mmap(2) alike.

A cache with a `fill` has content behind it (a host file, a lower layer) and reads it on demand, ahead, into consecutive
frames; one without (tmpfs, shared anonymous memory) holds all there is, and absent pages are holes that read as zeros.

Invariants:
- the cache holds one reference to each of its frames; leaves that map one hold none, so a page is unmapped everywhere before
  its frame goes. Whoever uses a frame across an allocation holds a reference of its own;
- bytes beyond `backed` never come from `fill`, so what was cut off by a truncation never comes back;
- a page in `dirty` differs from what is behind it, and is not dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import ENOSPC
from trapline.kernel.mm import reclaim
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.leaves import mapped
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from trapline.machine.ram import BLOCK_ORDER, Ram

if TYPE_CHECKING:
    from trapline.kernel.mm.area import Area

READAHEAD_PAGES = 16  #: read ahead at first
READAHEAD_MAX_PAGES = 64  #: and for sequential readers

Fill = Callable[[int, memoryview], None]
WriteBack = Callable[[int, "bytes | memoryview"], object]


def within(pages: dict[int, int] | set[int], first: int, last: int) -> list[int]:
    """Those of `pages` that are in [first, last), in any order. Takes time for the fewer: the range, or `pages`."""
    if last - first < len(pages):
        return [index for index in range(first, last) if index in pages]
    return [index for index in pages if first <= index < last]


class PageCache:
    """`fill(offset, into)` loads backing bytes; `writeback(offset, data)` stores them (None: changes stay in RAM).

    `owned`: nobody but the areas that map it holds the cache; it closes with the last of them. `chunk`: how many pages a
    hole is filled with at once (a power of two).
    """

    __slots__ = (
        "_ahead", "_frames", "_mem", "_next", "_row", "backed", "chunk", "dirty", "dropped", "fill", "imprint", "mappers",
        "owned", "pages", "ram", "room", "shared_writers", "size", "stays", "swapped", "writeback",
    )  # fmt: skip

    def __init__(self, ram: Ram, size: int, fill: Fill | None = None) -> None:
        self.ram = ram
        self.size = size
        self.fill = fill
        self.backed = size if fill is not None else 0
        self.writeback: WriteBack | None = None
        self.pages: dict[int, int] = {}  #: index -> frame
        self.dirty: set[int] = set()
        self.dropped = 0  #: how often pages have gone from it
        self.imprint: Any = None  #: what executing the file has left (exec.imprint.Kept)
        self.mappers: dict[Area, None] = {}  #: the areas that map this file, in order of mapping
        self.shared_writers = 0  #: how many of them are shared and may be written
        self.owned = False
        self.stays = False  #: its pages do not go to swap: SHM_LOCK, ramfs
        self.room: Callable[[], bool] | None = None  #: whether a hole may become a page; None: always
        self.chunk = 1
        self._frames = ram.frames
        self._mem = ram.mem
        self._row = 0, 0, 0, 0  #: first page, page after the last, frame, `dropped`: a long row of pages that was found
        self._ahead = READAHEAD_PAGES
        self._next = 0  # the index after the last page that was filled

    @property
    def pages_used(self) -> int:
        return len(self.pages)

    @property
    def tracked(self) -> bool:
        """Writes through mappings must be noticed, page by page."""
        return self.fill is not None or self.writeback is not None

    def resident(self, index: int) -> bool:
        return index in self.pages

    # ---- what may be elsewhere than in RAM, of a cache that holds all there is (see mm.swap.shmem)

    def holds(self, index: int) -> bool:
        """A page is here, be it put out to swap."""
        return index in self.pages

    def held(self) -> Iterable[int]:
        """The pages that are here, in any order."""
        return tuple(self.pages)

    def count_held(self, first: int, last: int) -> int:
        """How many of the pages [first, last) are here."""
        return len(within(self.pages, first, last))

    def stored(self, index: int) -> bool:
        """An absent page's content is to be read from somewhere; else it is a hole."""
        return self.fill is not None and index << PAGE_SHIFT < self.backed

    def _grown(self) -> None:
        """A cache without anything behind it has pages more."""
        if self._frames.swap is not None:
            self._frames.swap.caches[self] = None

    # ---- pages

    def in_a_row(self, index: int, count: int) -> int | None:
        """The first frame of `count` pages from `index` on, if all of them are there, in consecutive frames."""
        first, last, pfn, dropped = self._row
        if first <= index and index + count <= last and dropped == self.dropped:  # a page that is there stays where it is
            return pfn + index - first
        found = self.pages.get(index)
        if found is None or list(map(self.pages.get, range(index, index + count))) != list(range(found, found + count)):
            return None
        self._found_row(index, index + count, found)
        return found

    def _found_row(self, first: int, last: int, pfn: int) -> None:
        """Pages [first, last) are there, in frames from `pfn` on: the longest such row is remembered."""
        known, end, _, dropped = self._row
        if last - first > end - known or dropped != self.dropped:
            self._row = first, last, pfn, self.dropped

    def frame(self, index: int, *, write: bool = False) -> int:
        """The frame of a page, filled (with its neighbours) if need be. Raises OutOfFrames, ENOSPC, or what `fill` raises."""
        pfn = self.pages.get(index)
        if pfn is None:
            if self.room is not None and not self.room():
                raise ENOSPC
            pfn = self._load(index, 1)
        if write and self.tracked:
            self.dirty.add(index)
        return pfn

    def load(self, first: int, last: int) -> None:
        """Read what is absent of pages [first, last), into consecutive frames. Raises OutOfFrames, or what `fill` raises."""
        last = min(last, (self.backed + PAGE_MASK) >> PAGE_SHIFT)
        while first < last:
            if first in self.pages:
                first += 1
                continue
            _, high = self._absent_around(first, first, last)
            pfn, _, high = self._alloc_span(first, first, high)
            self._fill(pfn, first, high)
            self.pages.update(zip(range(first, high), range(pfn, pfn + high - first), strict=True))
            self._found_row(first, high, pfn)
            first = high
        reclaim.reclaimer(self.ram).touch(self)

    def _load(self, index: int, wanted: int) -> int:
        """Make page `index` present; `wanted` pages from it on will be asked for."""
        if self.fill is None or index << PAGE_SHIFT >= self.backed:
            return self._load_zeros(index)
        if index == self._next:
            self._ahead = min(self._ahead * 2, READAHEAD_MAX_PAGES)
        else:
            self._ahead = READAHEAD_PAGES
        ahead = min(max(self._ahead, 1 << (wanted - 1).bit_length()), READAHEAD_MAX_PAGES)
        first = index & -ahead
        last = min(first + ahead, (self.backed + PAGE_MASK) >> PAGE_SHIFT)
        first, last = self._absent_around(index, first, last)
        self._next = last
        try:
            pfn, first, last = self._alloc_span(index, first, last)
            self._fill(pfn, first, last)
        except OutOfFrames:
            if last - first == 1:
                raise
            pfn, first, last = self._frames.alloc(zero=False), index, index + 1
            self._fill(pfn, first, last)
        self.pages.update(zip(range(first, last), range(pfn, pfn + last - first), strict=True))
        reclaim.reclaimer(self.ram).touch(self)
        return pfn + index - first

    def _absent_around(self, index: int, first: int, last: int) -> tuple[int, int]:
        """The largest part of [first, last) around `index` without a present page."""
        pages = self.pages
        low = high = index
        while low > first and low - 1 not in pages:
            low -= 1
        while high + 1 < last and high + 1 not in pages:
            high += 1
        return low, high + 1

    def _alloc_span(self, index: int, first: int, last: int) -> tuple[int, int, int]:
        """(first frame, first page, page after the last), consecutive frames for as much of the span as is to be had."""
        order = (last - first - 1).bit_length()
        pfn = self._frames.alloc(order, zero=False)
        spare = (1 << order) - (last - first)
        if spare:
            self._frames.put_run(pfn + last - first, spare)
        return pfn, first, last

    def _fill(self, pfn: int, first: int, last: int) -> None:
        """Load pages [first, last) into the frames from `pfn` on; they are put back if that fails."""
        pa, length = pfn << PAGE_SHIFT, (last - first) << PAGE_SHIFT
        valid = min(length, self.backed - (first << PAGE_SHIFT))
        try:
            self.fill(first << PAGE_SHIFT, self._mem[pa : pa + valid])  # type: ignore[misc]  # checked by _load
        except BaseException:
            self._frames.put_run(pfn, last - first)
            raise
        if valid < length:
            self._mem[pa + valid : pa + length] = bytes(length - valid)

    def _load_zeros(self, index: int) -> int:
        chunk = self.chunk
        first = index & -chunk
        if chunk > 1 and (first + chunk) << PAGE_SHIFT <= self.size:
            if not any(each in self.pages for each in range(first, first + chunk)):
                try:
                    pfn = self._frames.alloc(chunk.bit_length() - 1)
                except OutOfFrames:
                    pass
                else:
                    self.pages.update(zip(range(first, first + chunk), range(pfn, pfn + chunk), strict=True))
                    self._grown()
                    return pfn + index - first
        pfn = self.pages[index] = self._frames.alloc()
        self._grown()
        return pfn

    def reserve(self, first: int, last: int) -> None:
        """Give every page in [first, last) that is absent a frame of zeros, beyond the end of the file too. Raises OutOfFrames;
        then nothing has changed."""
        pages = self.pages
        made: dict[int, int] = {}
        index = first
        try:
            while index < last:
                if index in pages:
                    index += 1
                    continue
                order = min((index & -index or last).bit_length(), (last - index).bit_length(), BLOCK_ORDER + 1) - 1
                while order and not pages.keys().isdisjoint(range(index, index + (1 << order))):
                    order -= 1
                pfn = self._frames.alloc(order)
                made.update(zip(range(index, index + (1 << order)), range(pfn, pfn + (1 << order)), strict=True))
                index += 1 << order
        except OutOfFrames:
            for pfn in made.values():
                self._frames.put(pfn)
            raise
        pages.update(made)
        if self.fill is not None:
            self.dirty.update(made)
        else:
            self._grown()

    # ---- read and write

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on; fewer at the end of the file."""
        count = min(count, self.size - offset)
        if count <= 0:
            return b""
        start = offset & PAGE_MASK
        if start + count <= PAGE_SIZE:
            index = offset >> PAGE_SHIFT
            pfn = self.pages.get(index)
            if pfn is None:
                if self.fill is None:
                    return bytes(count)
                pfn = self._load(index, 1)
            pa = (pfn << PAGE_SHIFT) + start
            return self._mem[pa : pa + count].tobytes()
        return b"".join(self._read_parts(offset, count))

    def _read_parts(self, offset: int, count: int) -> list[bytes]:
        """The bytes, as one part for each run of consecutive frames (or of holes)."""
        parts: list[bytes] = []
        pages, mem = self.pages, self._mem
        end = offset + count
        while offset < end:
            index = offset >> PAGE_SHIFT
            last = ((end - 1) >> PAGE_SHIFT) + 1
            pfn = pages.get(index)
            if pfn is None and self.fill is not None:
                pfn = self._load(index, last - index)
            stop = index + 1
            if pfn is None:
                while stop < last and stop not in pages:
                    stop += 1
                length = min(end, stop << PAGE_SHIFT) - offset
                parts.append(bytes(length))
            else:
                while stop < last and pages.get(stop) == pfn + stop - index:
                    stop += 1
                length = min(end, stop << PAGE_SHIFT) - offset
                pa = (pfn << PAGE_SHIFT) + (offset & PAGE_MASK)
                parts.append(mem[pa : pa + length].tobytes())
            offset += length
        return parts

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Store `data`, extending the file; how many bytes were stored. Raises OutOfFrames if none could be."""
        if offset > self.size:
            self._clear_tail(offset)
        view = memoryview(data)
        total, done = len(view), 0
        mem = self._mem
        while done < total:
            at = offset + done
            start = at & PAGE_MASK
            try:
                pfn, length = self._for_write(at >> PAGE_SHIFT, start, total - done)
            except OutOfFrames:
                if not done:
                    raise
                break
            pa = (pfn << PAGE_SHIFT) + start
            mem[pa : pa + length] = view[done : done + length]
            done += length
        self.size = max(self.size, offset + done)
        if self.writeback is not None:
            self.writeback(offset, view[:done])
            self.backed = max(self.backed, offset + done)
        elif self.fill is not None:
            self.dirty.update(range(offset >> PAGE_SHIFT, (offset + done + PAGE_MASK) >> PAGE_SHIFT))
        return done

    def _for_write(self, index: int, start: int, length: int) -> tuple[int, int]:
        """(frame of page `index`, how many bytes from `start` on can be stored in consecutive frames)."""
        pages = self.pages
        pfn = pages.get(index)
        if pfn is not None:
            return pfn, min(length, PAGE_SIZE - start)
        whole = length >> PAGE_SHIFT
        if start or not whole:
            return self._load(index, 1), min(length, PAGE_SIZE - start)
        count = 1
        while count < min(whole, READAHEAD_MAX_PAGES) and index + count not in pages:
            count += 1
        order = count.bit_length() - 1
        try:
            pfn = self._frames.alloc(order, zero=False)
        except OutOfFrames:
            pfn, order = self._frames.alloc(zero=False), 0
        pages.update(zip(range(index, index + (1 << order)), range(pfn, pfn + (1 << order)), strict=True))
        if self.fill is not None:
            reclaim.reclaimer(self.ram).touch(self)
        else:
            self._grown()
        return pfn, PAGE_SIZE << order

    # ---- change of size

    def truncate(self, size: int) -> None:
        """Make the file `size` bytes long: pages beyond are unmapped everywhere and freed, private copies too."""
        old = self.size
        self.size = size
        if size >= old:
            self.size = old
            self._clear_tail(size)
            self.size = size
            return
        self.backed = min(self.backed, size)
        first = (size + PAGE_MASK) >> PAGE_SHIFT
        self._unmap(first << PAGE_SHIFT, None, copies=True)
        self._drop([index for index in self.pages if index >= first])
        pfn = self.pages.get(size >> PAGE_SHIFT) if size & PAGE_MASK else None
        if pfn is not None:
            self._zero(pfn, size & PAGE_MASK, PAGE_SIZE)

    def _clear_tail(self, end: int) -> None:
        """The file grows to `end`: what a mapping wrote beyond its old end must not show."""
        start = self.size & PAGE_MASK
        pfn = self.pages.get(self.size >> PAGE_SHIFT) if start else None
        if pfn is not None:
            self._zero(pfn, start, min(PAGE_SIZE, start + end - self.size))

    def _zero(self, pfn: int, start: int, end: int) -> None:
        pa = pfn << PAGE_SHIFT
        self._mem[pa + start : pa + end] = bytes(end - start)

    def punch(self, offset: int, length: int) -> None:
        """Make [offset, offset + length) read as zeros, freeing whole pages. With `writeback`, the caller has made the hole
        in what is behind the cache."""
        end = min(offset + length, self.size)
        if end <= offset:
            return
        first, last = (offset + PAGE_MASK) >> PAGE_SHIFT, end >> PAGE_SHIFT
        if first > last:
            self._zero_part(offset, end)
            return
        if offset & PAGE_MASK:
            self._zero_part(offset, first << PAGE_SHIFT)
        if end & PAGE_MASK:
            self._zero_part(last << PAGE_SHIFT, end)
        self._unmap(first << PAGE_SHIFT, last << PAGE_SHIFT, copies=False)
        if self.fill is None or self.writeback is not None:
            self._drop(within(self.pages, first, last))
            return
        behind = min(last, (self.backed + PAGE_MASK) >> PAGE_SHIFT)
        self._drop(within(self.pages, first, last))
        for index in range(first, behind):  # what is behind the cache must not show again
            self._load_zeros(index)
            self.dirty.add(index)

    def _zero_part(self, start: int, end: int) -> None:
        """Zero bytes of one page."""
        index = start >> PAGE_SHIFT
        if self.fill is None and index not in self.pages:
            return
        pfn = self.frame(index, write=self.writeback is None)
        self._zero(pfn, start & PAGE_MASK, (start & PAGE_MASK) + end - start)

    def pages_go(self) -> None:
        """Pages go from it: what was found of where they are holds no longer, and is not kept."""
        self.dropped += 1
        if self.imprint is not None:
            self.imprint.imprint = None

    def _drop(self, indices: list[int]) -> None:
        """Forget pages that nothing maps any more (or whose mappings may keep the old frame)."""
        put = self._frames.put
        self.pages_go()
        for index in indices:
            put(self.pages.pop(index))
        if self.dirty:
            self.dirty.difference_update(indices)

    def _unmap(self, start: int, end: int | None, *, copies: bool) -> None:
        """Unmap bytes [start, end) of the file from every space; `copies`: private copies too."""
        for area in tuple(self.mappers):
            low = area.start + max(0, start - area.offset)
            high = area.end if end is None else min(area.end, area.start + end - area.offset)
            if low < high:
                area.mm.zap(low, high, copies=copies)

    # ---- what is behind the cache

    def sync(self, start: int = 0, end: int | None = None) -> None:
        """Write dirty pages of bytes [start, end) back; later writes through mappings are noticed again."""
        if self.writeback is None or not self.dirty:
            return
        first = start >> PAGE_SHIFT
        last = 1 << 52 if end is None else (end + PAGE_MASK) >> PAGE_SHIFT
        indices = sorted(within(self.dirty, first, last))
        if not indices:
            return
        for area in tuple(self.mappers):
            if area.shared:
                low = area.start + max(0, (indices[0] << PAGE_SHIFT) - area.offset)
                high = min(area.end, area.start + ((indices[-1] + 1) << PAGE_SHIFT) - area.offset)
                if low < high:
                    area.mm.write_protect(low, high)
        for index in indices:
            pa = self.pages[index] << PAGE_SHIFT
            length = min(PAGE_SIZE, self.size - (index << PAGE_SHIFT))
            self.writeback(index << PAGE_SHIFT, self._mem[pa : pa + length])
            self.backed = max(self.backed, (index << PAGE_SHIFT) + length)
            self.dirty.discard(index)

    def backing_changed(self, size: int) -> None:
        """What is behind the cache was changed by others and is `size` bytes long now: forget clean pages."""
        first = (size + PAGE_MASK) >> PAGE_SHIFT
        if size < self.size:
            self._unmap(first << PAGE_SHIFT, None, copies=True)
        self._unmap(0, None, copies=False)
        self._drop([index for index in self.pages if index >= first or index not in self.dirty])
        self.size = self.backed = size

    def shrink(self, wanted: int) -> int:
        """Drop up to `wanted` clean pages that nothing maps; how many there were."""
        counts, dirty = self._frames.counts, self.dirty
        if self.fill is None:
            return 0
        kept = self._mapped()
        victims = []
        for index, pfn in self.pages.items():
            if counts[pfn] == 1 and index not in dirty and index not in kept:
                victims.append(index)
                if len(victims) >= wanted:
                    break
        self._drop(victims)
        return len(victims)

    def _mapped(self) -> set[int]:
        """The pages that some leaf maps."""
        found: set[int] = set()
        for area in self.mappers:
            shift = area.offset - area.start
            found.update((va + shift) >> PAGE_SHIFT for va in mapped(area.mm.tables, area.start, area.end))
        return found

    def mapcount(self, index: int) -> int:
        """How many leaves map a page."""
        offset = index << PAGE_SHIFT
        return sum(
            bool(area.mm.tables.entry(offset - area.offset + area.start) & area.mm.tables.fmt.soft_file)
            for area in self.mappers
            if area.offset <= offset < area.offset + area.end - area.start
        )

    def unmap_clean(self) -> None:
        """Unmap everything, so that `shrink` finds pages; whoever needs them faults."""
        if self.fill is not None:
            self._unmap(0, None, copies=False)

    def close(self) -> None:
        """The file is gone. If it is still mapped, its pages live on until the last mapping is gone."""
        if self.mappers:
            self.owned = True
            return
        self.sync()
        for pfn in self.pages.values():
            self._frames.put(pfn)
        self.pages_go()
        self.pages.clear()
        self.dirty.clear()


def of_frames(ram: Ram, frames: list[int]) -> PageCache:
    """A cache over frames that the kernel owns, for mappings like the vDSO."""
    cache = PageCache(ram, len(frames) << PAGE_SHIFT)
    for index, pfn in enumerate(frames):
        ram.frames.get(pfn)
        cache.pages[index] = pfn
    cache.owned = True
    return cache


def anonymous(ram: Ram, length: int, chunk: int) -> PageCache:
    """The cache of a shared anonymous mapping."""
    cache = PageCache(ram, length)
    cache.owned = True
    cache.chunk = chunk
    return cache
