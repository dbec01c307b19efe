"""The read-write side of the host file system: everything that changes the host below a directory bound rw.

Names are looked up on the host each time. Writes go through: write(2) when it is called, shared mappings when the page
cache writes back. Data is read again when the host's size or modification time is not what our last look or write left.

FIFOs and sockets are made on the host, as names in its tree; what goes through them stays in this kernel, as on a network
file system. Those that were there before can be seen, not opened: nobody on the other side would ever answer.

Refused with EPERM: devices; set-user-id bits, and set-group-id bits on files, because they would mean something to the host.
A file of the host's that has them loses them before anything is written to it.
"""

from __future__ import annotations

import os
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EINVAL, ENFILE, ENOSPC, ENOTSUP, EPERM, EROFS, Errno
from trapline.abi.fcntl import O_ACCMODE, O_DSYNC, O_RDONLY
from trapline.abi.mount import MS_STRICTATIME
from trapline.abi.stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, S_ISGID, S_ISUID
from trapline.kernel.drivers.hostfs import HostDir, HostFile, HostFs, HostInode, HostLink, HostNode, errno_of
from trapline.kernel.fs.devices import open_special
from trapline.kernel.fs.file import File, RegularFile, StrictFile, open_regular
from trapline.kernel.fs.inode import REVALIDATE, Inode
from trapline.kernel.mm.page_cache import PageCache
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.ram import OutOfFrames

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.drivers.hostswap import HostSwap
    from trapline.kernel.fs.mount import Path

MAX_NODES = 4096  #: FIFOs and sockets made in one tree
MAX_ORPHANS = 256  #: open files whose known name was removed, each with a host descriptor


def _refuse_setid(mode: int) -> None:
    if mode & S_ISUID or (mode & S_ISGID and mode & S_IFMT != S_IFDIR):
        raise EPERM("set-id bits are not given to files of the host")


class _Writable(HostInode):
    """Attributes that can be changed."""

    __slots__ = ()

    live = True

    def refresh(self) -> None:
        """Look again; what is gone keeps its last attributes."""
        parent = self.parent
        if parent is None or self.nlink == 0:
            return
        try:
            st = os.stat(self.name, dir_fd=parent.fd(), follow_symlinks=False)
        except OSError:
            return
        if self.is_same(st):
            self.absorb(st)

    def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        if mode is not None and mode != self.mode & 0o7777:
            _refuse_setid(self.mode & S_IFMT | mode)
        if size is not None:
            self.truncate(size)
        try:
            fd = self.handle()
            try:
                self._apply(b"/proc/self/fd/%d" % fd, mode, uid, gid)
                if atime_ns is not None or mtime_ns is not None:
                    times = (self.atime_ns if atime_ns is None else atime_ns, self.mtime_ns if mtime_ns is None else mtime_ns)
                    self._set_times(fd, times)
                self.absorb(os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise errno_of(error) from error

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        if not name.startswith(b"user."):
            raise ENOTSUP
        self.on_host(lambda path: os.setxattr(path, name, value, flags))
        self.refresh()

    def removexattr(self, name: bytes) -> None:
        if not name.startswith(b"user."):
            raise ENOTSUP
        self.on_host(lambda path: os.removexattr(path, name))
        self.refresh()

    def _apply(self, handle: bytes, mode: int | None, uid: int | None, gid: int | None) -> None:
        """chmod and chown through a descriptor's link in proc, which names this very file."""
        if (uid is not None and uid != self.uid) or (gid is not None and gid != self.gid):
            if self.mode & S_IFMT == S_IFLNK:
                raise ENOTSUP
            os.chown(handle, -1 if uid is None else uid, -1 if gid is None else gid)
        if mode is not None and mode != self.mode & 0o7777:
            os.chmod(handle, mode)

    def _set_times(self, fd: int, times: tuple[int, int]) -> None:
        if self.mode & S_IFMT == S_IFLNK:
            assert self.parent is not None
            os.utime(self.name, ns=times, dir_fd=self.parent.fd(), follow_symlinks=False)
        else:
            os.utime(b"/proc/self/fd/%d" % fd, ns=times)


class WritableDir(_Writable, HostDir):
    """A directory whose entries can change at any time."""

    __slots__ = ()

    volatile = REVALIDATE

    def _found(self, name: bytes) -> HostInode:
        found = self.lookup(name)
        assert isinstance(found, HostInode)
        return found

    def _changed(self) -> None:
        self.refresh()

    def create(self, name: bytes, mode: int, creds: Any, rdev: int = 0) -> Inode:
        _refuse_setid(mode)
        if mode & S_IFMT != S_IFREG:
            return self._make_node(name, mode)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, mode & 0o700, dir_fd=self.fd())
            os.fchmod(fd, mode & 0o7777)
        except OSError as error:
            raise errno_of(error) from error
        inode = self.sb.inode_of(os.fstat(fd), self, name)
        self.sb.fds.add((inode, "rw"), fd)
        self._changed()
        return inode

    def _make_node(self, name: bytes, mode: int) -> Inode:
        """A FIFO or socket node; its kernel's side lives as long as the name."""
        kind, nodes = mode & S_IFMT, self.sb.nodes
        if kind not in (S_IFIFO, S_IFSOCK):
            raise EPERM("devices are not made on the host")
        if len(nodes) >= MAX_NODES:
            raise ENOSPC
        try:
            os.mknod(name, kind | mode & 0o700, dir_fd=self.fd())
            st = os.stat(name, dir_fd=self.fd(), follow_symlinks=False)
        except OSError as error:
            raise errno_of(error) from error
        key = st.st_dev, st.st_ino
        inode = nodes[key] = self.sb.inodes[key] = WritableNode(self.sb, st, self, name)
        inode.setattr(mode=mode & 0o7777)
        self._changed()
        return inode

    def mkdir(self, name: bytes, mode: int, creds: Any) -> Inode:
        try:
            os.mkdir(name, mode & 0o700, dir_fd=self.fd())
        except OSError as error:
            raise errno_of(error) from error
        inode = self._found(name)
        inode.setattr(mode=mode & 0o1777)
        self._changed()
        return inode

    def symlink(self, name: bytes, target: bytes, creds: Any) -> Inode:
        try:
            os.symlink(target, name, dir_fd=self.fd())
        except OSError as error:
            raise errno_of(error) from error
        self._changed()
        return self._found(name)

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, HostInode)
        try:
            source = inode.handle() if isinstance(inode, _Writable) else inode.open_host(os.O_PATH)
            try:
                os.link(b"/proc/self/fd/%d" % source, name, dst_dir_fd=self.fd(), follow_symlinks=True)
            finally:
                os.close(source)
        except OSError as error:
            raise errno_of(error) from error
        self._found(name)
        self._changed()

    def unlink(self, name: bytes, inode: Inode) -> None:
        if isinstance(inode, WritableFile) and inode.needs(self, name):
            inode.keep()
        try:
            os.unlink(name, dir_fd=self.fd())
        except OSError as error:
            raise errno_of(error) from error
        inode.nlink -= 1
        self._changed()

    def rmdir(self, name: bytes, inode: Inode) -> None:
        try:
            os.rmdir(name, dir_fd=self.fd())
        except OSError as error:
            raise errno_of(error) from error
        inode.nlink = 0
        self.sb.fds.drop(inode)
        self._changed()

    def rename(self, name: bytes, to: Inode, to_name: bytes, flags: int, creds: Any) -> None:
        if flags & ~1:
            raise EINVAL("only RENAME_NOREPLACE is possible here")
        assert isinstance(to, WritableDir)
        inode = self._found(name)
        try:
            replaced: HostInode | None = to._found(to_name)
        except Errno:
            replaced = None
        if isinstance(replaced, WritableFile) and replaced is not inode and replaced.needs(to, to_name):
            replaced.keep()
        try:
            source = os.dup(self.fd())
            try:
                os.rename(name, to_name, src_dir_fd=source, dst_dir_fd=to.fd())
            finally:
                os.close(source)
        except OSError as error:
            raise errno_of(error) from error
        inode.parent, inode.name = to, to_name
        if replaced is not None:
            replaced.nlink -= 1
        self._changed()
        to._changed()


class WritableFile(_Writable, HostFile):
    """A regular file.

    `seen` is the (size, modification time) the page cache agrees with; `orphan` a descriptor kept after the name went that
    it was known by.
    """

    __slots__ = ("orphan", "seen")

    def __init__(self, sb: HostFs, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        self.seen = (st.st_size, st.st_mtime_ns)
        self.orphan = -1
        super().__init__(sb, st, parent, name)

    def absorb(self, st: os.stat_result) -> None:
        super().absorb(st)
        now = (st.st_size, st.st_mtime_ns)
        if now != self.seen:
            self.seen = now
            if self.page_cache is not None:
                self.page_cache.backing_changed(st.st_size)

    def cache(self) -> PageCache:
        cache = self.page_cache
        if cache is None:
            cache = super().cache()
            cache.writeback = self.write_back
        return cache

    def fd(self) -> int:
        if self.orphan >= 0:
            return self.orphan
        fd = self.sb.fds.get((self, "rw"))
        return fd if fd is not None else super().fd()

    def fd_for_writing(self) -> int:
        """A descriptor for reading and writing; borrowed."""
        if self.orphan >= 0:
            return self.orphan
        fds = self.sb.fds
        fd = fds.get((self, "rw"))
        if fd is None:
            try:
                fd = self.open_host(os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError as error:
                raise errno_of(error) from error
            fds.add((self, "rw"), fd)
        return fd

    def handle(self) -> int:
        return os.dup(self.orphan) if self.orphan >= 0 else super().handle()

    def needs(self, directory: WritableDir, name: bytes) -> bool:
        """It is open, and that entry is its last name or the one that we know it by."""
        return self.opens > 0 and (self.nlink == 1 or (self.parent is directory and self.name == name))

    def keep(self) -> None:
        """The name is about to go while the file is open: keep a descriptor outside the bounded ones."""
        if self.orphan < 0:
            if self.sb.orphans >= MAX_ORPHANS:
                self._let_others_go()
            if self.sb.orphans >= MAX_ORPHANS:
                raise ENFILE
            try:
                self.orphan = os.dup(self.fd_for_writing() if self.writers > 0 else self.fd())
            except OSError as error:
                raise errno_of(error) from error
            self.sb.orphans += 1

    def _disarm(self, fd: int) -> None:
        """Before its content changes, a file loses its set-id bits, whoever writes: they would mean something to the host."""
        if self.mode & (S_ISUID | S_ISGID):
            os.fchmod(fd, os.fstat(fd).st_mode & 0o7777 & ~(S_ISUID | S_ISGID))

    def _let_others_go(self) -> None:
        """Files that have another name, and are no longer open, are found by that."""
        for each in list(self.sb.inodes.values()):
            if isinstance(each, WritableFile) and not each.opens:
                each.let_go()

    def let_go(self) -> None:
        if self.orphan >= 0:
            os.close(self.orphan)
            self.orphan = -1
            self.sb.orphans -= 1

    __del__ = let_go

    def evict(self) -> None:
        self.let_go()
        self.sb.fds.drop(self)
        self.sb.fds.drop((self, "rw"))
        if self.page_cache is not None:
            self.page_cache.close()

    def open(self, path: Path, flags: int, task: Any) -> File:
        self.refresh()
        if flags & O_ACCMODE != O_RDONLY:
            if self.sb.read_only:
                raise EROFS
            self.fd_for_writing()
        self.cache()
        if flags & O_DSYNC:
            return (SyncedStrictFile if path.mount.flags & MS_STRICTATIME else SyncedFile)(self, flags, path)
        return open_regular(self, flags, path)

    def write_back(self, offset: int, data: bytes | memoryview) -> None:
        """Write to the host, and remember that the change is ours."""
        fd = self.fd_for_writing()
        try:
            self._disarm(fd)
            view = memoryview(data)
            while view:
                count = os.pwrite(fd, view, offset)
                offset += count
                view = view[count:]
            self._ours(fd)
        except OSError as error:
            raise errno_of(error) from error

    def _ours(self, fd: int) -> None:
        """What the host shows now is what the page cache holds."""
        st = os.fstat(fd)
        self.seen = (st.st_size, st.st_mtime_ns)
        HostInode.absorb(self, st)

    def store(self, offset: int, data: bytes | memoryview) -> int:
        cache = self.cache()
        try:
            return cache.write(offset, data)
        except OutOfFrames:
            raise ENOSPC("out of memory") from None
        except Errno:
            cache.backing_changed(os.fstat(self.fd()).st_size)  # the host did not take it all
            raise

    def truncate(self, size: int) -> None:
        fd = self.fd_for_writing()
        try:
            self._disarm(fd)
            os.ftruncate(fd, size)
            self._ours(fd)
        except OSError as error:
            raise errno_of(error) from error
        if self.page_cache is not None:
            self.page_cache.truncate(size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        if mode:
            raise ENOTSUP
        fd = self.fd_for_writing()
        try:
            self._disarm(fd)
            os.posix_fallocate(fd, offset, length)
            self._ours(fd)
        except OSError as error:
            raise errno_of(error) from error
        if self.page_cache is not None and self.page_cache.size < offset + length:
            self.page_cache.truncate(offset + length)

    def swap_backing(self) -> HostSwap:
        """Raises EINVAL if there are holes: what is put there must not need room that the disk may not have."""
        from trapline.kernel.drivers.hostswap import HostSwap

        if self.page_cache is not None:
            self.page_cache.sync()
        try:
            fd = self.fd_for_writing()
            size = os.fstat(fd).st_size
            if size and os.lseek(fd, 0, os.SEEK_HOLE) < size:
                raise EINVAL("the file has holes")
            self._disarm(fd)
            return HostSwap(os.dup(fd), size >> PAGE_SHIFT)
        except OSError as error:
            raise errno_of(error) from error

    def fsync(self) -> None:
        if self.page_cache is not None:
            self.page_cache.sync()
        try:
            os.fsync(self.fd())
        except OSError as error:
            raise errno_of(error) from error


class _Synced(RegularFile):
    """O_SYNC, O_DSYNC: what was written is on the host's disk when the call returns. Both bring over all that fsync(2) does."""

    __slots__ = ()

    def try_write(self, data: bytes | memoryview) -> int:
        done = super().try_write(data)
        self.fsync(False)
        return done

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int:
        done = super().try_pwrite(data, offset)
        self.fsync(False)
        return done


class SyncedFile(_Synced):
    """On an ordinary mount."""

    __slots__ = ()


class SyncedStrictFile(_Synced, StrictFile):
    """On one that notes each access."""

    __slots__ = ()


class WritableLink(_Writable, HostLink):
    """A symbolic link."""

    __slots__ = ()


class WritableNode(_Writable, HostNode):
    """A FIFO or socket that was made here."""

    __slots__ = ()

    foreign = False

    def open(self, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
        return open_special(self, path, flags, task)

    def evict(self) -> None:
        key = self.host_dev, self.ino  # from now on, the number may be another file's
        self.sb.nodes.pop(key, None)
        self.sb.inodes.pop(key, None)


READ_WRITE: dict[int, type[HostInode]] = {S_IFDIR: WritableDir, S_IFREG: WritableFile, S_IFLNK: WritableLink}
