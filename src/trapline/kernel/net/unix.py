"""UNIX domain sockets: unix(7). Streams, datagrams and sequenced packets between processes of one kernel.

A socket is a `UnixSocket`; what was sent to it waits in its `inbox`. Blocking is the caller's business: `try_*` answer None
when they would block, and `queue` is woken whenever that may have changed.

Invariants:
- `peer` is mutual for connected stream and seqpacket sockets; a datagram socket's peer need not know of it;
- `sent` is what this socket is charged for messages in others' inboxes; it is given back when they are read or dropped.
"""

from __future__ import annotations

from collections import deque
from trapline.typed import Any
from weakref import WeakKeyDictionary

from trapline.abi.errno import (
    ECONNREFUSED,
    ECONNRESET,
    EINVAL,
    EISCONN,
    EMSGSIZE,
    ENOBUFS,
    ENOTCONN,
    ENOTSUP,
    EPERM,
    EPIPE,
    EPROTOTYPE,
    Errno,
    of_number,
)
from trapline.abi.fcntl import O_NONBLOCK, O_RDWR
from trapline.abi.ioctl import SIOCATMARK, SIOCINQ, SIOCOUTQ
from trapline.abi.poll import POLL_IN, POLL_OUT, POLLERR, POLLHUP, POLLIN, POLLPRI, POLLRDHUP
from trapline.abi.socket import (
    AF_UNIX,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOMAXCONN,
)
from trapline.abi.stat import S_IFSOCK
from trapline.kernel.fs.inode import AnonInode
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.net import urgent
from trapline.kernel.net.message import NOBODY, Cargo, Message, Ucred, joined, ucred_of
from trapline.kernel.sync.budget import Budgets
from trapline.kernel.sync.park import WaitQueue

DEFAULT_BUFFER = 212_992  #: net.core.wmem_default
MAX_BUFFER = 2 * 212_992
MAX_DATAGRAMS = 10  #: net.unix.max_dgram_qlen
LEAST_BUFFER = 4608  #: what a socket may have under way whatever others have
UNDER_WAY = Budgets(512, 16 << 20)  #: bytes in all inboxes of a kernel; beyond, buffers shrink to LEAST_BUFFER
CHUNK = 32768  #: a stream is cut into messages of at most this size

UNCONNECTED, CONNECTED, LISTENING = 0, 1, 2
RECEIVE_SHUT, SEND_SHUT = 1, 2


_open: WeakKeyDictionary[Any, dict[int, UnixSocket]] = WeakKeyDictionary()


def sockets_of(kernel: Any) -> dict[int, UnixSocket]:
    """The sockets of a kernel that are open, by inode number."""
    return _open.setdefault(kernel, {})


class UnixSocket(SpecialFile):
    """One socket and its open file. `address` is sun_path as bound: a path, or b"\\0name" for an abstract one."""

    __slots__ = (
        "address", "backlog", "closed", "creds", "error", "filter", "filter_locked", "inbox", "kernel", "kind", "least",
        "marked", "oob", "options", "pass_creds", "peer", "peer_address", "peer_creds", "pending", "queue", "rcvbuf",
        "receive_timeout_ns", "send_timeout_ns", "sent", "shut", "sndbuf", "state", "unbind", "under_way", "waiting_for",
    )  # fmt: skip

    by_task = True
    family = AF_UNIX  #: the names of other families are whole structures: see net.netlink.socket

    def __init__(self, task: Any, kind: int, flags: int = 0) -> None:
        kernel = task.kernel
        inode = AnonInode(kernel.vfs.sock_sb, S_IFSOCK | 0o777, uid=task.creds.fsuid, gid=task.creds.fsgid)
        super().__init__(inode, O_RDWR | flags)
        self.kernel = kernel
        self.kind = kind
        self.state = UNCONNECTED
        self.address: bytes | None = None
        self.unbind: Any = None  #: takes the address back at the end
        self.peer: UnixSocket | None = None
        self.peer_address: bytes | None = None  #: of a connected peer that is gone
        self.inbox: deque[Message] = deque()
        self.oob: Message | None = None  #: in the inbox: the urgent byte (urgent.py)
        self.marked = False  #: the inbox has an urgent byte, or the mark of one
        self.filter: list[tuple[int, int, int, int]] | None = None  #: of SO_ATTACH_FILTER, as bpf.packet prepared it
        self.filter_locked = False
        self.least = 1  #: SO_RCVLOWAT: how many bytes a receive waits for
        self.pending: deque[UnixSocket] = deque()  #: of a listener: connections nobody accepted yet
        self.backlog = 0
        self.queue = WaitQueue()
        self.waiting_for: dict[UnixSocket, None] = {}  #: datagram senders that found this inbox full
        self.shut = 0
        self.error = 0
        self.closed = False
        self.sent = 0
        self.under_way = UNDER_WAY.of(kernel)
        self.sndbuf = self.rcvbuf = DEFAULT_BUFFER
        self.pass_creds = False
        self.receive_timeout_ns: int | None = None
        self.send_timeout_ns: int | None = None
        self.options: dict[int, bytes] = {}
        sockets_of(kernel)[inode.ino] = self
        self.creds = ucred_of(task)
        self.peer_creds: Ucred = (0, 0xFFFFFFFF, 0xFFFFFFFF)

    @property
    def records(self) -> bool:  # type: ignore[override]
        return self.kind != SOCK_STREAM

    @property
    def turns(self) -> int:  # type: ignore[override]
        """A connection or a message is for one sleeper; of a stream anybody may have a part."""
        return POLLIN if self.state == LISTENING or self.kind != SOCK_STREAM else 0

    # ---- connections

    def pair(self, other: UnixSocket) -> None:
        """socketpair(2), or both ends of an accepted connection."""
        self.peer, other.peer = other, self
        self.peer_creds, other.peer_creds = other.creds, self.creds
        self.state = other.state = CONNECTED

    def listen(self, task: Any, backlog: int) -> None:
        if self.kind == SOCK_DGRAM:
            raise ENOTSUP
        if self.address is None or self.state == CONNECTED:
            raise EINVAL
        self.state = LISTENING
        self.backlog = min(backlog, SOMAXCONN) if backlog >= 0 else SOMAXCONN
        self.creds = ucred_of(task)
        self.queue.wake_all(POLL_OUT)

    def try_connect(self, task: Any, target: UnixSocket) -> bool:
        """Connect to a socket that was found by its address; False while the listener's backlog is full."""
        if target.closed:
            raise ECONNREFUSED
        if target.kind != self.kind:
            raise EPROTOTYPE
        if self.kind == SOCK_DGRAM:
            self._connect_datagram(target)
            return True
        if self.state != UNCONNECTED:
            raise EISCONN if self.state == CONNECTED else EINVAL
        if target.state != LISTENING or target.shut & RECEIVE_SHUT:
            raise ECONNREFUSED
        if len(target.pending) > target.backlog:
            return False
        served = UnixSocket(task, self.kind)
        served.creds = target.creds
        served.address = target.address
        served.pass_creds = target.pass_creds
        self.creds = ucred_of(task)
        self.pair(served)
        target.pending.append(served)
        target.queue.wake_all(POLL_IN)
        return True

    def _connect_datagram(self, target: UnixSocket) -> None:
        if target.peer is not None and target.peer is not self:
            raise EPERM  # it listens to somebody else
        if self.peer is not target:
            self.disconnect()
        self.peer = target
        self.peer_creds = target.creds
        self.state = CONNECTED

    def disconnect(self) -> None:
        """connect(2) to AF_UNSPEC, for datagrams."""
        if self.peer is not None and self.peer.peer is self and self.kind == SOCK_DGRAM:
            self._drop_inbox()
            self.peer.error = ECONNRESET.number
        self.peer = None
        self.state = UNCONNECTED

    def try_accept(self) -> UnixSocket | None:
        if self.state != LISTENING:
            raise EINVAL
        if not self.pending:
            if self.shut & RECEIVE_SHUT:
                raise EINVAL
            return None
        served = self.pending.popleft()
        self.queue.wake_all(POLL_OUT)
        return served

    def shutdown(self, how: int) -> None:
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise EINVAL
        mode = how + 1
        self.shut |= mode
        self.queue.wake_all()
        peer = self.peer
        if peer is not None and self.kind != SOCK_DGRAM:
            peer.shut |= (SEND_SHUT if mode & RECEIVE_SHUT else 0) | (RECEIVE_SHUT if mode & SEND_SHUT else 0)
            peer.queue.wake_all(POLL_IN | POLLRDHUP | POLLHUP)
        if self.state == LISTENING:
            self.queue.wake_all()

    def release(self) -> None:
        """The last descriptor is closed."""
        self.closed = True
        sockets_of(self.kernel).pop(self.inode.ino, None)
        if self.unbind is not None:
            self.unbind(self)
        peer = self.peer
        if peer is not None and self.kind != SOCK_DGRAM:
            peer.shut = RECEIVE_SHUT | SEND_SHUT
            if self.inbox:
                peer.error = ECONNRESET.number
            peer.peer = None
            peer.peer_address = self.address
            peer.queue.wake_all(POLL_IN | POLLHUP | POLLRDHUP | POLLERR)
        self.peer = None
        self._drop_inbox()
        for served in self.pending:
            served.inbox.append(Message(b"", None, NOBODY))  # so that its peer sees a reset
            served.put()
        self.pending.clear()
        self.queue.wake_all()

    def empty(self) -> None:
        """Drop every message that waits here, in unaccepted connections too."""
        self._drop_inbox()
        for served in self.pending:
            served.empty()

    def _drop_inbox(self) -> None:
        inbox, self.inbox = self.inbox, deque()
        self.oob, self.marked = None, False
        for message in inbox:
            self._gone(message)
            message.drop_cargo()
        self._room()

    # ---- sending

    def try_send(
        self, data: bytes | memoryview, creds: Ucred, cargo: Cargo | None = None, to: UnixSocket | None = None,
        urgent: bool = False,
    ) -> int | None:
        """Send to `to` (datagrams) or the peer: how many bytes, None when it would block. The message takes over the cargo
        if and only if the result is above zero, or zero for a record. `urgent`: the last byte of a stream is."""
        if self.kind == SOCK_STREAM:
            return self._send_stream(data, creds, cargo, urgent)
        return self._send_record(data, creds, cargo, to)

    def _send_stream(self, data: bytes | memoryview, creds: Ucred, cargo: Cargo | None, urgent: bool) -> int | None:
        peer = self.peer
        if self.shut & SEND_SHUT or (peer is None and self.state == CONNECTED):
            raise EPIPE
        self._check_error()
        if peer is None:
            raise ENOTCONN
        if peer.shut & RECEIVE_SHUT:
            raise EPIPE
        done = 0
        ordinary = len(data) - urgent
        while done < len(data) and (room := self.buffer - self.sent) > 0:
            part = bytes(data[done : min(done + min(CHUNK, room), ordinary)] or data[done:])
            message = self._charged(Message(part, self, creds, cargo))
            peer.inbox.append(message)
            cargo = None
            if urgent and done == ordinary:
                peer.oob, peer.marked = message, True
            done += len(part)
        if done:
            peer.queue.wake_all(POLL_IN)
        return done if done or not data else None

    def _send_record(
        self, data: bytes | memoryview, creds: Ucred, cargo: Cargo | None, to: UnixSocket | None
    ) -> int | None:
        target = to or self.peer
        self._check_error()
        if self.shut & SEND_SHUT:
            raise EPIPE
        if target is None:
            if self.kind == SOCK_SEQPACKET:
                raise EPIPE if self.state == CONNECTED else ENOTCONN
            raise ENOTCONN
        if target.closed:
            if target is self.peer:
                self.disconnect()
            raise ECONNREFUSED
        if target.shut & RECEIVE_SHUT:
            raise EPIPE
        if target.kind == SOCK_DGRAM and target.peer is not None and target.peer is not self:
            raise EPERM  # it is connected to somebody else
        if len(data) > self.sndbuf - 32:
            raise EMSGSIZE
        whole = len(data)
        if target.filter is not None:
            data = bytes(data)[: target.filtered(data)]
            if whole and not data:
                return whole  # dropped; who sent it is not told
        if self.sent >= self.buffer:
            return None
        if len(data) > LEAST_BUFFER and self.under_way.used > 2 * self.under_way.limit:
            raise ENOBUFS("--memory limits what sockets hold")
        if self.kind == SOCK_DGRAM and len(target.inbox) > MAX_DATAGRAMS and target.peer is not self:
            target.waiting_for[self] = None
            return None
        target.inbox.append(self._charged(Message(bytes(data), self, creds, cargo, self.address)))
        target.queue.wake_all(POLL_IN)
        return whole

    def filtered(self, data: bytes | memoryview) -> int:
        """How much of a packet this socket's filter keeps."""
        from trapline.kernel.bpf import packet

        return packet.run(self.filter or [], bytes(data))

    @property
    def buffer(self) -> int:
        """How much it may have under way now."""
        return self.sndbuf if self.under_way.has() else min(self.sndbuf, LEAST_BUFFER)

    def _charged(self, message: Message) -> Message:
        self.sent += message.charge
        self.under_way.force(message.charge)
        return message

    def _check_error(self) -> None:
        if self.error:
            number, self.error = self.error, 0
            raise of_number(number) or Errno

    # ---- receiving

    def next_message(self) -> Message | None:
        """The message a receive looks at; None: would block. Raises what a receive on this socket fails with."""
        if self.inbox:
            return self.inbox[0]
        if self.kind != SOCK_DGRAM and self.state != CONNECTED:
            raise EINVAL if self.kind == SOCK_STREAM else ENOTCONN
        self._check_error()
        return None

    def at_end(self) -> bool:
        """With an empty inbox: nothing will come any more."""
        return bool(self.shut & RECEIVE_SHUT) or (self.kind != SOCK_DGRAM and self.peer is None)

    def consume(self, message: Message, count: int) -> None:
        """`count` bytes of the first message were read; a record is gone whole."""
        message.start += count
        if len(message) == 0 or self.kind != SOCK_STREAM:
            self.inbox.popleft()
            self._gone(message)
            self._room()

    def remove(self, message: Message) -> None:
        """A message leaves the inbox unread."""
        self.inbox.remove(message)
        self._gone(message)
        message.drop_cargo()

    def _gone(self, message: Message) -> None:
        sender = message.sender
        if sender is not None:
            sender.sent -= message.charge
            self.under_way.give(message.charge)
            queue = sender.queue
            if (queue.waiters or queue.listeners) and not sender.closed:
                queue.wake_all(POLL_OUT)

    def _room(self) -> None:
        waiting, self.waiting_for = self.waiting_for, {}
        for each in waiting:
            each.queue.wake_all(POLL_OUT)

    def batch(self, count: int) -> list[Message]:
        """The messages of a stream that one receive of `count` bytes takes from: as far as the first that carries files
        (unix(7): ancillary data is a barrier), and, where credentials are shown, from one sender."""
        taken: list[Message] = []
        for message in self.inbox:
            if count <= 0 or (taken and self.pass_creds and message.creds != taken[0].creds):
                break
            taken.append(message)
            count -= len(message)
            if message.cargo:
                break
        return taken

    def take_bytes(self, batch: list[Message], count: int) -> None:
        """`count` bytes of `batch` were read."""
        for message in batch:
            part = min(count, len(message))
            count -= part
            if part:
                self.consume(message, part)

    # ---- as a file

    def try_read(self, count: int) -> bytes | None:
        if not count:
            return b""
        message = self.next_message()
        if message is None:
            return b"" if self.at_end() else None
        if self.kind == SOCK_STREAM:
            return self._read_stream(count)
        data = message.data[:count]
        message.drop_cargo()
        self.consume(message, len(data))
        return data

    def _read_stream(self, count: int) -> bytes | None:
        """Bytes without what came with them: the files are closed."""
        batch = self.batch(count) if not self.marked else urgent.batch(self, count, 0, False)
        if not batch:
            return b"" if self.at_end() else None
        data = joined(batch, count)
        batch[-1].drop_cargo()
        self.take_bytes(batch, len(data))
        return data

    def wait_for(self, least: int) -> None:
        """SO_RCVLOWAT: how many bytes a receive waits for."""
        self.least = least
        if self.kind == SOCK_STREAM:
            self.__class__ = Patient if least > 1 else UnixSocket

    def try_write(self, data: bytes | memoryview) -> int | None:
        return None

    def write_as(self, task: Any, data: bytes | memoryview) -> int | None:
        return self.try_send(data, ucred_of(task))

    def unread(self, rest: bytes) -> None:
        if rest and self.kind == SOCK_STREAM:
            self.inbox.appendleft(Message(rest, None, self.peer_creds))

    def patience_ns(self, count: int, writing: bool) -> int | None:
        return self.send_timeout_ns if writing else self.receive_timeout_ns

    def poll(self) -> int:
        events = 0
        if self.error:
            events |= POLLERR
        if self.shut == RECEIVE_SHUT | SEND_SHUT:
            events |= POLLHUP
        if self.shut & RECEIVE_SHUT:
            events |= POLLRDHUP | POLL_IN
        if self.inbox or self.pending:
            events |= POLL_IN
        if self.oob is not None:
            events |= POLLPRI
        if self.kind != SOCK_DGRAM and self.state == UNCONNECTED:
            events |= POLLHUP
        if self.state != LISTENING and self.sent * 4 <= self.buffer and not self._peer_is_full():
            events |= POLL_OUT
        return events

    def _peer_is_full(self) -> bool:
        peer = self.peer
        if self.kind != SOCK_DGRAM or peer is None or peer.peer is self or len(peer.inbox) <= MAX_DATAGRAMS:
            return False
        peer.waiting_for[self] = None
        return True

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.queue,)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        if cmd == SIOCINQ:
            if self.state == LISTENING:
                raise EINVAL
            inbox = self.inbox
            stream = self.kind == SOCK_STREAM
            size = sum(len(each) for each in inbox) if stream else len(inbox[0]) if inbox else 0
            task.mm.write_u32(arg, size)
        elif cmd == SIOCOUTQ:
            task.mm.write_u32(arg, self.sent)
        elif cmd == SIOCATMARK:
            task.mm.write_u32(arg, urgent.at_mark(self))
        else:
            from trapline.kernel.net import interfaces  # few ask a socket

            return interfaces.ioctl(task, cmd, arg)
        return 0


class Patient(UnixSocket):
    """A stream that has to have `least` bytes for a read that waits."""

    __slots__ = ()

    gathers = True

    def try_read(self, count: int) -> bytes | None:
        peer = self.peer
        if not self.flags & O_NONBLOCK and not self.at_end() and (peer is None or peer.sent < peer.buffer):
            want = min(count, self.least)
            there = 0
            for message in self.inbox:
                there += len(message)
                if there >= want or message.cargo is not None:
                    break
            else:
                if want:
                    self.next_message()
                    return None
        return super().try_read(count)
