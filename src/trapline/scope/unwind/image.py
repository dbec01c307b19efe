"""Image: an ELF file as an unwinder and a reader of symbols see it. It is read piece by piece, and is the program's own data.

Addresses are the file's; `rows` and names that were found are remembered.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from struct import Struct

from trapline.scope.unwind.dwarf import ABSENT, Malformed, Reader
from trapline.scope.unwind.rules import Common, Row, common, row

_HEADER, _PROGRAM, _SECTION = Struct("<16sHHIQQQIHHHHHH"), Struct("<IIQQQQQQ"), Struct("<IIQQQQIIQQ")
_SYMBOL = Struct("<IBBHQQ")
PT_LOAD, PT_GNU_EH_FRAME = 1, 0x6474E550
_SYMTAB, _DYNSYM, _FUNCTION = 2, 11, 2
_TABLE_ENCODING = 0x3B  #: pairs of 4-byte numbers relative to the header: what every linker writes
_PAIR = 8
MAX_HEADERS, MAX_SYMBOLS, MAX_ENTRY, MAX_NAME, MAX_SCANNED, REMEMBERED = 256, 1 << 20, 1 << 16, 4096, 8 << 20, 4096

Read = Callable[[int, int], bytes]


class Image:
    """`read(offset, count)` gives bytes of the file. Raises Malformed for what is no 64-bit little-endian ELF file."""

    def __init__(self, read: Read) -> None:
        self._read = read
        head = read(0, _HEADER.size)
        if len(head) < _HEADER.size or head[:6] != b"\x7fELF\x02\x01":
            raise Malformed
        _, _, self.machine, _, _, phoff, self._shoff, _, _, _, phnum, _, self._shnum, self._shstrndx = _HEADER.unpack(head)
        table = self._exactly(phoff, _PROGRAM.size * min(phnum, MAX_HEADERS))
        self._programs = list(_PROGRAM.iter_unpack(table))
        self._rows: dict[int, Row | None] = {}
        self._entries: list[tuple[int, int]] | None = None
        self._symbols: tuple[list[int], list[bytes]] | None = None

    def _exactly(self, offset: int, count: int) -> bytes:
        data = self._read(offset, count)
        if len(data) < count:
            raise Malformed
        return data

    def address_of(self, offset: int) -> int | None:
        """Where a byte of the file is to be, by its program headers."""
        for kind, _, at, address, _, size, _, _ in self._programs:
            if kind == PT_LOAD and at & -4096 <= offset < at + size:
                return int(address + offset - at)
        return None

    def _load(self, address: int, count: int) -> bytes:
        """Bytes by their address; fewer where the segment ends."""
        for kind, _, at, start, _, size, _, _ in self._programs:
            if kind == PT_LOAD and start <= address < start + size:
                return self._read(at + address - start, min(count, start + size - address))
        raise Malformed

    # ---- frames

    def row(self, address: int) -> Row | None:
        """How to unwind at `address`; None: the file does not say."""
        if address not in self._rows:
            if len(self._rows) >= REMEMBERED:
                self._rows.clear()
            try:
                self._rows[address] = self._find(address)
            except (Malformed, struct.error):
                self._rows[address] = None
        return self._rows[address]

    def _find(self, address: int) -> Row | None:
        header = next((each for each in self._programs if each[0] == PT_GNU_EH_FRAME), None)
        if header is None:
            index = bisect_right(self._scanned(), (address, 1 << 64)) - 1
            return self._entry(self._scanned()[index][1], address) if index >= 0 else None
        base = header[3]
        reader = Reader(self._load(base, min(header[5], 64)), base)
        version, frame_encoding, count_encoding, table_encoding = reader.bytes_(4)
        if version != 1 or table_encoding != _TABLE_ENCODING or count_encoding == ABSENT:
            raise Malformed
        reader.pointer(frame_encoding, base)
        count = reader.pointer(count_encoding, base)
        at = self._search(base + reader.at, base, min(count, header[5] // _PAIR), address)
        return None if at is None else self._entry(at, address)

    def _search(self, table: int, base: int, count: int, address: int) -> int | None:
        """The address of the entry for the last function that begins at `address` or before."""
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            start = base + Reader(self._load(table + _PAIR * middle, 4)).fixed(4, True)
            low, high = (middle + 1, high) if start <= address else (low, middle)
        if not low:
            return None
        return base + Reader(self._load(table + _PAIR * (low - 1) + 4, 4)).fixed(4, True)

    def _scanned(self) -> list[tuple[int, int]]:
        """(start of a function, address of its entry), sorted, where the linker has made no table of them."""
        if self._entries is None:
            self._entries = []
            section = self._section(b".eh_frame")
            if section is not None:
                self._scan(section[3], section[3] + min(section[5], MAX_SCANNED))
                self._entries.sort()
        return self._entries

    def _scan(self, at: int, end: int) -> None:
        assert self._entries is not None
        while at + 8 <= end:
            length = Reader(self._load(at, 4)).fixed(4)
            if 4 <= length <= MAX_ENTRY and (back := Reader(self._load(at + 4, 4)).fixed(4)):
                of = self._common(at + 4 - back)
                start = Reader(self._load(at + 8, 8), at + 8).pointer(of.encoding)
                self._entries.append((start, at))
            elif length > MAX_ENTRY:
                raise Malformed
            at += 4 + length

    def _sections(self) -> list[tuple[int, ...]]:
        if not self._shoff:
            return []
        return list(_SECTION.iter_unpack(self._exactly(self._shoff, _SECTION.size * self._shnum)))

    def _section(self, name: bytes) -> tuple[int, ...] | None:
        sections = self._sections()
        if self._shstrndx >= len(sections):
            return None
        strings = self._exactly(sections[self._shstrndx][4], min(sections[self._shstrndx][5], 1 << 20))
        named = {strings[each[0] : strings.find(0, each[0])]: each for each in reversed(sections)}
        return named.get(name)

    def _piece(self, at: int) -> tuple[Reader, int]:
        """A CIE or FDE behind its length, and where it ends, as an offset."""
        length = Reader(self._load(at, 4)).fixed(4)
        if not 4 <= length <= MAX_ENTRY:
            raise Malformed
        return Reader(self._load(at, 4 + length), at, 4), 4 + length

    def _entry(self, at: int, address: int) -> Row | None:
        reader, end = self._piece(at)
        here = at + reader.at
        back = reader.fixed(4)
        if not back:
            raise Malformed
        of = self._common(here - back)
        start = reader.pointer(of.encoding)
        size = reader.pointer(of.encoding & 0x0F)
        if not start <= address < start + size:
            return None
        if of.augmented:
            reader.at += reader.uleb()
        return row(of, start, reader.data[reader.at : end], address)

    def _common(self, at: int) -> Common:
        reader, end = self._piece(at)
        if reader.fixed(4):
            raise Malformed
        return common(reader, end)

    # ---- symbols

    def symbol(self, address: int) -> tuple[bytes, int] | None:
        """The name of the function that begins last before `address`, and how far before."""
        if self._symbols is None:
            try:
                self._symbols = self._load_symbols()
            except (Malformed, struct.error):
                self._symbols = [], []
        starts, names = self._symbols
        index = bisect_right(starts, address) - 1
        return (names[index], address - starts[index]) if index >= 0 else None

    def _load_symbols(self) -> tuple[list[int], list[bytes]]:
        """Functions by address; of several at one address the first that a table has."""
        sections = self._sections()
        found: dict[int, bytes] = {}
        for kind in (_SYMTAB, _DYNSYM):
            for section in sections:
                if section[1] == kind and section[6] < len(sections):
                    strings = sections[section[6]]
                    self._add_symbols(found, section, self._exactly(strings[4], min(strings[5], 1 << 26)))
        starts = sorted(found)
        return starts, [found[start] for start in starts]

    def _add_symbols(self, found: dict[int, bytes], section: tuple[int, ...], strings: bytes) -> None:
        size = min(section[5], MAX_SYMBOLS * _SYMBOL.size) // _SYMBOL.size * _SYMBOL.size
        for name, info, _, index, value, _ in _SYMBOL.iter_unpack(self._exactly(section[4], size)):
            if info & 0xF == _FUNCTION and index:
                end = strings.find(0, name, name + MAX_NAME)
                if name < len(strings) and end > name:
                    found.setdefault(value, strings[name:end])
