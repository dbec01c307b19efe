"""Area: one range of an address space with one set of permissions and one source of content (Linux's vma).

Invariants:
- the areas of a space are sorted, never overlap, and neighbours that could be one area are one;
- an area with a page cache is one of `cache.mappers`; an area with a file holds one reference to it;
- a private area without a cache is anonymous memory; shared anonymous memory has a cache of its own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from contextlib import suppress
from trapline.typed import TYPE_CHECKING, Any, Protocol

from trapline.abi.errno import Errno
from trapline.abi.mman import VM_LOCKED, VM_MAYWRITE, VM_SHARED

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.page_cache import PageCache

NEAR = 1 << 21  #: bytes: areas closer than this are dealt with in one go


class Mappable(Protocol):
    """What mmap(2) needs of an open file. A class attribute `maps_zero` makes it map as anonymous memory (/dev/zero)."""

    flags: int
    inode: Any
    path: Any
    readable: bool
    writable: bool

    @property
    def page_cache(self) -> PageCache | None: ...

    def get(self) -> Any: ...

    def put(self) -> None: ...

    def display_path(self) -> bytes: ...


class Area:
    """[start, end); `prot` is PROT_*, `flags` VM_* (abi.mman); `offset` is the byte of `cache` at `start`.

    `streak_end`, `streak_pages`: where the last fault's repair ended, and how many pages it was worth (see fault.py).
    `known`: it is part of a library of which a page was needed before (see populate.prefault_kin).
    """

    __slots__ = (
        "cache", "end", "file", "flags", "known", "mm", "name", "offset", "prot", "start", "streak_end", "streak_pages",
    )  # fmt: skip

    def __init__(
        self,
        mm: AddressSpace,
        start: int,
        end: int,
        prot: int,
        flags: int,
        cache: PageCache | None = None,
        offset: int = 0,
        file: Mappable | None = None,
        name: bytes = b"",
    ) -> None:
        self.mm = mm
        self.start = start
        self.end = end
        self.prot = prot
        self.flags = flags
        self.cache = cache
        self.offset = offset
        self.file = file
        self.name = name
        self.streak_end = self.streak_pages = 0
        self.known = False
        if cache is not None:
            cache.mappers[self] = None
            if flags & VM_SHARED and flags & VM_MAYWRITE:
                cache.shared_writers += 1
            if file is not None:
                file.get()

    def close(self) -> None:
        """The area is gone from its space: let go of its cache and file."""
        cache, file = self.cache, self.file
        if cache is None:
            return
        cache.mappers.pop(self, None)
        if self.flags & VM_SHARED and self.flags & VM_MAYWRITE:
            cache.shared_writers -= 1
            with suppress(Errno):  # what cannot be stored stays dirty: fsync(2) tries again, and reports
                cache.sync(self.offset, self.offset + self.end - self.start)
        if cache.owned and not cache.mappers:
            cache.close()
        if file is not None:
            file.put()

    def part(self, start: int, end: int, mm: AddressSpace | None = None) -> Area:
        """A new area like this one for [start, end) within it, in `mm` (default: the same space)."""
        offset = self.offset + start - self.start if self.cache is not None else 0
        return Area(
            mm or self.mm, start, end, self.prot, self.flags, self.cache, offset, self.file, self.name
        )

    def joins(self, after: Area) -> bool:
        """`after` starts where this ends, and both could be one area."""
        return (
            self.end == after.start
            and self.prot == after.prot
            and self.flags == after.flags
            and self.cache is after.cache
            and self.file is after.file
            and self.name == after.name
            and (self.cache is None or self.offset + self.end - self.start == after.offset)
        )

    @property
    def shared(self) -> bool:
        return bool(self.flags & VM_SHARED)

    @property
    def locked(self) -> bool:
        return bool(self.flags & VM_LOCKED)

    @property
    def pages(self) -> int:
        return (self.end - self.start) >> 12

    def __repr__(self) -> str:
        letters = "".join(c if self.prot & bit else "-" for c, bit in (("r", 1), ("w", 2), ("x", 4)))
        return f"<Area {self.start:x}-{self.end:x} {letters}{'s' if self.shared else 'p'} {self.name.decode(errors='replace')}>"


class AreaList:
    """The sorted areas of one space. `starts[i]` is `areas[i].start`."""

    __slots__ = ("areas", "starts")

    def __init__(self) -> None:
        self.areas: list[Area] = []
        self.starts: list[int] = []

    def find(self, addr: int) -> Area | None:
        """The area that contains `addr`."""
        i = bisect_right(self.starts, addr) - 1
        if i >= 0:
            area = self.areas[i]
            if addr < area.end:
                return area
        return None

    def index_from(self, addr: int) -> int:
        """The index of the first area that ends beyond `addr`."""
        i = bisect_right(self.starts, addr) - 1
        return i if i >= 0 and addr < self.areas[i].end else i + 1

    def overlapping(self, start: int, end: int) -> list[Area]:
        """The areas that intersect [start, end), in order."""
        return self.areas[self.index_from(start) : bisect_left(self.starts, end)]

    def covered(self, start: int, end: int) -> bool:
        """Every page of [start, end) belongs to an area."""
        for area in self.overlapping(start, end):
            if area.start > start:
                return False
            start = area.end
        return start >= end

    def insert(self, area: Area) -> int:
        i = bisect_left(self.starts, area.start)
        self.areas.insert(i, area)
        self.starts.insert(i, area.start)
        return i

    def remove(self, area: Area) -> None:
        i = bisect_left(self.starts, area.start)
        assert self.areas[i] is area
        del self.areas[i]
        del self.starts[i]

    def move_start(self, area: Area, start: int) -> None:
        """Change where `area` starts, without passing a neighbour."""
        self.starts[bisect_left(self.starts, area.start)] = start
        area.start = start


def spans(areas: list[Area]) -> list[tuple[int, int]]:
    """(start, end) of stretches that hold all of the sorted `areas`; those near to one another share one."""
    found: list[tuple[int, int]] = []
    start = end = 0
    for area in areas:
        if area.start - end > NEAR:
            if start < end:
                found.append((start, end))
            start = area.start
        end = area.end
    if start < end:
        found.append((start, end))
    return found
