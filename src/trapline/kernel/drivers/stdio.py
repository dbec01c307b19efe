"""What can stand behind the first program's descriptors 0, 1 and 2, and the files that the program sees.

A `Stream` is a source or a sink of bytes outside the guest: a host descriptor (`hostio`), a buffer, a Python function. To the
guest it looks like a pipe, unless the host's descriptor is something else.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EACCES, EBADF, ENOTTY, ESPIPE
from trapline.abi.fcntl import O_ACCMODE, O_RDONLY, O_WRONLY
from trapline.abi.ioctl import FIONREAD
from trapline.abi.poll import POLL_IN, POLL_OUT
from trapline.abi.stat import S_IFIFO
from trapline.kernel.fs.inode import AnonInode
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.superblock import SuperBlock


NOTHING, CLOSED = -1, -2  #: in place of a host descriptor: /dev/null; no descriptor at all


class Stream:
    """One end of the world outside. `mode` is what fstat(2) shows; a result of None means "would block"."""

    mode = S_IFIFO | 0o600
    rdev = 0
    readable = False
    writable = False
    name = b""  #: what /proc/PID/fd shows; b"": like a pipe

    def __init__(self) -> None:
        self.queue = WaitQueue()

    def read(self, count: int) -> bytes | None:
        return b""

    def write(self, data: bytes | memoryview) -> int | None:
        raise EBADF

    def pread(self, count: int, offset: int) -> bytes:
        raise ESPIPE

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        raise ESPIPE

    def seek(self, offset: int, whence: int) -> int:
        raise ESPIPE

    def poll(self) -> int:
        return (POLL_IN if self.readable else 0) | (POLL_OUT if self.writable else 0)

    def available(self) -> int:
        """Bytes that can be read now."""
        return 0

    def attributes(self) -> tuple[int, int] | None:
        """(size, mtime_ns) of a regular file."""
        return None

    def truncate(self, size: int) -> None:
        """Make a regular file `size` bytes long; nothing for the rest."""

    def sync(self) -> None:
        """fsync(2)."""

    def close(self) -> None:
        """The kernel ends."""


class BufferIn(Stream):
    """Input from bytes."""

    readable = True

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = memoryview(data)

    def read(self, count: int) -> bytes:
        data = bytes(self._data[:count])
        self._data = self._data[count:]
        return data

    def available(self) -> int:
        return len(self._data)


class BufferOut(Stream):
    """Output kept in memory, up to `limit` bytes; what goes beyond is dropped and `overflowed` says so."""

    writable = True

    def __init__(self, limit: int = 64 << 20) -> None:
        super().__init__()
        self.limit = limit
        self.data = bytearray()
        self.overflowed = False

    def write(self, data: bytes | memoryview) -> int:
        room = self.limit - len(self.data)
        if len(data) > room:
            self.overflowed = True
        self.data += data[: max(0, room)]
        return len(data)

    def getvalue(self) -> bytes:
        return bytes(self.data)


class CallIn(Stream):
    """Input from a function of the wanted count; b"" is the end. It is called when the program reads, and may take its time."""

    readable = True

    def __init__(self, function: Callable[[int], bytes]) -> None:
        super().__init__()
        self._function = function
        self._rest = b""

    def read(self, count: int) -> bytes:
        data = self._rest or bytes(self._function(count))
        self._rest = data[count:]
        return data[:count]

    def available(self) -> int:
        return len(self._rest)


class CallOut(Stream):
    """Output to a function, called with the bytes of each write."""

    writable = True

    def __init__(self, function: Callable[[bytes], object]) -> None:
        super().__init__()
        self._function = function

    def write(self, data: bytes | memoryview) -> int:
        self._function(bytes(data))
        return len(data)


class StreamInode(AnonInode):
    """The inode of a stream. Opening it again (/dev/stdout) gives another file on the same stream."""

    __slots__ = ("stream",)

    live = True

    def __init__(self, sb: SuperBlock, stream: Stream, uid: int = 0, gid: int = 0) -> None:
        super().__init__(sb, stream.mode, stream.name, uid, gid)
        self.rdev = stream.rdev
        self.stream = stream

    def open(self, path: Path, flags: int, task: Any) -> StreamFile:
        access = flags & O_ACCMODE
        if (access != O_WRONLY and not self.stream.readable) or (access != O_RDONLY and not self.stream.writable):
            raise EACCES
        return StreamFile(self, flags)

    def refresh(self) -> None:
        attributes = self.stream.attributes()
        if attributes is not None:
            self.size, self.mtime_ns = attributes

    def truncate(self, size: int) -> None:
        self.stream.truncate(size)

    def fsync(self) -> None:
        self.stream.sync()


class StreamFile(SpecialFile):
    """An open stream. The position, where there is one, is the host's."""

    __slots__ = ("stream",)

    def __init__(self, inode: StreamInode, flags: int) -> None:
        super().__init__(inode, flags)
        self.stream = inode.stream

    def try_read(self, count: int) -> bytes | None:
        return self.stream.read(count) if count else b""

    def try_write(self, data: bytes | memoryview) -> int | None:
        return self.stream.write(data) if data else 0

    def try_pread(self, count: int, offset: int) -> bytes | None:
        return self.stream.pread(count, offset)

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int | None:
        return self.stream.pwrite(data, offset)

    def seek(self, offset: int, whence: int) -> int:
        return self.stream.seek(offset, whence)

    def poll(self) -> int:
        return self.stream.poll()

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.stream.queue,)

    def fsync(self, datasync: bool) -> None:
        self.stream.sync()

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        if cmd != FIONREAD:
            raise ENOTTY
        task.mm.write_u32(arg, self.stream.available())
        return 0
