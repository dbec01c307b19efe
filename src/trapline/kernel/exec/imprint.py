"""Imprints: what mapping the image of a program has left in an address space, to be repeated when the file is executed again.

In a nutshell: an `Imprint` is read off a space in which an image has just been mapped, segment by segment: the areas, the
leaves of pages of the file, where pages of the space's own came from, and what all that counts. `press` leaves the same in
another space.

Invariants:
- it is of one image, as the file's headers had it, and of frames that were the file's pages when it was made: it holds only
  while the cache has dropped none since (`PageCache.dropped`). What is in the pages is copied anew each time;
- `press` does all that may fail first, and works only where nothing is or adjoins, and no limit could forbid what is mapped:
  whatever is not so plain is mapped segment by segment.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.mman import MMAP_MIN_ADDR, PROT_WRITE, RLIM_INFINITY, VM_GROWSDOWN, VM_HUGETLB, VM_SHARED
from trapline.kernel.mm.area import Area
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.tables import BLOCK_SHIFT, LANE_MASK
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from trapline.machine.paging.lanes import LANES
from trapline.machine.ram import BLOCK_PAGES

if TYPE_CHECKING:
    from trapline.kernel.exec.elf import Image
    from trapline.kernel.fs.file import File
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.page_cache import PageCache

MAX_BYTES = 64 << 20  #: of address space that an image takes, if its imprint is kept
_COUNTS = ("rss_file", "rss_anon", "minflt", "cow_pages", "total_vm_pages", "data_pages", "exec_pages")
_POLICY = ("whole_pages", "anon_around_pages", "anon_most_pages", "file_around_pages", "cow_around_pages")

Counts = tuple[int, ...]


class _Complicated(Exception):
    """The image is not worth an imprint, or cannot have one."""


def counts(mm: AddressSpace) -> Counts:
    """What mapping an image adds to."""
    return tuple([getattr(mm, each) for each in _COUNTS])


def take(mm: AddressSpace, file: File, image: Image, bias: int, before: Counts) -> None:
    """`image` of `file` has just been mapped in `mm`, where nothing was; if that was not the first time, remember what that has
    done. `before`: its `counts` then."""
    cache = file.page_cache
    if cache is None:
        return
    kept: Kept | None = cache.imprint
    if kept is None or kept.image is not image:
        cache.imprint = Kept(image)
    elif kept.plain and (kept.imprint is None or not kept.imprint.holds(mm)):
        try:
            kept.imprint = Imprint(mm, cache, image, bias, before)
        except _Complicated:
            kept.plain, kept.imprint = False, None


def press(mm: AddressSpace, file: File, image: Image, bias: int) -> bool:
    """Map `image` as the last time, if that is possible; else nothing is mapped, and the answer is False."""
    cache = file.page_cache
    kept: Kept | None = None if cache is None else cache.imprint
    return kept is not None and kept.image is image and kept.imprint is not None and kept.imprint.press(mm, file, bias)


class Kept:
    """What is kept of executing a file, at its page cache: the image; from the second time on its imprint, if it is `plain`,
    until the cache drops a page."""

    __slots__ = ("image", "imprint", "plain")

    def __init__(self, image: Image) -> None:
        self.image = image
        self.imprint: Imprint | None = None
        self.plain = True


class Imprint:
    """Of `image` in `cache`; addresses are those that the image was linked for."""

    __slots__ = ("_areas", "_cache", "_copies", "_counts", "_dropped", "_high", "_low", "_own", "_policy", "_runs", "_zeros")

    def __init__(self, mm: AddressSpace, cache: PageCache, image: Image, bias: int, before: Counts) -> None:
        self._low, self._high = image.low, image.high
        self._cache, self._dropped = cache, cache.dropped
        self._counts = [now - then for now, then in zip(counts(mm), before, strict=True)]
        self._policy = _policy(mm)
        self._areas: list[tuple[int, int, int, int, int]] = []  #: (start, end, prot, flags, offset, or -1 without the file)
        #: (address, pages, first leaf, leaves) of the file's pages; b"" for those of the space's own, whose frames count from 0
        self._runs: list[tuple[int, int, int, bytes]] = []
        self._copies: list[tuple[int, int, int]] = []  #: (from, to, size), in bytes; `to` counts from its first frame
        self._zeros: list[tuple[int, int]] = []  #: (to, size)
        self._own = 0  #: pages that are the space's own
        if image.high - image.low > MAX_BYTES:
            raise _Complicated
        own: dict[int, int] = {}  #: where they are, by address
        low, high = image.low + bias, image.high + bias
        for area in mm.map.overlapping(low, high):
            of_file = area.cache is cache
            if not (of_file or area.cache is None) or area.flags & (VM_SHARED | VM_HUGETLB | VM_GROWSDOWN) or area.name:
                raise _Complicated
            if area.start < low or area.end > high:  # joined with something else
                raise _Complicated
            self._areas.append((area.start - bias, area.end - bias, area.prot, area.flags, area.offset if of_file else -1))
            self._read(mm, area, bias, own)
        if sum(end - start for start, end, *_ in self._areas) >> PAGE_SHIFT != self._counts[_COUNTS.index("total_vm_pages")]:
            raise _Complicated  # it took the place of something else
        self._find_tails(image, own)

    def _read(self, mm: AddressSpace, area: Area, bias: int, own: dict[int, int]) -> None:
        """Find the runs among the leaves of an area."""
        tables, fmt = mm.tables, mm.tables.fmt
        follows = next_page = -1
        for block in tables.in_range(area.start, area.end):
            if tables.blocks[block] < 0:
                raise _Complicated
        for va, word, pages in tables.pieces(area.start, area.end):
            for at, entry in enumerate(tables.words[word : word + pages].tolist()):
                page = va + (at << PAGE_SHIFT)
                if page != next_page:
                    follows = -1
                next_page = page + PAGE_SIZE
                if not entry:
                    follows = -1
                elif entry & fmt.soft_file and entry & fmt.present:
                    self._extend(page - bias, entry, entry == follows and self._runs[-1][1] < LANES)
                    follows = entry + tables.step
                else:
                    if entry & (fmt.present | fmt.write | fmt.soft_cow) != fmt.present | fmt.write:
                        raise _Complicated
                    own[page - bias] = self._own << PAGE_SHIFT
                    self._copy(area, page)
                    entry = entry & ~fmt.pfn_mask | self._own << fmt.pfn_shift
                    self._extend(page - bias, entry, entry == follows and self._runs[-1][1] < LANES)
                    follows = entry + tables.step
                    self._own += 1
        for i, (va, pages, leaf, _) in enumerate(self._runs):
            if leaf & fmt.soft_file:
                self._runs[i] = va, pages, leaf, tables.consecutive(leaf, pages)
        if self._own > BLOCK_PAGES:
            raise _Complicated

    def _extend(self, va: int, entry: int, goes_on: bool) -> None:
        if goes_on:
            start, pages, leaf, _ = self._runs[-1]
            self._runs[-1] = start, pages + 1, leaf, b""
        else:
            self._runs.append((va, 1, entry, b""))

    def _copy(self, area: Area, page: int) -> None:
        """A page of the space's own has what the file has there, or zeros."""
        to = self._own << PAGE_SHIFT
        if area.cache is None:
            if self._zeros and sum(self._zeros[-1]) == to:
                start, size = self._zeros.pop()
                self._zeros.append((start, size + PAGE_SIZE))
            else:
                self._zeros.append((to, PAGE_SIZE))
            return
        pfn = self._cache.pages.get(page - area.start + area.offset >> PAGE_SHIFT)
        if pfn is None:
            raise _Complicated
        source = pfn << PAGE_SHIFT
        if self._copies and self._copies[-1][0] + self._copies[-1][2] == source and sum(self._copies[-1][1:]) == to:
            start, first, size = self._copies.pop()
            self._copies.append((start, first, size + PAGE_SIZE))
        else:
            self._copies.append((source, to, PAGE_SIZE))

    def _find_tails(self, image: Image, own: dict[int, int]) -> None:
        """Behind what a segment has of the file, the rest of the page is zeros, as `mm.image.map_image` makes it."""
        end = 0
        for each in sorted(image.segments, key=lambda each: each.vaddr):
            if each.vaddr & ~PAGE_MASK < end:
                raise _Complicated
            end = each.vaddr + each.length + PAGE_MASK & ~PAGE_MASK
            tail = each.vaddr + each.file_bytes
            size = -tail & PAGE_MASK
            if each.prot & PROT_WRITE and each.file_bytes and size and each.length > each.file_bytes:
                at = own.get(tail & ~PAGE_MASK)
                if at is None:
                    raise _Complicated
                self._zeros.append((at + (tail & PAGE_MASK), size))

    # ---- again

    def holds(self, mm: AddressSpace) -> bool:
        """The file's pages are still where they were, and the policy is the same."""
        return self._cache.dropped == self._dropped and _policy(mm) == self._policy

    def press(self, mm: AddressSpace, file: File, bias: int) -> bool:
        """Leave the same in `mm`, moved by `bias`; False, and no page is mapped, if that cannot be. ENOMEM: too many areas."""
        low, high = self._low + bias, self._high + bias
        at, areas, limits = mm.map.index_from(low), mm.map.areas, mm.limits
        if low < MMAP_MIN_ADDR or high > mm.task_size or limits.as_bytes != RLIM_INFINITY or limits.data != RLIM_INFINITY:
            return False
        if (at and areas[at - 1].end == low) or (at < len(areas) and areas[at].start <= high) or not self.holds(mm):
            return False
        mm.admit(len(self._areas))
        try:
            blocks = self._blocks(mm, bias)
            first = self._frames(mm) if self._own else 0
        except OutOfFrames:
            return False
        if not self.holds(mm) or any(base < 0 for base in blocks.values()):  # room may have been made of the file's pages
            if self._own:
                mm.ram.frames.put_run(first, self._own)
            return False
        self._write(mm, blocks, bias, first)
        new = [
            Area(mm, start + bias, end + bias, prot, flags, self._cache, offset, file) if offset >= 0
            else Area(mm, start + bias, end + bias, prot, flags)
            for start, end, prot, flags, offset in self._areas
        ]  # fmt: skip
        areas[at:at] = new
        mm.map.starts[at:at] = [each.start for each in new]
        for name, more in zip(_COUNTS, self._counts, strict=True):
            setattr(mm, name, getattr(mm, name) + more)
        mm.hiwater_vm_pages = max(mm.hiwater_vm_pages, mm.total_vm_pages)
        return True

    def _blocks(self, mm: AddressSpace, bias: int) -> dict[int, int]:
        """The first words of the leaf tables that are needed, by block. Raises OutOfFrames."""
        tables = mm.tables
        found: dict[int, int] = {}
        for va, pages, _, _ in self._runs:
            start = va + bias
            for block in range(start >> BLOCK_SHIFT, (start + (pages << PAGE_SHIFT) - 1 >> BLOCK_SHIFT) + 1):
                if block not in found:
                    base = tables.blocks.get(block)
                    found[block] = tables.make(block) if base is None else base
        return found

    def _frames(self, mm: AddressSpace) -> int:
        """Consecutive frames for the space's own pages. Raises OutOfFrames."""
        frames, order = mm.ram.frames, (self._own - 1).bit_length()
        first = frames.alloc(order, zero=False)
        if self._own < 1 << order:
            frames.put_run(first + self._own, (1 << order) - self._own)
        return first

    def _write(self, mm: AddressSpace, blocks: dict[int, int], bias: int, first: int) -> None:
        """Fill the pages and the leaves, and let the machine know of them."""
        tables, mem, hint = mm.tables, mm.tables.mem, mm.space.hint
        to = first << PAGE_SHIFT
        for source, at, size in self._copies:
            at += to
            mem[at : at + size] = mem[source : source + size]
        for at, size in self._zeros:
            at += to
            mem[at : at + size] = bytes(size)
        moved = first << tables.fmt.pfn_shift
        for va, pages, leaf, leaves in self._runs:
            va += bias
            if not leaves:
                leaf += moved
                leaves = tables.consecutive(leaf, pages)
            lane = va >> PAGE_SHIFT & LANE_MASK
            at, part = blocks[va >> BLOCK_SHIFT] + lane << 3, (LANES - lane) << 3
            if lane + pages <= LANES:
                mem[at : at + len(leaves)] = leaves
            else:
                mem[at : at + part] = leaves[:part]
                at = blocks[(va >> BLOCK_SHIFT) + 1] << 3
                mem[at : at + len(leaves) - part] = leaves[part:]
            hint(va, va + (pages << PAGE_SHIFT), leaf)


def _policy(mm: AddressSpace) -> list[int]:
    return [getattr(mm.policy, each) for each in _POLICY]
