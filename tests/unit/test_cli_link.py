"""The wire of `--net`: frames over a UNIX socket, peers that come and go, and bytes that are no frames."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from trapline.cli.link import MOST, QUEUED, Link
from trapline.cli.options import UsageError


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
    one.link.send(b"nobody hears this")
    two = End(f"connect:{path}")
    one.link.ready()
    assert one.link.up and two.link.up and one.changes == [True]
    one.link.send(b"first")
    one.link.send(b"")
    two.link.send(b"other" * 1000)
    assert not one.link.flush() and not two.link.flush()
    two.link.ready()
    one.link.ready()
    assert two.frames == [b"first", b""] and one.frames == [b"other" * 1000]
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
    assert one.frames == [b"abc", b"x"]  # and the first byte of another one
    peer.send(b"\0\0\0" + (MOST + 1).to_bytes(4, "big"))
    one.link.ready()
    assert not one.link.up and one.changes == [True, False]
    one.link.close()


def test_peer_that_does_not_read_costs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "wire"
    one = End(f"listen:{path}")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        one.link.ready()
        for _ in range(100):
            one.link.send(bytes(60_000))
        assert len(one.link._out) <= QUEUED + 2 * 60_004
    one.link.ready()
    one.link.send(b"gone")
    assert not one.link.up
    one.link.close()


@pytest.mark.parametrize(("text", "said"), [("wire", "write --net"), ("listen:", "write --net"), ("connect:/no/such", "No such file")])
def test_wrong_texts(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        End(text)
