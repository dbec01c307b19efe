"""Pipes and FIFOs: pipe(7), fifo(7). Measured budget: 1 µs for a small write or read.

A pipe is a queue of chunks. Small writes join the chunk at the tail, as Linux fills the last page, so that what a pipe
costs the kernel stays near its capacity. A packet (O_DIRECT) is a chunk of its own and is charged a whole page.

Invariants:
- `size` is the number of unread bytes, `used` what they are charged; `used` exceeds `capacity` only after `unread`;
- `head` bytes of the first chunk have been read;
- sleepers and listeners are told of every change that may concern them.
"""

from __future__ import annotations

from collections import deque
from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trapline.abi.errno import EBUSY, EINVAL, ENOTTY, ENXIO, EPERM, EPIPE
from trapline.abi.fcntl import O_ACCMODE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY
from trapline.abi.ioctl import FIONREAD
from trapline.abi.poll import POLL_IN, POLL_OUT, POLLERR, POLLHUP, POLLIN, POLLOUT
from trapline.abi.rw import PIPE_BUF
from trapline.abi.stat import S_IFIFO
from trapline.kernel.fs.devices import register_opener
from trapline.kernel.fs.inode import AnonInode
from trapline.kernel.fs.notify import IN_ACCESS, IN_MODIFY, INSTANCES, file_event
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

PAGE = 4096
DEFAULT_SIZE = 16 * PAGE
MIN_SIZE = 2 * PAGE
MAX_SIZE = 1 << 20  #: /proc/sys/fs/pipe-max-size; nobody may go beyond, because the memory is the kernel's
MAX_TOTAL = 16384 * PAGE  #: of all pipes of a kernel; beyond, new pipes get MIN_SIZE (pipe(7), pipe-user-pages-soft)
SMALL = 512  #: chunks shorter than this are joined

_totals: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()


class Packet(bytes):
    """One write in packet mode: read whole or cut, never joined."""

    __slots__ = ()


class Pipe:
    """The buffer between the ends. `total` is the shared count of capacity in this kernel."""

    __slots__ = (
        "can_read", "can_write", "capacity", "chunks", "head", "opened", "packets", "read_opens", "readers", "size",
        "total", "used", "write_opens", "writers",
    )  # fmt: skip

    def __init__(self, kernel: Any = None) -> None:
        self.chunks: deque[bytes | bytearray] = deque()
        self.head = 0
        self.size = 0
        self.used = 0
        self.packets = 0
        self.readers = 0
        self.writers = 0
        self.read_opens = 0  #: how often either end was opened: blocking opens wait for a change
        self.write_opens = 0
        self.can_read = WaitQueue()
        self.can_write = WaitQueue()
        self.opened = WaitQueue()
        self.total = _totals.setdefault(kernel, [0]) if kernel is not None else [0]
        self.capacity = DEFAULT_SIZE if self.total[0] + DEFAULT_SIZE <= MAX_TOTAL else MIN_SIZE
        self.total[0] += self.capacity

    # ---- data

    def put(self, data: bytes | memoryview, packet: bool = False) -> int:
        """Add what fits of `data`, all or nothing up to PIPE_BUF; how many bytes, 0 if the pipe is full."""
        count = len(data)
        room = self.capacity - self.used
        if packet:
            return self._put_packets(data, room)
        if count > room:
            if count <= PIPE_BUF or room <= 0:
                return 0
            count = room
            data = data[:count]
        chunks = self.chunks
        if count < SMALL:
            last = chunks[-1] if chunks else None
            if last.__class__ is bytearray and len(last) + count <= PAGE:
                last += data
            else:
                chunks.append(bytearray(data))
        else:
            chunks.append(bytes(data))
        self.size += count
        self.used += count
        queue = self.can_read
        if queue.waiters or queue.listeners:
            queue.wake_all(POLL_IN)
        return count

    def _put_packets(self, data: bytes | memoryview, room: int) -> int:
        done = 0
        while done < len(data) and room >= PAGE:
            part = Packet(data[done : done + PIPE_BUF])
            self.chunks.append(part)
            self.packets += 1
            self.used += PAGE
            room -= PAGE
            done += len(part)
        self.size += done
        if done:
            self.can_read.wake_all(POLL_IN)
        return done

    def take(self, count: int) -> bytes:
        """Remove up to `count` of the bytes there are; at most one packet."""
        chunks = self.chunks
        if self.packets:
            data = self._take_packets(count)
        elif count >= self.size:
            if len(chunks) == 1:
                only = chunks.popleft()
                data = bytes(only[self.head :] if self.head else only)
            else:
                data = self._everything()
                chunks.clear()
            self.head = self.size = self.used = 0
        else:
            data = self._take_some(count)
        queue = self.can_write
        if (queue.waiters or queue.listeners) and self.capacity - self.used >= PIPE_BUF:
            queue.wake_all(POLL_OUT)
        return data

    def _everything(self) -> bytes:
        chunks = self.chunks
        if not chunks:
            return b""
        first = chunks[0][self.head :] if self.head else chunks[0]
        return b"".join([first, *list(chunks)[1:]])

    def _take_some(self, count: int) -> bytes:
        parts = []
        left = count
        while left:
            chunk = self.chunks[0]
            part = chunk[self.head : self.head + left]
            left -= len(part)
            self.head += len(part)
            if self.head == len(chunk):
                self.chunks.popleft()
                self.head = 0
            parts.append(part)
        self.size -= count
        self.used -= count
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _take_packets(self, count: int) -> bytes:
        before = 0
        for chunk in self.chunks:
            if chunk.__class__ is Packet:
                break
            before += len(chunk)
        before -= self.head
        data = self._take_some(min(count, before)) if before > 0 else b""
        if len(data) < count and self.chunks and self.chunks[0].__class__ is Packet:
            packet = bytes(self.chunks.popleft())
            self.packets -= 1
            self.size -= len(packet)
            self.used -= PAGE
            data += packet[: count - len(data)]
        return data

    def peek(self, count: int) -> bytes:
        """Up to `count` of the first bytes, left where they are."""
        return self._everything()[:count]

    def unread(self, rest: bytes) -> None:
        """Put bytes back to the front."""
        if not rest:
            return
        if self.head:
            self.chunks[0] = self.chunks[0][self.head :]
            self.head = 0
        self.chunks.appendleft(rest)
        self.size += len(rest)
        self.used += len(rest)
        self.can_read.wake_all(POLL_IN)

    def room(self) -> int:
        return max(0, self.capacity - self.used)

    # ---- size and life

    def resize(self, wanted: int) -> int:
        """F_SETPIPE_SZ: the new capacity, a power of two of pages. EPERM beyond the maximum, EBUSY if it is in use."""
        if wanted < 0 or wanted > 1 << 31:
            raise EINVAL
        capacity = PAGE
        while capacity < wanted:
            capacity <<= 1
        if capacity > self.capacity:
            if capacity > MAX_SIZE or self.total[0] + capacity - self.capacity > 4 * MAX_TOTAL:
                raise EPERM("beyond pipe-max-size")
        elif capacity < self.used:
            raise EBUSY
        self.total[0] += capacity - self.capacity
        grown = capacity > self.capacity
        self.capacity = capacity
        if grown:
            self.can_write.wake_all(POLL_OUT)
        return capacity

    def attach(self, reads: bool, writes: bool) -> None:
        """An end is opened."""
        if reads:
            self.readers += 1
            self.read_opens += 1
        if writes:
            self.writers += 1
            self.write_opens += 1
        self.opened.wake_all()

    def detach(self, reads: bool, writes: bool) -> bool:
        """An end is closed; True when it was the last."""
        if reads:
            self.readers -= 1
            if not self.readers:
                self.can_write.wake_all(POLLERR)
        if writes:
            self.writers -= 1
            if not self.writers:
                self.can_read.wake_all(POLLHUP)
        if self.readers or self.writers:
            return False
        self.chunks.clear()
        self.total[0] -= self.capacity
        return True


class PipeFile(SpecialFile):
    """One end (or, of a FIFO opened O_RDWR, both)."""

    __slots__ = ("_writers_seen", "pipe")

    turns = POLLIN | POLLOUT

    def __init__(self, pipe: Pipe, inode: Inode, flags: int, path: Path | None = None) -> None:
        super().__init__(inode, flags, path)
        self.pipe = pipe
        alone = not pipe.writers and not self.writable and flags & O_NONBLOCK
        self._writers_seen = pipe.write_opens if alone else -1  #: no POLLHUP before the first writer came and went
        pipe.attach(self.readable, self.writable)

    def release(self) -> None:
        if self.pipe.detach(self.readable, self.writable) and self.inode.endpoint is self.pipe:
            self.inode.endpoint = None

    def try_read(self, count: int) -> bytes | None:
        pipe = self.pipe
        if pipe.size:
            if INSTANCES[0] and self.path is not None and count:
                file_event(self, IN_ACCESS)  # a FIFO: it has a name
            return pipe.take(count) if count else b""
        return None if pipe.writers and count else b""

    def try_write(self, data: bytes | memoryview) -> int | None:
        pipe = self.pipe
        if not data:
            return 0
        if not pipe.readers:
            raise EPIPE
        done = pipe.put(data, bool(self.flags & O_DIRECT))
        if INSTANCES[0] and self.path is not None and done:
            file_event(self, IN_MODIFY)
        return done or None

    def pass_on(self, event: int) -> None:
        pipe = self.pipe
        queue, more = (pipe.can_read, pipe.size > 0) if event == POLLIN else (pipe.can_write, pipe.room() >= PIPE_BUF)
        if more and queue.__class__ is not WaitQueue:  # where nobody takes turns, all have been woken
            queue.wake_all(POLL_IN if event == POLLIN else POLL_OUT)

    def unread(self, rest: bytes) -> None:
        self.pipe.unread(rest)

    def poll(self) -> int:
        pipe = self.pipe
        events = 0
        if self.readable:
            if pipe.size:
                events = POLL_IN
            if not pipe.writers and pipe.write_opens != self._writers_seen:
                events |= POLLHUP
        if self.writable:
            if pipe.capacity - pipe.used >= PIPE_BUF:
                events |= POLL_OUT
            if not pipe.readers:
                events |= POLLERR
        return events

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        pipe = self.pipe
        if not self.writable:
            return (pipe.can_read,)
        return (pipe.can_write,) if not self.readable else (pipe.can_read, pipe.can_write)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        if cmd == FIONREAD:
            task.mm.write_u32(arg, self.pipe.size)
            return 0
        raise ENOTTY


class PipeInode(AnonInode):
    """The inode both ends of a pipe(2) share; /proc/PID/fd opens it like a FIFO."""

    __slots__ = ()

    def open(self, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
        return open_fifo(self, path, flags, task)


def make_pipe(task: Any, flags: int = 0) -> tuple[PipeFile, PipeFile]:
    """The two ends of a new pipe: (read, write)."""
    kernel = task.kernel
    pipe = Pipe(kernel)
    inode = PipeInode(kernel.vfs.pipe_sb, S_IFIFO | 0o600, uid=task.creds.fsuid, gid=task.creds.fsgid)
    inode.endpoint = pipe
    # attach both before either can find itself alone
    writer = PipeFile(pipe, inode, O_WRONLY | flags)
    return PipeFile(pipe, inode, O_RDONLY | flags), writer


def open_fifo(inode: Inode, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
    """open(2) of a FIFO: waits for the other end unless O_NONBLOCK or O_RDWR; ENXIO for a writer that may not wait."""
    pipe = inode.endpoint
    if pipe is None:
        pipe = inode.endpoint = Pipe(task.kernel if task is not None else None)
    access = flags & O_ACCMODE
    if isinstance(inode, AnonInode):
        return PipeFile(pipe, inode, flags)
    if access == O_WRONLY and flags & O_NONBLOCK and not pipe.readers:
        if not pipe.writers:
            inode.endpoint = None
            pipe.total[0] -= pipe.capacity
        raise ENXIO
    file = PipeFile(pipe, inode, flags, path)
    if access == O_RDWR or (access == O_RDONLY and (pipe.writers or flags & O_NONBLOCK)):
        return file
    if access == O_WRONLY and pipe.readers:
        return file
    return _await_other_end(pipe, file)


async def _await_other_end(pipe: Pipe, file: PipeFile) -> File:
    reads = file.readable
    before = pipe.write_opens if reads else pipe.read_opens
    try:
        while (pipe.write_opens if reads else pipe.read_opens) == before:
            await pipe.opened.wait()
    except BaseException:
        file.put()
        raise
    return file


register_opener(S_IFIFO, open_fifo)
