"""Mappings of huge pages, seen from the page tables and the pool: real large leaves, and no page is ever lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from userland import load, new_machine, store

from trapline.abi.errno import EINVAL, ENOMEM
from trapline.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.hugepages import KEPT_SHARE, HugePool, pool_of
from trapline.kernel.mm.hugetlb import HugeCache
from trapline.machine.paging.walk import walk
from trapline.machine.ram import BLOCK_PAGES

HUGE = 2 << 20
AREA = 0x4000_0000
RW = 3


class File:
    """What mmap(2) needs of an open file of hugetlbfs."""

    maps_huge = True
    readable = writable = True
    path = None
    flags = 2

    def __init__(self, cache: HugeCache) -> None:
        self.page_cache = cache
        self.inode = SimpleNamespace(seals=-1)

    def get(self) -> File:
        return self

    def put(self) -> None:
        if not self.page_cache.mappers:
            self.page_cache.close()


def world(pages: int, mib: int = 64) -> tuple[AddressSpace, HugePool, Any]:
    mm = AddressSpace(new_machine(mib), aslr=False)
    pool = pool_of(mm.ram)
    pool.resize(pages)
    return mm, pool, File(HugeCache(mm.ram))


@pytest.mark.parametrize("kind", [MAP_PRIVATE, MAP_SHARED])
def test_a_huge_page_is_one_large_leaf_over_aligned_frames(kind: int) -> None:
    mm, _, file = world(2)
    mm.mmap(AREA, 2 * HUGE, RW, kind | MAP_FIXED, file)
    store(mm, AREA + HUGE + 12345, 7)
    step = walk(mm.ram.words, mm.tables.root, AREA + HUGE, mm.tables.fmt)
    assert step is not None and step.level == 1
    assert mm.tables.fmt.pfn(step.entry) % BLOCK_PAGES == 0
    assert mm.rss_pages == 0 and load(mm, AREA + HUGE + 12345) == 7


@pytest.mark.parametrize("kind", [MAP_PRIVATE, MAP_SHARED])
def test_the_end_of_a_space_gives_every_page_back(kind: int) -> None:
    mm, pool, file = world(4)
    before = mm.ram.frames.used_pages
    mm.mmap(AREA, 3 * HUGE, RW, kind | MAP_FIXED, file)
    for page in range(2):
        store(mm, AREA + page * HUGE, 1)
    child = mm.fork()
    if kind == MAP_PRIVATE:
        store(child, AREA, 2)
        assert load(mm, AREA) == 1
    child.put()
    mm.munmap(AREA + HUGE, HUGE)
    mm.munmap(AREA, 3 * HUGE)
    pool.settle()
    assert (len(pool.free), pool.reserved, pool.surplus) == (4, 0, 0)
    assert mm.ram.frames.used_pages == before
    pool.resize(0)
    assert mm.ram.frames.used_pages == before - 4 * BLOCK_PAGES


def test_a_page_that_was_used_reads_as_zeros_to_the_next() -> None:
    mm, pool, file = world(1)
    mm.mmap(AREA, HUGE, RW, MAP_PRIVATE | MAP_FIXED, file)
    store(mm, AREA + HUGE - 1, 9)
    mm.munmap(AREA, HUGE)
    mm.mmap(AREA, HUGE, RW, MAP_PRIVATE | MAP_FIXED, File(HugeCache(mm.ram)))
    store(mm, AREA, 1)
    assert load(mm, AREA + HUGE - 1) == 0
    assert len(pool.free) == 0


def test_no_edge_falls_inside_a_huge_page() -> None:
    mm, pool, file = world(2)
    mm.mmap(AREA, 2 * HUGE, RW, MAP_PRIVATE | MAP_FIXED, file)
    store(mm, AREA, 1)
    with pytest.raises(EINVAL):
        mm.munmap(AREA, 4096)
    with pytest.raises(EINVAL):
        mm.mprotect(AREA + 4096, HUGE, 1)
    with pytest.raises(EINVAL):
        mm.mmap(AREA + 4096, 4096, RW, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS)
    assert load(mm, AREA) == 1 and pool.reserved == 1


def test_a_promise_that_cannot_be_kept_is_not_made() -> None:
    mm, pool, file = world(2)
    mm.mmap(AREA, 2 * HUGE, RW, MAP_PRIVATE | MAP_FIXED, file)
    with pytest.raises(ENOMEM):
        mm.mmap(AREA + 4 * HUGE, HUGE, RW, MAP_SHARED | MAP_FIXED, File(HugeCache(mm.ram)))
    assert pool.reserved == 2 and mm.map.find(AREA + 4 * HUGE) is None


def test_the_pool_leaves_memory_for_everything_else() -> None:
    mm, pool, _ = world(0)
    pool.resize(1 << 40)
    frames = mm.ram.frames
    assert 0 < pool.total * BLOCK_PAGES <= frames.limit_pages - frames.limit_pages // KEPT_SHARE
    pool.overcommit = 1 << 40
    assert not pool.reserve(pool.total + 1)
    assert pool.reserved == pool.surplus == 0
