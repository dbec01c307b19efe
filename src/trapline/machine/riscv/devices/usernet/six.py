"""Six: IPv6's part of the gateway: who is who on the wire, and echoes.

    fe80::2    the router             fec0::/64    where the guest gives itself an address
    fec0::2    the gateway, as 10.0.2.2      fec0::3    names, as 10.0.2.3

It answers router and neighbour solicitations, and echo requests to these three, and tells that it is still there. Nothing of
the guest's is remembered: its frames say where to answer.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.machine.riscv.devices.usernet import packets6
from trapline.machine.riscv.devices.usernet.packets import Packet
from trapline.machine.riscv.devices.usernet.packets6 import ICMP6

PREFIX = bytes.fromhex("fec0") + bytes(14)
ROUTER, GATEWAY6, NAMES6 = bytes.fromhex("fe80") + bytes(13) + b"\2", PREFIX[:15] + b"\2", PREFIX[:15] + b"\3"
EVERYBODY6 = bytes.fromhex("ff02") + bytes(13) + b"\1"
NOBODY = bytes(16)
EVERY_S = packets6.LIFETIME_S / 3  #: between two advertisements
_OURS = (ROUTER, GATEWAY6, NAMES6)
_LINK_LOCAL = bytes.fromhex("fe80") + bytes(6)


def is_guest(address: bytes) -> bool:
    """Whether the guest may speak to the world with it."""
    return address[:8] == PREFIX[:8] and address not in (GATEWAY6, NAMES6)


class Six:
    """`send(source, to, protocol, payload)` brings a packet to the guest. `mac` is the router's."""

    def __init__(self, send: Callable[[bytes, bytes, int, bytes], object], mac: bytes, now: Callable[[], float]) -> None:
        self._send, self._mac, self._now = send, mac, now
        self.deadline: float | None = None  #: when the next advertisement is due; None: nobody has asked for one

    def message(self, packet: Packet) -> bool:
        """ICMPv6 of the guest's; False if it is for somebody outside."""
        data = packet.payload
        near = packet.source[:8] == _LINK_LOCAL or is_guest(packet.source)
        if len(data) < 8:
            return True
        if packet.to[0] != 0xFF and packet.to not in _OURS:
            return not near
        if data[0] == packets6.SOLICIT_ROUTER and (near or packet.source == NOBODY):
            self._advertise(packet.source if near else EVERYBODY6)
        elif data[0] == packets6.SOLICIT and near and data[8:24] in _OURS:
            target = data[8:24]
            self._answer(target, packet.source, packets6.ADVERTISE, packets6.neighbour(self._mac, target))
        elif data[0] == packets6.ECHO and near and packet.to in _OURS:
            self._answer(packet.to, packet.source, packets6.ECHO_REPLY, data[4:])
        return True

    def _answer(self, source: bytes, to: bytes, kind: int, rest: bytes) -> None:
        self._send(source, to, ICMP6, packets6.icmp(source, to, kind, 0, rest))

    def _advertise(self, to: bytes) -> None:
        self.deadline = self._now() + EVERY_S
        self._answer(ROUTER, to, packets6.ADVERTISE_ROUTER, packets6.advertisement(self._mac, PREFIX, NAMES6))

    def expire(self) -> None:
        """Say again what is forgotten otherwise."""
        if self.deadline is not None and self.deadline <= self._now():
            self._advertise(EVERYBODY6)

    def prohibited(self, packet: Packet) -> None:
        """Say that it was not let through, with as much of it as may be."""
        if is_guest(packet.source) and packet.to[0] != 0xFF:
            told = bytes(4) + (packet.header + packet.payload)[: packets6.LEAST_MTU - packets6.HEADER - 8]
            message = packets6.icmp(GATEWAY6, packet.source, packets6.UNREACHABLE, packets6.PROHIBITED, told)
            self._send(GATEWAY6, packet.source, ICMP6, message)
