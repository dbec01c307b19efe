"""The wire of `--net`: frames over a UNIX socket, peers that come and go, and bytes that are no frames."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from trapline.cli.link import GREETING, MOST, PACKET, QUEUED, Link
from trapline.cli.options import UsageError
from trapline.machine.riscv.devices.virtio.offload import PLAIN


class End:
    """A link and what it has told."""

    def __init__(self, text: str) -> None:
        self.frames: list[bytes] = []
        self.changes: list[bool] = []
        self.link = Link(text, lambda *frames: self.frames.extend(frames), self.changes.append)


def test_frames_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "wire"
    one = End(f"listen:{path}")
    assert not one.link.up
    one.link.send(PLAIN + b"nobody hears this")
    two = End(f"connect:{path}")
    one.link.ready()
    assert one.link.up and two.link.up and one.changes == [True]
    one.link.send(PLAIN + b"first")
    one.link.send(PLAIN)
    two.link.send(PLAIN + b"other" * 1000)
    assert one.link.full and two.link.full
    assert not one.link.flush() and not two.link.flush()
    assert not one.link.full and not two.link.full
    two.link.ready()
    one.link.ready()
    assert two.frames == [PLAIN + b"first", PLAIN] and one.frames == [PLAIN + b"other" * 1000]
    two.link.close()
    one.link.ready()
    assert one.changes == [True, False] and not one.link.up
    three = End(f"connect:{path}")
    one.link.ready()
    assert one.link.up and three.link.up
    one.link.close()
    assert not path.exists() and one.link.fileno() == -1


def test_frames_in_pieces_and_what_is_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "wire"
    one = End(f"listen:{path}")
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(path))
    one.link.ready()
    for piece in (b"\0\0", b"\0\3a", b"bc\0\0\0\1x\0"):
        peer.send(piece)
        one.link.ready()
    assert one.frames == [PLAIN + b"abc", PLAIN + b"x"]  # and the first byte of another one
    peer.send(b"\0\0\0" + (MOST + 1).to_bytes(4, "big"))
    one.link.ready()
    assert not one.link.up and one.changes == [True, False]
    one.link.close()


@pytest.mark.parametrize("word", [0xFFFF_FFFF, PACKET | MOST + 1, PACKET | len(PLAIN) - 1, PACKET, 1 << 30])
def test_peer_that_lies_about_lengths_is_left(tmp_path: Path, word: int) -> None:
    one = End(f"listen:{tmp_path / 'wire'}")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "wire"))
        one.link.ready()
        peer.send(word.to_bytes(4, "big") + bytes(100))
        one.link.ready()
    assert not one.link.up and not one.frames
    one.link.close()


def test_packets_go_whole_only_to_who_has_greeted(tmp_path: Path) -> None:
    """One that stands for two frames; the headers say what makes_segments of the tests of packets has in detail."""
    headers = b"\2" * 12 + b"\x08\0" + b"\x45" + bytes(8) + b"\6" + bytes(10) + bytes(12) + b"\x50" + bytes(7)
    packet = struct.pack("<BBHHHH", 1, 1, 54, 100, 34, 16) + headers + bytes(150)
    one = End(f"listen:{tmp_path / 'wire'}")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "wire"))
        one.link.ready()
        one.link.send(packet)
        one.link.flush()
        came = peer.recv(1 << 16)
        assert came.startswith(len(GREETING).to_bytes(4, "big") + GREETING)
        came = came[4 + len(GREETING) :]
        assert (came[:4], len(came)) == ((154).to_bytes(4, "big"), 4 + 154 + 4 + 104)
        peer.send(len(GREETING).to_bytes(4, "big") + GREETING + (PACKET | len(packet)).to_bytes(4, "big") + packet)
        one.link.ready()
        assert one.frames == [packet]
        one.link.send(packet)
        one.link.flush()
        assert peer.recv(1 << 16) == (PACKET | len(packet)).to_bytes(4, "big") + packet
    one.link.ready()
    with socket.socket(socket.AF_UNIX) as peer:  # the next one has greeted nobody
        peer.connect(str(tmp_path / "wire"))
        one.link.ready()
        one.link.send(packet)
        assert len(one.link._out) == 4 + 154 + 4 + 104
    one.link.close()


def test_peer_that_does_not_read_costs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "wire"
    one = End(f"listen:{path}")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        one.link.ready()
        for _ in range(100):
            one.link.send(bytes(60_000))
        assert QUEUED < len(one.link._out) <= QUEUED + 2 * 60_004
    one.link.ready()
    one.link.send(PLAIN + b"gone")
    assert not one.link.up
    one.link.close()


@pytest.mark.parametrize(("text", "said"), [("wire", "write --net"), ("listen:", "write --net"), ("connect:/no/such", "No such file")])
def test_wrong_texts(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        End(text)
