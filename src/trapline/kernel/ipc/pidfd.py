"""Pidfds: a descriptor that stands for a process, pidfd_open(2). It never comes to mean another one.

It holds the thread group, not the number, so a number that is used again is no danger; and nothing of a process that was
reaped but its last status.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EBADF, ESPIPE
from trapline.abi.poll import POLL_IN
from trapline.kernel.ipc.anon import AnonFile

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.sync.park import WaitQueue


class PidFile(AnonFile):
    """`group`: the process."""

    __slots__ = ("group",)

    kind = b"[pidfd]"

    def __init__(self, kernel: Any, group: Any, flags: int) -> None:
        super().__init__(kernel, flags)
        self.group = group

    def reaped(self) -> bool:
        """The process was waited for: there is nothing left to name."""
        return self.kernel.groups.get(self.group.pid) is not self.group

    def poll(self) -> int:
        """Readable once every thread has ended, whether or not anybody has waited for the process."""
        return POLL_IN if self.group.zombie else 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.group.pidfd_wait,)

    def seek(self, offset: int, whence: int) -> int:
        raise ESPIPE

    def fdinfo(self) -> bytes:
        """What /proc/PID/fdinfo adds: proc(5), -1 once the process was reaped."""
        pid = -1 if self.reaped() else self.group.pid
        return b"Pid:\t%d\nNSpid:\t%d\n" % (pid, pid)


def group_of_pidfd(file: File) -> Any:
    """The process a pidfd stands for. Raises EBADF for any other file."""
    if not isinstance(file, PidFile):
        raise EBADF("not a pidfd")
    return file.group
