"""stat(2) and its kin, statx(2), access(2), readlink(2): asking about a file by its name or descriptor."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EACCES, EINVAL, ENOENT
from trapline.abi.fcntl import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_STATX_SYNC_TYPE,
    AT_SYMLINK_NOFOLLOW,
)
from trapline.abi.mount import MS_NOEXEC
from trapline.abi.stat import (
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    STAT,
    STATX,
    STATX_ATTR_MOUNT_ROOT,
    STATX_BASIC_STATS,
    STATX_BTIME,
    STATX_MNT_ID,
    STATX_RESERVED,
    major,
    minor,
)
from trapline.kernel.fs.atime import accessed
from trapline.kernel.fs.path import FOLLOW, walk
from trapline.kernel.fs.permission import MAY_EXEC, may_access
from trapline.kernel.syscalls.atpath import AtFlags, check_flags
from trapline.kernel.syscalls.declare import Arg, DirFd, Fd, Int, Path, syscall

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.task.task import Task

NS = 1_000_000_000
_ID_MAX = 0xFFFFFFFF

StatOut = Annotated[int, Arg(64, "struct_out:stat")]
StatxOut = Annotated[int, Arg(64, "struct_out:statx")]
StatxFlags = Annotated[int, Arg(-32, "flags:statx")]
StatxMask = Annotated[int, Arg(32, "flags:statx_mask")]
AccessMode = Annotated[int, Arg(-32, "flags:access")]
AccessFlags = Annotated[int, Arg(-32, "flags:faccessat")]


def make_stat(inode: Inode, pack: Callable[..., bytes] = STAT.pack) -> bytes:
    """struct stat of an inode, as the architecture packs it (`Abi.pack_stat`)."""
    if inode.live:
        inode.refresh()
    cache = inode.page_cache
    sb = inode.sb
    atime, mtime, ctime = inode.atime_ns, inode.mtime_ns, inode.ctime_ns
    return pack(
        sb.dev, inode.ino, inode.nlink, inode.mode, inode.uid, inode.gid, inode.rdev,
        inode.size if cache is None else cache.size, sb.block_size, inode.blocks(),
        atime // NS, atime % NS, mtime // NS, mtime % NS, ctime // NS, ctime % NS,
    )  # fmt: skip


@syscall("stat")
def sys_stat(task: Task, pathname: Path, statbuf: StatOut) -> int:
    """stat(2): what is known of a file."""
    inode = task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(pathname)).inode
    task.mm.write(statbuf, make_stat(inode, task.kernel.abi.pack_stat))
    return 0


@syscall("lstat")
def sys_lstat(task: Task, pathname: Path, statbuf: StatOut) -> int:
    """lstat(2): what is known of a file, or of a symbolic link itself."""
    inode = task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(pathname), False).inode
    task.mm.write(statbuf, make_stat(inode, task.kernel.abi.pack_stat))
    return 0


@syscall("fstat")
def sys_fstat(task: Task, fd: Fd, statbuf: StatOut) -> int:
    """fstat(2): what is known of an open file."""
    task.mm.write(statbuf, make_stat(task.files.get_any(fd).inode, task.kernel.abi.pack_stat))
    return 0


@syscall("newfstatat")
def sys_newfstatat(task: Task, dirfd: DirFd, pathname: Path, statbuf: StatOut, flags: AtFlags) -> int:
    """fstatat(2): stat(2) relative to a directory, or of an open file with AT_EMPTY_PATH."""
    if flags:
        check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)
    inode = task.kernel.vfs.inode_at(task, dirfd, _name(task, pathname, flags), flags)
    task.mm.write(statbuf, make_stat(inode, task.kernel.abi.pack_stat))
    return 0


def _name(task: Task, pathname: int, flags: int) -> bytes:
    """The name, where AT_EMPTY_PATH makes a null pointer an empty one."""
    if not pathname and flags & AT_EMPTY_PATH:
        return b""
    return task.mm.read_path(pathname)


@syscall("statx")
def sys_statx(
    task: Task, dirfd: DirFd, pathname: Path, flags: StatxFlags, mask: StatxMask, statxbuf: StatxOut
) -> int:
    """statx(2): what is known of a file, extended."""
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)
    if mask & STATX_RESERVED or flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE:
        raise EINVAL
    path = task.kernel.vfs.path_at(task, dirfd, _name(task, pathname, flags), flags)
    inode = path.inode
    if inode.live:
        inode.refresh()
    cache = inode.page_cache
    dev, rdev = inode.sb.dev, inode.rdev
    times = inode.atime_ns, inode.btime_ns, inode.ctime_ns, inode.mtime_ns
    task.mm.write(statxbuf, STATX.pack(
        STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, inode.sb.block_size,
        STATX_ATTR_MOUNT_ROOT if path.dentry is path.mount.root else 0,
        min(inode.nlink, _ID_MAX), inode.uid & _ID_MAX, inode.gid & _ID_MAX, inode.mode, inode.ino,
        inode.size if cache is None else cache.size, inode.blocks(), STATX_ATTR_MOUNT_ROOT,
        *(part for each in times for part in divmod(each, NS)),
        major(rdev), minor(rdev), major(dev), minor(dev), path.mount.ident, 0, 0,
    ))  # fmt: skip
    return 0


# ---- access(2)


class _RealIds:
    """The caller as access(2) sees it: with its real ids, and capabilities only if it is root."""

    __slots__ = ("_permitted", "fsgid", "fsuid", "groups")

    def __init__(self, task: Task) -> None:
        creds = task.creds
        self.fsuid = creds.uid
        self.fsgid = creds.gid
        self.groups = creds.groups
        self._permitted = creds.permitted if creds.uid == 0 else 0

    def has_cap(self, cap: int) -> bool:
        return bool(self._permitted >> cap & 1)


def _access(task: Task, dirfd: int, pathname: int, mode: int, flags: int) -> int:
    if mode & ~7:
        raise EINVAL
    vfs, fs = task.kernel.vfs, task.fs
    creds = task.creds if flags & AT_EACCESS else _RealIds(task)
    name = _name(task, pathname, flags)
    if not name and flags & AT_EMPTY_PATH:
        path = vfs.path_at(task, dirfd, b"", AT_EMPTY_PATH)
    else:
        start = fs.cwd if name[:1] == b"/" else vfs.start(task, dirfd)
        path = walk(vfs, start, fs.root, name, creds, task, 0 if flags & AT_SYMLINK_NOFOLLOW else FOLLOW)
    inode = path.inode
    if mode & MAY_EXEC and inode.mode & S_IFMT == S_IFREG and path.mount.flags & MS_NOEXEC:
        raise EACCES
    if mode:
        may_access(path, creds, mode)
    return 0


@syscall("access")
def sys_access(task: Task, pathname: Path, mode: AccessMode) -> int:
    """access(2): whether the real user may read, write or execute a file."""
    return _access(task, AT_FDCWD, pathname, mode, 0)


@syscall("faccessat")
def sys_faccessat(task: Task, dirfd: DirFd, pathname: Path, mode: AccessMode) -> int:
    """faccessat(2): access(2) relative to a directory; this call has no flags."""
    return _access(task, dirfd, pathname, mode, 0)


@syscall("faccessat2")
def sys_faccessat2(task: Task, dirfd: DirFd, pathname: Path, mode: AccessMode, flags: AccessFlags) -> int:
    """faccessat(2): access(2) relative to a directory, with flags."""
    check_flags(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    return _access(task, dirfd, pathname, mode, flags)


# ---- readlink(2)


def _readlink(task: Task, dirfd: int, pathname: int, buf: int, bufsiz: int) -> int:
    if bufsiz <= 0:
        raise EINVAL
    name = task.mm.read_path(pathname)
    if name:
        path = task.kernel.vfs.walk(task, dirfd, name, False)
    else:  # the link that an O_PATH descriptor stands for
        path = task.kernel.vfs.path_at(task, dirfd, b"", AT_EMPTY_PATH)
    if path.inode.mode & S_IFMT != S_IFLNK:
        raise EINVAL if name else ENOENT
    accessed(path)
    text = path.inode.readlink()[:bufsiz]
    task.mm.write(buf, text)
    return len(text)


BufOut = Annotated[int, Arg(64, "buf_out")]


@syscall("readlink")
def sys_readlink(task: Task, pathname: Path, buf: BufOut, bufsiz: Int) -> int:
    """readlink(2): the text of a symbolic link."""
    return _readlink(task, AT_FDCWD, pathname, buf, bufsiz)


@syscall("readlinkat")
def sys_readlinkat(task: Task, dirfd: DirFd, pathname: Path, buf: BufOut, bufsiz: Int) -> int:
    """readlinkat(2): the text of a symbolic link, relative to a directory."""
    return _readlink(task, dirfd, pathname, buf, bufsiz)
