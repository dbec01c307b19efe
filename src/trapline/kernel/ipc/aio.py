"""AioRing: where asynchronous I/O, io_setup(2), reports what was done.

The ring of completed events is memory of the process: libraries look into it without a system call, and may take events by
moving its head. The context *is* that mapping: its address names it, and the open file behind it (whose references are the
areas that map it) is what the kernel knows of it.

Invariants:
- `tail` is the kernel's own: user code may write the copy in the ring, which changes nothing;
- requests in flight and events not taken are together fewer than `slots`, so there is always room for a completion.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import aio
from trapline.abi.errno import EAGAIN, EINVAL, ENOMEM, Errno
from trapline.abi.fcntl import O_RDWR
from trapline.abi.mman import MAP_SHARED, PROT_READ, PROT_WRITE, VM_DONTEXPAND
from trapline.abi.poll import POLLERR, POLLHUP
from trapline.kernel.fs.file import File
from trapline.kernel.fs.inode import AnonInode
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.mm.page_cache import PageCache
from trapline.kernel.mm.page_cache import anonymous as anonymous_cache
from trapline.kernel.sync.park import Listener, WaitQueue
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.ipc.eventfd import EventFd
    from trapline.kernel.mm.address_space import AddressSpace

_HEADER, _EVENT = aio.AIO_RING.size, aio.IO_EVENT.size


class AioRing(File):
    """One context. `wanted` is what io_setup(2) was asked for, and what counts against aio-max-nr."""

    __slots__ = ("active", "cache", "dead", "kernel", "mm", "queue", "slots", "tail", "under_way", "wanted")

    def __init__(self, kernel: Any, mm: AddressSpace, wanted: int) -> None:
        super().__init__(AnonInode(kernel.vfs.anon_sb, 0o600, b"/[aio] (deleted)"), O_RDWR)
        self.refs = 0
        self.kernel = kernel
        self.mm = mm
        self.wanted = wanted
        size = (_HEADER + _EVENT * (2 * max(wanted, 4) + 2) + PAGE_MASK) & ~PAGE_MASK
        self.slots = (size - _HEADER) // _EVENT
        self.tail = 0
        self.under_way = 0  #: requests that io_submit(2) is doing now
        self.active: dict[int, PollRequest] = {}  #: requests in flight, by the address of their iocb
        self.queue = WaitQueue()  #: io_getevents(2) sleeps here
        self.dead = False
        self.cache = anonymous_cache(mm.ram, size, 1)

    @property
    def page_cache(self) -> PageCache:  # type: ignore[override]
        return self.cache

    def map(self) -> int:
        """Put the ring into its process; its address is the context's name. Raises ENOMEM."""
        try:
            for index in range(self.cache.size >> PAGE_SHIFT):
                self.cache.frame(index)
        except OutOfFrames:
            self.cache.close()
            raise ENOMEM from None
        try:
            where = self.mm.mmap(0, self.cache.size, PROT_READ | PROT_WRITE, MAP_SHARED, self, 0)
        except Errno:
            self.cache.close()
            raise
        area = self.mm.map.find(where)
        assert area is not None
        area.flags |= VM_DONTEXPAND
        header = aio.AIO_RING.pack(0, self.slots, 0, 0, aio.AIO_RING_MAGIC, 1, 0, _HEADER)
        self.cache.write(0, header)
        self.kernel.ipc.aio_events += self.wanted
        return where

    def kill(self) -> None:
        """No more completions: what is in flight is dropped, and who waits is told."""
        if self.dead:
            return
        self.dead = True
        self.kernel.ipc.aio_events -= self.wanted
        for each in tuple(self.active.values()):
            each.stop()
        self.queue.wake_all()

    def release(self) -> None:
        self.kill()

    # ---- events

    def _head(self) -> int:
        """What the ring says: user code may have moved it, so it means something only modulo `slots`."""
        raw = self.cache.read(aio.AIO_RING_HEAD, 4)
        return int.from_bytes(raw, "little") % self.slots

    def check_room(self) -> None:
        """Raise EAGAIN if one more request could find no room for its event."""
        taken = (self.tail - self._head()) % self.slots
        if taken + len(self.active) + self.under_way >= self.slots - 1:
            raise EAGAIN("the ring is full")

    def complete(self, iocb: int, data: int, result: int, eventfd: EventFd | None) -> None:
        """A request is done. Its page is there, so this cannot fail."""
        if self.dead:
            if eventfd is not None:
                eventfd.put()
            return
        self.cache.write(_HEADER + self.tail * _EVENT, aio.IO_EVENT.pack(data, iocb, result, 0))
        self.tail = (self.tail + 1) % self.slots
        self.cache.write(aio.AIO_RING_TAIL, self.tail.to_bytes(4, "little"))
        if eventfd is not None:
            eventfd.try_write((1).to_bytes(8, "little"))
            eventfd.put()
        self.queue.wake_all()

    def peek(self, most: int) -> bytes:
        """Up to `most` events from the head on, as they are in the ring; at most those before its end."""
        head = self._head()
        end = self.tail if self.tail >= head else self.slots
        return self.cache.read(_HEADER + head * _EVENT, min(most, end - head) * _EVENT)

    def taken(self, count: int) -> None:
        head = (self._head() + count) % self.slots
        self.cache.write(aio.AIO_RING_HEAD, head.to_bytes(4, "little"))


class PollRequest:
    """IOCB_CMD_POLL in flight: completes with the events of a file, once, when there are any."""

    __slots__ = ("_listener", "data", "eventfd", "events", "file", "iocb", "ring", "task")

    def __init__(
        self, ring: AioRing, task: Any, file: File, iocb: int, data: int, events: int, eventfd: EventFd | None
    ) -> None:
        self.ring = ring
        self.task = task
        self.file = file.get()
        self.iocb = iocb
        self.data = data
        self.events = events | POLLERR | POLLHUP
        self.eventfd = eventfd
        queues = file.queues_as(task) if isinstance(file, SpecialFile) else file.poll_queues()
        self._listener = Listener(self._woken, queues)
        ring.active[iocb] = self

    def ready(self) -> int:
        file = self.file
        now = file.poll_as(self.task) if isinstance(file, SpecialFile) else file.poll()
        return now & self.events

    def _woken(self, events: int) -> None:
        found = self.ready()
        if found:
            self.finish(found)

    def finish(self, result: int) -> None:
        eventfd, self.eventfd = self.eventfd, None
        self.stop()
        self.ring.complete(self.iocb, self.data, result, eventfd)

    def stop(self) -> None:
        self.ring.active.pop(self.iocb, None)
        self._listener.close()
        self.file.put()
        if self.eventfd is not None:
            self.eventfd.put()
            self.eventfd = None


def find_ring(task: Any, address: int) -> AioRing:
    """The context that `address` names. Raises EINVAL."""
    area = task.mm.map.find(address)
    if area is None or area.start != address or not isinstance(area.file, AioRing):
        raise EINVAL("no such context")
    ring: AioRing = area.file
    if ring.mm is not task.mm or ring.dead:
        raise EINVAL("another process's context")
    return ring
