"""Swap: which pages go and which stay, what happens when it is full or fails, and what is asked of its areas and headers."""

from __future__ import annotations

from struct import pack_into

import pytest
from hypothesis import given
from hypothesis import strategies as st
from userland import (
    AT,
    BASE,
    BLOCK,
    PAGE,
    PRIVATE,
    RW,
    SHARED,
    MemoryBacking,
    Signal,
    load,
    new_machine,
    store,
    tmpfs_file,
)

from trapline.abi.errno import EINVAL, ENOMEM
from trapline.abi.mman import MADV_COLD, MADV_PAGEOUT, MAP_FIXED, MAP_SHARED
from trapline.abi.swap import BAD_PAGES_AT, INFO, INFO_AT, MAX_BAD_PAGES, SIGNATURE
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.errors import OutOfMemory
from trapline.kernel.mm.policy import Policy
from trapline.kernel.mm.swap import shmem
from trapline.kernel.mm.swap.areas import Swap, SwapFull
from trapline.kernel.mm.swap.entries import swapped
from trapline.kernel.mm.swap.header import parse
from trapline.kernel.mm.swap.off import switch_off
from trapline.kernel.mm.swap.out import put_out

ONE = Policy()
ONE.one_page_per_fault()


class World:
    """One space on a small machine, and swap."""

    def __init__(self, megabytes: int = 8, slots: int = 4096, policy: Policy = ONE) -> None:
        self.machine = new_machine(megabytes)
        self.frames = self.machine.ram.frames
        self.spaces = [AddressSpace(self.machine, aslr=False, policy=policy)]
        self.mm = self.spaces[0]
        self.due: list[object] = []
        self.notes: list[str] = []
        self.swap = Swap(self.machine.ram, lambda: self.spaces, self.due.append, self.notes.append, lambda: self.notes.append("killed"))
        self.backing = MemoryBacking(slots)
        self.area = self.swap.add(b"/swap", b"file", self.backing, slots, [], -1, None)

    def fill(self, pages: int, at: int = BASE, flags: int = AT) -> None:
        self.mm.mmap(at, pages * PAGE, RW, flags)
        for i in range(pages):
            store(self.mm, at + i * PAGE, i % 251 + 1)

    def holds(self, pages: int, at: int = BASE, mm: AddressSpace | None = None) -> bool:
        return all(load(mm or self.mm, at + i * PAGE) == i % 251 + 1 for i in range(pages))

    def out(self, mm: AddressSpace | None = None) -> list[int]:
        """Which pages from BASE on are out."""
        return [(va - BASE) // PAGE for va, _ in swapped((mm or self.mm).tables, 0, self.mm.task_size)]


def test_what_was_used_since_the_hand_passed_stays() -> None:
    world = World()
    world.fill(40)
    world.mm.madvise(BASE, 40 * PAGE, MADV_COLD)
    for i in range(10, 20):
        load(world.mm, BASE + i * PAGE)
    put_out(world.swap, 30)
    assert world.out() == [*range(10), *range(20, 40)]
    assert world.holds(40)


def test_what_is_used_goes_when_nothing_else_is_left() -> None:
    world = World()
    world.fill(40)
    assert put_out(world.swap, 40) == 40
    assert world.mm.rss_anon == 0 and world.frames.used_pages == world.mm.tables.table_pages
    assert world.holds(40) and world.mm.majflt > 0 and world.swap.pages_in == 40


def test_more_than_memory_fits_into_memory_and_swap() -> None:
    world = World(megabytes=8, slots=8192)
    world.fill(4000)
    assert world.frames.used_pages <= world.frames.limit_pages < 4000
    assert world.holds(4000)
    assert world.due  # somebody has to be told that room is short


def test_when_swap_is_full_memory_is_out() -> None:
    world = World(megabytes=8, slots=500)
    world.fill(1500)
    with pytest.raises(OutOfMemory):
        world.fill(1500, BASE + 4 * BLOCK)
    assert world.area.used == world.area.total


def test_room_is_made_before_it_is_needed() -> None:
    world = World(megabytes=16)
    world.fill(world.frames.limit_pages - 20)
    assert world.due == [world.swap.balance]
    world.swap.balance()
    assert world.frames.used_pages <= world.frames.limit_pages - 256


def test_a_locked_page_stays() -> None:
    world = World()
    world.fill(20)
    world.mm.mlock(BASE + 5 * PAGE, 5 * PAGE)
    put_out(world.swap, 1000)
    assert world.out() == [*range(5), *range(10, 20)]
    with pytest.raises(EINVAL):
        world.mm.madvise(BASE, 20 * PAGE, MADV_PAGEOUT)


def test_a_page_that_was_only_read_is_not_written_again() -> None:
    world = World()
    world.fill(32)
    world.mm.madvise(BASE, 32 * PAGE, MADV_PAGEOUT)
    written = world.swap.pages_out
    assert world.holds(32)
    world.mm.madvise(BASE, 32 * PAGE, MADV_PAGEOUT)
    assert world.out() == list(range(32)) and world.swap.pages_out == written == 32
    store(world.mm, BASE, 99)
    world.mm.madvise(BASE, 32 * PAGE, MADV_PAGEOUT)
    assert world.swap.pages_out > written and load(world.mm, BASE) == 99


def test_a_page_read_and_then_written_is_not_copied() -> None:
    world = World()
    world.fill(8)
    world.mm.madvise(BASE, 8 * PAGE, MADV_PAGEOUT)
    assert world.holds(8)
    before = world.mm.cow_pages
    store(world.mm, BASE, 77)
    assert world.mm.cow_pages == before and len(world.swap.cache) == 7 and load(world.mm, BASE) == 77


def test_processes_that_share_a_page_share_its_slot() -> None:
    world = World()
    world.fill(16)
    world.spaces.append(world.mm.fork())
    assert put_out(world.swap, 1000) == 16
    assert world.area.used == 16 and not world.swap.cache
    child = world.spaces[1]
    assert world.out() == world.out(child) == list(range(16))
    assert world.holds(16, mm=child)
    assert world.holds(16)
    assert world.frames.counts[world.mm.tables.fmt.pfn(world.mm.tables.entry(BASE))] == 3  # two leaves and the swap cache
    store(child, BASE, 200)
    assert load(world.mm, BASE) == 1
    child.put()
    world.mm.put()
    assert world.area.used == len(world.swap.cache) and world.swap.free_pages == world.area.total
    assert world.frames.used_pages == 0


def test_fork_of_what_is_out() -> None:
    world = World()
    world.fill(16)
    put_out(world.swap, 1000)
    child = world.mm.fork()
    assert world.swap.count(next(swapped(child.tables, 0, 1 << 40))[1]) == 2
    assert world.holds(16, mm=child) and world.holds(16)
    world.mm.munmap(BASE, 16 * PAGE)
    assert world.holds(16, mm=child)


def test_a_large_page_is_split_and_goes() -> None:
    world = World(megabytes=16, policy=Policy())
    world.mm.mmap(BASE, BLOCK, RW, AT)
    store(world.mm, BASE + 5 * PAGE, 5)
    assert world.mm.tables.blocks[BASE >> 21] < 0
    assert put_out(world.swap, 512) >= 511
    assert load(world.mm, BASE + 5 * PAGE) == 5 and load(world.mm, BASE) == 0


def test_what_cannot_be_written_stays() -> None:
    world = World()
    world.fill(30)
    world.backing.fails = True
    assert put_out(world.swap, 30) == 0
    assert world.out() == [] and world.area.used == 0 and not world.area.accepts
    assert len(world.notes) == 1 and "/swap: writing failed" in world.notes[0]
    assert world.holds(30)


def test_what_cannot_be_written_stays_shared_memory_too() -> None:
    world = World()
    world.fill(30, flags=MAP_FIXED | SHARED)
    world.backing.fails = True
    assert put_out(world.swap, 30) == 0
    assert world.area.used == 0 and world.holds(30)


def test_what_cannot_be_read_is_a_bus_error() -> None:
    world = World()
    world.fill(3)
    world.fill(3, BASE + BLOCK, MAP_FIXED | SHARED)
    put_out(world.swap, 6)
    world.backing.fails = True
    for at in (BASE, BASE + BLOCK):
        with pytest.raises(Signal) as caught:
            load(world.mm, at)
        assert caught.value.args[0] == 7
    world.backing.fails = False
    assert world.holds(3) and world.holds(3, BASE + BLOCK)


def test_files_in_memory_go_and_come_back() -> None:
    world = World()
    file = tmpfs_file(world.machine.ram, b"".join(bytes([each]) * PAGE for each in range(1, 21)))
    cache = file.page_cache
    assert cache is not None
    world.swap.caches[cache] = None
    world.mm.mmap(BASE, 20 * PAGE, RW, MAP_SHARED | MAP_FIXED, file)
    load(world.mm, BASE)
    assert put_out(world.swap, 1000) == 20
    assert cache.pages_used == 20 and not cache.pages and world.mm.rss_file == 0
    assert cache.read(3 * PAGE - 1, 2) == b"\3\4" and not cache.pages
    cache.write(5 * PAGE - 1, b"xy")
    assert load(world.mm, BASE + 5 * PAGE - 1) == ord("x") and load(world.mm, BASE + 5 * PAGE) == ord("y")
    cache.punch(7 * PAGE, PAGE)
    assert cache.read(7 * PAGE, 1) == b"\0" and cache.read(8 * PAGE, 1) == b"\x09"
    world.mm.munmap(BASE, 20 * PAGE)
    cache.close()
    assert world.area.used == 0


def test_a_file_whose_pages_stay_stays() -> None:
    world = World()
    file = tmpfs_file(world.machine.ram, b"x" * 5 * PAGE)
    cache = file.page_cache
    assert cache is not None
    world.swap.caches[cache] = None
    cache.stays = True
    world.mm.mmap(BASE, 5 * PAGE, RW, MAP_SHARED | MAP_FIXED, file)
    world.mm.madvise(BASE, 5 * PAGE, MADV_PAGEOUT)
    assert put_out(world.swap, 1000) == 0 and len(cache.pages) == 5
    cache.stays = False
    assert put_out(world.swap, 1000) == 5


def test_a_file_with_many_mappings_is_passed_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    file = tmpfs_file(world.machine.ram)
    cache = file.page_cache
    assert cache is not None
    cache.truncate(64 * BLOCK)
    for i in range(64):
        world.mm.mmap(BASE + 2 * i * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, file, i * BLOCK)
        store(world.mm, BASE + 2 * i * PAGE, i + 1)
    assert len(list(shmem.pass_windows(world.swap))) == 64
    monkeypatch.setattr(shmem, "MOST_LOOKS", 4 * 64)
    assert len(list(shmem.pass_windows(world.swap))) == 4
    world.mm.mlock(BASE, PAGE)
    assert put_out(world.swap, 1000) == 63 and len(cache.pages) == 1
    assert all(load(world.mm, BASE + 2 * i * PAGE) == i + 1 for i in range(64))


def test_swapoff_brings_everything_back() -> None:
    world = World()
    world.fill(50)
    world.fill(20, BASE + BLOCK, MAP_FIXED | SHARED)
    put_out(world.swap, 70)
    switch_off(world.swap, world.area)
    assert world.backing.closed and world.frames.swap is None and world.frames.press_at == world.frames.limit_pages
    assert world.holds(50) and world.holds(20, BASE + BLOCK) and world.mm.majflt == 0
    assert not world.swap.holders and not world.swap.caches, "who ends from now on is not held on to"


def test_swapoff_without_room_changes_nothing() -> None:
    world = World(megabytes=8, slots=8192)
    world.fill(3000)
    with pytest.raises(ENOMEM):
        switch_off(world.swap, world.area)
    assert world.swap.areas and not world.backing.closed and world.area.accepts
    assert world.holds(3000)


def test_swapoff_in_vain_lets_no_page_go_to_an_area_that_fails() -> None:
    world = World(megabytes=8, slots=8192)
    world.fill(3000)
    world.area.accepts = False
    with pytest.raises(ENOMEM):
        switch_off(world.swap, world.area)
    assert not world.area.accepts


def test_swapoff_puts_pages_out_to_another_area() -> None:
    world = World(megabytes=8, slots=8192)
    world.fill(3000)
    world.swap.add(b"/second", b"file", MemoryBacking(8192), 8192, [], -1, None)
    switch_off(world.swap, world.area)
    assert [each.name for each in world.swap.areas.values()] == [b"/second"]
    assert world.holds(3000)


def test_priorities() -> None:
    world = World(slots=4)
    low = world.area
    high = world.swap.add(b"/high", b"file", MemoryBacking(3), 3, [], 5, None)
    lower = world.swap.add(b"/lower", b"file", MemoryBacking(3), 3, [1], -1, None)
    assert (low.priority, high.priority, lower.priority) == (-2, 5, -3)
    assert [world.swap.alloc() >> 40 for _ in range(6)] == [high.number] * 2 + [low.number] * 3 + [lower.number]
    with pytest.raises(SwapFull):
        world.swap.alloc()


def test_a_large_area_takes_no_memory_before_it_is_used() -> None:
    world = World(slots=4)
    area = world.swap.add(b"/large", b"file", world.backing, 1 << 34, [1, 1024, 1500], 9, None)
    assert area.total == (1 << 34) - 4 and not area.counts
    pages = [world.swap.alloc() & 0xFFFF_FFFF for _ in range(3000)]
    assert pages == [each for each in range(2, 3004) if each not in (1024, 1500)] and len(area.counts) == 4096
    world.swap.put(area.number << 40 | 77)
    area.next = 4096
    assert world.swap.alloc() & 0xFFFF_FFFF == 77


def test_areas_of_one_priority_take_turns() -> None:
    world = World(slots=2000)
    other = world.swap.add(b"/other", b"file", MemoryBacking(2000), 2000, [], -1, None)
    other.priority = world.area.priority
    world.swap._sort()
    numbers = [world.swap.alloc() >> 40 for _ in range(1024)]
    assert numbers.count(other.number) == 512


def test_private_mappings_may_be_as_large_as_memory_and_swap() -> None:
    world = World(megabytes=8, slots=1000)
    pages = world.frames.limit_pages
    world.mm.mmap(0, (pages + 999) * PAGE, RW, PRIVATE)
    with pytest.raises(ENOMEM):
        world.mm.mmap(0, (pages + 1000) * PAGE, RW, PRIVATE)


# ---- headers


def header(version: int = 1, last: int = 99, bad: tuple[int, ...] = (), signature: bytes = SIGNATURE, order: str = "<") -> bytes:
    page = bytearray(PAGE)
    pack_into(order + "3I", page, INFO_AT, version, last, len(bad))
    pack_into(f"{order}{len(bad)}I", page, BAD_PAGES_AT, *bad)
    page[-len(signature) :] = signature
    return bytes(page)


def test_headers_that_are_good() -> None:
    assert parse(header(), 100, regular=True) == (100, [])
    assert parse(header(last=9), 100, regular=True) == (10, [])
    assert parse(header(bad=(3, 99)), 100, regular=False) == (100, [3, 99])
    assert parse(header(bad=(3,), order=">"), 100, regular=False) == (100, [3])


@pytest.mark.parametrize(
    "page",
    [
        header(version=2), header(last=0), header(last=100), header(last=0xFFFF_FFFF), header(bad=(0,)), header(bad=(100,)),
        header(signature=b"SWAP-SPACE"), header()[:-1], b"", header(last=2, bad=(1, 2)),
    ],
)  # fmt: skip
def test_headers_that_are_not(page: bytes) -> None:
    with pytest.raises(EINVAL):
        parse(page, 100, regular=False)


def test_a_file_has_no_bad_pages() -> None:
    with pytest.raises(EINVAL):
        parse(header(bad=(3,)), 100, regular=True)


@given(st.binary(max_size=64), st.integers(0, MAX_BAD_PAGES + 2), st.integers(0, 200), st.booleans())
def test_any_header_is_refused_or_makes_sense(noise: bytes, count: int, pages: int, regular: bool) -> None:
    page = bytearray(header())
    page[INFO_AT + INFO.size - 4 : INFO_AT + INFO.size] = count.to_bytes(4, "little")
    page[INFO_AT : INFO_AT + min(8, len(noise))] = noise[:8]
    page[BAD_PAGES_AT : BAD_PAGES_AT + len(noise)] = noise
    try:
        used, bad = parse(bytes(page), pages, regular=regular)
    except EINVAL:
        return
    assert 1 < used <= pages and all(0 < each < used for each in bad)
