"""Encoded numbers of DWARF: LEB128, and the pointers of .eh_frame (Linux Standard Base, "DWARF Exception Header Encoding").

All of it is data of the program's: what makes no sense raises Malformed, and nothing is read beyond the bytes at hand.
"""

from __future__ import annotations

ABSENT = 0xFF  #: no value
_PCREL, _DATAREL, _INDIRECT = 0x10, 0x30, 0x80
#: form -> (bytes, signed)
_FIXED = {
    0x00: (8, False), 0x02: (2, False), 0x03: (4, False), 0x04: (8, False), 0x0A: (2, True), 0x0B: (4, True), 0x0C: (8, True),
}  # fmt: skip
_ULEB, _SLEB = 0x01, 0x09
_MAX_LEB = 10
WORD = (1 << 64) - 1


class Malformed(Exception):
    """The data are not what they ought to be."""


class Reader:
    """Reads numbers one after the other out of `data`, which lies at `address`."""

    def __init__(self, data: bytes, address: int = 0, at: int = 0) -> None:
        self.data, self.address, self.at = data, address, at

    @property
    def more(self) -> bool:
        return self.at < len(self.data)

    def bytes_(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if count < 0 or len(found) < count:
            raise Malformed
        self.at += count
        return found

    def fixed(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.bytes_(size), "little", signed=signed)

    def uleb(self) -> int:
        value = 0
        for index in range(_MAX_LEB):
            byte = self.fixed(1)
            value |= (byte & 0x7F) << 7 * index
            if not byte & 0x80:
                return value
        raise Malformed

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> bits - 1 else value

    def text(self) -> bytes:
        end = self.data.find(0, self.at)
        if end < 0:
            raise Malformed
        found = self.data[self.at : end]
        self.at = end + 1
        return found

    def pointer(self, encoding: int, base: int = 0) -> int:
        """A pointer; `base` is what _DATAREL ones are relative to. What is behind an indirect one is not looked up."""
        here = self.address + self.at
        form = encoding & 0x0F
        if form in _FIXED:
            value = self.fixed(*_FIXED[form])
        elif form in (_ULEB, _SLEB):
            value = self.uleb() if form == _ULEB else self.sleb()
        else:
            raise Malformed
        how = encoding & 0x70
        if how == _PCREL:
            value += here
        elif how == _DATAREL:
            value += base
        elif how or encoding & _INDIRECT:
            raise Malformed
        return value & WORD
