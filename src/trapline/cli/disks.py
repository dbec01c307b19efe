"""Host files as disks and flash chips: `--drive FILE[,ro][,overlay[=FILE]]`, `--flash FILE[,ro]`.

Only what the command line names is opened. A file that is written to is locked, so that two machines do not share it by
accident.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from trapline.typed import NamedTuple

from trapline.cli.options import UsageError
from trapline.machine.riscv.devices.overlay import Overlay
from trapline.machine.riscv.devices.storage import Storage, StorageError

_ZEROS = memoryview(bytes(1 << 20))
SECTOR = 512
_MOST_VIEWS = 512  #: of one transfer; the host takes 1024


class HostFile:
    """A host file or block device; without a path, a file that goes when it is closed. `grows`: it may get longer, and reads
    as zeros behind its end. Raises OSError; ValueError if it is neither."""

    def __init__(self, path: str, *, read_only: bool, grows: bool = False) -> None:
        flags = os.O_RDONLY if read_only else os.O_RDWR | (os.O_CREAT if grows else 0)
        self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o666) if path else _nameless()
        self.read_only = read_only
        try:
            kind = os.fstat(self._fd).st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
                raise ValueError("neither a file nor a block device")
            fcntl.flock(self._fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
        except BaseException:
            os.close(self._fd)
            raise

    def read_into(self, offset: int, view: memoryview) -> None:
        try:
            while len(view):
                done = os.preadv(self._fd, [view], offset)
                if not done:  # behind the end of a file that grows, or that somebody has cut off
                    view[:] = bytes(len(view))
                    return
                offset, view = offset + done, view[done:]
        except OSError as error:
            raise StorageError(error.strerror) from None

    def write_from(self, offset: int, view: memoryview) -> None:
        try:
            while len(view):
                done = os.pwrite(self._fd, view, offset)
                offset, view = offset + done, view[done:]
        except OSError as error:
            raise StorageError(error.strerror) from None

    def read_many(self, offset: int, views: Sequence[memoryview]) -> None:
        """As one `read_into`, one view after the other."""
        self._many(os.preadv, offset, views, reading=True)

    def write_many(self, offset: int, views: Sequence[memoryview]) -> None:
        """As one `write_from`, one view after the other."""
        self._many(os.pwritev, offset, views, reading=False)

    def _many(self, transfer: Callable[..., int], offset: int, views: Sequence[memoryview], *, reading: bool) -> None:
        rest = deque(views)
        try:
            while rest:
                done = transfer(self._fd, list(islice(rest, _MOST_VIEWS)), offset)
                offset += done
                if not done and reading:
                    for view in rest:
                        view[:] = bytes(len(view))
                    return
                while rest and done >= len(rest[0]):
                    done -= len(rest.popleft())
                if done:
                    rest[0] = rest[0][done:]
        except OSError as error:
            raise StorageError(error.strerror) from None

    def zero(self, offset: int, length: int) -> None:
        """Writes zeros where the file has data, and leaves its holes alone."""
        end = offset + length
        while offset < end:
            try:
                start = os.lseek(self._fd, offset, os.SEEK_DATA)
                stop = os.lseek(self._fd, start, os.SEEK_HOLE)
            except OSError:  # no data from there on; or a device, which has no holes
                start, stop = self._without_holes(offset, end)
            for at in range(min(start, end), min(stop, end), len(_ZEROS)):
                self.write_from(at, _ZEROS[: min(stop, end) - at])
            offset = stop

    def _without_holes(self, offset: int, end: int) -> tuple[int, int]:
        """What to clear of a range in which no data was found: all of it on a device, nothing in a file."""
        try:
            os.lseek(self._fd, 0, os.SEEK_HOLE)
        except OSError:
            return offset, end
        return end, end

    def extents(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(offset, end) of what may not be zero of a range, as far as the host knows."""
        while start < stop:
            try:
                low = os.lseek(self._fd, start, os.SEEK_DATA)
                high = os.lseek(self._fd, low, os.SEEK_HOLE)
            except OSError:
                low, high = self._without_holes(start, stop)
            if low < min(high, stop):
                yield low, min(high, stop)
            start = max(high, start + 1)

    def stamp(self) -> list[int]:
        """Size and time of change (ns); nothing of a device, which has no such time. Raises OSError."""
        found = os.fstat(self._fd)
        return [found.st_size, found.st_mtime_ns] if stat.S_ISREG(found.st_mode) else []

    def flush(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise StorageError(error.strerror) from None

    def close(self) -> None:
        os.close(self._fd)


def _nameless() -> int:
    """A descriptor of an empty file without a name. Raises OSError."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Disk(NamedTuple):
    """A disk or flash bank as it was given: `top` is the file of its overlay."""

    name: str
    storage: Storage
    file: HostFile
    top: HostFile | None = None


def drive(text: str) -> Disk:
    """The disk that `--drive` asks for. Raises UsageError."""
    path, _, rest = text.partition(",")
    read_only, overlay = False, None
    for each in rest.split(",") if rest else ():
        name, equals, value = each.partition("=")
        if each == "ro":
            read_only = True
        elif name == "overlay" and bool(equals) == bool(value):
            overlay = value
        else:
            raise UsageError(f"--drive {text}: write --drive FILE[,ro][,overlay[=FILE]]")
    if read_only and overlay is not None:
        raise UsageError(f"--drive {text}: ro and overlay= exclude each other: a disk with an overlay is never written to")
    with ExitStack() as opened:
        base = _open("--drive", path, read_only=read_only or overlay is not None)
        opened.callback(base.close)
        if base.size % SECTOR or not base.size:
            raise UsageError(f"--drive {path}: its size, {base.size} bytes, is no multiple of {SECTOR}: use truncate(1)")
        disk = Disk(path, base, base)
        if overlay is not None:
            top = _open("--drive overlay", overlay, read_only=False, grows=True)
            opened.callback(top.close)
            try:
                disk = Disk(path, Overlay(base, top), base, top)
            except StorageError as error:
                raise UsageError(f"--drive overlay={overlay}: {error}") from None
        opened.pop_all()
        return disk


def flash(text: str, most: int) -> Disk:
    """The contents of a flash bank of at most `most` bytes. Raises UsageError."""
    path, comma, mode = text.partition(",")
    if comma and mode != "ro":
        raise UsageError(f"--flash {text}: write --flash FILE[,ro]")
    found = _open("--flash", path, read_only=mode == "ro")
    if found.size != most:
        found.close()
        raise UsageError(f"--flash {path}: {found.size} bytes: a bank has {most}: truncate -s {most >> 20}M makes it fit")
    return Disk(path, found, found)


def _open(option: str, path: str, *, read_only: bool, grows: bool = False) -> HostFile:
    try:
        return HostFile(path, read_only=read_only, grows=grows)
    except BlockingIOError:
        raise UsageError(f"{option} {path}: another machine is using it") from None
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from None
    except ValueError as error:  # a name with a zero byte, too
        raise UsageError(f"{option} {path}: {error}") from None
