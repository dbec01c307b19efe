"""A disk that goes back, by itself and under a board that is debugged backwards."""

from __future__ import annotations

import random

import pytest

from trapline.machine.riscv.devices import undo
from trapline.machine.riscv.devices.overlay import Overlay
from trapline.machine.riscv.devices.storage import Memory, Storage, StorageError
from trapline.machine.riscv.devices.undo import BLOCK, Undo


@pytest.mark.parametrize("overlaid", [False, True])
def test_it_holds_what_it_held_at_any_mark(overlaid: bool) -> None:
    rng = random.Random(overlaid)
    size = 10 * BLOCK + 512
    base = Memory(rng.randbytes(size))
    below: Storage = Overlay(base, Growing()) if overlaid else base
    disk = Undo(below)
    kept: dict[int, bytes] = {}

    def now() -> bytes:
        data = bytearray(size)
        disk.read_into(0, memoryview(data))
        return bytes(data)

    for _ in range(300):
        what = rng.randrange(10)
        offset, length = 512 * rng.randrange(size // 512), 512 * rng.randrange(20)
        length = min(length, size - offset)
        if what < 5:
            disk.write_from(offset, memoryview(rng.randbytes(length)))
        elif what < 7:
            disk.zero(offset, length)
        elif what < 9:
            kept[disk.mark()] = now()
        elif kept:
            mark = rng.choice(sorted(kept))
            disk.rewind(mark)
            assert now() == kept[mark]
            kept = {n: data for n, data in kept.items() if n <= mark}
    assert len(kept) > 1
    for mark in sorted(kept, reverse=True):
        disk.rewind(mark)
        assert now() == kept[mark]


class Growing(Memory):
    def __init__(self) -> None:
        super().__init__(b"")

    def write_from(self, offset: int, view: memoryview) -> None:
        self.data.extend(bytes(max(0, offset + len(view) - len(self.data))))
        super().write_from(offset, view)

    def zero(self, offset: int, length: int) -> None:
        self.write_from(offset, memoryview(bytes(length)))

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.data[offset : offset + len(view)].ljust(len(view), b"\0")


def test_what_it_keeps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "LIMIT", 8 * BLOCK)
    disk = Undo(Memory(bytes(64 * BLOCK)))
    marks = []
    for n in range(6):
        marks.append(disk.mark())
        disk.write_from(4 * n * BLOCK, memoryview(b"x" * 4 * BLOCK))
    assert disk.floor == marks[-2]
    with pytest.raises(StorageError, match="nobody knows"):
        disk.rewind(marks[0])
    disk.rewind(marks[-2])
    data = bytearray(64 * BLOCK)
    disk.read_into(0, memoryview(data))
    assert data == b"x" * 16 * BLOCK + bytes(48 * BLOCK)
    disk.write_from(0, memoryview(b"y" * 20 * BLOCK))  # more than is kept at all
    assert disk.floor > marks[-2] and disk._held <= 8 * BLOCK
