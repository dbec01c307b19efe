"""eventfd(2): a 64-bit counter that can be waited for.

Invariant: 0 <= `count` <= MAX.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.abi.errno import EINVAL
from trapline.abi.poll import POLL_IN, POLL_OUT
from trapline.kernel.ipc.anon import AnonFile
from trapline.kernel.sync.park import WaitQueue

MAX = (1 << 64) - 2


class EventFd(AnonFile):
    """`semaphore`: a read takes 1 instead of everything."""

    __slots__ = ("count", "queue", "semaphore")

    kind = b"[eventfd]"
    records = True

    def __init__(self, kernel: Any, flags: int, count: int = 0, semaphore: bool = False) -> None:
        super().__init__(kernel, flags)
        self.count = count
        self.semaphore = semaphore
        self.queue = WaitQueue()

    def try_read(self, count: int) -> bytes | None:
        if count < 8:
            raise EINVAL
        value = self.count
        if not value:
            return None
        if self.semaphore:
            value = 1
        self.count -= value
        self._changed(POLL_OUT)
        return value.to_bytes(8, "little")

    def try_write(self, data: bytes | memoryview) -> int | None:
        if len(data) < 8:
            raise EINVAL
        value = int.from_bytes(data[:8], "little")
        if value > MAX:
            raise EINVAL
        if self.count + value > MAX:
            return None
        self.count += value
        self._changed(POLL_IN)
        return 8

    def _changed(self, events: int) -> None:
        queue = self.queue
        if queue.waiters or queue.listeners:
            queue.wake_all(events)

    def poll(self) -> int:
        events = POLL_IN if self.count > 0 else 0
        if self.count < MAX:
            events |= POLL_OUT
        return events  # overflow (POLLERR) cannot happen: only the kernel could cause it

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.queue,)
