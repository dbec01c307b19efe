"""Code pages: the decoded form of the guest's pages of code, and what regions were made from them.

Invariants:
- a code page's records were decoded from `data`, a copy of the guest's page; whenever the page is mapped for execution
  anew, the copy is compared with the page as it is now, and if they differ everything decoded from it is forgotten (RISC-V
  makes stores to code visible to fetches only at fence.i, which empties the mapping);
- a region's address stands in the records of its entries only.
"""

from __future__ import annotations

import ctypes
import mmap
import threading

from trapline.machine.riscv.code import Place
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.registers import Plain

ARENA_PAGES = 2048
_COPY = 0x9000 + 0x1800  #: where the copy of the guest's page is: behind the counters


class CodePage:
    """One physical page of code. `hot`: records of which somebody has asked for a region; `entries`: those that have one."""

    __slots__ = ("base", "data", "entries", "generation", "hot", "offset", "places", "plain", "ram_offset", "regions", "stops")

    def __init__(self, base: int, offset: int, ram_offset: int) -> None:
        self.base = base  #: host address of its first record
        self.offset = offset  #: in the arena
        self.ram_offset = ram_offset  #: of the guest's page
        self.data = b""
        self.generation = 0  #: grows whenever its records are forgotten
        self.places: dict[int, Place] = {}  #: by offset, of instructions that the reference tier has executed
        self.plain: dict[int, Plain | None] = {}  #: of those, the loads and stores
        self.hot: set[int] = set()
        self.entries: set[int] = set()
        self.stops: frozenset[int] = frozenset()  #: records that lead out of native code, for a debugger
        self.regions: list[tuple[CodePage, int]] = []  #: (page, record) of the regions that hold code of this page


class Arena:
    """The memory of all code pages, and who has which."""

    def __init__(self, undecoded: int, page_end: int, leave: int, ram_pages: int) -> None:
        self._map = mmap.mmap(-1, (ARENA_PAGES + 1) * at.PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._bytes = memoryview(self._map)
        self._words, self._counters = self._bytes.cast("Q"), self._bytes.cast("I")
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._skip = -start % at.PAGE_BYTES  # code pages are aligned to their size
        self._start = start + self._skip
        self._undecoded = undecoded
        self._leave = leave  # the handler that leaves an instruction to the reference tier
        record = undecoded.to_bytes(8, "little") + bytes(8)
        self._fresh = record * at.HALFWORDS + (page_end.to_bytes(8, "little") + bytes(8)) * 2
        self._used = 0
        self._touched = 0  # the end of the last code page that ever held something
        self._pages: dict[int, CodePage] = {}  #: by offset of the guest's page in RAM
        self._bases: dict[int, CodePage] = {}
        self._table = mmap.mmap(-1, 8 * ram_pages)  # for native code: `base` by number of the guest's page
        self._table_words = memoryview(self._table).cast("Q")
        self.table_address = ctypes.addressof(ctypes.c_char.from_buffer(self._table))
        self.lock = threading.Lock()  #: held while records change: the compiler's thread installs regions

    def page(self, ram_offset: int, data: bytes) -> CodePage | None:
        """The code page of a guest page that holds `data` now; None if the arena is full (`reset` it)."""
        page = self._pages.get(ram_offset)
        if page is None:
            if self._used == ARENA_PAGES:
                return None
            offset = self._skip + self._used * at.PAGE_BYTES
            page = self._pages[ram_offset] = CodePage(self._start + self._used * at.PAGE_BYTES, offset, ram_offset)
            self._bases[page.base] = page
            self._table_words[ram_offset >> 12] = page.base
            self._used += 1
        if page.data != data:
            self._forget(page, data)
        return page

    def at(self, base: int) -> CodePage | None:
        """The code page whose first record is at host address `base`."""
        return self._bases.get(base)

    def known(self, page: CodePage, record: int) -> bool:
        """Whether the instruction at a record has been executed."""
        return self._words[(page.offset >> 3) + 2 * record] != self._undecoded and record not in page.stops

    def count(self, page: CodePage, record: int) -> int:
        """How often a jump led to a record, in the interpreter."""
        return self._counters[(page.offset + at.COUNTERS >> 2) + record]

    def counts(self, page: CodePage) -> list[int]:
        """The same of all records of a page."""
        start = page.offset + at.COUNTERS >> 2
        return self._counters[start : start + at.HALFWORDS].tolist()

    def stop_at(self, page: CodePage, records: frozenset[int]) -> None:
        """Let these records, too, lead out of native code."""
        if records - page.stops:
            page.stops |= records
            self._forget(page, page.data)

    def stop_nowhere(self) -> None:
        """No record leads out for a debugger any more."""
        for page in self._pages.values():
            if page.stops:
                page.stops = frozenset()
                self._forget(page, page.data)

    def _forget(self, page: CodePage, data: bytes) -> None:
        with self.lock:
            page.data = data
            page.generation += 1
            for other, record in page.regions:
                self._words[(other.offset >> 3) + 2 * record] = self._leave if record in other.stops else self._undecoded
                self._counters[(other.offset + at.COUNTERS >> 2) + record] = 0
                other.hot.discard(record)
                other.entries.discard(record)
            page.places.clear()
            page.plain.clear()
            page.hot.clear()
            page.entries.clear()
            page.regions.clear()
            at_page = page.offset
            self._bytes[at_page : at_page + len(self._fresh)] = self._fresh
            self._words[at_page + at.SOURCE >> 3] = page.base + _COPY
            self._words[at_page + at.SPLIT_BITS >> 3] = 0
            self._bytes[at_page + at.COUNTERS : at_page + _COPY] = bytes(_COPY - at.COUNTERS)
            if at_page < self._touched:
                self._bytes[at_page + at.PLAIN : at_page + at.PLAIN + 8 * at.HALFWORDS] = bytes(8 * at.HALFWORDS)
            for record in page.stops:
                self._words[(at_page >> 3) + 2 * record] = self._leave
            self._touched = max(self._touched, at_page + at.PAGE_BYTES)
            self._bytes[at_page + _COPY : at_page + _COPY + len(data)] = data

    def install(self, entries: list[tuple[CodePage, int]], address: int, made_from: list[tuple[CodePage, int]]) -> bool:
        """Let records jump into a region, unless a page that it was made from (page, generation) has changed since."""
        with self.lock:
            if any(each.generation != generation for each, generation in made_from):
                return False
            for each, _ in made_from:
                each.regions += entries
            for page, record in entries:
                page.entries.add(record)
                plain = (page.offset + at.PLAIN >> 3) + record
                handler = self._words[(page.offset >> 3) + 2 * record]  # read first: the stitcher stores it last
                self._words[plain] = self._words[plain] or handler
                self._words[(page.offset >> 3) + 2 * record] = address
            return True

    def reset(self) -> None:
        """Forget every page; whoever calls has emptied the mappings."""
        with self.lock:
            for page in self._pages.values():
                page.generation += 1
            for ram_offset in self._pages:
                self._table_words[ram_offset >> 12] = 0
            self._pages.clear()
            self._bases.clear()
            self._used = 0
