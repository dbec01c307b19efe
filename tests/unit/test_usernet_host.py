"""The user-mode network on the host's sockets, on loopback: what the command line allows, and that bytes come through."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from tests.unit.usernet_guest import GATEWAY, GUEST, PORT, Peer

from trapline.cli.options import UsageError
from trapline.cli.policy import Forward, Policy, address_of
from trapline.cli.usernet import UserNet
from trapline.machine.riscv.devices.usernet import packets
from trapline.machine.riscv.devices.usernet.packets import ACK, FIN, RST, SYN
from trapline.machine.riscv.devices.usernet.stack import NAMES


def permits(text: str, address: str, port: int = 80) -> bool:
    return Policy(text).permits(address_of(address), port)


def test_by_default_the_world_but_not_what_is_the_hosts_own() -> None:
    assert permits("", "93.184.216.34") and permits("", "192.168.1.1")
    for address in ("127.0.0.1", "127.1.2.3", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255"):
        assert not permits("", address)
    assert Policy("").asks_host and not permits("", "93.184.216.34", 0)


def test_allow_and_restrict() -> None:
    text = "allow=127.0.0.1:8080,allow=10.1.0.0/16"
    assert permits(text, "127.0.0.1", 8080) and permits(text, "10.1.255.1")
    assert not permits(text, "127.0.0.1") and not permits(text, "10.2.0.1") and not permits(text, "93.184.216.34")
    assert permits("allow=0.0.0.0/0", "127.0.0.1") and not permits("restrict", "93.184.216.34")
    assert not Policy(text).asks_host and not Policy("restrict").asks_host
    assert Policy("restrict,dns=127.0.0.1:5353").names == ("127.0.0.1", 5353)
    assert Policy("hostfwd=tcp::8080-:80,hostfwd=tcp:0.0.0.0:22-:22").forwards == [
        Forward("127.0.0.1", 8080, 80), Forward("0.0.0.0", 22, 22),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "allow=", "allow=1.2.3", "allow=1.2.3.4/33", "allow=1.2.3.4:0", "allow=1.2.3.4:x", "allow=1.2.3.256", "restrict=1",
        "restrict,allow=1.2.3.4", "dns=localhost", "hostfwd=tcp:1-:2", "hostfwd=sctp::1-:2", "hostfwd=tcp::1", "hostfwd=tcp::1-:99999",
        "hostfwd=tcp:localhost:1-:2", "allow=1.2.3.4/", "", "allow=::1", "allow=[::1", "allow=[::1]x", "allow=[1.2.3.4]", "allow=[::1]/129", "allow=[::1]:0",
        "allow=[::x]", "dns=[::1]x", "dns=::1", "hostfwd=tcp:[::1]:1-:2", "ipv6=maybe", "ipv6",  "allow=\u0661.2.3.4",
    ],
)  # fmt: skip
def test_other_options_are_refused(text: str) -> None:
    if text:
        with pytest.raises(UsageError, match="--net user"):
            Policy(text)
    else:
        Policy(text)


class World:
    """A guest of a UserNet, as `Peer` wants it."""

    def __init__(self, text: str) -> None:
        self.frames: list[bytes] = []
        self.net = UserNet(text, lambda *frames: self.frames.extend(frames))

    def send(self, to: bytes, protocol: int, payload: bytes) -> None:
        for each in packets.ip(GUEST, to, protocol, payload):
            self.net.send(b"\x52\x55\x0a\0\2\2\2guest\x08\0" + each)
        self.net.flush()

    def take(self) -> list[packets.Packet]:
        found = [packet for frame in self.frames if (packet := packets.read_ip(frame[14:])) is not None]
        self.frames.clear()
        return found

    def until(self, done: Callable[[], object], each: Callable[[], object] = bool) -> None:
        """Let it go on until something is so, five seconds at most."""
        end = time.monotonic() + 5
        while not done():
            assert time.monotonic() < end, "nothing came"
            if select.select([self.net.fileno()], [], [], 0.05)[0]:
                self.net.ready()
            self.net.flush()
            each()


@contextmanager
def world(text: str) -> Iterator[World]:
    made = World(text)
    try:
        yield made
    finally:
        made.net.close()


def server(serve: Callable[[socket.socket], object]) -> int:
    """A port of 127.0.0.1 at which one connection is served by a thread."""
    end = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        with end, end.accept()[0] as peer:
            peer.settimeout(5)
            with suppress(ConnectionResetError):
                serve(peer)

    threading.Thread(target=work, daemon=True).start()
    return int(end.getsockname()[1])


def echo(peer: socket.socket) -> None:
    while data := peer.recv(65536):
        peer.sendall(data)


def opened(found: World, port: int, to: bytes = GATEWAY) -> Peer:
    peer = Peer(found, (to, port))  # type: ignore[arg-type]
    peer.send(SYN)
    found.until(lambda: found.frames)
    peer.take()
    peer.send(ACK)
    return peer


def test_a_connection_through_the_gateway_and_back() -> None:
    port = server(echo)
    with world(f"allow=127.0.0.1:{port}") as found:
        peer = opened(found, port)
        data = bytes(range(256)) * 400

        def pull() -> None:
            if peer.take():
                peer.send(ACK)

        for at in range(0, len(data), 1024):
            peer.send(ACK, data[at : at + 1024])
            pull()
        found.until(lambda: len(peer.got) == len(data), pull)
        peer.send(FIN | ACK)
        found.until(lambda: peer.ended, pull)
        assert peer.got == data and not peer.reset


def test_what_is_not_allowed_is_not_connected_to() -> None:
    touched: list[bool] = []
    port = server(lambda peer: touched.append(True))
    for text in ("", "restrict", f"allow=127.0.0.1:{port + 1 if port < 65535 else 1}", "allow=10.0.0.0/8"):
        with world(text) as found:
            peer = Peer(found, (GATEWAY, port))  # type: ignore[arg-type]
            peer.send(SYN)
            (answer,) = peer.take()
            assert answer.flags == RST | ACK and found.net.stack.refused == 1
    assert not touched
    socket.create_connection(("127.0.0.1", port)).close()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with world("allow=127.0.0.1") as found:
        peer = Peer(found, (GATEWAY, port))  # type: ignore[arg-type]
        peer.send(SYN)
        found.until(lambda: found.frames)
        peer.take()
        assert peer.reset


def test_names_and_datagrams() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names, world("restrict,dns=127.0.0.1:1") as found:
        names.bind(("127.0.0.1", 0))
        names.settimeout(5)
        found.net._policy.names = names.getsockname()
        found.send(NAMES, packets.UDP, packets.udp(GUEST, NAMES, PORT, 53, b"who is it"))
        data, peer = names.recvfrom(100)
        names.sendto(b"nobody", peer)
        found.until(lambda: found.frames)
        (packet,) = found.take()
        assert data == b"who is it" and packet.source == NAMES and packets.read_udp(packet.payload) == packets.Datagram(53, PORT, b"nobody")
        found.send(NAMES, packets.UDP, packets.udp(GUEST, NAMES, PORT, 54, b"another port"))
        assert found.take()[0].protocol == packets.ICMP


def test_names_by_a_connection() -> None:
    """As resolvers ask when an answer is too long for a datagram."""
    with world(f"restrict,dns=127.0.0.1:{server(echo)}") as found:
        peer = opened(found, 53, NAMES)
        peer.send(ACK, b"\0\4long")
        found.until(lambda: peer.got == b"\0\4long", peer.take)
        other = Peer(found, (NAMES, 54))  # type: ignore[arg-type]
        other.send(SYN)
        assert other.take()[0].flags == RST | ACK


def test_a_port_of_the_hosts_leads_to_the_guest() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with world(f"restrict,hostfwd=tcp::{port}-:{PORT}") as found, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(5)
        client.sendall(b"hello")
        found.until(lambda: found.frames)
        peer = Peer(found, (GATEWAY, 0))  # type: ignore[arg-type]
        (asked,) = peer.take()
        peer.to = GATEWAY, asked.source
        peer.send(SYN | ACK)
        found.until(lambda: peer.got == b"hello", peer.take)
        peer.send(ACK, b"and good bye")
        peer.send(FIN | ACK)
        assert client.recv(100) == b"and good bye" and client.recv(100) == b""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="hostfwd"):
        UserNet(f"hostfwd=tcp::{taken.getsockname()[1]}-:1", bool)


def test_datagrams_to_a_port_of_the_hosts_and_back() -> None:
    """Each sender gets its own answers; one that was forgotten begins anew."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with world(f"restrict,hostfwd=udp::{port}-:{PORT}") as found:
        ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        seen = set()
        for _ in range(2):
            for n, end in enumerate(ends):
                end.settimeout(5)
                end.connect(("127.0.0.1", port))
                end.send(b"from %d" % n)
                found.until(lambda: found.frames)
                (packet,) = found.take()
                datagram = packets.read_udp(packet.payload)
                assert datagram is not None and packet.source == GATEWAY and packet.to == GUEST
                assert (datagram.to, datagram.payload) == (PORT, b"from %d" % n)
                seen.add(datagram.source)
                found.send(GATEWAY, packets.UDP, packets.udp(GUEST, GATEWAY, PORT, datagram.source, b"to %d" % n))
                assert end.recv(100) == b"to %d" % n
            assert len(seen) == 2
        for _, used in found.net.stack._flows.values():
            used[0] -= 100
        found.net.flush()
        assert not found.net.stack._flows and not found.net._listeners[0].known  # type: ignore[union-attr]
        ends[0].send(b"again")
        found.until(lambda: found.frames)
        assert found.take()[0].source == GATEWAY
        found.send(GATEWAY, packets.UDP, packets.udp(GUEST, GATEWAY, PORT, 9, b"to a port that nobody has"))
        assert found.take()[0].protocol == packets.ICMP
        for end in ends:
            end.close()


def test_many_senders_displace_the_oldest() -> None:
    from trapline.machine.riscv.devices.usernet.stack import FLOWS

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with world(f"restrict,hostfwd=udp::{port}-:{PORT}") as found:
        for n in range(FLOWS + 20):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"%d" % n, ("127.0.0.1", port))
                found.until(lambda: found.frames)
                found.take()
        assert len(found.net.stack._flows) == FLOWS and len(found.net._listeners[0].known) <= FLOWS  # type: ignore[union-attr]


def test_nothing_is_left_open() -> None:
    import os

    before = len(os.listdir("/proc/self/fd"))
    port = server(echo)
    with world("allow=127.0.0.1") as found:
        opened(found, port)
        found.send(GATEWAY, packets.UDP, packets.udp(GUEST, GATEWAY, PORT, 9, b"x"))
        assert len(os.listdir("/proc/self/fd")) > before
    for _ in range(100):
        if len(os.listdir("/proc/self/fd")) <= before:
            break
        time.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= before
