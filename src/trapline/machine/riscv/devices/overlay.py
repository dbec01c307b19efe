"""Overlay: a disk whose changes go to a file of their own, while the disk below stays as it is.

The file: a header {magic (8 bytes), block size (32), zero (32), size of the disk (64)} in the first 4096 bytes, a bit for
each block of the disk from offset 4096 on (lowest first, 1: the block is here), and from the next multiple of 4096 on the
blocks, each at its place on the disk. Where no block is, the file has a hole.

Invariant: a bit is on disk only once its block is, so a file that was not closed misses at most what was not flushed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from trapline.machine.riscv.devices.storage import Storage, StorageError

MAGIC = b"TRAPCOW\1"
BLOCK = 4096
_HEADER = struct.Struct("<8sIIQ")
_MAP = 4096  #: offset of the bits


class Overlay:
    """`top` holds what differs from `base`, and is made ready if it is empty. Raises StorageError if it is another disk's.

    `top` must be able to grow: what lies behind its size reads as zeros, and writing there extends it.
    """

    read_only = False

    def __init__(self, base: Storage, top: Storage) -> None:
        self._base, self._top = base, top
        self.size = base.size
        blocks = -(-base.size // BLOCK)
        self._bits = bytearray(-(-blocks // 8))
        self._data = _MAP + len(self._bits) + -(_MAP + len(self._bits)) % BLOCK  # offset of block 0
        self._changed: set[int] = set()  # pieces of BLOCK bytes of the map, to be written
        if top.size:
            self._open()
        else:
            top.write_from(0, memoryview(_HEADER.pack(MAGIC, BLOCK, 0, base.size).ljust(_MAP, b"\0")))

    def _open(self) -> None:
        header = bytearray(_HEADER.size)
        if self._top.size < _MAP:
            raise StorageError("not an overlay: it is too short")
        self._top.read_into(0, memoryview(header))
        magic, block, _, size = _HEADER.unpack(header)
        if magic != MAGIC or block != BLOCK:
            raise StorageError("not an overlay of ours")
        if size != self.size:
            raise StorageError(f"it belongs to a disk of {size} bytes, and this one has {self.size}")
        there = min(len(self._bits), self._top.size - _MAP)
        self._top.read_into(_MAP, memoryview(self._bits)[:there])

    def _here(self, block: int) -> int:
        return self._bits[block >> 3] >> (block & 7) & 1

    def _run(self, offset: int, end: int) -> tuple[int, int]:
        """From `offset` on: how many bytes, up to `end`, come from the same side, and whether that is the top."""
        block = offset // BLOCK
        here = self._here(block)
        stop = (block + 1) * BLOCK
        while stop < end and self._here(stop // BLOCK) == here:
            stop += BLOCK
        return min(stop, end) - offset, here

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(offset, end) of what the top holds from block to block, within a range that begins with one."""
        block, last = start // BLOCK, -(-stop // BLOCK)
        while block < last:
            if not block & 7 and not self._bits[block >> 3]:
                block += 8
            elif not self._here(block):
                block += 1
            else:
                first = block
                while block < last and self._here(block):
                    block += 1
                yield first * BLOCK, min(block * BLOCK, stop)

    def revert(self, start: int, stop: int) -> None:
        """The blocks of a range are as below again."""
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            self._bits[block >> 3] &= ~(1 << (block & 7))
            self._changed.add((block >> 3) // BLOCK)

    def read_into(self, offset: int, view: memoryview) -> None:
        done, end = 0, offset + len(view)
        while done < len(view):
            length, here = self._run(offset + done, end)
            piece = view[done : done + length]
            if here:
                self._top.read_into(self._data + offset + done, piece)
            else:
                self._base.read_into(offset + done, piece)
            done += length

    def write_from(self, offset: int, view: memoryview) -> None:
        if not len(view):
            return
        end = offset + len(view)
        self._bring(offset)
        self._bring(end - 1)
        self._top.write_from(self._data + offset, view)
        self._mark(offset, end)

    def zero(self, offset: int, length: int) -> None:
        if not length:
            return
        self._bring(offset)
        self._bring(offset + length - 1)
        self._top.zero(self._data + offset, length)
        self._mark(offset, offset + length)

    def _bring(self, offset: int) -> None:
        """Copy the block that holds `offset` up, if it is not here."""
        block = offset // BLOCK
        if not self._here(block):
            data = memoryview(bytearray(min(BLOCK, self.size - block * BLOCK)))
            self._base.read_into(block * BLOCK, data)
            self._top.write_from(self._data + block * BLOCK, data)

    def _mark(self, offset: int, end: int) -> None:
        """The blocks are here now."""
        for block in range(offset // BLOCK, -(-end // BLOCK)):
            bit = 1 << (block & 7)
            if not self._bits[block >> 3] & bit:
                self._bits[block >> 3] |= bit
                self._changed.add((block >> 3) // BLOCK)

    def flush(self) -> None:
        self._top.flush()
        if self._changed:
            bits = memoryview(self._bits)
            for piece in sorted(self._changed):
                self._top.write_from(_MAP + piece * BLOCK, bits[piece * BLOCK : (piece + 1) * BLOCK])
            self._changed.clear()
            self._top.flush()

    def close(self) -> None:
        """Flush, and close both files."""
        try:
            self.flush()
        finally:
            self._top.close()
            self._base.close()
