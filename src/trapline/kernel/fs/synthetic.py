"""Inodes that are made, not stored: directories from a table, files whose text is generated when they are opened, links.

proc, sys, dev and the lower layer of the default root are built from these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EINVAL, ENOENT, ENOMEM
from trapline.abi.fcntl import SEEK_CUR, SEEK_END, SEEK_SET
from trapline.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs.devices import open_special
from trapline.kernel.fs.file import DirectoryFile, File
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.sync.budget import Budgets

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.superblock import SuperBlock

TEXTS = Budgets(256, 16 << 20)  #: bytes that the open generated files of a kernel hold
Child = Inode | Callable[[], Inode]  #: a callable is asked once, when the name is first looked up; it may raise ENOENT


class SynthDir(Inode):
    """A directory with a fixed table of children. Subclasses may override `lookup` and `entries` instead."""

    __slots__ = ("children",)

    def __init__(
        self, sb: SuperBlock, children: Mapping[bytes, Child] | None = None, mode: int = 0o555, uid: int = 0, gid: int = 0,
        *, ino: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(sb, S_IFDIR | mode, uid, gid, ino=ino)
        self.children: dict[bytes, Child] = dict(children or {})
        self.nlink = 2

    def lookup(self, name: bytes) -> Inode:
        child = self.children.get(name)
        if child is None:
            raise ENOENT
        if not isinstance(child, Inode):
            child = self.children[name] = child()
        return child

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        for name in list(self.children):
            try:
                inode = self.lookup(name)
            except ENOENT:
                continue
            found.append((name, inode.ino, inode.mode >> 12))
        return found

    def open(self, path: Path, flags: int, task: Any) -> File:
        return DirectoryFile(self, flags, path)


class SynthLink(Inode):
    """A symbolic link. For a magic link, subclass it and define `follow(task) -> Path`."""

    __slots__ = ("target",)

    def __init__(self, sb: SuperBlock, target: bytes | Callable[[], bytes], *, ino: int = 0) -> None:
        super().__init__(sb, S_IFLNK | 0o777, ino=ino)
        self.target = target

    def readlink(self) -> bytes:
        return self.target if isinstance(self.target, bytes) else self.target()


class SynthNode(Inode):
    """A device node, FIFO or socket node."""

    __slots__ = ()

    def open(self, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
        return open_special(self, path, flags, task)


class SynthFile(Inode):
    """A regular file of size 0 whose text `generate()` makes at the first read of each open; `store` takes what is written.

    `store(data)` gets the bytes of each write(2) whole, and raises an errno for nonsense. Without it, the mode lacks write
    permission and even root's writes fail with EINVAL.
    """

    __slots__ = ("generate", "write")

    def __init__(
        self, sb: SuperBlock, generate: Callable[[], bytes], mode: int = 0o444, uid: int = 0, gid: int = 0, *,
        store: Callable[[bytes], None] | None = None, ino: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(sb, S_IFREG | mode, uid, gid, ino=ino)
        self.generate = generate
        self.write = store

    def open(self, path: Path, flags: int, task: Any) -> File:
        return SynthOpenFile(self, flags, path)

    def truncate(self, size: int) -> None:
        """Accepted and ignored: shells open such files with O_TRUNC."""
        if self.mode & S_IFMT != S_IFREG:
            raise EINVAL


class SynthOpenFile(File):
    """An open SynthFile: the text is a snapshot, made when reading starts at 0; all of a kernel's are in a budget."""

    __slots__ = ("_text",)

    def __init__(self, inode: SynthFile, flags: int, path: Path | None = None) -> None:
        super().__init__(inode, flags, path)
        self._text: bytes | None = None

    def _content(self, offset: int) -> bytes:
        if self._text is None or offset == 0:
            inode = self.inode
            assert isinstance(inode, SynthFile)
            self._forget()
            text = inode.generate()
            if not TEXTS.of(inode.sb.vfs).take(len(text)):
                raise ENOMEM("open files hold too much text")
            self._text = text
        return self._text

    def _forget(self) -> None:
        if self._text is not None:
            TEXTS.of(self.inode.sb.vfs).give(len(self._text))
            self._text = None

    def release(self) -> None:
        self._forget()

    def try_read(self, count: int) -> bytes:
        data = self._content(self.pos)[self.pos : self.pos + count]
        self.pos += len(data)
        return data

    def try_pread(self, count: int, offset: int) -> bytes:
        return self._content(offset)[offset : offset + count]

    def try_write(self, data: bytes | memoryview) -> int:
        inode = self.inode
        assert isinstance(inode, SynthFile)
        if inode.write is None:
            raise EINVAL
        inode.write(bytes(data))
        self._forget()
        self.pos += len(data)
        return len(data)

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int:
        pos = self.pos
        try:
            return self.try_write(data)
        finally:
            self.pos = pos

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence == SEEK_END:
            offset += self.inode.size
        elif whence != SEEK_SET:
            raise EINVAL
        if offset < 0:
            raise EINVAL
        self.pos = offset
        return offset
