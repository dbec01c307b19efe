"""Offload: what a frame's header leaves to the other side (Virtual I/O Device Specification, "Network Device").

    flags (8)  gso_type (8)  hdr_len (16)  gso_size (16)  csum_start (16)  csum_offset (16)

A *packet* is these ten bytes and a frame. Either the frame is all there (`PLAIN`), or its checksum, of the bytes from
csum_start on, belongs at csum_offset behind that, and perhaps it is TCP over IPv4 that stands for several frames with gso_size
bytes of data each.

Invariant: `checked` returns only what a driver may be given and `frames` can do: it comes from a guest, or from who knows whom.
"""

from __future__ import annotations

import struct
from trapline.typed import NamedTuple

from trapline.machine.riscv.devices.usernet.packets import (
    ETHERNET,
    IP_HEADER,
    IPV4,
    TCP,
    TCP_HEADER,
    checksum,
)

PLAIN = bytes(10)
NEEDS_CSUM, TCPV4 = 1, 1  #: flags, gso_type
MIN_SIZE = 48  #: bytes of data in a segment, at least: TCP has at most 40 bytes of options, and each costs work
_HEADER = struct.Struct("<BBHHHH")
_VLAN = (0x8100, 0x88A8)
_CHECKSUM = 16  #: its place in TCP's header
_LAST, _FIRST = 0x09, 0x80  #: flags of TCP (FIN, PSH; CWR) that only the last, or the first, of several segments has


class _Segments(NamedTuple):
    """Where the headers of a frame are that stands for several: offsets from its first byte."""

    ip: int
    tcp: int
    data: int


def checked(packet: bytes) -> bytes | None:
    """A packet that says nothing but what is so; None if it contradicts itself."""
    if packet.startswith(PLAIN):
        return packet
    if len(packet) < len(PLAIN):
        return None
    flags, kind, _, size, start, offset = _HEADER.unpack_from(packet)
    if not flags & NEEDS_CSUM:
        return None if kind else PLAIN + packet[len(PLAIN) :]
    if start < ETHERNET or len(PLAIN) + start + offset + 2 > len(packet):
        return None
    if not kind:
        return _HEADER.pack(NEEDS_CSUM, 0, 0, 0, start, offset) + packet[len(PLAIN) :]
    frame = packet[len(PLAIN) :]
    places = _segments(frame)
    if kind != TCPV4 or places is None or (start, offset) != (places.tcp, _CHECKSUM):
        return None
    if not MIN_SIZE <= size <= 0xFFFF - (places.data - places.ip):
        return None
    return _HEADER.pack(NEEDS_CSUM, TCPV4, places.data, size, start, offset) + frame


def needs(packet: bytes) -> tuple[bool, bool]:
    """Whether a checksum is left to who gets it, and cutting up."""
    return bool(packet[0] & NEEDS_CSUM), packet[1] != 0


def frames(packet: bytes) -> list[bytes]:
    """The frames that a checked packet stands for, as they are on a wire."""
    if packet.startswith(PLAIN):
        return [packet[len(PLAIN) :]]
    _, kind, _, size, start, offset = _HEADER.unpack_from(packet)
    frame = packet[len(PLAIN) :]
    if kind:
        return _cut(frame, size)
    made = bytearray(frame)
    at = start + offset
    made[at : at + 2] = (checksum(frame[start:]) or 0xFFFF).to_bytes(2, "big")  # 0 would say that UDP has none
    return [bytes(made)]


def _segments(frame: bytes) -> _Segments | None:
    """Of TCP over IPv4, perhaps in a virtual LAN; None if it is anything else, or cut off."""
    at = ETHERNET
    if int.from_bytes(frame[at - 2 : at], "big") in _VLAN:
        at += 4
    if int.from_bytes(frame[at - 2 : at], "big") != IPV4 or len(frame) < at + IP_HEADER or frame[at] >> 4 != 4:
        return None
    tcp = at + 4 * (frame[at] & 15)
    if tcp < at + IP_HEADER or frame[at + 9] != TCP or len(frame) < tcp + TCP_HEADER:
        return None
    data = tcp + 4 * (frame[tcp + 12] >> 4)
    return _Segments(at, tcp, data) if tcp + TCP_HEADER <= data <= len(frame) else None


def _cut(frame: bytes, size: int) -> list[bytes]:
    """Frames with `size` bytes of data each, the last one with what is left."""
    places = _segments(frame)
    assert places is not None
    link, ip, tcp = frame[: places.ip], bytearray(frame[places.ip : places.tcp]), bytearray(frame[places.tcp : places.data])
    number, seq, flags = int.from_bytes(ip[4:6], "big"), int.from_bytes(tcp[4:8], "big"), tcp[13]
    made: list[bytes] = []
    for at in range(places.data, max(len(frame), places.data + 1), size):
        data = frame[at : at + size]
        ip[2:4] = (len(ip) + len(tcp) + len(data)).to_bytes(2, "big")
        ip[4:6] = (number + len(made) & 0xFFFF).to_bytes(2, "big")
        ip[10:12] = b"\0\0"
        ip[10:12] = checksum(bytes(ip)).to_bytes(2, "big")
        tcp[4:8] = (seq + at - places.data & 0xFFFF_FFFF).to_bytes(4, "big")
        tcp[13] = flags & ~(_FIRST if made else 0) & ~(_LAST if at + size < len(frame) else 0)
        tcp[16:18] = b"\0\0"
        pseudo = ip[12:20] + bytes((0, TCP)) + (len(tcp) + len(data)).to_bytes(2, "big")
        tcp[16:18] = checksum(bytes(pseudo + tcp + data)).to_bytes(2, "big")
        made.append(b"".join((link, ip, tcp, data)))
    return made
