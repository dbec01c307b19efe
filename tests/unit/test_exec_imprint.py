"""What is mapped from an imprint is what would be mapped segment by segment: areas, leaves, content, counts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scripted import ScriptedMachine
from userland import PAGE, FakeFile, MemoryBacking, access, file_of, load, new_machine, store, tmpfs_file

from trapline.abi.errno import EFAULT, ENOMEM
from trapline.kernel.exec import image as images
from trapline.kernel.exec import imprint
from trapline.kernel.exec.elf import Image, Segment
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.policy import MmLimits, Policy
from trapline.kernel.mm.swap.areas import Swap
from trapline.kernel.mm.swap.out import put_out
from trapline.machine.contract import READ, WRITE

LOW = 0x40_0000
PAGES = 60
BLOCK = 2 << 20


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(PAGES * PAGE - 100)


def image_of(segments: list[Segment]) -> Image:
    low = min(each.vaddr for each in segments) & -PAGE
    high = max(each.vaddr + each.length for each in segments) + PAGE - 1 & -PAGE
    return Image(low, True, tuple(segments), low, high, PAGE, b"", 0, 0, False)


def random_image(rng: random.Random) -> Image:
    """Segments in order, apart or adjacent, with or without zeros behind what is in the file."""
    segments: list[Segment] = []
    vaddr = LOW + rng.choice([0, 0, 500 * PAGE])
    for _ in range(rng.randrange(1, 6)):
        offset = rng.randrange(40) * PAGE + rng.choice([0, 0, 0x123])
        vaddr = (vaddr + PAGE - 1 & -PAGE) + rng.choice([0, 0, 3, 300]) * PAGE + offset % PAGE
        in_file = rng.randrange(1, 18 * PAGE)
        length = in_file + rng.choice([0, 0, 100, 5 * PAGE])
        segments.append(Segment(vaddr, offset, in_file, length, rng.choice([1, 5, 5, 3, 3, 7, 0])))
        vaddr += length
    return image_of(segments)


PLAIN = image_of([
    Segment(LOW, 0, 3 * PAGE - 7, 3 * PAGE - 7, 1), Segment(LOW + 3 * PAGE, 3 * PAGE, 20 * PAGE, 20 * PAGE, 5),
    Segment(LOW + 24 * PAGE + 0x123, 24 * PAGE + 0x123, 2 * PAGE, 5 * PAGE, 3),
])  # fmt: skip


def space(machine: ScriptedMachine, policy: Policy | None = None, **limits: int) -> AddressSpace:
    return AddressSpace(machine, MmLimits(**limits), aslr=False, policy=policy)


def mapped(machine: ScriptedMachine, file: FakeFile, image: Image, bias: int = 0) -> AddressSpace:
    mm = space(machine)
    images._map(mm, file, image, bias)  # type: ignore[arg-type]
    return mm


def look(mm: AddressSpace, bias: int = 0) -> dict[str, Any]:
    """All that there is, as if it had not been moved, and whichever frames it has."""
    tables, fmt = mm.tables, mm.tables.fmt
    pages = {}
    for area in mm.map.areas:
        for va in range(area.start, area.end, PAGE):
            entry = tables.entry(va)
            if entry:
                pa = tables.frame(va, entry) << 12
                of_file = entry & fmt.pfn_mask if entry & fmt.soft_file else 0
                pages[va - bias] = entry & ~fmt.pfn_mask, of_file, bytes(mm.ram.mem[pa : pa + PAGE])
    areas = [(e.start - bias, e.end - bias, e.prot, e.flags, e.cache, e.offset, e.file, e.name) for e in mm.map.areas]
    return {
        "areas": areas, "pages": pages, "counts": imprint.counts(mm), "highest": (mm.hiwater_vm_pages, mm.hiwater_rss_pages),
        "starts": [start - bias for start in mm.map.starts], "tables": mm.tables.table_pages if not bias else 0,
    }  # fmt: skip


class Presses:
    """How often an imprint was used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        honest = imprint.Imprint.press

        def press(*args: Any) -> bool:
            done = honest(*args)
            self.count += done
            return done

        monkeypatch.setattr(imprint.Imprint, "press", press)


@pytest.fixture
def presses(monkeypatch: pytest.MonkeyPatch) -> Presses:
    return Presses(monkeypatch)


@pytest.mark.parametrize("seed", range(40))
def test_the_third_time_looks_like_the_first(seed: int, presses: Presses) -> None:
    rng = random.Random(seed)
    image, machine = random_image(rng), new_machine(64)
    file = file_of(machine.ram, content(seed))
    file.page_cache.load(0, PAGES)
    first = look(mapped(machine, file, image))
    assert look(mapped(machine, file, image)) == first
    assert presses.count == 0
    bias = rng.choice([PAGE, 17 * PAGE, BLOCK - 3 * PAGE, 5 * BLOCK])
    moved = mapped(machine, file, image, bias)
    expected = dict(first, tables=0)
    assert look(moved, bias) == expected
    assert look(mapped(machine, file, image)) == first
    if presses.count:
        assert presses.count == 2
    for area in moved.map.areas:
        assert area in file.page_cache.mappers or area.cache is None
        if area.prot & 2:
            store(moved, area.start, 77)
            assert load(moved, area.start) == 77
    assert look(mapped(machine, file, image)) == first, "what was written is nobody else's"
    kept = file.page_cache.imprint
    assert presses.count == 3 if kept.imprint else not kept.plain


def test_most_images_are_plain(presses: Presses) -> None:
    plain = 0
    for seed in range(40):
        image, machine = random_image(random.Random(seed)), new_machine(64)
        file = file_of(machine.ram, content(seed))
        file.page_cache.load(0, PAGES)
        for _ in range(3):
            mapped(machine, file, image)
        plain += file.page_cache.imprint.plain
    assert plain == presses.count > 25


def thrice() -> tuple[ScriptedMachine, FakeFile]:
    machine = new_machine(64)
    file = file_of(machine.ram, content(1))
    for _ in range(2):
        mapped(machine, file, PLAIN).put()
    return machine, file


def test_frames_and_mappers_go_with_the_space(presses: Presses) -> None:
    machine, file = thrice()
    used = machine.ram.frames.used_pages
    mm = mapped(machine, file, PLAIN)
    assert presses.count == 1
    mm.put()
    assert machine.ram.frames.used_pages == used
    assert not file.page_cache.mappers


def test_what_is_written_to_the_file_is_in_the_next_copy(presses: Presses) -> None:
    machine, file = thrice()
    file.page_cache.write(24 * PAGE + 0x200, b"\x99")
    assert load(mapped(machine, file, PLAIN), LOW + 24 * PAGE + 0x200) == 0x99
    assert presses.count == 1


def test_pages_that_the_cache_has_dropped_are_read_again(presses: Presses) -> None:
    machine, file = thrice()
    before = look(mapped(machine, file, PLAIN))["pages"]
    file.page_cache.unmap_clean()
    assert file.page_cache.shrink(PAGES) > 0
    assert file.page_cache.imprint.imprint is None, "what is worth nothing takes no memory"
    again = look(mapped(machine, file, PLAIN))["pages"]
    assert {va: each[2] for va, each in again.items()} == {va: each[2] for va, each in before.items()}
    assert presses.count == 1
    mapped(machine, file, PLAIN)
    assert presses.count == 2, "and that is remembered instead"


def test_a_file_that_is_cut_off_is_mapped_anew(presses: Presses) -> None:
    machine, file = thrice()
    file.page_cache.truncate(10 * PAGE)
    mm = space(machine)
    with pytest.raises(EFAULT):
        images._map(mm, file, PLAIN, 0)  # type: ignore[arg-type]
    assert presses.count == 0


@pytest.mark.parametrize("limits", [{"as_bytes": 20 * PAGE}, {"data": 2 * PAGE}])
def test_limits_are_looked_at_one_by_one(limits: dict[str, int], presses: Presses) -> None:
    machine, file = thrice()
    mm = space(machine, **limits)
    with pytest.raises(ENOMEM, match="RLIMIT"):
        images._map(mm, file, PLAIN, 0)  # type: ignore[arg-type]
    assert presses.count == 0


@pytest.mark.parametrize("where", [PLAIN.low - PAGE, PLAIN.low, PLAIN.low + 10 * PAGE, PLAIN.high])
def test_where_something_is_or_adjoins_segments_are_mapped_one_by_one(where: int, presses: Presses) -> None:
    machine, file = thrice()
    mm = space(machine)
    mm.mmap(where, PAGE, 3, 0x32)
    images._map(mm, file, PLAIN, 0)  # type: ignore[arg-type]
    assert presses.count == 0
    assert access(mm, PLAIN.low, READ) and access(mm, LOW + 28 * PAGE, WRITE)


def test_another_policy_is_not_pressed_upon(presses: Presses) -> None:
    machine, file = thrice()
    policy = Policy()
    policy.one_page_per_fault()
    mm = space(machine, policy)
    images._map(mm, file, PLAIN, 0)  # type: ignore[arg-type]
    assert presses.count == 0
    assert mm.rss_pages == 1, "the page whose end is zeros"


def test_another_image_of_the_same_file_is_another(presses: Presses) -> None:
    machine, file = thrice()
    other = image_of([Segment(LOW, 0, PAGE, PAGE, 5)])
    assert [area.end for area in mapped(machine, file, other).map.areas] == [LOW + PAGE]
    assert presses.count == 0


def test_without_memory_nothing_is_left(presses: Presses) -> None:
    machine, file = thrice()
    mm = space(machine)
    frames = machine.ram.frames
    frames.limit_pages = frames.used_pages + 2
    assert not imprint.press(mm, file, PLAIN, 0)  # type: ignore[arg-type]
    assert presses.count == 0 and not mm.map.areas and not mm.rss_pages
    mm.put()


def test_segments_that_overlap_have_no_imprint(presses: Presses) -> None:
    machine = new_machine(64)
    file = file_of(machine.ram, content(1))
    image = image_of([Segment(LOW, 0, 4 * PAGE, 4 * PAGE, 3), Segment(LOW + 3 * PAGE, 9 * PAGE, PAGE, 2 * PAGE, 3)])
    first = look(mapped(machine, file, image))
    for _ in range(3):
        assert look(mapped(machine, file, image)) == first
    assert presses.count == 0 and not file.page_cache.imprint.plain


def test_a_program_whose_pages_went_to_swap_is_mapped_anew(presses: Presses) -> None:
    machine = new_machine(64)
    file = tmpfs_file(machine.ram, content(1))
    for _ in range(3):
        mapped(machine, file, PLAIN).put()
    assert presses.count == 1
    swap = Swap(machine.ram, list, [].append, [].append, lambda: None)
    swap.add(b"/swap", b"file", MemoryBacking(4096), 4096, [], -1, None)
    swap.caches[file.page_cache] = None
    assert put_out(swap, 1000) == PAGES and not file.page_cache.pages
    mm = mapped(machine, file, PLAIN)
    assert presses.count == 1
    assert all(load(mm, LOW + at) == content(1)[at] for at in (0, 5 * PAGE, 20 * PAGE + 7, 24 * PAGE + 0x200))


GAPPED = image_of([Segment(LOW, 0, 3 * PAGE, 3 * PAGE, 5), Segment(LOW + 400 * PAGE, 3 * PAGE, 2 * PAGE, 2 * PAGE, 3)])


@pytest.mark.parametrize("top", [LOW + 2 * PAGE, LOW + 200 * PAGE, LOW + 401 * PAGE, LOW + 425 * PAGE])
def test_what_was_mapped_over_a_stack_or_around_it_has_no_imprint(top: int, presses: Presses) -> None:
    """The stack is no part of the image, and what it loses is no part of what mapping the image counts."""
    machine = new_machine(64)
    file = file_of(machine.ram, content(1))
    for _ in range(3):
        mm = space(machine)
        mm.set_stack(top)
        images._map(mm, file, GAPPED, 0)  # type: ignore[arg-type]
        assert mm.total_vm_pages == sum(area.pages for area in mm.map.areas)
    assert presses.count == 0
    assert not file.page_cache.imprint.plain
    assert mapped(machine, file, GAPPED).total_vm_pages == 5
