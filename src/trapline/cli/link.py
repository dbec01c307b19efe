"""The other end of a network card: a UNIX stream socket to another machine, with the framing of QEMU's `-netdev stream`.

Each frame is preceded by its length, 32 bits, big-endian. `--net listen:PATH` makes the socket and waits for a peer while the
machine runs, `--net connect:PATH` goes to one that is there. Nothing else of the host can be reached through it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from trapline.cli.options import UsageError

MOST = 1 << 16  #: bytes of a frame
AT_ONCE = 64  #: frames that are handed over together
QUEUED = 1 << 20  #: bytes that wait for a slow peer; more frames are lost


class Link:
    """`receive(*frames)` and `change(up)` are called from `ready`, when `fileno` can be read. Raises UsageError."""

    def __init__(self, text: str, receive: Callable[..., object], change: Callable[[bool], object]) -> None:
        how, _, self._path = text.partition(":")
        if how not in ("listen", "connect") or not self._path:
            raise UsageError(f"--net {text}: write --net listen:PATH, --net connect:PATH or --net user")
        self._receive, self._change = receive, change
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._in, self._out = bytearray(), bytearray()
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if how == "listen":
                end.bind(self._path)
                end.listen(1)
                self._listener = end
            else:
                end.connect(self._path)
                self._peer = end
        except OSError as error:
            end.close()
            raise UsageError(f"--net {text}: {error.strerror or error}") from None
        end.setblocking(False)

    @property
    def up(self) -> bool:
        """Whether there is a peer."""
        return self._peer is not None

    def fileno(self) -> int:
        """What to wait for; -1 if nothing can come."""
        end = self._peer or self._listener
        return -1 if end is None else end.fileno()

    def ready(self) -> None:
        """Something has come: a peer, data, or an end."""
        if self._peer is None:
            if self._listener is not None:
                with suppress(BlockingIOError):
                    self._peer, _ = self._listener.accept()
                    self._peer.setblocking(False)
                    self._change(True)
            return
        try:
            data = self._peer.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._in += data
        if not data or not self._frames():
            self._hang_up()

    def _frames(self) -> bool:
        """Hand over the frames that are complete; False if what came is not our framing."""
        start, found = 0, []
        while len(self._in) - start >= 4:
            length = int.from_bytes(self._in[start : start + 4], "big")
            if length > MOST:
                return False
            if len(self._in) - start < 4 + length:
                break
            found.append(bytes(self._in[start + 4 : start + 4 + length]))
            start += 4 + length
        del self._in[:start]
        for at in range(0, len(found), AT_ONCE):
            self._receive(*found[at : at + AT_ONCE])
        return True

    def send(self, frame: bytes) -> None:
        """To the peer, if there is one and it keeps up, with the next `flush`."""
        if self._peer is None or len(self._out) > QUEUED:
            return
        self._out += len(frame).to_bytes(4, "big") + frame

    def due(self) -> float | None:
        """Seconds until `flush` has something to do by itself: it never has."""
        return None

    def flush(self) -> bool:
        """Send what waits, as much as goes without waiting; whether something has come for the guest: nothing does here."""
        if self._peer is None or not self._out:
            return False
        try:
            del self._out[: self._peer.send(self._out)]
        except BlockingIOError:
            return False
        except OSError:
            self._hang_up()
        return False

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None
        self._in.clear()
        self._out.clear()
        self._change(False)

    def close(self) -> None:
        """Idempotent. A socket that we made is removed."""
        if self._peer is not None:
            self._peer.close()
        if self._listener is not None:
            self._listener.close()
            with suppress(OSError):
                os.unlink(self._path)
        self._peer = self._listener = None
