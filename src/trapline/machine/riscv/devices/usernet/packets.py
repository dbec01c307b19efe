"""Packets: Ethernet (II), ARP (RFC 826), IPv4 (RFC 791), ICMP (RFC 792), UDP (RFC 768), TCP (RFC 9293), read and made.

What is read came from a hostile guest: whatever is cut off or contradicts itself is None. Checksums of the guest's are not
verified: its card may leave them to us, and the wire between loses nothing. Addresses are four bytes; datagrams and segments
take those of packets6.py, too.
"""

from __future__ import annotations

import struct
from trapline.typed import NamedTuple

ARP, IPV4 = 0x0806, 0x0800
ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ETHERNET, IP_HEADER, UDP_HEADER, TCP_HEADER = 14, 20, 8, 20
MTU = 1500
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_MORE, _OFFSET, _DONT = 0x2000, 0x1FFF, 0x4000
_TTL = 64
_END, _NOTHING, _MSS, _SCALE = 0, 1, 2, 3  #: options of TCP
MOST_SHIFT = 14


class Packet(NamedTuple):
    """A packet of IPv4 or IPv6 that is whole."""

    source: bytes
    to: bytes
    protocol: int
    payload: bytes
    header: bytes  #: as it came, with options


class Datagram(NamedTuple):
    source: int
    to: int
    payload: bytes


class Segment(NamedTuple):
    """Of TCP. `mss`: 0 if it does not say; `shift`: -1."""

    source: int
    to: int
    seq: int
    ack: int
    flags: int
    window: int
    mss: int
    shift: int
    payload: bytes


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): words are digits to base 2**16, so their sum is the number modulo 2**16 - 1."""
    number = int.from_bytes(data + b"\0" if len(data) & 1 else data, "big")
    return 0xFFFF - (number % 0xFFFF or 0xFFFF if number else 0)


# ---- reading


def read_arp(data: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """(operation, sender's hardware address, its IPv4 address, the one it asks about)"""
    if len(data) < _ARP.size:
        return None
    hardware, protocol, first, second, operation, mac, sender, _, target = _ARP.unpack_from(data)
    if (hardware, protocol, first, second) != (1, IPV4, 6, 4):
        return None
    return operation, mac, sender, target


def read_ip(data: bytes) -> Packet | None:
    """Pieces of packets are none: nobody here puts them together."""
    if len(data) < IP_HEADER or data[0] >> 4 != 4:
        return None
    first, _, total, _, fragment, _, protocol, _, source, to = _IP.unpack_from(data)
    length = 4 * (first & 15)
    if not IP_HEADER <= length <= total <= len(data) or fragment & (_MORE | _OFFSET):
        return None
    return Packet(source, to, protocol, data[length:total], data[:length])


def read_udp(data: bytes) -> Datagram | None:
    if len(data) < UDP_HEADER:
        return None
    source, to, length, _ = struct.unpack_from("!4H", data)
    if not UDP_HEADER <= length <= len(data):
        return None
    return Datagram(source, to, data[UDP_HEADER:length])


def read_tcp(data: bytes) -> Segment | None:
    if len(data) < TCP_HEADER:
        return None
    source, to, seq, ack, words, flags, window, _, _ = _TCP.unpack_from(data)
    length = 4 * (words >> 4)
    if not TCP_HEADER <= length <= len(data):
        return None
    mss, shift = _options(data[TCP_HEADER:length]) if flags & SYN else (0, -1)
    return Segment(source, to, seq, ack, flags, window, mss, shift, data[length:])


def _options(data: bytes) -> tuple[int, int]:
    """The greatest segment and the window's scale that a SYN offers."""
    mss, shift, at = 0, -1, 0
    while at < len(data) and data[at] != _END:
        if data[at] == _NOTHING:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            break
        if (data[at], length) == (_MSS, 4):
            mss = int.from_bytes(data[at + 2 : at + 4], "big")
        elif (data[at], length) == (_SCALE, 3):
            shift = min(data[at + 2], MOST_SHIFT)
        at += length
    return mss, shift


# ---- making


def arp_reply(mac: bytes, address: bytes, to_mac: bytes, to: bytes) -> bytes:
    return to_mac + mac + ARP.to_bytes(2, "big") + _ARP.pack(1, IPV4, 6, 4, 2, mac, address, to_mac, to)


def ip(source: bytes, to: bytes, protocol: int, payload: bytes, number: int = 0) -> list[bytes]:
    """Packets of at most MTU bytes, but for TCP; `number` tells the pieces of one from those of others."""
    room = MTU - IP_HEADER
    if len(payload) <= room or protocol == TCP:
        return [_packet(source, to, protocol, payload, number, _DONT)]
    room -= room % 8
    pieces = range(0, len(payload), room)
    return [
        _packet(source, to, protocol, payload[at : at + room], number, at >> 3 | (_MORE if at + room < len(payload) else 0))
        for at in pieces
    ]


def _packet(source: bytes, to: bytes, protocol: int, payload: bytes, number: int, fragment: int) -> bytes:
    fields = (0x45, 0, IP_HEADER + len(payload), number & 0xFFFF, fragment, _TTL, protocol)
    header = _IP.pack(*fields, 0, source, to)
    return _IP.pack(*fields, checksum(header), source, to) + payload


def pseudo(source: bytes, to: bytes, protocol: int, length: int) -> bytes:
    """What checksums count in of IPv4, or of IPv6."""
    return source + to + struct.pack("!HH" if len(source) == 4 else "!II", protocol, length)


def udp(source: bytes, to: bytes, from_port: int, to_port: int, payload: bytes) -> bytes:
    """A datagram, without its IP header."""
    length = UDP_HEADER + len(payload)
    data = struct.pack("!4H", from_port, to_port, length, 0) + payload
    found = checksum(pseudo(source, to, UDP, length) + data) or 0xFFFF
    return data[:6] + found.to_bytes(2, "big") + payload


def tcp(source: bytes, to: bytes, segment: Segment) -> bytes:
    """A segment, without its IP header. One that does not fit a packet has the checksum of its pseudo-header alone."""
    options = b""
    if segment.mss:
        options += struct.pack("!BBH", _MSS, 4, segment.mss)
    if segment.shift >= 0:
        options += struct.pack("!BBBB", _NOTHING, _SCALE, 3, segment.shift)
    words = (TCP_HEADER + len(options)) << 2
    fields = (segment.source, segment.to, segment.seq, segment.ack, words, segment.flags, segment.window)
    rest = options + segment.payload
    length = TCP_HEADER + len(rest)
    counted = pseudo(source, to, TCP, length)
    found = checksum(counted + _TCP.pack(*fields, 0, 0) + rest) if length <= MTU - IP_HEADER else 0xFFFF - checksum(counted)
    return _TCP.pack(*fields, found, 0) + rest


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    """A message; `rest` is what follows its checksum."""
    return bytes((kind, code)) + checksum(bytes((kind, code, 0, 0)) + rest).to_bytes(2, "big") + rest
