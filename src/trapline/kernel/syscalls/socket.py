"""socket(2) and its kin: making, naming and connecting sockets, of unix(7) and netlink(7).

Data and options are in `socket_send`, `socket_receive` and `socket_options`.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import socket as s
from trapline.abi.errno import (
    EAFNOSUPPORT,
    EAGAIN,
    EINVAL,
    ENOTCONN,
    ENOTSOCK,
    EOPNOTSUPP,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
)
from trapline.abi.fcntl import O_NONBLOCK
from trapline.abi.netlink import AF_NETLINK, NETLINK_ROUTE
from trapline.abi.poll import POLLIN
from trapline.kernel.net.unix import CONNECTED, LISTENING, UnixSocket
from trapline.kernel.net.unix_address import autobind, bind, find, pack, parse, read_address, write_address
from trapline.kernel.syscalls.declare import Arg, Fd, Int, Result, UserPtr, syscall
from trapline.kernel.syscalls.eventfd import install_new
from trapline.kernel.syscalls.pipe import install_pair
from trapline.kernel.syscalls.transfer import deadline_of, wait_file

if TYPE_CHECKING:
    from trapline.kernel.net.netlink.socket import NetlinkSocket
    from trapline.kernel.task.task import Task

Family = Annotated[int, Arg(-32, "enum:socket_family")]
Kind = Annotated[int, Arg(-32, "flags:socket_type")]
Address = Annotated[int, Arg(64, "struct:sockaddr")]
AddressOut = Annotated[int, Arg(64, "struct_out:sockaddr")]
TwoFds = Annotated[int, Arg(64, "struct_out:fd_pair")]
MsgFlags = Annotated[int, Arg(32, "flags:msg")]
MAX_CONTROL = 20480  #: bytes of control messages: net.core.optmem_max


def socket_of(task: Task, fd: int) -> UnixSocket:
    """The socket of a descriptor. EBADF, ENOTSOCK."""
    file = task.files.get(fd)
    if not isinstance(file, UnixSocket):
        raise ENOTSOCK
    return file


def _new(task: Task, family: int, kind: int, protocol: int) -> UnixSocket:
    flags = kind & ~s.SOCK_TYPE_MASK
    if flags & ~(s.SOCK_CLOEXEC | s.SOCK_NONBLOCK):
        raise EINVAL
    kind &= s.SOCK_TYPE_MASK
    if family == AF_NETLINK:
        return _new_netlink(task, kind, flags, protocol)
    if family != s.AF_UNIX:
        if not 0 <= family < s.AF_MAX:
            raise EAFNOSUPPORT
        task.kernel.log_once(("socket", family), f"socket: address family {family} is not implemented: EAFNOSUPPORT")
        raise EAFNOSUPPORT
    if kind >= s.SOCK_MAX:
        raise EINVAL
    if protocol and protocol != s.AF_UNIX:
        raise EPROTONOSUPPORT
    if kind == s.SOCK_RAW:  # unix(7): treated like datagrams
        kind = s.SOCK_DGRAM
    if kind not in (s.SOCK_STREAM, s.SOCK_DGRAM, s.SOCK_SEQPACKET):
        raise ESOCKTNOSUPPORT
    return UnixSocket(task, kind, flags & s.SOCK_NONBLOCK)


def _new_netlink(task: Task, kind: int, flags: int, protocol: int) -> UnixSocket:
    from trapline.kernel.net.netlink.socket import NetlinkSocket

    if kind >= s.SOCK_MAX:
        raise EINVAL
    if kind not in (s.SOCK_RAW, s.SOCK_DGRAM):
        raise ESOCKTNOSUPPORT
    if protocol != NETLINK_ROUTE:
        raise EPROTONOSUPPORT
    return NetlinkSocket(task, kind, flags & s.SOCK_NONBLOCK)


def netlink(socket: UnixSocket) -> NetlinkSocket | None:
    """The socket, if it is one of netlink(7). (Its module is imported with the first of them.)"""
    return socket if socket.family == AF_NETLINK else None  # type: ignore[return-value]


def packed(socket: UnixSocket, name: bytes | None) -> bytes:
    """A name of `socket`'s family as the structure that programs get."""
    return pack(name) if socket.family == s.AF_UNIX else name or b""


@syscall("socket", returns="fd")
def sys_socket(task: Task, domain: Family, type: Kind, protocol: Int) -> int:
    """socket(2): create an endpoint for communication.

    Partial: AF_UNIX, and AF_NETLINK with NETLINK_ROUTE, which tells of a loopback without addresses and changes nothing.
    Other families fail with EAFNOSUPPORT, other protocols with EPROTONOSUPPORT.
    """
    return install_new(task, _new(task, domain, type, protocol), bool(type & s.SOCK_CLOEXEC))


@syscall("socketpair")
def sys_socketpair(task: Task, domain: Family, type: Kind, protocol: Int, sv: TwoFds) -> int:
    """socketpair(2): create a pair of connected sockets.

    Partial: AF_UNIX only; other families fail with EAFNOSUPPORT.
    """
    first = _new(task, domain, type, protocol)
    if first.family != s.AF_UNIX:
        first.put()
        raise EOPNOTSUPP
    second = _new(task, domain, type, protocol)
    first.pair(second)
    install_pair(task, first, second, bool(type & s.SOCK_CLOEXEC), sv)
    return 0


@syscall("bind")
def sys_bind(task: Task, fd: Fd, addr: Address, addrlen: Int) -> int:
    """bind(2): give a socket a name."""
    socket = socket_of(task, fd)
    raw = read_address(task, addr, addrlen)
    if (other := netlink(socket)) is not None:
        other.bind_to(task, raw)
    else:
        bind(task, socket, parse(raw))
    return 0


@syscall("listen")
def sys_listen(task: Task, fd: Fd, backlog: Int) -> int:
    """listen(2): accept connections on a socket."""
    socket_of(task, fd).listen(task, backlog)
    return 0


@syscall("connect")
def sys_connect(task: Task, fd: Fd, addr: Address, addrlen: Int) -> Result:
    """connect(2): connect a socket to a named one."""
    socket = socket_of(task, fd)
    raw = read_address(task, addr, addrlen)
    if (other := netlink(socket)) is not None:
        other.connect_to(task, raw)
        return 0
    if len(raw) >= 2 and raw[:2] == b"\0\0" and socket.kind == s.SOCK_DGRAM:
        socket.disconnect()
        return 0
    name = parse(raw)
    if socket.kind != s.SOCK_DGRAM and not name:
        raise EINVAL
    if socket.pass_creds:
        autobind(socket)
    if socket.try_connect(task, find(task, name, socket.kind)):
        return 0
    if socket.flags & O_NONBLOCK:
        raise EAGAIN
    return _connecting(task, socket, name)


async def _connecting(task: Task, socket: UnixSocket, name: bytes) -> int:
    deadline = deadline_of(task, socket, 0, True)
    socket.get()
    try:
        while True:
            target = find(task, name, socket.kind)  # after sleep: the name may mean another socket by now
            if socket.try_connect(task, target):
                return 0
            if not await wait_file(task, target, deadline, may_restart=deadline is None):
                raise EAGAIN
    finally:
        socket.put()


@syscall("accept", returns="fd")
def sys_accept(task: Task, fd: Fd, addr: AddressOut, addrlen: UserPtr) -> Result:
    """accept(2): take a connection off a listening socket."""
    return sys_accept4(task, fd, addr, addrlen, 0)


@syscall("accept4", returns="fd")
def sys_accept4(task: Task, fd: Fd, addr: AddressOut, addrlen: UserPtr, flags: Kind) -> Result:
    """accept(2): take a connection off a listening socket, with flags for the new descriptor."""
    if flags & ~(s.SOCK_CLOEXEC | s.SOCK_NONBLOCK):
        raise EINVAL
    listener = socket_of(task, fd)
    if listener.kind == s.SOCK_DGRAM:
        raise EOPNOTSUPP
    if listener.state != LISTENING:
        raise EINVAL
    task.files.reserve()
    served = listener.try_accept()
    if served is not None:
        return _accepted(task, served, addr, addrlen, flags)
    if listener.flags & O_NONBLOCK:
        raise EAGAIN
    return _accepting(task, listener, addr, addrlen, flags)


async def _accepting(task: Task, listener: UnixSocket, addr: int, addrlen: int, flags: int) -> int:
    deadline = deadline_of(task, listener, 0, False)
    listener.get()
    try:
        while True:
            ready = await wait_file(task, listener, deadline, may_restart=deadline is None, turn=POLLIN)
            served = listener.try_accept()
            if served is not None:
                return _accepted(task, served, addr, addrlen, flags)
            if not ready:
                raise EAGAIN
    finally:
        listener.put()


def _accepted(task: Task, served: UnixSocket, addr: int, addrlen: int, flags: int) -> int:
    """Install an accepted connection; a bad address for the peer's name closes it, as on Linux."""
    served.flags |= flags & O_NONBLOCK
    if addr:
        try:
            write_address(task, addr, addrlen, pack(served.peer.address if served.peer is not None else None))
        except BaseException:
            served.put()
            raise
    return install_new(task, served, bool(flags & s.SOCK_CLOEXEC))


@syscall("getsockname")
def sys_getsockname(task: Task, fd: Fd, addr: AddressOut, addrlen: UserPtr) -> int:
    """getsockname(2): the name of a socket."""
    socket = socket_of(task, fd)
    write_address(task, addr, addrlen, packed(socket, socket.address))
    return 0


@syscall("getpeername")
def sys_getpeername(task: Task, fd: Fd, addr: AddressOut, addrlen: UserPtr) -> int:
    """getpeername(2): the name of the socket at the other end."""
    socket = socket_of(task, fd)
    if (other := netlink(socket)) is not None:
        write_address(task, addr, addrlen, other.peer_name())
        return 0
    peer = socket.peer
    if peer is None and (socket.kind == s.SOCK_DGRAM or socket.state != CONNECTED):
        raise ENOTCONN
    write_address(task, addr, addrlen, pack(socket.peer_address if peer is None else peer.address))
    return 0


@syscall("shutdown")
def sys_shutdown(task: Task, fd: Fd, how: Int) -> int:
    """shutdown(2): end one or both directions of a connection."""
    socket = socket_of(task, fd)
    if how not in (s.SHUT_RD, s.SHUT_WR, s.SHUT_RDWR):
        raise EINVAL
    socket.shutdown(how)
    return 0


