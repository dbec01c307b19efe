"""What a checkpoint keeps of disks and flash banks, and how they come to hold it again.

There are three kinds, by how they were given:

    changes   with an overlay: the blocks that the overlay holds; the image below must be recognised
    whole     written to in place: every block that is not zero
    fixed     read only: it must be recognised

A file is recognised by its size and time of change, or else by the SHA-256 of what it holds, which is kept of those of at most
MOST_HASHED bytes.

Invariant: a disk is written to only when all that the checkpoint has for it has been read once, with its checksum, and what
the disk holds instead is known or given up (--rewind-disks).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from trapline.typed import TYPE_CHECKING, Any

from trapline.cli.options import UsageError
from trapline.machine.riscv.devices.overlay import BLOCK, Overlay
from trapline.machine.riscv.devices.storage import StorageError

if TYPE_CHECKING:
    import zipfile

    from trapline.cli.disks import Disk, HostFile
    from trapline.machine.riscv.devices.storage import Storage

CHANGES, WHOLE, FIXED = "changes", "whole", "fixed"
MOST_HASHED = 256 << 20  #: bytes of a file that is recognised by what it holds
MOST_KEPT = 64 << 30  #: bytes of a disk's blocks in a checkpoint
PIECE = 256 * BLOCK  #: bytes that are moved at once
TICK_NS = 20_000_000  #: two changes of a file that are further apart have different times

_ZEROS = bytes(PIECE)

Run = tuple[int, int, bool]  #: first block, blocks, whether they are in the archive (else they are zero)


def _kind(disk: Disk) -> str:
    return CHANGES if disk.top is not None else FIXED if disk.storage.read_only else WHOLE


def _filled(data: bytes | bytearray) -> bool:
    """Whether it is anything but zeros (of at most PIECE bytes)."""
    return data != (_ZEROS if len(data) == PIECE else _ZEROS[: len(data)])


# ---- keeping


class Kept:
    """A disk on its way into a checkpoint: `pieces()` gives its contents once, then `state()` says what they are."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._runs: list[list[int]] = []

    def pieces(self) -> Iterator[bytes]:
        """Raises OSError."""
        disk, storage = self._disk, self._disk.storage
        kind, kept = _kind(disk), 0
        if kind == FIXED:
            return
        here = storage.runs(0, storage.size) if isinstance(storage, Overlay) else disk.file.extents(0, storage.size)
        try:
            for offset, data in _read(storage, here):
                filled = _filled(data)
                if filled or kind == CHANGES:
                    self._note(offset // BLOCK, filled)
                if filled:
                    kept += len(data)
                    yield data
                if kept > MOST_KEPT:
                    raise OSError(27, f"{disk.name}: more than {MOST_KEPT >> 30} GiB to keep: use an overlay")
        except StorageError as error:
            raise OSError(5, f"{disk.name}: {error}") from None

    def _note(self, block: int, filled: bool) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last[0] + last[1] == block and last[2] == filled:
            last[1] += 1
        else:
            self._runs.append([block, 1, int(filled)])

    def state(self) -> dict[str, Any]:
        """Raises OSError, also for what could not be recognised later."""
        disk, kind = self._disk, _kind(self._disk)
        found: dict[str, Any] = {"kind": kind, "size": disk.storage.size, "runs": self._runs}
        if kind != WHOLE:
            found["file"] = disk.file.stamp()
            found["sha256"] = digest(disk.file) if disk.file.size <= MOST_HASHED else ""
            if not found["file"] and not found["sha256"]:
                raise OSError(27, f"{disk.name}: a device of more than {MOST_HASHED >> 20} MiB cannot be recognised later")
        if kind != FIXED:
            found["written"] = _settled(disk.top or disk.file)
        return found


def _settled(file: HostFile) -> list[int]:
    """Its stamp, once whatever is written to it from now on gets another one."""
    while (stamp := file.stamp()) and 0 <= time.time_ns() - stamp[1] < TICK_NS:
        time.sleep(TICK_NS / 1e9)
    return stamp


def _read(storage: Storage, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """(offset, contents) of every block that the ranges touch, once."""
    done = 0
    for first, end in ranges:
        start, stop = max(done, first - first % BLOCK), min(storage.size, end + -end % BLOCK)
        for offset in range(start, stop, PIECE):
            data = memoryview(bytearray(min(PIECE, stop - offset)))
            storage.read_into(offset, data)
            for at in range(0, len(data), BLOCK):
                yield offset + at, bytes(data[at : at + BLOCK])
        done = max(done, stop)


def digest(file: HostFile) -> str:
    """The SHA-256 of all it holds. Raises OSError."""
    import hashlib

    found, view = hashlib.sha256(), memoryview(bytearray(PIECE))
    try:
        for offset in range(0, file.size, PIECE):
            piece = view[: min(PIECE, file.size - offset)]
            file.read_into(offset, piece)
            found.update(piece)
    except StorageError as error:
        raise OSError(5, str(error)) from None
    return found.hexdigest()


# ---- and back


def restore(archive: zipfile.ZipFile, states: Any, disks: Sequence[Disk], *, over: bool) -> None:
    """Let disks hold what they held. `over`: write over what nobody has kept. Raises UsageError, ValueError, what zipfile
    raises; StorageError, and then they hold neither."""
    if type(states) is not list or len(states) != len(disks):
        count = len(states) if type(states) is list else 0
        raise UsageError(f"it is of a machine with {count} disks and flash banks, and this one has {len(disks)}")
    restorers = [_Restorer(archive, n, state, disk) for n, (state, disk) in enumerate(zip(states, disks, strict=True))]
    for each in [each for each in restorers if each.differs(over=over)]:
        each.put()


class _Restorer:
    """Of disk number `n`, of which the checkpoint says `state`. Raises what `restore` does."""

    def __init__(self, archive: zipfile.ZipFile, n: int, state: Any, disk: Disk) -> None:
        self._archive, self._name, self._state, self._disk = archive, f"disk{n}", state, disk
        self._check(state, disk)

    @staticmethod
    def _check(state: Any, disk: Disk) -> None:
        """Whether the checkpoint can be of this disk."""
        if type(state) is not dict or state.get("kind") not in (CHANGES, WHOLE, FIXED):
            raise ValueError("what it says of a disk makes no sense")
        kept, kind, size = state["kind"], _kind(disk), state.get("size")
        if size != disk.storage.size:
            raise UsageError(f"{disk.name} has {disk.storage.size} bytes, and the disk that was kept {str(size)[:20]}")
        if kept == CHANGES != kind:
            raise UsageError(f"{disk.name} was kept with an overlay: give it one, of any name: {disk.name},overlay=FILE")
        if (kept == FIXED) != (kind == FIXED):
            raise UsageError(f"{disk.name} was {'read only' if kept == FIXED else 'written to'}: give it as it was")
        if kept != WHOLE and not _recognised(disk.file, state):
            raise UsageError(f"{disk.name} is not what it was when the checkpoint was made: bring that file back")

    def differs(self, *, over: bool) -> bool:
        """Whether the disk is to be written to. All that the checkpoint has for it has been read then."""
        state, disk = self._state, self._disk
        kind, storage = _kind(disk), disk.storage
        written = (disk.top or disk.file).stamp()
        if kind == FIXED or (kind == state["kind"] and written and state.get("written") == written):
            return False
        differs = any(self._changes())
        for _ in self._wanted():
            pass  # to its checksum
        fresh = isinstance(storage, Overlay) and not any(storage.runs(0, storage.size))
        if differs and not fresh and not over:
            raise UsageError(
                f"{disk.name} has been written to since: give it a new overlay ({disk.name},overlay=FILE), "
                "or write over what it holds now by --rewind-disks"
            )
        return differs

    def put(self) -> None:
        for change in self._changes():
            change()
        self._disk.storage.flush()

    def _changes(self) -> Iterator[Callable[[], object]]:
        """What makes the disk hold what it is to hold, piece by piece."""
        storage, done = self._disk.storage, 0
        for offset, length, data in self._wanted():
            yield from self._gap(done, offset)
            done = offset + length
            now = bytearray(length)
            storage.read_into(offset, memoryview(now))
            if data is None and _filled(now):
                yield partial(storage.zero, offset, length)
            elif data is not None and now != data:
                yield partial(storage.write_from, offset, memoryview(data))
        yield from self._gap(done, storage.size)

    def _gap(self, start: int, stop: int) -> Iterator[Callable[[], object]]:
        """Of what the checkpoint does not have: it is as in the image below, or zero."""
        if start == stop:
            return
        storage = self._disk.storage
        overlay = storage if isinstance(storage, Overlay) else None
        if self._state["kind"] == CHANGES and overlay is not None:
            for low, high in overlay.runs(start, stop):
                yield partial(overlay.revert, low, high)
            return
        held = [(start, stop)] if overlay is not None else self._disk.file.extents(start, stop)
        for offset, data in _read(storage, held):
            if _filled(data):
                yield partial(storage.zero, offset, len(data))

    def _wanted(self) -> Iterator[tuple[int, int, bytes | None]]:
        """(offset, length, contents or None: zeros) of what the checkpoint has."""
        size = self._disk.storage.size
        with self._archive.open(self._name) as data:
            for first, count, filled in _runs(self._state, -(-size // BLOCK)):
                end = min((first + count) * BLOCK, size)
                for offset in range(first * BLOCK, end, PIECE):
                    length = min(PIECE, end - offset)
                    found = data.read(length) if filled else None
                    if found is not None and len(found) != length:
                        raise ValueError(f"{self._name} is cut off")
                    yield offset, length, found
            if data.read(1):
                raise ValueError(f"{self._name} is longer than it says")


def _recognised(file: HostFile, state: Any) -> bool:
    if state.get("file") and state["file"] == file.stamp():
        return True
    return bool(state.get("sha256")) and file.size <= MOST_HASHED and state["sha256"] == digest(file)


def _runs(state: Any, blocks: int) -> Iterator[Run]:
    """Raises ValueError for what no disk of so many blocks has."""
    found, done = state.get("runs"), 0
    if type(found) is not list:
        raise ValueError("the blocks of a disk are missing")
    for each in found:
        if type(each) is not list or len(each) != 3 or any(type(word) is not int for word in each) or each[2] not in (0, 1):
            raise ValueError("the blocks of a disk are no numbers")
        first, count, filled = each
        if first < done or count <= 0 or first + count > blocks:
            raise ValueError("the blocks of a disk are out of order, or outside it")
        done = first + count
        yield first, count, bool(filled)
