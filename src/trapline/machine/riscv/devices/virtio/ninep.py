"""NineP: a directory shared by the 9P2000.L protocol.

Sources: Virtual I/O Device Specification, "9P Transport"; the Plan 9 manual, section 5; the .L messages as Linux sends them.

What a fid stands for is a path of names below the shared directory, never a host path: `Share` resolves it name by name without
following symbolic links, which are the client's to follow. Set-user-ID bits and device files are never made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from trapline.machine.riscv.devices.saved import BadState, State
from trapline.machine.riscv.devices.share import Attributes, File, Path, Share, ShareError
from trapline.machine.riscv.devices.virtio.queue import gather, scatter
from trapline.machine.riscv.devices.virtio.transport import Transport

F_MOUNT_TAG = 1
MSIZE = 256 << 10  #: bytes of a message, at most
MAX_FIDS, MAX_NAMES, MAX_NAME = 4096, 16, 255
REQUESTS = 16  #: before the harts run again
EPERM, ENOENT, EIO, EBADF, EINVAL, EMFILE, EROFS, EPROTO, EOPNOTSUPP = 1, 2, 5, 9, 22, 24, 30, 71, 95
QT_DIR, QT_SYMLINK = 0x80, 0x02
S_IFMT, S_IFDIR, S_IFLNK = 0o170000, 0o040000, 0o120000
O_WRITING = 0o3103  # beyond reading: WRONLY, RDWR, CREAT, TRUNC, APPEND
_RLERROR = 7
_HEADER = struct.Struct("<IBH")
_BASIC = 0x7FF  # the attributes that getattr has
#: of Tsetattr
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_ATIME_TO, SET_MTIME_TO = 1, 2, 4, 8, 16, 32, 128, 256

class Fid:
    """What the client's number stands for. `file`: once it is open; `listing`: of a directory, once it has been read from."""

    __slots__ = ("file", "listing", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: File | None = None
        self.listing: list[tuple[bytes, int, int]] | None = None


class Reader:
    """The fields of a message, one after the other. Raises ShareError for a message that is too short."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, _HEADER.size

    def take(self, shape: str) -> tuple[int, ...]:
        """Numbers, as struct has them."""
        size = struct.calcsize("<" + shape)
        return struct.unpack("<" + shape, self.raw(size))

    def number(self, shape: str = "I") -> int:
        return self.take(shape)[0]

    def raw(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise ShareError(EPROTO)
        self._at += count
        return self._data[self._at - count : self._at]

    def text(self) -> bytes:
        return self.raw(self.number("H"))

    def name(self) -> bytes:
        """One name in a directory."""
        name = self.text()
        if not name or len(name) > MAX_NAME or b"/" in name or b"\0" in name or name in (b".", b".."):
            raise ShareError(EINVAL)
        return name


def text(data: bytes) -> bytes:
    """A counted string."""
    return struct.pack("<H", len(data)) + data


class Server:
    """The protocol, over one share."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._msize = MSIZE
        self._fids: dict[int, Fid] = {}
        self._actions: dict[int, Callable[[Reader], bytes]] = {
            8: self._statfs, 12: self._lopen, 14: self._lcreate, 16: self._symlink, 20: self._rename, 22: self._readlink,
            24: self._getattr, 26: self._setattr, 40: self._readdir, 50: self._fsync, 52: self._lock, 54: self._getlock,
            70: self._link, 72: self._mkdir, 74: self._renameat, 76: self._unlinkat, 100: self._version, 104: self._attach,
            108: self._flush, 110: self._walk, 116: self._read, 118: self._write, 120: self._clunk, 122: self._remove,
        }  # fmt: skip

    def reset(self) -> None:
        """No fid stands for anything."""
        for fid in self._fids.values():
            if fid.file is not None:
                fid.file.close()
        self._fids.clear()

    def handle(self, message: bytes) -> bytes:
        """The reply to a message, whatever that is."""
        if len(message) < _HEADER.size:
            return b""
        size, kind, tag = _HEADER.unpack_from(message)
        try:
            if size > len(message):
                raise ShareError(EPROTO)
            action = self._actions.get(kind)
            if action is None:  # authentication, extended attributes, device files
                raise ShareError(EPERM if kind == 18 else EOPNOTSUPP)
            body = action(Reader(message[:size]))
            kind += 1
        except ShareError as error:
            kind, body = _RLERROR, struct.pack("<I", error.errno)
        return _HEADER.pack(_HEADER.size + len(body), kind, tag) + body

    # ---- fids

    def _fid(self, number: int) -> Fid:
        fid = self._fids.get(number)
        if fid is None:
            raise ShareError(EBADF)
        return fid

    def _new(self, number: int, path: Path) -> None:
        if number in self._fids:
            raise ShareError(EBADF)
        if len(self._fids) >= MAX_FIDS:
            raise ShareError(EMFILE)
        self._fids[number] = Fid(path)

    def _file(self, reader: Reader) -> File:
        file = self._fid(reader.number()).file
        if file is None:
            raise ShareError(EBADF)
        return file

    def _changes(self) -> None:
        if self._share.read_only:
            raise ShareError(EROFS)

    def _qid(self, path: Path) -> bytes:
        return _qid(self._share.stat(path))

    def _version(self, reader: Reader) -> bytes:
        msize, version = reader.number(), reader.text()
        self.reset()
        self._msize = min(msize, MSIZE)
        if self._msize < 4096:
            raise ShareError(EINVAL)
        return struct.pack("<I", self._msize) + text(b"9P2000.L" if version == b"9P2000.L" else b"unknown")

    def _attach(self, reader: Reader) -> bytes:
        number = reader.number()
        qid = self._qid(())
        self._new(number, ())
        return qid

    def _walk(self, reader: Reader) -> bytes:
        number, new, count = reader.take("IIH")
        fid = self._fid(number)
        if count > MAX_NAMES or fid.file is not None:
            raise ShareError(EINVAL)
        path, qids = fid.path, []
        for _ in range(count):
            name = reader.text()
            path = path[:-1] if name == b".." else (*path, _checked(name))
            try:
                qids.append(self._qid(path))
            except ShareError:
                if not qids:
                    raise
                return struct.pack("<H", len(qids)) + b"".join(qids)  # as far as it went; the new fid is not made
        if new == number:
            fid.path = path
        else:
            self._new(new, path)
        return struct.pack("<H", count) + b"".join(qids)

    def _clunk(self, reader: Reader) -> bytes:
        number = reader.number()
        fid = self._fid(number)
        del self._fids[number]
        if fid.file is not None:
            fid.file.close()
        return b""

    def _flush(self, reader: Reader) -> bytes:
        return b""  # every request is answered before the next one is looked at

    # ---- files

    def _lopen(self, reader: Reader) -> bytes:
        number, flags = reader.take("II")
        fid = self._fid(number)
        if fid.file is not None:
            raise ShareError(EBADF)
        if flags & O_WRITING:
            self._changes()
        attributes = self._share.stat(fid.path)
        if attributes.st_mode & S_IFMT != S_IFDIR:
            fid.file = self._share.open(fid.path, flags)
        return _qid(attributes) + bytes(4)

    def _lcreate(self, reader: Reader) -> bytes:
        fid, name = self._fid(reader.number()), reader.name()
        flags, mode, _ = reader.take("III")
        self._changes()
        if fid.file is not None:
            raise ShareError(EBADF)
        path = (*fid.path, name)
        fid.file = self._share.create(path, flags, mode & 0o777)
        fid.path = path
        return _qid(fid.file.stat()) + bytes(4)

    def _read(self, reader: Reader) -> bytes:
        file = self._file(reader)
        offset, count = reader.take("QI")
        data = file.read(offset, min(count, self._msize - 24))
        return struct.pack("<I", len(data)) + data

    def _write(self, reader: Reader) -> bytes:
        file = self._file(reader)
        offset, count = reader.take("QI")
        self._changes()
        return struct.pack("<I", file.write(offset, reader.raw(count)))

    def _fsync(self, reader: Reader) -> bytes:
        fid = self._fid(reader.number())
        if fid.file is not None:
            fid.file.sync()
        return b""

    def _lock(self, reader: Reader) -> bytes:
        self._fid(reader.number())
        return b"\0"  # granted: there is one client, which keeps its own locks

    def _getlock(self, reader: Reader) -> bytes:
        self._fid(reader.number())
        _, start, length, pid = reader.take("BQQI")
        return struct.pack("<BQQI", 2, start, length, pid) + text(reader.text())  # nobody holds one

    # ---- directories and attributes

    def _readdir(self, reader: Reader) -> bytes:
        fid = self._fid(reader.number())
        offset, count = reader.take("QI")
        if fid.listing is None or not offset:
            fid.listing = [(b".", 0, 4), (b"..", 0, 4), *self._share.entries(fid.path)]
        body = bytearray()
        room = min(count, self._msize - 24)
        for at, (name, inode, kind) in enumerate(fid.listing[offset:], offset + 1):
            qid = {4: QT_DIR, 10: QT_SYMLINK}.get(kind, 0)
            entry = struct.pack("<BIQQB", qid, 0, inode, at, kind) + text(name)
            if len(body) + len(entry) > room:
                break
            body += entry
        return struct.pack("<I", len(body)) + bytes(body)

    def _getattr(self, reader: Reader) -> bytes:
        fid = self._fid(reader.number())
        found = fid.file.stat() if fid.file is not None else self._share.stat(fid.path)
        times = [part for ns in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) for part in divmod(ns, 10**9)]
        return struct.pack("<Q", _BASIC) + _qid(found) + struct.pack(
            "<IIIQQQQQ", found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_rdev, found.st_size,
            found.st_blksize, found.st_blocks,
        ) + struct.pack("<10Q", *(each & (1 << 64) - 1 for each in times), 0, 0, 0, 0)  # fmt: skip

    def _setattr(self, reader: Reader) -> bytes:
        path = self._fid(reader.number()).path
        valid, mode, uid, gid, size, asec, ansec, msec, mnsec = reader.take("IIIIQQQQQ")
        self._changes()
        share = self._share
        if valid & SET_MODE:
            share.chmod(path, mode & 0o1777)
        if valid & (SET_UID | SET_GID):
            share.chown(path, uid if valid & SET_UID else -1, gid if valid & SET_GID else -1)
        if valid & SET_SIZE:
            share.truncate(path, size)
        if valid & (SET_ATIME | SET_MTIME):
            now = share.stat(path)
            atime = (asec * 10**9 + ansec if valid & SET_ATIME_TO else None) if valid & SET_ATIME else now.st_atime_ns
            mtime = (msec * 10**9 + mnsec if valid & SET_MTIME_TO else None) if valid & SET_MTIME else now.st_mtime_ns
            share.utime(path, atime, mtime)
        return b""

    def _statfs(self, reader: Reader) -> bytes:
        self._fid(reader.number())
        size, *counts = self._share.statfs()
        return struct.pack("<II6QI", 0x0102_1997, size, *counts, 0, MAX_NAME)

    def _readlink(self, reader: Reader) -> bytes:
        return text(self._share.readlink(self._fid(reader.number()).path))

    # ---- names

    def _place(self, reader: Reader) -> Path:
        """The path of a name in a directory."""
        return (*self._fid(reader.number()).path, reader.name())

    def _symlink(self, reader: Reader) -> bytes:
        path, target = self._place(reader), reader.text()
        self._changes()
        self._share.symlink(path, target)
        return self._qid(path)

    def _link(self, reader: Reader) -> bytes:
        directory, old = reader.take("II")
        path = (*self._fid(directory).path, reader.name())
        self._changes()
        self._share.link(path, self._fid(old).path)
        return b""

    def _mkdir(self, reader: Reader) -> bytes:
        path, mode = self._place(reader), reader.number()
        self._changes()
        self._share.mkdir(path, mode & 0o1777)
        return self._qid(path)

    def _unlinkat(self, reader: Reader) -> bytes:
        path, flags = self._place(reader), reader.number()
        self._changes()
        self._share.unlink(path, directory=bool(flags & 0x200))  # AT_REMOVEDIR
        return b""

    def _remove(self, reader: Reader) -> bytes:
        number = reader.number()
        path = self._fid(number).path
        try:
            self._changes()
            if not path:
                raise ShareError(EPERM)
            self._share.unlink(path, directory=self._share.stat(path).st_mode & S_IFMT == S_IFDIR)
        finally:
            fid = self._fids.pop(number)
            if fid.file is not None:
                fid.file.close()
        return b""

    def _rename(self, reader: Reader) -> bytes:
        old, directory = reader.take("II")
        self._move(self._fid(old).path, (*self._fid(directory).path, reader.name()))
        return b""

    def _renameat(self, reader: Reader) -> bytes:
        self._move(self._place(reader), self._place(reader))
        return b""

    def _move(self, old: Path, new: Path) -> None:
        self._changes()
        if not old:
            raise ShareError(EPERM)
        self._share.rename(old, new)
        for fid in self._fids.values():
            if fid.path[: len(old)] == old:
                fid.path = new + fid.path[len(old) :]


def _checked(name: bytes) -> bytes:
    if not name or len(name) > MAX_NAME or b"/" in name or b"\0" in name:
        raise ShareError(ENOENT)
    if name == b".":
        raise ShareError(EINVAL)
    return name


def _qid(found: Attributes) -> bytes:
    kind = {S_IFDIR: QT_DIR, S_IFLNK: QT_SYMLINK}.get(found.st_mode & S_IFMT, 0)
    version = found.st_mtime_ns & 0xFFFF_FFFF
    return struct.pack("<BIQ", kind, version, (found.st_ino ^ found.st_dev << 40) & (1 << 64) - 1)


class NineP:
    """The device: `tag` is what the guest mounts."""

    device_id = 9
    features = F_MOUNT_TAG
    queues = 1
    delays: dict[int, int] = {}
    patience: dict[int, int] = {}

    def __init__(self, share: Share, tag: str) -> None:
        self._server = Server(share)
        self._tag = tag.encode()

    def attach(self, transport: Transport) -> None:
        self._transport = transport

    def config(self) -> bytes:
        return text(self._tag)

    def reset(self) -> None:
        self._server.reset()

    def state(self) -> State:
        """Raises BadState: what the guest has open there is the host's, and cannot be kept."""
        raise BadState("a shared directory cannot be in a checkpoint")

    def load(self, state: State) -> None:
        raise BadState("a shared directory cannot be in a checkpoint")

    def work(self, number: int) -> bool:
        queue = self._transport.queues[number]
        for _ in range(REQUESTS):
            chain = queue.take()
            if chain is None:
                return False
            message, _ = gather(chain.readable, MSIZE)
            reply = self._server.handle(message)
            if len(reply) > sum(map(len, chain.writable)):
                tag = int.from_bytes(message[5:7], "little")
                reply = _HEADER.pack(_HEADER.size + 4, _RLERROR, tag) + struct.pack("<I", EIO)
            queue.put(chain, scatter(chain.writable, reply))
        return True
