"""Reclaim: when frames run out, drop pages of files that can be read again.

A page can go if its cache can fill it again, it is not dirty, and no page table maps it.
Caches are tried in the order in which they last filled a page: the longest idle first. Before them go the address spaces
that nobody uses any more, but whose frames there was no time to free yet, and frames that only the swap cache has.

Where nobody relies on a page's place, more can go (`evict`): to swap, if there is any, and mapped pages of files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kernel.mm.page_cache import PageCache
    from trapline.machine.ram import Ram

EVICT_PAGES = 256  #: how many pages to take away from others when there is no memory


class Reclaimer:
    """Of one RAM. `caches` holds each cache that has pages to give, the longest idle first; `ends`, what frees the dead's."""

    __slots__ = ("caches", "ends", "ram")

    def __init__(self, ram: Ram) -> None:
        self.ram = ram
        self.caches: dict[PageCache, None] = {}
        self.ends: deque[Callable[[], None]] = deque()

    def touch(self, cache: PageCache) -> None:
        """`cache` has just filled pages."""
        self.caches.pop(cache, None)
        self.caches[cache] = None

    def __call__(self, wanted: int) -> int:
        """Free at least `wanted` frames if possible; how many were freed."""
        frames = self.ram.frames
        used = frames.used_pages
        while self.ends:
            self.ends.popleft()()
        freed = used - frames.used_pages
        if frames.swap is not None:
            freed += frames.swap.shrink(max(wanted - freed, 0))
        for cache in list(self.caches):
            if freed >= wanted:
                break
            freed += cache.shrink(wanted - freed)
            if not cache.pages:
                del self.caches[cache]
        return freed


def evict(ram: Ram, wanted: int, *, files: bool = True) -> int:
    """Free frames as `Reclaimer` does, then put pages out to swap, and then, with `files`, drop pages of files that are mapped.

    Nobody may rely on a leaf, or on where a page of a program's is, meanwhile. How many were freed.
    """
    reclaim = reclaimer(ram)
    freed = reclaim(wanted)
    if ram.frames.swap is not None and freed < wanted:
        from trapline.kernel.mm.swap.out import put_out

        kept, ram.frames.kept = ram.frames.kept, 0  # making room may take a frame
        freed += put_out(ram.frames.swap, wanted - freed)
        ram.frames.kept = kept
    if not files:
        return freed
    for cache in list(reclaim.caches):
        if freed >= wanted:
            break
        if cache.mappers:
            cache.unmap_clean()
            freed += cache.shrink(wanted - freed)
    return freed


def reclaimer(ram: Ram) -> Reclaimer:
    """The reclaimer of `ram`, made when first asked for."""
    found = ram.frames.reclaim
    if not isinstance(found, Reclaimer):
        found = ram.frames.reclaim = Reclaimer(ram)
    return found
