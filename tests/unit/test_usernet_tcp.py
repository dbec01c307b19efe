"""The user-mode network's TCP: both directions, both ends, losses, closed windows, and what a guest may not do."""

from __future__ import annotations

import random

import pytest
from tests.unit.usernet_guest import GATEWAY, GUEST, PORT, THERE, Peer, World

from trapline.machine.riscv.devices.usernet import packets, tcp
from trapline.machine.riscv.devices.usernet.packets import ACK, FIN, RST, SYN
from trapline.machine.riscv.devices.usernet.stack import CONNECTIONS


@pytest.fixture
def world() -> World:
    return World()


def test_bytes_pass_in_both_directions(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    assert stream.to == THERE and stream.waits == (True, False)
    peer.send(ACK, b"GET /")
    assert stream.got == b"GET /"
    world.passes(tcp.ACK_S)
    (answer,) = peer.take()
    assert answer.flags == ACK and answer.ack == peer.seq and not answer.payload
    stream.coming += bytes(range(256)) * 1000
    stream.connection.outside_ready(to_receive=True, to_send=False)
    for _ in range(200):
        peer.pull()
        stream.connection.outside_ready(to_receive=True, to_send=False)
    assert peer.got == bytes(range(256)) * 1000


def test_an_answer_acknowledges_what_it_answers(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    peer.send(ACK, b"question")
    peer.take()
    due = world.stack.due()
    assert due == pytest.approx(tcp.ACK_S)
    stream.coming += b"answer"
    stream.connection.outside_ready(to_receive=True, to_send=False)
    (answer,) = peer.take()
    assert answer.ack == peer.seq and answer.payload == b"answer"
    peer.send(ACK)
    assert world.stack.due() is None
    world.passes(tcp.ACK_S)
    assert not peer.take()


def test_who_gets_no_answer_is_told_in_a_while(world: World) -> None:
    peer = Peer(world)
    peer.opened()
    peer.send(ACK, b"one")
    world.passes(tcp.ACK_S / 2)
    peer.send(ACK, b"two")
    assert not peer.take()
    world.passes(tcp.ACK_S / 2)
    (told,) = peer.take()
    assert told.ack == peer.seq and not told.payload and world.stack.due() is None


def test_whole_segments_and_the_end_are_acknowledged_at_once(world: World) -> None:
    peer = Peer(world)
    peer.opened()
    peer.send(ACK, b"x" * 1000)
    assert not peer.take()
    peer.send(ACK, b"x" * 460)
    (told,) = peer.take()
    assert told.ack == peer.seq
    peer.send(ACK, b"x" * 5, seq=peer.seq + 1)  # one is missing before: asked for at once
    (told,) = peer.take()
    assert told.ack == peer.seq
    peer.send(ACK, b"last")
    peer.send(FIN | ACK)
    (told,) = peer.take()
    assert told.ack == peer.seq and world.stack.due() is None


def test_data_that_is_not_acknowledged_yet_does_not_keep_a_connection(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    peer.send(ACK, b"x")
    peer.send(RST)
    assert stream.closed and world.stack.due() in (None, 0.0)
    world.passes(1.0)
    assert not peer.take() and world.stack.due() is None


def test_large_segments_of_a_card_that_leaves_cutting_to_us(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    made = packets.tcp(GUEST, THERE[0], packets.Segment(PORT, 80, peer.seq, peer.ack, ACK, 8192, 0, -1, b"x" * 60_000))
    world.stack.frame(b"\x52\x55\x0a\0\2\2\2guest\x08\0" + packets._packet(GUEST, THERE[0], packets.TCP, made, 1, 0x4000))
    world.stack.settle()
    assert stream.got == b"x" * 60_000


def test_large_segments_for_a_card_that_cuts_them_up(world: World) -> None:
    world.stack._large = lambda: True
    peer = Peer(world)
    stream = peer.opened()
    stream.coming += bytes(range(200)) * 500
    for _ in range(20):
        stream.connection.outside_ready(to_receive=True, to_send=False)
        for frame in world.frames:
            packet = packets.read_ip(frame[14:])
            assert packet is not None
            segment = packets.read_tcp(packet.payload)
            assert segment is not None
            peer.got += segment.payload
            peer.ack = segment.seq + len(segment.payload) & 0xFFFF_FFFF
            if len(packet.payload) > 1480:  # the pseudo-header's sum, for the guest's card to complete
                pseudo = packet.source + packet.to + bytes((0, packets.TCP)) + len(packet.payload).to_bytes(2, "big")
                assert int.from_bytes(packet.payload[16:18], "big") == 0xFFFF - packets.checksum(pseudo)
                assert len(segment.payload) % 1460 == 0 or len(peer.got) == 100_000
        assert any(len(frame) > 2000 for frame in world.frames) or len(peer.got) == 100_000
        world.frames.clear()
        peer.send(ACK)
    assert peer.got == bytes(range(200)) * 500


@pytest.mark.parametrize("first", ["guest", "outside"])
def test_both_ends_close(world: World, first: str) -> None:
    peer = Peer(world)
    stream = peer.opened()

    def guest() -> None:
        peer.send(FIN | ACK)
        assert stream.ended

    def outside() -> None:
        stream.ends = True
        stream.connection.outside_ready(to_receive=True, to_send=False)
        peer.take()
        assert peer.ended
        peer.send(ACK)

    for each in (guest, outside) if first == "guest" else (outside, guest):
        each()
        peer.take()
    assert stream.closed is False and stream.connection.state == tcp.LINGERS
    peer.send(FIN | ACK, seq=peer.seq - 1 & 0xFFFF_FFFF)  # its end again, as if our acknowledgement had been lost
    (answer,) = peer.take()
    assert answer.ack == peer.seq
    world.passes(tcp.LINGER_S)
    peer.send(ACK)
    (answer,) = peer.take()
    assert answer.flags == RST and world.stack.due() is None


def test_data_behind_an_end_outside_still_passes(world: World) -> None:
    """Half closed: outside has ended, the guest goes on."""
    peer = Peer(world)
    stream = peer.opened()
    stream.ends = True
    stream.connection.outside_ready(to_receive=True, to_send=False)
    peer.pull()
    assert peer.ended and stream.closed is None
    for n in range(5):
        peer.send(ACK, b"%d" % n)
    assert stream.got == b"01234"


def test_resets_of_either_side(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    peer.send(RST, seq=peer.seq + 5 & 0xFFFF_FFFF)  # not quite the right one (RFC 5961)
    assert stream.closed is None and peer.take()[0].flags == ACK
    peer.send(RST)
    assert stream.closed is True
    world.passes(0)
    stream = peer.opened()
    stream.connection.outside_failed()
    peer.take()
    assert peer.reset and stream.closed is True


def test_refused_connections(world: World) -> None:
    peer = Peer(world)
    peer.send(SYN)
    world.streams[0].connection.outside_failed()
    (answer,) = peer.take()
    assert answer.flags == RST | ACK and answer.ack == peer.seq
    world.passes(0)
    world.permits = False
    peer.send(SYN)
    (answer,) = peer.take()
    assert answer.flags == RST | ACK and answer.ack == peer.seq and world.stack.refused == 1


def test_a_connection_that_nobody_answers_is_given_up(world: World) -> None:
    peer = Peer(world)
    peer.send(SYN)
    world.passes(tcp.CONNECT_S)
    assert world.streams[0].closed is True and peer.take()[0].flags & RST


def test_lost_segments_come_again(world: World) -> None:
    """Every third frame to the guest, and every fourth from it, is lost."""
    rng = random.Random(1)
    peer = Peer(world)
    stream = peer.opened()
    data = rng.randbytes(60_000)
    stream.coming += data
    for _ in range(400):
        stream.connection.outside_ready(to_receive=True, to_send=False)
        world.frames[:] = [each for each in world.frames if rng.randrange(3)]
        peer.take()
        if rng.randrange(4):
            peer.send(ACK)
        world.passes(0.5)
    assert bytes(peer.got) == data and stream.closed is None


def test_three_equal_acknowledgements_bring_the_lost_segment_at_once(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    stream.coming += b"a" * 1460 + b"b" * 1460 * 5
    stream.connection.outside_ready(to_receive=True, to_send=False)
    del world.frames[0]
    peer.take()
    for _ in range(3):
        peer.send(ACK)
    assert peer.take()[0].payload == b"a" * 1460


def test_a_silent_guest_is_reset(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    stream.coming += b"hello"
    stream.connection.outside_ready(to_receive=True, to_send=False)
    for _ in range(tcp.TRIES + 1):
        world.passes(tcp.LONGEST_S)
    assert stream.closed is True


def test_a_closed_window_is_asked_about_and_opens(world: World) -> None:
    peer = Peer(world, shift=-1, window=3000)
    stream = peer.opened()
    stream.coming += b"x" * 10_000
    stream.connection.outside_ready(to_receive=True, to_send=False)
    assert sum(len(each.payload) for each in peer.take()) <= 3000
    peer.window = 0
    peer.send(ACK)
    for _ in range(20):  # as long as somebody answers, it is asked
        world.passes(tcp.LONGEST_S)
        asked = [each for each in [packets.read_tcp(p.payload) for p in world.take()] if each is not None]
        assert len(asked) == 1 and len(asked[0].payload) == 1
        peer.send(ACK)
        world.take()
    peer.window = 65_000
    peer.send(ACK)
    peer.pull()
    assert peer.got == b"x" * 10_000 and stream.closed is None


def test_the_guest_waits_while_nobody_outside_reads(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    stream.room = 1000
    for _ in range(200):
        peer.send(ACK, b"y" * 1460)
        peer.take()
    assert len(stream.got) == 1000 and stream.waits[1]
    assert len(stream.connection._arriving) <= tcp.BUFFER
    stream.room = 1 << 30
    stream.connection.outside_ready(to_receive=False, to_send=True)
    (update,) = peer.take()
    assert update.window << tcp.SHIFT == tcp.BUFFER and update.ack == peer.seq - (200 * 1460 - len(stream.got)) & 0xFFFF_FFFF


def test_out_of_order_and_old_data(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    start = peer.seq
    peer.send(ACK, b"world", seq=start + 5 & 0xFFFF_FFFF)
    (answer,) = peer.take()
    assert answer.ack == start and not stream.got
    peer.send(ACK, b"hello")
    peer.send(ACK, b"llowor", seq=start + 2 & 0xFFFF_FFFF)
    peer.send(ACK, b"hell", seq=start)
    assert stream.got == b"hellowor"


def test_a_broken_stream_resets_the_guest(world: World) -> None:
    peer = Peer(world)
    stream = peer.opened()
    stream.broken = True
    peer.send(ACK, b"x")
    peer.take()
    assert peer.reset and stream.closed is True


def test_connections_from_outside(world: World) -> None:
    peer = Peer(world, (GATEWAY, 0))
    from tests.unit.usernet_guest import Stream

    made: list[Stream] = []

    def stream(connection: tcp.Connection) -> Stream:
        made.append(Stream((GUEST, PORT), connection))
        return made[0]

    assert world.stack.invite(PORT, stream)
    (asked,) = peer.take()
    assert asked.flags == SYN and asked.to == PORT and asked.mss == tcp.MSS
    world.passes(tcp.FIRST_S)  # nobody has answered
    assert peer.take()[0].flags == SYN
    peer.to = GATEWAY, asked.source
    peer.send(SYN | ACK)
    peer.take()
    made[0].coming += b"from outside"
    made[0].connection.outside_ready(to_receive=True, to_send=False)
    peer.pull()
    peer.send(ACK, b"from the guest")
    assert peer.got == b"from outside" and made[0].got == b"from the guest"


def test_a_guest_that_listens_to_nothing_refuses(world: World) -> None:
    from tests.unit.usernet_guest import Stream

    made: list[Stream] = []
    world.stack.invite(PORT, lambda connection: made.append(Stream((GUEST, PORT), connection)) or made[0])  # type: ignore[func-returns-value]
    peer = Peer(world, (GATEWAY, 0))
    (asked,) = peer.take()
    peer.to, peer.ack = (GATEWAY, asked.source), asked.seq + 1 & 0xFFFF_FFFF
    peer.send(RST | ACK)
    assert made[0].closed is True


def test_there_are_only_so_many_connections(world: World) -> None:
    for n in range(CONNECTIONS + 10):
        peer = Peer(world, (THERE[0], 1000 + n))
        peer.send(SYN)
    assert len(world.streams) == CONNECTIONS and world.stack.refused == 10
    world.stack.close()
    assert all(each.closed for each in world.streams)
