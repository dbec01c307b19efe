"""inotify(7): watches on inodes, and a queue of events that is read like data.

`Inode.watches` is an `InodeWatches` while somebody watches the inode; the file system tells it what happened.

Invariants:
- a watch is in its instance's `watches` and in its inode's list, or in neither;
- at most MAX_QUEUED events wait; then one IN_Q_OVERFLOW, and the rest is lost.
"""

from __future__ import annotations

from collections import deque
from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trapline.abi.errno import EEXIST, EINVAL, EMFILE, ENOSPC, ENOTTY
from trapline.abi.event import (
    IN_ALL_EVENTS,
    IN_DELETE_SELF,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONESHOT,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    INOTIFY_EVENT,
)
from trapline.abi.ioctl import FIONREAD
from trapline.abi.poll import POLL_IN
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.fs.notify import INSTANCES
from trapline.kernel.ipc.anon import AnonFile
from trapline.kernel.sync.budget import Budgets
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode

MAX_QUEUED = 16384
MAX_WATCHES = 8192  #: per instance
MAX_INSTANCES = 128  #: per kernel
WATCHES = Budgets(0.25, 65536)  #: of a kernel: /proc/sys/fs/inotify/max_user_watches
QUEUED = Budgets(64, 8 << 20)  #: bytes of events that wait in a kernel; beyond, queues overflow
OVERHEAD = 64  #: what an event costs besides its bytes
SELF = IN_DELETE_SELF | IN_UNMOUNT

_instances: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()


class Watch:
    """One (instance, inode) pair; `mask` as inotify_add_watch(2) got it."""

    __slots__ = ("inode", "instance", "mask", "wd")

    def __init__(self, instance: Inotify, inode: Inode, wd: int, mask: int) -> None:
        self.instance = instance
        self.inode = inode
        self.wd = wd
        self.mask = mask

    def happened(self, mask: int, name: bytes, cookie: int, unlinked: bool) -> None:
        """As `InodeWatches.notify`, for this watch."""
        instance = self.instance
        if unlinked and self.mask & IN_EXCL_UNLINK:
            return
        if mask & (self.mask | IN_UNMOUNT) & (IN_ALL_EVENTS | IN_UNMOUNT):
            if not name and not mask & IN_DELETE_SELF and self.inode.mode & S_IFMT == S_IFDIR:
                mask |= IN_ISDIR
            instance.add_event(self.wd, mask, cookie, name)
            if self.mask & IN_ONESHOT:
                instance.remove(self)
                return
        if mask & SELF and not name and instance.watches.get(self.wd) is self:
            instance.remove(self)


class InodeWatches:
    """Who watches one inode: what `Inode.watches` holds."""

    __slots__ = ("watches",)

    def __init__(self) -> None:
        self.watches: list[Any] = []  #: Watch, and of F_NOTIFY syscalls.directory_notify.Notice

    def notify(self, mask: int, name: bytes, cookie: int, unlinked: bool = False) -> None:
        """Something happened: IN_* bits, the entry's name for an event in a directory, the cookie of a rename. `unlinked`:
        the entry is gone, and the event came through a file that is still open."""
        for watch in tuple(self.watches):
            watch.happened(mask, name, cookie, unlinked)


class Inotify(AnonFile):
    """One inotify instance."""

    __slots__ = ("_next_wd", "_size", "budget", "events", "queue", "queued", "watches")

    kind = b"inotify"

    def __init__(self, kernel: Any, flags: int) -> None:
        count = _instances.setdefault(kernel, [0])
        if count[0] >= MAX_INSTANCES:
            raise EMFILE("max_user_instances")
        super().__init__(kernel, flags)
        count[0] += 1
        INSTANCES[0] += 1
        self.watches: dict[int, Watch] = {}
        self.events: deque[bytes] = deque()
        self.queue = WaitQueue()
        self._next_wd = 1
        self._size = 0
        self.budget, self.queued = WATCHES.of(kernel), QUEUED.of(kernel)

    def watch(self, inode: Inode, mask: int) -> int:
        """inotify_add_watch(2): the watch descriptor; an inode watched already keeps its own. EEXIST, ENOSPC."""
        if inode.watches is None:
            inode.watches = InodeWatches()
        inode.sb.watched.add(inode)
        watches: list[Any] = inode.watches.watches
        for each in watches:
            if isinstance(each, Watch) and each.instance is self:
                if mask & IN_MASK_CREATE:
                    raise EEXIST
                each.mask = each.mask | mask if mask & IN_MASK_ADD else mask
                return each.wd
        if len(self.watches) >= MAX_WATCHES or not self.budget.take():
            self._unhook(inode)
            raise ENOSPC("max_user_watches")
        watch = Watch(self, inode, self._next_wd, mask)
        self._next_wd += 1
        self.watches[watch.wd] = watch
        watches.append(watch)
        return watch.wd

    def unwatch(self, wd: int) -> None:
        """inotify_rm_watch(2)."""
        watch = self.watches.get(wd)
        if watch is None:
            raise EINVAL
        self.remove(watch)

    def remove(self, watch: Watch) -> None:
        """The watch ends; IN_IGNORED says so."""
        self._detach(watch)
        self.add_event(watch.wd, IN_IGNORED, 0, b"")

    def _detach(self, watch: Watch) -> None:
        del self.watches[watch.wd]
        self.budget.give()
        watch.inode.watches.watches.remove(watch)
        self._unhook(watch.inode)

    def _unhook(self, inode: Inode) -> None:
        if inode.watches is not None and not inode.watches.watches:
            inode.watches = None
            inode.sb.watched.discard(inode)

    def add_event(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        """Queue one event; one that repeats the last is dropped."""
        padded = name + bytes(16 - len(name) % 16) if name else b""
        event = INOTIFY_EVENT.pack(wd, mask, cookie, len(padded)) + padded
        events = self.events
        if events and events[-1] == event:
            return
        if len(events) >= MAX_QUEUED or not self.queued.has(len(event)):
            event = INOTIFY_EVENT.pack(-1, IN_Q_OVERFLOW, 0, 0)
            if events and events[-1] == event:
                return
        events.append(event)
        self._size += len(event)
        self.queued.force(len(event) + OVERHEAD)
        self.queue.wake_all(POLL_IN)

    def try_read(self, count: int) -> bytes | None:
        events = self.events
        if not events:
            return None
        parts = []
        left = count
        while events and len(events[0]) <= left:
            event = events.popleft()
            left -= len(event)
            self._size -= len(event)
            self.queued.give(len(event) + OVERHEAD)
            parts.append(event)
        if not parts:
            raise EINVAL("the buffer is too small for the next event")
        return b"".join(parts)

    def poll(self) -> int:
        return POLL_IN if self.events else 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.queue,)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        if cmd != FIONREAD:
            raise ENOTTY
        task.mm.write_u32(arg, self._size)
        return 0

    def release(self) -> None:
        for watch in list(self.watches.values()):
            self._detach(watch)
        self.queued.give(self._size + len(self.events) * OVERHEAD)
        self.events.clear()
        _instances[self.kernel][0] -= 1
        INSTANCES[0] -= 1
