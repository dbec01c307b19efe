"""NETLINK_ROUTE, rtnetlink(7): what there is of a network. As in a kernel without Internet protocols: a loopback, no addresses.

A request is bytes of a program's; nothing is believed of it but what was checked.
"""

from __future__ import annotations

from trapline.abi import netlink as n
from trapline.abi.errno import EINVAL, ENODEV, EOPNOTSUPP, EPERM

LO_INDEX, LO_NAME = 1, b"lo"
LO_FLAGS = n.IFF_UP | n.IFF_LOOPBACK | n.IFF_RUNNING | n.IFF_LOWER_UP
LO_MTU, TX_QUEUE = 65536, 1000
CAP_NET_ADMIN = 12


def attribute(kind: int, value: bytes) -> bytes:
    """A struct rtattr with its value, padded."""
    return n.RTATTR.pack(n.RTATTR.size + len(value), kind) + value + bytes(-len(value) & 3)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a request, by type; what is malformed, and all that follows it, is left out."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while end - at >= n.RTATTR.size:
        length, kind = n.RTATTR.unpack_from(data, at)
        if not n.RTATTR.size <= length <= end - at:
            break
        found[kind & n.NLA_TYPE_MASK] = data[at + n.RTATTR.size : at + length]
        at += length + 3 & ~3
    return found


def answer(kind: int, flags: int, body: bytes, *, privileged: bool) -> list[tuple[int, bytes]]:
    """(type, body) of each message that answers a request. EOPNOTSUPP, EPERM, EINVAL, ENODEV.

    `privileged`: the sender has CAP_NET_ADMIN. Nothing can be changed by anybody.
    """
    if kind > n.RTM_MAX:
        raise EOPNOTSUPP
    if not body:
        return []
    if (kind - n.RTM_BASE) % n.RTM_KINDS != n.RTM_KIND_GET and not privileged:
        raise EPERM
    dumps = flags & n.NLM_F_DUMP == n.NLM_F_DUMP
    if kind == n.RTM_GETLINK:
        return [(n.RTM_NEWLINK, loopback())] if dumps else _one_link(body)
    if kind in (n.RTM_GETADDR, n.RTM_GETROUTE, n.RTM_GETNEIGH) and dumps:
        return []
    raise EOPNOTSUPP


def loopback() -> bytes:
    """struct ifinfomsg of lo, with its attributes."""
    number = 4
    return n.IFINFOMSG.pack(0, n.ARPHRD_LOOPBACK, LO_INDEX, LO_FLAGS, 0) + b"".join((
        attribute(n.IFLA_IFNAME, LO_NAME + b"\0"),
        attribute(n.IFLA_TXQLEN, TX_QUEUE.to_bytes(number, "little")),
        attribute(n.IFLA_OPERSTATE, b"\0"),
        attribute(n.IFLA_LINKMODE, b"\0"),
        attribute(n.IFLA_MTU, LO_MTU.to_bytes(number, "little")),
        attribute(n.IFLA_ADDRESS, bytes(6)),
        attribute(n.IFLA_BROADCAST, bytes(6)),
        attribute(n.IFLA_QDISC, b"noqueue\0"),
    ))  # fmt: skip


def _one_link(body: bytes) -> list[tuple[int, bytes]]:
    """RTM_GETLINK of a link by its index, or its name."""
    if len(body) < n.IFINFOMSG.size:
        raise EINVAL
    index = n.IFINFOMSG.unpack_from(body)[2]
    name = attributes(body[n.IFINFOMSG.size :]).get(n.IFLA_IFNAME)
    if index <= 0 and name is None:
        raise EINVAL
    if index != LO_INDEX if index > 0 else (name or b"").partition(b"\0")[0] != LO_NAME:
        raise ENODEV
    return [(n.RTM_NEWLINK, loopback())]
