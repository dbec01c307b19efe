"""Undo: a disk that can be put back to what it held at a mark: it keeps what was overwritten since.

In a nutshell: `mark()` begins a new log of overwritten blocks and gives its number; `rewind(number)` writes the logs back, the
newest first. The disk below is always as the guest has it now, also while that is in the past.

Invariant: the logs hold at most LIMIT bytes: of more, the oldest are forgotten, and `floor` is the first mark that is left.
"""

from __future__ import annotations

from trapline.machine.riscv.devices.storage import Storage, StorageError

BLOCK = 4096
LIMIT = 256 << 20
_ZEROS = bytes(BLOCK)


class Undo:
    """`base`, with what it held."""

    read_only = False

    def __init__(self, base: Storage) -> None:
        self._base = base
        self.size = base.size
        self.floor = 0  #: the first mark that can be gone back to
        self._logs: list[dict[int, bytes]] = [{}]  # from `floor` on
        self._held = 0  # bytes in them

    def mark(self) -> int:
        """The number of this moment."""
        if self._logs[-1]:
            self._logs.append({})
        return self.floor + len(self._logs) - 1

    def rewind(self, mark: int) -> None:
        """Hold what was held then. Raises StorageError; then it holds neither."""
        if not self.floor <= mark < self.floor + len(self._logs):
            raise StorageError("nobody knows what the disk held then")
        while len(self._logs) > mark - self.floor:
            log = self._logs.pop()
            for block, data in log.items():
                self._base.write_from(block * BLOCK, memoryview(data))
            self._held -= sum(map(len, log.values()))
        self._logs.append({})

    def _keep(self, offset: int, length: int) -> None:
        log = self._logs[-1]
        for block in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
            if block not in log:
                data = bytearray(min(BLOCK, self.size - block * BLOCK))
                self._base.read_into(block * BLOCK, memoryview(data))
                log[block] = bytes(data) if any(data) else _ZEROS[: len(data)]
                self._held += len(data)
        while self._held > LIMIT and len(self._logs) > 1:
            self._held -= sum(map(len, self._logs.pop(0).values()))
            self.floor += 1
        if self._held > LIMIT:  # since the last mark alone
            self._logs, self._held = [{}], 0
            self.floor += 1

    # ---- as a disk

    def read_into(self, offset: int, view: memoryview) -> None:
        self._base.read_into(offset, view)

    def write_from(self, offset: int, view: memoryview) -> None:
        self._keep(offset, len(view))
        self._base.write_from(offset, view)

    def zero(self, offset: int, length: int) -> None:
        self._keep(offset, length)
        self._base.zero(offset, length)

    def flush(self) -> None:
        self._base.flush()

    def close(self) -> None:
        self._base.close()
