"""A host directory for a guest: `--share DIR:TAG[:ro]`.

Every path is resolved name by name from the directory's own descriptor, with O_NOFOLLOW, so no symbolic link, made by whomever,
leads out of it. Only regular files are opened; set-user-ID bits and device files are never made. The guest acts with the rights
of whoever started us.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from trapline.cli.options import UsageError
from trapline.machine.riscv.devices.share import Attributes, Path, ShareError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: of the flags that a guest gives, those that are passed on: access mode, CREAT, EXCL, TRUNC, APPEND, numbered as on x86-64
_FLAGS = 0o3 | 0o100 | 0o200 | 0o1000 | 0o2000


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ShareError(error.errno or errno.EINVAL) from None
    except (ValueError, OverflowError):
        raise ShareError(errno.EINVAL) from None


def _attributes(found: os.stat_result) -> Attributes:
    return Attributes(*(getattr(found, name) for name in Attributes._fields))


class HostFile:
    """An open regular file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, offset: int, count: int) -> bytes:
        with _errors():
            return os.pread(self._fd, count, offset)

    def write(self, offset: int, data: bytes) -> int:
        with _errors():
            return os.pwrite(self._fd, data, offset)

    def stat(self) -> Attributes:
        with _errors():
            return _attributes(os.fstat(self._fd))

    def sync(self) -> None:
        with _errors():
            os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Directory:
    """The tree below a host directory."""

    def __init__(self, path: str, *, read_only: bool) -> None:
        self.read_only = read_only
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._root)

    @contextmanager
    def _open(self, path: Path) -> Iterator[int]:
        """A descriptor of the directory at `path`."""
        with _errors():
            fd = os.dup(self._root)
            try:
                for name in path:
                    inner = os.open(name, _DIRECTORY, dir_fd=fd)
                    os.close(fd)
                    fd = inner
                yield fd
            finally:
                os.close(fd)

    @contextmanager
    def _in(self, path: Path) -> Iterator[tuple[int, bytes]]:
        """(descriptor of the directory that holds `path`, its name there)."""
        if not path:
            raise ShareError(errno.EPERM)
        with self._open(path[:-1]) as fd:
            yield fd, path[-1]

    def stat(self, path: Path) -> Attributes:
        if not path:
            with _errors():
                return _attributes(os.fstat(self._root))
        with self._in(path) as (fd, name):
            return _attributes(os.stat(name, dir_fd=fd, follow_symlinks=False))

    def open(self, path: Path, flags: int) -> HostFile:
        with self._in(path) as (fd, name):
            return self._regular(os.open(name, self._safe(flags & ~(os.O_CREAT | os.O_EXCL)), dir_fd=fd))

    def create(self, path: Path, flags: int, mode: int) -> HostFile:
        with self._in(path) as (fd, name):
            return self._regular(os.open(name, self._safe(flags | os.O_CREAT), mode, dir_fd=fd))

    @staticmethod
    def _safe(flags: int) -> int:
        return flags & _FLAGS & ~os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

    @staticmethod
    def _regular(fd: int) -> HostFile:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ShareError(errno.EPERM)
        return HostFile(fd)

    def entries(self, path: Path) -> list[tuple[bytes, int, int]]:
        with self._open(path) as fd, os.scandir(fd) as found:
            return sorted((os.fsencode(each.name), each.inode(), self._type(each)) for each in found)

    @staticmethod
    def _type(entry: os.DirEntry[str]) -> int:
        return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) >> 12

    def readlink(self, path: Path) -> bytes:
        with self._in(path) as (fd, name):
            return os.readlink(name, dir_fd=fd)

    def symlink(self, path: Path, target: bytes) -> None:
        with self._in(path) as (fd, name):
            os.symlink(target, name, dir_fd=fd)

    def link(self, path: Path, old: Path) -> None:
        with self._in(path) as (fd, name), self._in(old) as (old_fd, old_name):
            os.link(old_name, name, src_dir_fd=old_fd, dst_dir_fd=fd, follow_symlinks=False)

    def mkdir(self, path: Path, mode: int) -> None:
        with self._in(path) as (fd, name):
            os.mkdir(name, mode, dir_fd=fd)

    def unlink(self, path: Path, *, directory: bool) -> None:
        with self._in(path) as (fd, name):
            (os.rmdir if directory else os.unlink)(name, dir_fd=fd)

    def rename(self, old: Path, new: Path) -> None:
        with self._in(old) as (old_fd, old_name), self._in(new) as (fd, name):
            os.rename(old_name, name, src_dir_fd=old_fd, dst_dir_fd=fd)

    @contextmanager
    def _itself(self, path: Path, flags: int) -> Iterator[int]:
        """A descriptor of a regular file or a directory, whose attributes are to be changed."""
        if not path:
            yield self._root
            return
        with self._in(path) as (fd, name):
            found = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=fd)
            try:
                if not stat.S_ISREG(os.fstat(found).st_mode) and not stat.S_ISDIR(os.fstat(found).st_mode):
                    raise ShareError(errno.EPERM)
                yield found
            finally:
                os.close(found)

    def chmod(self, path: Path, mode: int) -> None:
        with self._itself(path, os.O_RDONLY) as fd, _errors():
            os.fchmod(fd, mode)

    def chown(self, path: Path, uid: int, gid: int) -> None:
        with self._in(path) as (fd, name):
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)

    def truncate(self, path: Path, size: int) -> None:
        with self._itself(path, os.O_WRONLY) as fd, _errors():
            os.ftruncate(fd, size)

    def utime(self, path: Path, atime_ns: int | None, mtime_ns: int | None) -> None:
        import time

        now = time.time_ns()
        times = now if atime_ns is None else atime_ns, now if mtime_ns is None else mtime_ns
        if not path:
            with _errors():
                os.utime(self._root, ns=times)
            return
        with self._in(path) as (fd, name):
            os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)

    def statfs(self) -> tuple[int, int, int, int, int, int]:
        with _errors():
            found = os.fstatvfs(self._root)
        return found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree


def share(text: str) -> tuple[Directory, str]:
    """What `--share DIR:TAG[:ro]` asks for: (directory, tag). Raises UsageError."""
    path, _, rest = text.partition(":")
    tag, colon, mode = rest.partition(":")
    if not path or not tag or (colon and mode not in ("ro", "rw")) or len(tag.encode()) > 31:
        raise UsageError(f"--share {text}: write --share DIR:TAG, and :ro after it to let the guest only read")
    try:
        return Directory(path, read_only=mode == "ro"), tag
    except OSError as error:
        raise UsageError(f"--share {path}: {error.strerror}") from None
