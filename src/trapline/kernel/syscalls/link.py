"""Names: link(2), symlink(2), unlink(2), rename(2), mknod(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_DAC_READ_SEARCH
from trapline.abi.errno import EINVAL, ENOENT, EPERM
from trapline.abi.fcntl import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
)
from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK
from trapline.kernel.fs import namei
from trapline.kernel.fs.acl import umask_in
from trapline.kernel.syscalls.atpath import AtFlags, Dev, check_flags, place
from trapline.kernel.syscalls.declare import Arg, DirFd, Mode, Path, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

RenameFlags = Annotated[int, Arg(32, "flags:rename")]


@syscall("link")
def sys_link(task: Task, oldpath: Path, newpath: Path) -> int:
    """link(2): one more name for a file."""
    return sys_linkat(task, AT_FDCWD, oldpath, AT_FDCWD, newpath, 0)


@syscall("linkat")
def sys_linkat(task: Task, olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: AtFlags) -> int:
    """linkat(2): one more name for a file, relative to directories."""
    check_flags(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)
    name = task.mm.read_path(oldpath)
    if not name and flags & AT_EMPTY_PATH and not task.creds.has_cap(CAP_DAC_READ_SEARCH):
        raise ENOENT
    at_flags = flags & AT_EMPTY_PATH | (0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW)
    vfs = task.kernel.vfs
    namei.link(vfs, vfs.path_at(task, olddirfd, name, at_flags), place(task, newdirfd, newpath), task.creds)
    return 0


@syscall("symlink")
def sys_symlink(task: Task, target: Path, linkpath: Path) -> int:
    """symlink(2): make a symbolic link."""
    return sys_symlinkat(task, target, AT_FDCWD, linkpath)


@syscall("symlinkat")
def sys_symlinkat(task: Task, target: Path, newdirfd: DirFd, linkpath: Path) -> int:
    """symlinkat(2): make a symbolic link, relative to a directory."""
    text = task.mm.read_path(target)
    if not text:
        raise ENOENT
    namei.symlink(task.kernel.vfs, place(task, newdirfd, linkpath), text, task.creds)
    return 0


@syscall("unlink")
def sys_unlink(task: Task, pathname: Path) -> int:
    """unlink(2): remove a name, and with the last one the file."""
    namei.unlink(task.kernel.vfs, place(task, AT_FDCWD, pathname), task.creds)
    return 0


@syscall("unlinkat")
def sys_unlinkat(task: Task, dirfd: DirFd, pathname: Path, flags: AtFlags) -> int:
    """unlinkat(2): unlink(2), or rmdir(2) with AT_REMOVEDIR, relative to a directory."""
    check_flags(flags, AT_REMOVEDIR)
    remove = namei.rmdir if flags else namei.unlink
    remove(task.kernel.vfs, place(task, dirfd, pathname), task.creds)
    return 0


@syscall("rename")
def sys_rename(task: Task, oldpath: Path, newpath: Path) -> int:
    """rename(2): give a file another name, replacing what has it."""
    return sys_renameat2(task, AT_FDCWD, oldpath, AT_FDCWD, newpath, 0)


@syscall("renameat")
def sys_renameat(task: Task, olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path) -> int:
    """renameat(2): rename(2) relative to directories."""
    return sys_renameat2(task, olddirfd, oldpath, newdirfd, newpath, 0)


@syscall("renameat2")
def sys_renameat2(
    task: Task, olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: RenameFlags
) -> int:
    """renameat2(2): rename(2) that may refuse to replace, exchange two names, or leave a whiteout."""
    check_flags(flags, RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)
    if flags & RENAME_EXCHANGE and flags & (RENAME_NOREPLACE | RENAME_WHITEOUT):
        raise EINVAL
    old, new = place(task, olddirfd, oldpath), place(task, newdirfd, newpath)
    namei.rename(task.kernel.vfs, old, new, flags, task.creds)
    return 0


@syscall("mknod")
def sys_mknod(task: Task, pathname: Path, mode: Mode, dev: Dev) -> int:
    """mknod(2): make a regular file, FIFO, socket node or device node."""
    return sys_mknodat(task, AT_FDCWD, pathname, mode, dev)


@syscall("mknodat")
def sys_mknodat(task: Task, dirfd: DirFd, pathname: Path, mode: Mode, dev: Dev) -> int:
    """mknodat(2): mknod(2) relative to a directory."""
    kind = mode & S_IFMT or S_IFREG
    if kind == S_IFDIR:
        raise EPERM
    if kind not in (S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK):
        raise EINVAL
    rdev = dev if kind in (S_IFCHR, S_IFBLK) else 0
    at = place(task, dirfd, pathname)
    final = kind | mode & 0o7777 & ~umask_in(at.parent.inode, task.fs.umask)
    namei.mknod(task.kernel.vfs, at, final, rdev, task.creds)
    return 0
