"""Queue: the inode of a POSIX message queue, and its open file.

Messages are kept by priority, and in order of arrival within one. Who must wait leaves what it wants here, and is served by
whoever makes it possible: a message goes straight to the first receiver, a freed place to the first sender.

Invariants:
- receivers wait only while there is no message, senders only while there is no room;
- `notification` is None, or its process has the queue open.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import EBUSY, EINVAL
from trapline.abi.poll import POLL_IN, POLL_OUT
from trapline.abi.signal import SIGEV_NONE
from trapline.abi.stat import S_IFREG
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.inode import Inode
from trapline.kernel.fs.locks import InodeLocks
from trapline.kernel.fs.mount import Mount, Path
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.fdtable import FdTable
    from trapline.kernel.fs.file import File
    from trapline.kernel.ipc.mqueue.filesystem import MqueueFs

MESSAGE_COST, LEVEL_COST = 48, 48  #: what the kernel itself is charged for a message and for a priority in use
PRIORITIES = 32768


class Message(NamedTuple):
    """Ordered as they are taken: `rank` is the negative priority, `number` counts up."""

    rank: int
    number: int
    data: bytes


class Notification(NamedTuple):
    """mq_notify(2): which process wants to hear of the next message, through which descriptor table it registered.

    `tell(sender)` sends the signal, or whatever was asked for; `removed()`, if there is one, says that nothing will come.
    """

    group: Any
    files: FdTable
    notify: int
    signo: int
    tell: Callable[[Any], None]
    removed: Callable[[], None] | None = None


class Sleeper:
    """A sender with its message, or a receiver whose `message` is still to come. `done` once it was served."""

    __slots__ = ("done", "message", "queue")

    def __init__(self, message: Message | None = None) -> None:
        self.message = message
        self.done = False
        self.queue = WaitQueue()

    def finish(self) -> None:
        self.done = True
        self.queue.wake_all()


class QueueLocks(InodeLocks):
    """Closing a descriptor of a queue ends the notification of the process too."""

    __slots__ = ("_inode",)

    def __init__(self, inode: Queue) -> None:
        super().__init__()
        self._inode = inode

    def on_close(self, files: FdTable, file: File) -> None:
        super().on_close(files, file)
        notification = self._inode.notification
        if notification is not None and notification.files is files:
            self._inode.remove_notification()


def cost(maxmsg: int, msgsize: int) -> int:
    """The bytes that RLIMIT_MSGQUEUE counts for a queue, getrlimit(2)."""
    return maxmsg * (msgsize + MESSAGE_COST) + min(maxmsg, PRIORITIES) * LEVEL_COST


class Queue(Inode):
    __slots__ = (
        "_numbers", "maxmsg", "messages", "msgsize", "notification", "owner", "path", "poll_queue", "receivers", "senders",
    )  # fmt: skip

    sb: MqueueFs

    def __init__(self, sb: MqueueFs, name: bytes, mode: int, creds: Any, maxmsg: int, msgsize: int) -> None:
        super().__init__(sb, S_IFREG | mode & 0o7777, creds.fsuid, creds.fsgid)
        self.maxmsg, self.msgsize = maxmsg, msgsize
        self.owner = creds.uid  #: whose RLIMIT_MSGQUEUE pays
        self.messages: list[Message] = []  #: a heap
        self._numbers = 0
        self.receivers: list[Sleeper] = []
        self.senders: list[Sleeper] = []
        self.poll_queue = WaitQueue()
        self.notification: Notification | None = None
        self.locks = QueueLocks(self)
        self.size = 80  #: as Linux has it: the length of what read(2) gives
        self.path = Path(Mount(sb, Dentry(b"", None, sb.root)), Dentry(b"/" + name, None, self))

    # ---- as a file

    def open(self, path: Path, flags: int, task: Any) -> File:
        return QueueFile(self, flags, path)

    def truncate(self, size: int) -> None:
        """Accepted, as shells open files with O_TRUNC; messages stay."""

    def evict(self) -> None:
        self.sb.pay(self.owner, -cost(self.maxmsg, self.msgsize))
        for each in self.messages:
            self.let_go(each)

    def text(self) -> bytes:
        note = self.notification
        notify, signo, pid = (note.notify, note.signo, note.group.pid) if note is not None else (0, 0, 0)
        size = sum(len(each.data) for each in self.messages)
        return b"QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n" % (
            size, notify, 0 if notify == SIGEV_NONE else signo, pid,
        )  # fmt: skip

    # ---- messages

    def message(self, data: bytes, priority: int) -> Message:
        """A message to send. Raises ENOMEM."""
        self.sb.namespace.hold(len(data))
        self._numbers += 1
        return Message(-priority, self._numbers, data)

    @property
    def full(self) -> bool:
        return len(self.messages) >= self.maxmsg

    def put(self, message: Message, sender: Any) -> None:
        """A message arrives; there is room."""
        self._touch()
        if self.receivers:
            receiver = self.receivers.pop(0)
            receiver.message = message
            self.let_go(message)
            receiver.finish()
            return
        heapq.heappush(self.messages, message)
        if len(self.messages) == 1:
            self._notify(sender)
        self.poll_queue.wake_all(POLL_IN)

    def take(self) -> Message:
        """The oldest message of the highest priority; there is one."""
        self._touch()
        message = heapq.heappop(self.messages)
        self.let_go(message)
        if self.senders:
            sender = self.senders.pop(0)
            assert sender.message is not None
            heapq.heappush(self.messages, sender.message)
            sender.finish()
        else:
            self.poll_queue.wake_all(POLL_OUT)
        return message

    def let_go(self, message: Message) -> None:
        """The message left the queue, or never came into it."""
        self.sb.namespace.let_go(len(message.data))

    def _touch(self) -> None:
        self.atime_ns = self.mtime_ns = self.ctime_ns = self.sb.now()

    # ---- notification

    def notify_me(self, notification: Notification) -> None:
        if self.notification is not None:
            raise EBUSY
        self.notification = notification

    def forget_notification(self) -> None:
        self.notification = None
        self.poll_queue.wake_all()

    def remove_notification(self) -> None:
        """Who asked for it does not want it any more, or has closed the queue."""
        note = self.notification
        self.forget_notification()
        if note is not None and note.removed is not None:
            note.removed()

    def _notify(self, sender: Any) -> None:
        """The queue is no longer empty: tell who asked, once."""
        note = self.notification
        if note is not None:
            self.forget_notification()
            note.tell(sender)


class QueueFile(SpecialFile):
    """An open queue: what a message queue descriptor refers to. read(2) tells of the queue."""

    __slots__ = ()

    inode: Queue

    def __init__(self, queue: Queue, flags: int, path: Path) -> None:
        super().__init__(queue, flags, path)
        queue.opens += 1

    def release(self) -> None:
        queue = self.inode
        queue.opens -= 1
        if not queue.opens and not queue.nlink:
            queue.evict()

    def try_read(self, count: int) -> bytes:
        data = self.try_pread(count, self.pos)
        self.pos += len(data)
        return data

    def try_pread(self, count: int, offset: int) -> bytes:
        return self.inode.text()[offset : offset + count]

    def seek(self, offset: int, whence: int) -> int:
        base = (0, self.pos, self.inode.size)
        if not 0 <= whence < len(base) or base[whence] + offset < 0:
            raise EINVAL
        self.pos = base[whence] + offset
        return self.pos

    def poll(self) -> int:
        queue = self.inode
        return (POLL_IN if queue.messages else 0) | (0 if queue.full else POLL_OUT)

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.inode.poll_queue,)
