"""mount(2), umount2(2), pivot_root(2): changing the tree. There is one mount namespace, the kernel's."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_ADMIN
from trapline.abi.errno import EAGAIN, EBUSY, EINVAL, ELOOP, ENOTDIR, EPERM
from trapline.abi.fcntl import AT_FDCWD
from trapline.abi.mount import (
    MNT_DETACH,
    MNT_EXPIRE,
    MNT_FORCE,
    MS_BIND,
    MS_MGC_MSK,
    MS_MGC_VAL,
    MS_MOVE,
    MS_NOATIME,
    MS_NODIRATIME,
    MS_PER_MOUNT,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_SHARED,
    MS_SILENT,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_UNBINDABLE,
    UMOUNT_NOFOLLOW,
)
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.fs import propagation, tree
from trapline.kernel.fs.mount import Path as FsPath
from trapline.kernel.syscalls.atpath import check_flags
from trapline.kernel.syscalls.declare import Arg, Path, Str, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.task.task import Task

MountFlags = Annotated[int, Arg(64, "flags:mount")]
UmountFlags = Annotated[int, Arg(-32, "flags:umount")]
PROPAGATION = MS_PRIVATE | MS_SHARED | MS_SLAVE | MS_UNBINDABLE
ATIME = MS_NOATIME | MS_RELATIME | MS_STRICTATIME | MS_NODIRATIME


def read_string(task: Task, address: int, limit: int = 4096) -> bytes:
    """A string argument, empty for a null pointer; EINVAL if it is longer than `limit`."""
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


def per_mount(flags: int) -> int:
    """The flags of a mount, from those of mount(2): relatime is the default."""
    atime = MS_NOATIME if flags & MS_NOATIME else flags & MS_STRICTATIME or MS_RELATIME
    return flags & MS_PER_MOUNT & ~(MS_NOATIME | MS_RELATIME) | atime


@syscall("mount")
def sys_mount(
    task: Task, source: Str, target: Path, filesystemtype: Str, mountflags: MountFlags, data: UserPtr
) -> int:
    """mount(2): put a file system, or a part of the tree, over a directory; move or change a mount.

    Partial: the types are those the kernel has (tmpfs, proc, sysfs, ...); nothing is ever read from a device. MS_LAZYTIME,
    MS_SYNCHRONOUS and MS_DIRSYNC have no disk to act on.
    """
    kind = read_string(task, filesystemtype)
    name = read_string(task, source)
    options = parse_options(read_string(task, data))
    vfs = task.kernel.vfs
    at = vfs.walk(task, AT_FDCWD, task.mm.read_path(target))
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    flags = mountflags & ~MS_SILENT
    if flags & MS_MGC_MSK == MS_MGC_VAL:
        flags &= ~MS_MGC_MSK
    if flags & MS_REMOUNT:
        return _remount(task, at, flags, options)
    if flags & PROPAGATION and not flags & MS_BIND:
        return _propagation(task, at, flags)
    at = vfs.crossed(at)  # what the caller still reaches below a mount, as by `.`, is covered on top
    if flags & MS_BIND:
        return _bind(task, name, at, flags)
    if flags & MS_MOVE:
        return _move(task, name, at)
    if not kind:
        raise EINVAL("no type")
    sb = vfs.make_superblock(kind, name, options, task)
    if flags & MS_RDONLY:
        sb.read_only = True
    if at.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    tree.attach(vfs, vfs.new_mount(sb, name or b"none", per_mount(flags)), at)
    return 0


def is_mounted(at: FsPath) -> None:
    if at.dentry is not at.mount.root:
        raise EINVAL("not a mount point")


def writing(task: Task) -> set[Mount]:
    """The mounts on which some process has a file open that it may write."""
    found: set[Mount] = set()
    for each in task.kernel.tasks.values():
        if each.files is not None:
            found |= {file.path.mount for _, file in each.files.items() if file.path is not None and file.writable}
    return found


def set_flags(mount: Mount, flags: int) -> None:
    """New MS_* flags of one mount. What the user bound read-only stays so."""
    keep = mount.flags & MS_RDONLY if mount.sb.fstype == b"hostfs" and mount.sb.read_only else 0
    mount.flags = flags | keep


def _remount(task: Task, at: FsPath, flags: int, options: dict[bytes, bytes]) -> int:
    is_mounted(at)
    mount, vfs = at.mount, task.kernel.vfs
    tree.in_tree(vfs, mount)
    wanted = per_mount(flags)
    if not flags & ATIME:
        wanted = wanted & ~ATIME | mount.flags & ATIME
    affected = [mount] if flags & MS_BIND else [each for each in vfs.mounts if each.sb is mount.sb]
    if flags & MS_RDONLY and not mount.read_only():
        tree.check_writers(affected, writing(task))
    if not flags & MS_BIND:
        reconfigure(mount, options, bool(flags & MS_RDONLY))
    set_flags(mount, wanted)
    return 0


def reconfigure(mount: Mount, options: dict[bytes, bytes], read_only: bool) -> None:
    """Change the file system of a mount. EINVAL, EPERM."""
    sb = mount.sb
    if sb.fstype == b"hostfs" and sb.read_only and not read_only:
        raise EPERM("what was bound read-only stays read-only")
    sb.reconfigure(options)
    sb.read_only = read_only


def _propagation(task: Task, at: FsPath, flags: int) -> int:
    kinds = flags & PROPAGATION
    if kinds & (kinds - 1) or flags & ~(PROPAGATION | MS_REC):
        raise EINVAL
    is_mounted(at)
    vfs = task.kernel.vfs
    for each in tree.with_below(vfs, at.mount, bool(flags & MS_REC)):
        propagation.set_type(vfs, each, kinds)
    return 0


def _bind(task: Task, name: bytes, at: FsPath, flags: int) -> int:
    """A part of the tree appears in a second place, with what is mounted in it if MS_REC."""
    if not name:
        raise EINVAL
    vfs = task.kernel.vfs
    source = vfs.walk(task, AT_FDCWD, name)
    tree.in_tree(vfs, source.mount)
    vfs.check_place_of(source.inode, at)
    copy = tree.copy(vfs, source, bool(flags & MS_REC))
    tree.attach(vfs, copy, at)
    return 0


def check_kind(mount: Mount, at: FsPath) -> None:
    """EINVAL to put a directory over a file, or a file over a directory."""
    assert mount.root.inode is not None
    if (mount.root.inode.mode & S_IFMT == S_IFDIR) != (at.inode.mode & S_IFMT == S_IFDIR):
        raise EINVAL


def _move(task: Task, name: bytes, at: FsPath) -> int:
    if not name:
        raise EINVAL
    vfs = task.kernel.vfs
    source = vfs.walk(task, AT_FDCWD, name)
    is_mounted(source)
    move(task, source.mount, at)
    return 0


def move(task: Task, mount: Mount, at: FsPath) -> None:
    """MS_MOVE and move_mount(2) of an attached mount."""
    if mount.parent is None:
        raise EINVAL("the root stays where it is")
    vfs = task.kernel.vfs
    if mount.parent.peers is not None:
        raise EINVAL("the peers of what it is mounted on would have to know")
    check_kind(mount, at)
    tree.check_bindable(vfs.below(mount), at)
    if at.mount is mount or tree.is_inside(at.mount, FsPath(mount, mount.root)):
        raise ELOOP
    tree.move(vfs, mount, at)


@syscall("umount2")
def sys_umount2(task: Task, target: Path, flags: UmountFlags) -> int:
    """umount2(2): remove a mount."""
    check_flags(flags, MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)
    vfs = task.kernel.vfs
    at = vfs.walk(task, AT_FDCWD, task.mm.read_path(target), not flags & UMOUNT_NOFOLLOW)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    is_mounted(at)
    tree.in_tree(vfs, at.mount)
    mount = at.mount
    if flags & MNT_EXPIRE and (flags & (MNT_FORCE | MNT_DETACH) or mount.parent is None):
        raise EINVAL
    if mount.parent is None:
        raise EBUSY if not flags & MNT_DETACH else EINVAL
    if not flags & MNT_DETACH:
        affected = [mount, *propagation.would_go(vfs, mount)] if vfs.peer_groups else [mount]
        if any(_in_use(task, each) for each in affected):
            raise EBUSY
    if flags & MNT_EXPIRE and mount.expiring != mount.visits - 1:  # somebody but this walk was here since it was marked
        mount.expiring = mount.visits
        raise EAGAIN
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
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    new = vfs.walk(task, AT_FDCWD, task.mm.read_path(new_root))
    put = vfs.walk(task, AT_FDCWD, task.mm.read_path(put_old))
    if new.inode.mode & S_IFMT != S_IFDIR or put.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    old = task.fs.root
    if new.mount is old.mount or put.mount is old.mount:
        raise EBUSY
    is_mounted(new)
    if old.dentry is not old.mount.root or old.mount.parent is not None or new.mount.parent is None:
        raise EINVAL
    if old.mount.peers is not None or new.mount.parent.peers is not None:
        raise EINVAL("peers would have to know")
    if put.mount is not new.mount and not tree.is_inside(put.mount, new):
        raise EINVAL
    vfs.pivot(new.mount, put)
    for each in task.kernel.tasks.values():
        if each.fs is not None:
            each.fs.root = new if each.fs.root.same(old) else each.fs.root
            each.fs.cwd = new if each.fs.cwd.same(old) else each.fs.cwd
    return 0
