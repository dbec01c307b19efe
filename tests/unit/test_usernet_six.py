"""IPv6 on the user-mode network: neighbours, routers, echoes, datagrams, connections; hostile frames; and, where it may be done, this
host's own kernel as the guest."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from tests.unit.usernet_guest import MAC, PORT, Stream, World

from trapline.cli.policy import Policy, address_of
from trapline.cli.usernet import UserNet
from trapline.machine.riscv.devices.usernet import packets, packets6
from trapline.machine.riscv.devices.usernet.packets import ACK, RST, SYN, TCP, UDP, Packet, Segment
from trapline.machine.riscv.devices.usernet.packets6 import ICMP6
from trapline.machine.riscv.devices.usernet.six import (
    EVERY_S,
    EVERYBODY6,
    GATEWAY6,
    NAMES6,
    NOBODY,
    PREFIX,
    ROUTER,
)
from trapline.machine.riscv.devices.usernet.stack import MAC as GATEWAY_MAC

GUEST6 = PREFIX[:8] + b"\0\0\0\xff\xfe\0\0\x15"
NEAR = bytes.fromhex("fe80") + bytes(6) + GUEST6[8:]
FAR = address_of("2001:db8::1")


@pytest.fixture
def world() -> World:
    return World()


def send(world: World, to: bytes, protocol: int, payload: bytes, source: bytes = GUEST6) -> None:
    for each in packets6.make(source, to, protocol, payload):
        world.stack.frame(GATEWAY_MAC + MAC + b"\x86\xdd" + each)
    world.stack.settle()


def take(world: World) -> list[Packet]:
    """What has come, its checksums verified."""
    found = []
    for frame in world.frames:
        packet = packets6.read(frame[14:])
        assert packet is not None and frame[12:14] == b"\x86\xdd" and frame[6:12] == GATEWAY_MAC
        assert frame[:6] == (b"\x33\x33" + packet.to[12:] if packet.to[0] == 0xFF else MAC)
        counted = packet.source + packet.to + struct.pack("!IxxxB", len(packet.payload), packet.protocol) + packet.payload
        assert packets.checksum(counted) == 0
        found.append(packet)
    world.frames.clear()
    return found


def ask(world: World, to: bytes, kind: int, rest: bytes, source: bytes = GUEST6) -> list[Packet]:
    send(world, to, ICMP6, packets6.icmp(source, to, kind, 0, rest), source)
    return take(world)


def test_a_router_is_found_and_stays(world: World) -> None:
    for source, to in ((NEAR, NEAR), (NOBODY, EVERYBODY6)):
        (packet,) = ask(world, address_of("ff02::2"), packets6.SOLICIT_ROUTER, bytes(4), source)
        assert (packet.source, packet.to, packet.header[7]) == (ROUTER, to, 255)
        assert packet.payload[0] == packets6.ADVERTISE_ROUTER and packet.payload[4] == 64 and packet.payload[6:8] == b"\x07\x08"
        options, at = {}, 16
        while at < len(packet.payload):
            options[packet.payload[at]] = packet.payload[at + 2 : at + 8 * packet.payload[at + 1]]
            at += 8 * packet.payload[at + 1]
        assert options[1] == GATEWAY_MAC and options[3][:2] == b"\x40\xc0" and options[3][14:] == PREFIX and options[25][6:] == NAMES6
    assert world.stack.due() == EVERY_S
    world.passes(EVERY_S)
    assert [packet.to for packet in take(world)] == [EVERYBODY6]


def test_neighbours(world: World) -> None:
    for target in (ROUTER, GATEWAY6, NAMES6):
        (packet,) = ask(world, address_of("ff02::1:ff00:0")[:13] + target[13:], packets6.SOLICIT, bytes(4) + target)
        assert packet.source == target and packet.payload[0] == packets6.ADVERTISE and packet.payload[8:24] == target
        assert packet.payload[4] == 0xE0 and packet.payload[24:] == b"\2\1" + GATEWAY_MAC
    for target, source in ((GUEST6, GUEST6), (FAR, GUEST6), (GATEWAY6, NOBODY), (GATEWAY6, FAR)):
        assert not ask(world, address_of("ff02::1:ff00:2"), packets6.SOLICIT, bytes(4) + target, source)


def test_echoes(world: World) -> None:
    for target in (ROUTER, GATEWAY6, NAMES6):
        (packet,) = ask(world, target, packets6.ECHO, b"\0\1\0\2payload")
        assert packet.source == target and packet.payload[0] == packets6.ECHO_REPLY and packet.payload[4:] == b"\0\1\0\2payload"
    (packet,) = ask(world, FAR, packets6.ECHO, b"\0\1\0\2payload")
    assert packet.payload[:2] == b"\1\1" and packet.payload[8 + 40 :][4:] == b"\0\1\0\2payload"
    assert not ask(world, FAR, packets6.ECHO, b"\0\1\0\2", FAR)


def test_datagrams(world: World) -> None:
    send(world, FAR, UDP, packets.udp(GUEST6, FAR, PORT, 53, b"question"))
    (flow,) = world.flows
    assert flow.to == (FAR, 53) and flow.got == [b"question"]
    flow.receive(b"answer")
    (packet,) = take(world)
    assert packet.source == FAR and packets.read_udp(packet.payload) == packets.Datagram(53, PORT, b"answer")
    data = random.Random(1).randbytes(5000)
    flow.receive(data)
    whole = bytearray(5008)
    for frame in world.frames:
        assert len(frame) <= 1514 and frame[20] == 44 and frame[54] == UDP
        offset = int.from_bytes(frame[56:58], "big")
        whole[offset & -8 : (offset & -8) + len(frame) - 62] = frame[62:]
        assert offset & 1 == ((offset & -8) + len(frame) - 62 < 5008)
    assert len(world.frames) == 4 and whole[8:] == data
    world.frames.clear()
    world.permits = False
    send(world, FAR, UDP, packets.udp(GUEST6, FAR, PORT, 54, b"?"))
    (packet,) = take(world)
    assert packet.source == GATEWAY6 and packet.payload[:2] == b"\1\1"
    send(world, address_of("ff02::fb"), UDP, packets.udp(GUEST6, FAR, PORT, 5353, b"?"))
    send(world, FAR, UDP, packets.udp(NEAR, FAR, PORT, 53, b"?"), NEAR)
    send(world, FAR, UDP, packets.udp(GATEWAY6, FAR, PORT, 53, b"?"), GATEWAY6)
    assert not take(world)


def segment(world: World, flags: int, seq: int, ack: int, payload: bytes = b"", *, mss: int = 0) -> list[Segment]:
    made = Segment(PORT, 80, seq, ack, flags, 8192, mss, -1, payload)
    send(world, FAR, TCP, packets.tcp(GUEST6, FAR, made))
    found = [packets.read_tcp(packet.payload) for packet in take(world)]
    assert all(each is not None for each in found)
    return [each for each in found if each is not None]


def test_connections(world: World) -> None:
    segment(world, SYN, 99, 0, mss=1440)
    (stream,) = world.streams
    assert isinstance(stream, Stream) and stream.to == (FAR, 80)
    stream.connection.outside_connected()
    world.stack.settle()
    (packet,) = take(world)
    answer = packets.read_tcp(packet.payload)
    assert answer is not None and answer.flags == SYN | ACK and answer.ack == 100
    segment(world, ACK, 100, answer.seq + 1, b"hello")
    assert stream.got == b"hello"
    stream.coming += bytes(5000)
    stream.connection.outside_ready(to_receive=True, to_send=False)
    world.stack.settle()
    sizes = [len(packet.payload) - 20 for packet in take(world)]
    assert sum(sizes) == 5000 and max(sizes) == 1440
    world.permits = False
    send(world, FAR, TCP, packets.tcp(GUEST6, FAR, Segment(PORT + 1, 80, 5, 0, SYN, 100, 1440, -1, b"")))
    (packet,) = take(world)
    refused = packets.read_tcp(packet.payload)
    assert refused is not None and refused.flags == RST | ACK and refused.ack == 6


def test_extension_headers_are_skipped_and_others_are_not_for_us() -> None:
    udp = packets.udp(GUEST6, FAR, 1, 2, b"x")
    plain = packets6.make(GUEST6, FAR, UDP, udp)[0]

    def with_header(kind: int, body: bytes) -> bytes:
        return plain[:4] + (len(body) + len(udp)).to_bytes(2, "big") + bytes((kind,)) + plain[7:40] + body + udp

    for kind in (0, 60):
        found = packets6.read(with_header(kind, bytes((UDP, 1)) + bytes(14)))
        assert found is not None and found.protocol == UDP and found.payload == udp and len(found.header) == 56
    for kind, body in ((43, bytes((UDP, 0)) + bytes(6)), (44, bytes((UDP, 0)) + bytes(6))):
        found = packets6.read(with_header(kind, body))
        assert found is not None and found.protocol == kind  # whom nobody serves
    assert packets6.read(with_header(0, bytes((UDP, 255)) + bytes(6))) is None
    assert packets6.read(plain[:-1]) is None and packets6.read(plain[:39]) is None and packets6.read(b"\x40" + plain[1:]) is None


def test_nonsense(world: World) -> None:
    rng = random.Random(2)
    sources, targets = (GUEST6, NEAR, NOBODY, FAR, GATEWAY6), (GATEWAY6, NAMES6, ROUTER, FAR, EVERYBODY6, GUEST6, NOBODY)
    for _ in range(6000):
        source, to = rng.choice(sources), rng.choice(targets)
        payload = bytearray(rng.randbytes(rng.choice((0, 3, 4, 7, 8, 20, 24, 40, 100))))
        if payload and rng.random() < 0.7:
            payload[0] = rng.choice((1, 128, 129, 133, 134, 135, 136))
        frame = bytearray(b"".join((GATEWAY_MAC, MAC, b"\x86\xdd", packets6.make(source, to, rng.choice((0, 6, 17, 43, 44, 58, 60, 255)), payload)[0])))
        if rng.random() < 0.4:
            frame[rng.randrange(14, len(frame))] = rng.randrange(256)
        world.stack.frame(bytes(frame[: rng.randrange(len(frame) + 1)] if rng.random() < 0.2 else frame))
        world.stack.settle()
        world.passes(rng.random())
        assert len(world.frames) < 2000
        world.frames.clear()


def test_it_can_be_switched_off() -> None:
    frames: list[bytes] = []
    net = UserNet("restrict,ipv6=off", lambda *found: frames.extend(found))
    try:
        message = packets6.icmp(GUEST6, GATEWAY6, packets6.ECHO, 0, b"\0\1\0\2")
        net.send(GATEWAY_MAC + MAC + b"\x86\xdd" + packets6.make(GUEST6, GATEWAY6, ICMP6, message)[0])
        net.flush()
        assert not frames
    finally:
        net.close()


@pytest.mark.parametrize(
    ("text", "permitted", "refused"),
    [
        ("", "2606:4700::1111 fd12::1", ":: ::1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 fe80::1 fd00:ec2::254 ff02::1 fec0::9"),
        ("allow=[2001:db8::]/32:443", "2001:db8:1::1", "2001:db9::1 ::1"),
        ("allow=[::1]", "::1", "::2 2001:db8::1"),
        ("allow=0.0.0.0/0", "", "::1 2001:db8::1 ::ffff:1.2.3.4"),
        ("restrict", "", "2001:db8::1"),
    ],
)  # fmt: skip
def test_policy(text: str, permitted: str, refused: str) -> None:
    policy = Policy(text)
    assert all(policy.permits(address_of(each), 443) for each in permitted.split())
    assert not any(policy.permits(address_of(each), 443) for each in refused.split())
    assert Policy("dns=[fd12::1]:5353").names == ("fd12::1", 5353) and Policy("dns=[fd12::1]").names == ("fd12::1", 53)
    assert not Policy("allow=[2001:db8::]/32:443").permits(address_of("2001:db8::1"), 80)


# ---- this host's kernel as the guest

GUEST = """
    import fcntl, os, socket, struct, sys, time
    end = socket.socket(fileno=int(sys.argv[1])); port = int(sys.argv[2])
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"tap0", 2 | 0x1000))
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(one, 0x8914, struct.pack("16sH22x", b"tap0", 0x41))
    socket.send_fds(end, [b"."], [tap])

    def address():
        with open("/proc/net/if_inet6") as file:
            return [line for line in file if line.startswith("fec0") and not int(line.split()[4], 16) & 0x40]

    until = time.monotonic() + 15
    while not address():
        assert time.monotonic() < until, open("/proc/net/if_inet6").read()
        time.sleep(0.05)
    ping = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    ping.settimeout(10)
    ping.sendto(b"\\x80\\0\\0\\0\\0\\1\\0\\1abcd", ("fec0::2", 0))
    while True:
        data, who = ping.recvfrom(1000)
        if data[0] == 129:
            assert who[0] == "fec0::2" and data[8:] == b"abcd", (who, data)
            break
    names = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    names.settimeout(10)
    names.connect(("fec0::3", 53))
    names.send(b"question")
    assert names.recv(10000) == b"answer" * 800  # in pieces, which the kernel puts together
    with socket.create_connection(("fec0::2", port), 10) as stream:
        data, got = bytes(range(256)) * 1200, b""
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        while piece := stream.recv(65536):
            got += piece
        assert got == data
    try:
        socket.create_connection(("2001:db8::1", 80), 10)
    except ConnectionRefusedError:
        pass
    other = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    other.settimeout(10)
    other.connect(("2001:db8::1", 9))
    other.send(b"?")
    try:
        other.recv(10)
    except PermissionError:
        print("all is well")
"""


def _tap() -> str:
    """Why this host's kernel cannot be the guest; nothing if it can."""
    if os.geteuid() or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs root and /dev/net/tun"
    done = subprocess.run(["unshare", "-n", "test", "-e", "/proc/net/if_inet6"], capture_output=True, check=False)
    return "" if not done.returncode else "needs a network namespace with IPv6"


def _received(end: socket.socket) -> int:
    _, found, _, _ = socket.recv_fds(end, 1, 1)
    return found[0]


@pytest.mark.skipif(bool(_tap()), reason=_tap())
def test_linux_is_at_home_there(tmp_path: Path) -> None:
    """SLAAC, neighbours, ping, names in long answers, a connection, refusals."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names:
        port = server.getsockname()[1]
        names.bind(("127.0.0.1", 0))

        def echo() -> None:
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(65536):
                    peer.sendall(data)

        def answer() -> None:
            _, who = names.recvfrom(100)
            names.sendto(b"answer" * 800, who)

        for each in (echo, answer):
            threading.Thread(target=each, daemon=True).start()
        ours, theirs = socket.socketpair()
        script = tmp_path / "guest.py"
        script.write_text(textwrap.dedent(GUEST))
        command = ["unshare", "-n", sys.executable, str(script), str(theirs.fileno()), str(port)]
        guest = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        theirs.close()
        ours.settimeout(20)
        tap = _received(ours)
        os.set_blocking(tap, False)
        net = UserNet(f"allow=[::1]:{port},dns=127.0.0.1:{names.getsockname()[1]}", lambda *frames: [os.write(tap, each) for each in frames])
        try:
            for _ in range(100_000):
                if guest.poll() is not None:
                    break
                ready, _, _ = select.select([tap, net.fileno()], [], [], 0.2)
                if tap in ready:
                    net.send(os.read(tap, 65536))
                net.ready()
        finally:
            guest.kill()
            net.close()
            os.close(tap)
            ours.close()
        assert guest.stdout is not None and guest.stdout.read() == "all is well\n"


