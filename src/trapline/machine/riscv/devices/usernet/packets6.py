"""Packets of IPv6 (RFC 8200) and ICMPv6 (RFC 4443), read and made, and what neighbours say to one another (RFC 4861, 8106).

As packets.py, of which they use the rest: what is read is hostile, and addresses are sixteen bytes.
"""

from __future__ import annotations

import struct

from trapline.machine.riscv.devices.usernet.packets import MTU, TCP, Packet, checksum, pseudo

IPV6 = 0x86DD
ICMP6 = 58
HEADER = 40
UNREACHABLE, ECHO, ECHO_REPLY, SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT, ADVERTISE = 1, 128, 129, 133, 134, 135, 136
PROHIBITED = 1  #: code of UNREACHABLE
LEAST_MTU = 1280
_HOP_BY_HOP, _FRAGMENT, _DESTINATION = 0, 44, 60
_MOST_EXTENSIONS = 8
_IP = struct.Struct("!IHBB16s16s")
_HOPS = 255  #: of what neighbours say; more than a router would have left
_SOURCE_MAC, _TARGET_MAC, _PREFIX, _MTU, _RESOLVERS = 1, 2, 3, 5, 25  #: options
_FOR_EVER = 0xFFFF_FFFF
_SOLICITED, _OVERRIDE, _ROUTER = 0x4000_0000, 0x2000_0000, 0x8000_0000
LIFETIME_S = 1800  #: of a router that is not heard of again


def read(data: bytes) -> Packet | None:
    """Pieces of packets, and those with routes, are none. `header` is the fixed one and its extensions."""
    if len(data) < HEADER or data[0] >> 4 != 6:
        return None
    _, length, following, _, source, to = _IP.unpack_from(data)
    end, at = HEADER + length, HEADER
    if end > len(data):
        return None
    for _ in range(_MOST_EXTENSIONS):
        if following not in (_HOP_BY_HOP, _DESTINATION):
            break
        if at + 8 > end:
            return None
        following, at = data[at], at + 8 + 8 * data[at + 1]
    return Packet(source, to, following, data[at:end], data[:at]) if at <= end else None


def make(source: bytes, to: bytes, protocol: int, payload: bytes, number: int = 0) -> list[bytes]:
    """Packets of at most MTU bytes, but for TCP; `number` tells the pieces of one from those of others."""
    room = MTU - HEADER
    if len(payload) <= room or protocol == TCP:
        return [_packet(source, to, protocol, payload)]
    room = room - 8 & -8
    return [
        _packet(
            source, to, _FRAGMENT,
            struct.pack("!BxHI", protocol, at | (at + room < len(payload)), number & 0xFFFF_FFFF) + payload[at : at + room],
        )
        for at in range(0, len(payload), room)
    ]  # fmt: skip


def _packet(source: bytes, to: bytes, protocol: int, payload: bytes) -> bytes:
    return _IP.pack(6 << 28, len(payload), protocol, _HOPS, source, to) + payload


def icmp(source: bytes, to: bytes, kind: int, code: int, rest: bytes) -> bytes:
    """A message; `rest` is what follows its checksum."""
    start = bytes((kind, code))
    found = checksum(pseudo(source, to, ICMP6, 4 + len(rest)) + start + b"\0\0" + rest)
    return start + found.to_bytes(2, "big") + rest


def advertisement(mac: bytes, prefix: bytes, resolver: bytes) -> bytes:
    """What a router says of itself, of the 64 bits that addresses begin with, and of who knows names (RFC 8106)."""
    return (
        struct.pack("!BBHII", 64, 0, LIFETIME_S, 0, 0)
        + struct.pack("!BB6s", _SOURCE_MAC, 1, mac)
        + struct.pack("!BBxxI", _MTU, 1, MTU)
        + struct.pack("!BBBBIIxxxx16s", _PREFIX, 4, 64, 0xC0, _FOR_EVER, _FOR_EVER, prefix)
        + struct.pack("!BBxxI16s", _RESOLVERS, 3, LIFETIME_S, resolver)
    )


def neighbour(mac: bytes, target: bytes) -> bytes:
    """The answer to who has the address `target`, a router's."""
    return struct.pack("!I16sBB6s", _ROUTER | _SOLICITED | _OVERRIDE, target, _TARGET_MAC, 1, mac)
