"""fork(2)'s part of memory: a copy of an address space.

A small one is copied at once: that takes a third of a microsecond for each page, and a fault on a shared page takes fifty, in
both processes. A large one shares every private page until one side writes it.
Measured budget: 150 µs for a shell (40 areas, 300 present pages).
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import ENOMEM
from trapline.abi.mman import (
    PROT_WRITE,
    VM_DONTCOPY,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_SHARED,
    VM_WIPEONFORK,
)
from trapline.kernel.mm import hugetlb
from trapline.kernel.mm.area import NEAR, Area
from trapline.kernel.mm.errors import OutOfFrames, OutOfMemory
from trapline.kernel.mm.leaves import copy
from trapline.kernel.mm.mould import Cast, Mould, Piece, whole_tables
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, Run
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.ram import BLOCK_PAGES

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

_UNLIKE = VM_DONTCOPY | VM_WIPEONFORK | VM_HUGETLB  #: the child does not get what the parent's leaves say
_SPECIAL = _UNLIKE | VM_SHARED
_NOT_INHERITED = VM_LOCKED | VM_LOCKONFAULT
MOULDED_TABLES = 16  #: leaf tables of a process whose mould is kept: it takes twenty kilobytes for each
AREAS_PER_FLUSH = 6  #: neighbours that one flush covers


def fork(mm: AddressSpace) -> AddressSpace:
    """A copy-on-write copy of `mm`, with one user. Raises OutOfMemory."""
    child = type(mm)(
        mm.machine, mm.limits.copy(), aslr=mm.aslr, rng=mm.rng, policy=mm.policy, like=mm
    )
    try:
        child.admit(len(mm.map.areas))
    except ENOMEM:
        child.put()
        raise
    mould = mm.mould
    try:
        mm.forget()
        plain = _copy_areas(mm, child)
        if not _duplicate_leaves(mm, child, plain):
            _copy_leaves(mm, child)
        if mm.huge_pages:
            hugetlb.fork(mm, child)
    except OutOfFrames:
        mm.space.flush(0, mm.task_size, downgrade=True)
        child.put()
        raise OutOfMemory from None
    if child.tables.swapped:
        mm.ram.frames.swap.holders[child] = None
    child.space.hint_like(mm.space, child.cast is not None and mm.mould is mould)
    if mm.exe_file is not None:
        child.exe_file = mm.exe_file.get()
    return child


def _copy_areas(mm: AddressSpace, child: AddressSpace) -> bool:
    """Give the child its areas; whether each is like its parent's."""
    areas, starts = child.map.areas, child.map.starts
    seen = 0
    for area in mm.map.areas:
        flags = area.flags
        seen |= flags
        if flags & VM_DONTCOPY:
            continue
        areas.append(
            Area(
                child, area.start, area.end, area.prot, flags & ~_NOT_INHERITED,
                area.cache, area.offset, area.file, area.name,
            )
        )  # fmt: skip
        starts.append(area.start)
    child.total_vm_pages, child.data_pages = mm.total_vm_pages, mm.data_pages
    child.exec_pages, child.stack_pages, child.shared_pages = mm.exec_pages, mm.stack_pages, mm.shared_pages
    if len(areas) != len(mm.map.areas):
        child.total_vm_pages = child.data_pages = child.exec_pages = child.stack_pages = child.shared_pages = 0
        for area in areas:
            child.account(area, area.pages)
    child.hiwater_vm_pages = child.total_vm_pages
    return not seen & _UNLIKE


def _duplicate_leaves(mm: AddressSpace, child: AddressSpace, plain: bool) -> bool:
    """Copy the private pages of a small process; False (and nothing was copied) if it is not small, or memory is.

    Tables and pages go to frames in a row: they are taken, and given back when the child ends, in one piece. `plain`: all that
    is mapped is inherited; what is shared has leaves of files only, as all private pages of files.
    """
    if mm.rss_anon > min(mm.policy.fork_copy_pages, BLOCK_PAGES - 1) or mm.tables.swapped:
        return False
    ranges = [] if plain else list(_ranges(mm))
    mould = _mould_of(mm) if plain else Mould(mm.tables, _private_pieces(mm, ranges))
    alike = all(private for _, _, private in ranges)
    shape = mm.tables.size_of_shape() if alike else 0
    pages = shape + mould.others
    if pages > BLOCK_PAGES:
        return False
    if not alike:
        _make_tables(mm, child, ranges)
    frames, order = mm.ram.frames, max(0, pages - 1).bit_length()
    try:
        first = frames.alloc(order, zero=False)
    except OutOfFrames:
        return False
    pfn = first
    if alike:
        frames.clear(first, shape - len(mm.tables.blocks) if plain else shape)
        pfn = child.tables.take_shape(mm.tables, first)
    frames.put_run(pfn + mould.others, first + (1 << order) - pfn - mould.others)
    leaves = mould.cast(child.tables, pfn)
    if plain:
        child.cast = Cast(child.tables, first, pfn + mould.others - first, leaves)
    child.rss_file += mould.files
    child.rss_anon += mould.others
    for start, leaf, end in mould.runs(pfn << mm.tables.fmt.pfn_shift):
        child.space.hint(start, end, leaf)
    for start, end, private in ranges:
        if not private:
            _copy_range(mm, child, start, end, False)
    return True


def _mould_of(mm: AddressSpace) -> Mould:
    """How to copy all of it: as the last time, if its tables are the same."""
    mould = mm.mould
    if mould is None or not mould.fits(mm.tables):
        mould = Mould(mm.tables, whole_tables(mm.tables))
        mm.mould = mould if len(mm.tables.blocks) <= MOULDED_TABLES else None
    return mould


def _private_pieces(mm: AddressSpace, ranges: list[tuple[int, int, bool]]) -> list[Piece]:
    return [piece for start, end, private in ranges if private for piece in mm.tables.pieces(start, end)]


def _make_tables(mm: AddressSpace, child: AddressSpace, ranges: list[tuple[int, int, bool]]) -> None:
    """Make the leaf tables of private memory, one by one: some of the parent's serve what the child does not get."""
    for start, end, private in ranges:
        for block in mm.tables.in_range(start, end) if private else ():
            if block not in child.tables.blocks:
                child.tables.make(block)


def _copy_leaves(mm: AddressSpace, child: AddressSpace) -> None:
    for start, end, private in _ranges(mm):
        if private:
            _copy_private(mm, child, start, end)
        else:
            _copy_range(mm, child, start, end, False)


def _ranges(mm: AddressSpace) -> Iterator[tuple[int, int, bool]]:
    """(start, end, private) of what the child gets: each shared area, and each stretch of private ones."""
    start = end = 0
    for area in mm.map.areas:
        special = area.flags & _SPECIAL
        if special or area.start - end > NEAR:
            if start < end:
                yield start, end, True
            start = area.end if special else area.start
        end = area.end
        if special and not area.flags & (VM_DONTCOPY | VM_WIPEONFORK | VM_HUGETLB):
            yield area.start, area.end, False
    if start < end:
        yield start, end, True


def _copy_range(mm: AddressSpace, child: AddressSpace, start: int, end: int, private: bool) -> list[Run]:
    files, others, lost = copy(mm.tables, child.tables, start, end, private)
    child.rss_file += files
    child.rss_anon += others
    return lost


def _copy_private(mm: AddressSpace, child: AddressSpace, start: int, end: int) -> None:
    """Copy consecutive private areas, and let the machine know which lost write permission."""
    lost = _copy_range(mm, child, start, end, True)
    ranges = [each for va, lanes in lost for each in _writable_parts(mm, va, lanes)]
    for first in range(0, len(ranges), AREAS_PER_FLUSH):
        part = ranges[first : first + AREAS_PER_FLUSH]
        mm.space.flush(part[0][0], part[-1][1], downgrade=True)


def _writable_parts(mm: AddressSpace, va: int, lanes: int) -> list[tuple[int, int]]:
    """The parts of writable areas that hold the leaves at `va` whose lanes are not zero."""
    if mm.tables.blocks[va >> BLOCK_SHIFT] < 0:
        return [(va, va + BLOCK_SIZE)]
    pages = (lanes.bit_length() + 63) >> 6
    found = []
    for area in mm.map.overlapping(va, va + (pages << PAGE_SHIFT)):
        low, high = max(area.start, va), min(area.end, va + (pages << PAGE_SHIFT))
        mask = (1 << ((high - low) >> PAGE_SHIFT << 6)) - 1
        if area.prot & PROT_WRITE and lanes >> ((low - va) >> PAGE_SHIFT << 6) & mask:
            found.append((low, high))
    return found
