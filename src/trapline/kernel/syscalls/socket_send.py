"""send(2), sendmsg(2), sendmmsg(2): data, addresses and control messages into sockets."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import socket as s
from trapline.abi.errno import (
    EAGAIN,
    EFAULT,
    EINVAL,
    EISCONN,
    EMSGSIZE,
    ENOBUFS,
    EOPNOTSUPP,
    EPIPE,
    Errno,
)
from trapline.abi.fcntl import O_NONBLOCK
from trapline.abi.poll import POLLPRI
from trapline.abi.rw import UIO_MAXIOV
from trapline.kernel.net.garbage import collect_garbage
from trapline.kernel.net.message import (
    Ucred,
    load_cargo,
    parse_control,
    ucred_of,
)
from trapline.kernel.net.unix import CONNECTED, UnixSocket
from trapline.kernel.net.unix_address import autobind, find, parse, read_address
from trapline.kernel.sync.park import Interrupted
from trapline.kernel.syscalls.declare import Arg, Fd, Result, Size, UInt, UserPtr, syscall
from trapline.kernel.syscalls.iovec import UserBuffer, many, one
from trapline.kernel.syscalls.socket import MAX_CONTROL, Address, MsgFlags, netlink, socket_of
from trapline.kernel.syscalls.transfer import CHUNK, broken_pipe, deadline_of, wait_file

if TYPE_CHECKING:
    from trapline.kernel.net.message import Cargo
    from trapline.kernel.task.task import Task

BufIn = Annotated[int, Arg(64, "buf_in:len")]
MsgHdr = Annotated[int, Arg(64, "struct:msghdr")]


class _Outgoing:
    """One message to be sent: checked, copied once."""

    def __init__(self, task: Task, socket: UnixSocket, user: UserBuffer, flags: int) -> None:
        if user.left > CHUNK and socket.kind != s.SOCK_STREAM:
            raise EMSGSIZE
        self.task = task
        self.socket = socket
        self.user = user
        self.data = _take_all(user)
        self.flags = flags
        self.creds: Ucred = ucred_of(task)
        self.fds: tuple[int, ...] = ()
        self.name: bytes | None = None
        self.to: UnixSocket | None = None
        self.done = 0

    def address(self, raw: bytes) -> None:
        """Where a datagram goes."""
        socket = self.socket
        if socket.family != s.AF_UNIX:
            self.name = raw
            return
        if socket.kind == s.SOCK_SEQPACKET:
            return
        if socket.kind == s.SOCK_STREAM:
            raise EISCONN if socket.state == CONNECTED else EOPNOTSUPP
        self.name = parse(raw)
        self.to = find(self.task, self.name, socket.kind)

    def start(self) -> Result:
        if self.flags & s.MSG_OOB and (self.socket.kind != s.SOCK_STREAM or not self.data):
            raise EOPNOTSUPP
        if (other := netlink(self.socket)) is not None:
            if self.fds:
                raise EINVAL("only UNIX sockets pass descriptors")
            return other.send_to(self.task, self.data, self.creds, self.name)
        if self.socket.pass_creds and self.socket.kind == s.SOCK_DGRAM:
            autobind(self.socket)
        try:
            done = self._try()
        except EPIPE:
            self._signal()
            raise
        if done is not None and done == len(self.data) and not self.user.left:
            return done
        if self.flags & s.MSG_DONTWAIT or self.socket.flags & O_NONBLOCK:
            if done is None:
                raise EAGAIN
            return done
        self._sent(done or 0)
        return self._wait()

    def _sent(self, count: int) -> None:
        """`count` bytes are gone: on to what is left, and to the next chunk of something long."""
        self.done += count
        self.data = self.data[count:]
        if not self.data and self.user.left:
            self.data = self.user.take(CHUNK)

    def _try(self) -> int | None:
        cargo: Cargo | None = None
        if not self.done:
            cargo = load_cargo(self.task, self.fds)
            if cargo is not None and cargo.flights.total >= cargo.flights.collect_at:
                collect_garbage(cargo.flights)
        try:
            if self.flags & s.MSG_OOB:
                count = self._try_urgent(cargo)
            else:
                count = self.socket.try_send(self.data, self.creds, cargo, self.to)
        except BaseException:
            if cargo is not None:
                cargo.drop()
            raise
        if cargo is not None and (count is None or (not count and self.socket.kind == s.SOCK_STREAM)):
            cargo.drop()
        return count

    def _try_urgent(self, cargo: Cargo | None) -> int | None:
        """The last byte of all is urgent, and the owner of the receiving socket hears of it."""
        socket, last = self.socket, not self.user.left
        count = socket.try_send(self.data, self.creds, cargo, urgent=last)
        if last and count == len(self.data) and socket.peer is not None:
            from trapline.kernel.syscalls.async_io import tell_urgent

            tell_urgent(self.task.kernel, socket.peer)
            socket.peer.queue.wake_all(POLLPRI)
        return count

    def _signal(self) -> None:
        if not self.flags & s.MSG_NOSIGNAL and self.socket.kind != s.SOCK_DGRAM:
            broken_pipe(self.task)

    async def _wait(self) -> int:
        socket = self.socket
        socket.get()
        try:
            while True:
                count = self._try() if self.done else None
                if count is None:
                    deadline = deadline_of(self.task, socket, 0, True)
                    ready = await wait_file(self.task, socket, deadline, may_restart=deadline is None)
                    count = self._try()
                    if count is None and not ready:
                        raise EAGAIN
                self._sent(count or 0)
                if count is not None and (not self.data or socket.kind != s.SOCK_STREAM):
                    return self.done
        except (Interrupted, Errno) as error:
            if self.done:
                return self.done
            if isinstance(error, EPIPE):
                self._signal()
            raise
        finally:
            socket.put()


def _take_all(user: UserBuffer) -> bytes:
    """What a send copies in: everything, or a first chunk of something long. EFAULT."""
    want = min(user.left, CHUNK)
    data = user.take(want)
    if len(data) < want:
        raise EFAULT
    return data


@syscall("sendto")
def sys_sendto(
    task: Task, fd: Fd, buf: BufIn, len: Size, flags: MsgFlags, addr: Address, addrlen: Annotated[int, Arg(-32, "dec")]
) -> Result:
    """sendto(2): send a message on a socket."""
    socket = socket_of(task, fd)
    message = _Outgoing(task, socket, one(task.mm, buf, len), flags)
    if addr:
        message.address(read_address(task, addr, addrlen))
    return message.start()


def _send_header(task: Task, socket: UnixSocket, address: int, flags: int) -> _Outgoing:
    """The message that a struct msghdr describes. EFAULT, EMSGSIZE, EINVAL, ENOBUFS."""
    name, namelen, iov, iovlen, control, controllen, _ = s.MSGHDR.unpack(task.mm.read(address, s.MSGHDR_SIZE))
    if iovlen > UIO_MAXIOV:
        raise EMSGSIZE
    if controllen > MAX_CONTROL:
        raise ENOBUFS
    message = _Outgoing(task, socket, many(task.mm, iov, iovlen), flags)
    if control and controllen:
        creds, message.fds = parse_control(task, task.mm.read(control, controllen))
        message.creds = creds or message.creds
    if name and namelen:
        message.address(read_address(task, name, namelen))
    return message


@syscall("sendmsg")
def sys_sendmsg(task: Task, fd: Fd, msg: MsgHdr, flags: MsgFlags) -> Result:
    """sendmsg(2): send a message, with control data, on a socket."""
    return _send_header(task, socket_of(task, fd), msg, flags).start()


@syscall("sendmmsg")
def sys_sendmmsg(task: Task, fd: Fd, msgvec: UserPtr, vlen: UInt, flags: MsgFlags) -> Result:
    """sendmmsg(2): send several messages on a socket."""
    socket = socket_of(task, fd)
    return _send_many(task, socket, msgvec, min(vlen, UIO_MAXIOV), flags)


async def _send_many(task: Task, socket: UnixSocket, address: int, count: int, flags: int) -> int:
    sent = 0
    socket.get()
    try:
        while sent < count:
            at = address + sent * s.MMSGHDR_SIZE
            result = _send_header(task, socket, at, flags).start()
            size = result if isinstance(result, int) else await result
            task.mm.write_u32(at + s.MMSGHDR_LEN_AT, size)
            sent += 1
    except (Interrupted, Errno):
        if not sent:
            raise
    finally:
        socket.put()
    return sent
