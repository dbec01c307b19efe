"""Where pages go: the areas that are swapped to, their slots, and the swap cache.

A *slot* is a page's place: the number of an area, times 2**40, plus the page within it. Page 0 of an area holds its header, so
no slot in use is a multiple of 2**40, and as a page-table entry (`slot << SLOT_SHIFT`) none is zero.

The *swap cache* has the frames whose content is in a slot as well: of pages that came back to be read only, and of pages that
went out in one process while others still have them.

Invariants:
- a slot's count is how many page-table entries and caches of shared memory refer to it, and one more if it is in the swap
  cache, which holds one reference to the frame;
- a frame in the swap cache has the content of its slot: no leaf that maps it permits writing (see `reuse`);
- `Frames.swap` is set exactly while an area is on, so whatever this costs is nothing while none is.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from trapline.typed import TYPE_CHECKING, Any, Protocol

from trapline.abi.errno import Errno
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.page_cache import PageCache
    from trapline.kernel.mm.tables import PageTables
    from trapline.machine.ram import Ram

AREA_SHIFT = 40
OFFSET_MASK = (1 << AREA_SHIFT) - 1
MAX_AREAS = 32  #: as MAX_SWAPFILES
CLUSTER = 256  #: areas of one priority take turns after so many pages
AT_ONCE = 256  #: pages of one transfer
LEAST_COUNTS = 1024  #: pages whose counts are made first
MOST_FREE, LEAST_FREE = 4096, 256  #: pages to keep free: a 32nd of memory, within these

Page = tuple[int, int]  #: (slot, frame)


class SwapFull(Exception):
    """No slot is free."""


class Backing(Protocol):
    """What an area's pages are stored in. Errors are errno classes."""

    pages: int

    def read(self, page: int, views: Sequence[memoryview]) -> None:
        """Consecutive pages, from `page` on, into `views`, a page each."""

    def write(self, page: int, views: Sequence[memoryview]) -> None:
        """The same the other way."""

    def close(self) -> None:
        """It is not swapped to any more."""

    def end(self) -> None:
        """Nor will it be."""


class SwapArea:
    """One file or device that is swapped to. `owner`: what swapoff(2) knows it by; `total`: how many pages it takes.

    `counts` grows as pages are put there: a large area that is hardly used takes hardly any memory.
    """

    __slots__ = (
        "_bad", "_pages", "accepts", "backing", "counts", "kind", "name", "next", "number", "owner", "priority", "total",
        "used",
    )  # fmt: skip

    def __init__(
        self, number: int, name: bytes, kind: bytes, backing: Backing, pages: int, bad: Iterable[int], priority: int, owner: Any
    ) -> None:
        self.number, self.name, self.kind, self.backing = number, name, kind, backing
        self.priority, self.owner = priority, owner
        self._pages, self._bad = pages, frozenset((0, *bad))
        self.counts: array[int] = array("i")  #: by page; -1: no page for anybody
        self.total = pages - len(self._bad)
        self.used = 0
        self.next = 1
        self.accepts = True  #: pages may be put here

    def take(self) -> int:
        """A free page, with count 1; 0 if there is none."""
        if self.used >= self.total or not self.accepts:
            return 0
        counts, page = self.counts, self.next
        if page >= len(counts) or counts[page]:
            page = self._find(page)
        counts[page] = 1
        self.used += 1
        self.next = page + 1
        return page

    def _find(self, start: int) -> int:
        """A free page, from `start` on if there is one; there is one."""
        counts = self.counts
        while True:
            for first in (start, 0):
                try:
                    return counts.index(0, first)
                except ValueError:
                    continue
            start = len(counts)
            end = min(max(2 * start, LEAST_COUNTS), self._pages)
            counts.frombytes(bytes(4 * (end - start)))
            for page in self._bad:
                if start <= page < end:
                    counts[page] = -1


class Swap:
    """All of it, for one RAM. `spaces()` are the address spaces in use; `later(do)` has something done between two traps;
    `note(text)` is the kernel's log; `last_resort()` kills somebody whose memory others need."""

    def __init__(
        self, ram: Ram, spaces: Callable[[], Iterable[AddressSpace]], later: Callable[[Callable[[], None]], object],
        note: Callable[[str], object], last_resort: Callable[[], object],
    ) -> None:  # fmt: skip
        self.ram, self.frames = ram, ram.frames
        self.spaces, self.note, self.last_resort = spaces, note, last_resort
        self.areas: dict[int, SwapArea] = {}  #: by number
        self.cache: dict[int, int] = {}  #: slot -> frame
        self.slots: dict[int, int] = {}  #: frame -> slot
        self.holders: dict[AddressSpace, None] = {}  #: spaces with pages in swap, perhaps
        self.caches: dict[PageCache, None] = {}  #: caches of shared memory that have pages, perhaps
        self.queue: deque[Callable[[], int]] = deque()  #: what the clock's hand passes next (see `out`)
        self.pages_in = self.pages_out = 0
        self._order: list[SwapArea] = []  # by priority
        self._turn = 0
        self._later = later
        self._due = False
        self._low = min(max(self.frames.limit_pages >> 5, LEAST_FREE), MOST_FREE, self.frames.limit_pages >> 2)
        self.reserve = self._low >> 1  #: frames that faults of user code leave to the kernel

    # ---- areas

    def add(
        self, name: bytes, kind: bytes, backing: Backing, pages: int, bad: Iterable[int], priority: int, owner: Any
    ) -> SwapArea:
        """Swap to one more area. `priority` -1: below all there are. The caller has seen that there is room for it."""
        number = next(each for each in range(MAX_AREAS) if each not in self.areas)
        if priority < 0:
            priority = min([-1, *(each.priority for each in self.areas.values())]) - 1
        area = self.areas[number] = SwapArea(number, name, kind, backing, pages, bad, priority, owner)
        self._sort()
        if self.frames.swap is None:
            self.frames.swap = self
            self.frames.press_at = self.frames.limit_pages - self._low
            for mm in self.spaces():
                for each in mm.map.areas:
                    if each.cache is not None and each.shared and each.cache.fill is None:
                        self.caches[each.cache] = None
        return area

    def remove(self, area: SwapArea) -> None:
        """The area is empty, and no longer swapped to."""
        del self.areas[area.number]
        self._sort()
        area.backing.close()
        if not self.areas:
            self.frames.swap = None
            self.frames.press_at = self.frames.limit_pages
            self.queue.clear()
            self.caches.clear()
            self.holders.clear()

    def close(self) -> None:
        for area in self.areas.values():
            area.backing.close()

    def _sort(self) -> None:
        self._order = sorted(self.areas.values(), key=lambda each: -each.priority)

    @property
    def total_pages(self) -> int:
        return sum(each.total for each in self.areas.values())

    @property
    def free_pages(self) -> int:
        """Free slots; those of pages that nobody needs any more are given back first."""
        self.shrink(len(self.cache))
        return sum(each.total - each.used for each in self.areas.values())

    @property
    def roomy(self) -> bool:
        """Less than half is used: pages may keep their slots while they are in RAM."""
        return 2 * sum(each.used for each in self.areas.values()) < self.total_pages

    # ---- slots

    def alloc(self) -> int:
        """A free slot, with count 1, of the area with the highest priority. Raises SwapFull."""
        order = self._order
        for i, area in enumerate(order):
            page = area.take()
            if page:
                self._turn += 1
                if self._turn >= CLUSTER:
                    self._turn = 0
                    last = max(j for j, each in enumerate(order) if each.priority == area.priority)
                    order.insert(last, order.pop(i))
                return area.number << AREA_SHIFT | page
        raise SwapFull

    def get(self, slot: int) -> None:
        """One more reference."""
        self.areas[slot >> AREA_SHIFT].counts[slot & OFFSET_MASK] += 1

    def put(self, slot: int) -> None:
        """One less; the last frees the slot, and a frame that nobody but the swap cache has goes with the last but one."""
        area = self.areas[slot >> AREA_SHIFT]
        count = area.counts[slot & OFFSET_MASK] - 1
        if count < 0:
            raise AssertionError(f"slot {slot:#x} put more often than got")
        area.counts[slot & OFFSET_MASK] = count
        if not count:
            area.used -= 1
        elif count == 1 and slot in self.cache and self.frames.counts[self.cache[slot]] == 1:
            self.uncache(slot)

    def count(self, slot: int) -> int:
        return self.areas[slot >> AREA_SHIFT].counts[slot & OFFSET_MASK]

    # ---- the swap cache

    def keep(self, slot: int, pfn: int) -> None:
        """Enter a frame that has the content of a slot."""
        self.cache[slot] = pfn
        self.slots[pfn] = slot
        self.frames.get(pfn)
        self.get(slot)

    def uncache(self, slot: int) -> None:
        pfn = self.cache.pop(slot)
        del self.slots[pfn]
        self.frames.put(pfn)
        self.put(slot)

    def shrink(self, wanted: int) -> int:
        """Free up to `wanted` frames that only the swap cache has; how many there were."""
        counts = self.frames.counts
        idle = list(islice((slot for slot, pfn in self.cache.items() if counts[pfn] == 1), max(wanted, 0)))
        for slot in idle:
            self.uncache(slot)
        return len(idle)

    def reuse(self, tables: PageTables, first: int, last: int) -> None:
        """The pages that words [first, last) map are about to be written: a frame that nobody else has leaves the cache."""
        fmt, counts = tables.fmt, self.frames.counts
        for entry in tables.words[first:last].tolist():
            if entry & fmt.present and entry & fmt.soft_cow:
                slot = self.slots.get(fmt.pfn(entry))
                if slot is not None and counts[fmt.pfn(entry)] == 2 and self.count(slot) == 1:
                    self.uncache(slot)

    # ---- transfers

    def read(self, pages: list[Page]) -> None:
        """Fill frames from their slots. Raises what the backing does."""
        for area, page, views in self._runs(pages):
            area.backing.read(page, views)
        self.pages_in += len(pages)

    def write(self, pages: list[Page]) -> None:
        """Store frames in their slots. Raises what the backing does; that area takes no more pages then."""
        for area, page, views in self._runs(pages):
            try:
                area.backing.write(page, views)
            except Errno as error:
                area.accepts = False
                self.note(f"swap: {area.name.decode(errors='replace')}: writing failed: {error}: no more pages go there")
                raise
        self.pages_out += len(pages)

    def read_bytes(self, slot: int) -> bytes:
        """The content of a slot, wherever it is. Raises what the backing does."""
        pfn = self.cache.get(slot)
        if pfn is not None:
            return self.ram.mem[pfn << PAGE_SHIFT : (pfn + 1) << PAGE_SHIFT].tobytes()
        content = bytearray(PAGE_SIZE)
        self.areas[slot >> AREA_SHIFT].backing.read(slot & OFFSET_MASK, [memoryview(content)])
        self.pages_in += 1
        return bytes(content)

    def _runs(self, pages: list[Page]) -> list[tuple[SwapArea, int, list[memoryview]]]:
        found: list[tuple[SwapArea, int, list[memoryview]]] = []
        follows, mem = -1, self.ram.mem
        for slot, pfn in sorted(pages):
            view = mem[pfn << PAGE_SHIFT : (pfn + 1) << PAGE_SHIFT]
            if slot == follows and len(found[-1][2]) < AT_ONCE:
                found[-1][2].append(view)
            else:
                found.append((self.areas[slot >> AREA_SHIFT], slot & OFFSET_MASK, [view]))
            follows = slot + 1
        return found

    # ---- when

    def has_room(self, pages: int) -> bool:
        """So many pages that nobody has asked for yet may come back too."""
        return self.frames.used_pages + pages <= self.frames.limit_pages - self.reserve

    def pressed(self) -> None:
        """Few frames are free: between two traps, when nobody in the kernel relies on a page of a program's, pages go out."""
        if not self._due:
            self._due = True
            self._later(self.balance)

    def balance(self) -> None:
        """Have twice as many frames free as there must be. What cannot be had is not looked for again at once."""
        from trapline.kernel.mm.reclaim import evict

        self._due = False
        frames = self.frames
        if frames.swap is not self:
            return
        wanted = frames.used_pages - frames.limit_pages + 2 * self._low
        freed = evict(self.ram, wanted, files=False) if wanted > 0 else wanted
        frames.press_at = frames.limit_pages - self._low
        if freed < wanted and frames.used_pages >= frames.press_at:
            frames.press_at = min(frames.limit_pages, frames.used_pages + (self._low >> 3) + 1)
            if frames.limit_pages - frames.used_pages < self.reserve >> 1:
                self.last_resort()
