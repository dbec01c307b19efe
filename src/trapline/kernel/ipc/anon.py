"""Files that live in no directory: eventfd, epoll, timerfd, ... share the kernel's anonymous file system."""

from __future__ import annotations

from trapline.typed import Any

from trapline.abi.fcntl import O_RDWR
from trapline.kernel.fs.inode import AnonInode
from trapline.kernel.fs.special import SpecialFile


class AnonFile(SpecialFile):
    """An open file named "anon_inode:[kind]"; `kind` is the subclass's."""

    __slots__ = ("kernel",)

    kind = b"[file]"

    def __init__(self, kernel: Any, flags: int = O_RDWR) -> None:
        super().__init__(AnonInode(kernel.vfs.anon_sb, 0o600, b"anon_inode:" + self.kind), flags)
        self.kernel = kernel

    def seek(self, offset: int, whence: int) -> int:
        """There is nowhere to go, which is no error: lseek(2) of eventfd and its kin."""
        return 0
