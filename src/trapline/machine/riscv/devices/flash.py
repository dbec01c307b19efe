"""Flash: a bank of NOR flash with the Intel command set, two chips of 16 bits side by side, as on QEMU's `virt`.

Sources: Common Flash Interface, JESD68.01 and JEP137; the commands are those of Intel's StrataFlash data sheets.

It reads as memory until a command is written anywhere in it; each command is given to both chips at once, in the low byte
of each half of a word. Programming clears bits, erasing sets all those of a sector to one. Both are done at once: the status
always says ready.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from trapline.machine.riscv.bus import BusError
from trapline.machine.riscv.devices.saved import BadState, Kind, State, entry, pack, text_of, unpack, whole
from trapline.machine.riscv.devices.storage import Storage, StorageError

SECTOR = 256 << 10
WIDTH, CHIPS = 4, 2  #: bytes of the bus, chips on it
BUFFER = 2048  #: bytes of a buffered write
MANUFACTURER, DEVICE = 0x89, 0x18
#: states: what the next read gives, or what the next write is
_ARRAY, _STATUS, _ID, _QUERY, _PROGRAM, _ERASE, _LOCK, _COUNT, _DATA, _CONFIRM = range(10)
_COMMANDS = {
    0x10: _PROGRAM, 0x20: _ERASE, 0x28: _ERASE, 0x40: _PROGRAM, 0x60: _LOCK, 0x70: _STATUS, 0x90: _ID, 0x98: _QUERY,
    0xE8: _COUNT,
}  # fmt: skip
_READY, _PROGRAM_ERROR, _ERASE_ERROR, _PROTECTED = 0x80, 0x10, 0x20, 0x02
_DEVICE_INFO, _EXTENDED = 0x10, 0x31  # offsets in the table of queries


def _query(size: int) -> bytes:
    """The table that describes a chip, by offset (JESD68.01, "CFI Query Structure"); the extended one is Intel's."""
    chip = size // CHIPS
    sectors, sector = chip // (SECTOR // CHIPS), SECTOR // CHIPS
    table = bytearray(_DEVICE_INFO)
    table += b"QRY" + struct.pack("<HHHH", 1, _EXTENDED, 0, 0)
    table += bytes((0x45, 0x55, 0, 0))  # supply: 4.5 to 5.5 V, none for programming
    table += bytes((7, 7, 10, 0, 4, 4, 4, 0))  # typical times, and how much longer they may be
    table += struct.pack("<BHHB", chip.bit_length() - 1, 2, (BUFFER // CHIPS).bit_length() - 1, 1)
    table += struct.pack("<HH", sectors - 1, sector >> 8)
    table += b"PRI10" + bytes(9)
    return bytes(table)


class Flash:
    """The bank whose contents are `storage`, a whole number of sectors. Read-only storage is a bank that is write-protected."""

    def __init__(self, storage: Storage) -> None:
        if not storage.size or storage.size % SECTOR:
            raise ValueError(f"{storage.size} bytes: a bank of flash has sectors of {SECTOR}")
        self._storage = storage
        self.size = storage.size
        self._table = _query(storage.size)
        self.reset()

    def reset(self) -> None:
        """It reads as memory."""
        self._state = _ARRAY
        self._status = _READY
        self._block = self._left = self._start = 0
        self._buffer: dict[int, bytes] = {}  # by offset

    def state(self) -> State:
        """Without what the bank holds, which is its storage's."""
        return {**pack(self, self._saved()), "buffer": [[at, data.hex()] for at, data in self._buffer.items()]}

    def load(self, state: State) -> None:
        buffer: dict[int, bytes] = {}
        for each in entry(state, "buffer"):
            at, data = each if type(each) is list and len(each) == 2 else (-1, "")
            found = text_of(data, WIDTH)
            if type(at) is not int or not 0 <= at <= self.size - len(found) or len(buffer) >= BUFFER:
                raise BadState("buffer: what is written must be within the bank")
            buffer[at] = found
        unpack(self, self._saved(), state)
        self._buffer = buffer

    def _saved(self) -> dict[str, Kind]:
        return {
            "_state": whole(_CONFIRM), "_status": whole(0xFF), "_block": whole(self.size), "_left": whole(1 << 16),
            "_start": whole(self.size), "size": whole(self.size, self.size),
        }  # fmt: skip

    # ---- reading

    def read(self, offset: int, size: int) -> int:
        if self._state == _ARRAY:
            return int.from_bytes(self._bytes(offset, size), "little")
        if size > WIDTH:
            raise BusError(f"{size} bytes: the flash has a bus of {WIDTH}")
        index = offset // WIDTH
        if self._state == _ID:
            found = (MANUFACTURER, DEVICE, 0)[min(index & 0xFF, 2)]
        elif self._state == _QUERY:
            found = self._table[index & 0xFF] if index & 0xFF < len(self._table) else 0
        else:
            found = self._status
        both = (found << 16 | found).to_bytes(4, "little")
        at = offset % WIDTH
        return int.from_bytes(both[at : at + size], "little")

    def _bytes(self, offset: int, size: int) -> bytes:
        data = bytearray(size)
        try:
            self._storage.read_into(offset, memoryview(data))
        except StorageError as error:
            raise BusError(f"the flash cannot be read: {error}") from None
        return bytes(data)

    def code_page(self, offset: int) -> bytes | None:
        """What a hart fetches instructions from."""
        return self._bytes(offset, 4096) if self._state == _ARRAY else None

    # ---- writing

    def write(self, offset: int, size: int, value: int) -> None:
        if size > WIDTH:
            raise BusError(f"{size} bytes: the flash has a bus of {WIDTH}")
        state = self._state
        if state == _PROGRAM:
            self._program(offset, value.to_bytes(size, "little"))
            self._state = _STATUS
        elif state == _ERASE:
            self._second(value, lambda: self._erase(offset))
        elif state == _LOCK:  # nothing is locked for good; the commands are taken
            if value & 0xFF not in (0x01, 0xD0, 0x2F):
                self._status |= _PROGRAM_ERROR | _ERASE_ERROR
            self._state = _STATUS
        elif state == _COUNT:
            self._left = (value & 0xFFFF) + 1
            self._start, self._buffer = offset & -BUFFER, {}
            self._state = _DATA if self._left * WIDTH <= BUFFER else self._failed(_PROGRAM_ERROR)
        elif state == _DATA:
            self._fill(offset, value.to_bytes(size, "little"))
        elif state == _CONFIRM:
            self._second(value, self._write_buffer)
        else:
            self._command(value & 0xFF)

    def _command(self, command: int) -> None:
        if command == 0x50:
            self._status = _READY
        else:
            self._state = _COMMANDS.get(command, _ARRAY)

    def _second(self, value: int, act: Callable[[], None]) -> None:
        """The second half of a command confirms it."""
        if value & 0xFF == 0xD0:
            act()
            self._state = _STATUS
        elif value & 0xFF == 0xFF:
            self._state = _ARRAY
        else:
            self._state = self._failed(_PROGRAM_ERROR | _ERASE_ERROR)

    def _failed(self, bits: int) -> int:
        """Say so in the status; the state."""
        self._status |= bits
        return _STATUS

    def _fill(self, offset: int, data: bytes) -> None:
        """One word of a buffered write, which must not leave the block it began in."""
        if offset & -BUFFER != self._start:
            self._state = self._failed(_PROGRAM_ERROR)
            return
        self._buffer[offset] = data
        self._left -= 1
        if not self._left:
            self._state = _CONFIRM

    def _write_buffer(self) -> None:
        for offset, data in self._buffer.items():
            self._program(offset, data)

    def _program(self, offset: int, data: bytes) -> None:
        """Clear the bits that are zero in `data`."""
        old = self._bytes(offset, len(data))
        self._store(offset, bytes(a & b for a, b in zip(old, data, strict=True)), _PROGRAM_ERROR)

    def _erase(self, offset: int) -> None:
        self._store(offset & -SECTOR, b"\xff" * SECTOR, _ERASE_ERROR)

    def _store(self, offset: int, data: bytes, error: int) -> None:
        if self._storage.read_only:
            self._status |= error | _PROTECTED
            return
        try:
            self._storage.write_from(offset, memoryview(data))
        except StorageError:
            self._status |= error
