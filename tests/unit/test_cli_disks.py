"""Host files as disks: several pieces in one transfer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trapline.cli import disks
from trapline.machine.riscv.devices.storage import StorageError


@pytest.fixture
def disk(tmp_path: Path) -> disks.HostFile:
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(256)) * 16)
    return disks.HostFile(str(path), read_only=False)


def pieces(data: bytearray, *sizes: int) -> list[memoryview]:
    view, found = memoryview(data), []
    for size in sizes:
        found.append(view[:size])
        view = view[size:]
    return found


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_what_the_host_takes_in_part_goes_on(disk: disks.HostFile, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host may move fewer bytes than it is asked to: in the middle of a piece, or between two."""

    def short(call: object) -> object:
        def transfer(fd: int, views: list[memoryview], offset: int) -> int:
            return call(fd, [memoryview(b"".join(views))[:most]], offset)  # type: ignore[operator, no-any-return]

        return transfer

    monkeypatch.setattr(os, "pwritev", short(os.pwritev))
    written = bytearray(os.urandom(1000))
    disk.write_many(100, pieces(written, 1, 0, 500, 499))
    monkeypatch.undo()
    found = bytearray(1000)
    disk.read_many(100, pieces(found, 3, 990, 7))
    assert found == written


def test_more_pieces_than_the_host_takes_at_once(disk: disks.HostFile) -> None:
    data = bytearray(os.urandom(3000))
    disk.write_many(0, pieces(data, *[1] * 3000))
    found = bytearray(3000)
    disk.read_many(0, pieces(found, *[2] * 1500))
    assert found == data


def test_behind_the_end_are_zeros(disk: disks.HostFile) -> None:
    found = bytearray(b"x" * 300)
    disk.read_many(4096 - 100, pieces(found, 50, 100, 150))
    assert found == bytes(range(156, 256)) + bytes(200)


def test_what_the_host_refuses_is_a_storage_error(disk: disks.HostFile, tmp_path: Path) -> None:
    only = disks.HostFile(str(tmp_path / "other"), read_only=False, grows=True)
    only.close()
    for act in (only.read_many, only.write_many):
        with pytest.raises(StorageError):
            act(0, pieces(bytearray(10), 5, 5))
