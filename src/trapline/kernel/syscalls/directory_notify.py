"""Directory notification, fcntl(2), F_NOTIFY: a signal when something happens in a directory. inotify(7) took its place.

Invariant: a notice is among its inode's watches and in `InodeLocks.notices`, or in neither; closing the descriptor ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.abi import fcntl as f
from trapline.abi.errno import ENOTDIR
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.fs import notify as n
from trapline.kernel.fs.locks import locks_of
from trapline.kernel.ipc.inotify import InodeWatches
from trapline.kernel.syscalls.async_io import MSG_BAND, POLL_MSG_CODE, tell_owner

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.task.task import Task

_EVENTS = (
    (f.DN_ACCESS, n.IN_ACCESS), (f.DN_MODIFY, n.IN_MODIFY), (f.DN_CREATE, n.IN_CREATE | n.IN_MOVED_TO),
    (f.DN_DELETE, n.IN_DELETE | n.IN_MOVED_FROM), (f.DN_RENAME, n.IN_MOVED_FROM), (f.DN_ATTRIB, n.IN_ATTRIB),
)  # fmt: skip


class Notice:
    """What one open directory is to be told of: beside inotify's `Watch` in `Inode.watches`."""

    __slots__ = ("fd", "file", "inode", "kernel", "key", "wanted")

    def __init__(self, task: Task, fd: int, file: File) -> None:
        self.kernel, self.fd, self.file = task.kernel, fd, file
        self.inode: Inode = file.inode
        self.key = (task.files, file)
        self.wanted = 0
        if self.inode.watches is None:
            self.inode.watches = InodeWatches()
        self.inode.watches.watches.append(self)
        n.INSTANCES[0] += 1
        locks_of(self.inode).notices[self.key] = self

    def happened(self, mask: int, name: bytes, cookie: int, unlinked: bool) -> None:
        """Something happened to the directory, or to an entry of it."""
        if not mask & _events(self.wanted):
            return
        tell_owner(self.kernel, self.file, self.fd, POLL_MSG_CODE, MSG_BAND)
        if not self.wanted & f.DN_MULTISHOT:
            self.close()

    def close(self) -> None:
        """Nothing is told any more."""
        del self.inode.locks.notices[self.key]
        watches: list[Any] = self.inode.watches.watches
        watches.remove(self)
        if not watches:
            self.inode.watches = None
        n.INSTANCES[0] -= 1


def _events(wanted: int) -> int:
    """The inotify events that DN_* bits stand for."""
    mask = 0
    for bit, events in _EVENTS:
        if wanted & bit:
            mask |= events
    return mask


def set_notice(task: Task, fd: int, file: File, wanted: int) -> int:
    """F_NOTIFY: events add up over calls; none ends it. Raises ENOTDIR."""
    notice = file.inode.locks.notices.get((task.files, file)) if file.inode.locks is not None else None
    if not wanted & ~f.DN_MULTISHOT:
        if notice is not None:
            notice.close()
        return 0
    if file.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    if notice is None:
        notice = Notice(task, fd, file)
    notice.wanted |= wanted
    return 0
