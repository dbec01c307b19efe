"""A small process is copied by the mould of its last fork, and its copy ends in one piece: if nothing has changed, and only then."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from userland import PAGE, access, file_of, load, new_machine, store

from trapline.abi.mman import MADV_DONTFORK, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from trapline.kernel.mm.address_space import SMALL_PAGES, AddressSpace
from trapline.kernel.mm.policy import Policy
from trapline.kernel.mm.reclaim import reclaimer
from trapline.machine.contract import READ

AREA = 0x4000_0000 + 3 * PAGE
FILE = 0x5000_0000
PAGES = 20
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
Change = Callable[[AddressSpace], object]


def parent() -> AddressSpace:
    policy = Policy()
    policy.one_page_per_fault()
    policy.fork_copy_pages = 256
    mm = AddressSpace(new_machine(64), aslr=False, policy=policy)
    mm.mmap(AREA, PAGES * PAGE, 3, FIXED)
    for i in range(0, PAGES, 2):
        store(mm, AREA + i * PAGE, i + 1)
    mm.mmap(FILE, 4 * PAGE, 5, MAP_PRIVATE | MAP_FIXED, file_of(mm.ram, b"text" * 4096))
    for i in range(4):
        assert load(mm, FILE + i * PAGE) == ord("t")
    return mm


def write_zeros(mm: AddressSpace) -> None:
    store(mm, AREA, 99)


def add_page(mm: AddressSpace) -> None:
    store(mm, AREA + PAGE, 99)


def drop_page(mm: AddressSpace) -> None:
    mm.munmap(AREA + 2 * PAGE, PAGE)


def swap_pages(mm: AddressSpace) -> None:
    """As many pages as before, and another's frame where one of ours was."""
    drop_page(mm)
    add_page(mm)


def add_area(mm: AddressSpace) -> None:
    mm.mmap(AREA + 64 * PAGE, PAGE, 3, FIXED)
    store(mm, AREA + 64 * PAGE, 99)


def add_table(mm: AddressSpace) -> None:
    mm.mmap(0x6000_0000, PAGE, 3, FIXED)
    store(mm, 0x6000_0000, 99)


def drop_table(mm: AddressSpace) -> None:
    mm.munmap(FILE, 4 * PAGE)


def protect(mm: AddressSpace) -> None:
    mm.mprotect(AREA, PAGE, 1)


def share_again(mm: AddressSpace) -> None:
    """Pages of the copy are another space's too."""
    mm.policy = Policy(fork_copy_pages=0)
    mm.fork()


CHANGES = [write_zeros, add_page, drop_page, swap_pages, add_area, add_table, drop_table, protect]


def content(mm: AddressSpace) -> dict[int, int]:
    """The first byte of each page that an area maps."""
    pages = (va for area in mm.areas() for va in range(area.start, area.end, PAGE))
    return {va: load(mm, va) for va in pages}


def test_the_mould_of_the_last_fork_serves_while_the_tables_stay() -> None:
    mm = parent()
    first = mm.fork()
    mould = mm.mould
    store(mm, AREA + 2 * PAGE, 77)
    second = mm.fork()
    assert mm.mould is mould is not None
    assert load(first, AREA + 2 * PAGE) == 3
    assert load(second, AREA + 2 * PAGE) == 77
    assert (second.rss_anon, second.rss_file) == (mm.rss_anon, mm.rss_file) == (PAGES // 2, 4)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_what_its_parent_is_whatever_has_changed(change: Change) -> None:
    mm = parent()
    mm.fork().put()
    change(mm)
    child = mm.fork()
    expected = content(mm)
    assert content(child) == expected
    for va, value in expected.items():
        if va < FILE and mm.map.find(va).prot & 2:  # type: ignore[union-attr]
            store(child, va, value ^ 0xFF)
    assert content(mm) == expected
    assert (child.rss_anon >= mm.rss_anon) and child.rss_file == mm.rss_file


@pytest.mark.parametrize("change", [lambda mm: None, *CHANGES, share_again])
def test_whatever_a_copy_did_its_end_gives_back_what_it_had(change: Change) -> None:
    mm = parent()
    used = mm.ram.frames.used_pages
    child = mm.fork()
    others = [child.fork(), child.fork()]
    others[0].put()  # its frames are the next to be handed out
    change(child)
    shared = mm.ram.frames.used_pages
    child.put()
    assert mm.ram.frames.used_pages < shared
    assert content(others[1])[AREA] == 1
    if change is not share_again:
        others[1].put()
        assert mm.ram.frames.used_pages == used
    assert load(mm, AREA + 2 * PAGE) == 3


def test_an_unchanged_copy_ends_without_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    mm = parent()
    used = mm.ram.frames.used_pages
    child = mm.fork()
    assert child.cast is not None and child.cast.holds(child.tables)
    monkeypatch.setattr("trapline.kernel.mm.address_space.zap", None)
    child.put()
    assert mm.ram.frames.used_pages == used


def test_what_is_not_inherited_is_not_in_the_copy() -> None:
    mm = parent()
    mm.mmap(0x6000_0000, 2 * PAGE, 3, FIXED)
    mm.mmap(0x7000_0000, 2 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    store(mm, 0x6000_0000, 5)
    store(mm, 0x7000_0000, 6)
    mm.madvise(0x6000_0000, 2 * PAGE, MADV_DONTFORK)
    for _ in range(2):
        used = mm.ram.frames.used_pages
        child = mm.fork()
        assert child.cast is None and child.map.find(0x6000_0000) is None
        store(mm, 0x7000_0000, 7)
        assert [load(child, va) for va in (AREA, AREA + 2 * PAGE, 0x7000_0000)] == [1, 3, 7]
        assert access(child, AREA, READ) != access(mm, AREA, READ)
        child.put()
        assert mm.ram.frames.used_pages == used


def test_what_is_shared_stays_shared_in_a_cast() -> None:
    mm = parent()
    mm.mmap(FILE + 4 * PAGE, 2 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    shared = FILE + 4 * PAGE
    store(mm, shared, 5)
    used = mm.ram.frames.used_pages
    for value in (6, 7):
        child = mm.fork()
        assert child.cast is not None and child.cast.holds(child.tables)
        store(child, shared, value)
        store(child, AREA, value)
        assert [load(mm, shared), load(mm, AREA)] == [value, 1]
        store(mm, shared + PAGE, value)
        assert load(child, shared + PAGE) == value
        soon: list[Callable[[], None]] = []
        child.put(soon.append)
        assert len(soon) == 1 and not reclaimer(mm.ram).ends, "what it has written may not wait"
        soon[0]()
        assert mm.ram.frames.used_pages - used in (0, 1), "the second shared page"


def test_frames_of_a_small_space_wait_for_leisure_and_what_others_see_does_not() -> None:
    mm = parent()
    frames, ends, area = mm.ram.frames, reclaimer(mm.ram).ends, mm.map.find(FILE)
    used = frames.used_pages
    soon: list[Callable[[], None]] = []
    assert area is not None and area.cache is not None
    child = mm.fork()
    child.put(soon.append)
    for each in soon:
        each()
    assert frames.used_pages > used and len(ends) == 1
    assert list(area.cache.mappers) == [area]
    assert reclaimer(mm.ram)(1) >= PAGES // 2, "who needs memory gets it from the dead first"
    assert frames.used_pages == used and not ends


def test_frames_of_a_large_space_do_not_wait() -> None:
    mm = AddressSpace(new_machine(64), aslr=False, policy=Policy(huge=False))
    mm.mmap(AREA, (SMALL_PAGES + 1) * PAGE, 3, FIXED)
    for i in range(SMALL_PAGES + 1):
        store(mm, AREA + i * PAGE, 1)
    soon: list[Callable[[], None]] = []
    mm.put(soon.append)
    for each in soon:
        each()
    assert mm.ram.frames.used_pages == 0 and not reclaimer(mm.ram).ends
