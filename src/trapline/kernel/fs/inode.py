"""Inode: one file, of any type, of any file system; what is known of it without a name.

A file system subclasses Inode and overrides what its files can do; every other operation answers with the errno that
Linux gives. Names are bytes, one component each, never "." or "..". The caller (path walk, namei) has checked
permissions, types and read-only mounts before an operation is called, and keeps the dentry cache in step.

Invariant: `mode` holds the type bits, and the type never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EINVAL, ENOTDIR, ENOTSUP, ENXIO, EPERM, ETXTBSY
from trapline.abi.stat import S_IFDIR, S_IFMT, S_IFREG, S_ISGID

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.superblock import StatFs, SuperBlock
    from trapline.kernel.mm.page_cache import PageCache
    from trapline.kernel.mm.swap.areas import Backing

Entry = tuple[bytes, int, int]  #: (name, inode number, DT_*)

CACHED, REVALIDATE, VOLATILE = 0, 1, 2


class Inode:
    """`size` counts for what has no page cache; `locks`, `watches` and `endpoint` belong to other subsystems:

    - `locks`: None, or the object with on_close(files_table, file) and on_release(file) of fcntl(2) and flock(2) locks;
    - `watches`: None, or the object with notify(mask, name, cookie) of inotify(7);
    - `endpoint`: what lives behind a FIFO or socket node while it is in use.
    """

    __slots__ = (
        "__weakref__", "atime_ns", "btime_ns", "ctime_ns", "endpoint", "gid", "ino", "locks", "mode", "mtime_ns", "nlink",
        "opens", "page_cache", "rdev", "sb", "seals", "size", "uid", "watches", "writers",
    )  # fmt: skip

    #: For a directory, how far names may be cached: CACHED: until changed through this kernel; REVALIDATE: `lookup` is
    #: asked each time, and a dentry is kept for the same inode; VOLATILE: nothing is kept (proc).
    volatile: int = CACHED
    #: The attributes may change behind our back: `refresh` is called before they are shown.
    live: bool = False
    #: A node of the host's: it shows its type, but cannot be opened.
    foreign: bool = False
    #: acl(5): the access list, if it says more than `mode`, and a directory's default one; see `acl`.
    acl: bytes | None = None
    default_acl: bytes | None = None
    #: A magic link: a method (task) -> Path that says where it leads, instead of text.
    follow: Callable[[Any], Path] | None = None

    def __init__(self, sb: SuperBlock, mode: int, uid: int = 0, gid: int = 0, *, ino: int = 0, rdev: int = 0) -> None:
        now = sb.now()
        self.sb = sb
        self.ino = ino or sb.next_ino()
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = 1
        self.rdev = rdev
        self.size = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = self.btime_ns = now
        self.page_cache: PageCache | None = None
        self.seals = -1  #: F_SEAL_* of a memfd; -1: sealing does not apply
        self.opens = 0  #: open files of a regular file, and O_PATH ones of any
        self.writers = 0  #: open files that may write; -n: n running images deny writing (ETXTBSY)
        self.locks: Any = None
        self.watches: Any = None
        self.endpoint: Any = None

    # ---- directories

    def lookup(self, name: bytes) -> Inode:
        """The inode of an entry; raises ENOENT."""
        raise ENOTDIR

    def create(self, name: bytes, mode: int, creds: Any, rdev: int = 0) -> Inode:
        """A new regular file, FIFO, socket or device node: `mode` says which, and the final permissions."""
        raise EPERM

    def tmpfile(self, mode: int, creds: Any) -> Inode:
        """A new regular file without a name, for O_TMPFILE."""
        raise ENOTSUP

    def mkdir(self, name: bytes, mode: int, creds: Any) -> Inode:
        raise EPERM

    def symlink(self, name: bytes, target: bytes, creds: Any) -> Inode:
        raise EPERM

    def link(self, name: bytes, inode: Inode) -> None:
        """One more name for `inode`, which is on the same file system and no directory."""
        raise EPERM

    def unlink(self, name: bytes, inode: Inode) -> None:
        raise EPERM

    def rmdir(self, name: bytes, inode: Inode) -> None:
        """Remove an empty directory; raises ENOTEMPTY."""
        raise EPERM

    def rename(self, name: bytes, to: Inode, to_name: bytes, flags: int, creds: Any) -> None:
        """Move entry `name` to directory `to`, replacing what is there (checked by the caller). RENAME_* flags."""
        raise EPERM

    def entries(self) -> list[Entry]:
        """Everything in a directory but "." and ".."."""
        raise ENOTDIR

    def empty(self) -> bool:
        """A directory without entries."""
        return not self.entries()

    # ---- every type

    def readlink(self) -> bytes:
        raise EINVAL("not a symbolic link")

    def open(self, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
        """An open file description, or a coroutine that will return it (a FIFO waits for its other end)."""
        raise ENXIO

    def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        """Change what is not None. `mode` is permission bits only."""
        now = self.sb.now()
        if size is not None:
            self.truncate(size)
            self.mtime_ns = now
        if mode is not None:
            self.mode = self.mode & S_IFMT | mode
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        if atime_ns is not None:
            self.atime_ns = atime_ns
        if mtime_ns is not None:
            self.mtime_ns = mtime_ns
        self.ctime_ns = now

    def store(self, offset: int, data: bytes | memoryview) -> int:
        """Write to a regular file; how many bytes fitted (ENOSPC if none)."""
        raise EINVAL

    def truncate(self, size: int) -> None:
        """Make a regular file `size` bytes long."""
        raise EINVAL

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """fallocate(2) with FALLOC_FL_* `mode`."""
        raise ENOTSUP

    def refresh(self) -> None:
        """Bring the attributes up to date, where `live`."""

    def blocks(self) -> int:
        """512-byte blocks in use."""
        cache = self.page_cache
        return (self.size + 511) >> 9 if cache is None else cache.pages_used << 3

    def cache(self) -> PageCache | None:
        """The page cache, made now if that was put off."""
        return self.page_cache

    def load(self, offset: int, into: memoryview) -> None:
        """Fill `into` with the content from `offset` on; zeros beyond the end."""
        cache = self.page_cache
        data = cache.read(offset, len(into)) if cache is not None else b""
        into[: len(data)] = data
        if len(data) < len(into):
            into[len(data) :] = bytes(len(into) - len(data))

    def seek_behind(self, offset: int, hole: bool) -> int | None:
        """Where, from `offset` on, what is behind the page cache has data (None: nowhere), or a hole. All of it is data, unless
        the file system knows better."""
        cache = self.page_cache
        return offset if not hole or cache is None else max(offset, cache.backed)

    def has_extents(self) -> bool:
        """Whether ioctl(2), FS_IOC_FIEMAP, may ask where the data lies."""
        return self.sb.has_extents and self.mode & S_IFMT == S_IFREG

    def fsync(self) -> None:
        """Write back."""

    def evict(self) -> None:
        """The last name and the last open file are gone."""

    def statfs(self) -> StatFs:
        return self.sb.statfs()

    def swap_backing(self) -> Backing:
        """What to swap to this regular file with. Raises EINVAL: what is in memory anyway is no place to put memory out to."""
        raise EINVAL("not on a disk")

    def deny_write(self) -> None:
        """The file is about to run: opening it for writing is ETXTBSY until `allow_write`; so is this while it is written."""
        if self.writers > 0:
            raise ETXTBSY
        self.writers -= 1

    def allow_write(self) -> None:
        self.writers += 1

    # ---- extended attributes: full names, with their namespace

    def getxattr(self, name: bytes) -> bytes:
        """Raises ENODATA, or ENOTSUP."""
        raise ENOTSUP

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        raise ENOTSUP

    def removexattr(self, name: bytes) -> None:
        raise ENOTSUP

    def listxattr(self) -> list[bytes]:
        return []


class AnonInode(Inode):
    """The inode of an open file that has no name: pipes, sockets, epoll, ... `name` is e.g. b"pipe:[7]"."""

    __slots__ = ("name",)

    def __init__(self, sb: SuperBlock, mode: int, name: bytes = b"", uid: int = 0, gid: int = 0) -> None:
        super().__init__(sb, mode, uid, gid)
        self.name = name or b"%s:[%d]" % (sb.fstype.removesuffix(b"fs"), self.ino)


def inherit(directory: Inode, mode: int, creds: Any) -> tuple[int, int, int]:
    """(mode, uid, gid) of what `creds` makes in `directory`: a set-group-id directory passes its group on."""
    uid, gid = (creds.fsuid, creds.fsgid) if creds is not None else (0, 0)
    if directory.mode & S_ISGID:
        gid = directory.gid
        if mode & S_IFMT == S_IFDIR:
            mode |= S_ISGID
    return mode, uid, gid
