"""recv(2), recvmsg(2), recvmmsg(2): data, addresses and control messages out of sockets."""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi import socket as s
from trapline.abi.errno import (
    EAGAIN,
    EFAULT,
    EINVAL,
    EMSGSIZE,
    Errno,
)
from trapline.abi.fcntl import O_NONBLOCK
from trapline.abi.poll import POLLIN
from trapline.abi.rw import UIO_MAXIOV
from trapline.kernel.net import urgent
from trapline.kernel.net.message import (
    ControlWriter,
    Message,
    Ucred,
    joined,
)
from trapline.kernel.net.unix import UnixSocket
from trapline.kernel.net.unix_address import write_address
from trapline.kernel.sync.park import Interrupted
from trapline.kernel.syscalls.declare import Arg, Fd, Result, Size, UInt, UserPtr, syscall
from trapline.kernel.syscalls.iovec import UserBuffer, many, one
from trapline.kernel.syscalls.socket import MAX_CONTROL, AddressOut, MsgFlags, packed, socket_of
from trapline.kernel.syscalls.timearg import after, read_timespec, write_timespec
from trapline.kernel.syscalls.transfer import CHUNK, deadline_of, wait_file

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

BufOut = Annotated[int, Arg(64, "buf_out")]
MsgHdrOut = Annotated[int, Arg(64, "struct_out:msghdr")]
TimeSpec = Annotated[int, Arg(64, "struct:timespec")]
NAMELEN_AT, CONTROLLEN_AT, FLAGS_AT = 8, 40, 48  #: of struct msghdr: what is written back


class _Incoming:
    """One receive: where data goes, and what else came with it."""

    def __init__(self, task: Task, socket: UnixSocket, user: UserBuffer, flags: int, control: int = 0) -> None:
        self.task = task
        self.socket = socket
        self.user = user
        self.flags = flags
        self.out = 0  #: MSG_* for msg_flags
        self.control = ControlWriter(min(control, MAX_CONTROL))
        self.wants_control = control > 0
        self.sender: bytes | None = None
        self.creds: Ucred | None = None  #: of what was received so far
        self.done = 0
        if flags & s.MSG_ERRQUEUE:
            raise EAGAIN

    def attempt(self) -> int | None:
        """What is there now; None: would block."""
        if self.flags & s.MSG_OOB:
            return self._urgent()
        if self.socket.kind == s.SOCK_STREAM:
            return self._stream()
        return self._record()

    def _urgent(self) -> int:
        """The urgent byte: never waits."""
        data = urgent.take(self.socket, bool(self.flags & s.MSG_PEEK))
        if self.user.left and not self.user.put(data):
            raise EFAULT
        self.out |= s.MSG_OOB
        return 1

    def _stream(self) -> int | None:
        socket = self.socket
        if not self.user.left:
            return self.done
        first = socket.next_message()
        if first is None:
            return self.done if socket.at_end() else None
        if self.creds is not None and socket.pass_creds and first.creds != self.creds:
            return self.done
        want = min(self.user.left, CHUNK)
        peek = bool(self.flags & s.MSG_PEEK)
        batch = socket.batch(want) if not socket.marked else urgent.batch(socket, want, self.done, peek)
        if not batch:
            return self.done if self.done or socket.at_end() else None
        data = joined(batch, want)
        count = self.user.put(data)
        if not count:
            if self.done:
                return self.done
            raise EFAULT
        barrier = batch[-1].cargo is not None
        self._extras(first.creds, batch[-1])
        if not peek:
            socket.take_bytes(batch, count)
        self.done += count
        waits = self.flags & s.MSG_WAITALL or self.done < socket.least
        if waits and self.user.left and not peek and not barrier and count == len(data) and not socket.marked:
            return None if not socket.inbox and not socket.at_end() else self._stream()
        return self.done

    def _record(self) -> int | None:
        socket = self.socket
        message = socket.next_message()
        if message is None:
            return 0 if socket.at_end() else None
        want = self.user.left
        data = message.data[:want]
        if self.user.put(data) < len(data):
            socket.consume(message, 0)
            message.drop_cargo()
            raise EFAULT
        if len(message.data) > want:
            self.out |= s.MSG_TRUNC
        self.sender = message.address
        self._extras(message.creds, message)
        size = len(message.data) if self.flags & s.MSG_TRUNC else len(data)
        if not self.flags & s.MSG_PEEK:
            socket.consume(message, 0)
        return size

    def _extras(self, creds: Ucred, message: Message) -> None:
        """Who sent it, said once, and the files of `message`."""
        task, control = self.task, self.control
        if self.socket.pass_creds and self.creds is None:
            control.credentials(creds)
        self.creds = creds
        cargo = message.cargo
        if cargo is None:
            return
        if self.flags & s.MSG_PEEK:
            cargo = cargo.copy()
        else:
            message.cargo = None
        if self.wants_control:
            control.rights(task, cargo, self.flags)
        else:
            cargo.drop()
            control.flags |= s.MSG_CTRUNC

    def start(self) -> Result:
        size = self.attempt()
        if size is not None:
            return size
        if self.flags & s.MSG_DONTWAIT or self.socket.flags & O_NONBLOCK:
            if self.done:
                return self.done
            raise EAGAIN
        return self._wait()

    async def _wait(self) -> int:
        socket = self.socket
        socket.get()
        try:
            while True:
                deadline = deadline_of(self.task, socket, 0, False)
                ready = await wait_file(self.task, socket, deadline, may_restart=deadline is None, turn=POLLIN)
                size = self.attempt()
                if size is not None:
                    return size
                if not ready:
                    raise EAGAIN
        except (Interrupted, Errno):
            if self.done:
                return self.done
            raise
        finally:
            socket.put()


async def gather(task: Task, socket: Any, user: UserBuffer) -> int:
    """read(2) of a socket that waits for more than a byte."""
    result = _Incoming(task, socket, user, 0).start()
    return result if isinstance(result, int) else await result


def _then(result: Result, finish: Any) -> Result:
    """`finish(result)` now, or once the coroutine is done."""
    if isinstance(result, int):
        finish()
        return result
    return _finish_later(result, finish)


async def _finish_later(waiting: Coroutine[Any, Any, int], finish: Any) -> int:
    result = await waiting
    finish()
    return result


@syscall("recvfrom")
def sys_recvfrom(
    task: Task, fd: Fd, buf: BufOut, len: Size, flags: MsgFlags, addr: AddressOut, addrlen: UserPtr
) -> Result:
    """recvfrom(2): receive a message from a socket."""
    socket = socket_of(task, fd)
    message = _Incoming(task, socket, one(task.mm, buf, len), flags)
    if not addr:
        return message.start()

    def finish() -> None:
        write_address(task, addr, addrlen, packed(socket, message.sender) if message.sender is not None else b"")

    return _then(message.start(), finish)


def _receive_header(task: Task, socket: UnixSocket, address: int, flags: int) -> Result:
    """Receive into what a struct msghdr describes, and store the rest of it."""
    name, namelen, iov, iovlen, control, controllen, _ = s.MSGHDR.unpack(task.mm.read(address, s.MSGHDR_SIZE))
    if iovlen > UIO_MAXIOV:
        raise EMSGSIZE
    if name and namelen >> 31:
        raise EINVAL
    message = _Incoming(task, socket, many(task.mm, iov, iovlen), flags, controllen if control else 0)

    def finish() -> None:
        mm = task.mm
        if name:
            raw = packed(socket, message.sender) if message.sender is not None else b""
            if raw[:namelen]:
                mm.write(name, raw[:namelen])
            mm.write_u32(address + NAMELEN_AT, len(raw))
        data = message.control.data
        if data:
            mm.write(control, data)
        mm.write_u64(address + CONTROLLEN_AT, len(data))
        cloexec = flags & s.MSG_CMSG_CLOEXEC
        mm.write_u32(address + FLAGS_AT, message.out | message.control.flags | cloexec)

    return _then(message.start(), finish)


@syscall("recvmsg")
def sys_recvmsg(task: Task, fd: Fd, msg: MsgHdrOut, flags: MsgFlags) -> Result:
    """recvmsg(2): receive a message, with control data, from a socket."""
    return _receive_header(task, socket_of(task, fd), msg, flags)


@syscall("recvmmsg")
def sys_recvmmsg(task: Task, fd: Fd, msgvec: UserPtr, vlen: UInt, flags: MsgFlags, timeout: TimeSpec) -> Result:
    """recvmmsg(2): receive several messages from a socket. As on Linux the time-out is looked at after each message."""
    socket = socket_of(task, fd)
    deadline = None
    if timeout:
        deadline = after(task.kernel.clock.monotonic_ns(), read_timespec(task, timeout))
    return _receive_many(task, socket, msgvec, min(vlen, UIO_MAXIOV), flags, deadline, timeout)


async def _receive_many(
    task: Task, socket: UnixSocket, address: int, count: int, flags: int, deadline: int | None, timeout: int
) -> int:
    got = 0
    socket.get()
    try:
        while got < count:
            at = address + got * s.MMSGHDR_SIZE
            result = _receive_header(task, socket, at, flags & ~s.MSG_WAITFORONE)
            size = result if isinstance(result, int) else await result
            task.mm.write_u32(at + s.MMSGHDR_LEN_AT, size)
            got += 1
            if flags & s.MSG_WAITFORONE:
                flags |= s.MSG_DONTWAIT
            if deadline is not None:
                left = deadline - task.kernel.clock.monotonic_ns()
                write_timespec(task, timeout, max(0, left))
                if left <= 0:
                    break
    except (Interrupted, Errno):
        if not got:
            raise
    finally:
        socket.put()
    return got
