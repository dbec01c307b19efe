"""What of each area a core dump holds, and those bytes: `vma_dump_size` of fs/coredump.c, and core(5).

Pages that were never touched are holes. Nothing is faulted in on the way but pages of files, which are read from their cache;
protections do not matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi import core as c
from trapline.abi import elf
from trapline.abi.errno import Errno
from trapline.abi.mman import PROT_EXEC, PROT_READ, VM_DONTDUMP
from trapline.kernel.fs.holes import data_runs
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.paging.walk import leaves

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area
    from trapline.kernel.mm.page_cache import PageCache

SPECIAL = (b"[vdso]", b"[vvar]")  #: always dumped: debuggers find the way out of signal frames there
PIECE = 1 << 20  #: bytes of a file that are read at once


def dumped_bytes(mm: AddressSpace, area: Area, wanted: int) -> int:
    """How much of `area` is dumped, from its start on: none, a page, or all. `wanted`: bits of coredump_filter."""
    whole = area.end - area.start
    if area.name in SPECIAL:
        return whole
    if area.flags & VM_DONTDUMP:
        return 0
    if area.shared:
        named = area.file is not None and area.file.inode.nlink > 0
        return whole if wanted & (c.FILE_SHARED if named else c.ANON_SHARED) else 0
    if wanted & c.ANON_PRIVATE and _has_own_pages(mm, area):
        return whole
    if area.cache is None or area.file is None:
        return 0
    if wanted & c.FILE_PRIVATE:
        return whole
    if wanted & c.ELF_HEADERS and not area.offset and area.prot & PROT_READ:
        if area.prot & PROT_EXEC or _cached(area.cache, 0, len(elf.MAGIC)) == elf.MAGIC:
            return PAGE_SIZE
    return 0


def _has_own_pages(mm: AddressSpace, area: Area) -> bool:
    """A private page of `area` has been written to, or made."""
    fmt = mm.tables.fmt
    found = leaves(mm.ram.words, mm.tables.root, area.start, area.end, fmt)
    return any(not step.entry & fmt.soft_file for _, step in found) or bool(_in_swap(mm, area, area.end))


def contents(mm: AddressSpace, area: Area, length: int) -> Iterator[tuple[int, bytes | memoryview]]:
    """(offset into the area, bytes) of what the first `length` bytes hold, in order; what is left out is zero."""
    fmt, end, at = mm.tables.fmt, area.start + length, area.start
    out = _in_swap(mm, area, end)
    for va, step in leaves(mm.ram.words, mm.tables.root, area.start, end, fmt):
        while out and out[0][0] < va:
            page, slot = out.popleft()
            yield from _from_cache(area, at, page)
            yield page - area.start, mm.ram.frames.swap.read_bytes(slot)
            at = page + PAGE_SIZE
        size = PAGE_SIZE << fmt.index_bits * step.level
        first, last = max(va, area.start), min(va + size, end)
        yield from _from_cache(area, at, first)
        base = fmt.pfn(step.entry) << PAGE_SHIFT & -size
        pa = base + (first - va)
        yield first - area.start, mm.ram.mem[pa : pa + last - first]
        at = last
    for page, slot in out:
        yield from _from_cache(area, at, page)
        yield page - area.start, mm.ram.frames.swap.read_bytes(slot)
        at = page + PAGE_SIZE
    yield from _from_cache(area, at, end)


def _in_swap(mm: AddressSpace, area: Area, end: int) -> deque[tuple[int, int]]:
    """(address, slot) of the area's private pages before `end` that are in swap."""
    if not mm.tables.swapped:
        return deque()
    from trapline.kernel.mm.swap.entries import swapped

    return deque(swapped(mm.tables, area.start, end))


def _from_cache(area: Area, start: int, end: int) -> Iterator[tuple[int, bytes | memoryview]]:
    """What [start, end), where no page is present, holds of the file behind it."""
    cache = area.cache
    if cache is None:
        return
    base = area.offset - area.start
    inode = area.file.inode if area.file is not None else None
    for at, to in data_runs(inode, cache, start + base, end + base):
        while at < to:
            data = _cached(cache, at, min(PIECE, to - at))
            if data:
                yield at - area.offset, data
            at += min(PIECE, to - at)


def _cached(cache: PageCache, offset: int, count: int) -> bytes:
    try:
        return cache.read(offset, count)
    except Errno:
        return b""  # a file that cannot be read any more: a hole
