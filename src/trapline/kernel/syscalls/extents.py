"""Where the data of a file lies: ioctl(2), FS_IOC_FIEMAP; the kernel's Documentation/filesystems/fiemap.rst.

Files lie in memory, or behind a driver that does not say: extents have offsets and lengths, no place (FIEMAP_EXTENT_UNKNOWN).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EBADR, EFBIG, EINVAL, ENXIO, EOPNOTSUPP
from trapline.kernel.fs.file import MAX_FILE_SIZE
from trapline.kernel.fs.holes import data_runs, next_data
from trapline.machine.paging.entry import PAGE_MASK

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.mm.page_cache import PageCache
    from trapline.kernel.task.task import Task

HEAD = struct.Struct("<QQIIII")  #: struct fiemap: start, length, flags, extents found, room for extents, reserved
EXTENT = struct.Struct("<QQQ16xI12x")  #: struct fiemap_extent: offset, place, length, flags
MAX_EXTENTS = 0xFFFFFFFF // EXTENT.size
SYNC, CACHE = 1, 4  #: FIEMAP_FLAG_*; extended attributes (2) have no extents here
LAST, UNKNOWN = 1, 2  #: FIEMAP_EXTENT_*
_FOUND_AT = 16  #: of flags and extents found, in struct fiemap
_BATCH = 1024  #: extents that are written at once


def fiemap(task: Task, file: File, arg: int) -> int:
    """Fill in a struct fiemap. Raises EOPNOTSUPP, EFAULT, EINVAL, EFBIG, and EBADR: its flags are what cannot be done."""
    inode = file.inode
    if not inode.has_extents():
        raise EOPNOTSUPP
    start, length, flags, _, room, _ = HEAD.unpack(task.mm.read(arg, HEAD.size))
    if room > MAX_EXTENTS or not length:
        raise EINVAL
    if start > MAX_FILE_SIZE:
        raise EFBIG
    if flags & ~(SYNC | CACHE):
        task.mm.write(arg + _FOUND_AT, struct.pack("<II", flags & ~(SYNC | CACHE), 0))
        raise EBADR
    if flags & SYNC:
        file.fsync(False)
    found, at, batch = 0, arg + HEAD.size, bytearray()
    cache = inode.cache()
    assert cache is not None
    for low, high, last in _extents(inode, cache, start, min(start + length, MAX_FILE_SIZE)):
        found += 1
        if not room:
            continue
        batch += EXTENT.pack(low, 0, high - low, UNKNOWN | (LAST if last else 0))
        if found % _BATCH == 0:
            task.mm.write(at, batch)
            at, batch = at + len(batch), bytearray()
        if found == room:
            break
    task.mm.write(at, batch)
    task.mm.write(arg + _FOUND_AT, struct.pack("<II", flags, found))
    return 0


def _extents(inode: Inode, cache: PageCache, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """The data within [start, end), in whole pages: (from, to, nothing comes behind it)."""
    start &= ~PAGE_MASK
    low = high = start
    for run_low, run_high in data_runs(inode, cache, start, min(end + PAGE_MASK & ~PAGE_MASK, cache.size)):
        if run_low & ~PAGE_MASK > high:
            if high > low:
                yield low, high, False
            low = run_low & ~PAGE_MASK
        high = run_high + PAGE_MASK & ~PAGE_MASK
    if high > low:
        yield low, high, _is_end(inode, cache, high)


def _is_end(inode: Inode, cache: PageCache, offset: int) -> bool:
    """There is no data from `offset` on."""
    try:
        return offset >= cache.size or next_data(inode, cache, offset) >= cache.size
    except ENXIO:
        return True
