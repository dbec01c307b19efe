"""Directories: getdents64(2), mkdir(2), rmdir(2), getcwd(2), chdir(2), chroot(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_CHROOT
from trapline.abi.errno import EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, ERANGE
from trapline.abi.fcntl import AT_FDCWD, O_NOATIME, PATH_MAX
from trapline.abi.stat import DIRENT64_HEAD, DIRENT_HEAD, S_IFDIR, S_IFMT
from trapline.kernel.fs import namei
from trapline.kernel.fs.acl import umask_in
from trapline.kernel.fs.atime import accessed
from trapline.kernel.fs.notify import IN_ACCESS, INSTANCES, file_event
from trapline.kernel.fs.permission import MAY_EXEC, may
from trapline.kernel.syscalls.atpath import place
from trapline.kernel.syscalls.declare import Arg, DirFd, Fd, Mode, Path, Size, UInt, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path as FsPath
    from trapline.kernel.task.task import Task

BufOut = Annotated[int, Arg(64, "buf_out")]
MAX_LISTING = 1 << 20  #: bytes of entries for one call; a larger buffer is filled by the next


def _getdents(task: Task, fd: int, dirp: int, count: int, old: bool) -> int:
    file = task.files.get(fd)
    entries = file.iterate()
    if INSTANCES[0]:
        file_event(file, IN_ACCESS)
    if file.path is not None:
        if file.path.dentry.deleted:
            raise ENOENT
        if not file.flags & O_NOATIME:
            accessed(file.path)
    out = bytearray()
    pos = file.pos
    room = min(count, MAX_LISTING)
    for index in range(pos, len(entries)):
        name, ino, kind = entries[index]
        head = DIRENT_HEAD.size + 2 if old else DIRENT64_HEAD.size + 1
        length = (head + len(name) + 7) & ~7
        if len(out) + length > room:
            if not out:
                raise EINVAL("the buffer is too small for one entry")
            break
        pos += 1
        if old:
            out += DIRENT_HEAD.pack(ino, pos, length) + name.ljust(length - DIRENT_HEAD.size - 1, b"\0") + bytes((kind,))
        else:
            out += DIRENT64_HEAD.pack(ino, pos, length, kind) + name.ljust(length - DIRENT64_HEAD.size, b"\0")
    task.mm.write(dirp, out)
    file.pos = pos
    return len(out)


@syscall("getdents")
def sys_getdents(task: Task, fd: Fd, dirp: BufOut, count: UInt) -> int:
    """getdents(2): the next entries of a directory, in the old layout."""
    return _getdents(task, fd, dirp, count, True)


@syscall("getdents64")
def sys_getdents64(task: Task, fd: Fd, dirp: BufOut, count: UInt) -> int:
    """getdents64(2): the next entries of a directory."""
    return _getdents(task, fd, dirp, count, False)


@syscall("mkdir")
def sys_mkdir(task: Task, pathname: Path, mode: Mode) -> int:
    """mkdir(2): make a directory."""
    return sys_mkdirat(task, AT_FDCWD, pathname, mode)


@syscall("mkdirat")
def sys_mkdirat(task: Task, dirfd: DirFd, pathname: Path, mode: Mode) -> int:
    """mkdirat(2): make a directory, relative to another."""
    at = place(task, dirfd, pathname)
    namei.mkdir(task.kernel.vfs, at, mode & 0o1777 & ~umask_in(at.parent.inode, task.fs.umask), task.creds)
    return 0


@syscall("rmdir")
def sys_rmdir(task: Task, pathname: Path) -> int:
    """rmdir(2): remove an empty directory."""
    namei.rmdir(task.kernel.vfs, place(task, AT_FDCWD, pathname), task.creds)
    return 0


@syscall("getcwd")
def sys_getcwd(task: Task, buf: UserPtr, size: Size) -> int:
    """getcwd(2): the name of the current directory; the result is its length, with the NUL.

    A directory outside the root has "(unreachable)" before its name.
    """
    cwd = task.fs.cwd
    if cwd.dentry.deleted:
        raise ENOENT
    text, outside = cwd.text(task.fs.root)
    data = (b"(unreachable)" if outside else b"") + text + b"\0"
    if len(data) > PATH_MAX:
        raise ENAMETOOLONG
    if len(data) > size:
        raise ERANGE
    task.mm.write(buf, data)
    return len(data)


def _enter(task: Task, path: FsPath) -> FsPath:
    """A directory that the caller may search."""
    if path.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    may(path.inode, task.creds, MAY_EXEC)
    return path


@syscall("chdir")
def sys_chdir(task: Task, path: Path) -> int:
    """chdir(2): change the current directory."""
    task.fs.cwd = _enter(task, task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(path)))
    return 0


@syscall("fchdir")
def sys_fchdir(task: Task, fd: Fd) -> int:
    """fchdir(2): change the current directory to an open one (O_PATH will do)."""
    path = task.files.get_any(fd).path
    if path is None:
        raise ENOTDIR
    task.fs.cwd = _enter(task, path)
    return 0


@syscall("chroot")
def sys_chroot(task: Task, path: Path) -> int:
    """chroot(2): change the root directory; needs CAP_SYS_CHROOT."""
    root = _enter(task, task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(path)))
    if not task.creds.has_cap(CAP_SYS_CHROOT):
        raise EPERM
    task.fs.root = root
    return 0
