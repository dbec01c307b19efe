"""A directory (or one file) of the host as a file system, read-only or read-write.

The guest's own path walk resolves names and links; this driver is asked for one component at a time, and looks it up
relative to an open descriptor of its directory, never following a link of the host. A descriptor that was opened by name
is compared with what the inode was when it was found (device and inode number): if somebody exchanged it, the answer is
ESTALE. So nothing outside the bound directory can be reached, whatever the tree contains and whoever changes it meanwhile.

Read-only trees are taken to stay as they are: attributes, listings and data are read once and kept. Read-write trees are
asked each time, and writes go through to the host at once. The number of host descriptors is bounded (`Descriptors`).

Refused: opening devices, FIFOs and sockets of the host (ENXIO), making devices, and set-user-id bits (EPERM).
"""

from __future__ import annotations

import os
import resource
from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from trapline.abi.errno import EIO, ENAMETOOLONG, ENOENT, ENOTSUP, ENXIO, EROFS, ESTALE, Errno, of_number
from trapline.abi.mount import EXT4_MAGIC
from trapline.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs.file import DirectoryFile, File, open_regular
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.superblock import StatFs, SuperBlock
from trapline.kernel.mm.page_cache import PageCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.vfs import Vfs

MAX_DESCRIPTORS = 96  #: host descriptors open at a time for all host trees of a kernel
MAX_DEPTH = 1024  #: directories below the bound one
_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def errno_of(error: OSError) -> Errno:
    """The host's errno as ours; EIO where there is none."""
    return (of_number(error.errno or 0) or EIO)(error.strerror or "")


class Descriptors:
    """Open host descriptors by key; the one that was not used for longest is closed first.

    By default as many as are useful, but no more than half of what our process may have.
    """

    __slots__ = ("_fds", "limit")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit or min(MAX_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._fds: dict[object, int] = {}

    def get(self, key: object) -> int | None:
        fd = self._fds.pop(key, None)
        if fd is not None:
            self._fds[key] = fd
        return fd

    def add(self, key: object, fd: int) -> int:
        self.drop(key)
        if len(self._fds) >= self.limit:
            oldest = next(iter(self._fds))
            os.close(self._fds.pop(oldest))
        self._fds[key] = fd
        return fd

    def drop(self, key: object) -> None:
        fd = self._fds.pop(key, None)
        if fd is not None:
            os.close(fd)

    def take(self, key: object) -> int | None:
        """Remove a descriptor without closing it."""
        return self._fds.pop(key, None)

    def close(self) -> None:
        fds, self._fds = self._fds, {}
        for fd in fds.values():
            os.close(fd)

    def __len__(self) -> int:
        return len(self._fds)


class HostFs(SuperBlock):
    """The tree below host directory `path` (or the single file `path`).

    `public`: files that others may not read, and directories that others may not list and enter, do not exist.
    """

    __slots__ = ("fds", "inodes", "nodes", "orphans", "path", "public", "ram")

    has_extents = True

    def __init__(
        self, vfs: Vfs, path: bytes, fds: Descriptors, *, read_only: bool = True, public: bool = False
    ) -> None:
        super().__init__(vfs, b"hostfs", EXT4_MAGIC, read_only=read_only)
        self.fds = fds
        self.ram = vfs.ram
        self.orphans = 0  #: host descriptors of removed files that are still open
        self.public = public
        self.inodes: WeakValueDictionary[tuple[int, int], HostInode] = WeakValueDictionary()
        self.nodes: dict[tuple[int, int], HostInode] = {}  #: FIFOs and sockets made through this kernel
        try:
            path = os.path.realpath(path)
            st = os.lstat(path)
            if st.st_mode & S_IFMT == S_IFDIR:
                self.path = path
                self.root: Inode = self.inode_of(st, None, b"")
            else:
                self.path, name = os.path.split(path)
                self.root = self.inode_of(os.lstat(self.path), None, b"").lookup(name)
        except OSError as error:
            raise errno_of(error) from error

    def inode_of(self, st: os.stat_result, parent: HostDir | None, name: bytes) -> HostInode:
        """The inode for what was found as `name` in `parent`."""
        key = (st.st_dev, st.st_ino)
        inode = self.inodes.get(key)
        if inode is None or inode.mode & S_IFMT != st.st_mode & S_IFMT:
            kind = st.st_mode & S_IFMT
            if self.read_only:
                made = _READ_ONLY.get(kind, HostNode)
            else:
                from trapline.kernel.drivers.hostfs_rw import READ_WRITE

                made = READ_WRITE.get(kind, HostNode)
            inode = self.inodes[key] = made(self, st, parent, name)
        elif not self.read_only:
            inode.parent, inode.name = parent, name
            inode.absorb(st)
        return inode

    def sync(self) -> None:
        for inode in list(self.inodes.values()):
            if inode.page_cache is not None:
                inode.page_cache.sync()

    def statfs(self) -> StatFs:
        try:
            st = os.statvfs(self.path)
        except OSError as error:
            raise errno_of(error) from error
        return StatFs(self.magic, st.f_frsize, st.f_blocks, st.f_bfree, st.f_files, st.f_ffree, st.f_namemax)


class HostInode(Inode):
    """One file of the host, known by its device and inode number, reached as `name` in `parent`."""

    __slots__ = ("host_dev", "name", "parent", "st_blocks")

    sb: HostFs

    def __init__(self, sb: HostFs, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        super().__init__(sb, st.st_mode, ino=st.st_ino)
        self.host_dev = st.st_dev
        self.parent = parent
        self.name = name
        self.absorb(st)

    def absorb(self, st: os.stat_result) -> None:
        """Take over the host's attributes."""
        self.mode = st.st_mode
        self.uid = st.st_uid
        self.gid = st.st_gid
        self.nlink = st.st_nlink
        self.rdev = st.st_rdev
        self.size = st.st_size
        self.atime_ns = st.st_atime_ns
        self.mtime_ns = st.st_mtime_ns
        self.ctime_ns = self.btime_ns = st.st_ctime_ns
        self.st_blocks = st.st_blocks

    def blocks(self) -> int:
        return self.st_blocks

    def is_same(self, st: os.stat_result) -> bool:
        return st.st_ino == self.ino and st.st_dev == self.host_dev and st.st_mode & S_IFMT == self.mode & S_IFMT

    def open_host(self, flags: int) -> int:
        """A host descriptor of this very file; raises ESTALE if its name means something else by now."""
        parent = self.parent
        if parent is None:
            fd = os.open(self.sb.path, flags | os.O_CLOEXEC)
        else:
            fd = os.open(self.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.fd())
        if not self.is_same(os.fstat(fd)):
            os.close(fd)
            raise ESTALE("the host's file was exchanged")
        return fd


    def handle(self) -> int:
        """A new host descriptor of this very file, whatever its type."""
        return self.open_host(os.O_PATH)

    # ---- extended attributes: user.* alone; what others mean to the host is not shown

    def on_host(self, act: Callable[[bytes], Any]) -> Any:
        """`act` on a name that is this very file's."""
        try:
            fd = self.handle()
            try:
                return act(b"/proc/self/fd/%d" % fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise errno_of(error) from error

    def getxattr(self, name: bytes) -> bytes:
        if not name.startswith(b"user."):
            raise ENOTSUP
        value: bytes = self.on_host(lambda path: os.getxattr(path, name))
        return value

    def listxattr(self) -> list[bytes]:
        if self.mode & S_IFMT not in (S_IFREG, S_IFDIR):
            return []
        names = [os.fsencode(name) for name in self.on_host(os.listxattr)]
        return [name for name in names if name.startswith(b"user.")]


class HostDir(HostInode):
    """A directory. `listing` keeps the entries of a read-only one."""

    __slots__ = ("depth", "listing")

    def __init__(self, sb: HostFs, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        super().__init__(sb, st, parent, name)
        self.listing: list[Entry] | None = None
        self.depth: int = parent.depth + 1 if parent is not None else 0

    def fd(self) -> int:
        """An O_PATH descriptor of the directory; borrowed: good until the next host descriptor is opened."""
        fds = self.sb.fds
        fd = fds.get(self)
        if fd is not None:
            return fd
        above: list[HostDir] = [self]
        parent = self.parent
        while parent is not None and fds.get(parent) is None:
            above.append(parent)
            parent = parent.parent
        while above:
            directory = above.pop()
            fd = fds.add(directory, directory.open_host(os.O_PATH | os.O_DIRECTORY))
        assert fd is not None
        return fd

    def lookup(self, name: bytes) -> Inode:
        if self.depth >= MAX_DEPTH:
            raise ENAMETOOLONG
        try:
            st = os.stat(name, dir_fd=self.fd(), follow_symlinks=False)
        except OSError as error:
            raise errno_of(error) from error
        if self.sb.public and not _is_public(st.st_mode):
            raise ENOENT
        return self.sb.inode_of(st, self, name)

    def entries(self) -> list[Entry]:
        if self.listing is not None:
            return self.listing
        try:
            found = self._scan()
        except OSError as error:
            raise errno_of(error) from error
        if self.sb.read_only:
            self.listing = found
        return found

    def _scan(self) -> list[Entry]:
        found: list[Entry] = []
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd())
        try:
            with os.scandir(fd) as entries:
                for each in entries:
                    kind = _kind(each, self.sb.public)
                    if kind:
                        found.append((os.fsencode(each.name), each.inode(), kind))
        finally:
            os.close(fd)
        return found

    def open(self, path: Path, flags: int, task: Any) -> File:
        return DirectoryFile(self, flags, path)


def _is_public(mode: int) -> bool:
    kind = mode & S_IFMT
    if kind == S_IFLNK:
        return True
    return mode & 5 == 5 if kind == S_IFDIR else bool(mode & 4)


def _kind(entry: os.DirEntry[str], public: bool) -> int:
    """The DT_* type of a directory entry, or 0 to leave it out."""
    if not public:
        if entry.is_symlink():
            return S_IFLNK >> 12
        if entry.is_dir(follow_symlinks=False):
            return S_IFDIR >> 12
        if entry.is_file(follow_symlinks=False):
            return S_IFREG >> 12
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:  # gone meanwhile
        return 0
    return mode >> 12 if not public or _is_public(mode) else 0


class HostFile(HostInode):
    """A regular file; its page cache is made when it is first opened."""

    __slots__ = ()

    def cache(self) -> PageCache:
        cache = self.page_cache
        if cache is None:
            self.fd()  # an unreadable file must fail now
            cache = self.page_cache = PageCache(self.sb.ram, self.size, self.load)
        return cache

    def fd(self) -> int:
        """A descriptor for reading; borrowed."""
        fds = self.sb.fds
        fd = fds.get(self)
        if fd is None:
            try:
                fd = fds.add(self, self.open_host(os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
            except OSError as error:
                raise errno_of(error) from error
        return fd

    def load(self, offset: int, into: memoryview) -> None:
        """Read from the host, zeros beyond the end; raises EIO."""
        try:
            fd = self.fd()
            done = 0
            while done < len(into):
                count = os.preadv(fd, [into[done:]], offset + done)
                if count == 0:
                    into[done:] = bytes(len(into) - done)
                    break
                done += count
        except (OSError, Errno) as error:
            raise EIO(str(error)) from error

    def seek_behind(self, offset: int, hole: bool) -> int | None:
        try:
            return os.lseek(self.fd(), offset, os.SEEK_HOLE if hole else os.SEEK_DATA)
        except OSError as error:
            if error.errno == ENXIO.number:
                return None
            return super().seek_behind(offset, hole)  # a file system that does not know

    def open(self, path: Path, flags: int, task: Any) -> File:
        if flags & 3:
            raise EROFS
        self.cache()
        return open_regular(self, flags, path)


class HostLink(HostInode):
    """A symbolic link: only its text is read."""

    __slots__ = ("target",)

    def __init__(self, sb: HostFs, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        super().__init__(sb, st, parent, name)
        self.target: bytes | None = None

    def readlink(self) -> bytes:
        if self.target is None:
            assert self.parent is not None
            try:
                self.target = os.readlink(self.name, dir_fd=self.parent.fd())
            except OSError as error:
                raise errno_of(error) from error
        return self.target


class HostNode(HostInode):
    """A device, FIFO or socket of the host. It can be seen, not opened: `open` stays ENXIO."""

    __slots__ = ()

    foreign = True


_READ_ONLY: dict[int, type[HostInode]] = {S_IFDIR: HostDir, S_IFREG: HostFile, S_IFLNK: HostLink}


def is_directory(path: str) -> bool:
    """Whether the host has a directory of that name."""
    return os.path.isdir(path)


def host_homes() -> list[bytes]:
    """The home directories of the user who runs this program, and of root."""
    homes = {b"/root"}
    home = os.environb.get(b"HOME", b"")
    if home.startswith(b"/") and home.strip(b"/"):
        homes.add(home)
    try:
        import pwd

        entry = pwd.getpwuid(os.getuid()).pw_dir.encode()
        if entry.strip(b"/"):
            homes.add(entry)
    except (ImportError, KeyError):
        pass
    return sorted(homes)
