"""The pool of huge pages: frames set aside in blocks of 2 MiB for hugetlb mappings, as vm.nr_hugepages says.

A page of the pool is a block of 512 frames. Only the first frame's references are counted: one is the pool's own, the others
belong to leaves and caches; who lets go of the last of those need not tell the pool, which looks when it wants a page.

Invariants:
- `free` holds at least `reserved` pages;
- `surplus` of the pages are beyond `nr_hugepages`: they go back to general memory once nobody uses them.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.ram import BLOCK_ORDER, BLOCK_PAGES, OutOfFrames, Ram

BLOCK_BYTES = BLOCK_PAGES << PAGE_SHIFT
KEPT_SHARE = 16  #: one part in so many of all memory never becomes huge pages
_PIECE = memoryview(bytes(256 << 10))

ALWAYS, ADVISED, NEVER = range(3)  #: which anonymous memory is mapped by large leaves without being asked to


class HugePool:
    """The huge pages of one machine, and its rule for transparent ones."""

    __slots__ = ("_clean", "_frames", "_mem", "free", "overcommit", "reserved", "surplus", "transparent", "used")

    def __init__(self, ram: Ram) -> None:
        self._frames = ram.frames
        self._mem = ram.mem
        self.free: list[int] = []  #: first frames
        self.used: set[int] = set()
        self._clean: set[int] = set()  # of the free ones: those that read as zeros
        self.reserved = 0  #: pages promised to mappings that have not touched them yet
        self.surplus = 0
        self.overcommit = 0  #: how many surplus pages there may be: vm.nr_overcommit_hugepages
        self.transparent = ALWAYS

    @property
    def total(self) -> int:
        return len(self.free) + len(self.used)

    @property
    def persistent(self) -> int:
        """What vm.nr_hugepages reads as."""
        return self.total - self.surplus

    def settle(self) -> None:
        """See which pages are used no more."""
        counts = self._frames.counts
        for pfn in [each for each in self.used if counts[each] == 1]:
            self.used.discard(pfn)
            self.free.append(pfn)
        self._trim()

    def _trim(self) -> None:
        """Give surplus pages back that are neither used nor promised."""
        while self.surplus and len(self.free) > self.reserved:
            self.surplus -= 1
            self._release()

    def _release(self) -> None:
        pfn = self.free.pop()
        self._clean.discard(pfn)
        self._frames.put_run(pfn, BLOCK_PAGES)

    def _grow(self) -> bool:
        """One free page more, if memory permits."""
        frames = self._frames
        if (self.total + 1) * BLOCK_PAGES > frames.limit_pages - frames.limit_pages // KEPT_SHARE:
            return False
        try:
            pfn = frames.alloc(BLOCK_ORDER)
        except OutOfFrames:
            return False
        self.free.append(pfn)
        self._clean.add(pfn)
        return True

    def resize(self, count: int) -> None:
        """Set vm.nr_hugepages: as near to it as memory permits; pages in use or promised become surplus."""
        self.settle()
        while self.persistent < count:
            if self.surplus:
                self.surplus -= 1
            elif not self._grow():
                break
        while self.persistent > count:
            if len(self.free) > self.reserved:
                self._release()
            else:
                self.surplus += 1

    def reserve(self, count: int) -> bool:
        """Promise `count` pages; False, and nothing is promised, if there are not so many."""
        if self.reserved + count > len(self.free):
            self.settle()
        missing = self.reserved + count - len(self.free)
        if missing > 0 and self.surplus + missing > self.overcommit:
            return False
        self.reserved += count
        for _ in range(missing):
            if not self._grow():
                self.unreserve(count)
                return False
            self.surplus += 1
        return True

    def unreserve(self, count: int) -> None:
        """Promised pages are not wanted any more."""
        self.reserved -= count
        self._trim()

    def take(self, promised: bool) -> int | None:
        """The first frame of a page of zeros, with a reference for the caller; None if there is none (not if `promised`)."""
        if promised:
            self.reserved -= 1
        elif len(self.free) <= self.reserved:
            self.settle()
            if len(self.free) <= self.reserved:
                if self.surplus >= self.overcommit or not self._grow():
                    return None
                self.surplus += 1
        pfn = self.free.pop()
        if pfn in self._clean:
            self._clean.discard(pfn)
        else:
            self._clear(pfn << PAGE_SHIFT)
        self.used.add(pfn)
        self._frames.get(pfn)
        return pfn

    def _clear(self, pa: int) -> None:
        for at in range(pa, pa + BLOCK_BYTES, len(_PIECE)):
            self._mem[at : at + len(_PIECE)] = _PIECE


_pools: WeakKeyDictionary[Ram, HugePool] = WeakKeyDictionary()


def pool_of(ram: Ram) -> HugePool:
    """The pool of a machine's memory, made when first asked for."""
    found = _pools.get(ram)
    if found is None:
        found = _pools[ram] = HugePool(ram)
    return found
