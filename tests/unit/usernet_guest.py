"""A guest of the user-mode network, for tests: its frames, and a world outside that is made of lists."""

from __future__ import annotations

from collections.abc import Callable

from trapline.machine.riscv.devices.usernet import packets, tcp
from trapline.machine.riscv.devices.usernet.packets import ACK, Segment
from trapline.machine.riscv.devices.usernet.stack import GATEWAY, GUEST, Place, Stack

MAC = b"\2guest"
PORT = 40_000
THERE = (bytes((192, 0, 2, 1)), 80)  #: a place outside


class Stream:
    """The other end of a connection: `got` is what the guest sent, `coming` what it will get (None: the end)."""

    def __init__(self, to: Place, connection: tcp.Connection) -> None:
        self.to, self.connection = to, connection
        self.got, self.coming = bytearray(), bytearray()
        self.room = 1 << 30
        self.ended = self.ends = self.broken = False
        self.closed: bool | None = None  #: whether by a reset
        self.waits = (False, False)

    def send(self, data: memoryview) -> int:
        if self.broken:
            raise tcp.StreamError("broken")
        done = min(len(data), self.room)
        self.room -= done
        self.got += data[:done]
        return done

    def receive(self, most: int) -> bytes | None:
        if not self.coming:
            return b"" if self.ends else None
        data = bytes(self.coming[:most])
        del self.coming[:most]
        return data

    def end(self) -> None:
        self.ended = True

    def wait(self, *, to_receive: bool, to_send: bool) -> None:
        self.waits = to_receive, to_send

    def close(self, *, abort: bool) -> None:
        assert self.closed is None
        self.closed = abort


class Flow:
    def __init__(self, to: Place, receive: Callable[[bytes], object]) -> None:
        self.to, self.receive = to, receive
        self.got: list[bytes] = []
        self.closed = False

    def send(self, data: bytes) -> None:
        self.got.append(data)

    def close(self) -> None:
        self.closed = True


class World:
    """An Outside, the stack in front of it, and the guest behind that."""

    def __init__(self) -> None:
        self.time = 100.0
        self.permits = True
        self.streams: list[Stream] = []
        self.flows: list[Flow] = []
        self.frames: list[bytes] = []
        self.stack = Stack(self, self.frames.append, lambda: self.time, lambda: 0xFFFF_F000)

    def connect(self, to: Place, connection: tcp.Connection) -> Stream | None:
        if not self.permits:
            return None
        self.streams.append(Stream(to, connection))
        return self.streams[-1]

    def flow(self, to: Place, receive: Callable[[bytes], object]) -> Flow | None:
        if not self.permits:
            return None
        self.flows.append(Flow(to, receive))
        return self.flows[-1]

    # ---- the guest

    def send(self, to: bytes, protocol: int, payload: bytes, source: bytes = GUEST) -> None:
        for each in packets.ip(source, to, protocol, payload):
            self.stack.frame(b"\x52\x55\x0a\0\2\2" + MAC + b"\x08\0" + each)
        self.stack.settle()

    def take(self) -> list[packets.Packet]:
        """What has come for the guest, its checksums verified."""
        found = []
        for frame in self.frames:
            packet = packets.read_ip(frame[14:])
            if packet is None:
                continue
            assert packets.checksum(packet.header) == 0
            if packet.protocol in (packets.TCP, packets.UDP):
                pseudo = packet.source + packet.to + bytes((0, packet.protocol)) + len(packet.payload).to_bytes(2, "big")
                assert packets.checksum(pseudo + packet.payload) == 0
            found.append(packet)
        self.frames.clear()
        return found

    def passes(self, seconds: float) -> None:
        self.time += seconds
        self.stack.expire()


class Peer:
    """The guest's end of one connection. `window` is what it offers, `shift` its scale (-1: it has none)."""

    def __init__(self, world: World, to: Place = THERE, *, shift: int = 3, window: int = 8192, mss: int = 1460) -> None:
        self.world, self.to, self.shift, self.window, self.mss = world, to, shift, window, mss
        self.seq, self.ack = 0xFFFF_FFF0, 0
        self.got = bytearray()
        self.ended = self.reset = False

    def send(self, flags: int, payload: bytes = b"", *, seq: int | None = None) -> None:
        asks = flags & packets.SYN
        made = Segment(PORT, self.to[1], self.seq if seq is None else seq, self.ack, flags, self.window,
                       self.mss if asks else 0, self.shift if asks else -1, payload)  # fmt: skip
        if seq is None:
            self.seq = self.seq + len(payload) + bool(flags & 3) & 0xFFFF_FFFF
        self.world.send(self.to[0], packets.TCP, packets.tcp(GUEST, self.to[0], made))

    def take(self) -> list[Segment]:
        """The segments that have come; what is in order is taken from them."""
        found = []
        for packet in self.world.take():
            segment = packets.read_tcp(packet.payload)
            assert segment is not None and packet.source == self.to[0]
            found.append(segment)
            if segment.flags & packets.SYN:
                self.ack = segment.seq + 1 & 0xFFFF_FFFF
            elif segment.flags & packets.RST:
                self.reset = True
            elif segment.seq == self.ack:
                self.got += segment.payload
                self.ended |= bool(segment.flags & packets.FIN)
                self.ack = self.ack + len(segment.payload) + bool(segment.flags & packets.FIN) & 0xFFFF_FFFF
        return found

    def opened(self) -> Stream:
        """A connection through to the end outside."""
        self.send(packets.SYN)
        stream = self.world.streams[-1]
        stream.connection.outside_connected()
        (answer,) = self.take()
        assert answer.flags == packets.SYN | ACK and answer.ack == self.seq
        self.send(ACK)
        assert self.take() == []
        return stream

    def pull(self, most: int = 1000) -> None:
        """Acknowledge what comes until nothing more does."""
        for _ in range(most):
            if not self.take():
                return
            self.send(ACK)


__all__ = ["GATEWAY", "GUEST", "MAC", "PORT", "THERE", "Flow", "Peer", "Stream", "World"]
