"""Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2) and their l and f forms; xattr(7)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SETFCAP, CAP_SYS_ADMIN
from trapline.abi.errno import E2BIG, EINVAL, ENODATA, ENOTSUP, EPERM, ERANGE
from trapline.abi.fcntl import AT_FDCWD
from trapline.abi.stat import (
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_ISGID,
    S_ISVTX,
    XATTR_CREATE,
    XATTR_NAME_MAX,
    XATTR_REPLACE,
    XATTR_SIZE_MAX,
)
from trapline.kernel.fs import acl, notify
from trapline.kernel.fs.permission import MAY_READ, MAY_WRITE, may, mode_for_chmod, owner_or, writable
from trapline.kernel.syscalls.declare import Arg, Fd, Path, Size, Str, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path as FsPath
    from trapline.kernel.task.task import Task

XattrFlags = Annotated[int, Arg(-32, "flags:xattr")]
ValueIn = Annotated[int, Arg(64, "buf_in:size")]
ValueOut = Annotated[int, Arg(64, "buf_out")]

_NAMESPACES = (b"user.", b"trusted.", b"security.", b"system.")


def _by_name(task: Task, pathname: int, follow: bool) -> FsPath:
    return task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(pathname), follow)


def _by_fd(task: Task, fd: int) -> FsPath:
    return task.kernel.vfs.path_of(task.files.get(fd))


def _read_name(task: Task, name: int) -> bytes:
    text = task.mm.read_cstr(name, XATTR_NAME_MAX + 1)
    if not text:
        raise ERANGE
    return text


def _permit(task: Task, path: FsPath, name: bytes, mask: int) -> None:
    """xattr(7): who may read or write an attribute depends on its namespace."""
    inode, creds = path.inode, task.creds
    writing = mask == MAY_WRITE
    space = next((each for each in _NAMESPACES if name.startswith(each)), None)
    if space is None:
        raise ENOTSUP
    if name == space:
        raise EINVAL
    if writing:
        writable(path)
    if space == b"trusted.":
        if not creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM if writing else ENODATA
        return
    if space == b"security.":
        if writing and not creds.has_cap(CAP_SETFCAP if name == b"security.capability" else CAP_SYS_ADMIN):
            raise EPERM
        return
    if space == b"system." and writing and name in (acl.ACCESS, acl.DEFAULT) and inode.mode & S_IFMT != S_IFLNK:
        if not owner_or(inode, creds):
            raise EPERM
    if space == b"user.":
        kind = inode.mode & S_IFMT
        if kind not in (S_IFREG, S_IFDIR):
            raise EPERM if writing else ENODATA
        if writing and kind == S_IFDIR and inode.mode & S_ISVTX and not owner_or(inode, creds):
            raise EPERM
        may(inode, creds, mask)


# ---- set


def _set(task: Task, path: FsPath, name: int, value: int, size: int, flags: int) -> int:
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise EINVAL
    text = _read_name(task, name)
    if size > XATTR_SIZE_MAX:
        raise E2BIG
    data = task.mm.read(value, size) if size else b""
    _permit(task, path, text, MAY_WRITE)
    inode = path.inode
    inode.setxattr(text, data, flags)
    if text == acl.ACCESS and inode.mode & S_ISGID and mode_for_chmod(inode, task.creds, inode.mode) & S_ISGID == 0:
        inode.setattr(mode=inode.mode & 0o7777 & ~S_ISGID)
    notify.path_event(path, notify.IN_ATTRIB)
    return 0


@syscall("setxattr")
def sys_setxattr(task: Task, path: Path, name: Str, value: ValueIn, size: Size, flags: XattrFlags) -> int:
    """setxattr(2): set an extended attribute of a file."""
    return _set(task, _by_name(task, path, True), name, value, size, flags)


@syscall("lsetxattr")
def sys_lsetxattr(task: Task, path: Path, name: Str, value: ValueIn, size: Size, flags: XattrFlags) -> int:
    """lsetxattr(2): set an extended attribute, of a symbolic link itself."""
    return _set(task, _by_name(task, path, False), name, value, size, flags)


@syscall("fsetxattr")
def sys_fsetxattr(task: Task, fd: Fd, name: Str, value: ValueIn, size: Size, flags: XattrFlags) -> int:
    """fsetxattr(2): set an extended attribute of an open file."""
    return _set(task, _by_fd(task, fd), name, value, size, flags)


# ---- get


def _get(task: Task, path: FsPath, name: int, value: int, size: int) -> int:
    text = _read_name(task, name)
    _permit(task, path, text, MAY_READ)
    return _answer(task, path.inode.getxattr(text), value, size)


def _answer(task: Task, data: bytes, buf: int, size: int) -> int:
    """Copy out, or only tell the size if the buffer has none."""
    if size:
        if len(data) > size:
            raise ERANGE
        task.mm.write(buf, data)
    return len(data)


@syscall("getxattr")
def sys_getxattr(task: Task, path: Path, name: Str, value: ValueOut, size: Size) -> int:
    """getxattr(2): the value of an extended attribute of a file."""
    return _get(task, _by_name(task, path, True), name, value, size)


@syscall("lgetxattr")
def sys_lgetxattr(task: Task, path: Path, name: Str, value: ValueOut, size: Size) -> int:
    """lgetxattr(2): the value of an extended attribute, of a symbolic link itself."""
    return _get(task, _by_name(task, path, False), name, value, size)


@syscall("fgetxattr")
def sys_fgetxattr(task: Task, fd: Fd, name: Str, value: ValueOut, size: Size) -> int:
    """fgetxattr(2): the value of an extended attribute of an open file."""
    return _get(task, _by_fd(task, fd), name, value, size)


# ---- list


def _list(task: Task, path: FsPath, buf: int, size: int) -> int:
    names = path.inode.listxattr()
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        names = [each for each in names if not each.startswith(b"trusted.")]
    return _answer(task, b"".join(each + b"\0" for each in names), buf, size)


@syscall("listxattr")
def sys_listxattr(task: Task, path: Path, list: ValueOut, size: Size) -> int:
    """listxattr(2): the names of a file's extended attributes, each with a NUL."""
    return _list(task, _by_name(task, path, True), list, size)


@syscall("llistxattr")
def sys_llistxattr(task: Task, path: Path, list: ValueOut, size: Size) -> int:
    """llistxattr(2): the names of the extended attributes, of a symbolic link itself."""
    return _list(task, _by_name(task, path, False), list, size)


@syscall("flistxattr")
def sys_flistxattr(task: Task, fd: Fd, list: ValueOut, size: Size) -> int:
    """flistxattr(2): the names of an open file's extended attributes."""
    return _list(task, _by_fd(task, fd), list, size)


# ---- remove


def _remove(task: Task, path: FsPath, name: int) -> int:
    text = _read_name(task, name)
    _permit(task, path, text, MAY_WRITE)
    path.inode.removexattr(text)
    notify.path_event(path, notify.IN_ATTRIB)
    return 0


@syscall("removexattr")
def sys_removexattr(task: Task, path: Path, name: Str) -> int:
    """removexattr(2): remove an extended attribute of a file."""
    return _remove(task, _by_name(task, path, True), name)


@syscall("lremovexattr")
def sys_lremovexattr(task: Task, path: Path, name: Str) -> int:
    """lremovexattr(2): remove an extended attribute, of a symbolic link itself."""
    return _remove(task, _by_name(task, path, False), name)


@syscall("fremovexattr")
def sys_fremovexattr(task: Task, fd: Fd, name: Str) -> int:
    """fremovexattr(2): remove an extended attribute of an open file."""
    return _remove(task, _by_fd(task, fd), name)
