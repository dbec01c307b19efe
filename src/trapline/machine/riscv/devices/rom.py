"""Rom: memory that is read and executed, and not written: where a hart starts at reset."""

from __future__ import annotations

from trapline.machine.riscv.bus import BusError
from trapline.machine.riscv.devices.saved import State, entry, text_of


class Rom:
    """`size` bytes, a whole number of pages, that start with `data` and are zero behind it."""

    def __init__(self, data: bytes, size: int) -> None:
        if len(data) > size or size & 4095:
            raise ValueError(f"{len(data)} bytes in a ROM of {size}")
        self.size = size
        self.data = data

    def state(self) -> State:
        return {"data": self.data.hex()}

    def load(self, state: State) -> None:
        self.data = text_of(entry(state, "data"), self.size)

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.data[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        raise BusError(f"a store to read-only memory, at offset {offset:#x}")

    def code_page(self, offset: int) -> bytes:
        """What a hart fetches instructions from."""
        return self.data[offset : offset + 4096].ljust(4096, b"\0")
