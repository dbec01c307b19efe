"""Physical memory: one array of bytes, and the allocator of its 4 KiB frames.

Frames are named by number (pfn); byte addresses in RAM are physical addresses (pa = pfn << 12). RAM is sparse: a frame
costs host memory once it is touched. `Frames` is a buddy allocator over 2 MiB blocks with a reference count per frame.

Invariants:
- a frame handed out with zero=True reads as zeros; a frame with count 0 is free and belongs to exactly one free list, or
  waits in `_aside` for the end of what may still write to it;
- a frame whose `_dirty` byte is 0 reads as zeros;
- `used_pages` never exceeds `limit_pages`; beyond `press_at`, which is no higher, an allocation looks for room first.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from trapline.typed import Any, NamedTuple

from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE

BLOCK_ORDER = 9  #: a block is 2**9 frames, 2 MiB: the largest run the allocator promises
BLOCK_PAGES = 1 << BLOCK_ORDER
HOT_PAGES = 32  #: single frames kept ready, unmerged, for the next allocation: each may keep a larger run from coming together
WARM_BLOCKS = 8  #: free blocks whose host memory is kept, for small allocations to come
_ZERO = bytes(PAGE_SIZE)
_ZEROS = memoryview(bytes(64 << 10))
_ONES = array("i", [1]) * BLOCK_PAGES
_ONES_BYTES = _ONES.tobytes()
_NONE = array("i", bytes(4 * BLOCK_PAGES))
_MAP_NORESERVE = 0x4000  # asm-generic/mman.h; Python's mmap module does not name it everywhere


class Atomics(NamedTuple):
    """What changes words of 32 bits that user code may change at the same time. Both give what was there."""

    exchange: Callable[[mmap.mmap, int, int, int], int]  #: (memory, offset, old, new): `new` is there now if `old` was
    modify: Callable[[mmap.mmap, int, int, int], int]  #: (memory, offset, operation, argument): see `Ram.modify32`


class OutOfFrames(Exception):
    """No frame is left below the limit."""


class Ram:
    """`size` bytes of guest memory. `shared`: back it by a memfd that other host processes can map."""

    def __init__(self, size: int, *, shared: bool = False) -> None:
        self.size = size & -(PAGE_SIZE << BLOCK_ORDER)
        if self.size <= 0:
            raise ValueError(f"RAM of {size} bytes: at least 2 MiB are needed")
        self.fd = os.memfd_create("trapline-ram", os.MFD_CLOEXEC) if shared else -1
        if shared:
            os.ftruncate(self.fd, self.size)
        flags = (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) | _MAP_NORESERVE
        self._map = mmap.mmap(self.fd, self.size, flags, mmap.PROT_READ | mmap.PROT_WRITE)
        self.mem = memoryview(self._map)  #: bytes by physical address
        self.words = self.mem.cast("Q")  #: 64-bit words by physical address / 8
        self.words32 = self.mem.cast("I")  #: 32-bit words by physical address / 4
        self.frames = Frames(self)
        self.atomics: Atomics | None = None  #: set by a machine whose user code runs at the same time as the kernel

    def compare_exchange32(self, pa: int, old: int, new: int) -> int:
        """Store `new` at aligned `pa` if `old` is there; what was there. Atomic, against user code too."""
        if self.atomics is not None:
            return self.atomics.exchange(self._map, pa, old, new)
        found: int = self.words32[pa >> 2]
        if found == old:
            self.words32[pa >> 2] = new
        return found

    def modify32(self, pa: int, operation: int, argument: int) -> int:
        """Set (0), add (1), or (2), and-not (3), xor (4) `argument` to the word at aligned `pa`; what was there. Atomic."""
        if self.atomics is not None:
            return self.atomics.modify(self._map, pa, operation, argument)
        found: int = self.words32[pa >> 2]
        new = (argument, found + argument, found | argument, found & ~argument, found ^ argument)[operation]
        self.words32[pa >> 2] = new & 0xFFFF_FFFF
        return found

    def discard(self, pa: int, length: int) -> None:
        """Give the host its memory back; the range reads as zeros afterwards. After `close` (a late file's): nothing."""
        if self._map.closed:
            return
        self._map.madvise(mmap.MADV_REMOVE if self.fd >= 0 else mmap.MADV_DONTNEED, pa, length)

    def close(self) -> None:
        self.discard(0, self.size)  # whoever still has a view of it holds no memory by that
        self.words32.release()
        self.words.release()
        self.mem.release()
        with suppress(BufferError):  # if a view of it is still alive somewhere, the mapping goes with the last one
            self._map.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Frames:
    """The frame allocator. Frame 0 is never handed out."""

    def __init__(self, ram: Ram) -> None:
        self._ram = ram
        self.total_pages = ram.size >> PAGE_SHIFT
        self._limit_pages = self.press_at = self.total_pages - BLOCK_PAGES
        self.used_pages = 0
        self.peak_pages = 0
        #: asked to free some frames when the limit is reached; how many it did
        self.reclaim: Callable[[int], int] | None = None
        self.swap: Any = None  #: kernel.mm.swap.Swap, while there is somewhere to put pages out to
        self.kept = 0  #: so many of the last frames are not for whoever allocates now
        self._next_block = 1  # blocks from here on were never used
        self._hot: list[int] = []
        self._warm: list[int] = []  # free blocks that are dirty
        self._free: list[set[int]] = [set() for _ in range(BLOCK_ORDER + 1)]  # by order; whole blocks are clean
        #: in the order of events: (first frame, pages) that became free, and what to ask whether something is gone
        self._aside: deque[tuple[int, int] | Callable[[bool], bool]] = deque()
        self.counts: array[int] = array("i", bytes(4 * BLOCK_PAGES))
        self._dirty = bytearray(BLOCK_PAGES)

    @property
    def limit_pages(self) -> int:
        """How many frames may be in use."""
        return self._limit_pages

    @limit_pages.setter
    def limit_pages(self, pages: int) -> None:
        self._limit_pages = self.press_at = pages

    # ---- out

    def alloc(self, order: int = 0, *, zero: bool = True) -> int:
        """The first of 2**order consecutive, aligned frames, each with count 1. Raises OutOfFrames."""
        pages = 1 << order
        used = self.used_pages + pages
        if used > self.press_at:
            used = self._press(pages)
        pfn = self._hot.pop() if order == 0 and self._hot else self._take(order)
        self.used_pages = used
        if used > self.peak_pages:
            self.peak_pages = used
        if order == 0:
            self.counts[pfn] = 1
            if self._dirty[pfn]:
                if zero:
                    pa = pfn << PAGE_SHIFT
                    self._ram.mem[pa : pa + PAGE_SIZE] = _ZERO
            else:
                self._dirty[pfn] = 1
            return pfn
        self.counts[pfn : pfn + pages] = _ONES[:pages]
        if zero and self._dirty.find(1, pfn, pfn + pages) >= 0:
            self.clear(pfn, pages)
        self._dirty[pfn : pfn + pages] = b"\1" * pages
        return pfn

    def _press(self, pages: int) -> int:
        """The limit is near: have room made, at once if it is reached. What `used_pages` will be after the allocation."""
        if self.swap is not None:
            self.swap.pressed()
            if self.used_pages + pages <= self.limit_pages - self.kept:
                return self.used_pages + pages
        if self.reclaim is not None and self.limit_pages >= pages:
            self.reclaim(max(pages, 64))
        used = self.used_pages + pages
        if used > self.limit_pages - self.kept:
            raise OutOfFrames(f"{pages} frames wanted, {self.limit_pages - self.used_pages} left")
        return used

    def clear(self, pfn: int, pages: int) -> None:
        """Make consecutive frames in use read as zeros."""
        mem, pa, end = self._ram.mem, pfn << PAGE_SHIFT, (pfn + pages) << PAGE_SHIFT
        for at in range(pa, end, len(_ZEROS)):
            size = min(len(_ZEROS), end - at)
            mem[at : at + size] = _ZEROS[:size]

    def _take(self, order: int) -> int:
        for have in range(order, BLOCK_ORDER):
            if self._free[have]:
                pfn = self._free[have].pop()
                break
        else:
            have, pfn = BLOCK_ORDER, self._take_block(order)
            if pfn < 0:
                self._merge_hot()
                return self._take(order)
        while have > order:  # split, keeping the lower half
            have -= 1
            self._free[have].add(pfn + (1 << have))
        return pfn

    def _take_block(self, order: int) -> int:
        """A whole free block for a piece of `order`; -1 if all of RAM is in use or in smaller pieces."""
        if order < BLOCK_ORDER and self._warm:
            return self._warm.pop()
        if self._free[BLOCK_ORDER]:
            return self._free[BLOCK_ORDER].pop()
        pfn = self._next_block * BLOCK_PAGES
        if pfn + BLOCK_PAGES > self.total_pages:
            return self._warm.pop() if self._warm else -1
        self._next_block += 1
        self.counts.frombytes(bytes(4 * BLOCK_PAGES))
        self._dirty.extend(bytes(BLOCK_PAGES))
        return pfn

    def _merge_hot(self) -> None:
        """Let the single frames that are kept ready join their neighbours. Raises OutOfFrames if there are none."""
        before = len(self._aside)
        self.sweep(wait=True)
        if not self._hot and len(self._aside) == before:
            raise OutOfFrames("no run of free frames is left")
        hot, self._hot = self._hot, []
        for pfn in hot:
            self._release(pfn, 0)

    # ---- references

    def get(self, pfn: int) -> None:
        """One more reference to a frame in use."""
        self.counts[pfn] += 1

    def get_run(self, pfn: int, pages: int) -> None:
        """`get` each of consecutive frames."""
        counts = self.counts
        first = counts[pfn]
        same = array("i", [first]) * pages
        if counts[pfn : pfn + pages] == same:
            counts[pfn : pfn + pages] = array("i", [first + 1]) * pages
            return
        for each in range(pfn, pfn + pages):
            counts[each] += 1

    def put(self, pfn: int) -> None:
        """One reference less; the last frees the frame."""
        count = self.counts[pfn] - 1
        if count < 0:
            raise AssertionError(f"frame {pfn:#x} put more often than got")
        self.counts[pfn] = count
        if count == 0:
            self.used_pages -= 1
            if self._aside:
                self._aside.append((pfn, 1))
            elif len(self._hot) < HOT_PAGES:
                self._hot.append(pfn)
            else:
                self._release(pfn, 0)

    def put_run(self, pfn: int, pages: int) -> None:
        """`put` each of consecutive frames (at most a block's worth)."""
        counts = self.counts
        if pages > 1 and counts[pfn : pfn + pages].tobytes() == _ONES_BYTES[: 4 * pages]:
            counts[pfn : pfn + pages] = _NONE[:pages]
            self.used_pages -= pages
            if self._aside:
                self._aside.append((pfn, pages))
            else:
                self._release_run(pfn, pages)
            return
        for each in range(pfn, pfn + pages):
            self.put(each)

    # ---- back

    def set_aside(self, gone: Callable[[bool], bool]) -> None:
        """What becomes free from now on is not handed out before `gone(False)` is true: something that is ending may still
        write to it. `gone(True)` waits for that."""
        self._aside.append(gone)

    def sweep(self, *, wait: bool = False) -> None:
        """Take back what was set aside, as far as what it waits for is gone."""
        aside = self._aside
        while aside:
            head = aside[0]
            if isinstance(head, tuple):
                self._release_run(*head)
            elif not head(wait):
                return
            aside.popleft()

    def _release_run(self, pfn: int, pages: int) -> None:
        if pages == 1 and len(self._hot) < HOT_PAGES:
            self._hot.append(pfn)
            return
        while pages:  # as the largest aligned pieces
            order = min((pfn & -pfn).bit_length(), pages.bit_length()) - 1
            self._release(pfn, order)
            pfn += 1 << order
            pages -= 1 << order

    def _release(self, pfn: int, order: int) -> None:
        free = self._free
        while order < BLOCK_ORDER:
            buddy = pfn ^ (1 << order)
            if buddy not in free[order]:
                free[order].add(pfn)
                return
            free[order].discard(buddy)
            pfn = min(pfn, buddy)
            order += 1
        if len(self._warm) < WARM_BLOCKS:
            self._warm.append(pfn)
            return
        self._ram.discard(pfn << PAGE_SHIFT, BLOCK_PAGES << PAGE_SHIFT)
        self._dirty[pfn : pfn + BLOCK_PAGES] = bytes(BLOCK_PAGES)
        free[BLOCK_ORDER].add(pfn)
