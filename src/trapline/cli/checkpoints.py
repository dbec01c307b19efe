"""Checkpoints of a machine in files: `trapline boot --save FILE`, `--restore FILE`.

The file is a zip archive, whose checksums zip keeps:

    state.json    {"format": "trapline checkpoint", "version": 4, "board": everything but memory,
                   "runs": [[first piece, pieces], ...], "programs": [[address, bytes, length in memory], ...]}
    memory        the pieces of RAM that are not zero (16 KiB each), one after the other, as `runs` has them
    programs      what a reset of the machine puts into RAM, one after the other
    disk0 ...     blocks of disks and flash banks (`kept_disks.py`), as board.disks has them

Invariant: a file is trusted no further than its sizes have been checked; what it says is checked again by whoever loads it.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from trapline.typed import TYPE_CHECKING, Any, TypeVar

from trapline.cli.options import UsageError
from trapline.machine.riscv.devices.storage import StorageError

if TYPE_CHECKING:
    from trapline.cli.disks import Disk
    from trapline.machine.riscv.checkpoint import Checkpoint

FORMAT, VERSION = "trapline checkpoint", 4
MOST_STATE = 256 << 20  #: bytes of state.json
MOST_MEMORY = 1 << 40

Result = TypeVar("Result")


def save(path: str, checkpoint: Checkpoint, disks: Sequence[Disk] = ()) -> None:
    """Write a checkpoint and what its disks hold; the file appears when it is whole, for its owner alone. Raises OSError."""
    from trapline.cli.kept_disks import Kept

    numbers = sorted(checkpoint.memory)
    runs: list[list[int]] = []
    for n in numbers:
        if runs and sum(runs[-1]) == n:
            runs[-1][1] += 1
        else:
            runs.append([n, 1])
    programs = [[address, len(data), length] for address, data, length in checkpoint.programs]
    part = f"{path}.{os.getpid()}.part"
    try:
        with (
            open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            _write(archive, "memory", (checkpoint.memory[n] for n in numbers))
            _write(archive, "programs", (data for _, data, _ in checkpoint.programs))
            kept = [Kept(disk) for disk in disks]
            for n, disk in enumerate(kept):
                _write(archive, f"disk{n}", disk.pieces())
            board = {**checkpoint.state, "disks": [disk.state() for disk in kept]}
            state = {"format": FORMAT, "version": VERSION, "board": board, "runs": runs, "programs": programs}
            archive.writestr("state.json", json.dumps(state))
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _write(archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes]) -> None:
    with archive.open(name, "w", force_zip64=True) as out:
        for piece in pieces:
            out.write(piece)


def read(path: str) -> Checkpoint:
    """Raises UsageError if there is none in the file, or not a whole one."""
    return _with(path, _read)


def restore_disks(path: str, checkpoint: Checkpoint, disks: Sequence[Disk], *, over: bool) -> None:
    """Let disks hold what they held, as kept_disks.py says. Raises UsageError."""
    from trapline.cli.kept_disks import restore

    _with(path, partial(restore, states=checkpoint.state.get("disks"), disks=disks, over=over))


def _with(path: str, act: Callable[[zipfile.ZipFile], Result]) -> Result:
    """Do something with a file that may be damaged. Raises UsageError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return act(archive)
    except UsageError as error:
        raise UsageError(f"--restore {path}: {error}") from None
    except OSError as error:
        raise UsageError(f"--restore {path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"--restore {path}: not a checkpoint, or a damaged one: {error}") from None
    except (ValueError, StorageError) as error:
        raise UsageError(f"--restore {path}: {error}") from None


def _read(archive: zipfile.ZipFile) -> Checkpoint:
    """Raises ValueError, and what zipfile raises."""
    from trapline.machine.riscv.checkpoint import PIECE, Checkpoint

    text = _member(archive, "state.json", MOST_STATE)
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its state is no JSON") from None
    if type(state) is not dict or state.get("format") != FORMAT:
        raise ValueError("not a checkpoint of ours")
    if state.get("version") != VERSION:
        raise ValueError(f"a checkpoint of version {str(state.get('version'))[:20]}; this is for version {VERSION}")
    board = state.get("board")
    size = board.get("memory") if type(board) is dict else None
    if type(board) is not dict or type(size) is not int or not 0 < size <= MOST_MEMORY:
        raise ValueError("it does not say how much memory the board has")
    runs, programs = _triples(state, "runs", 2), _triples(state, "programs", 3)
    if any(first + count > size // PIECE for first, count in runs) or sum(count for _, count in runs) > size // PIECE:
        raise ValueError("there is more memory than the board has")
    if sum(each[1] for each in programs) > size:
        raise ValueError("its programs do not fit into memory")
    data = memoryview(_member(archive, "memory", sum(count for _, count in runs) * PIECE, exact=True))
    memory: dict[int, bytes] = {}
    for first, count in runs:
        for n in range(first, first + count):
            memory[n] = bytes(data[len(memory) * PIECE : (len(memory) + 1) * PIECE]) if n not in memory else b""
    if len(memory) * PIECE != len(data):
        raise ValueError("a piece of memory is there twice")
    images = _member(archive, "programs", sum(each[1] for each in programs), exact=True)
    pieces, start = [], 0
    for address, count, length in programs:
        pieces.append((address, images[start : start + count], length))
        start += count
    return Checkpoint(board, memory, pieces)


def _member(archive: zipfile.ZipFile, name: str, most: int, *, exact: bool = False) -> bytes:
    """The contents of a file of the archive, at most so many bytes, or exactly."""
    with archive.open(name) as file:
        data = file.read(most)
        if file.read(1) or (exact and len(data) != most):
            raise ValueError(f"{name}: not the {most} bytes that are expected")
    return data


def _triples(state: dict[str, Any], name: str, parts: int) -> list[list[int]]:
    """A list of lists of so many numbers."""
    found = state.get(name)
    if type(found) is not list:
        raise ValueError(f"{name} is missing")
    for each in found:
        if type(each) is not list or len(each) != parts or any(type(n) is not int or not 0 <= n < 1 << 64 for n in each):
            raise ValueError(f"{name}: an entry has {parts} numbers")
    return found
