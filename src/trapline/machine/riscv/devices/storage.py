"""Where a disk's or a flash chip's bytes are: an object that reads and writes at offsets.

Devices take any `Storage`; the command line makes one of a host file, `Memory` is one that is forgotten, `Overlay` (its own
file) keeps changes apart.
"""

from __future__ import annotations

from trapline.typed import Protocol


class StorageError(Exception):
    """The bytes could not be read or written; the text says why."""


class Storage(Protocol):
    """`size` bytes. Callers stay within them.

    One that moves several pieces faster than each by itself also has `read_many` and `write_many` (offset, views).
    """

    @property
    def size(self) -> int: ...

    @property
    def read_only(self) -> bool: ...

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view`. Raises StorageError."""

    def write_from(self, offset: int, view: memoryview) -> None:
        """Raises StorageError."""

    def zero(self, offset: int, length: int) -> None:
        """The range reads as zeros from now on. Raises StorageError."""

    def flush(self) -> None:
        """What has been written survives a power failure. Raises StorageError."""

    def close(self) -> None: ...


class Memory:
    """Bytes that nobody keeps."""

    def __init__(self, data: bytes | bytearray, *, read_only: bool = False) -> None:
        self.data = bytearray(data)
        self.size = len(self.data)
        self.read_only = read_only

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.data[offset : offset + len(view)]

    def write_from(self, offset: int, view: memoryview) -> None:
        self.data[offset : offset + len(view)] = view

    def zero(self, offset: int, length: int) -> None:
        self.data[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to let go."""
