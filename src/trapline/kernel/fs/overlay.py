"""overlay: a tree that is only read (the lower layer) under an upper layer in memory.

An inode of the overlay stands for one inode of the lower tree until it is changed; then it is *upper*: the directories
above hold it in `names`, and what it says counts. The data of a file is shared with the lower page cache until somebody opens
it for writing; then it gets a cache of its own, whose pages are read from the lower file when they are first needed. A
removed name leaves a whiteout (None in `names`). A directory can be renamed: it takes its lower directory along.

Invariants:
- while an overlay inode is alive there is one for each lower inode, so hard links stay together;
- if an inode is upper, so is the directory it was found in, up to the root;
- nothing ever writes to the lower tree.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from trapline.abi.errno import ENOENT, ENXIO, Errno
from trapline.abi.fcntl import O_ACCMODE, O_RDONLY
from trapline.abi.mount import OVERLAYFS_MAGIC
from trapline.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs.file import File, open_regular
from trapline.kernel.fs.memdir import MemDir
from trapline.kernel.fs.memory import XATTR_OVERHEAD, MemFile, MemInode, MemLink, MemNode, MemorySuperBlock
from trapline.kernel.mm.page_cache import PageCache

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.fs.inode import Entry, Inode
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.vfs import Vfs

_INO_BITS = 48


class OverlayFs(MemorySuperBlock):
    """One overlay over the inode tree `lower`. Limits as for tmpfs; they count the upper layer only."""

    __slots__ = ("_layers", "lower", "pinned", "wrapped")

    has_extents = True
    zeroes = True

    def __init__(self, vfs: Vfs, lower: Inode, *, max_pages: int = -1, max_inodes: int = -1) -> None:
        half = vfs.ram.frames.limit_pages // 2
        super().__init__(
            vfs, b"overlay", OVERLAYFS_MAGIC, half if max_pages < 0 else max_pages, half if max_inodes < 0 else max_inodes
        )
        self.lower = lower
        self.wrapped: WeakValueDictionary[Inode, MemInode] = WeakValueDictionary()  # by lower inode
        self.pinned: dict[Inode, MemInode] = {}  # the same, of upper ones: they must not be forgotten
        self._layers: dict[object, int] = {}
        self.next_ino = count(1 << 10).__next__
        root = OverlayDir(self, lower, None, b"")
        root.upper = True
        self.pinned[lower] = self.wrapped[lower] = root
        self.root = root

    def ino(self, layer: object, ino: int) -> int:
        """An inode number for number `ino` of a lower file system: the same each time, and no other's."""
        index = self._layers.setdefault(layer, len(self._layers) + 1)
        return (ino & (1 << _INO_BITS) - 1) | index << _INO_BITS

    def wrap(self, lower: Inode, parent: OverlayDir, name: bytes) -> MemInode:
        """The overlay's inode for a lower one, which `parent` has under `name`."""
        found = self.wrapped.get(lower)
        if found is None:
            kind = lower.mode & S_IFMT
            found = _CLASSES.get(kind, OverlayNode)(self, lower, parent, name)
            self.wrapped[lower] = found
        return found


class Layered(MemInode):
    """What the overlay's inodes with a lower inode have in common. `parent` and `name`: where it was first found."""

    if not TYPE_CHECKING:  # each subclass has the slots: two bases with slots cannot be combined
        __slots__ = ()

    lower: Inode
    upper: bool
    parent: OverlayDir | None
    name: bytes
    sb: OverlayFs

    def adopt(self, lower: Inode, parent: OverlayDir | None, name: bytes) -> None:
        """Start as what `lower` is."""
        self.lower = lower
        self.parent = parent
        self.name = name
        self.upper = False
        self.nlink = lower.nlink
        self.size = lower.size
        self.atime_ns = lower.atime_ns
        self.mtime_ns = lower.mtime_ns
        self.ctime_ns = lower.ctime_ns
        self.btime_ns = lower.btime_ns
        if isinstance(lower, MemInode):
            self.acl, self.default_acl = lower.acl, lower.default_acl

    def _read_xattrs(self) -> None:
        """Have the lower file's attributes, as the inode begins with them; looked at when somebody asks."""
        if self.xattrs is None:
            lower = self.lower
            with suppress(Errno):
                self.xattrs = {name: lower.getxattr(name) for name in lower.listxattr()}
            self.xattrs = self.xattrs or {}
            self.sb.xattr_bytes += sum(XATTR_OVERHEAD + len(name) + len(value) for name, value in self.xattrs.items())

    def getxattr(self, name: bytes) -> bytes:
        self._read_xattrs()
        return super().getxattr(name)

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        self._read_xattrs()
        super().setxattr(name, value, flags)

    def listxattr(self) -> list[bytes]:
        self._read_xattrs()
        return super().listxattr()

    def keep_list(self, name: bytes, checked: bytes | None) -> None:
        self._read_xattrs()
        super().keep_list(name, checked)

    def changing(self) -> None:
        """The inode becomes upper, if it is not yet."""
        if self.upper:
            return
        sb = self.sb
        sb.charge_inode()
        self.pin()

    def pin(self) -> None:
        self.upper = True
        self.sb.pinned[self.lower] = self
        parent, self.parent = self.parent, None
        if parent is not None:
            parent.names[self.name] = self
            if not parent.upper:
                self.sb.used_inodes += 1
                parent.pin()

    def dropped(self) -> None:
        """No name is left."""
        self.sb.pinned.pop(self.lower, None)


class OverlayDir(Layered, MemDir):
    """A directory merged from its `names` and the lower one."""

    __slots__ = ("lower", "name", "parent", "upper")

    sb: OverlayFs

    def __init__(self, sb: OverlayFs, lower: Inode, parent: OverlayDir | None, name: bytes) -> None:
        super().__init__(sb, lower.mode, lower.uid, lower.gid, ino=_ino(sb, lower))
        self.adopt(lower, parent, name)
        self.nlink = 1  # as for merged directories on Linux: subdirectories are not counted

    def lookup(self, name: bytes) -> MemInode:
        names = self.names
        if name in names:
            inode = names[name]
            if inode is None:
                raise ENOENT
            return inode
        inode = self.sb.wrap(self.lower.lookup(name), self, name)
        if isinstance(inode, Layered) and inode.upper:  # changed under another of its names
            if not self.upper:
                self.sb.used_inodes += 1
                self.pin()
            names[name] = inode
        return inode

    def entries(self) -> list[Entry]:
        names = self.names
        layer, number = _layer(self.lower), self.sb.ino
        merged = [(name, number(layer, ino), kind) for name, ino, kind in self.lower.entries() if name not in names]
        return merged + super().entries()

    def empty(self) -> bool:
        names = self.names
        return all(each is None for each in names.values()) and all(each[0] in names for each in self.lower.entries())

    def has_lower(self, name: bytes) -> bool:
        try:
            self.lower.lookup(name)
        except ENOENT:
            return False
        return True

    def take_entry(self, name: bytes) -> None:
        if self.has_lower(name):
            self.names[name] = None
        else:
            self.names.pop(name, None)
        self.touch()

    def touch(self) -> None:
        self.mtime_ns = self.ctime_ns = self.sb.now()

    def count_subdir(self, change: int) -> None:
        return None

    def evict(self) -> None:
        self.dropped()
        super().evict()


class OverlayFile(Layered, MemFile):
    """A regular file. `own`: its data was copied up, into a page cache of its own."""

    __slots__ = ("lower", "name", "own", "parent", "upper")

    sb: OverlayFs

    def __init__(self, sb: OverlayFs, lower: Inode, parent: OverlayDir | None, name: bytes) -> None:
        super().__init__(sb, lower.mode, lower.uid, lower.gid, ino=_ino(sb, lower), cached=False)
        self.own = False
        self.adopt(lower, parent, name)

    def open(self, path: Path, flags: int, task: Any) -> File:
        if flags & O_ACCMODE != O_RDONLY:
            self.copy_up()
        elif self.page_cache is None:
            self.page_cache = self.lower.cache()
        return open_regular(self, flags, path)

    def cache(self) -> PageCache | None:
        if self.page_cache is None:
            self.page_cache = self.lower.cache()
        return self.page_cache

    def copy_up(self, limit: int | None = None) -> None:
        """Give the file data of its own: the lower's (only the first `limit` bytes), read when it is needed."""
        if self.own:
            return
        self.changing()
        if limit != 0:
            self.lower.cache()  # an unreadable lower file must fail now
        keep = self.size if limit is None else min(limit, self.size)
        self.own = True
        self.page_cache = PageCache(self.sb.ram, keep, self.lower.load)

    def truncate(self, size: int) -> None:
        self.copy_up(size)
        super().truncate(size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        self.copy_up()
        super().allocate(mode, offset, length)

    def seek_behind(self, offset: int, hole: bool) -> int | None:
        return self.lower.seek_behind(offset, hole)

    def blocks(self) -> int:
        return super().blocks() if self.own else self.lower.blocks()

    def owns_cache(self) -> bool:
        return self.own

    def evict(self) -> None:
        self.dropped()
        super().evict()


class OverlayLink(Layered, MemLink):
    """A symbolic link."""

    __slots__ = ("lower", "name", "parent", "upper")

    sb: OverlayFs

    def __init__(self, sb: OverlayFs, lower: Inode, parent: OverlayDir | None, name: bytes) -> None:
        super().__init__(sb, lower.readlink(), lower.uid, lower.gid, ino=_ino(sb, lower))
        self.adopt(lower, parent, name)

    def evict(self) -> None:
        self.dropped()
        super().evict()


class OverlayNode(Layered, MemNode):
    """A FIFO, socket or device node of the lower tree; the host's own cannot be opened."""

    __slots__ = ("lower", "name", "parent", "upper")

    sb: OverlayFs

    def __init__(self, sb: OverlayFs, lower: Inode, parent: OverlayDir | None, name: bytes) -> None:
        super().__init__(sb, lower.mode, lower.uid, lower.gid, ino=_ino(sb, lower), rdev=lower.rdev)
        self.adopt(lower, parent, name)

    def open(self, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
        if self.lower.foreign:
            raise ENXIO
        return super().open(path, flags, task)

    def evict(self) -> None:
        self.dropped()
        super().evict()


_CLASSES: dict[int, type[OverlayDir | OverlayFile | OverlayLink]] = {
    S_IFDIR: OverlayDir,
    S_IFREG: OverlayFile,
    S_IFLNK: OverlayLink,
}


def _layer(lower: Inode) -> object:
    """Which numbering an inode's number belongs to."""
    device = getattr(lower, "host_dev", None)
    return lower.sb if device is None else device


def _ino(sb: OverlayFs, lower: Inode) -> int:
    return sb.ino(_layer(lower), lower.ino)
