"""The other end of a network card: a UNIX stream socket to another machine, with the framing of QEMU's `-netdev stream`.

Each frame is preceded by its length, 32 bits, big-endian. `--net listen:PATH` makes the socket and waits for a peer while the
machine runs, `--net connect:PATH` goes to one that is there. Nothing else of the host can be reached through it.

Two of our machines spare each other checksums and short frames. Each greets the other with a frame that any other peer's guest
ignores (`GREETING`); who was greeted may send packets with their headers (devices/virtio/offload.py), which the highest bit of
the length tells from frames. For everybody else, packets become frames here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from trapline.cli.options import UsageError
from trapline.machine.riscv.devices.virtio import offload
from trapline.machine.riscv.devices.virtio.offload import PLAIN

MOST = 68 << 10  #: bytes of a frame or packet
AT_ONCE = 64  #: packets that are handed over together
QUEUED = 4 << 20  #: bytes that wait for a slow peer; more frames are lost
PACKET = 1 << 31  #: of a length: a packet's
#: To the group address that bridges keep to themselves (IEEE 802.1Q), of the type for local experiments (IEEE 802).
GREETING = (b"\x01\x80\xc2\0\0\x0e" + b"\x02\0\0\0\0\0" + b"\x88\xb5" + b"Trapline: packets are welcome").ljust(60, b"\0")
_ROOM = 1 << 18  #: bytes that are read at once


class Link:
    """`receive(*packets)` and `change(up)` are called from `ready`, when `fileno` can be read. Raises UsageError."""

    def __init__(self, text: str, receive: Callable[..., object], change: Callable[[bool], object]) -> None:
        how, _, self._path = text.partition(":")
        if how not in ("listen", "connect") or not self._path:
            raise UsageError(f"--net {text}: write --net listen:PATH, --net connect:PATH or --net user")
        self._receive, self._change = receive, change
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._room = memoryview(bytearray(_ROOM))
        self._in, self._out = bytearray(), bytearray()
        self._welcome = False  # the peer takes packets
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if how == "listen":
                end.bind(self._path)
                end.listen(1)
                self._listener = end
            else:
                end.connect(self._path)
                self._peer = end
                self._put(0, GREETING)
        except OSError as error:
            end.close()
            raise UsageError(f"--net {text}: {error.strerror or error}") from None
        end.setblocking(False)

    @property
    def up(self) -> bool:
        """Whether there is a peer."""
        return self._peer is not None

    @property
    def full(self) -> bool:
        """Whether the peer is slow."""
        return bool(self._out)

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
                    self._put(0, GREETING)
                    self.flush()
                    self._change(True)
            return
        try:
            size = self._peer.recv_into(self._room)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        self._in += self._room[:size]
        if not size or not self._frames():
            self._hang_up()

    def _frames(self) -> bool:
        """Hand over the packets that are complete; False if what came is not our framing."""
        start, found, came = 0, [], self._in
        while len(came) - start >= 4:
            word = int.from_bytes(came[start : start + 4], "big")
            length = word & ~PACKET
            if length > MOST or (word & PACKET and length < len(PLAIN)):
                return False
            end = start + 4 + length
            if len(came) < end:
                break
            data = bytes(came[start + 4 : end])
            start = end
            if word & PACKET:
                found.append(data)
            elif data == GREETING:
                self._welcome = True
            else:
                found.append(PLAIN + data)
        del came[:start]
        for at in range(0, len(found), AT_ONCE):
            self._receive(*found[at : at + AT_ONCE])
        return True

    def send(self, packet: bytes) -> None:
        """To the peer, if there is one and it keeps up, with the next `flush`."""
        if self._peer is None or len(self._out) > QUEUED:
            return
        if self._welcome:
            self._put(PACKET, packet)
        else:
            for frame in offload.frames(packet):
                self._put(0, frame)

    def _put(self, kind: int, data: bytes) -> None:
        self._out += (kind | len(data)).to_bytes(4, "big")
        self._out += data

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
        self._welcome = False
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
