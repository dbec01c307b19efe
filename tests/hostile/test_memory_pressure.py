"""Memory that runs out, anywhere: the frame allocator stays sound, the kernel answers ENOMEM or kills, and goes on serving."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from trapline.machine.ram import BLOCK_ORDER, OutOfFrames, Ram


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
