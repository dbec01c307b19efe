"""Writing what a program changed (the upper layer of the overlay) to the host: to a new directory, or to a tar archive.

The form is that of image layers: files as they are now; an empty file `.wh.NAME` for a name that was removed; an empty
file `.wh..wh..opq` in a directory that hides all of the lower one. Names of the guest that begin with `.wh.` cannot be
told from these and are left out, with a line on the log.

Into a directory, owners are set only by root, set-id bits are dropped, and devices, FIFOs and sockets are left out: a layer
of a program we do not trust must be harmless where it lies. An archive says everything but sockets.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO, RawIOBase
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, major, minor
from trapline.kernel.fs.layer import OPAQUE, OPAQUE_NAME, WHITEOUT_PREFIX, Change, changes, content
from trapline.kernel.fs.memory import MemInode

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.overlay import OverlayFs

_COMPRESSION = {".gz": "gz", ".tgz": "gz", ".xz": "xz", ".bz2": "bz2"}
_TYPES = {S_IFREG: tarfile.REGTYPE, S_IFDIR: tarfile.DIRTYPE, S_IFLNK: tarfile.SYMTYPE, S_IFIFO: tarfile.FIFOTYPE,
          S_IFCHR: tarfile.CHRTYPE, S_IFBLK: tarfile.BLKTYPE}  # fmt: skip


def save_overlay(overlay: OverlayFs, destination: str, log: Callable[[str], None]) -> int:
    """Write the upper layer; how many changes it has. A name with .tar in it (or .tgz) makes an archive. Raises OSError."""
    name = os.path.basename(destination)
    if ".tar" in name or name.endswith(".tgz"):
        return _save_tar(overlay, destination, log)
    return _save_directory(overlay, destination, log)


def _sound(overlay: OverlayFs, log: Callable[[str], None]) -> Iterator[Change]:
    """The changes, without names that would be taken for whiteouts."""
    for each in changes(overlay):
        if any(part.startswith(WHITEOUT_PREFIX) for part in each.path.split(b"/")):
            log(f"save: {each.path.decode(errors='replace')!r} is left out: its name means a whiteout")
        else:
            yield each


def _marker(change: Change) -> bytes:
    """The name of the empty file that stands for a whiteout or an opaque directory."""
    if change.what == OPAQUE:
        return change.path + b"/" + OPAQUE_NAME if change.path else OPAQUE_NAME
    head, slash, tail = change.path.rpartition(b"/")
    return head + slash + WHITEOUT_PREFIX + tail


# ---- to a directory


def _save_directory(overlay: OverlayFs, destination: str, log: Callable[[str], None]) -> int:
    os.makedirs(destination, exist_ok=True)
    top = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.listdir(top):
            raise FileExistsError(f"{destination} is not empty")
        return _DirectoryWriter(top, log).write(_sound(overlay, log))
    finally:
        os.close(top)


class _DirectoryWriter:
    """Writes below `top`, where there is nothing but what it made itself."""

    def __init__(self, top: int, log: Callable[[str], None]) -> None:
        self._top = top
        self._log = log
        self._first: dict[Inode, bytes] = {}  # of files with several names: the first one

    def write(self, found: Iterator[Change]) -> int:
        count = 0
        directories: list[tuple[bytes, Inode]] = []
        for each in found:
            count += 1
            if each.what:
                os.close(self._new_file(_marker(each)))
            elif each.inode is not None and each.inode.mode & S_IFMT == S_IFDIR:
                if each.path:
                    os.mkdir(each.path, 0o700, dir_fd=self._top)
                directories.append((each.path, each.inode))
            elif each.inode is not None:
                self._add(each.path, each.inode)
        for path, inode in reversed(directories):
            self._attributes(path or b".", inode)
        return count

    def _new_file(self, path: bytes) -> int:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self._top)

    def _add(self, path: bytes, inode: Inode) -> None:
        kind = inode.mode & S_IFMT
        if inode in self._first:
            os.link(self._first[inode], path, src_dir_fd=self._top, dst_dir_fd=self._top, follow_symlinks=False)
            return
        if kind == S_IFLNK:
            os.symlink(inode.readlink(), path, dir_fd=self._top)
        elif kind == S_IFREG:
            fd = self._new_file(path)
            try:
                for data in content(inode):
                    os.write(fd, data)
            finally:
                os.close(fd)
        else:
            self._log(f"save: {path.decode(errors='replace')!r} is left out: a device, FIFO or socket")
            return
        if inode.nlink > 1:
            self._first[inode] = path
        self._attributes(path, inode)

    def _attributes(self, path: bytes, inode: Inode) -> None:
        if os.geteuid() == 0:
            os.chown(path, inode.uid, inode.gid, dir_fd=self._top, follow_symlinks=False)
        if inode.mode & S_IFMT != S_IFLNK:
            keep = 0o1777 if inode.mode & S_IFMT == S_IFDIR else 0o777
            os.chmod(path, inode.mode & keep, dir_fd=self._top)
        os.utime(path, ns=(inode.atime_ns, inode.mtime_ns), dir_fd=self._top, follow_symlinks=False)


# ---- to an archive


def _save_tar(overlay: OverlayFs, destination: str, log: Callable[[str], None]) -> int:
    compression = _COMPRESSION.get(os.path.splitext(destination)[1], "")
    first: dict[Inode, str] = {}
    count = 0
    mode: Any = f"w:{compression}"
    with tarfile.open(destination, mode, format=tarfile.PAX_FORMAT) as tar:
        for each in _sound(overlay, log):
            count += 1
            if each.what:
                tar.addfile(tarfile.TarInfo(_text(_marker(each))), BytesIO())
                continue
            assert each.inode is not None
            info = _member(each.path, each.inode, first)
            if info is None:
                log(f"save: {each.path.decode(errors='replace')!r} is left out: a socket")
            else:
                tar.addfile(info, _Content(each.inode) if info.size else None)
    return count


def _text(path: bytes) -> str:
    return path.decode(errors="surrogateescape")


def _member(path: bytes, inode: Inode, first: dict[Inode, str]) -> tarfile.TarInfo | None:
    kind = inode.mode & S_IFMT
    if kind not in _TYPES:
        return None
    info = tarfile.TarInfo(_text(path) or ".")
    info.type = _TYPES[kind]
    info.mode = inode.mode & 0o7777
    info.uid, info.gid = inode.uid, inode.gid
    info.mtime = inode.mtime_ns / 1_000_000_000  # pax headers hold fractions
    if inode in first:
        info.type = tarfile.LNKTYPE
        info.linkname = first[inode]
        return info
    if inode.nlink > 1 and kind != S_IFDIR:
        first[inode] = info.name
    if kind == S_IFLNK:
        info.linkname = _text(inode.readlink())
    elif kind == S_IFREG:
        cache = inode.cache()
        info.size = cache.size if cache is not None else 0
    elif kind in (S_IFCHR, S_IFBLK):
        info.devmajor, info.devminor = major(inode.rdev), minor(inode.rdev)
    if isinstance(inode, MemInode) and (names := inode.listxattr()):
        info.pax_headers = {"SCHILY.xattr." + _text(name): _text(inode.getxattr(name)) for name in names}
    return info


class _Content(RawIOBase):
    """The data of an inode, as a stream."""

    def __init__(self, inode: Inode) -> None:
        super().__init__()
        self._inode = inode
        self._offset = 0

    def read(self, size: int = -1) -> bytes:
        cache = self._inode.cache()
        assert cache is not None
        data = cache.read(self._offset, size if size >= 0 else cache.size)
        self._offset += len(data)
        return data
