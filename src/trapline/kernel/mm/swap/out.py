"""Which pages go out: a clock. Its hand passes the blocks of all address spaces, and the caches of shared memory, in turn.

A page that was accessed since the hand passed last loses its accessed bit and stays; another goes. On the RISC-V machine the
harts set that bit. The host machine sets it when it maps pages, and a flush unmaps them: so it says what was touched since.

Pages of locked areas stay, as do huge ones of the pool. A large leaf that was not accessed is split first. A page that several
processes share goes out in one after the other: its frame stays in the swap cache until the last.

Nobody may rely on a leaf, or on the address of a page, while pages go out: callers are between two traps, at a fault of user
code, or at the beginning of what a call does.

Order: first the leaves say where the pages will be, and the machine forgets the range; then the pages, which nobody can change
any more, are stored; then their frames are put.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.mman import VM_HUGETLB, VM_LOCKED, VM_SHARED
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.swap.areas import Page, Swap, SwapFull
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, SLOT_SHIFT
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.paging.lanes import LANES

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

STAYS = VM_SHARED | VM_LOCKED | VM_HUGETLB  #: areas whose pages do not go out this way
ROUNDS = 3  #: of the hand, for one call: the first may find everything accessed, the second splits large leaves


def put_out(swap: Swap, wanted: int) -> int:
    """Free at least `wanted` frames if possible; how many were freed."""
    used = swap.frames.used_pages
    rounds = 0
    while used - swap.frames.used_pages < wanted:
        if not swap.queue:
            if rounds == ROUNDS or not any(each.used < each.total and each.accepts for each in swap.areas.values()):
                break
            rounds += 1
            swap.queue.extend(_hand(swap))
            if not swap.queue:
                break
        swap.queue.popleft()()
    return used - swap.frames.used_pages


def _hand(swap: Swap) -> Iterator[Callable[[], int]]:
    from trapline.kernel.mm.swap.shmem import pass_windows

    for mm in swap.spaces():
        for block in sorted(mm.tables.blocks):
            yield _Visit(swap, mm, block)
    yield from pass_windows(swap)


class _Visit:
    """One block, for the hand to pass."""

    __slots__ = ("block", "mm", "swap")

    def __init__(self, swap: Swap, mm: AddressSpace, block: int) -> None:
        self.swap, self.mm, self.block = swap, mm, block

    def __call__(self) -> int:
        start = self.block << BLOCK_SHIFT
        return pass_block(self.swap, self.mm, start, start + BLOCK_SIZE) if self.mm.users else 0


def pass_block(swap: Swap, mm: AddressSpace, start: int, end: int, *, force: bool = False, only_age: bool = False) -> int:
    """What the hand does to [start, end), which is of one block; how many pages went out.

    force: accessed pages go too, but none that is shared with other processes; only_age: none goes.
    """
    tables = mm.tables
    fmt, words, block = tables.fmt, tables.words, start >> BLOCK_SHIFT
    base = tables.blocks.get(block)
    areas = [each for each in mm.map.overlapping(start, end) if not each.flags & STAYS] if base is not None else []
    if base is None or not areas:
        return 0
    if base < 0:
        base = _large(mm, block, force, only_age)
        if base < 0:
            return 0
    lanes: list[int] = []
    aged = False
    for area in areas:
        first = (max(area.start, start) >> PAGE_SHIFT) & LANES - 1
        count = (min(area.end, end) - max(area.start, start)) >> PAGE_SHIFT
        for lane, entry in enumerate(words[base + first : base + first + count].tolist(), first):
            if not entry & fmt.present or entry & fmt.soft_file:
                continue
            if only_age or (entry & fmt.accessed and not force):
                aged |= bool(entry & fmt.accessed)
                words[base + lane] = entry & ~fmt.accessed
            elif not force or _alone(swap, fmt.pfn(entry)):
                lanes.append(lane)
    gone = _go(swap, mm, block << BLOCK_SHIFT, base, lanes) if lanes else 0
    if aged or lanes:
        mm.forget()
        mm.space.flush(start, end)
    return gone


def _alone(swap: Swap, pfn: int) -> bool:
    """One leaf maps the frame."""
    return swap.frames.counts[pfn] == (2 if pfn in swap.slots else 1)


def _large(mm: AddressSpace, block: int, force: bool, only_age: bool) -> int:
    """A large leaf: it is aged, or split. The first word of the block's table; -1 if there is still none."""
    tables = mm.tables
    fmt, word = tables.fmt, ~tables.blocks[block]
    entry = tables.words[word]
    if entry & fmt.soft_file:
        return -1
    if only_age or (entry & fmt.accessed and not force):
        tables.words[word] = entry & ~fmt.accessed
        mm.forget()
        mm.space.flush(block << BLOCK_SHIFT, (block + 1) << BLOCK_SHIFT)
        return -1
    try:
        return tables.split(block)
    except OutOfFrames:
        return -1


def _go(swap: Swap, mm: AddressSpace, va: int, base: int, lanes: list[int]) -> int:
    """Put out the pages that leaves of a table map, `va` being the block's address; how many went."""
    tables, frames = mm.tables, swap.frames
    fmt, words = tables.fmt, tables.words
    gone: list[tuple[int, int, int, int]] = []  # (lane, entry, slot, frame)
    new: list[Page] = []
    try:
        for lane in lanes:
            entry = words[base + lane]
            pfn = fmt.pfn(entry)
            slot = swap.slots.get(pfn)
            if slot is None:
                slot = swap.alloc()
                new.append((slot, pfn))
                if frames.counts[pfn] > 1:
                    swap.keep(slot, pfn)
            else:
                swap.get(slot)
            words[base + lane] = slot << SLOT_SHIFT
            gone.append((lane, entry, slot, pfn))
    except SwapFull:
        pass
    if not gone:
        return 0
    mm.forget()
    mm.space.flush(va + (gone[0][0] << PAGE_SHIFT), va + (gone[-1][0] + 1 << PAGE_SHIFT))
    try:
        swap.write(new)
    except Errno:
        _stay(swap, mm, base, gone, new)
        return 0
    tables.swapped += len(gone)
    mm.unmapped(0, len(gone))
    swap.holders[mm] = None
    for _, _, slot, pfn in gone:
        frames.put(pfn)
        if frames.counts[pfn] == 1 and swap.cache.get(slot) == pfn:
            swap.uncache(slot)
    return len(gone)


def _stay(swap: Swap, mm: AddressSpace, base: int, gone: list[tuple[int, int, int, int]], new: list[Page]) -> None:
    """They could not be stored: everything is as it was."""
    for lane, entry, slot, _ in gone:
        mm.tables.words[base + lane] = entry
        swap.put(slot)
    for slot, pfn in new:
        if swap.cache.get(slot) == pfn:
            swap.uncache(slot)
