"""The tiers of one machine: the interpreter, loaded once; code pages; baseline code; and regions, made of what is hot.

A place becomes hot when jumps have led to it often (state.HOT). Its region is prepared on a thread of its own, compiled in a
process of its own (worker.py), and installed when it is ready; until then the interpreter goes on, and counts: of the places
that wait, the hottest is served first, and all that are within its region are served with it. What a program computes, and
where its interrupts land, does not depend on when that is. What compiles is imported when something is hot, not before.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout
from trapline.machine.riscv.code import Place, place
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.baseline import BASELINE_BYTES, Baseline
from trapline.machine.riscv.jit.cache import Cache
from trapline.machine.riscv.jit.compiler import Compiler, OutOfCode
from trapline.machine.riscv.jit.pages import Arena, CodePage
from trapline.machine.riscv.jit.recall import Region, keep, recall
from trapline.machine.riscv.jit.worker import CompilerDied

if TYPE_CHECKING:
    from trapline.machine.riscv.jit.native import NativeHart
    from trapline.machine.riscv.jit.shape import Shape

MAX_REGIONS = 4096  #: ever compiled: their code stays in memory, even that of regions that could not be installed
MAX_PLACES = 1 << 14  #: instructions remembered for the reference tier
PATIENCE = 3  #: deaths of the compiler's process, before nothing is asked of it any more
MAX_WAITING = 512  #: to be compiled; what becomes hot while so many wait stays with the interpreter

#: How far code may climb, by name: `hot` and `warm` of `Tiers`.
LADDER = {"native": (at.HOT, at.WARM), "baseline": (0, at.WARM), "interpreter": (0, 0)}


class Spot(NamedTuple):
    """A hot place: the record of `pc` in a code page, and what was mapped for execution then (a copy of its array)."""

    pc: int
    page: CodePage
    generation: int
    record: int
    mapped: Sequence[int]


class Tiers:
    """`background`: compile regions on a thread; else at once, as tests do. `hot`, `warm`: jumps that make a
    place worth a region, and baseline code; 0: no number does. `cache`: of compiled code; without one, regions that are
    compiled at once are not kept. `compiler`: one that others use too, with room for `baseline_bytes` of baseline code."""

    def __init__(
        self, ram: Ram, *, background: bool = True, hot: int = at.HOT, warm: int = at.WARM, cache: Cache | None = None,
        compiler: Compiler | None = None, baseline_bytes: int = BASELINE_BYTES,
    ) -> None:  # fmt: skip
        self._ram = ram
        self.hot, self.warm = hot, warm
        self._recall = background or cache is not None or compiler is not None
        self.harts: list[NativeHart] = []  #: all that execute from the arena
        self._anchor = ctypes.c_char.from_buffer(ram.mem)  # keeps the mapping, and tells where it is
        self.ram_address = ctypes.addressof(self._anchor)
        self._compiler = compiler or Compiler(cache)
        image, table = self._compiler.interpreter_and_stencils() if warm else (self._compiler.interpreter(), None)
        entry = "run_among" if self._compiler.shared else "run"
        run, fill, undecoded, page_end, leave_step = self._compiler.load(
            image, entry, "handlers", "undecoded", "page_end", "leave_step"
        )
        start = run - image.symbols[entry]
        self._handlers = (ctypes.c_uint64 * len(image.symbols))()  # of which it fills as many as handlers have numbers
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(fill)(ctypes.addressof(self._handlers))
        self.handlers_address = ctypes.addressof(self._handlers)
        self.run: Any = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(run)  #: keeps Python's lock, which costs less;
        self.run_beside: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run)  #: gives it up, so that the compiler comes on
        self.arena = Arena(undecoded, page_end, leave_step, ram.size >> 12)
        self._places: dict[int, Place] = {}
        self.baseline: Baseline | None = None
        if table is not None:
            self.baseline = Baseline(table, self._compiler.memory, image, start, baseline_bytes)
        self.compiled = 0  #: regions installed
        self.recalled = 0  #: of those, regions that an earlier run has compiled
        self.loaded = 0  #: regions compiled or recalled, installed or not
        self._warm = max(1, hot // 4)  # jumps that make a place worth an entry of a region that holds it
        self._background = background
        self.compiling = False  #: the compiler's thread has work
        self._deaths = 0  # of the compiler's process
        self._waiting: list[Spot] = []
        self._changed = threading.Condition()  # guards `_waiting` and `_closing`
        self._closing = False
        self._thread: threading.Thread | None = None

    def page(self, offset: int) -> CodePage:
        """The code page of the guest page at `offset` in RAM."""
        data = self._ram.mem[offset : offset + 4096].tobytes()
        page = None
        if self.baseline is None or not self.baseline.full:
            page = self.arena.page(offset, data)
        if page is None:
            self._forget()
            page = self.arena.page(offset, data)
            assert page is not None
        return page

    def _forget(self) -> None:
        """Start again: the arena or the memory for baseline code is full."""
        self.arena.reset()
        for each in self.harts:
            each.forget_pages()
        if self.baseline is not None:
            self.baseline.forget()

    def place(self, raw: int) -> Place:
        """How the reference tier executes these bits."""
        found = self._places.get(raw)
        if found is None:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            found = self._places[raw] = place(raw)
        return found

    def summary(self) -> str:
        """What was made of warm and hot code, in words."""
        blocks = f"{self.baseline.blocks} blocks of warm code, " if self.baseline is not None else ""
        return f"{blocks}{self.compiled} regions of hot code ({self.recalled} from earlier runs)"

    def account(self) -> str:
        """Why native code was left, and for which instructions, in words."""
        exits = [(sum(hart.exits[n] for hart in self.harts), name) for n, name in enumerate(at.REASONS)]
        steps: Counter[str] = Counter()
        for hart in self.harts:
            steps.update(hart.steps)
        rows = [(count, name) for name, count in steps.most_common(12)]
        parts = [", ".join(f"{name} {count}" for count, name in each if count) for each in (exits, rows)]
        return f"native code was left for: {parts[0]}\nexecuted by the reference tier: {parts[1] or 'nothing'}"

    def heat(self, hart: NativeHart, pc: int) -> None:
        """A hot place: make a region of it."""
        if self.loaded >= MAX_REGIONS or len(self._waiting) >= MAX_WAITING:
            return
        start = (hart.cpu[layout.TLB] >> 3) + layout.CODE
        slot = start + (pc >> 12) % layout.FAST_ENTRIES * 2
        page = self.arena.at(hart.cpu[slot + 1]) if hart.cpu[slot] == pc & -4096 else None
        record = (pc & 4095) >> 1
        if page is None or record in page.hot:
            return
        page.hot.add(record)
        mapped = hart.cpu[start : start + 2 * layout.FAST_ENTRIES]
        spot = Spot(pc, page, page.generation, record, memoryview(mapped.tobytes()).cast("Q"))
        if not self._background:
            self._compile(spot)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="trapline-jit", daemon=True)
            self._thread.start()
        with self._changed:
            self._waiting.append(spot)
            self.compiling = True
            self._changed.notify()

    # ---- the compiler's thread

    def _work(self) -> None:
        while (spot := self._hottest()) is not None:
            self._compile(spot)

    def _hottest(self) -> Spot | None:
        """Wait for a spot; None when there is nothing more to do."""
        with self._changed:
            while not self._waiting and not self._closing:
                self.compiling = False
                self._changed.wait()
            if self._closing:
                return None
            spot = max(self._waiting, key=lambda each: self.arena.count(each.page, each.record))
            self._waiting.remove(spot)
            return spot

    def _compile(self, spot: Spot) -> None:
        if spot.page.generation != spot.generation or spot.record in spot.page.entries or self.loaded >= MAX_REGIONS:
            return  # forgotten, or served with another
        pages = _Pages(self.arena, spot)
        with self._compiler.turn:
            found = recall(self._compiler, spot.pc, pages.look) if self._recall else None
            found, recalled = found or self._lower(spot, pages), found is not None
        if found is None:
            return
        self.loaded += 1
        places = [(spot.page, spot.record)]
        for pc in found.entries:
            page, record = pages.found[pc & -4096], (pc & 4095) >> 1
            if pc != spot.pc and record not in page.entries and pages.known(pc):
                places.append((page, record))
        image = found.image.with_words("bases", [pages.found[va].base for va in found.pages])
        try:
            (address,) = self._compiler.load(image, "region")
        except OutOfCode:
            self.loaded = MAX_REGIONS
            return
        if self.arena.install(places, address, [(pages.found[va], pages.generations[va]) for va in found.pages]):
            self.compiled += 1
            self.recalled += recalled

    def _lower(self, spot: Spot, pages: _Pages) -> Region | None:
        """Compile the region around a spot."""
        from trapline.machine.riscv.jit.shape import discover

        shape = discover(spot.pc, pages.look, pages.known, lambda va: pages.jumped(va, self._warm))
        if not shape.blocks:
            return None
        from trapline.machine.riscv.jit import region

        entries = self._entries(spot, shape, pages)
        try:
            image = self._compiler.region(region.module(shape, entries, shared=self._compiler.shared))
        except CompilerDied:
            self._deaths += 1
            self.loaded = self.loaded if self._deaths < PATIENCE else MAX_REGIONS
            return None
        made = Region(shape.pages, entries, image)
        if self._recall:
            keep(self._compiler, made, {va: pages.data[va] for va in shape.pages})
        return made

    def _entries(self, spot: Spot, shape: Shape, pages: _Pages) -> list[int]:
        """Where a region is entered: its spot; and unless it is cut off, all blocks that jumps lead to and that have none."""
        entries = [spot.pc]
        for pc in shape.blocks if shape.whole else ():
            page, record = pages.found[pc & -4096], (pc & 4095) >> 1
            if pc != spot.pc and record not in page.entries and self.arena.count(page, record) >= self._warm:
                entries.append(pc)
        return entries

    def close(self) -> None:
        """End the compiler's process and thread: nobody waits for what they do. Idempotent."""
        self._compiler.worker.close()
        if self._thread is not None:
            with self._changed:
                self._closing = True
                self._changed.notify()
            self._thread.join()
            self._thread = None


class _Pages:
    """The code around a spot, as it was mapped when the spot became hot."""

    def __init__(self, arena: Arena, spot: Spot) -> None:
        self._arena, self._mapped = arena, spot.mapped
        self.found: dict[int, CodePage] = {}  #: by virtual address
        self.generations: dict[int, int] = {}  #: of what was looked at,
        self.data: dict[int, bytes] = {}  #: and its bytes

    def look(self, va: int) -> bytes | None:
        slot = (va >> 12) % layout.FAST_ENTRIES * 2
        page = self._arena.at(self._mapped[slot + 1]) if self._mapped[slot] == va else None
        if page is None:
            return None
        with self._arena.lock:
            self.found[va], self.generations[va], self.data[va] = page, page.generation, page.data
            return page.data

    def known(self, pc: int) -> bool:
        return self._arena.known(self.found[pc & -4096], (pc & 4095) >> 1)

    def jumped(self, va: int, least: int) -> list[int]:
        """Where jumps in a page have led at least so often, the most frequent first."""
        page = self.found[va]
        counts = self._arena.counts(page)
        found = [record for record, count in enumerate(counts) if count >= least]
        return [va + 2 * record for record in sorted(found, key=counts.__getitem__, reverse=True)]
