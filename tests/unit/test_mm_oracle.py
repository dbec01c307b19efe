"""Whatever user space does to its mappings, it sees what a simple model says it should see, and no frame is lost."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from userland import (
    PAGE,
    FakeFile,
    MemoryBacking,
    Signal,
    backed_cache,
    load,
    new_machine,
    store,
    stored_cache,
    tmpfs_file,
)

from trapline.abi.errno import EFAULT, Errno
from trapline.abi.mman import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_PAGEOUT,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.page_cache import PageCache
from trapline.kernel.mm.policy import Policy
from trapline.kernel.mm.swap.areas import Swap
from trapline.kernel.mm.swap.entries import swapped
from trapline.kernel.mm.swap.off import switch_off
from trapline.kernel.mm.swap.out import put_out
from trapline.kernel.mm.swap.shmem import SwappedCache
from trapline.machine.paging.walk import leaves

ARENA = 0x4000_0000
PAGES = 1536  #: three blocks
FILE_PAGES = 24
SLOTS = 3000
SEGV, BUS = 11, 7


class Cell:
    """One page's content, as its first byte."""

    def __init__(self, value: int = 0) -> None:
        self.value = value


@dataclass
class Page:
    prot: int
    private: bool
    cell: Cell | None  #: None: the page of `file`, or zeros until written
    file: ModelFile | None = None
    index: int = 0

    def see(self) -> int | None:
        """The first byte, or None for SIGBUS."""
        if self.cell is not None:
            return self.cell.value
        if self.file is None:
            return 0
        return self.file.read(self.index)

    def put(self, value: int) -> None:
        if self.cell is None and self.private:
            self.cell = Cell()
        if self.cell is not None:
            self.cell.value = value
        elif self.file is not None:
            self.file.values[self.index] = value

    def copy(self) -> Page:
        cell = Cell(self.cell.value) if self.cell is not None and self.private else self.cell
        return Page(self.prot, self.private, cell, self.file, self.index)


class ModelFile:
    def __init__(self, file: FakeFile, values: list[int]) -> None:
        self.file = file
        self.values = values + [0] * (FILE_PAGES - len(values))
        self.pages = len(values)

    def read(self, index: int) -> int | None:
        return self.values[index] if index < self.pages else None


class World:
    """Spaces and files, real and model side by side."""

    def __init__(self, policy: Policy, *, swaps: bool = False) -> None:
        self.machine = new_machine(64)
        self.frames = self.machine.ram.frames
        self.copies_neighbours = policy.cow_around_pages > 1
        self.spaces = [(AddressSpace(self.machine, aslr=False, policy=policy), {})]  # type: ignore[var-annotated]
        self.swap: Swap | None = None
        if swaps:
            self.swap = Swap(self.machine.ram, lambda: [mm for mm, _ in self.spaces], lambda do: None, print, print)
            self.swap.add(b"first", b"file", MemoryBacking(SLOTS), SLOTS, [1, 5], 3, None)
            self.swap.add(b"second", b"file", MemoryBacking(SLOTS), SLOTS, [], 3, None)
        content = [17 + i for i in range(10)]
        disk = b"".join(bytes([each]) * PAGE for each in content)
        ram = self.machine.ram
        self.disk = bytearray(disk)
        self.files = [
            ModelFile(FakeFile(backed_cache(ram, disk)), content),
            ModelFile(tmpfs_file(ram, disk[: 5 * PAGE]), content[:5]),
        ]
        self.files.append(ModelFile(FakeFile(stored_cache(ram, self.disk)), list(content)))

    # each step: numbers from hypothesis, to be read as it needs

    def step(self, op: str, a: int, b: int, c: int, d: int) -> None:
        mm, model = self.spaces[d % len(self.spaces)]
        first = a % PAGES
        count = min(1 + b % (700 if b % 5 == 0 else 20), PAGES - first)
        getattr(self, op)(mm, model, first, count, c)

    def map(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        prot, shared, which = c & 3 | (1 if c & 4 else 0), bool(c & 8), (c >> 4) % 6
        flags = MAP_FIXED | (MAP_SHARED if shared else MAP_PRIVATE)
        addr = ARENA + first * PAGE
        if which < len(self.files):
            offset = (c >> 8) % 4
            file = self.files[which]
            mm.mmap(addr, count * PAGE, prot, flags, file.file, offset * PAGE)
            for i in range(count):
                model[first + i] = Page(prot, not shared, None, file, offset + i)
            return
        mm.mmap(addr, count * PAGE, prot, flags | MAP_ANONYMOUS)
        for i in range(count):
            model[first + i] = Page(prot, not shared, Cell() if shared else None)

    def unmap(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        mm.munmap(ARENA + first * PAGE, count * PAGE)
        for i in range(first, first + count):
            model.pop(i, None)

    def protect(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        prot = (0, 1, 3, 3)[c & 3]
        with suppress(Errno):
            mm.mprotect(ARENA + first * PAGE, count * PAGE, prot)
        for i in range(first, first + count):
            if i not in model:
                break
            model[i].prot = prot

    def write(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        for i in range(first, min(first + count, first + 12)):
            value = c + i & 0xFF
            page = model.get(i)
            allowed = page is not None and page.prot & 2 and page.see() is not None
            addr = ARENA + i * PAGE
            try:
                if c & 0x100:
                    mm.write(addr, bytes([value]))
                else:
                    store(mm, addr, value)
                assert allowed
                assert page is not None
                page.put(value)
            except (Signal, EFAULT):
                assert not allowed

    def read(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        for i in range(first, min(first + count, first + 12)):
            self.check(mm, model, i, bool(c & 1))

    def check(self, mm: AddressSpace, model: dict[int, Page], i: int, by_kernel: bool) -> None:
        page = model.get(i)
        expected: object = page.see() if page is not None else SEGV
        if page is not None and not page.prot:
            expected = SEGV
        elif expected is None:
            expected = BUS
        addr = ARENA + i * PAGE
        if by_kernel:
            try:
                assert mm.read(addr, 1)[0] == expected
            except EFAULT:
                assert page is None or not page.prot or expected == BUS
            return
        try:
            found = load(mm, addr)
        except Signal as signal:
            found = signal.args[0]
            assert page is None or not page.prot or page.see() is None
        assert found == expected

    def fork(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        if len(self.spaces) < 4:
            self.spaces.append((mm.fork(), {i: page.copy() for i, page in model.items()}))

    def leave(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        if len(self.spaces) > 1:
            self.spaces = [each for each in self.spaces if each[0] is not mm]
            mm.put()

    def forget(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        with suppress(Errno):
            mm.madvise(ARENA + first * PAGE, count * PAGE, MADV_DONTNEED)
        for i in range(first, first + count):
            if i in model and model[i].private:
                model[i].cell = None

    def move(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        to = c % PAGES
        count = min(count, PAGES - to)
        if to < first + count and first < to + count:
            return
        try:
            mm.mremap(
                ARENA + first * PAGE, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, ARENA + to * PAGE
            )
        except Errno:
            # the target was unmapped before the source was found to be of several areas
            if first in model:
                for i in range(to, to + count):
                    model.pop(i, None)
            return
        for i in range(count):
            model[to + i] = model.pop(first + i)

    def truncate(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        file = self.files[c % len(self.files)]
        pages = (c >> 3) % FILE_PAGES
        assert file.file.page_cache is not None
        if file.file.page_cache.writeback is not None:
            del self.disk[pages * PAGE :]
        file.file.page_cache.truncate(pages * PAGE)
        for i in range(pages, FILE_PAGES):
            file.values[i] = 0
        file.pages = pages
        for _, other in self.spaces:
            for page in other.values():
                if page.file is file and page.private and page.index >= pages:
                    page.cell = None

    def store_file(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        file = self.files[c % len(self.files)]
        if self.copies_neighbours and any(page.file is file and page.private for _, other in self.spaces for page in other.values()):
            return  # it may have been copied with a neighbour: whether it shows what the file becomes is unspecified, mmap(2)
        index = (c >> 3) % FILE_PAGES
        value = c >> 8 & 0xFF
        cache = file.file.page_cache
        assert cache is not None
        cache.write(index * PAGE, bytes([value]) * (PAGE + 1 if c & 4 and index + 1 < FILE_PAGES else PAGE))
        file.values[index] = value
        if c & 4 and index + 1 < FILE_PAGES:
            file.values[index + 1] = value
            index += 1
        file.pages = max(file.pages, index + 1)
        cache.size = file.pages * PAGE

    def sync(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        for file in self.files:
            assert file.file.page_cache is not None
            file.file.page_cache.sync()

    def page_out(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        if self.swap is not None:
            with suppress(Errno):
                mm.madvise(ARENA + first * PAGE, count * PAGE, (MADV_PAGEOUT, MADV_COLD, MADV_WILLNEED, MADV_PAGEOUT)[c & 3])

    def press(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        if self.swap is not None:
            put_out(self.swap, c % 700)

    def collapse(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        with suppress(Errno):
            mm.madvise(ARENA + (first & ~511) * PAGE, 512 * PAGE, MADV_COLLAPSE)

    def off_and_on(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        if self.swap is not None and not c % 7:
            area = self.swap.areas[min(self.swap.areas)]
            switch_off(self.swap, area)
            self.swap.add(b"again", b"file", MemoryBacking(SLOTS), SLOTS, [7], -1, None)

    def reclaim(self, mm: AddressSpace, model: dict[int, Page], first: int, count: int, c: int) -> None:
        if self.frames.reclaim is not None:
            self.frames.reclaim(c % 30)

    # ---- invariants

    def verify(self) -> None:
        fmt = self.machine.arch.paging
        references: Counter[int] = Counter()
        caches = {file.file.page_cache for file in self.files}
        for mm, _ in self.spaces:
            previous = None
            anon = files = 0
            for tables in (mm.tables.blocks, *mm.tables.upper):
                references.update(base >> 9 for base in tables.values() if base >= 0)
            for area in mm.areas():
                caches.add(area.cache)
                assert area.start < area.end
                assert previous is None or previous.end <= area.start
                assert previous is None or not previous.joins(area)
                previous = area
            for va, step in leaves(self.machine.ram.words, mm.tables.root, 0, mm.task_size, fmt):
                area = mm.map.find(va)
                assert area is not None
                assert not step.entry & fmt.write or area.prot & 2
                assert bool(step.entry & fmt.user) == bool(area.prot)
                pfn = fmt.pfn(step.entry)
                if not step.entry & fmt.soft_file:
                    references.update(range(pfn, pfn + (1 << 9 * step.level)))
                if step.entry & fmt.soft_file:
                    files += 1
                else:
                    anon += 1 << 9 * step.level
            assert (anon, files) == (mm.rss_anon, mm.rss_file)
            assert mm.total_vm_pages == sum(area.pages for area in mm.areas())
        for cache in caches:
            if cache is not None:
                references.update(cache.pages.values())
        self.verify_swap({cache for cache in caches if cache is not None})
        if self.swap is not None:
            references.update(self.swap.cache.values())
        used = {pfn: count for pfn, count in enumerate(self.frames.counts) if count}
        assert used == references
        assert self.frames.used_pages == len(used)
        for mm, model in self.spaces:
            for i in set(model) | {0, 600, PAGES - 1}:
                self.check(mm, model, i, bool(i & 1))

    def verify_swap(self, caches: set[PageCache]) -> None:
        slots: Counter[int] = Counter()
        for mm, _ in self.spaces:
            found = [slot for _, slot in swapped(mm.tables, 0, mm.task_size)]
            assert len(found) == mm.tables.swapped
            slots.update(found)
        for cache in caches:
            if isinstance(cache, SwappedCache):
                assert not cache.pages.keys() & cache.swapped.keys()
                slots.update(cache.swapped.values())
        if self.swap is None:
            assert not slots
            return
        slots.update(list(self.swap.cache))
        assert self.swap.slots == {pfn: slot for slot, pfn in self.swap.cache.items()}
        for area in self.swap.areas.values():
            counts = {area.number << 40 | page: count for page, count in enumerate(area.counts) if count > 0}
            assert counts == {slot: count for slot, count in slots.items() if slot >> 40 == area.number}
            assert area.used == len(counts)

    def finish(self) -> None:
        for mm, _ in self.spaces:
            mm.put()
        for file in self.files:
            assert file.file.refs == 1
            assert file.file.page_cache is not None
            assert not file.file.page_cache.mappers
            file.file.page_cache.close()
        if self.swap is not None:
            self.swap.shrink(1 << 20)
            assert not any(area.used for area in self.swap.areas.values())
        assert self.frames.used_pages == 0
        assert not any(self.frames.counts)


OPS = (
    "map map map unmap protect protect write write write write read fork leave forget move truncate store_file sync reclaim"
).split()
NUMBER = st.integers(0, 0xFFFF)
STEPS = st.lists(st.tuples(st.sampled_from(OPS), NUMBER, NUMBER, NUMBER, NUMBER), max_size=60)
POLICIES = st.sampled_from([Policy(), Policy(fork_copy_pages=0), Policy(1, 1, 1, 1, huge=False), Policy(8, 16, 4, 4), Policy(16, 64, 8, huge=False)])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, POLICIES)
def test_a_space_behaves_like_a_dictionary_of_pages(steps: list[tuple[str, int, int, int, int]], policy: Policy) -> None:
    world = World(policy)
    for step in steps:
        world.step(*step)
    world.verify()
    world.finish()


SWAP_OPS = [*OPS, *"page_out page_out press press press collapse off_and_on write write".split()]
SWAP_STEPS = st.lists(st.tuples(st.sampled_from(SWAP_OPS), NUMBER, NUMBER, NUMBER, NUMBER), max_size=80)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(SWAP_STEPS, POLICIES)
def test_it_does_while_its_pages_go_to_swap_and_come_back(steps: list[tuple[str, int, int, int, int]], policy: Policy) -> None:
    world = World(policy, swaps=True)
    for step in steps:
        world.step(*step)
    world.verify()
    world.finish()
