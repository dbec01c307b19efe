"""File: an open file description, what file descriptors refer to.

Subclasses override `try_*`: a result of None means "would block", b"" means end of file; errors are raised. Who calls them
(read(2) and its kin) has checked that the file is `readable` or `writable`, and does all the waiting.

Invariant: `refs` counts the descriptors (and mappings, and kernel users) that hold the file; the last `put` releases it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EBADF, EFBIG, EINVAL, EISDIR, ENOMEM, ENOTDIR, ENOTTY, ENXIO, EPERM, ESPIPE
from trapline.abi.fcntl import (
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_WRITE,
    O_ACCMODE,
    O_APPEND,
    O_NOATIME,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
)
from trapline.abi.mount import MS_STRICTATIME
from trapline.abi.stat import DT_DIR, S_IFDIR, S_IFMT
from trapline.kernel.fs.atime import accessed
from trapline.kernel.fs.holes import next_data, next_hole
from trapline.kernel.fs.notify import (
    IN_ACCESS,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_DELETE_SELF,
    IN_MODIFY,
    INSTANCES,
    event,
    file_event,
)
from trapline.kernel.sync.budget import Budgets

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Entry, Inode
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.mm.page_cache import PageCache
    from trapline.kernel.sync.park import WaitQueue

LISTED = Budgets(4, 1 << 19)  #: entries that the open directories of a kernel hold
ALWAYS_READY = 0x145  #: POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM
MAX_FILE_SIZE = (1 << 63) - 1


class File:
    """`path` is None for files without a name; `on_release` is a list of callbacks, or None."""

    __slots__ = ("flags", "inode", "on_release", "owner", "owner_signal", "path", "pos", "readable", "refs", "writable")

    page_cache: PageCache | None = None

    def __init__(self, inode: Inode, flags: int, path: Path | None = None) -> None:
        self.inode = inode
        self.flags = flags
        self.path = path
        self.pos = 0
        self.refs = 1
        self.owner: Any = None  #: F_SETOWN's kind and number (0: nobody), and the uid and euid of who set it; None: never set
        self.owner_signal = 0  #: F_SETSIG
        self.on_release: list[Callable[[File], None]] | None = None
        access = flags & O_ACCMODE
        self.readable = access != O_WRONLY and not flags & O_PATH
        self.writable = access != O_RDONLY and not flags & O_PATH

    def get(self) -> File:
        self.refs += 1
        return self

    def put(self) -> None:
        """One reference less; the last one releases the file."""
        self.refs -= 1
        if self.refs == 0:
            if self.on_release is not None:
                for callback in tuple(self.on_release):
                    callback(self)
            if self.inode.locks is not None:
                self.inode.locks.on_release(self)
            self.release()

    def release(self) -> None:
        """The last reference is gone."""

    # ---- data

    def try_read(self, count: int) -> bytes | None:
        """Up to `count` bytes from the position on, which advances."""
        raise EINVAL

    def try_write(self, data: bytes | memoryview) -> int | None:
        """How many bytes were written at the position, which advances."""
        raise EINVAL

    def try_pread(self, count: int, offset: int) -> bytes | None:
        raise ESPIPE

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int | None:
        raise ESPIPE

    def seek(self, offset: int, whence: int) -> int:
        raise ESPIPE

    def iterate(self) -> list[Entry]:
        """The entries of a directory that are still to be read, "." and ".." first; `pos` indexes them."""
        raise ENOTDIR

    # ---- readiness and control

    def poll(self) -> int:
        """The poll(2) events that are true now."""
        return ALWAYS_READY

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """The queues woken when `poll` may have changed; none: never blocks."""
        return ()

    def ioctl(self, task: Any, cmd: int, arg: int) -> int | Coroutine[Any, Any, int]:
        raise ENOTTY

    def fsync(self, datasync: bool) -> None:
        raise EINVAL

    def display_path(self) -> bytes:
        """How /proc/PID/fd shows the file."""
        if self.path is not None:
            return self.path.display()
        name = getattr(self.inode, "name", None)
        return name if name is not None else b"anon_inode:[file]"


class PathFile(File):
    """What O_PATH opens: a place in the tree, without its content. It keeps the inode, as any open file does."""

    __slots__ = ()

    def __init__(self, inode: Inode, flags: int, path: Path | None = None) -> None:
        super().__init__(inode, flags, path)
        inode.opens += 1

    def release(self) -> None:
        _closed(self.inode)


class DirectoryFile(File):
    """An open directory. Its entries are read once, and again after a seek to the start; all of a kernel's are in a budget."""

    __slots__ = ("_entries",)

    def __init__(self, inode: Inode, flags: int, path: Path | None = None) -> None:
        super().__init__(inode, flags, path)
        self._entries: list[Entry] | None = None

    def iterate(self) -> list[Entry]:
        if self._entries is None:
            entries = self._dots() + self.inode.entries()
            if not LISTED.of(self.inode.sb.vfs).take(len(entries)):
                raise ENOMEM("open directories hold too many entries")
            self._entries = entries
        return self._entries

    def _forget(self) -> None:
        if self._entries is not None:
            LISTED.of(self.inode.sb.vfs).give(len(self._entries))
            self._entries = None

    def _dots(self) -> list[Entry]:
        inode = self.inode
        parent = self.path.parent_inode() if self.path is not None else inode
        return [(b".", inode.ino, DT_DIR), (b"..", parent.ino, DT_DIR)]

    def try_read(self, count: int) -> bytes | None:
        raise EISDIR

    def try_write(self, data: bytes | memoryview) -> int | None:
        raise EBADF

    def try_pread(self, count: int, offset: int) -> bytes | None:
        raise EISDIR

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int | None:
        raise EBADF

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise EINVAL
        if offset < 0:
            raise EINVAL
        if offset == 0:
            self._forget()
        self.pos = offset
        return offset

    def fsync(self, datasync: bool) -> None:
        self.inode.fsync()

    def release(self) -> None:
        self._forget()
        file_event(self, IN_CLOSE_NOWRITE)


class RegularFile(File):
    """An open regular file: everything goes through the page cache of its inode."""

    __slots__ = ()

    def __init__(self, inode: Inode, flags: int, path: Path | None = None) -> None:
        super().__init__(inode, flags, path)
        inode.opens += 1
        if self.writable:
            inode.writers += 1

    @property
    def page_cache(self) -> PageCache:  # type: ignore[override]
        cache = self.inode.page_cache
        assert cache is not None
        return cache

    def release(self) -> None:
        inode = self.inode
        file_event(self, IN_CLOSE_WRITE if self.writable else IN_CLOSE_NOWRITE)
        if self.writable:
            inode.writers -= 1
            cache = inode.page_cache
            if cache is not None and cache.dirty:
                cache.sync()
        _closed(inode)

    def try_read(self, count: int) -> bytes:
        inode = self.inode
        data = inode.page_cache.read(self.pos, count)  # type: ignore[union-attr]
        self.pos += len(data)
        if inode.atime_ns <= inode.mtime_ns:
            self._touch()
        if INSTANCES[0] and data:
            file_event(self, IN_ACCESS)
        return data

    def try_pread(self, count: int, offset: int) -> bytes:
        inode = self.inode
        data = inode.page_cache.read(offset, count)  # type: ignore[union-attr]
        if inode.atime_ns <= inode.mtime_ns:
            self._touch()
        if INSTANCES[0] and data:
            file_event(self, IN_ACCESS)
        return data

    def _touch(self) -> None:
        """The file was read, and its access time is older than its last change."""
        if self.path is not None and not self.flags & O_NOATIME:
            accessed(self.path)

    def try_write(self, data: bytes | memoryview) -> int:
        cache = self.inode.page_cache
        if self.flags & O_APPEND:
            self.pos = cache.size  # type: ignore[union-attr]
        done = self._store(data, self.pos)
        self.pos += done
        return done

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int:
        if self.flags & O_APPEND:  # pwrite(2), BUGS: Linux appends whatever the offset
            offset = self.inode.page_cache.size  # type: ignore[union-attr]
        return self._store(data, offset)

    def _store(self, data: bytes | memoryview, offset: int) -> int:
        inode = self.inode
        if not data:
            return 0
        if offset + len(data) > MAX_FILE_SIZE:
            if offset >= MAX_FILE_SIZE:
                raise EFBIG
            data = data[: MAX_FILE_SIZE - offset]
        if inode.seals > 0:
            data = _unsealed(inode, data, offset)
        done = inode.store(offset, data)
        inode.mtime_ns = inode.ctime_ns = inode.sb.now()
        file_event(self, IN_MODIFY)
        return done

    def seek(self, offset: int, whence: int) -> int:
        cache = self.page_cache
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence == SEEK_END:
            offset += cache.size
        elif whence in (SEEK_DATA, SEEK_HOLE):
            if not 0 <= offset < cache.size:
                raise ENXIO
            offset = next_data(self.inode, cache, offset) if whence == SEEK_DATA else next_hole(self.inode, cache, offset)
        elif whence != SEEK_SET:
            raise EINVAL
        if not 0 <= offset <= MAX_FILE_SIZE:
            raise EINVAL
        self.pos = offset
        return offset

    def fsync(self, datasync: bool) -> None:
        self.inode.fsync()


class StrictFile(RegularFile):
    """An open regular file on a mount with strictatime: each read moves the access time."""

    __slots__ = ()

    def try_read(self, count: int) -> bytes:
        self._touch()
        return super().try_read(count)

    def try_pread(self, count: int, offset: int) -> bytes:
        self._touch()
        return super().try_pread(count, offset)


def open_regular(inode: Inode, flags: int, path: Path) -> RegularFile:
    """What open(2) of a regular file with a page cache makes."""
    return (StrictFile if path.mount.flags & MS_STRICTATIME else RegularFile)(inode, flags, path)


def _closed(inode: Inode) -> None:
    inode.opens -= 1
    if inode.nlink == 0 and inode.opens == 0 and inode.mode & S_IFMT != S_IFDIR:
        event(inode, IN_DELETE_SELF)
        inode.evict()


def _unsealed(inode: Inode, data: bytes | memoryview, offset: int) -> bytes | memoryview:
    if inode.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
        raise EPERM("sealed against writing")
    size = inode.page_cache.size  # type: ignore[union-attr]
    if inode.seals & F_SEAL_GROW and offset + len(data) > size:
        if offset >= size:
            raise EPERM("sealed against growing")
        return data[: size - offset]
    return data
