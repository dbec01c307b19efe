"""signalfd(2): signals read like data.

As in Linux, what can be read depends on who reads: each process sees its own pending signals, whoever made the descriptor.
An epoll(7) is told of the signals of the process that added the descriptor to it, and shows those of the one that waits.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EINVAL
from trapline.abi.event import SIGNALFD_SIGINFO
from trapline.abi.poll import POLL_IN
from trapline.kernel.ipc.anon import AnonFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.sync.park import WaitQueue

SIGKILL_SIGSTOP = 1 << 8 | 1 << 18
_U32 = 0xFFFFFFFF


class SignalFd(AnonFile):
    """`mask`: the signals of interest, bit signo-1. `take` removes one from a task's pending signals."""

    __slots__ = ("group", "maker", "mask", "take")

    kind = b"[signalfd]"
    records = True
    by_task = True

    def __init__(self, task: Any, flags: int, mask: int, take: Callable[[Any, int], Any | None]) -> None:
        super().__init__(task.kernel, flags)
        self.maker = task
        self.group = task.group
        self.take = take
        self.mask = mask & ~SIGKILL_SIGSTOP

    def try_read(self, count: int) -> bytes | None:
        return None

    def read_as(self, task: Any, count: int) -> bytes | None:
        if count < SIGNALFD_SIGINFO.size:
            raise EINVAL
        found: list[bytes] = []
        while len(found) < count // SIGNALFD_SIGINFO.size:
            info = self.take(task, self.mask)
            if info is None:
                break
            found.append(pack(info))
        return b"".join(found) or None

    def poll(self) -> int:
        """Of the process that made it: any of its threads that still runs."""
        return self._poll(self.maker, self.group)

    def poll_as(self, task: Any) -> int:
        return self._poll(task, task.group)

    def _poll(self, task: Any, group: Any) -> int:
        pending = group.pending.mask
        if task.pending is not None:
            pending |= task.pending.mask
        return POLL_IN if pending & self.mask else 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.group.signal_wait,)

    def queues_as(self, task: Any) -> tuple[WaitQueue, ...]:
        return (task.group.signal_wait,)


def pack(info: Any) -> bytes:
    """The struct signalfd_siginfo of a signal."""
    return SIGNALFD_SIGINFO.pack(
        info.signo, info.errno, info.code, info.pid & _U32, info.uid & _U32, info.fd, info.tid & _U32,
        info.band & _U32, info.overrun & _U32, 0, info.status, _signed32(info.value), info.value & (1 << 64) - 1,
        info.utime & (1 << 64) - 1, info.stime & (1 << 64) - 1, info.addr & (1 << 64) - 1, 0, 0,
        _signed32(info.syscall), 0, info.arch & _U32,
    )  # fmt: skip


def _signed32(value: int) -> int:
    value &= _U32
    return value - (1 << 32) if value >> 31 else value
