"""Block: a disk (Virtual I/O Device Specification, "Block Device"), with flush, discard and write-zeroes.

A request is a header {type (32), reserved (32), sector (64)}, data, and a byte of status, in buffers however they are cut.
"""

from __future__ import annotations

import struct

from trapline.machine.riscv.devices.saved import State, pack, unpack, whole
from trapline.machine.riscv.devices.storage import Storage, StorageError
from trapline.machine.riscv.devices.virtio.queue import Chain, gather, scatter
from trapline.machine.riscv.devices.virtio.transport import Transport

SECTOR = 512
F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_DISCARD, F_WRITE_ZEROES = 1 << 2, 1 << 5, 1 << 6, 1 << 9, 1 << 13, 1 << 14
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2
SEG_MAX = 126
MAX_ZERO_SECTORS = 32 << 20 >> 9  #: of one discard or write-zeroes
LIMIT = 8 << 20  #: bytes that are moved before the harts run again
ID_BYTES = 20
_HEADER, _RANGE = struct.Struct("<IIQ"), struct.Struct("<QII")
#: capacity, size_max, seg_max, geometry, blk_size, topology, writeback, queues, discard (3 words), write-zeroes (2), may unmap
_CONFIG = struct.Struct("<QII4xI8xBxHIIIIIB3x")


class Block:
    """The disk `storage`; `name` is what the driver reads as its serial number."""

    device_id = 2
    queues = 1
    delays: dict[int, int] = {}
    patience: dict[int, int] = {}

    def __init__(self, storage: Storage, name: str = "") -> None:
        self._storage = storage
        self._name = name.encode()[:ID_BYTES]
        self.sectors = storage.size // SECTOR
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH
        self.features |= F_RO if storage.read_only else F_DISCARD | F_WRITE_ZEROES

    def attach(self, transport: Transport) -> None:
        self._transport = transport

    def config(self) -> bytes:
        zero = MAX_ZERO_SECTORS
        return _CONFIG.pack(self.sectors, 0, SEG_MAX, SECTOR, 1, 1, zero, 1, 1, zero, 1, 0)

    def reset(self) -> None:
        """Nothing is kept between requests."""

    def state(self) -> State:
        """Without what the disk holds, which is its storage's."""
        return pack(self, {"sectors": whole()})

    def load(self, state: State) -> None:
        unpack(self, {"sectors": whole(self.sectors, self.sectors)}, state)

    def work(self, number: int) -> bool:
        queue = self._transport.queues[number]
        moved = 0
        while moved < LIMIT:
            chain = queue.take()
            if chain is None:
                return False
            queue.put(chain, self._serve(chain))
            moved += chain.length + 4096
        return True

    def _serve(self, chain: Chain) -> int:
        """Execute one request; how many bytes were written to its buffers."""
        header, data = gather(chain.readable, _HEADER.size)
        writable = chain.writable
        if len(header) < _HEADER.size or not writable:
            return 0  # no request, or nowhere to say so
        last = writable[-1]
        status, rest = last[-1:], [*writable[:-1], last[:-1]] if len(last) > 1 else writable[:-1]
        try:
            kind, _, sector = _HEADER.unpack(header)
            status[0] = self._request(kind, sector, data, rest)
        except StorageError:
            status[0] = IOERR
        room = sum(map(len, rest))
        if status[0] != OK:
            for view in rest:
                view[:] = bytes(len(view))
        return room + 1

    def _request(self, kind: int, sector: int, data: list[memoryview], room: list[memoryview]) -> int:
        """The status. Raises StorageError."""
        storage = self._storage
        if kind in (IN, OUT):
            views = room if kind == IN else data
            length = sum(map(len, views))
            if length % SECTOR or not self._within(sector, length // SECTOR) or (kind == OUT and storage.read_only):
                return IOERR
            offset = sector * SECTOR
            many = getattr(storage, "read_many" if kind == IN else "write_many", None)
            if many is not None and len(views) > 1:
                many(offset, views)
                return OK
            act = storage.read_into if kind == IN else storage.write_from
            for view in views:
                act(offset, view)
                offset += len(view)
            return OK
        if kind == FLUSH:
            storage.flush()
            return OK
        if kind == GET_ID:
            return OK if scatter(room, self._name.ljust(ID_BYTES, b"\0")) == ID_BYTES else IOERR
        if kind in (DISCARD, WRITE_ZEROES) and not storage.read_only:
            return self._zero(kind, data)
        return UNSUPP

    def _zero(self, kind: int, data: list[memoryview]) -> int:
        """Discarded sectors read as zeros, too."""
        text, more = gather(data, _RANGE.size)
        if len(text) < _RANGE.size or more:
            return IOERR
        sector, count, flags = _RANGE.unpack(text)
        if flags & ~1 or (flags and kind == DISCARD):
            return UNSUPP
        if count > MAX_ZERO_SECTORS or not self._within(sector, count):
            return IOERR
        self._storage.zero(sector * SECTOR, count * SECTOR)
        return OK

    def _within(self, sector: int, count: int) -> bool:
        return sector + count <= self.sectors
