"""How much one fault repairs, and what fork copies at once: the policy's numbers, seen from the address space."""

from __future__ import annotations

import random

import pytest
from userland import PAGE, access, backed_cache, file_of, load, new_machine, store

from trapline.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from trapline.kernel.mm import populate
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.policy import Policy
from trapline.kernel.mm.tables import BLOCK_SIZE
from trapline.machine.contract import READ, WRITE

AREA = 0x4000_0000 + 3 * PAGE  # no whole block, so no large leaf


def space(policy: Policy, pages: int) -> AddressSpace:
    mm = AddressSpace(new_machine(64), aslr=False, policy=policy)
    mm.mmap(AREA, pages * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    return mm


def fill(mm: AddressSpace, pages: int, value: int = 1) -> None:
    for i in range(pages):
        store(mm, AREA + i * PAGE, value)


def test_page_after_page_takes_fewer_and_fewer_faults() -> None:
    mm = space(Policy(huge=False), 480)
    fill(mm, 480)
    assert mm.minflt <= 8


def test_scattered_pages_are_not_a_streak() -> None:
    mm = space(Policy(huge=False), 480)
    for i in range(0, 480, 64):
        store(mm, AREA + i * PAGE, 1)
    assert mm.rss_anon <= 8 * 16


def test_pages_of_a_larger_area_lie_together() -> None:
    mm = space(Policy(huge=False, anon_most_pages=128), 480)
    for i in (300, 260, 200, 350):
        store(mm, AREA + i * PAGE, 1)
    frames = [access(mm, AREA + i * PAGE, READ) >> 12 for i in range(256 - 3, 384 - 3)]
    assert frames == list(range(frames[0], frames[0] + 128))
    assert mm.rss_anon == 256


def test_one_page_per_fault() -> None:
    policy = Policy()
    policy.one_page_per_fault()
    mm = space(policy, 40)
    fill(mm, 40)
    assert mm.minflt == mm.rss_anon == 40


def test_copies_on_write_come_in_streaks_too() -> None:
    mm = space(Policy(fork_copy_pages=0), 480)
    fill(mm, 480)
    child = mm.fork()
    before = child.minflt
    fill(child, 480, 2)
    assert child.minflt - before <= 8
    assert load(mm, AREA + 479 * PAGE) == 1
    assert load(child, AREA + 479 * PAGE) == 2


@pytest.mark.parametrize(("pages", "copied"), [(40, True), (400, False)])
def test_fork_copies_a_small_process_and_shares_a_large_one(pages: int, copied: bool) -> None:
    mm = space(Policy(huge=False), pages)
    fill(mm, pages)
    used = mm.ram.frames.used_pages
    child = mm.fork()
    assert (mm.ram.frames.used_pages - used >= pages) is copied
    faults = mm.minflt + child.minflt
    fill(child, pages, 2)
    fill(mm, pages, 3)
    assert (mm.minflt + child.minflt == faults) is copied
    assert [load(child, AREA), load(mm, AREA)] == [2, 3]
    child.put()
    mm.put()
    assert mm.ram.frames.used_pages == 0


LIBRARY = ((0, 3, 1), (3, 5, 5), (8, 2, 1), (10, 4, 3))  # first page, pages, PROT_*: as ld.so(8) maps one


def mapped_library(mm: AddressSpace, layout: tuple[tuple[int, int, int], ...]) -> None:
    file = file_of(mm.ram, b"".join(bytes([page + 1]) * PAGE for page in range(14)))
    for first, pages, prot in layout:
        mm.mmap(AREA + first * PAGE, pages * PAGE, prot, MAP_PRIVATE | MAP_FIXED, file, first * PAGE)


def test_a_library_is_there_when_one_of_its_pages_was_needed() -> None:
    mm = AddressSpace(new_machine(64), aslr=False)
    mapped_library(mm, LIBRARY)
    assert mm.fault(AREA + 10 * PAGE, WRITE) is None
    assert all(mm.tables.entry(AREA + page * PAGE) for page in range(14))
    mm.mmap(AREA + 14 * PAGE, 2 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    assert all(mm.tables.entry(AREA + page * PAGE) for page in (14, 15)), "the zeros behind its data"


def test_what_is_no_library_is_mapped_as_it_is_needed() -> None:
    """Private pages of a file that nobody has written show what is written to the file."""
    mm = AddressSpace(new_machine(64), aslr=False)
    mapped_library(mm, tuple((first, pages, prot & 3) for first, pages, prot in LIBRARY))
    assert mm.fault(AREA, READ) is None
    assert not mm.tables.entry(AREA + 10 * PAGE) and not mm.rss_anon


def test_one_page_per_fault_holds_for_libraries_and_heaps() -> None:
    policy = Policy()
    policy.one_page_per_fault()
    mm = AddressSpace(new_machine(64), aslr=False, policy=policy)
    mapped_library(mm, LIBRARY)
    mm.start_brk = mm.brk = 0x1000_0000
    assert mm.set_brk(0x1000_0000 + 8 * PAGE) and mm.fault(AREA + 3 * PAGE, READ) is None
    assert mm.rss_pages == 1


def leaves_and_hints(
    monkeypatch: pytest.MonkeyPatch, start: int, *, at_once: bool
) -> tuple[list[int], list[tuple[int, int, int]], int]:
    """What `prefault` makes of a private mapping of a file: its leaves, without frames, the hints, and pages of files."""
    mm = AddressSpace(new_machine(64), aslr=False, policy=Policy(whole_pages=64))
    file = file_of(mm.ram, b"".join(bytes([i]) * PAGE for i in range(40)))
    file.page_cache.load(0, 40)
    mm.mmap(start, 40 * PAGE, 5, MAP_PRIVATE | MAP_FIXED, file, 0)
    hints: list[tuple[int, int, int]] = []
    monkeypatch.setattr(mm.space, "hint", lambda *args: hints.append(args))
    if not at_once:
        monkeypatch.setattr(populate, "_map_run", lambda *args: None)
    populate.prefault(mm, start, start + 40 * PAGE)
    monkeypatch.undo()
    entries = [mm.tables.entry(start + i * PAGE) for i in range(40)]
    assert [load(mm, start + i * PAGE) for i in range(40)] == list(range(40))
    first = mm.tables.fmt.pfn(entries[0])
    return [entry - (first + i << mm.tables.fmt.pfn_shift) for i, entry in enumerate(entries)], hints, mm.rss_file


@pytest.mark.parametrize("start", [AREA, (AREA & -BLOCK_SIZE) + BLOCK_SIZE - 7 * PAGE])
def test_a_file_mapped_at_once_looks_as_if_it_had_been_touched(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one table, and across two."""
    touched, (slow_hint,), pages = leaves_and_hints(monkeypatch, start, at_once=False)
    mapped, (hint,), same_pages = leaves_and_hints(monkeypatch, start, at_once=True)
    assert (mapped, same_pages) == (touched, pages)
    assert hint[:2] == slow_hint[:2] == (start, start + 40 * PAGE)
    assert hint[2] and not slow_hint[2]


def test_tables_and_pages_of_a_small_copy_lie_together() -> None:
    mm = space(Policy(huge=False), 60)
    fill(mm, 60)
    frames = mm.ram.frames
    before = frames.used_pages
    child = mm.fork()
    copies = [mm.tables.fmt.pfn(child.tables.entry(AREA + i * PAGE)) for i in range(60)]
    first = copies[0]
    assert copies == list(range(first, first + 60))
    assert {base >> 9 for base in child.tables.blocks.values()} <= set(range(first - 8, first))
    child.put()
    assert frames.used_pages == before


def test_rows_of_pages_are_found_and_forgotten_when_pages_go() -> None:
    """Against a look at every page."""
    rng = random.Random(5)
    ram = new_machine(64).ram
    cache = backed_cache(ram, bytes(64 * PAGE))

    def row(index: int, count: int) -> int | None:
        first = cache.pages.get(index)
        same = first is not None and all(cache.pages.get(index + i) == first + i for i in range(count))
        return first if same else None

    for _ in range(400):
        index = rng.randrange(64)
        count = rng.randrange(1, 65 - index)
        assert cache.in_a_row(index, count) == row(index, count)
        kind = rng.randrange(12)
        if kind == 0:
            cache.load(index, index + count)
        elif kind == 1:
            cache.frame(index)
        elif kind == 2:
            cache.shrink(rng.choice([1, 5, 100]))
        elif kind == 3:
            cache.punch(index * PAGE, PAGE)
        elif kind == 4 and rng.random() < 0.2:
            cache.backing_changed(64 * PAGE)
    cache.load(0, 64)
    assert cache.in_a_row(60, 5) is None, "beyond its end"


def test_a_library_whose_headers_were_read_before_is_one_row_nevertheless() -> None:
    """As ld.so(8) does it: it reads the headers, maps all of the file, and the text in its place."""
    mm = AddressSpace(new_machine(64), aslr=False)
    file = file_of(mm.ram, bytes(200 * PAGE))
    assert file.page_cache is not None
    file.page_cache.read(0, 832)
    kept = file.page_cache.frame(150)
    mm.ram.frames.get(kept)  # somebody uses it
    mm.mmap(AREA, 200 * PAGE, 1, MAP_PRIVATE | MAP_FIXED, file)
    mm.mmap(AREA + 40 * PAGE, 100 * PAGE, 5, MAP_PRIVATE | MAP_FIXED, file, 40 * PAGE)
    assert file.page_cache.in_a_row(0, 140) is not None
    assert file.page_cache.frame(150) == kept
