"""Netlink: requests are bytes of a program's, and what waits in a socket has a bound."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipc_world import IpcWorld

from trapline.abi import netlink as n
from trapline.abi.errno import ENOBUFS, Errno
from trapline.kernel.net.netlink import route
from trapline.kernel.net.netlink.socket import NetlinkSocket

BUFFER = 212_992


@pytest.fixture
def task() -> Any:
    return IpcWorld().process()


def request(kind: int, flags: int, body: bytes = bytes(16)) -> bytes:
    return n.NLMSGHDR.pack(n.NLMSGHDR.size + len(body), kind, flags, 7, 0) + body


def received(socket: NetlinkSocket) -> list[bytes]:
    found = []
    while (data := socket.try_read(65536)) is not None:
        found.append(data)
    return found


def test_several_requests_in_one_datagram(task: Any) -> None:
    socket = NetlinkSocket(task, 3)
    one = request(n.RTM_GETLINK, n.NLM_F_REQUEST | n.NLM_F_DUMP)
    socket.send_to(task, one + one, (1, 0, 0), None)
    kinds = [n.NLMSGHDR.unpack_from(each)[1] for each in received(socket)]
    assert kinds == [n.RTM_NEWLINK, n.NLMSG_DONE] * 2


def test_what_nobody_receives_has_a_bound(task: Any) -> None:
    socket = NetlinkSocket(task, 3)
    used = socket.under_way.used
    for _ in range(20_000):
        socket.send_to(task, request(n.NLMSG_NOOP, n.NLM_F_REQUEST | n.NLM_F_ACK), (1, 0, 0), None)
    assert sum(len(each.data) for each in socket.inbox) < BUFFER
    with pytest.raises(ENOBUFS):
        socket.try_read(100)
    assert received(socket)
    assert socket.under_way.used == used
    socket.send_to(task, request(n.NLMSG_NOOP, n.NLM_F_REQUEST | n.NLM_F_ACK), (1, 0, 0), None)
    socket.put()
    assert socket.under_way.used == used


def test_a_port_is_free_when_its_socket_is_closed(task: Any) -> None:
    first = NetlinkSocket(task, 3)
    first.autobind(task)
    second = NetlinkSocket(task, 3)
    second.autobind(task)
    assert first.port == task.group.pid != second.port
    first.put()
    third = NetlinkSocket(task, 3)
    third.autobind(task)
    assert third.port == task.group.pid


@given(st.binary(max_size=200), st.integers(0, 1 << 16), st.integers(0, 0xFFFF), st.booleans())
def test_any_request_is_answered_or_refused(body: bytes, kind: int, flags: int, privileged: bool) -> None:
    try:
        found = route.answer(kind & 0xFFFF, flags, body, privileged=privileged)
    except Errno:
        return
    assert all(each == n.RTM_NEWLINK for each, _ in found)


@given(st.binary(max_size=300))
def test_any_datagram_is_survived(data: bytes) -> None:
    task: Any = IpcWorld().process()
    socket = NetlinkSocket(task, 3)
    assert socket.send_to(task, data, (1, 0, 0), None) == len(data)
    for each in received(socket):
        assert n.NLMSGHDR.unpack_from(each)[1] in (n.NLMSG_ERROR, n.NLMSG_DONE, n.RTM_NEWLINK)


def test_attributes_that_lie_about_their_length() -> None:
    assert route.attributes(pack("<HH", 8, 3) + b"lo\0\0" + pack("<HH", 200, 4) + b"x") == {3: b"lo\0\0"}
    assert route.attributes(pack("<HH", 3, 3) + b"lo") == {}
    assert route.attributes(b"\4") == {}
