"""`--net user`: a guest's network that leads to the host's sockets, as far as the command line allows.

The network itself is `machine/riscv/devices/usernet`; here are the sockets. Nothing is opened before the guest asks, but the
ports that `hostfwd` names. The guest cannot choose the address that it is seen with outside: it is the host's.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from trapline.typed import Protocol

from trapline.cli.options import UsageError
from trapline.cli.policy import Forward, Policy, address_of
from trapline.machine.riscv.devices.usernet.six import GATEWAY6, NAMES6, PREFIX
from trapline.machine.riscv.devices.usernet.stack import GATEWAY, GUEST, NAMES, Flow, Place, Stack
from trapline.machine.riscv.devices.usernet.tcp import Connection, StreamError

AT_ONCE = 64  #: frames, datagrams, events, new connections that are served together
_LOOPBACK, _LOOPBACK6 = bytes((127, 0, 0, 1)), bytes(15) + b"\1"
_RESOLVER = "/etc/resolv.conf"


class Watched(Protocol):
    def event(self, mask: int) -> None:
        """Something that was waited for (epoll)."""


class UserNet:
    """`receive(*frames)` brings frames to the guest's card, `large()` as the stack's. Raises UsageError."""

    up = True
    full = False  #: it waits for its sockets itself

    def __init__(self, text: str, receive: Callable[..., object], large: Callable[[], object] = bool) -> None:
        self._policy = Policy(text)
        self._receive = receive
        self._frames: list[bytes] = []
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._resolver: tuple[str, int] | None = None
        self.stack = Stack(
            self, self._frames.append, time.monotonic, lambda: int.from_bytes(os.urandom(4), "big"), large,
            ipv6=self._policy.ipv6,
        )  # fmt: skip
        self._listeners: list[_Listener | _Post] = []
        try:
            for each in self._policy.forwards:
                self._listeners.append((_Post if each.protocol == "udp" else _Listener)(self, each))
        except UsageError:
            self.close()
            raise

    # ---- as a session sees a wire

    def fileno(self) -> int:
        return self._epoll.fileno()

    def due(self) -> float | None:
        return self.stack.due()

    def ready(self) -> None:
        """Sockets have something for the guest, or room for what it sends."""
        for fd, mask in self._epoll.poll(0, AT_ONCE):
            watched = self._watched.get(fd)
            if watched is not None:
                watched.event(mask)
        self.flush()

    def flush(self) -> bool:
        self.stack.settle()
        self.stack.expire()
        frames = self._frames[:]
        self._frames.clear()
        for at in range(0, len(frames), AT_ONCE):
            self._receive(*frames[at : at + AT_ONCE])
        return bool(frames)

    def send(self, frame: bytes) -> None:
        """A frame of the guest's."""
        self.stack.frame(frame)

    def close(self) -> None:
        """Idempotent."""
        self.stack.close()
        for each in self._listeners:
            each.close()
        self._listeners.clear()
        self._epoll.close()

    # ---- as the stack sees the world

    def connect(self, to: Place, connection: Connection) -> _Stream | None:
        place = self._outside(to)
        return None if place is None else _Stream.to(self, place, connection)

    def flow(self, to: Place, receive: Callable[[bytes], object]) -> Flow | None:
        place = self._outside(to)
        if place is None:
            return None
        try:
            return _Flow(self, place, receive)
        except OSError:
            return None

    def _outside(self, to: Place) -> tuple[str, int] | None:
        """Where a place of the guest's network is outside; None if it may not go there."""
        address, port = to
        if address in (NAMES, NAMES6):
            return self._names() if port == 53 else None
        if address in (GATEWAY, GATEWAY6):
            address = _LOOPBACK if address == GATEWAY else _LOOPBACK6
        elif address[:3] == GUEST[:3] or (len(address) == 16 and address[:8] == PREFIX[:8]):
            return None
        if not self._policy.permits(address, port):
            return None
        return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address), port

    def _names(self) -> tuple[str, int] | None:
        """Who answers for 10.0.2.3."""
        if not self._policy.asks_host:
            return self._policy.names
        if self._resolver is None:
            with suppress(OSError), open(_RESOLVER, encoding="ascii", errors="replace") as file:
                for word, *rest in filter(None, (line.split() for line in file)):
                    with suppress(ValueError):
                        if word == "nameserver" and rest and address_of(rest[0]):
                            self._resolver = rest[0], 53
                            break
        return self._resolver

    # ---- sockets

    def watch(self, end: socket.socket, mask: int, before: int, whose: Watched) -> None:
        """Wait for other events of a socket; 0: for none."""
        if mask and not before:
            self._epoll.register(end, mask)
            self._watched[end.fileno()] = whose
        elif mask:
            self._epoll.modify(end, mask)
        elif before:
            self._epoll.unregister(end)
            self._watched.pop(end.fileno(), None)


def _family(place: tuple[str, int]) -> int:
    return socket.AF_INET6 if ":" in place[0] else socket.AF_INET


class _Stream:
    """A TCP connection of the host's."""

    def __init__(self, net: UserNet, end: socket.socket, connection: Connection, *, connected: bool) -> None:
        self._net, self._end, self._connection = net, end, connection
        self._connected = connected
        self._mask = 0
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def to(cls, net: UserNet, place: tuple[str, int], connection: Connection) -> _Stream | None:
        """A connection that begins; None if that fails at once."""
        end = None
        try:
            end = socket.socket(_family(place), socket.SOCK_STREAM)
            made = cls(net, end, connection, connected=False)
            with suppress(BlockingIOError):
                end.connect(place)
            made._wait(select.EPOLLOUT)
        except OSError:
            if end is not None:
                end.close()
            return None
        return made

    def _wait(self, mask: int) -> None:
        if mask != self._mask:
            before, self._mask = self._mask, mask
            self._net.watch(self._end, mask, before, self)

    def event(self, mask: int) -> None:
        if not self._connected:
            if self._end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._connection.outside_failed()
                return
            self._connected = True
            self._connection.outside_connected()
            return
        over = bool(mask & (select.EPOLLHUP | select.EPOLLERR))
        reads, writes = bool(self._mask & select.EPOLLIN), bool(self._mask & select.EPOLLOUT)
        reads, writes = reads and (over or bool(mask & select.EPOLLIN)), writes and (over or bool(mask & select.EPOLLOUT))
        self._connection.outside_ready(to_receive=reads, to_send=writes)

    def send(self, data: memoryview) -> int:
        try:
            return self._end.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamError(str(error)) from None

    def receive(self, most: int) -> bytes | None:
        try:
            return self._end.recv(most)
        except BlockingIOError:
            return None
        except OSError as error:
            raise StreamError(str(error)) from None

    def end(self) -> None:
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)

    def wait(self, *, to_receive: bool, to_send: bool) -> None:
        self._wait((select.EPOLLIN if to_receive else 0) | (select.EPOLLOUT if to_send else 0))

    def close(self, *, abort: bool) -> None:
        self._wait(0)
        if abort:
            with suppress(OSError):
                self._end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._end.close()


class _Flow:
    """Datagrams to one place and back. Raises OSError."""

    def __init__(self, net: UserNet, place: tuple[str, int], receive: Callable[[bytes], object]) -> None:
        self._net, self._receive = net, receive
        self._end = socket.socket(_family(place), socket.SOCK_DGRAM)
        try:
            self._end.setblocking(False)
            self._end.connect(place)
            net.watch(self._end, select.EPOLLIN, 0, self)
        except OSError:
            self._end.close()
            raise

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self._end.send(data)

    def event(self, mask: int) -> None:
        for _ in range(AT_ONCE):
            try:
                data = self._end.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # what was sent before was refused
            self._receive(data)

    def close(self) -> None:
        self._net.watch(self._end, 0, select.EPOLLIN, self)
        self._end.close()


def _bound(forward: Forward) -> socket.socket:
    """A socket at a port of the host's that leads to the guest. Raises UsageError."""
    kind = socket.SOCK_DGRAM if forward.protocol == "udp" else socket.SOCK_STREAM
    end = socket.socket(socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind((forward.address, forward.port))
        if kind == socket.SOCK_STREAM:
            end.listen(AT_ONCE)
    except OSError as error:
        end.close()
        raise UsageError(f"--net user: hostfwd: {forward.address}:{forward.port}: {error.strerror}") from None
    end.setblocking(False)
    return end


class _Post:
    """A port of the host's whose datagrams the guest gets, and may answer. Raises UsageError."""

    def __init__(self, net: UserNet, forward: Forward) -> None:
        self._net, self._port = net, forward.guest
        self._end = _bound(forward)
        self.known: dict[tuple[str, int], int] = {}  #: who has sent something -> the port that the guest sees
        net.watch(self._end, select.EPOLLIN, 0, self)

    def event(self, mask: int) -> None:
        stack = self._net.stack
        for _ in range(AT_ONCE):
            try:
                data, sender = self._end.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # an answer of the guest's was refused
            by = self.known.get(sender)
            if by is None or not stack.arrive(self._port, by, data):
                by = stack.lead(self._port, _Answers(self, self._end, sender))
                self.known[sender] = by
                stack.arrive(self._port, by, data)

    def close(self) -> None:
        self._end.close()


class _Answers:
    """What the guest sends back to somebody whose datagrams it got."""

    def __init__(self, post: _Post, end: socket.socket, sender: tuple[str, int]) -> None:
        self._post, self._end, self._sender = post, end, sender

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self._end.sendto(data, self._sender)

    def close(self) -> None:
        self._post.known.pop(self._sender, None)


class _Listener:
    """A port of the host's that leads to the guest. Raises UsageError."""

    def __init__(self, net: UserNet, forward: Forward) -> None:
        self._net, self._port = net, forward.guest
        self._end = _bound(forward)
        net.watch(self._end, select.EPOLLIN, 0, self)

    def event(self, mask: int) -> None:
        for _ in range(AT_ONCE):
            try:
                end, _ = self._end.accept()
            except OSError:
                return
            if not self._net.stack.invite(self._port, partial(self._stream, end)):
                end.close()

    def _stream(self, end: socket.socket, connection: Connection) -> _Stream:
        return _Stream(self._net, end, connection, connected=True)

    def close(self) -> None:
        self._end.close()
