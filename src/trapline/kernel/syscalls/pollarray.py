"""What poll(2) asks of files, and its long arrays: thousands of struct pollfd in one call, without keeping the kernel busy."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from itertools import islice
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EBADF
from trapline.abi.poll import POLLERR, POLLFD, POLLHUP, POLLNVAL
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import Interrupted, Listener, Waiter, breathe, park
from trapline.kernel.syscalls.transfer import queues_of

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.sync.park import WaitQueue
    from trapline.kernel.task.task import Task

SLICE = 8192  #: entries of a struct pollfd array, or files, that are dealt with at a time


def file_events(task: Task, file: File) -> int:
    return file.poll_as(task) if isinstance(file, SpecialFile) else file.poll()


def lookup(task: Task, fd: int) -> File | None:
    try:
        return task.files.get(fd)
    except EBADF:
        return None


def slices(things: Collection[Any]) -> Iterator[list[Any]]:
    """All of them, SLICE at a time."""
    iterator = iter(tuple(things))
    while part := list(islice(iterator, SLICE)):
        yield part


class LongPoll:
    """`_Poll` of an array of more than SLICE entries. However often a descriptor is in it, its file is asked once.

    All is done in slices, with turns for others in between. Before it sleeps it listens to every file, and then looks at them
    all: what happens to one that was looked at already makes it look again.
    """

    def __init__(self, task: Task, address: int, count: int) -> None:
        self.task = task
        self.address = address
        self.count = count
        self.raw = task.mm.read(address, count * POLLFD.size)
        self.answer = array("H", self.raw)
        self.interest: dict[int, int] = {}  #: what somebody asks of each descriptor
        self.files: dict[int, File | None] = {}
        self.watched: list[File] = []
        self.ready: dict[int, int] = {}
        self._missed = False  #: something happened since the last look at all files began
        self._waiter: Waiter | None = None

    def _entries(self, first: int, last: int) -> zip[tuple[int, int]]:
        """(descriptor, events) of a slice."""
        part = memoryview(self.raw)[first * POLLFD.size : last * POLLFD.size]
        return zip(part.cast("i")[::2].tolist(), part.cast("H")[2::4].tolist(), strict=True)

    def _look(self, first: int, last: int) -> None:
        interest = self.interest
        for fd, events in self._entries(first, last):
            if fd >= 0:
                interest[fd] = interest.get(fd, 0) | events

    async def look(self) -> None:
        """See what is asked for."""
        for first in range(0, self.count, SLICE):
            self._look(first, min(first + SLICE, self.count))
            await breathe()
        for part in slices(self.interest):
            for fd in part:
                file = self.files[fd] = lookup(self.task, fd)
                if file is not None:
                    self.watched.append(file.get())
            await breathe()

    async def check(self) -> int:
        """How many descriptors are ready."""
        task, interest, files = self.task, self.interest, self.files
        self._missed = False
        ready = self.ready = {}
        for part in slices(files):
            for fd in part:
                file = files[fd]
                ready[fd] = (
                    POLLNVAL if file is None else file_events(task, file) & (interest[fd] | POLLERR | POLLHUP) & 0xFFFF
                )
            await breathe()
        return len(ready) - list(ready.values()).count(0)

    async def wait(self, deadline: int | None, restart: int) -> None:
        """Sleep until a descriptor is ready or the deadline passes. Raises Interrupted."""
        listener = Listener(self._happened, ())
        queues: list[WaitQueue] = []
        try:
            for part in slices(self.watched):
                for file in part:
                    for queue in queues_of(self.task, file):
                        queues.append(queue)
                        queue.listeners[listener] = None
                await breathe()
            while not await self.check():
                if self._missed:
                    if self.task.signal_wakes():
                        raise Interrupted(restart)
                    if deadline is not None and self.task.kernel.clock.monotonic_ns() >= deadline:
                        return
                elif not await self._park(deadline, restart):
                    await self.check()
                    return
        finally:
            listener.queues = tuple(queues)
            listener.close()

    async def _park(self, deadline: int | None, restart: int) -> bool:
        """Sleep until something happens; False: the deadline passed. Raises Interrupted."""
        self._waiter = Waiter(self.task, True)
        try:
            return await park(self._waiter, deadline, restart)
        finally:
            self._waiter = None

    def _happened(self, events: int) -> None:
        self._missed = True
        if self._waiter is not None:
            self._waiter.wake()

    def let_go(self) -> None:
        """The call is over."""
        for file in self.watched:
            file.put()
        self.watched.clear()

    def _fill(self, first: int, last: int) -> int:
        """Answer a slice; how many of its entries are not zero."""
        ready = self.ready
        always = POLLERR | POLLHUP | POLLNVAL
        found = array("H", [ready.get(fd, 0) & (events | always) for fd, events in self._entries(first, last)])
        self.answer[first * 4 + 3 : last * 4 : 4] = found
        return len(found) - found.count(0)

    async def store(self) -> int:
        """Answer; how many entries are not zero."""
        found = 0
        for first in range(0, self.count, SLICE):
            found += self._fill(first, min(first + SLICE, self.count))
            await breathe()
        self.task.mm.write(self.address, self.answer.tobytes())
        return found
