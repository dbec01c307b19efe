"""The memory devices: null(4), zero, full(4), random(4), urandom. Any file system may hold their nodes.

Reads of zeros are served from one constant, so their size costs the kernel no more than one transfer at a time.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import ENODEV, ENOSPC, ENOTTY, EPERM
from trapline.abi.ioctl import (
    RNDADDENTROPY,
    RNDADDTOENTCNT,
    RNDCLEARPOOL,
    RNDGETENTCNT,
    RNDRESEEDCRNG,
    RNDZAPENTCNT,
)
from trapline.kernel.fs.devices import register_chardev
from trapline.kernel.fs.file import File
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

MOST = 1 << 20  #: bytes of one transfer
CAP_SYS_ADMIN = 21
ENTROPY_BITS = 256
_ZEROS = bytes(MOST)
_NEVER = WaitQueue()


class NullFile(File):
    """/dev/null: always at its end, swallows everything."""

    __slots__ = ()

    def try_read(self, count: int) -> bytes:
        return b""

    def try_pread(self, count: int, offset: int) -> bytes:
        return self.try_read(count)

    def try_write(self, data: bytes | memoryview) -> int:
        return len(data)

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int:
        return self.try_write(data)

    def seek(self, offset: int, whence: int) -> int:
        self.pos = 0
        return 0


class ZeroFile(NullFile):
    """/dev/zero: zeros without end. mmap(2) of it is anonymous memory."""

    __slots__ = ()

    maps_zero = True

    def try_read(self, count: int) -> bytes:
        return _ZEROS if count >= MOST else _ZEROS[:count]


class FullFile(ZeroFile):
    """/dev/full: zeros without end, and never any room."""

    __slots__ = ()

    maps_zero = False

    def try_write(self, data: bytes | memoryview) -> int:
        raise ENOSPC


class RandomFile(SpecialFile):
    """/dev/random and /dev/urandom: the kernel's random numbers, which are ready from the start."""

    __slots__ = ("kernel",)

    def __init__(self, kernel: Any, inode: Inode, flags: int, path: Path | None) -> None:
        super().__init__(inode, flags, path)
        self.kernel = kernel

    def try_read(self, count: int) -> bytes:
        data: bytes = self.kernel.random(min(count, MOST)) if count else b""
        return data

    def try_pread(self, count: int, offset: int) -> bytes:
        return self.try_read(count)

    def try_write(self, data: bytes | memoryview) -> int:
        """Accepted, and not mixed in: user code has no say in the kernel's numbers."""
        return len(data)

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int:
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        return 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (_NEVER,)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        if cmd == RNDGETENTCNT:
            task.mm.write_u32(arg, ENTROPY_BITS)
            return 0
        if cmd in (RNDADDTOENTCNT, RNDADDENTROPY, RNDZAPENTCNT, RNDCLEARPOOL, RNDRESEEDCRNG):
            if not task.creds.has_cap(CAP_SYS_ADMIN):
                raise EPERM
            return 0
        raise ENOTTY


def _simple(kind: type[File]) -> Any:
    def opener(inode: Inode, path: Path, flags: int, task: Any) -> File:
        return kind(inode, flags, path)

    return opener


def _with_kernel(kind: Any) -> Any:
    def opener(inode: Inode, path: Path, flags: int, task: Any) -> File:
        if task is None:
            raise ENODEV
        file: File = kind(task.kernel, inode, flags, path)
        return file

    return opener


register_chardev(1, 3, _simple(NullFile))
register_chardev(1, 5, _simple(ZeroFile))
register_chardev(1, 7, _simple(FullFile))
register_chardev(1, 8, _with_kernel(RandomFile))
register_chardev(1, 9, _with_kernel(RandomFile))
