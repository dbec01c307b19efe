"""Stack: the gateway of a network with one guest, which passes on what it may outside.

    10.0.2.2    the gateway; connections to it go to the host's own 127.0.0.1, if `Outside` lets them
    10.0.2.3    names: datagrams and connections to it go to a resolver of the host's, if `Outside` has one
    10.0.2.15   the guest, as DHCP tells it

It answers ARP, DHCP, and echo requests to the first two. UDP and TCP to other addresses go to `Outside`; what that refuses
is answered as a router would (ICMP: prohibited) or by a reset. six.py has the same for IPv6.

Invariants: at most CONNECTIONS and FLOWS at a time, each with bounded buffers; a frame of the guest's never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from trapline.typed import Protocol

from trapline.machine.riscv.devices.usernet import dhcp, packets, packets6, six, tcp
from trapline.machine.riscv.devices.usernet.packets import Datagram, Packet, Segment

GATEWAY, NAMES, GUEST, MASK = bytes((10, 0, 2, 2)), bytes((10, 0, 2, 3)), bytes((10, 0, 2, 15)), bytes((255, 255, 255, 0))
EVERYBODY = b"\xff" * 4
MAC = b"\x52\x55\x0a\x00\x02\x02"
CONNECTIONS, FLOWS = 256, 256
FLOW_S = 60.0  #: how long datagrams may come back
_ECHO, _ECHO_REPLY, _UNREACHABLE, _PROHIBITED = 8, 0, 3, 13

Place = tuple[bytes, int]  #: address and port
#: The guest's place, the other one.
Pair = tuple[Place, Place]


class Flow(Protocol):
    """Datagrams between one place of the guest's and one outside."""

    def send(self, data: bytes) -> None:
        """It may be lost."""

    def close(self) -> None: ...


class Outside(Protocol):
    """The world, as far as the guest may see it: addresses are those that the guest uses."""

    def connect(self, to: Place, connection: tcp.Connection) -> tcp.Stream | None:
        """Begin to connect; None if it may not be, or cannot. `connection` is told how it goes."""

    def flow(self, to: Place, receive: Callable[[bytes], object]) -> Flow | None: ...


class Stack:
    """`deliver(frame)` brings a frame to the guest. `now()`: a clock in seconds. `draw()`: 32 random bits. `large()`: whether
    the guest's card takes frames of TCP that are longer than a wire's (see Net.large), over IPv4. `ipv6`: it has that, too."""

    def __init__(
        self, outside: Outside, deliver: Callable[[bytes], object], now: Callable[[], float], draw: Callable[[], int],
        large: Callable[[], object] = bool, *, ipv6: bool = True,
    ) -> None:  # fmt: skip
        self._large = large
        self._outside, self._deliver, self._now, self._draw = outside, deliver, now, draw
        self._guest_mac = b"\xff" * 6
        self._six = six.Six(self._send, MAC, now) if ipv6 else None
        self._connections: dict[Pair, tcp.Connection] = {}
        self._flows: dict[Pair, tuple[Flow, list[float]]] = {}  # and when it was last used
        self._touched: dict[Pair, None] = {}  # connections that may have something to send
        self._numbers = count(1)
        self.refused = 0  #: connections and datagrams that were not let out

    # ---- from the guest

    def frame(self, data: bytes) -> None:
        """A frame of the guest's. `settle` must follow."""
        if len(data) < packets.ETHERNET or data[6] & 1:
            return
        self._guest_mac = data[6:12]
        kind, rest = int.from_bytes(data[12:14], "big"), data[packets.ETHERNET :]
        if kind == packets.ARP:
            self._arp(rest)
        elif kind == packets.IPV4 and (packet := packets.read_ip(rest)) is not None:
            self._packet(packet)
        elif kind == packets6.IPV6 and self._six is not None and (packet := packets6.read(rest)) is not None:
            self._packet6(packet, self._six)

    def _arp(self, data: bytes) -> None:
        found = packets.read_arp(data)
        if found is None:
            return
        operation, mac, sender, target = found
        if operation == 1 and target in (GATEWAY, NAMES):
            self._deliver(packets.arp_reply(MAC, target, mac, sender))

    def _packet(self, packet: Packet) -> None:
        if packet.protocol == packets.UDP and (datagram := packets.read_udp(packet.payload)) is not None:
            self._datagram(packet, datagram)
        elif packet.source[:3] != GUEST[:3] or packet.source in (GATEWAY, NAMES):
            return
        elif packet.protocol == packets.TCP and (segment := packets.read_tcp(packet.payload)) is not None:
            self._segment(packet, segment)
        elif packet.protocol == packets.ICMP:
            self._echo(packet)

    def _packet6(self, packet: Packet, here: six.Six) -> None:
        if packet.protocol == packets6.ICMP6:
            if not here.message(packet):
                here.prohibited(packet)
        elif not six.is_guest(packet.source) or packet.to[0] == 0xFF:
            return
        elif packet.protocol == packets.UDP and (datagram := packets.read_udp(packet.payload)) is not None:
            self._pass_on(packet, datagram)
        elif packet.protocol == packets.TCP and (segment := packets.read_tcp(packet.payload)) is not None:
            self._segment(packet, segment)

    def _echo(self, packet: Packet) -> None:
        data = packet.payload
        if packet.to in (GATEWAY, NAMES) and len(data) >= 8 and data[0] == _ECHO:
            self._send(packet.to, packet.source, packets.ICMP, packets.icmp(_ECHO_REPLY, 0, data[4:]))
        elif len(data) >= 8 and data[0] == _ECHO:
            self._prohibited(packet)

    def _datagram(self, packet: Packet, datagram: Datagram) -> None:
        if datagram.to == dhcp.SERVER_PORT and packet.to in (EVERYBODY, GATEWAY):
            reply = dhcp.answer(datagram.payload, GUEST, GATEWAY, NAMES, MASK)
            if reply is not None:
                made = packets.udp(GATEWAY, EVERYBODY, dhcp.SERVER_PORT, dhcp.CLIENT_PORT, reply)
                self._send(GATEWAY, EVERYBODY, packets.UDP, made)
            return
        if packet.source[:3] == GUEST[:3] and packet.source not in (GATEWAY, NAMES):
            self._pass_on(packet, datagram)

    def _pass_on(self, packet: Packet, datagram: Datagram) -> None:
        """A datagram to somebody outside."""
        pair = (packet.source, datagram.source), (packet.to, datagram.to)
        known = self._flows.get(pair)
        if known is None:
            known = self._open_flow(pair)
            if known is None:
                self._prohibited(packet)
                return
        known[1][0] = self._now()
        known[0].send(datagram.payload)

    def _open_flow(self, pair: Pair) -> tuple[Flow, list[float]] | None:
        guest, other = pair

        def receive(data: bytes) -> None:
            used[0] = self._now()
            self._send(other[0], guest[0], packets.UDP, packets.udp(other[0], guest[0], other[1], guest[1], data))

        used = [self._now()]
        self._make_room()
        flow = self._outside.flow(other, receive)
        if flow is None:
            self.refused += 1
            return None
        self._flows[pair] = flow, used
        return self._flows[pair]

    def lead(self, port: int, flow: Flow) -> int:
        """Somebody outside sends to a port that is the guest's: what the guest answers goes to `flow`. The port that the guest
        sees it come from."""
        self._make_room()
        for _ in range(FLOWS + 1):
            pair = (GUEST, port), (GATEWAY, 49152 + self._draw() % 16384)
            if pair not in self._flows:
                break
        else:
            self._flows.pop(pair)[0].close()
        self._flows[pair] = flow, [self._now()]
        return pair[1][1]

    def arrive(self, port: int, by: int, data: bytes) -> bool:
        """A datagram for the guest's `port`, from the one that `lead` gave; False if nobody knows of that any more."""
        known = self._flows.get(((GUEST, port), (GATEWAY, by)))
        if known is None:
            return False
        known[1][0] = self._now()
        self._send(GATEWAY, GUEST, packets.UDP, packets.udp(GATEWAY, GUEST, by, port, data))
        return True

    def _make_room(self) -> None:
        """For one more flow."""
        if len(self._flows) >= FLOWS:
            oldest = min(self._flows, key=lambda each: self._flows[each][1][0])
            self._flows.pop(oldest)[0].close()

    def _prohibited(self, packet: Packet) -> None:
        """Say that it was not let through, with the beginning of it (RFC 1812)."""
        if len(packet.source) == 16:
            if self._six is not None:
                self._six.prohibited(packet)
            return
        told = bytes(4) + packet.header + packet.payload[:8]
        self._send(GATEWAY, packet.source, packets.ICMP, packets.icmp(_UNREACHABLE, _PROHIBITED, told))

    # ---- connections

    def _segment(self, packet: Packet, segment: Segment) -> None:
        pair = (packet.source, segment.source), (packet.to, segment.to)
        connection = self._connections.get(pair)
        asks = segment.flags & (packets.SYN | packets.ACK | packets.RST) == packets.SYN
        if connection is not None and asks and connection.state == tcp.LINGERS:
            del self._connections[pair]
            connection = None
        if connection is None:
            if asks:
                self._connect(pair, segment)
            elif not segment.flags & packets.RST:
                self._reset(pair, segment)
            return
        connection.segment(segment)
        self._touched[pair] = None

    def _connect(self, pair: Pair, segment: Segment) -> None:
        """The guest asks for a connection."""
        if len(self._connections) < CONNECTIONS:
            connection = self._connection(pair)
            stream = self._outside.connect(pair[1], connection)
            if stream is not None:
                connection.accept(segment, stream)
                self._connections[pair] = connection
                return
        self.refused += 1
        self._reset(pair, segment)

    def _connection(self, pair: Pair) -> tcp.Connection:
        guest, other = pair

        def transmit(flags: int, seq: int, ack: int, window: int, payload: bytes, options: tuple[int, int]) -> None:
            made = Segment(other[1], guest[1], seq, ack, flags, window, *options, payload)
            self._send(other[0], guest[0], packets.TCP, packets.tcp(other[0], guest[0], made))

        return tcp.Connection(transmit, self._now, self._draw(), self._large if len(guest[0]) == 4 else bool)

    def _reset(self, pair: Pair, segment: Segment) -> None:
        """There is no such connection."""
        length = len(segment.payload) + bool(segment.flags & packets.SYN) + bool(segment.flags & packets.FIN)
        if segment.flags & packets.ACK:
            made = segment._replace(seq=segment.ack, ack=0, flags=packets.RST)
        else:
            made = segment._replace(seq=0, ack=segment.seq + length & 0xFFFF_FFFF, flags=packets.RST | packets.ACK)
        (guest, port), (other, there) = pair
        made = made._replace(source=there, to=port, window=0, mss=0, shift=-1, payload=b"")
        self._send(other, guest, packets.TCP, packets.tcp(other, guest, made))

    def invite(self, port: int, stream: Callable[[tcp.Connection], tcp.Stream]) -> bool:
        """Somebody outside has connected to a port that is the guest's: ask it. False if there are too many."""
        if len(self._connections) >= CONNECTIONS:
            return False
        for _ in range(CONNECTIONS + 1):
            pair = (GUEST, port), (GATEWAY, 49152 + self._draw() % 16384)
            if pair not in self._connections:
                break
        connection = self._connections[pair] = self._connection(pair)
        connection.ask(stream(connection))
        return True

    # ---- time

    def settle(self) -> None:
        """After frames: send what they have brought about."""
        touched, self._touched = self._touched, {}
        for pair in touched:
            connection = self._connections.get(pair)
            if connection is not None:
                connection.output()
                self._sweep(pair, connection)

    def _sweep(self, pair: Pair, connection: tcp.Connection) -> None:
        if connection.state == tcp.CLOSED:
            del self._connections[pair]

    def due(self) -> float | None:
        """Seconds until `expire` has something to do; None if it never has."""
        times = [due for each in self._connections.values() if (due := each.due) is not None]
        times += [used[0] + FLOW_S for _, used in self._flows.values()]
        if self._six is not None and self._six.deadline is not None:
            times.append(self._six.deadline)
        if any(each.state == tcp.CLOSED for each in self._connections.values()):
            return 0.0
        return max(0.0, min(times) - self._now()) if times else None

    def expire(self) -> None:
        """Do what is due, and let go what is over."""
        now = self._now()
        if self._six is not None:
            self._six.expire()
        for pair, connection in list(self._connections.items()):
            due = connection.due
            if due is not None and due <= now:
                connection.expire()
            self._sweep(pair, connection)
        for pair, (flow, used) in list(self._flows.items()):
            if used[0] + FLOW_S <= now:
                flow.close()
                del self._flows[pair]

    def close(self) -> None:
        """Let everything go."""
        for connection in self._connections.values():
            connection.abort()
        for flow, _ in self._flows.values():
            flow.close()
        self._connections.clear()
        self._flows.clear()

    # ---- to the guest

    def _send(self, source: bytes, to: bytes, protocol: int, payload: bytes) -> None:
        number = next(self._numbers)
        if len(to) == 16:
            mac = b"\x33\x33" + to[12:] if to[0] == 0xFF else self._guest_mac
            kind, made = packets6.IPV6, packets6.make(source, to, protocol, payload, number)
        else:
            mac = EVERYBODY + b"\xff\xff" if to == EVERYBODY else self._guest_mac
            kind, made = packets.IPV4, packets.ip(source, to, protocol, payload, number)
        start = mac + MAC + kind.to_bytes(2, "big")
        for each in made:
            self._deliver(start + each)
