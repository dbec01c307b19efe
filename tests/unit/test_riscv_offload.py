"""Packets of network cards: what of their headers is believed, and the frames that they stand for."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from riscv_virtio import DATA, Driver

from trapline.machine.riscv.devices.usernet.packets import Segment, checksum, read_ip, read_tcp
from trapline.machine.riscv.devices.virtio.net import (
    BACKLOG,
    F_GUEST_CSUM,
    F_GUEST_TSO4,
    F_MRG_RXBUF,
    HEADER,
    MAX_FRAME,
    Net,
)
from trapline.machine.riscv.devices.virtio.offload import MIN_SIZE, PLAIN, checked, frames, needs
from trapline.machine.riscv.devices.virtio.queue import WRITE

LINK = b"\2aaaaa\2bbbbb\x08\0"
FLAGS = 0x99  #: CWR, ACK, PSH, FIN


def header(flags: int = 1, kind: int = 1, length: int = 0, size: int = 1460, start: int = 34, offset: int = 16) -> bytes:
    return struct.pack("<BBHHHH", flags, kind, length, size, start, offset)


def frame(data: bytes, *, link: bytes = LINK, options: bytes = b"", total: int = 0xDEAD) -> bytes:
    """TCP, whose checksum is that of the pseudo-header alone."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0xFFFF, 0x4000, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    pseudo = checksum(ip[12:20] + b"\0\6" + (20 + len(options) + len(data)).to_bytes(2, "big")) ^ 0xFFFF
    tcp = struct.pack("!HHIIBBHHH", 7, 9, 0xFFFF_FF00, 5, 0x50 + 4 * len(options), FLAGS, 100, pseudo, 0)
    return link + ip + tcp + options + data


def read(made: bytes) -> tuple[int, Segment]:
    """Number and segment of a frame whose checksums are right."""
    ip = read_ip(made[made.index(b"\x45") :])
    assert ip is not None and checksum(ip.header) == 0
    pseudo = ip.source + ip.to + b"\0\6" + len(ip.payload).to_bytes(2, "big")
    assert checksum(pseudo + ip.payload) == 0
    segment = read_tcp(ip.payload)
    assert segment is not None
    return int.from_bytes(ip.header[4:6], "big"), segment


@pytest.mark.parametrize("link", [LINK, LINK[:12] + b"\x81\0\0\5\x08\0"])
@pytest.mark.parametrize("options", [b"", b"\1" * 12])
def test_segments(link: bytes, options: bytes) -> None:
    data = bytes(range(256)) * 12
    packet = checked(header(start=len(link) + 20) + frame(data, link=link, options=options))
    assert packet is not None and needs(packet) == (True, True)
    assert packet[2:4] == (len(link) + 40 + len(options)).to_bytes(2, "little")
    made = frames(packet)
    assert [len(each) - len(link) - 40 - len(options) for each in made] == [1460, 1460, 152]
    found = [read(each[len(link) - 1 :]) for each in made]
    assert [number for number, _ in found] == [0xFFFF, 0, 1]
    assert [each.seq for _, each in found] == [0xFFFF_FF00, (0xFFFF_FF00 + 1460) & 0xFFFF_FFFF, (0xFFFF_FF00 + 2920) & 0xFFFF_FFFF]
    assert [each.flags for _, each in found] == [0x90, 0x10, 0x19]  # CWR only in the first, FIN and PSH in the last
    assert b"".join(each.payload for _, each in found) == data


def test_no_data_is_one_segment() -> None:
    (made,) = frames(header() + frame(b""))
    assert read(made)[1].flags == FLAGS


def test_a_checksum_alone() -> None:
    whole = frame(b"hello", total=45)
    packet = checked(header(kind=0, size=9, length=77) + whole)
    assert packet == header(kind=0, size=0) + whole and needs(packet) == (True, False)
    (made,) = frames(packet)
    assert len(made) == len(whole) and read(made)[1].payload == b"hello"
    zero = LINK + b"\0\0\xff\xff"  # whose sum is "none" for UDP
    assert frames(header(kind=0, size=0, start=14, offset=0) + zero) == [LINK + b"\xff\xff\xff\xff"]


def test_a_whole_frame_is_as_it_was() -> None:
    assert checked(PLAIN + b"anything") == PLAIN + b"anything" and frames(PLAIN + b"anything") == [b"anything"]
    assert checked(header(flags=2, kind=0) + b"anything") == PLAIN + b"anything"  # its checksum was verified: so it says


@pytest.mark.parametrize(
    "packet",
    [
        b"", b"\1" * 9,  # no header
        header(flags=0) + frame(b"x" * 3000),  # segments without a checksum
        header(kind=3) + frame(b"x" * 3000), header(kind=4) + frame(b"x" * 3000), header(kind=0x81) + frame(b"x" * 3000),
        header(size=0) + frame(b"x" * 3000), header(size=MIN_SIZE - 1) + frame(b"x" * 3000), header(size=0xFFFF) + frame(b""),
        header(start=35) + frame(b"x"), header(offset=6) + frame(b"x"), header(start=13, kind=0) + frame(b"x"),
        header(kind=0, offset=0xFFFF) + frame(b"x"), header(kind=0, start=54, offset=0) + frame(b"x"),
        header() + frame(b"x")[:53], header() + LINK, header() + LINK[:12] + b"\x81\0", header() + LINK[:5],
        header() + LINK[:12] + b"\x86\xdd" + frame(b"x")[14:],  # IPv6
        header() + frame(b"x").replace(b"\x45", b"\x44"), header() + frame(b"x").replace(b"\x40\6", b"\x40\x11"),
        header() + frame(b"x", options=b"\1" * 12)[:60],  # longer headers than there are bytes
    ],
)  # fmt: skip
def test_packets_that_contradict_themselves(packet: bytes) -> None:
    assert checked(packet) is None


@given(some.binary(max_size=10), some.binary(max_size=200), some.integers(0, 0xFFFF), some.booleans())
def test_whatever_comes_is_refused_or_becomes_frames(head: bytes, rest: bytes, size: int, sensible: bool) -> None:
    packet = header(size=size) + frame(rest) if sensible else head + frame(rest)[len(head) :]
    found = checked(packet)
    if found is not None:
        assert checked(found) == found
        assert sum(len(each) for each in frames(found)) >= len(found) - len(PLAIN)


def buffers(driver: Driver) -> list[int]:
    """Three, for what comes."""
    places = [DATA + 0x1000 * n for n in range(3)]
    for n, place in enumerate(places):
        driver.describe(0, n, place, 1526, WRITE)
        driver.offer(0, n)
    return places


class TestCard:
    """Of packets, in the hands of a driver."""

    def made(self, without: int = 0) -> tuple[Net, Driver, list[bytes]]:
        card = Net(b"\2abcde", headed=True)
        sent: list[Any] = []
        card.send = sent.append
        driver = Driver(card)
        if without:
            driver.start(card.features & ~without)
        return card, driver, sent

    def test_sends_packets_that_make_sense(self) -> None:
        card, driver, sent = self.made()
        whole = frame(b"x" * 5000)
        for head in (header(), header(size=0), PLAIN):
            driver.put(DATA, head + b"\0\0" + whole)
            driver.chain(1, [HEADER + len(whole)], [])
            driver.wait()
        assert sent == [header(length=54) + whole, PLAIN + whole] and len(driver.used(1)) == 3 and not driver.stopped
        assert card.lost == 0

    def test_gives_a_driver_what_it_takes(self) -> None:
        card, driver, _ = self.made()
        whole = frame(b"x" * 3000)
        card.receive(header(length=1) + whole)
        places = buffers(driver)
        got = b"".join(driver.look(each, 1526) for each in places)
        assert got[: HEADER + len(whole)] == header(length=54) + b"\3\0" + whole

    @pytest.mark.parametrize("without", [F_GUEST_TSO4, F_MRG_RXBUF, F_GUEST_CSUM | F_GUEST_TSO4])
    def test_cuts_up_what_a_driver_does_not_take(self, without: int) -> None:
        card, driver, _ = self.made(without)
        card.receive(header() + frame(b"x" * 3000))
        places = buffers(driver)
        lengths = [length for _, length in driver.used(0)]
        assert lengths == [HEADER + 1514, HEADER + 1514, HEADER + 54 + 80]
        data = [read(driver.look(place, length)[HEADER + 13 :])[1].payload for place, length in zip(places, lengths, strict=True)]
        assert b"".join(data) == b"x" * 3000

    def test_wild_packets_are_lost(self) -> None:
        card, driver, _ = self.made()
        driver.chain(0, [], [1526])
        card.receive(b"", b"\1" * 9, header(size=1) + frame(b"x" * 3000), PLAIN + bytes(MAX_FRAME + 1), PLAIN + bytes(13))
        assert card.lost == 5 and not driver.used(0) and not driver.stopped

    def test_frames_that_no_buffer_holds_are_lost(self) -> None:
        card, driver, _ = self.made(F_MRG_RXBUF)
        driver.chain(0, [], [1530])
        card.receive(PLAIN + bytes(1519))
        assert card.lost == 1 and not driver.stopped
        card.receive(PLAIN + bytes(1518))
        assert driver.used(0) == [(0, HEADER + 1518)]

    def test_many_segments_are_not_more_than_may_wait(self) -> None:
        card, _, _ = self.made(F_GUEST_TSO4)
        card.receive(header(size=MIN_SIZE) + frame(bytes(60_000)))
        assert card.lost == 60_000 // MIN_SIZE - BACKLOG
