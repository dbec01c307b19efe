"""The RISC-V page walk: one pure generator of its steps, used by the hart and by whoever wants to see a walk happen.

Source: volume II, "Virtual Address Translation Process"; the numbers in comments are its steps. The walk decides all that
depends on entries alone; permissions, and the accessed and dirty bits, are the MMU's (they depend on the access, and on
the mode).

`read(address)` returns the entry at a physical address, or None where the access faults. In the first of two stages, tables
are at guest physical addresses: `reach(address)` is a generator of the steps that find each in the second stage, and returns
the physical address (or None: a fault). The second stage is a walk with a root four times as wide ("Hypervisor Extension",
"Guest Physical Address Translation").
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from trapline.typed import NamedTuple, TypeVar

from trapline.machine.paging.entry import PAGE_SHIFT, Format
from trapline.machine.riscv.trap import ACCESS, PAGE

T = TypeVar("T")
NAPOT, PBMT, RESERVED = 1 << 63, 3 << 61, 0x7F << 54  #: fields of an entry above the frame number
PBMT_SHIFT = 61
NAPOT_64K = 8  #: the low frame-number bits that mean a 64 KiB range, the only size defined


class Step(NamedTuple):
    """One memory reference of a walk."""

    level: int
    at: int  #: physical address of the entry; in the first of two stages a guest physical address
    entry: int
    stage: int = 1


class Leaf(NamedTuple):
    """Where a walk ended well."""

    entry: int
    at: int  #: physical address of the entry
    shift: int  #: log2 of the bytes mapped: 12, 16 (Svnapot), 21, 30, ...
    pa: int  #: physical address of the first byte mapped
    second: int = 0  #: of a walk in two stages: the second one's entry


def canonical(va: int, fmt: Format) -> bool:
    """All bits above the translated ones equal the highest of them."""
    top = va >> (PAGE_SHIFT + fmt.index_bits * fmt.levels - 1)
    return top in (0, (1 << (65 - PAGE_SHIFT - fmt.index_bits * fmt.levels)) - 1)


Reach = Callable[[int], Generator[Step, None, int | None]]
WIDER = 2  #: bits by which the root's index is wider in the second stage


def steps(
    read: Callable[[int], int | None], root: int, va: int, fmt: Format, *, pbmt: bool = True, shadow: bool = False,
    stage: int = 1, reach: Reach | None = None,
) -> Generator[Step, None, Leaf | int]:  # fmt: skip
    """Yield each step; return the leaf, or the failure: PAGE or ACCESS.

    root: physical address of the top table. pbmt, shadow: Svpbmt's memory types, Zicfiss's pages (W alone) are not reserved.
    """
    table, bits = root, fmt.index_bits
    top = va >> (PAGE_SHIFT + bits * (fmt.levels - 1))
    if top >> (bits + WIDER) if stage == 2 else not canonical(va, fmt):
        return PAGE
    for level in range(fmt.levels - 1, -1, -1):  # steps 1, 2, 4
        shift = PAGE_SHIFT + bits * level
        wide = WIDER if stage == 2 and level == fmt.levels - 1 else 0
        where: int | None
        at = where = table + 8 * (va >> shift & ((1 << bits + wide) - 1))
        if reach is not None:
            where = yield from reach(at)
        entry = None if where is None else read(where)
        if entry is None:
            return ACCESS
        yield Step(level, at, entry, stage)
        if not _valid(entry, fmt, pbmt, shadow):  # step 3
            return PAGE
        pa = (entry & fmt.pfn_mask) >> fmt.pfn_shift << PAGE_SHIFT
        if entry & fmt.leaf_any:
            return _leaf(entry, at, level, shift, pa)
        if entry & (fmt.accessed | fmt.dirty | fmt.user | NAPOT | PBMT):  # reserved in a pointer
            return PAGE
        table = pa
    return PAGE


def _valid(entry: int, fmt: Format, pbmt: bool, shadow: bool) -> bool:
    if not entry & fmt.present or entry & RESERVED:
        return False
    if entry & fmt.write and not entry & fmt.read and (entry & fmt.execute or not shadow):
        return False
    kind = entry & PBMT
    return not kind or (pbmt and kind != PBMT)


def _leaf(entry: int, at: int, level: int, shift: int, pa: int) -> Leaf | int:
    """Steps 5 and 6: a superpage must be aligned, a NAPOT range of the one size there is."""
    if entry & NAPOT:
        if level or pa >> PAGE_SHIFT & 15 != NAPOT_64K:
            return PAGE
        return Leaf(entry, at, 16, pa & -(1 << 16))
    if pa & ((1 << shift) - 1):
        return PAGE
    return Leaf(entry, at, shift, pa)


def walk(
    read: Callable[[int], int | None], root: int, va: int, fmt: Format, *, pbmt: bool = True, shadow: bool = False
) -> tuple[Leaf | int, int]:
    """The end of a walk, and how many references it took."""
    return finish(steps(read, root, va, fmt, pbmt=pbmt, shadow=shadow))


def finish(walking: Generator[Step, None, T]) -> tuple[T, int]:
    """Let a walk come to its end: that, and how many references it took."""
    count = 0
    while True:
        try:
            next(walking)
        except StopIteration as end:
            return end.value, count
        count += 1
