"""getsockopt(2), setsockopt(2): the options of unix(7) and those of socket(7) that mean something here.

Options that have no effect on UNIX sockets are remembered and read back, as Linux does.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import netlink
from trapline.abi import socket as s
from trapline.abi.errno import EDOM, EINVAL, ENODATA, ENOENT, ENOPROTOOPT, EOPNOTSUPP, EPERM, ERANGE
from trapline.abi.seccomp import BPF_MAXINSNS, SOCK_FILTER, SOCK_FPROG
from trapline.abi.time import NSEC
from trapline.kernel.bpf import packet
from trapline.kernel.net.unix import LISTENING, MAX_BUFFER, UnixSocket
from trapline.kernel.syscalls.declare import Arg, Fd, Int, UserPtr, syscall
from trapline.kernel.syscalls.socket import netlink as netlink_of
from trapline.kernel.syscalls.socket import socket_of

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Level = Annotated[int, Arg(-32, "enum:sockopt_level")]
Option = Annotated[int, Arg(-32, "enum:sockopt")]
CAP_NET_ADMIN = 12
INT_MAX = (1 << 31) - 1
NETLINK_GROUPS = 37  #: as RTNLGRP_MAX
MIN_SNDBUF, MIN_RCVBUF = 4608, 2304
_REMEMBERED = frozenset((
    s.SO_DEBUG, s.SO_REUSEADDR, s.SO_DONTROUTE, s.SO_BROADCAST, s.SO_KEEPALIVE, s.SO_OOBINLINE, s.SO_PRIORITY,
    s.SO_REUSEPORT, s.SO_TIMESTAMP,
))  # fmt: skip


@syscall("setsockopt")
def sys_setsockopt(task: Task, fd: Fd, level: Level, optname: Option, optval: UserPtr, optlen: Int) -> int:
    """setsockopt(2): set an option of a socket.

    Partial: filters are classic ones (no SO_ATTACH_BPF).
    """
    socket = socket_of(task, fd)
    if optlen < 0:
        raise EINVAL
    if level != s.SOL_SOCKET:
        return _set_netlink(task, socket, level, optname, optval, optlen)
    if optname in (s.SO_RCVTIMEO, s.SO_SNDTIMEO, s.SO_RCVTIMEO_NEW, s.SO_SNDTIMEO_NEW):
        _set_timeout(task, socket, optname, optval, optlen)
        return 0
    if optname == s.SO_LINGER:
        if optlen < s.LINGER.size:
            raise EINVAL
        on, seconds = s.LINGER.unpack(task.mm.read(optval, s.LINGER.size))
        before = s.LINGER.unpack(socket.options.get(optname, bytes(s.LINGER.size)))[1]
        socket.options[optname] = s.LINGER.pack(bool(on), seconds if on else before)
        return 0
    if optname == s.SO_ATTACH_FILTER:
        _attach(task, socket, optval, optlen)
        return 0
    if optlen < 4:
        raise EINVAL
    _set(task, socket, optname, task.mm.read_i32(optval))
    return 0


def _set_netlink(task: Task, socket: UnixSocket, level: int, option: int, address: int, size: int) -> int:
    """The options of netlink(7): switches, which are remembered; and groups, to which nobody ever sends."""
    if socket.family == s.AF_UNIX:
        raise EOPNOTSUPP
    if level != netlink.SOL_NETLINK:
        raise ENOPROTOOPT
    value = task.mm.read_u32(address) if size >= 4 else 0
    if option in (netlink.NETLINK_ADD_MEMBERSHIP, netlink.NETLINK_DROP_MEMBERSHIP):
        if not 0 < value <= NETLINK_GROUPS:
            raise EINVAL
    elif option in netlink.NETLINK_SWITCHES:
        socket.options[-option] = int(bool(value)).to_bytes(4, "little")
    else:
        raise ENOPROTOOPT
    return 0


def _get_netlink(task: Task, socket: UnixSocket, level: int, option: int, address: int, size_at: int, size: int) -> int:
    if socket.family == s.AF_UNIX:
        raise EOPNOTSUPP
    if level != netlink.SOL_NETLINK or option not in netlink.NETLINK_SWITCHES:
        raise ENOPROTOOPT
    if size < 4:
        raise EINVAL
    task.mm.write(address, socket.options.get(-option, bytes(4)))
    task.mm.write_u32(size_at, 4)
    return 0


def _set(task: Task, socket: UnixSocket, option: int, value: int) -> None:
    if option in (s.SO_SNDBUF, s.SO_SNDBUFFORCE):
        _privileged(task, option == s.SO_SNDBUFFORCE)
        socket.sndbuf = max(min(2 * max(0, value), MAX_BUFFER), MIN_SNDBUF)
        socket.queue.wake_all()
    elif option in (s.SO_RCVBUF, s.SO_RCVBUFFORCE):
        _privileged(task, option == s.SO_RCVBUFFORCE)
        socket.rcvbuf = max(min(2 * max(0, value), MAX_BUFFER), MIN_RCVBUF)
    elif option == s.SO_PASSCRED:
        socket.pass_creds = bool(value)
    elif option in _REMEMBERED:
        stored = value if option == s.SO_PRIORITY else int(bool(value))
        socket.options[option] = stored.to_bytes(4, "little", signed=True)
    elif option == s.SO_RCVLOWAT:
        socket.wait_for(value if value > 0 else 1 if not value else INT_MAX)
    elif option == s.SO_PEEK_OFF:
        raise EOPNOTSUPP
    elif option == s.SO_DETACH_FILTER:
        _unlocked(socket)
        if socket.filter is None:
            raise ENOENT
        socket.filter = None
    elif option == s.SO_LOCK_FILTER:
        if socket.filter_locked and not value:
            raise EPERM
        socket.filter_locked = bool(value)
    else:
        raise ENOPROTOOPT


def _attach(task: Task, socket: UnixSocket, address: int, size: int) -> None:
    """SO_ATTACH_FILTER with a struct sock_fprog: the filter takes the place of the one before."""
    if size != SOCK_FPROG.size:
        raise EINVAL
    length, start = SOCK_FPROG.unpack(task.mm.read(address, SOCK_FPROG.size))
    _unlocked(socket)
    if not 0 < length <= BPF_MAXINSNS:
        raise EINVAL
    socket.filter = packet.prepare(list(SOCK_FILTER.iter_unpack(task.mm.read(start, length * SOCK_FILTER.size))))


def _unlocked(socket: UnixSocket) -> None:
    if socket.filter_locked:
        raise EPERM("SO_LOCK_FILTER")


def _get_filter(task: Task, socket: UnixSocket, address: int, size_at: int, count: int) -> int:
    """SO_GET_FILTER: lengths are in instructions; 0 asks for the length alone."""
    program = socket.filter or []
    if count and count < len(program):
        raise EINVAL
    if count and program:
        task.mm.write(address, b"".join(SOCK_FILTER.pack(code & 0xFFFF, *rest) for code, *rest in program))
    task.mm.write_u32(size_at, len(program))
    return 0


def _privileged(task: Task, force: bool) -> None:
    if force and not task.creds.has_cap(CAP_NET_ADMIN):
        raise EPERM


def _set_timeout(task: Task, socket: UnixSocket, option: int, address: int, size: int) -> None:
    if size < s.TIMEVAL.size:
        raise EINVAL
    seconds, microseconds = s.TIMEVAL.unpack(task.mm.read(address, s.TIMEVAL.size))
    if not 0 <= microseconds < 1_000_000:
        raise EDOM
    delay: int | None = seconds * NSEC + microseconds * 1000
    if seconds < 0:
        delay = 0
    elif not delay or seconds > (1 << 62) // NSEC:
        delay = None
    if option in (s.SO_RCVTIMEO, s.SO_RCVTIMEO_NEW):
        socket.receive_timeout_ns = delay
    else:
        socket.send_timeout_ns = delay


@syscall("getsockopt")
def sys_getsockopt(task: Task, fd: Fd, level: Level, optname: Option, optval: UserPtr, optlen: UserPtr) -> int:
    """getsockopt(2): read an option of a socket."""
    socket = socket_of(task, fd)
    size = task.mm.read_i32(optlen)
    if size < 0:
        raise EINVAL
    if level != s.SOL_SOCKET:
        return _get_netlink(task, socket, level, optname, optval, optlen, size)
    if optname == s.SO_PEERGROUPS:
        return _peer_groups(task, socket, optval, optlen, size)
    if optname == s.SO_ATTACH_FILTER:
        return _get_filter(task, socket, optval, optlen, size)
    value = _get(socket, optname)[:size]
    if value:
        task.mm.write(optval, value)
    task.mm.write_u32(optlen, len(value))
    return 0


def _get(socket: UnixSocket, option: int) -> bytes:
    if option in (s.SO_RCVTIMEO, s.SO_RCVTIMEO_NEW, s.SO_SNDTIMEO, s.SO_SNDTIMEO_NEW):
        receive = option in (s.SO_RCVTIMEO, s.SO_RCVTIMEO_NEW)
        delay = (socket.receive_timeout_ns if receive else socket.send_timeout_ns) or 0
        return s.TIMEVAL.pack(delay // NSEC, delay % NSEC // 1000)
    if option == s.SO_PEERCRED:
        return s.UCRED.pack(*socket.peer_creds)
    if option == s.SO_LINGER:
        return socket.options.get(option, bytes(s.LINGER.size))
    if option in _REMEMBERED:
        return socket.options.get(option, bytes(4))
    if option == s.SO_RCVLOWAT:
        return socket.least.to_bytes(4, "little")
    if option == s.SO_ERROR:
        value, socket.error = socket.error, 0
    elif option == s.SO_TYPE:
        value = other.type if (other := netlink_of(socket)) is not None else socket.kind
    elif option == s.SO_DOMAIN:
        value = socket.family
    elif option == s.SO_PROTOCOL:
        value = 0
    elif option == s.SO_ACCEPTCONN:
        value = int(socket.state == LISTENING)
    elif option == s.SO_SNDBUF:
        value = socket.sndbuf
    elif option == s.SO_RCVBUF:
        value = socket.rcvbuf
    elif option == s.SO_PASSCRED:
        value = int(socket.pass_creds)
    elif option == s.SO_LOCK_FILTER:
        value = int(socket.filter_locked)
    elif option == s.SO_SNDLOWAT:
        value = 1
    else:
        raise ENOPROTOOPT
    return value.to_bytes(4, "little")


def _peer_groups(task: Task, socket: UnixSocket, address: int, size_at: int, size: int) -> int:
    """SO_PEERGROUPS: the supplementary groups of the peer, as far as its process still tells."""
    group = task.kernel.groups.get(socket.peer_creds[0])
    if group is None or group.leader is None or group.leader.creds is None:
        raise ENODATA
    raw = b"".join([gid.to_bytes(4, "little") for gid in group.leader.creds.groups])
    task.mm.write_u32(size_at, len(raw))
    if size < len(raw):
        raise ERANGE
    if raw:
        task.mm.write(address, raw)
    return 0
