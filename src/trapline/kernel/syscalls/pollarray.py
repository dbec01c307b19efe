"""What poll(2) asks of files, and its long arrays: thousands of struct pollfd in one call, without keeping the kernel busy."""

from __future__ import annotations

from array import array
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EBADF
from trapline.abi.poll import POLLERR, POLLFD, POLLHUP, POLLNVAL
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import breathe

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

SLICE = 8192  #: entries of a struct pollfd array that are dealt with at a time


def file_events(task: Task, file: File) -> int:
    return file.poll_as(task) if isinstance(file, SpecialFile) else file.poll()


def lookup(task: Task, fd: int) -> File | None:
    try:
        return task.files.get(fd)
    except EBADF:
        return None


class LongPoll:
    """`_Poll` of an array of more than SLICE entries. However often a descriptor is in it, its file is asked once.

    It is looked at, and answered, in slices, with turns for others in between; whether anything is ready is one look at the
    files, so that nothing is missed between that and going to sleep.
    """

    def __init__(self, task: Task, address: int, count: int) -> None:
        self.task = task
        self.address = address
        self.count = count
        self.raw = task.mm.read(address, count * POLLFD.size)
        self.answer = array("H", self.raw)
        self.interest: dict[int, int] = {}  #: what somebody asks of each descriptor
        self.files: dict[int, File | None] = {}
        self.watched: list[tuple[File, int]] = []
        self.ready: dict[int, int] = {}

    def _entries(self, first: int, last: int) -> zip[tuple[int, int]]:
        """(descriptor, events) of a slice."""
        part = memoryview(self.raw)[first * POLLFD.size : last * POLLFD.size]
        return zip(part.cast("i")[::2].tolist(), part.cast("H")[2::4].tolist(), strict=True)

    def _look(self, first: int, last: int) -> None:
        interest = self.interest
        for fd, events in self._entries(first, last):
            if fd >= 0:
                interest[fd] = interest.get(fd, 0) | events

    def _find(self) -> None:
        for fd, events in self.interest.items():
            file = self.files[fd] = lookup(self.task, fd)
            if file is not None:
                self.watched.append((file, events))

    async def look(self) -> None:
        """See what is asked for."""
        for first in range(0, self.count, SLICE):
            self._look(first, min(first + SLICE, self.count))
            await breathe()
        self._find()

    def check(self) -> int:
        """How many descriptors are ready now."""
        task, interest = self.task, self.interest
        self.ready = {
            fd: POLLNVAL if file is None else file_events(task, file) & (interest[fd] | POLLERR | POLLHUP) & 0xFFFF
            for fd, file in self.files.items()
        }
        return len(self.ready) - list(self.ready.values()).count(0)

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
