"""Packets of GDB's remote protocol, out of and into a stream of bytes (GDB manual, "Remote Protocol: Overview").

    $ data # checksum     a packet; } escapes the next byte, which is xored with 0x20
    + and -               the last packet came well, or did not          0x03    interrupt
"""

from __future__ import annotations

MOST = 0x8000  #: bytes of a packet's data
INTERRUPT = b"\3"
_SPECIAL = b"#$}*"


def pack(data: bytes) -> bytes:
    """A packet with this data."""
    escaped = bytearray()
    for byte in data:
        escaped += bytes((0x7D, byte ^ 0x20)) if byte in _SPECIAL else bytes((byte,))
    return b"$%b#%02x" % (bytes(escaped), sum(escaped) & 0xFF)


def _unescape(data: bytes) -> bytes:
    out, todo = bytearray(), iter(data)
    for byte in todo:
        out.append(byte if byte != 0x7D else next(todo, 0) ^ 0x20)
    return bytes(out)


class Framer:
    """Cuts a stream into packets. `acknowledge`: what has to be sent for those that came."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.acks = True  #: whether packets are acknowledged
        self.acknowledge = b""
        self.refused = False  #: the peer says that our last packet came badly

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are complete now; an interrupt is INTERRUPT. What is no packet is skipped."""
        self._held += data
        found: list[bytes] = []
        while self._held:
            first = self._held[0]
            if first != 0x24:
                if first == 3:
                    found.append(INTERRUPT)
                self.refused |= first == 0x2D
                del self._held[0]
                continue
            end = self._held.find(b"#")
            if end < 0 or len(self._held) < end + 3:
                if len(self._held) > 2 * MOST:
                    self._held.clear()
                    self._say(b"-")
                break
            body, check = bytes(self._held[1:end]), bytes(self._held[end + 1 : end + 3])
            del self._held[: end + 3]
            if self._right(body, check):
                self._say(b"+")
                found.append(_unescape(body))
            else:
                self._say(b"-")
        return found

    def _right(self, body: bytes, check: bytes) -> bool:
        try:
            return int(check, 16) == sum(body) & 0xFF and len(body) <= MOST
        except ValueError:
            return False

    def _say(self, what: bytes) -> None:
        if self.acks:
            self.acknowledge += what
