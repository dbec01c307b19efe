"""SpecialFile: what pipes, sockets, terminals and event descriptors have beyond an ordinary file.

`try_read` and `try_write` stay the fast way in. What they cannot know without asking (who reads, how long to wait, what
becomes of bytes that user memory did not take) is asked here, once they have answered None or a copy has failed.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EAGAIN
from trapline.kernel.fs.file import File

if TYPE_CHECKING:
    from trapline.kernel.sync.park import WaitQueue


class SpecialFile(File):
    """Class attributes say what kind of file it is:

    - `records`: a write(2) is one message, never split or shortened;
    - `by_task`: who reads or writes matters: `try_*` answer None, and `read_as` and `write_as` do the work;
    - `nowait`: RWF_NOWAIT is understood;
    - `gathers`: a read that has to wait takes bytes as they come (it is a socket's: SO_RCVLOWAT);
    - `turns`: the events (POLLIN, POLLOUT) of which one is for one sleeper (Linux's exclusive waits).
    """

    __slots__ = ()

    records = False
    by_task = False
    nowait = True
    gathers = False
    turns = 0

    def read_as(self, task: Any, count: int) -> bytes | None:
        """`try_read` for a known reader."""
        return self.try_read(count)

    def write_as(self, task: Any, data: bytes | memoryview) -> int | None:
        """`try_write` for a known writer."""
        return self.try_write(data)

    def poll_as(self, task: Any) -> int:
        """`poll` for a known task."""
        return self.poll()

    def queues_as(self, task: Any) -> tuple[WaitQueue, ...]:
        """`poll_queues` for a known task."""
        return self.poll_queues()

    def patience_ns(self, count: int, writing: bool) -> int | None:
        """How long a blocked transfer of `count` bytes waits before `gave_up` is asked; None: for ever."""
        return None

    def gave_up(self, count: int, writing: bool) -> bytes:
        """What a read returns when its patience is over."""
        raise EAGAIN

    def pass_on(self, event: int) -> None:
        """Somebody who had its turn leaves something for the next: POLLIN, it has read; POLLOUT, it has written."""

    def unread(self, rest: bytes) -> None:
        """User memory did not take the last bytes of what was read."""
