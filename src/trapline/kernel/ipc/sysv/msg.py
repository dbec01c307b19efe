"""System V message queues, msgsnd(2) and msgrcv(2): messages with a type, taken in order or by type.

A message goes straight to the first sleeping receiver that wants it; else it waits in the queue. Senders sleep while the
queue is full, and are served in order.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import ipc
from trapline.abi.errno import E2BIG, EAGAIN, EIDRM, EINVAL, ENOMSG, Errno
from trapline.kernel.ipc.sysv.ids import Object, now_s
from trapline.kernel.sync.park import RESTART_NOHAND, Interrupted, WaitQueue

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.ipc.sysv.namespace import IpcNamespace


class Message(NamedTuple):
    kind: int
    data: bytes


class Wish(NamedTuple):
    """What a receiver takes: see `wants`."""

    size: int
    kind: int
    flags: int

    def wants(self, message: Message) -> bool:
        kind = self.kind
        if kind == 0:
            return True
        if kind < 0:
            return message.kind <= -kind
        return (message.kind != kind) if self.flags & ipc.MSG_EXCEPT else (message.kind == kind)

    def too_small(self, message: Message) -> bool:
        return len(message.data) > self.size and not self.flags & ipc.MSG_NOERROR


class Receiver:
    """One sleeping msgrcv(2). `result` is None, the message, or an error class."""

    __slots__ = ("pid", "queue", "result", "wish")

    def __init__(self, wish: Wish, pid: int) -> None:
        self.wish = wish
        self.pid = pid
        self.queue = WaitQueue()
        self.result: Message | type[Errno] | None = None

    def finish(self, result: Message | type[Errno]) -> None:
        self.result = result
        self.queue.wake_all()


class Queue(Object):
    """`cbytes` is the sum of the lengths of `messages`; `max_bytes` bounds it, and their number."""

    __slots__ = (
        "cbytes", "ctime", "lrpid", "lspid", "max_bytes", "messages", "namespace", "receivers", "rtime", "senders", "stime",
    )  # fmt: skip

    def __init__(self, namespace: IpcNamespace, task: Any, key: int, mode: int) -> None:
        super().__init__(key, mode, task.creds)
        self.namespace = namespace
        self.messages: list[Message] = []
        self.cbytes = 0
        self.max_bytes = namespace.msgmnb
        self.stime = self.rtime = 0
        self.ctime = now_s(namespace.kernel)
        self.lspid = self.lrpid = 0
        self.receivers: list[Receiver] = []
        self.senders = WaitQueue()

    def pack(self) -> bytes:
        """struct msqid_ds."""
        return self.pack_perm() + ipc.MSQID_DS.pack(
            self.stime, self.rtime, self.ctime, self.cbytes, len(self.messages), self.max_bytes, self.lspid, self.lrpid, 0, 0
        )

    def fits(self, size: int) -> bool:
        return size + self.cbytes <= self.max_bytes and len(self.messages) < self.max_bytes

    def put(self, message: Message, pid: int) -> None:
        """A message that fits arrives. Raises ENOMEM."""
        self.namespace.hold(len(message.data))
        self.lspid, self.stime = pid, now_s(self.namespace.kernel)
        for each in tuple(self.receivers):
            if not each.wish.wants(message):
                continue
            self.receivers.remove(each)
            if each.wish.too_small(message):
                each.finish(E2BIG)
                continue
            self.lrpid, self.rtime = each.pid, self.stime
            self.namespace.let_go(len(message.data))
            each.finish(message)
            return
        self.messages.append(message)
        self.cbytes += len(message.data)

    def find(self, wish: Wish) -> Message | None:
        """What a receiver would get now."""
        if wish.flags & ipc.MSG_COPY:
            return self.messages[wish.kind] if 0 <= wish.kind < len(self.messages) else None
        found = [each for each in self.messages if wish.wants(each)]
        if not found:
            return None
        return min(found, key=_kind) if wish.kind < 0 else found[0]

    def take(self, message: Message, pid: int) -> None:
        index = next(i for i, each in enumerate(self.messages) if each is message)
        del self.messages[index]
        self.cbytes -= len(message.data)
        self.namespace.let_go(len(message.data))
        self.lrpid, self.rtime = pid, now_s(self.namespace.kernel)
        self.senders.wake_all()

    def wake_all(self) -> None:
        """IPC_SET: room and permissions may have changed for everybody who sleeps."""
        self.senders.wake_all()
        for each in self.receivers:
            each.queue.wake_all()

    def remove(self) -> None:
        """IPC_RMID."""
        self.namespace.msg.remove(self)
        for each in self.receivers:
            each.finish(EIDRM)
        self.receivers.clear()
        for message in self.messages:
            self.namespace.let_go(len(message.data))
        self.messages.clear()
        self.senders.wake_all()


def _kind(message: Message) -> int:
    return message.kind


def get(namespace: IpcNamespace, task: Any, key: int, flags: int) -> int:
    """msgget(2)."""
    return namespace.msg.get(task, key, flags, lambda: Queue(namespace, task, key, flags), lambda queue: None)


def send(
    namespace: IpcNamespace, task: Any, ident: int, message: Message, flags: int
) -> int | Coroutine[Any, Any, int]:
    """msgsnd(2), once the message was read."""
    queue = namespace.msg.find(ident)
    queue.check(task.creds, 0o222)
    if queue.fits(len(message.data)):
        queue.put(message, task.group.pid)
        return 0
    if flags & ipc.IPC_NOWAIT:
        raise EAGAIN
    return _send_waiting(queue, task, message)


async def _send_waiting(queue: Queue, task: Any, message: Message) -> int:
    while not queue.fits(len(message.data)):
        await queue.senders.wait(restart=RESTART_NOHAND)
        if queue.removed:
            raise EIDRM
        queue.check(task.creds, 0o222)
    queue.put(message, task.group.pid)
    return 0


def receive(namespace: IpcNamespace, task: Any, ident: int, wish: Wish) -> Message | Coroutine[Any, Any, Message]:
    """msgrcv(2): the message, or a coroutine that waits for it."""
    if wish.flags & ipc.MSG_COPY and (wish.flags & ipc.MSG_EXCEPT or not wish.flags & ipc.IPC_NOWAIT):
        raise EINVAL("MSG_COPY goes with IPC_NOWAIT and without MSG_EXCEPT")
    queue = namespace.msg.find(ident)
    message = _try_receive(queue, task, wish)
    if message is not None:
        return message
    if wish.flags & ipc.IPC_NOWAIT:
        raise ENOMSG
    return _receive_waiting(queue, task, wish)


def _try_receive(queue: Queue, task: Any, wish: Wish) -> Message | None:
    queue.check(task.creds, 0o444)
    message = queue.find(wish)
    if message is not None:
        if wish.too_small(message):
            raise E2BIG
        if not wish.flags & ipc.MSG_COPY:
            queue.take(message, task.group.pid)
    return message


async def _receive_waiting(queue: Queue, task: Any, wish: Wish) -> Message:
    message: Message | None = None
    while message is None:
        receiver = Receiver(wish, task.group.pid)
        queue.receivers.append(receiver)
        try:
            await receiver.queue.wait(restart=RESTART_NOHAND)
        except Interrupted:
            if receiver.result is None:
                raise
        finally:
            if receiver in queue.receivers:
                queue.receivers.remove(receiver)
        if receiver.result is None:  # after sleep: IPC_SET woke everybody
            message = _try_receive(queue, task, wish)
        elif isinstance(receiver.result, Message):
            message = receiver.result
        else:
            raise receiver.result
    return message
