"""mount(2), umount2(2), pivot_root(2): changing the tree. There is one mount namespace, the kernel's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_ADMIN
from trapline.abi.errno import EBUSY, EINVAL, ENODEV, ENOSPC, ENOTDIR, EPERM
from trapline.abi.fcntl import AT_FDCWD
from trapline.abi.mount import (
    MNT_DETACH,
    MNT_EXPIRE,
    MNT_FORCE,
    MS_BIND,
    MS_MGC_MSK,
    MS_MGC_VAL,
    MS_MOVE,
    MS_PER_MOUNT,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SILENT,
    MS_SLAVE,
    MS_UNBINDABLE,
    UMOUNT_NOFOLLOW,
)
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.fs.mount import Path as FsPath
from trapline.kernel.fs.vfs import MAX_MOUNTS
from trapline.kernel.syscalls.atpath import check_flags
from trapline.kernel.syscalls.declare import Arg, Path, Str, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.task.task import Task

MountFlags = Annotated[int, Arg(64, "flags:mount")]
UmountFlags = Annotated[int, Arg(-32, "flags:umount")]
_PROPAGATION = MS_PRIVATE | MS_SHARED | MS_SLAVE | MS_UNBINDABLE


def _string(task: Task, address: int, limit: int = 4096) -> bytes:
    """A string argument, empty for a null pointer; EINVAL if it is longer than a page."""
    if not address:
        return b""
    text = task.mm.read_cstr(address, limit)
    if text is None:
        raise EINVAL
    return text


def parse_options(data: bytes) -> dict[bytes, bytes]:
    """b"size=1m,mode=755" as {b"size": b"1m", b"mode": b"755"}."""
    options: dict[bytes, bytes] = {}
    for each in data.split(b","):
        if each:
            name, _, value = each.partition(b"=")
            options[name] = value
    return options


@syscall("mount")
def sys_mount(
    task: Task, source: Str, target: Path, filesystemtype: Str, mountflags: MountFlags, data: UserPtr
) -> int:
    """mount(2): put a file system, or a part of the tree, over a directory; move or change a mount.

    Partial: the types are those the kernel has (tmpfs, proc, sysfs, ...); nothing is ever read from a device. Propagation
    types are accepted, and every mount stays private. A remount changes the flags only.
    """
    kind = _string(task, filesystemtype)
    name = _string(task, source)
    options = _string(task, data)
    vfs = task.kernel.vfs
    at = vfs.walk(task, AT_FDCWD, task.mm.read_path(target))
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    flags = mountflags & ~MS_SILENT
    if flags & MS_MGC_MSK == MS_MGC_VAL:
        flags &= ~MS_MGC_MSK
    if flags & MS_REMOUNT:
        return _remount(at, flags)
    if flags & _PROPAGATION:
        return _check_propagation(at, flags)
    if len(vfs.mounts) >= MAX_MOUNTS:
        raise ENOSPC
    if flags & MS_BIND:
        return _bind(task, name, at, flags)
    if flags & MS_MOVE:
        return _move(task, name, at)
    if at.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    if not kind:
        raise ENODEV
    sb = vfs.make_superblock(kind, name, parse_options(options), task)
    vfs.mount(vfs.new_mount(sb, name or b"none", flags & MS_PER_MOUNT), at)
    return 0


def _is_mounted(at: FsPath) -> None:
    if at.dentry is not at.mount.root:
        raise EINVAL("not a mount point")


def _remount(at: FsPath, flags: int) -> int:
    _is_mounted(at)
    if not flags & MS_BIND and at.mount.parent is not None:
        at.mount.sb.read_only = bool(flags & MS_RDONLY)
    keep_read_only = at.mount.flags & MS_RDONLY if at.mount.sb.fstype == b"hostfs" else 0
    at.mount.flags = flags & MS_PER_MOUNT | keep_read_only
    return 0


def _check_propagation(at: FsPath, flags: int) -> int:
    kinds = flags & _PROPAGATION
    if kinds & (kinds - 1) or flags & ~(_PROPAGATION | MS_REC):
        raise EINVAL
    _is_mounted(at)
    return 0


def _bind(task: Task, name: bytes, at: FsPath, flags: int) -> int:
    """A part of the tree appears in a second place, with what is mounted in it if MS_REC."""
    if not name:
        raise EINVAL
    vfs = task.kernel.vfs
    source = vfs.walk(task, AT_FDCWD, name)
    below = [each for each in vfs.mounts if flags & MS_REC and _is_inside(each, source)]
    if len(vfs.mounts) + len(below) >= MAX_MOUNTS:
        raise ENOSPC
    top = vfs.new_mount(source.mount.sb, source.mount.source, source.mount.flags, source.dentry)
    copies = {source.mount: top}
    vfs.mount(top, at)
    for each in below:
        assert each.parent is not None and each.mountpoint is not None
        copy = copies[each] = vfs.new_mount(each.sb, each.source, each.flags, each.root)
        vfs.mount(copy, FsPath(copies[each.parent], each.mountpoint))
    return 0


def _is_inside(mount: Mount, path: FsPath) -> bool:
    """`mount` hangs, directly or through others, below `path`."""
    while mount.parent is not None and mount.mountpoint is not None:
        dentry = mount.mountpoint
        if mount.parent is path.mount:
            while dentry is not path.dentry:
                if dentry.parent is dentry:
                    return False
                dentry = dentry.parent
            return True
        mount = mount.parent
    return False


def _move(task: Task, name: bytes, at: FsPath) -> int:
    if not name:
        raise EINVAL
    source = task.kernel.vfs.walk(task, AT_FDCWD, name)
    _is_mounted(source)
    if source.mount.parent is None or at.mount is source.mount or _is_inside(at.mount, FsPath(source.mount, source.mount.root)):
        raise EINVAL
    if (source.inode.mode & S_IFMT == S_IFDIR) != (at.inode.mode & S_IFMT == S_IFDIR):
        raise ENOTDIR
    task.kernel.vfs.move_mount(source.mount, at)
    return 0


@syscall("umount2")
def sys_umount2(task: Task, target: Path, flags: UmountFlags) -> int:
    """umount2(2): remove a mount.

    Partial: MNT_EXPIRE removes a mount that is not in use at once, at the second call it would take.
    """
    check_flags(flags, MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)
    vfs = task.kernel.vfs
    at = vfs.walk(task, AT_FDCWD, task.mm.read_path(target), not flags & UMOUNT_NOFOLLOW)
    if flags & MNT_EXPIRE and flags & (MNT_FORCE | MNT_DETACH):
        raise EINVAL
    _is_mounted(at)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    mount = at.mount
    if mount.parent is None:
        raise EBUSY if not flags & MNT_DETACH else EINVAL
    if not flags & MNT_DETACH and _in_use(task, mount):
        raise EBUSY
    vfs.umount(mount, lazy=bool(flags & MNT_DETACH))
    return 0


def _in_use(task: Task, mount: Mount) -> bool:
    """Some process has its root, its current directory or an open file there."""
    for each in task.kernel.tasks.values():
        if each.fs is not None and (each.fs.root.mount is mount or each.fs.cwd.mount is mount):
            return True
        if each.files is not None and any(
            file.path is not None and file.path.mount is mount for _, file in each.files.items()
        ):
            return True
    return False


@syscall("pivot_root")
def sys_pivot_root(task: Task, new_root: Path, put_old: Path) -> int:
    """pivot_root(2): make another mount the root of the tree, and put the old one below it."""
    vfs = task.kernel.vfs
    new = vfs.walk(task, AT_FDCWD, task.mm.read_path(new_root))
    put = vfs.walk(task, AT_FDCWD, task.mm.read_path(put_old))
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    if new.inode.mode & S_IFMT != S_IFDIR or put.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    old = task.fs.root
    if new.mount is old.mount or put.mount is old.mount:
        raise EBUSY
    _is_mounted(new)
    if old.dentry is not old.mount.root or old.mount.parent is not None or new.mount.parent is None:
        raise EINVAL
    if put.mount is not new.mount and not _is_inside(put.mount, new):
        raise EINVAL
    vfs.pivot(new.mount, put)
    for each in task.kernel.tasks.values():
        if each.fs is not None:
            each.fs.root = new if each.fs.root.same(old) else each.fs.root
            each.fs.cwd = new if each.fs.cwd.same(old) else each.fs.cwd
    return 0
