"""UNIX domain sockets."""

from __future__ import annotations

import struct
from typing import Any

import ipc_world
import pytest
from ipc_world import SECOND, WAITS, IpcWorld, errno

from trapline.abi import socket as s
from trapline.abi.fcntl import O_NONBLOCK
from trapline.abi.poll import POLLFD, POLLHUP, POLLIN, POLLOUT, POLLRDHUP
from trapline.abi.signal import SIGPIPE
from trapline.kernel.net.garbage import collect_garbage
from trapline.kernel.net.message import flights_of
from trapline.kernel.net.unix import UnixSocket

world = ipc_world.world  # a fixture

STREAM, DGRAM, SEQPACKET = s.SOCK_STREAM, s.SOCK_DGRAM, s.SOCK_SEQPACKET


@pytest.fixture
def task(world: IpcWorld) -> Any:
    task = world.process()
    task.blocked = 1 << SIGPIPE - 1
    return task


def pair(world: IpcWorld, task: Any, kind: int = STREAM) -> tuple[int, int]:
    at = task.mm.alloc(8)
    assert world.call(task, "socketpair", s.AF_UNIX, kind, 0, at) == 0
    return task.mm.read_u32(at), task.mm.read_u32(at + 4)


def sock(world: IpcWorld, task: Any, kind: int = STREAM) -> int:
    fd: int = world.call(task, "socket", s.AF_UNIX, kind, 0)
    return fd


def address(name: bytes) -> bytes:
    return b"\1\0" + name + (b"" if name[:1] == b"\0" else b"\0")


def named(world: IpcWorld, task: Any, call: str, fd: int, name: bytes) -> Any:
    raw = address(name)
    return world.call(task, call, fd, task.mm.put(raw), len(raw))


def send(world: IpcWorld, task: Any, fd: int, data: bytes, flags: int = 0) -> Any:
    return world.call(task, "sendto", fd, task.mm.put(data), len(data), flags, 0, 0)


def receive(world: IpcWorld, task: Any, fd: int, count: int = 100, flags: int = 0) -> Any:
    at = task.mm.alloc(count)
    result = world.call(task, "recvfrom", fd, at, count, flags, 0, 0)
    return task.mm.read(at, min(result, count)) if result != WAITS and result >= 0 else result


def message(task: Any, data: bytes | int, control: bytes | int = b"", name: int = 0) -> int:
    """A struct msghdr: to send bytes, or to receive into that many."""
    mm = task.mm
    size = len(data) if isinstance(data, bytes) else data
    at = mm.put(data) if isinstance(data, bytes) else mm.alloc(data)
    iov = mm.put(struct.pack("<QQ", at, size))
    room = len(control) if isinstance(control, bytes) else control
    control_at = (mm.put(control) if isinstance(control, bytes) else mm.alloc(control)) if room else 0
    name_at = mm.alloc(name) if name else 0
    return int(mm.put(s.MSGHDR.pack(name_at, name, iov, 1, control_at, room, 0)))


def parts(task: Any, at: int, count: int) -> tuple[bytes, list[tuple[int, bytes]], int]:
    """(data, control messages, flags) of a received msghdr."""
    mm = task.mm
    *_, iov, _, control, size, flags = s.MSGHDR.unpack(mm.read(at, s.MSGHDR_SIZE))
    raw, found = mm.read(control, size) if size else b"", []
    while len(raw) >= 16:
        length, _, kind = s.CMSGHDR.unpack_from(raw)
        found.append((kind, raw[16:length]))
        raw = raw[length + 7 & ~7 :]
    return mm.read(mm.read_u64(iov), count), found, flags


def rights(*fds: int) -> bytes:
    body = b"".join(fd.to_bytes(4, "little") for fd in fds)
    return s.CMSGHDR.pack(16 + len(body), s.SOL_SOCKET, s.SCM_RIGHTS) + body


def test_stream_pair(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    assert world.write(task, a, b"one ") == 4
    assert send(world, task, a, b"two") == 3
    assert world.read(task, b) == b"one two"
    assert receive(world, task, a) == WAITS
    other = world.thread(task.group, task.mm)
    assert world.write(other, b, b"back") == 4
    world.settle()
    assert world.results[task] == 4
    assert receive(world, task, a, flags=s.MSG_DONTWAIT) == errno("EAGAIN")
    world.call(task, "close", b)
    assert receive(world, task, a) == b""
    assert world.write(task, a, b"x") == errno("EPIPE")
    assert task.pending.mask >> SIGPIPE - 1 & 1
    task.pending.clear()
    assert send(world, task, a, b"x", s.MSG_NOSIGNAL) == errno("EPIPE")
    assert not task.pending.mask


def test_closing_with_unread_data_resets(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    world.write(task, a, b"unread")
    world.call(task, "close", b)
    assert receive(world, task, a) == errno("ECONNRESET")
    assert receive(world, task, a) == b""


def test_peek_and_waitall(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    world.write(task, a, b"abc")
    assert receive(world, task, b, 2, s.MSG_PEEK) == b"ab"
    at = task.mm.alloc(6)
    assert world.call(task, "recvfrom", b, at, 6, s.MSG_WAITALL, 0, 0) == WAITS
    other = world.thread(task.group, task.mm)
    world.write(other, a, b"defgh")
    world.settle()
    assert (world.results[task], task.mm.read(at, 6)) == (6, b"abcdef")
    assert receive(world, task, b) == b"gh"


def test_datagrams_keep_their_bounds(world: IpcWorld, task: Any) -> None:
    for kind in (DGRAM, SEQPACKET):
        a, b = pair(world, task, kind)
        send(world, task, a, b"first")
        send(world, task, a, b"")
        send(world, task, a, b"third")
        assert receive(world, task, b, 3) == b"fir"
        assert receive(world, task, b) == b""
        at = task.mm.alloc(2)
        assert world.call(task, "recvfrom", b, at, 2, s.MSG_TRUNC | s.MSG_PEEK, 0, 0) == 5
        assert world.read(task, b) == b"third"
    assert send(world, task, a, b"x" * 300_000) == errno("EMSGSIZE")


def test_stream_sender_waits_for_room(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    data = bytes(range(256)) * 4000
    assert world.write(task, a, data) == WAITS
    other = world.thread(task.group, task.mm)
    got = b""
    while len(got) < len(data):
        got += receive(world, other, b, 50_000)
        world.settle()
    assert got == data
    assert world.results[task] == len(data)
    assert task.files.get(a).sent == 0


def test_connections_by_path(world: IpcWorld, task: Any) -> None:
    listener = sock(world, task)
    assert named(world, task, "bind", listener, b"/socket") == 0
    again = sock(world, task)
    assert named(world, task, "bind", again, b"/socket") == errno("EADDRINUSE")
    assert named(world, task, "connect", again, b"/socket") == errno("ECONNREFUSED")
    assert world.call(task, "listen", listener, 5) == 0
    assert world.call(task, "accept4", listener, 0, 0, 0) == WAITS
    client = world.process()
    fd = sock(world, client)
    assert named(world, client, "connect", fd, b"/none") == errno("ENOENT")
    assert named(world, client, "connect", fd, b"/socket") == 0
    assert named(world, client, "connect", fd, b"/socket") == errno("EISCONN")
    assert world.write(client, fd, b"hello") == 5
    world.settle()
    served = world.results[task]
    assert world.read(task, served) == b"hello"
    at, size = task.mm.alloc(128), task.mm.put((128).to_bytes(4, "little"))
    assert world.call(task, "getsockname", served, at, size) == 0
    assert task.mm.read(at, task.mm.read_u32(size)) == address(b"/socket")
    task.mm.write_u32(size, 128)
    assert world.call(task, "getpeername", served, at, size) == 0
    assert task.mm.read(at, task.mm.read_u32(size)) == b"\1\0"
    world.call(task, "unlink", task.mm.put(b"/socket"))
    assert named(world, task, "connect", again, b"/socket") == errno("ENOENT")


def test_connecting_to_a_file_or_a_closed_socket_is_refused(world: IpcWorld, task: Any) -> None:
    fd = sock(world, task)
    world.kernel.vfs.add_file(b"/plain", b"")
    assert named(world, task, "connect", fd, b"/plain") == errno("ECONNREFUSED")
    named(world, task, "bind", fd, b"/gone")
    world.call(task, "close", fd)
    assert named(world, task, "connect", sock(world, task), b"/gone") == errno("ECONNREFUSED")


def test_abstract_names_and_backlog(world: IpcWorld, task: Any) -> None:
    listener = sock(world, task)
    assert named(world, task, "bind", listener, b"\0name") == 0
    assert named(world, task, "bind", sock(world, task), b"\0name") == errno("EADDRINUSE")
    assert world.call(task, "listen", listener, 0) == 0
    first, second = sock(world, task), sock(world, task, STREAM | s.SOCK_NONBLOCK)
    assert named(world, task, "connect", first, b"\0name") == 0
    assert named(world, task, "connect", second, b"\0name") == errno("EAGAIN")
    third = sock(world, task)
    assert named(world, task, "connect", third, b"\0name") == WAITS
    other = world.thread(task.group, task.mm)
    assert world.call(other, "accept", listener, 0, 0) >= 0
    world.settle()
    assert world.results[task] == 0
    world.call(other, "close", listener)
    assert receive(world, other, third) == errno("ECONNRESET")
    assert named(world, task, "connect", second, b"\0name") == errno("ECONNREFUSED")


def test_datagrams_by_name(world: IpcWorld, task: Any) -> None:
    server, client = sock(world, task, DGRAM), sock(world, task, DGRAM)
    named(world, task, "bind", server, b"\0server")
    assert send(world, task, client, b"x") == errno("ENOTCONN")
    raw = address(b"\0server")
    to = task.mm.put(raw)
    assert world.call(task, "sendto", client, task.mm.put(b"hi"), 2, 0, to, len(raw)) == 2
    at, name, size = task.mm.alloc(10), task.mm.alloc(128), task.mm.put((128).to_bytes(4, "little"))
    assert world.call(task, "recvfrom", server, at, 10, 0, name, size) == 2
    assert task.mm.read(name, task.mm.read_u32(size)) == b""  # nobody bound the client
    auto = task.mm.put(b"\1\0")
    assert world.call(task, "bind", client, auto, 2) == 0
    assert named(world, task, "connect", client, b"\0server") == 0
    for _ in range(11):
        assert send(world, task, client, b"data", s.MSG_DONTWAIT) == 4
    assert send(world, task, client, b"data", s.MSG_DONTWAIT) == errno("EAGAIN")
    task.mm.write_u32(size, 128)
    assert world.call(task, "recvfrom", server, at, 10, 0, name, size) == 4
    assert task.mm.read(name, task.mm.read_u32(size)) == b"\1\0\00000000"
    world.call(task, "close", server)
    assert send(world, task, client, b"x") == errno("ECONNREFUSED")


def test_files_travel(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    r, w = world.pipe(task)
    assert world.call(task, "sendmsg", a, message(task, b"fds", rights(r, w)), 0) == 3
    world.call(task, "close", r)
    world.call(task, "close", w)
    into = message(task, 10, 64)
    assert world.call(task, "recvmsg", b, into, s.MSG_CMSG_CLOEXEC) == 3
    data, control, flags = parts(task, into, 3)
    assert (data, flags) == (b"fds", s.MSG_CMSG_CLOEXEC)
    new_r, new_w = struct.unpack("<ii", control[0][1])
    assert task.files.get_cloexec(new_r)
    world.write(task, new_w, b"through")
    assert world.read(task, new_r) == b"through"
    assert flights_of(world.kernel).total == 0
    assert world.call(task, "sendmsg", a, message(task, b"x", rights(77)), 0) == errno("EBADF")


def test_files_that_nobody_takes_are_closed(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    r, w = world.pipe(task)
    pipe = task.files.get(r).pipe
    for _ in range(2):
        world.call(task, "sendmsg", a, message(task, b"x", rights(r)), 0)
    world.call(task, "close", r)
    into = message(task, 1, 0)
    assert world.call(task, "recvmsg", b, into, 0) == 1
    assert parts(task, into, 1)[2] == s.MSG_CTRUNC
    assert pipe.readers == 1
    world.call(task, "close", b)
    assert pipe.readers == 0
    assert flights_of(world.kernel).total == 0
    assert w >= 0


def test_files_are_a_barrier_behind_their_bytes(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    for _ in range(2):
        world.write(task, a, b"plain")
        world.call(task, "sendmsg", a, message(task, b"with", rights(a)), 0)
        world.write(task, a, b"after")
    for flags in (s.MSG_PEEK, 0):
        into = message(task, 100, 64)
        assert world.call(task, "recvmsg", b, into, flags) == 9
        data, control, _ = parts(task, into, 9)
        assert data == b"plainwith" and control[0][0] == s.SCM_RIGHTS
    assert receive(world, task, b) == b"afterplainwith"  # the second files are closed
    assert receive(world, task, b) == b"after"
    assert flights_of(world.kernel).total == 0


def test_credentials(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    one = task.mm.put((1).to_bytes(4, "little"))
    assert world.call(task, "setsockopt", b, s.SOL_SOCKET, s.SO_PASSCRED, one, 4) == 0
    sender = world.fork(task)
    world.write(sender, a, b"who")
    into = message(task, 10, 64)
    world.call(task, "recvmsg", b, into, 0)
    assert parts(task, into, 3)[1] == [(s.SCM_CREDENTIALS, s.UCRED.pack(sender.group.pid, 0, 0))]
    at, size = task.mm.alloc(12), task.mm.put((12).to_bytes(4, "little"))
    assert world.call(task, "getsockopt", a, s.SOL_SOCKET, s.SO_PEERCRED, at, size) == 0
    assert s.UCRED.unpack(task.mm.read(at, 12)) == (task.group.pid, 0, 0)
    liar = world.process(uid=1000)
    liar.files = task.files.fork()
    control = s.CMSGHDR.pack(28, s.SOL_SOCKET, s.SCM_CREDENTIALS) + s.UCRED.pack(liar.group.pid, 0, 0)
    assert world.call(liar, "sendmsg", a, message(liar, b"x", control), 0) == errno("EPERM")


def test_sockets_in_a_circle_are_collected(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    world.call(task, "sendmsg", a, message(task, b"x", rights(b)), 0)
    world.call(task, "sendmsg", b, message(task, b"x", rights(a)), 0)
    socket = task.files.get(a)
    world.call(task, "close", a)
    world.call(task, "close", b)
    assert isinstance(socket, UnixSocket)
    assert not socket.closed
    flights = flights_of(world.kernel)
    assert flights.total == 2
    assert collect_garbage(flights) == 2
    assert (flights.total, socket.closed) == (0, True)


def test_long_chain_of_sockets_in_sockets_dies_without_deep_recursion(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)
    for _ in range(2000):
        c, d = pair(world, task)
        assert world.call(task, "sendmsg", c, message(task, b"x", rights(a, b)), 0) == 1
        world.call(task, "close", a)
        world.call(task, "close", b)
        task.mm._next = 0x10100
        a, b = c, d
    flights = flights_of(world.kernel)
    assert flights.total == 4000
    world.call(task, "close", a)
    world.call(task, "close", b)
    assert flights.total == 0


def test_shutdown_and_poll(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task)

    def events(fd: int) -> int:
        at = task.mm.put(POLLFD.pack(fd, POLLIN | POLLOUT | POLLRDHUP, 0))
        world.call(task, "poll", at, 1, 0)
        return int(next(POLLFD.iter_unpack(task.mm.read(at, 8)))[2])

    assert events(a) == POLLOUT
    world.write(task, b, b"x")
    assert events(a) == POLLIN | POLLOUT
    assert world.call(task, "shutdown", b, s.SHUT_WR) == 0
    assert events(a) == POLLIN | POLLOUT | POLLRDHUP
    assert world.read(task, a) == b"x"
    assert world.read(task, a) == b""
    assert world.write(task, b, b"y") == errno("EPIPE")
    assert world.write(task, a, b"still") == 5
    world.call(task, "close", b)
    assert events(a) & (POLLHUP | POLLRDHUP | POLLIN) == POLLHUP | POLLRDHUP | POLLIN
    assert events(sock(world, task)) == POLLOUT | POLLHUP
    assert world.call(task, "shutdown", a, 3) == errno("EINVAL")


def test_receive_timeout(world: IpcWorld, task: Any) -> None:
    a, _ = pair(world, task)
    timeval = task.mm.put(s.TIMEVAL.pack(1, 0))
    assert world.call(task, "setsockopt", a, s.SOL_SOCKET, s.SO_RCVTIMEO, timeval, 16) == 0
    assert world.read(task, a) == WAITS
    world.pass_time(SECOND + 1)
    assert world.results[task] == errno("EAGAIN")
    assert receive(world, task, a) == WAITS
    world.pass_time(SECOND + 1)
    assert world.results[task] == errno("EAGAIN")


def test_families_types_and_options(world: IpcWorld, task: Any) -> None:
    assert world.call(task, "socket", 2, STREAM, 0) == errno("EAFNOSUPPORT")
    assert world.call(task, "socket", 1, 4, 0) == errno("ESOCKTNOSUPPORT")
    assert world.call(task, "socket", 1, STREAM, 7) == errno("EPROTONOSUPPORT")
    assert world.call(task, "bind", world.pipe(task)[0], 0, 0) == errno("ENOTSOCK")
    fd = sock(world, task, STREAM | s.SOCK_NONBLOCK)
    assert task.files.get(fd).flags & O_NONBLOCK
    at, size = task.mm.alloc(8), task.mm.alloc(4)
    expected = {s.SO_TYPE: STREAM, s.SO_DOMAIN: 1, s.SO_PROTOCOL: 0, s.SO_ERROR: 0, s.SO_ACCEPTCONN: 0, s.SO_SNDBUF: 212992}
    for option, value in expected.items():
        task.mm.write_u32(size, 4)
        assert world.call(task, "getsockopt", fd, s.SOL_SOCKET, option, at, size) == 0
        assert task.mm.read_u32(at) == value
    assert world.call(task, "getsockopt", fd, s.SOL_SOCKET, 999, at, size) == errno("ENOPROTOOPT")
    assert world.call(task, "getsockopt", fd, 6, 1, at, size) == errno("EOPNOTSUPP")
    assert world.call(task, "listen", fd, 1) == errno("EINVAL")
    assert world.call(task, "accept", fd, 0, 0) == errno("EINVAL")
    assert receive(world, task, fd) == errno("EINVAL")


def test_several_messages_at_once(world: IpcWorld, task: Any) -> None:
    a, b = pair(world, task, DGRAM)
    vector = b"".join(task.mm.read(message(task, each), 56) + bytes(8) for each in (b"one", b"three"))
    at = task.mm.put(vector)
    assert world.call(task, "sendmmsg", a, at, 2, 0) == 2
    assert (task.mm.read_u32(at + 56), task.mm.read_u32(at + 120)) == (3, 5)
    into = task.mm.put(b"".join(task.mm.read(message(task, 10), 56) + bytes(8) for _ in range(3)))
    assert world.call(task, "recvmmsg", b, into, 3, s.MSG_WAITFORONE, 0) == 2
    assert (task.mm.read_u32(into + 56), task.mm.read_u32(into + 120)) == (3, 5)
