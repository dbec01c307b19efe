"""Wire: the socket between kernel and server, from the kernel's side: it never waits, and what does not fit is counted.

To the server go lines: a letter and JSON. E: an event; S: what changed of the state; R: an answer, {"id", "value" or "error"}.
From the server come questions, JSON lines: {"id", "do", ...}.
"""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

MOST_BYTES = 4 << 20  #: what may wait for a server that does not read
MOST_LINE = 1 << 20
PIECE = 64 << 10  #: bytes offered to the socket at once


def encode(value: Any) -> bytes:
    """JSON in ASCII, on one line. Raises ValueError for what JSON has not (NaN)."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


class Wire:
    """`lost`: events that found no room."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._out = bytearray()
        self._in = bytearray()
        self.lost = 0
        self.closed = False  #: the server is gone

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Something is still to be sent."""
        return bool(self._out) and not self.closed

    @property
    def has_room(self) -> bool:
        """What is sent now has not to wait behind too much."""
        return not self.closed and len(self._out) < MOST_BYTES

    def events(self, lines: list[bytes]) -> None:
        """Send events, all or none."""
        if not lines:
            return
        size = sum(map(len, lines)) + 2 * len(lines)
        if self.closed or len(self._out) + size > MOST_BYTES:
            self.lost += len(lines)
            return
        self._out += b"E" + b"\nE".join(lines) + b"\n"

    def send(self, letter: bytes, value: Any) -> None:
        """Send something that must not get lost; there is little of it."""
        self._out += letter + encode(value) + b"\n"

    def flush(self) -> None:
        """As much as the socket takes."""
        while self._out and not self.closed:
            try:
                with memoryview(self._out) as view:
                    sent = self._socket.send(view[:PIECE])
                del self._out[:sent]
            except BlockingIOError:
                return
            except OSError:
                self._end()

    def questions(self) -> list[dict[str, Any]]:
        """What the server asks; nothing is waited for."""
        while not self.closed:
            try:
                data = self._socket.recv(64 << 10)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._end()
            self._in += data
        *lines, rest = self._in.split(b"\n")
        self._in = rest[-MOST_LINE:]
        return [json.loads(line) for line in lines]

    def wait(self, seconds: float) -> None:
        """Until there may be questions, or room, or the time is over."""
        if not self.closed:
            select.select([self._socket], [self._socket] if self._out else [], [], seconds)

    def drain(self, seconds: float) -> None:
        """Send what is left, if the server takes it in time."""
        deadline = time.monotonic() + seconds
        while self.waiting and time.monotonic() < deadline:
            self.flush()
            if self.waiting:
                select.select([], [self._socket], [], 0.1)

    def close(self) -> None:
        self._end()
        self._socket.close()

    def _end(self) -> None:
        self.closed = True
        self._out.clear()
