"""POSIX message queues: mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2), mq_getsetattr(2)."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from trapline.typed import TYPE_CHECKING, Annotated, NamedTuple

from trapline.abi import ipc
from trapline.abi import signal as s
from trapline.abi.errno import EAGAIN, EBADF, EINVAL, EMSGSIZE, ENOTSOCK, ETIMEDOUT
from trapline.abi.fcntl import O_ACCMODE, O_APPEND, O_CREAT, O_NONBLOCK
from trapline.abi.netlink import NOTIFY_COOKIE_LEN, NOTIFY_REMOVED, NOTIFY_WOKENUP
from trapline.abi.stat import S_IFMT, S_IFSOCK
from trapline.abi.time import CLOCK_REALTIME
from trapline.kernel.ipc.mqueue.filesystem import open_queue, unlink_queue
from trapline.kernel.ipc.mqueue.queue import Message, Notification, Queue, QueueFile, Sleeper
from trapline.kernel.sync.park import Interrupted
from trapline.kernel.syscalls.declare import Arg, Fd, Mode, Result, Size, Str, UInt, UserPtr, syscall
from trapline.kernel.syscalls.timearg import read_timespec
from trapline.kernel.task.signals.send import SigInfo, send_to_group

if TYPE_CHECKING:
    from trapline.kernel.net.netlink.socket import NetlinkSocket
    from trapline.kernel.task.task import Task

OpenFlags = Annotated[int, Arg(-32, "flags:open")]
Attr = Annotated[int, Arg(64, "struct:mq_attr")]
AttrOut = Annotated[int, Arg(64, "struct_out:mq_attr")]
Data = Annotated[int, Arg(64, "buf_in:msg_len")]
DataOut = Annotated[int, Arg(64, "buf_out")]
Timespec = Annotated[int, Arg(64, "struct:timespec")]
Sigevent = Annotated[int, Arg(64, "struct:sigevent")]


@syscall("mq_open", returns="fd")
def sys_mq_open(task: Task, name: Str, oflag: OpenFlags, mode: Mode, attr: Attr) -> int:
    """mq_open(2): open a message queue, made if need be."""
    wanted = None
    if attr and oflag & O_CREAT:
        _, maxmsg, msgsize, _ = ipc.MQ_ATTR.unpack(task.mm.read(attr, ipc.MQ_ATTR.size))
        wanted = maxmsg, msgsize
    text = task.mm.read_path(name)
    task.files.reserve()
    flags = oflag & (O_ACCMODE | O_NONBLOCK | O_APPEND)
    file = open_queue(task.kernel.ipc, task, text, oflag, mode, wanted)
    file.flags = flags
    return task.files.install(file, True)


@syscall("mq_unlink")
def sys_mq_unlink(task: Task, name: Str) -> int:
    """mq_unlink(2): remove a message queue's name."""
    unlink_queue(task.kernel.ipc, task, task.mm.read_path(name))
    return 0


def _deadline(task: Task, address: int) -> int | None:
    """CLOCK_MONOTONIC's time for an absolute time-out on CLOCK_REALTIME. Raises EFAULT, EINVAL."""
    if not address:
        return None
    return task.kernel.clock.deadline_ns(CLOCK_REALTIME, read_timespec(task, address))  # type: ignore[no-any-return]


def _queue(task: Task, mqdes: int) -> QueueFile:
    file = task.files.get(mqdes)
    if not isinstance(file, QueueFile):
        raise EBADF("not a message queue")
    return file


@syscall("mq_timedsend")
def sys_mq_timedsend(
    task: Task, mqdes: Fd, msg_ptr: Data, msg_len: Size, msg_prio: UInt, abs_timeout: Timespec
) -> Result:
    """mq_timedsend(2): send a message, waiting for room."""
    if msg_prio >= ipc.MQ_PRIO_MAX:
        raise EINVAL("priority")
    deadline = _deadline(task, abs_timeout)
    file = _queue(task, mqdes)
    if not file.writable:
        raise EBADF
    queue = file.inode
    if msg_len > queue.msgsize:
        raise EMSGSIZE
    data = task.mm.read(msg_ptr, msg_len)
    if queue.full and file.flags & O_NONBLOCK:
        raise EAGAIN
    message = queue.message(data, msg_prio)
    if not queue.full:
        queue.put(message, task)
        return 0
    return _send_waiting(file, message, deadline)


async def _send_waiting(file: QueueFile, message: Message, deadline: int | None) -> int:
    sleeper = Sleeper(message)
    try:
        await _sleep(file, file.inode.senders, sleeper, deadline)
    finally:
        if not sleeper.done:
            file.inode.let_go(message)
    return 0


async def _sleep(file: QueueFile, sleepers: list[Sleeper], sleeper: Sleeper, deadline: int | None) -> None:
    """Wait until somebody served the sleeper; raises ETIMEDOUT, Interrupted."""
    file.get()
    sleepers.append(sleeper)
    try:
        if not await sleeper.queue.wait(deadline):
            raise ETIMEDOUT
    except (ETIMEDOUT, Interrupted):
        if not sleeper.done:
            raise
    finally:
        if sleeper in sleepers:
            sleepers.remove(sleeper)
        file.put()


@syscall("mq_timedreceive")
def sys_mq_timedreceive(
    task: Task, mqdes: Fd, msg_ptr: DataOut, msg_len: Size, msg_prio: UserPtr, abs_timeout: Timespec
) -> Result:
    """mq_timedreceive(2): receive the oldest message of the highest priority, waiting for one."""
    deadline = _deadline(task, abs_timeout)
    file = _queue(task, mqdes)
    if not file.readable:
        raise EBADF
    queue = file.inode
    if msg_len < queue.msgsize:
        raise EMSGSIZE
    if queue.messages:
        return _store(task, queue.take(), msg_ptr, msg_prio)
    if file.flags & O_NONBLOCK:
        raise EAGAIN
    return _receive_waiting(task, file, msg_ptr, msg_prio, deadline)


async def _receive_waiting(task: Task, file: QueueFile, address: int, priority: int, deadline: int | None) -> int:
    sleeper = Sleeper()
    await _sleep(file, file.inode.receivers, sleeper, deadline)
    assert sleeper.message is not None
    return _store(task, sleeper.message, address, priority)


def _store(task: Task, message: Message, address: int, priority: int) -> int:
    if priority:
        task.mm.write_u32(priority, -message.rank)
    task.mm.write(address, message.data)
    return len(message.data)


@syscall("mq_notify")
def sys_mq_notify(task: Task, mqdes: Fd, sevp: Sigevent) -> int:
    """mq_notify(2): hear of the next message that arrives in an empty queue.

    SIGEV_THREAD is the C library's: a thread of its own waits at a netlink socket for the cookie that came with the request.
    """
    notify = signo = value = 0
    cookie: Cookie | None = None
    if sevp:
        value, signo, notify, _ = s.SIGEVENT.unpack(task.mm.read(sevp, s.SIGEVENT.size))
        _check_event(notify, signo)
        if notify == s.SIGEV_THREAD:
            cookie = _cookie(task, signo, value)
    queue: Queue = _queue(task, mqdes).inode
    if not sevp:
        if queue.notification is not None and queue.notification.group is task.group:
            queue.remove_notification()
        return 0

    def tell(sender: Task) -> None:
        if cookie is not None:
            cookie.send(NOTIFY_WOKENUP)
        elif notify != s.SIGEV_NONE and signo:
            info = SigInfo(signo, s.SI_MESGQ, pid=sender.group.pid, uid=sender.creds.uid, value=value)
            with suppress(EAGAIN):
                send_to_group(group, info)

    group = task.group
    removed = None if cookie is None else partial(cookie.send, NOTIFY_REMOVED)
    queue.notify_me(Notification(group, task.files, notify, signo, tell, removed))
    return 0


class Cookie(NamedTuple):
    """What a C library's thread wants to have back, on which socket; the last byte says what has happened."""

    socket: NetlinkSocket
    data: bytes

    def send(self, what: int) -> None:
        self.socket.tell(self.data[:-1] + bytes([what]))


def _cookie(task: Task, fd: int, address: int) -> Cookie:
    """EFAULT, EBADF, ENOTSOCK, EINVAL."""
    from trapline.kernel.net.netlink.socket import NetlinkSocket

    data = task.mm.read(address, NOTIFY_COOKIE_LEN)
    file = task.files.get(fd)
    if file.inode.mode & S_IFMT != S_IFSOCK:
        raise ENOTSOCK
    if not isinstance(file, NetlinkSocket):
        raise EINVAL("not a netlink socket")
    return Cookie(file, data)


def _check_event(notify: int, signo: int) -> None:
    if notify not in (s.SIGEV_NONE, s.SIGEV_SIGNAL, s.SIGEV_THREAD):
        raise EINVAL("sigev_notify")
    if notify == s.SIGEV_SIGNAL and not 0 <= signo <= s.NSIG:
        raise EINVAL("sigev_signo")


@syscall("mq_getsetattr")
def sys_mq_getsetattr(task: Task, mqdes: Fd, newattr: Attr, oldattr: AttrOut) -> int:
    """mq_getsetattr(2): a queue's attributes; of them, O_NONBLOCK can be set."""
    flags = None
    if newattr:
        flags = ipc.MQ_ATTR.unpack(task.mm.read(newattr, ipc.MQ_ATTR.size))[0]
        if flags & ~O_NONBLOCK:
            raise EINVAL
    file = _queue(task, mqdes)
    queue = file.inode
    old = ipc.MQ_ATTR.pack(file.flags & O_NONBLOCK, queue.maxmsg, queue.msgsize, len(queue.messages))
    if flags is not None:
        file.flags = file.flags & ~O_NONBLOCK | flags
    if oldattr:
        task.mm.write(oldattr, old)
    return 0
