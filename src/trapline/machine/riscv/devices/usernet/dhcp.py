"""DHCP (RFC 2131, options of RFC 2132): the one address that there is to give, and where the gateway and names are."""

from __future__ import annotations

import struct

SERVER_PORT, CLIENT_PORT = 67, 68
LEASE_S = 86_400
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_COOKIE = b"\x63\x82\x53\x63"
_REQUEST, _REPLY = 1, 2
_PAD, _END = 0, 255
_MASK, _ROUTER, _DNS, _ASKED, _LEASE, _KIND, _SERVER = 1, 3, 6, 50, 51, 53, 54
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
_ANSWERS = {DISCOVER: OFFER, REQUEST: ACK, INFORM: ACK}


def answer(data: bytes, guest: bytes, gateway: bytes, names: bytes, mask: bytes) -> bytes | None:
    """The reply to a client's message; None if there is none."""
    if len(data) < _FIXED.size + 4 or data[_FIXED.size : _FIXED.size + 4] != _COOKIE:
        return None
    operation, hardware, length, _, number, _, flags, client, _, _, _, mac, _, _ = _FIXED.unpack_from(data)
    options = _options(data[_FIXED.size + 4 :])
    kind = options.get(_KIND, b"")
    if operation != _REQUEST or hardware != 1 or length != 6 or len(kind) != 1 or kind[0] not in _ANSWERS:
        return None
    if options.get(_SERVER, gateway) != gateway:
        return None  # the client has chosen another server
    reply = _ANSWERS[kind[0]]
    if kind[0] == REQUEST and options.get(_ASKED, client if any(client) else guest) != guest:
        reply = NAK
    given = guest if reply != NAK and kind[0] != INFORM else bytes(4)
    fixed = _FIXED.pack(_REPLY, 1, 6, 0, number, 0, flags, client, given, gateway, bytes(4), mac, b"", b"")
    told = _option(_KIND, bytes([reply])) + _option(_SERVER, gateway)
    if reply != NAK:
        told += _option(_MASK, mask) + _option(_ROUTER, gateway) + _option(_DNS, names)
        told += _option(_LEASE, LEASE_S.to_bytes(4, "big")) if kind[0] != INFORM else b""
    return (fixed + _COOKIE + told + bytes([_END])).ljust(300, b"\0")


def _option(number: int, value: bytes) -> bytes:
    return bytes((number, len(value))) + value


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        found[data[at]] = data[at + 2 : at + 2 + length]
        at += 2 + length
    return found
