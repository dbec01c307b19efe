"""Owners, permissions and times: chmod(2), chown(2), umask(2), utimensat(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EINVAL, ENOTSUP, EPERM
from trapline.abi.fcntl import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from trapline.abi.stat import (
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_ISGID,
    S_ISUID,
    S_IXGRP,
    TIMESPEC,
    UTIME_NOW,
    UTIME_OMIT,
)
from trapline.kernel.fs import notify
from trapline.kernel.fs.permission import MAY_WRITE, may, may_chown, mode_for_chmod, owner_or, writable
from trapline.kernel.syscalls.atpath import AtFlags, Uid, check_flags
from trapline.kernel.syscalls.declare import Arg, DirFd, Fd, Mode, Path, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path as FsPath
    from trapline.kernel.task.task import Task

NS = 1_000_000_000

Timespecs = Annotated[int, Arg(64, "struct:timespecs")]
Timevals = Annotated[int, Arg(64, "struct:timevals")]
Utimbuf = Annotated[int, Arg(64, "struct:utimbuf")]


# ---- chmod(2)


def _chmod(task: Task, path: FsPath, mode: int) -> int:
    writable(path)
    inode = path.inode
    if not owner_or(inode, task.creds):
        raise EPERM
    if inode.mode & S_IFMT == S_IFLNK:
        raise ENOTSUP
    inode.setattr(mode=mode_for_chmod(inode, task.creds, mode & 0o7777))
    notify.path_event(path, notify.IN_ATTRIB)
    return 0


@syscall("chmod")
def sys_chmod(task: Task, pathname: Path, mode: Mode) -> int:
    """chmod(2): change the permissions of a file."""
    return _chmod(task, task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(pathname)), mode)


@syscall("fchmod")
def sys_fchmod(task: Task, fd: Fd, mode: Mode) -> int:
    """fchmod(2): change the permissions of an open file."""
    return _chmod(task, task.kernel.vfs.path_of(task.files.get(fd)), mode)


@syscall("fchmodat")
def sys_fchmodat(task: Task, dirfd: DirFd, pathname: Path, mode: Mode) -> int:
    """fchmodat(2): chmod(2) relative to a directory; this call has no flags."""
    return _chmod(task, task.kernel.vfs.walk(task, dirfd, task.mm.read_path(pathname)), mode)


@syscall("umask")
def sys_umask(task: Task, mask: Mode) -> int:
    """umask(2): set which permissions new files do not get; the old mask."""
    fs = task.fs
    old, fs.umask = fs.umask, mask & 0o777
    return old


# ---- chown(2)


def _chown(task: Task, path: FsPath, uid: int, gid: int) -> int:
    writable(path)
    inode = path.inode
    may_chown(inode, task.creds, uid, gid)
    mode = None
    if inode.mode & S_IFMT not in (S_IFDIR, S_IFLNK) and inode.mode & (S_ISUID | S_ISGID):
        mode = inode.mode & 0o7777 & ~S_ISUID
        if mode & S_IXGRP:
            mode &= ~S_ISGID
    inode.setattr(mode=mode, uid=None if uid == -1 else uid & 0xFFFFFFFF, gid=None if gid == -1 else gid & 0xFFFFFFFF)
    notify.path_event(path, notify.IN_ATTRIB)
    return 0


@syscall("chown")
def sys_chown(task: Task, pathname: Path, owner: Uid, group: Uid) -> int:
    """chown(2): change the owner and group of a file."""
    return _chown(task, task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(pathname)), owner, group)


@syscall("lchown")
def sys_lchown(task: Task, pathname: Path, owner: Uid, group: Uid) -> int:
    """lchown(2): chown(2) of a symbolic link itself."""
    return _chown(task, task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(pathname), False), owner, group)


@syscall("fchown")
def sys_fchown(task: Task, fd: Fd, owner: Uid, group: Uid) -> int:
    """fchown(2): change the owner and group of an open file."""
    return _chown(task, task.kernel.vfs.path_of(task.files.get(fd)), owner, group)


@syscall("fchownat")
def sys_fchownat(task: Task, dirfd: DirFd, pathname: Path, owner: Uid, group: Uid, flags: AtFlags) -> int:
    """fchownat(2): chown(2) relative to a directory."""
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    return _chown(task, task.kernel.vfs.path_at(task, dirfd, task.mm.read_path(pathname), flags), owner, group)


# ---- times


def _set_times(task: Task, path: FsPath, atime: int | None, mtime: int | None, *, touch: bool) -> int:
    """`touch`: both times become the current one, which a writer may do; anything else is for the owner."""
    writable(path)
    inode = path.inode
    if not owner_or(inode, task.creds):
        if not touch:
            raise EPERM
        may(inode, task.creds, MAY_WRITE)
    inode.setattr(atime_ns=atime, mtime_ns=mtime)
    notify.path_event(path, notify.IN_ATTRIB)
    return 0


def _now(task: Task) -> int:
    return task.kernel.vfs.now()


def _one_time(task: Task, seconds: int, nanoseconds: int) -> int | None:
    """One of utimensat(2)'s times in ns; None: leave it."""
    if nanoseconds == UTIME_OMIT:
        return None
    if nanoseconds == UTIME_NOW:
        return _now(task)
    if not 0 <= nanoseconds < NS:
        raise EINVAL
    return seconds * NS + nanoseconds


@syscall("utimensat")
def sys_utimensat(task: Task, dirfd: DirFd, pathname: Path, times: Timespecs, flags: AtFlags) -> int:
    """utimensat(2): set the access and modification times of a file, to the nanosecond."""
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    touch = True
    atime: int | None
    mtime: int | None
    if times:
        raw = task.mm.read(times, 32)
        first, second = TIMESPEC.unpack_from(raw), TIMESPEC.unpack_from(raw, 16)
        if first[1] == second[1] == UTIME_OMIT:
            return 0
        atime, mtime = _one_time(task, *first), _one_time(task, *second)
        touch = first[1] == second[1] == UTIME_NOW
    else:
        atime = mtime = _now(task)
    vfs = task.kernel.vfs
    if pathname:
        path = vfs.path_at(task, dirfd, task.mm.read_path(pathname), flags)
    else:  # utimensat(2), "C library/kernel differences": the file that dirfd refers to
        if flags & ~AT_EMPTY_PATH:
            raise EINVAL
        path = vfs.path_of(task.files.get(dirfd))
    return _set_times(task, path, atime, mtime, touch=touch)


def _timevals(task: Task, times: int) -> tuple[int, int, bool]:
    """(atime, mtime, whether both are now) of a struct timeval[2], or of a null pointer."""
    if not times:
        return _now(task), _now(task), True
    raw = task.mm.read(times, 32)
    (a_s, a_us), (m_s, m_us) = TIMESPEC.unpack_from(raw), TIMESPEC.unpack_from(raw, 16)
    if not (0 <= a_us < 1_000_000 and 0 <= m_us < 1_000_000):
        raise EINVAL
    return a_s * NS + a_us * 1000, m_s * NS + m_us * 1000, False


@syscall("utimes")
def sys_utimes(task: Task, filename: Path, times: Timevals) -> int:
    """utimes(2): set the times of a file, to the microsecond."""
    return sys_futimesat(task, AT_FDCWD, filename, times)


@syscall("futimesat")
def sys_futimesat(task: Task, dirfd: DirFd, pathname: Path, times: Timevals) -> int:
    """futimesat(2): utimes(2) relative to a directory."""
    atime, mtime, touch = _timevals(task, times)
    if pathname:
        path = task.kernel.vfs.walk(task, dirfd, task.mm.read_path(pathname))
    else:
        path = task.kernel.vfs.path_of(task.files.get(dirfd))
    return _set_times(task, path, atime, mtime, touch=touch)


@syscall("utime")
def sys_utime(task: Task, filename: Path, times: Utimbuf) -> int:
    """utime(2): set the times of a file, to the second."""
    atime = mtime = _now(task)
    if times:
        seconds = TIMESPEC.unpack(task.mm.read(times, 16))
        atime, mtime = seconds[0] * NS, seconds[1] * NS
    path = task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(filename))
    return _set_times(task, path, atime, mtime, touch=not times)
