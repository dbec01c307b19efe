"""Reclaim: when frames run out, drop pages of files that can be read again.

A page can go if its cache can fill it again, it is not dirty, and no page table maps it.
Caches are tried in the order in which they last filled a page: the longest idle first. Before them go the address spaces
that nobody uses any more, but whose frames there was no time to free yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kernel.mm.page_cache import PageCache
    from trapline.machine.ram import Ram


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
        for cache in list(self.caches):
            if freed >= wanted:
                break
            freed += cache.shrink(wanted - freed)
            if not cache.pages:
                del self.caches[cache]
        return freed


def evict(ram: Ram, wanted: int) -> int:
    """Free frames as `Reclaimer` does, and then pages that are mapped too. Nobody may rely on a leaf meanwhile."""
    reclaim = ram.frames.reclaim
    if not isinstance(reclaim, Reclaimer):
        return 0
    freed = reclaim(wanted)
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
