"""Netlink sockets: datagrams to the kernel, which answers at once, and to other netlink sockets, by port.

A name here is a whole struct sockaddr_nl. What the kernel has to say waits in the inbox, as far as the receive buffer goes;
beyond, a message is lost, and the next receive says so with ENOBUFS.
"""

from __future__ import annotations

from trapline.typed import Any
from weakref import WeakKeyDictionary

from trapline.abi import netlink as n
from trapline.abi.errno import (
    EADDRINUSE,
    ECONNREFUSED,
    EINVAL,
    EMSGSIZE,
    ENOBUFS,
    EOPNOTSUPP,
    EPERM,
    Errno,
)
from trapline.abi.poll import POLL_IN
from trapline.abi.socket import AF_UNSPEC, SOCK_DGRAM
from trapline.kernel.net.message import Cargo, Message, Ucred, ucred_of
from trapline.kernel.net.netlink import route
from trapline.kernel.net.unix import LEAST_BUFFER, UnixSocket, sockets_of

KERNEL = n.SOCKADDR_NL.pack(n.AF_NETLINK, 0, 0, 0)
KERNEL_CREDS: Ucred = (0, 0, 0)
FIRST_FREE_PORT = (1 << 32) - 4097  #: ports below, downwards, are for whose process number is taken

_ports: WeakKeyDictionary[Any, dict[int, NetlinkSocket]] = WeakKeyDictionary()


class NetlinkSocket(UnixSocket):
    """`port` 0: not bound yet. `type`: SOCK_RAW or SOCK_DGRAM, which mean the same."""

    __slots__ = ("groups", "port", "to_groups", "to_port", "type")

    family = n.AF_NETLINK

    def __init__(self, task: Any, kind: int, flags: int = 0) -> None:
        super().__init__(task, SOCK_DGRAM, flags)
        sockets_of(task.kernel).pop(self.inode.ino, None)  # those are of unix(7)
        self.type = kind
        self.port = self.groups = self.to_port = self.to_groups = 0
        self.address = KERNEL

    # ---- names

    def bind_to(self, task: Any, raw: bytes) -> None:
        """bind(2)."""
        port, groups = _parse(raw)
        if self.port and port != self.port:
            raise EINVAL
        if not self.port:
            self._take_port(task, port)
        self.groups = groups
        self._named()

    def autobind(self, task: Any) -> None:
        if not self.port:
            self._take_port(task, 0)
            self._named()

    def _take_port(self, task: Any, port: int) -> None:
        """`port`, or if that is 0, the process's number, or one that is free."""
        ports = _ports.setdefault(self.kernel, {})
        if port in ports:
            raise EADDRINUSE
        if not port:
            port = task.group.pid if task.group.pid not in ports else FIRST_FREE_PORT
            while port in ports:
                port -= 1
        ports[port] = self
        self.port = port
        self.unbind = _give_port_back

    def _named(self) -> None:
        self.address = n.SOCKADDR_NL.pack(n.AF_NETLINK, 0, self.port, self.groups)

    def connect_to(self, task: Any, raw: bytes) -> None:
        """connect(2)."""
        if len(raw) >= 2 and raw[:2] == AF_UNSPEC.to_bytes(2, "little"):
            self.to_port = self.to_groups = 0
            return
        port, groups = _parse(raw)
        if (port or groups) and not task.creds.has_cap(route.CAP_NET_ADMIN):
            raise EPERM
        self.autobind(task)
        self.to_port, self.to_groups = port, groups

    def peer_name(self) -> bytes:
        """getpeername(2): it is connected to the kernel unless to somebody else."""
        return n.SOCKADDR_NL.pack(n.AF_NETLINK, 0, self.to_port, self.to_groups)

    def listen(self, task: Any, backlog: int) -> None:
        raise EOPNOTSUPP

    def shutdown(self, how: int) -> None:
        raise EOPNOTSUPP

    # ---- sending

    def send_to(self, task: Any, data: bytes, creds: Ucred, raw: bytes | None) -> int:
        """sendto(2), write(2): to whom `raw` names, or it is connected to."""
        port, groups = (self.to_port, self.to_groups) if raw is None else _parse(raw)
        if raw is not None and (port or groups) and not task.creds.has_cap(route.CAP_NET_ADMIN):
            raise EPERM
        self.autobind(task)
        if len(data) > self.sndbuf - 32:
            raise EMSGSIZE
        if not port:
            self._requests(task, data)
            return len(data)
        target = _ports.get(self.kernel, {}).get(port)
        if target is None or (target.to_port and target.to_port != self.port):
            raise ECONNREFUSED
        target.deliver(Message(data, None, creds, None, self.address))
        return len(data)

    def try_send(
        self, data: bytes | memoryview, creds: Ucred, cargo: Cargo | None = None, to: UnixSocket | None = None,
        urgent: bool = False,
    ) -> int | None:  # fmt: skip
        raise EOPNOTSUPP

    def write_as(self, task: Any, data: bytes | memoryview) -> int | None:
        return self.send_to(task, bytes(data), ucred_of(task), None)

    def deliver(self, message: Message) -> None:
        """A message arrives; where there is no room, the next receive hears of that."""
        if self.closed:
            return
        room = self.rcvbuf if self.under_way.has() else min(self.rcvbuf, LEAST_BUFFER)
        if self.inbox and sum(each.charge for each in self.inbox) + message.charge > room:
            self.error = ENOBUFS.number
        elif self.filter is None or self.filtered(message.data):
            self.inbox.append(message)
            self.under_way.force(message.charge)
        self.queue.wake_all(POLL_IN)

    def tell(self, data: bytes) -> None:
        """The kernel sends this."""
        self.deliver(Message(data, None, KERNEL_CREDS, None, KERNEL))

    def _gone(self, message: Message) -> None:
        self.under_way.give(message.charge)

    def next_message(self) -> Message | None:
        self._check_error()
        return super().next_message()

    # ---- requests

    def _requests(self, task: Any, data: bytes) -> None:
        """Answer each message in a datagram; what is no message ends it."""
        privileged = task.creds.has_cap(route.CAP_NET_ADMIN)
        at, end = 0, len(data)
        while end - at >= n.NLMSGHDR.size:
            length, kind, flags, sequence, _ = n.NLMSGHDR.unpack_from(data, at)
            if not n.NLMSGHDR.size <= length <= end - at:
                return
            request = data[at : at + length]
            at += length + 3 & ~3
            error = 0
            told = False
            if flags & n.NLM_F_REQUEST and kind >= n.NLMSG_MIN_TYPE:
                try:
                    found = route.answer(kind, flags, request[n.NLMSGHDR.size :], privileged=privileged)
                    told = self._answer(found, length, flags, sequence)
                except Errno as refused:
                    error = refused.number
            if error or (flags & n.NLM_F_ACK and not told):
                self._acknowledge(request, sequence, error)

    def _answer(self, found: list[tuple[int, bytes]], length: int, flags: int, sequence: int) -> bool:
        """Send the answers; whether they say by themselves that they have ended, as a dump does."""
        dump = flags & n.NLM_F_DUMP == n.NLM_F_DUMP and length > n.NLMSGHDR.size
        multi = n.NLM_F_MULTI if dump else 0
        if found:
            self.tell(b"".join(self._message(kind, multi, sequence, body) for kind, body in found))
        if dump:
            self.tell(self._message(n.NLMSG_DONE, n.NLM_F_MULTI, sequence, bytes(4)))
        return dump

    def _acknowledge(self, request: bytes, sequence: int, error: int) -> None:
        """NLMSG_ERROR: the errno, or 0, and what it is about."""
        capped = not error or self.options.get(-n.NETLINK_CAP_ACK, bytes(4)) != bytes(4)
        about = request[: n.NLMSGHDR.size] if capped else request
        flags = n.NLM_F_CAPPED if capped else 0
        self.tell(self._message(n.NLMSG_ERROR, flags, sequence, (-error).to_bytes(4, "little", signed=True) + about))

    def _message(self, kind: int, flags: int, sequence: int, body: bytes) -> bytes:
        length = n.NLMSGHDR.size + len(body)
        return n.NLMSGHDR.pack(length, kind, flags, sequence, self.port) + body + bytes(-length & 3)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        from trapline.kernel.net import interfaces  # few ask a socket

        return interfaces.ioctl(task, cmd, arg)


def _give_port_back(socket: Any) -> None:
    _ports.get(socket.kernel, {}).pop(socket.port, None)


def _parse(raw: bytes) -> tuple[int, int]:
    """(port, groups) of a struct sockaddr_nl. EINVAL."""
    if len(raw) < n.SOCKADDR_NL.size:
        raise EINVAL
    family, _, port, groups = n.SOCKADDR_NL.unpack_from(raw)
    if family != n.AF_NETLINK:
        raise EINVAL
    return port, groups
