"""/dev/kmsg: the kernel log as records; dmesg(1) reads them, and whoever may write adds some.

A record is "PRIORITY,NUMBER,MICROSECONDS,-;TEXT\\n"; each read(2) gives one whole record. Every open file has its own position,
the number of the next record; one that the log has dropped meanwhile is EPIPE once, and then the oldest that is left.
The kernel's Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

import re
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EINVAL, ENODEV, EPIPE, ESPIPE
from trapline.abi.fcntl import SEEK_DATA, SEEK_END, SEEK_SET
from trapline.abi.klog import LOG_LINE_MAX, LOG_USER, LOG_WARNING, MAX_PRIORITY
from trapline.abi.poll import POLL_IN, POLLERR, POLLPRI
from trapline.kernel.fs.devices import register_chardev
from trapline.kernel.fs.special import SpecialFile

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.sync.park import WaitQueue

_PREFIX = re.compile(rb"<(\d*)>")


class KmsgFile(SpecialFile):
    """One reader's, or writer's, open file."""

    __slots__ = ("kernel", "next")

    records = True
    nowait = False

    def __init__(self, kernel: Any, inode: Inode, flags: int, path: Path | None) -> None:
        super().__init__(inode, flags, path)
        self.kernel = kernel
        self.next: int = kernel.log_dropped  #: the number of the next record

    def try_read(self, count: int) -> bytes | None:
        """The next record. EPIPE: it was dropped; EINVAL: `count` is too small for it."""
        kernel = self.kernel
        if self.next < kernel.log_dropped:
            self.next = kernel.log_dropped
            raise EPIPE
        index = self.next - kernel.log_dropped
        if index >= len(kernel.log_lines):
            return None
        ns, text, priority = kernel.log_lines[index]
        record = b"%d,%d,%d,-;%b\n" % (priority, self.next, ns // 1000, _escaped(text))
        if len(record) > count:
            raise EINVAL
        self.next += 1
        return record

    def try_write(self, data: bytes | memoryview) -> int:
        """Add a record; "<N>" before it is its priority, but the kernel's own facility is nobody else's."""
        if len(data) > LOG_LINE_MAX:
            raise EINVAL
        text, priority = bytes(data), LOG_WARNING
        prefix = _PREFIX.match(text)
        if prefix is not None:
            priority, text = int(prefix[1] or b"0") & MAX_PRIORITY, text[prefix.end() :]
        if priority < LOG_USER:
            priority |= LOG_USER
        self.kernel.log(text.rstrip(b"\n").decode(errors="replace"), priority)
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        """To the first record, the first since the last clearing (SEEK_DATA), or behind the last."""
        if offset:
            raise ESPIPE
        kernel = self.kernel
        if whence == SEEK_SET:
            self.next = kernel.log_dropped
        elif whence == SEEK_DATA:
            self.next = max(kernel.log_cleared, kernel.log_dropped)
        elif whence == SEEK_END:
            self.next = kernel.log_dropped + len(kernel.log_lines)
        else:
            raise EINVAL
        return 0

    def poll(self) -> int:
        kernel = self.kernel
        if self.next < kernel.log_dropped:
            return POLL_IN | POLLERR | POLLPRI
        return POLL_IN if self.next < kernel.log_dropped + len(kernel.log_lines) else 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.kernel.log_wait,)


def _escaped(text: str) -> bytes:
    """Bytes that are not printable ASCII, and the backslash, as \\xNN."""
    raw = text.encode(errors="replace")
    return b"".join(bytes((c,)) if 32 <= c < 127 and c != 92 else b"\\x%02x" % c for c in raw)


def _open(inode: Inode, path: Path, flags: int, task: Any) -> KmsgFile:
    if task is None:
        raise ENODEV
    return KmsgFile(task.kernel, inode, flags, path)


register_chardev(1, 11, _open)
