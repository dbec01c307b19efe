"""Inodes that live in the kernel's memory: what tmpfs is made of, and the upper layer of overlay. Directories: `memdir`.

Invariant: `charged` pages of a file are counted in its file system's `used_pages`.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any
from weakref import ref

from trapline.abi.errno import (
    EACCES,
    EEXIST,
    EFBIG,
    ENODATA,
    ENOSPC,
    ENOTSUP,
    EPERM,
    ESTALE,
)
from trapline.abi.fcntl import (
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
)
from trapline.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, XATTR_CREATE, XATTR_REPLACE
from trapline.kernel.fs import acl
from trapline.kernel.fs.devices import open_special
from trapline.kernel.fs.file import MAX_FILE_SIZE, File, open_regular
from trapline.kernel.fs.inode import Inode
from trapline.kernel.fs.path import mind_lists
from trapline.kernel.fs.superblock import StatFs, SuperBlock
from trapline.kernel.mm.page_cache import PageCache
from trapline.machine.ram import OutOfFrames

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.vfs import Vfs

MAX_XATTR_BYTES = 16 << 20  #: names and values, per file system
XATTR_OVERHEAD = 128  #: what one costs besides


class MemorySuperBlock(SuperBlock):
    """Counts pages and inodes against limits (0: none)."""

    zeroes = False  #: FALLOC_FL_ZERO_RANGE of fallocate(2) is understood
    plain = False  #: files have neither attributes nor space that is promised to them
    __slots__ = ("max_inodes", "max_pages", "ram", "used_inodes", "used_pages", "xattr_bytes")

    swaps = True  #: pages of its files may go to swap

    def __init__(self, vfs: Vfs, fstype: bytes, magic: int, max_pages: int = 0, max_inodes: int = 0) -> None:
        super().__init__(vfs, fstype, magic)
        self.ram = vfs.ram
        self.max_pages = max_pages
        self.max_inodes = max_inodes
        self.used_pages = 0
        self.used_inodes = 0
        self.xattr_bytes = 0

    def charge_inode(self) -> None:
        if self.max_inodes and self.used_inodes >= self.max_inodes:
            raise ENOSPC("no free inodes")
        self.used_inodes += 1

    def unmounted(self) -> None:
        del self.root  # else a file system would keep itself, and its frames, alive

    def statfs(self) -> StatFs:
        return StatFs(
            self.magic,
            blocks=self.max_pages,
            bfree=max(self.max_pages - self.used_pages, 0),
            files=self.max_inodes,
            ffree=max(self.max_inodes - self.used_inodes, 0),
        )


class MemInode(Inode):
    """What they have in common: extended attributes, and being counted."""

    __slots__ = ("acl", "default_acl", "linked", "xattrs")

    sb: MemorySuperBlock

    def __init__(self, sb: MemorySuperBlock, mode: int, uid: int, gid: int, *, ino: int = 0, rdev: int = 0) -> None:
        super().__init__(sb, mode, uid, gid, ino=ino, rdev=rdev)
        self.linked = 0  #: names that link(2) made: each counts as an inode, as on Linux, for it takes as much memory
        self.xattrs: dict[bytes, bytes] | None = None
        self.acl: bytes | None = None
        self.default_acl: bytes | None = None

    def unlinked(self) -> None:
        """One name less."""
        self.nlink -= 1
        self.ctime_ns = self.sb.now()
        if self.linked:
            self.linked -= 1
            self.sb.used_inodes -= 1

    def evict(self) -> None:
        self.sb.used_inodes -= 1 + self.linked
        if self.xattrs:
            self.sb.xattr_bytes -= sum(XATTR_OVERHEAD + len(name) + len(value) for name, value in self.xattrs.items())

    def changing(self) -> None:
        """Called before the inode changes."""

    def setattr(self, **changes: int | None) -> None:
        self.changing()
        super().setattr(**changes)
        if self.acl is not None and changes.get("mode") is not None:
            self.keep_list(acl.ACCESS, acl.with_mode(self.acl, self.mode))

    def getxattr(self, name: bytes) -> bytes:
        if name.startswith(b"system."):
            self._check_list(name)
        value = self.xattrs.get(name) if self.xattrs else None
        if value is None:
            raise ENOTSUP if self.sb.plain else ENODATA
        return value

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        if self.sb.plain:
            raise ENOTSUP
        if name.startswith(b"system."):
            self._set_list(name, value)
            return
        old = self.xattrs.get(name) if self.xattrs else None
        if old is not None and flags & XATTR_CREATE:
            raise EEXIST
        if old is None and flags & XATTR_REPLACE:
            raise ENODATA
        self._store_xattr(name, value)

    def _store_xattr(self, name: bytes, value: bytes) -> None:
        old = self.xattrs.get(name) if self.xattrs else None
        grows = len(value) - (len(old) if old is not None else -len(name) - XATTR_OVERHEAD)
        if self.sb.xattr_bytes + grows > MAX_XATTR_BYTES:
            raise ENOSPC
        self.changing()
        self.sb.xattr_bytes += grows
        if self.xattrs is None:
            self.xattrs = {}
        self.xattrs[name] = value
        self.ctime_ns = self.sb.now()

    # ---- access control lists: the attributes system.posix_acl_*

    def _check_list(self, name: bytes) -> None:
        if name not in (acl.ACCESS, acl.DEFAULT) or self.mode & S_IFMT == S_IFLNK or self.sb.plain:
            raise ENOTSUP

    def _set_list(self, name: bytes, value: bytes) -> None:
        """EINVAL, ENOTSUP, EACCES for a default list of what is no directory."""
        self._check_list(name)
        checked = acl.checked(value)
        if name == acl.DEFAULT and self.mode & S_IFMT != S_IFDIR:
            if checked is not None:
                raise EACCES
            return
        if checked is not None and name == acl.ACCESS:
            bits, all_of_it = acl.mode_of(checked)
            self.changing()
            self.mode = self.mode & ~0o777 | bits
            checked = None if all_of_it else checked
        self.keep_list(name, checked)

    def keep_list(self, name: bytes, checked: bytes | None) -> None:
        """Have a list, or none; it agrees with the mode."""
        if checked is not None:
            self._store_xattr(name, checked)
            if self.mode & S_IFMT == S_IFDIR:
                mind_lists()
        elif self.xattrs and name in self.xattrs:
            self._drop_xattr(name)
        if name == acl.ACCESS:
            self.acl = checked
        else:
            self.default_acl = checked

    def inherit_lists(self, directory: Inode) -> None:
        """A new inode gets what the default list of its directory gives; `mode` has what its maker asked for."""
        if directory.default_acl is None:
            return
        own, mode = acl.inherited(directory.default_acl, self.mode)
        self.mode = mode
        if own is not None:
            self.keep_list(acl.ACCESS, own)
        if mode & S_IFMT == S_IFDIR:
            self.keep_list(acl.DEFAULT, directory.default_acl)

    def removexattr(self, name: bytes) -> None:
        if name.startswith(b"system."):
            self._check_list(name)
            self.keep_list(name, None)
            return
        self.getxattr(name)
        self._drop_xattr(name)

    def _drop_xattr(self, name: bytes) -> None:
        value = (self.xattrs or {})[name]
        self.changing()
        assert self.xattrs is not None
        del self.xattrs[name]
        self.sb.xattr_bytes -= XATTR_OVERHEAD + len(name) + len(value)
        self.ctime_ns = self.sb.now()

    def listxattr(self) -> list[bytes]:
        return list(self.xattrs or ())


class MemFile(MemInode):
    """A regular file: nothing but its page cache."""

    __slots__ = ("charged",)

    def __init__(self, sb: MemorySuperBlock, mode: int, uid: int, gid: int, *, ino: int = 0, cached: bool = True) -> None:
        super().__init__(sb, mode, uid, gid, ino=ino)
        self.charged = 0
        if cached:
            self.page_cache = PageCache(sb.ram, 0)
            self.page_cache.stays = not sb.swaps
            if sb.max_pages:
                me = ref(self)
                self.page_cache.room = lambda: (inode := me()) is None or inode.has_room()

    def open(self, path: Path, flags: int, task: Any) -> File:
        if self.page_cache is None:
            raise ESTALE
        return open_regular(self, flags, path)

    def _account(self) -> None:
        """Charge what the page cache grew or shrank by."""
        assert self.page_cache is not None
        used = self.page_cache.pages_used
        self.sb.used_pages += used - self.charged
        self.charged = used

    def has_room(self) -> bool:
        """A page more does not exceed the size limit."""
        self._account()
        return self.sb.used_pages < self.sb.max_pages

    def store(self, offset: int, data: bytes | memoryview) -> int:
        sb, cache = self.sb, self.page_cache
        assert cache is not None
        if sb.max_pages and sb.used_pages + (len(data) >> 12) + 2 > sb.max_pages:
            data = self._that_fits(offset, data)
        try:
            return cache.write(offset, data)
        except OutOfFrames:
            raise ENOSPC("out of memory") from None
        finally:
            self._account()

    def _that_fits(self, offset: int, data: bytes | memoryview) -> bytes | memoryview:
        """The part of a write that does not exceed the size limit; raises ENOSPC if there is none."""
        cache = self.page_cache
        assert cache is not None
        self._account()
        free = self.sb.max_pages - self.sb.used_pages
        for index in range(offset >> 12, (offset + len(data) + 4095) >> 12):
            if not cache.holds(index):
                free -= 1
                if free < 0:
                    data = data[: max((index << 12) - offset, 0)]
                    break
        if not data:
            raise ENOSPC
        return data

    def truncate(self, size: int) -> None:
        cache = self.page_cache
        assert cache is not None
        if size > MAX_FILE_SIZE:
            raise EFBIG
        if self.seals > 0 and (
            (size < cache.size and self.seals & F_SEAL_SHRINK) or (size > cache.size and self.seals & F_SEAL_GROW)
        ):
            raise EPERM("sealed")
        cache.truncate(size)
        self._account()

    def allocate(self, mode: int, offset: int, length: int) -> None:
        if mode | FALLOC_FL_KEEP_SIZE == FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE and self.sb.zeroes:
            self._zero(mode & FALLOC_FL_KEEP_SIZE, offset, length)
            return
        if mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) or self.sb.plain:
            raise ENOTSUP
        cache = self.page_cache
        assert cache is not None
        end = offset + length
        if end > MAX_FILE_SIZE:
            raise EFBIG
        if mode & FALLOC_FL_PUNCH_HOLE:
            if not mode & FALLOC_FL_KEEP_SIZE:
                raise ENOTSUP
            if self.seals > 0 and self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
                raise EPERM("sealed")
            self.changing()
            cache.punch(offset, length)
            self._account()
            return
        first, last = offset >> 12, (end + 4095) >> 12
        absent = last - first - cache.count_held(first, last)
        if self.sb.max_pages and self.sb.used_pages + absent > self.sb.max_pages:
            raise ENOSPC
        self.changing()
        if end > cache.size and not mode & FALLOC_FL_KEEP_SIZE:
            self.truncate(end)
        self._reserve(cache, first, last)

    def _zero(self, mode: int, offset: int, length: int) -> None:
        """FALLOC_FL_ZERO_RANGE: what is there becomes zeros, and all of it has its space."""
        assert self.page_cache is not None
        self.allocate(mode, offset, length)
        inside = min(offset + length, self.page_cache.size) - offset
        if inside > 0:
            self.allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, inside)
            self.allocate(mode, offset, length)

    def _reserve(self, cache: PageCache, first: int, last: int) -> None:
        """Give the holes in pages [first, last) frames."""
        try:
            cache.reserve(max(first, (cache.backed + 4095) >> 12), last)
        except OutOfFrames:
            raise ENOSPC("out of memory") from None
        finally:
            self._account()

    def owns_cache(self) -> bool:
        """The page cache belongs to this inode alone."""
        return True

    def evict(self) -> None:
        super().evict()
        self.sb.used_pages -= self.charged
        self.charged = 0
        self._close()

    def _close(self) -> None:
        cache, self.page_cache = self.page_cache, None
        if cache is not None and self.owns_cache():
            cache.close()

    def __del__(self) -> None:  # with its file system, which was unmounted
        if self.page_cache is not None:
            self._close()


class MemLink(MemInode):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, sb: MemorySuperBlock, target: bytes, uid: int, gid: int, *, ino: int = 0) -> None:
        super().__init__(sb, S_IFLNK | 0o777, uid, gid, ino=ino)
        self.target = target
        self.size = len(target)

    def readlink(self) -> bytes:
        return self.target


class MemNode(MemInode):
    """A FIFO, socket or device node."""

    __slots__ = ()

    def open(self, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
        return open_special(self, path, flags, task)
