"""Data and holes of files: SEEK_DATA and SEEK_HOLE of lseek(2), and all the data of a range at once.

A page has data if it is in the cache and nowhere else, or if what is behind the cache has some (`Inode.seek_behind`).
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import ENXIO
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.mm.page_cache import PageCache

_NEVER = (1 << 63) - 1


def _only_here(cache: PageCache, index: int) -> bool:
    """A page's data is in the cache, and not behind it."""
    return cache.holds(index) and (index in cache.dirty or index << PAGE_SHIFT >= cache.backed)


def _next_only_here(cache: PageCache, index: int) -> int:
    """The first page after `index` whose data is in the cache and not behind it, or _NEVER. The next ones are tried first, as
    many as there are pages here, so that who goes from hole to hole does not look at all of them each time."""
    near = index + 1 + len(cache.pages)
    for each in range(index + 1, near):
        if _only_here(cache, each):
            return each
    return min((each for each in cache.held() if each >= near and _only_here(cache, each)), default=_NEVER)


def next_data(inode: Inode, cache: PageCache, offset: int) -> int:
    """Where data begins at or after `offset`. ENXIO."""
    index, backed = offset >> PAGE_SHIFT, cache.backed
    if _only_here(cache, index):
        return offset
    behind = inode.seek_behind(offset, False) if offset < backed else None
    if behind == offset:
        return offset
    later = _next_only_here(cache, index) << PAGE_SHIFT
    if behind is not None and behind < min(later, backed):
        return behind
    if later >= cache.size:
        raise ENXIO
    return later


def next_hole(inode: Inode, cache: PageCache, offset: int) -> int:
    """Where a hole begins at or after `offset`: there is one at the end of every file."""
    while offset < cache.size:
        if _only_here(cache, offset >> PAGE_SHIFT):
            offset = (offset | PAGE_MASK) + 1
            continue
        behind = inode.seek_behind(offset, True) if offset < cache.backed else offset
        if behind is None or behind == offset:
            break
        offset = behind
    return min(offset, cache.size)


def data_runs(inode: Inode | None, cache: PageCache, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The data of [start, end) as runs (from, to), in order, which may touch. Takes time for what is there, none for holes.

    inode: whose file is behind `cache`; None if nothing is. What changes while it runs is seen or not.
    """
    end = min(end, cache.size)
    here = _pages_here(cache, start, end)
    behind = _runs_behind(inode, start, min(end, cache.backed)) if inode is not None else iter(())
    one, other = next(here, None), next(behind, None)
    done = start
    while one is not None or other is not None:
        if other is None or (one is not None and one <= other):
            run, one = one, next(here, None)
        else:
            run, other = other, next(behind, None)
        assert run is not None
        if run[1] > done:
            yield max(run[0], done), run[1]
            done = run[1]


def _pages_here(cache: PageCache, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of the pages whose data is in the cache and nowhere else."""
    first, last = start >> PAGE_SHIFT, (end + PAGE_MASK) >> PAGE_SHIFT
    few = last - first < cache.pages_used
    indices = range(first, last) if few else sorted(each for each in cache.held() if first <= each < last)
    run_at = run_end = start
    for index in indices:
        if not _only_here(cache, index):
            continue
        at = index << PAGE_SHIFT
        if at != run_end and run_end > run_at:
            yield run_at, run_end
        if at != run_end:
            run_at = max(at, start)
        run_end = min(at + PAGE_SIZE, end)
    if run_end > run_at:
        yield run_at, run_end


def _runs_behind(inode: Inode, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of what is behind the cache."""
    while start < end:
        data = inode.seek_behind(start, False)
        if data is None or data >= end:
            return
        hole = inode.seek_behind(data, True)
        start = end if hole is None or hole <= data else min(hole, end)
        yield data, start
