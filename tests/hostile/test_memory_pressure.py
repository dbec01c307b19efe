"""Memory that runs out, anywhere: the frame allocator stays sound, the kernel answers ENOMEM or kills, and goes on serving."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from trapline import Kernel
from trapline.abi.errno import Errno
from trapline.kernel.mm.reclaim import evict
from trapline.machine.ram import BLOCK_ORDER, Frames, OutOfFrames, Ram


@pytest.mark.parametrize("seed", range(4))
def test_a_full_ram_hands_out_no_frame_twice(seed: int) -> None:
    """Every frame belongs to one owner, at every moment, however full and fragmented RAM is; in the end all are free."""
    rng = random.Random(seed)
    ram = Ram(16 << 20)
    frames = ram.frames
    runs: list[tuple[int, int]] = []
    owned: set[int] = set()
    failures = 0
    for _ in range(6000):
        if runs and rng.random() < 0.45:
            pfn, pages = runs.pop(rng.randrange(len(runs)))
            frames.put_run(pfn, pages) if pages > 1 else frames.put(pfn)
            owned.difference_update(range(pfn, pfn + pages))
            continue
        order = rng.choice([0, 0, 0, 0, 1, 3, 4, 6, BLOCK_ORDER])
        try:
            pfn = frames.alloc(order)
        except OutOfFrames:
            failures += 1
            continue
        new = set(range(pfn, pfn + (1 << order)))
        assert not owned & new, f"frames {sorted(owned & new)} have two owners"
        owned |= new
        if rng.random() < 0.3:  # keep the pieces apart
            runs += [(each, 1) for each in new]
        else:
            runs.append((pfn, 1 << order))
        assert frames.used_pages == len(owned)
    assert failures, "RAM was never full"
    for pfn, pages in runs:
        frames.put_run(pfn, pages)
    assert frames.used_pages == 0
    with suppress(OutOfFrames):
        for _ in range(frames.limit_pages):
            frames.alloc()
    assert frames.used_pages == frames.limit_pages
    ram.close()


WORK = "echo a >/tmp/f; cat /tmp/f | wc -c >/tmp/g; exec 3</etc/passwd; (read x <&3; echo $x) >/dev/null; cp /bin/true /tmp/h; /tmp/h"
CLEAN = "rm -f /tmp/f /tmp/g /tmp/h"


@contextmanager
def failing(frames: Frames, fails: Callable[[int], bool]) -> Iterator[list[int]]:
    """Allocations for whose number (from 1 on) `fails` is true find no frame. Yields the count of them all so far."""
    real, count = frames.alloc, [0]

    def alloc(order: int = 0, *, zero: bool = True) -> int:
        count[0] += 1
        if fails(count[0]):
            raise OutOfFrames("this one fails")
        return real(order, zero=zero)

    frames.alloc = alloc  # type: ignore[method-assign]
    try:
        yield count
    finally:
        del frames.alloc


def settled(kernel: Kernel) -> int:
    """Frames in use when no program runs and nothing is cached that can be read again."""
    evict(kernel.system.ram, 1 << 30)
    return kernel.system.ram.frames.used_pages


@pytest.fixture(scope="module")
def small_kernel() -> Iterator[Kernel]:
    with Kernel(memory=64 << 20, cpus=2, stdio=(-1, -1, -1), seed=1, aslr=False) as kernel:
        for _ in range(2):
            assert kernel.run(["sh", "-c", f"{WORK}; {CLEAN}"]) == 0
        yield kernel


def survives(kernel: Kernel, fails: Callable[[int], bool]) -> int:
    """Run the work while allocations fail, then check that all is served and nothing is lost; how many allocations there were."""
    before = settled(kernel)
    with failing(kernel.system.ram.frames, fails) as count:
        with suppress(Errno):  # ENOMEM: not even the first program could be started
            kernel.run(["sh", "-c", WORK], timeout=20)
        assert not kernel.timed_out
    kernel.kill_all()
    assert kernel.run(["sh", "-c", CLEAN], timeout=20) == 0
    assert settled(kernel) == before, "frames are lost"
    return count[0]


@pytest.mark.parametrize("rest", range(8))
def test_each_allocation_that_fails_is_survived(rest: int, small_kernel: Kernel) -> None:
    total = survives(small_kernel, lambda n: False)
    assert total > 100
    for number in range(1 + rest, total + 1, 8):
        survives(small_kernel, lambda n, number=number: n == number)


@pytest.mark.parametrize("every", [2, 3, 4, 5, 7, 10, 16, 25, 40])
def test_every_nth_allocation_that_fails_is_survived(every: int, small_kernel: Kernel) -> None:
    for start in range(every):
        survives(small_kernel, lambda n, start=start: n % every == start)


def test_all_allocations_fail_from_one_on(small_kernel: Kernel) -> None:
    for start in range(1, 150, 7):
        survives(small_kernel, lambda n, start=start: n >= start)
