"""SuperBlock: one instance of a file system: its device number, its clock, its free space.

A file system implementation subclasses it, or uses it as it is. `vfs` may be None in tests.
"""

from __future__ import annotations

from itertools import count
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.abi.errno import EINVAL
from trapline.abi.stat import makedev

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.vfs import Vfs


class StatFs(NamedTuple):
    """What statfs(2) says of a file system; sizes in blocks of `bsize`."""

    magic: int
    bsize: int = 4096
    blocks: int = 0
    bfree: int = 0
    files: int = 0
    ffree: int = 0
    namelen: int = 255


def _epoch() -> int:
    return 0


class SuperBlock:
    """`fstype` as /proc/mounts shows it; `magic` as statfs(2) does."""

    __slots__ = (
        "__weakref__", "block_size", "dev", "fstype", "hung", "magic", "next_ino", "now", "options", "read_only", "root",
        "vfs", "watched",
    )  # fmt: skip

    root: Inode
    has_extents = False  #: its regular files say where their data lies: FS_IOC_FIEMAP of ioctl(2)

    def __init__(self, vfs: Vfs | None, fstype: bytes, magic: int = 0, *, read_only: bool = False) -> None:
        self.vfs = vfs
        self.fstype = fstype
        self.magic = magic
        self.read_only = read_only
        self.block_size = 4096
        self.hung = 0  #: how many of its mounts hang on another
        self.watched: set[Inode] = set()  #: the inodes somebody watches: inotify(7)
        self.options = b""  #: what /proc/mounts prints after rw or ro, with a leading comma
        self.dev = vfs.alloc_dev() if vfs is not None else makedev(0, 1)
        self.now = _epoch  #: -> realtime, ns
        if vfs is not None:
            vfs.add_superblock(self)
        self.next_ino = count(1).__next__

    def statfs(self) -> StatFs:
        return StatFs(self.magic)

    def unmounted(self) -> None:
        """The last mount of it left the tree; open files may still use it."""

    def reconfigure(self, options: dict[bytes, bytes]) -> None:
        """Change options of a file system that is in use; raises EINVAL, having changed nothing."""
        if options:
            raise EINVAL(f"{self.fstype!r} has no options to change")

    def export(self, inode: Inode) -> tuple[int, bytes] | None:
        """(type, name) of a file for name_to_handle_at(2); None if its files cannot be found again."""
        return None

    def find(self, kind: int, name: bytes) -> Inode | None:
        """The file that `export` named so, if it is there."""
        return None

    def sync(self) -> None:
        """Write everything back: syncfs(2)."""
