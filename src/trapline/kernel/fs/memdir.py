"""Directories that live in the kernel's memory: names, and every change to them.

Invariants:
- `names` holds the entries (for overlay, None is a whiteout);
- `nlink` is 2 plus the subdirectories, 0 once the directory is removed.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import ENOENT, ENOTEMPTY
from trapline.abi.fcntl import RENAME_EXCHANGE, RENAME_WHITEOUT
from trapline.abi.stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs.file import DirectoryFile, File
from trapline.kernel.fs.inode import Entry, Inode, inherit
from trapline.kernel.fs.memory import MemFile, MemInode, MemLink, MemNode, MemorySuperBlock

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path

ENTRY_SIZE = 20  #: what an entry adds to the size of a directory, as tmpfs has it


class MemDir(MemInode):
    """A directory. `take_entry`, `touch` and `count_subdir` are what overlay overrides."""

    __slots__ = ("names",)

    def __init__(self, sb: MemorySuperBlock, mode: int, uid: int, gid: int, *, ino: int = 0) -> None:
        super().__init__(sb, mode, uid, gid, ino=ino)
        self.names: dict[bytes, MemInode | None] = {}
        self.nlink = 2

    def open(self, path: Path, flags: int, task: Any) -> File:
        return DirectoryFile(self, flags, path)

    def lookup(self, name: bytes) -> MemInode:
        inode = self.names.get(name)
        if inode is None:
            raise ENOENT
        return inode

    def entries(self) -> list[Entry]:
        return [(name, each.ino, each.mode >> 12) for name, each in self.names.items() if each is not None]

    def empty(self) -> bool:
        return not self.names

    # ---- changing entries

    def put_entry(self, name: bytes, inode: MemInode) -> None:
        self.names[name] = inode
        self.touch()

    def take_entry(self, name: bytes) -> None:
        del self.names[name]
        self.touch()

    def touch(self) -> None:
        self.mtime_ns = self.ctime_ns = self.sb.now()
        self.size = ENTRY_SIZE * len(self.names)

    def count_subdir(self, change: int) -> None:
        self.nlink += change

    def make(self, mode: int, creds: Any, rdev: int = 0) -> MemInode:
        """A new inode of any type but a link, as `creds` would make it here."""
        mode, uid, gid = inherit(self, mode, creds)
        self.sb.charge_inode()
        kind = mode & S_IFMT
        made: MemInode
        if kind == S_IFREG:
            made = MemFile(self.sb, mode, uid, gid)
        elif kind == S_IFDIR:
            made = MemDir(self.sb, mode, uid, gid)
        else:
            made = MemNode(self.sb, mode, uid, gid, rdev=rdev)
        if self.default_acl is not None:
            made.inherit_lists(self)
        return made

    def create(self, name: bytes, mode: int, creds: Any, rdev: int = 0) -> MemInode:
        self.changing()
        inode = self.make(mode, creds, rdev)
        self.put_entry(name, inode)
        return inode

    def tmpfile(self, mode: int, creds: Any) -> MemInode:
        return self.make(mode, creds)

    def mkdir(self, name: bytes, mode: int, creds: Any) -> MemInode:
        self.changing()
        inode = self.make(S_IFDIR | mode, creds)
        self.count_subdir(1)
        self.put_entry(name, inode)
        return inode

    def symlink(self, name: bytes, target: bytes, creds: Any) -> MemInode:
        self.changing()
        _, uid, gid = inherit(self, S_IFLNK, creds)
        self.sb.charge_inode()
        inode = MemLink(self.sb, target, uid, gid)
        self.put_entry(name, inode)
        return inode

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, MemInode)
        self.changing()
        inode.changing()
        if inode.nlink:  # the first name of an O_TMPFILE file is paid for, by the file
            self.sb.charge_inode()
            inode.linked += 1
        inode.nlink += 1
        inode.ctime_ns = self.sb.now()
        self.put_entry(name, inode)

    def unlink(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, MemInode)
        self.changing()
        inode.changing()
        self.take_entry(name)
        inode.unlinked()

    def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, MemDir)
        if not inode.empty():
            raise ENOTEMPTY
        self.changing()
        inode.changing()
        self.take_entry(name)
        self.count_subdir(-1)
        inode.nlink = 0
        inode.evict()

    def rename(self, name: bytes, to: Inode, to_name: bytes, flags: int, creds: Any) -> None:
        assert isinstance(to, MemDir)
        inode = self.lookup(name)
        try:
            replaced: MemInode | None = to.lookup(to_name)
        except ENOENT:
            replaced = None
        if replaced is not None and not flags & RENAME_EXCHANGE and isinstance(replaced, MemDir) and not replaced.empty():
            raise ENOTEMPTY
        whiteout = self.make(S_IFCHR, creds) if flags & RENAME_WHITEOUT else None
        for each in (self, to, inode, replaced):
            if each is not None:
                each.changing()
        if flags & RENAME_EXCHANGE and replaced is not None:
            self._exchange(name, inode, to, to_name, replaced)
            return
        self.take_entry(name)
        if isinstance(inode, MemDir):
            self.count_subdir(-1)
            to.count_subdir(1)
        if replaced is not None:
            self._replaced(to, to_name, replaced)
        to.put_entry(to_name, inode)
        if whiteout is not None:
            self.put_entry(name, whiteout)
        inode.ctime_ns = self.sb.now()

    def _replaced(self, to: MemDir, to_name: bytes, replaced: MemInode) -> None:
        to.take_entry(to_name)
        if isinstance(replaced, MemDir):
            to.count_subdir(-1)
            replaced.nlink = 0
        else:
            replaced.unlinked()

    def _exchange(self, name: bytes, inode: MemInode, to: MemDir, to_name: bytes, other: MemInode) -> None:
        self.put_entry(name, other)
        to.put_entry(to_name, inode)
        moved = isinstance(inode, MemDir) - isinstance(other, MemDir)
        self.count_subdir(-moved)
        to.count_subdir(moved)
        inode.ctime_ns = other.ctime_ns = self.sb.now()
