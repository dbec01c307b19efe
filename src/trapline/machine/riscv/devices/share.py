"""Share: a tree of files as the device that hands it to a guest sees it; who has the files, and how, is another's business.

A path is the names that lead to a file from the tree's root, (); nobody follows symbolic links.
"""

from __future__ import annotations

from trapline.typed import NamedTuple, Protocol

Path = tuple[bytes, ...]


class ShareError(Exception):
    """A request failed; `errno` is what the client gets."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Attributes(NamedTuple):
    """What a file is, as stat(2) has it."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_rdev: int
    st_blksize: int
    st_blocks: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int


class File(Protocol):
    """An open regular file."""

    def read(self, offset: int, count: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> int: ...

    def stat(self) -> Attributes: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Share(Protocol):
    """A directory tree. Everything raises ShareError; paths are never followed through symbolic links."""

    read_only: bool

    def stat(self, path: Path) -> Attributes: ...

    def open(self, path: Path, flags: int) -> File: ...

    def create(self, path: Path, flags: int, mode: int) -> File: ...

    def entries(self, path: Path) -> list[tuple[bytes, int, int]]:
        """(name, inode number, type as in a directory entry), without . and .."""

    def readlink(self, path: Path) -> bytes: ...

    def symlink(self, path: Path, target: bytes) -> None: ...

    def link(self, path: Path, old: Path) -> None: ...

    def mkdir(self, path: Path, mode: int) -> None: ...

    def unlink(self, path: Path, *, directory: bool) -> None: ...

    def rename(self, old: Path, new: Path) -> None: ...

    def chmod(self, path: Path, mode: int) -> None: ...

    def chown(self, path: Path, uid: int, gid: int) -> None: ...

    def truncate(self, path: Path, size: int) -> None: ...

    def utime(self, path: Path, atime_ns: int | None, mtime_ns: int | None) -> None:
        """None: now."""

    def statfs(self) -> tuple[int, int, int, int, int, int]:
        """Block size, blocks, free, available; inodes, free."""
