"""The user-mode network but for TCP: addresses, echoes, datagrams, refusals, and a guest that sends nonsense."""

from __future__ import annotations

import random
import struct

import pytest
from tests.unit.usernet_guest import GATEWAY, GUEST, MAC, PORT, THERE, Peer, World

from trapline.machine.riscv.devices.usernet import dhcp, packets
from trapline.machine.riscv.devices.usernet.packets import ACK, ICMP, SYN, UDP
from trapline.machine.riscv.devices.usernet.stack import FLOW_S, FLOWS, NAMES
from trapline.machine.riscv.devices.usernet.stack import MAC as GATEWAY_MAC


@pytest.fixture
def world() -> World:
    return World()


def arp(target: bytes) -> bytes:
    return b"\xff" * 6 + MAC + b"\x08\6" + struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, MAC, GUEST, b"", target)


def test_arp_knows_the_gateway_and_the_name_server_only(world: World) -> None:
    for target in (GATEWAY, NAMES):
        world.stack.frame(arp(target))
        frame = world.frames.pop()
        assert frame[:14] == MAC + GATEWAY_MAC + b"\x08\6" and frame[20:32] == b"\0\2" + GATEWAY_MAC + target
    for target in (GUEST, bytes((10, 0, 2, 77)), bytes((192, 168, 0, 1))):
        world.stack.frame(arp(target))
    assert not world.frames


def discover(kind: int, *options: bytes, client: bytes = bytes(4), cookie: bytes = b"\x63\x82\x53\x63") -> bytes:
    fixed = struct.pack("!BBBBIHH4s4s4s4s16s192x", 1, 1, 6, 0, 0x1234_5678, 0, 0, client, b"", b"", b"", MAC)
    return fixed + cookie + bytes((53, 1, kind)) + b"".join(options) + b"\xff"


def ask(world: World, message: bytes) -> dict[int, bytes] | None:
    """The options of the reply; 0: the address given."""
    datagram = packets.udp(bytes(4), b"\xff" * 4, 68, 67, message)
    world.send(b"\xff" * 4, UDP, datagram, source=bytes(4))
    found = world.take()
    if not found:
        return None
    reply = packets.read_udp(found[0].payload)
    assert reply is not None and (reply.source, reply.to) == (67, 68) and reply.payload[4:8] == b"\x12\x34\x56\x78"
    assert reply.payload[28:34] == MAC
    return {0: reply.payload[16:20], **dhcp._options(reply.payload[240:])}


def test_dhcp_gives_the_one_address(world: World) -> None:
    offer = ask(world, discover(dhcp.DISCOVER))
    assert offer is not None and offer[0] == GUEST and offer[53] == bytes([dhcp.OFFER]) and offer[54] == GATEWAY
    given = ask(world, discover(dhcp.REQUEST, b"\x32\4" + GUEST, b"\x36\4" + GATEWAY))
    assert given is not None and given[53] == bytes([dhcp.ACK]) and given[0] == GUEST
    assert (given[1], given[3], given[6]) == (b"\xff\xff\xff\0", GATEWAY, NAMES)
    again = ask(world, discover(dhcp.REQUEST, client=GUEST))
    assert again is not None and again[53] == bytes([dhcp.ACK])
    told = ask(world, discover(dhcp.INFORM, client=GUEST))
    assert told is not None and told[0] == bytes(4) and 51 not in told


def test_dhcp_refuses_another_address_and_ignores_what_is_not_for_it(world: World) -> None:
    refused = ask(world, discover(dhcp.REQUEST, b"\x32\4\x0a\0\2\x63"))
    assert refused is not None and refused[53] == bytes([dhcp.NAK]) and refused[0] == bytes(4)
    for message in (
        discover(dhcp.REQUEST, b"\x36\4\x0a\0\2\x63"), discover(dhcp.RELEASE), discover(99), discover(1, cookie=b"abcd"), b"", b"x" * 300,
        discover(dhcp.DISCOVER)[:240],
    ):  # fmt: skip
        assert ask(world, message) is None


def test_echo_requests_to_the_gateway_are_answered_and_others_prohibited(world: World) -> None:
    request = packets.icmp(8, 0, b"\0\1\0\2" + b"payload")
    world.send(GATEWAY, ICMP, request)
    (reply,) = world.take()
    assert reply.source == GATEWAY and reply.payload == packets.icmp(0, 0, b"\0\1\0\2" + b"payload")
    world.send(THERE[0], ICMP, request)
    (reply,) = world.take()
    assert reply.source == GATEWAY and reply.payload[:2] == b"\3\x0d" and reply.payload[8:28] == packets.ip(GUEST, THERE[0], ICMP, request)[0][:20]


def test_datagrams_there_and_back(world: World) -> None:
    world.send(THERE[0], UDP, packets.udp(GUEST, THERE[0], PORT, 53, b"question"))
    world.send(THERE[0], UDP, packets.udp(GUEST, THERE[0], PORT, 53, b"another"))
    (flow,) = world.flows
    assert flow.to == (THERE[0], 53) and flow.got == [b"question", b"another"]
    flow.receive(b"answer")
    (packet,) = world.take()
    assert packet.source == THERE[0] and packets.read_udp(packet.payload) == packets.Datagram(53, PORT, b"answer")
    world.passes(FLOW_S - 1)
    flow.receive(b"late")
    world.passes(FLOW_S - 1)
    assert not flow.closed
    world.passes(1)
    assert flow.closed and world.stack.due() is None


def test_long_datagrams_come_in_pieces(world: World) -> None:
    world.send(THERE[0], UDP, packets.udp(GUEST, THERE[0], PORT, 53, b"?"))
    data = random.Random(1).randbytes(5000)
    world.flows[0].receive(data)
    pieces = [frame[14:] for frame in world.frames]
    assert len(pieces) == 4 and all(len(each) <= packets.MTU for each in pieces) and len({each[4:6] for each in pieces}) == 1
    whole = bytearray(5008)
    for each in pieces:
        offset = 8 * (int.from_bytes(each[6:8], "big") & 0x1FFF)
        whole[offset : offset + len(each) - 20] = each[20:]
        assert bool(each[6] & 0x20) == (offset + len(each) - 20 < 5008)
    assert whole[8:] == data


def test_refused_datagrams_are_prohibited(world: World) -> None:
    world.permits = False
    world.send(THERE[0], UDP, packets.udp(GUEST, THERE[0], PORT, 53, b"?"))
    (packet,) = world.take()
    assert packet.payload[:2] == b"\3\x0d" and packet.payload[28:36] == packets.udp(GUEST, THERE[0], PORT, 53, b"?")[:8]


def test_there_are_only_so_many_flows(world: World) -> None:
    for n in range(FLOWS + 5):
        world.time += 0.01
        world.send(THERE[0], UDP, packets.udp(GUEST, THERE[0], 1000 + n, 53, b"?"))
    assert [each.closed for each in world.flows] == [True] * 5 + [False] * FLOWS
    world.stack.close()
    assert all(each.closed for each in world.flows)


def test_other_peoples_addresses_are_not_passed_on(world: World) -> None:
    for source in (GATEWAY, NAMES, bytes((192, 168, 1, 1)), bytes(4)):
        world.send(THERE[0], UDP, packets.udp(source, THERE[0], PORT, 53, b"?"), source=source)
    assert not world.flows and not world.frames


def test_checksums() -> None:
    assert packets.checksum(b"") == 0xFFFF and packets.checksum(b"\0\0") == 0xFFFF and packets.checksum(b"\xff\xff") == 0
    data = bytes.fromhex("0001f203f4f5f6f7")  # RFC 1071's example: the sum is ddf2
    assert packets.checksum(data) == 0xFFFF - 0xDDF2
    for n in range(50):
        data = random.Random(n).randbytes(n)
        total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, n, 2))
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        assert packets.checksum(data) == 0xFFFF - total


def test_hostile_frames() -> None:
    """Frames cut off, changed and invented: nothing is raised, and what is kept stays bounded."""
    rng = random.Random(7)
    world = World()
    peer = Peer(world)
    peer.opened()
    good = [
        arp(GATEWAY), *(b"\xff" * 6 + MAC + b"\x08\0" + each for protocol, payload in (
            (UDP, packets.udp(GUEST, THERE[0], PORT, 53, b"question")), (ICMP, packets.icmp(8, 0, b"\0\1\0\2ping")),
            (UDP, packets.udp(bytes(4), b"\xff" * 4, 68, 67, discover(1))),
            (packets.TCP, packets.tcp(GUEST, THERE[0], packets.Segment(PORT, 80, peer.seq, peer.ack, ACK, 100, 0, -1, b"data"))),
            (packets.TCP, packets.tcp(GUEST, THERE[0], packets.Segment(PORT + 1, 80, 5, 0, SYN, 100, 1460, 7, b""))),
        ) for each in packets.ip(GUEST, THERE[0] if protocol != UDP else GATEWAY, protocol, payload)),
    ]  # fmt: skip
    for _ in range(20_000):
        frame = bytearray(rng.choice(good))
        for _ in range(rng.choice((0, 1, 1, 2, 8))):
            frame[rng.randrange(len(frame))] = rng.choice((0, 255, rng.randrange(256)))
        world.stack.frame(bytes(frame[: rng.choice((len(frame), len(frame), rng.randrange(len(frame) + 1)))]))
        if rng.randrange(4) == 0:
            world.stack.settle()
        if rng.randrange(100) == 0:
            for stream in world.streams:
                if stream.closed is None:
                    stream.coming += b"x" * 5000
                    (stream.connection.outside_connected, stream.connection.outside_failed,
                     lambda each=stream: each.connection.outside_ready(to_receive=True, to_send=True))[rng.randrange(3)]()  # fmt: skip
            world.passes(rng.random() * 3)
        world.frames.clear()
    assert sum(each.closed is None for each in world.streams) <= 256 and len(world.stack._flows) <= FLOWS
    world.stack.close()
    assert all(each.closed is not None for each in world.streams) and all(each.closed for each in world.flows)
