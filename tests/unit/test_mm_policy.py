"""How much one fault repairs, and what fork copies at once: the policy's numbers, seen from the address space."""

from __future__ import annotations

import pytest
from userland import PAGE, load, new_machine, store

from trapline.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.policy import Policy

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
