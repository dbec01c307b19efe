"""Mounting by descriptor: open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), fspick(2), mount_setattr(2).

A detached tree goes with the descriptor that stands for it, unless it was attached before.
"""

from __future__ import annotations

from struct import Struct
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import mount as m
from trapline.abi.capability import CAP_SYS_ADMIN
from trapline.abi.errno import E2BIG, EBUSY, EINVAL, ENODEV, EOPNOTSUPP, EPERM
from trapline.abi.fcntl import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_SYMLINK_NOFOLLOW,
    O_CLOEXEC,
    O_PATH,
)
from trapline.kernel.fs import configuring, propagation, tree
from trapline.kernel.fs.configuring import Configuration
from trapline.kernel.fs.file import PathFile
from trapline.kernel.fs.mount import Path as FsPath
from trapline.kernel.syscalls.atpath import check_flags
from trapline.kernel.syscalls.declare import Arg, DirFd, Fd, Int, Path, Size, Str, UserPtr, syscall
from trapline.kernel.syscalls.eventfd import install_new
from trapline.kernel.syscalls.mount import (
    PROPAGATION,
    check_kind,
    is_mounted,
    move,
    reconfigure,
    set_flags,
    writing,
)

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.task.task import Task

OpenTreeFlags = Annotated[int, Arg(32, "flags:open_tree")]
MoveFlags = Annotated[int, Arg(32, "flags:move_mount")]
AttrFlags = Annotated[int, Arg(32, "flags:mount_attr")]
SetattrFlags = Annotated[int, Arg(32, "flags:mount_setattr")]
Command = Annotated[int, Arg(32, "enum:fsconfig")]
PickFlags = Annotated[int, Arg(32, "flags:fspick")]
_ATTR = Struct("<4Q")
_ATTR_MAX = 4096
_KEY_MAX = 256
_BINARY_MAX = 1 << 20
#: MOUNT_ATTR_* that are one bit each, and the MS_* they stand for.
_BITS = (
    (m.MOUNT_ATTR_RDONLY, m.MS_RDONLY), (m.MOUNT_ATTR_NOSUID, m.MS_NOSUID), (m.MOUNT_ATTR_NODEV, m.MS_NODEV),
    (m.MOUNT_ATTR_NOEXEC, m.MS_NOEXEC), (m.MOUNT_ATTR_NODIRATIME, m.MS_NODIRATIME),
    (m.MOUNT_ATTR_NOSYMFOLLOW, m.MS_NOSYMFOLLOW),
)  # fmt: skip
_ATIMES = {0: m.MS_RELATIME, m.MOUNT_ATTR_NOATIME: m.MS_NOATIME, m.MOUNT_ATTR_STRICTATIME: m.MS_STRICTATIME}
_FOR_MOUNT = sum(bit for bit, _ in _BITS) | m.MOUNT_ATTR_ATIME


def _may_mount(task: Task) -> None:
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM


def _bits(attributes: int) -> int:
    flags = 0
    for bit, flag in _BITS:
        flags |= flag if attributes & bit else 0
    return flags


def _place(task: Task, dirfd: int, pathname: int, at_flags: int) -> FsPath:
    return task.kernel.vfs.path_at(task, dirfd, task.mm.read_path(pathname), at_flags)


# ---- trees


@syscall("open_tree", returns="fd")
def sys_open_tree(task: Task, dirfd: DirFd, pathname: Path, flags: OpenTreeFlags) -> int:
    """open_tree(2): open a place in the tree, or with OPEN_TREE_CLONE a detached copy of the mounts there."""
    check_flags(
        flags, m.OPEN_TREE_CLONE | O_CLOEXEC | m.AT_RECURSIVE | AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT
    )
    clone = bool(flags & m.OPEN_TREE_CLONE)
    if flags & m.AT_RECURSIVE and not clone:
        raise EINVAL
    if clone:
        _may_mount(task)
    at = _place(task, dirfd, pathname, flags)
    file: File
    if clone:
        if tree.top_of(at.mount) not in (task.kernel.vfs.root.mount, *task.kernel.vfs.detached):
            raise EINVAL("in no tree")
        file = _detached(task, tree.copy(task.kernel.vfs, at, bool(flags & m.AT_RECURSIVE)))
    else:
        file = PathFile(at.inode, O_PATH, at)
    return install_new(task, file, bool(flags & O_CLOEXEC))


def _detached(task: Task, mount: Mount) -> File:
    """The descriptor that stands for a detached tree."""
    vfs = task.kernel.vfs
    at = FsPath(mount, mount.root)
    file = PathFile(at.inode, O_PATH, at)
    file.on_release = [lambda file: tree.dissolve(vfs, mount)]
    return file


@syscall("move_mount")
def sys_move_mount(
    task: Task, from_dirfd: DirFd, from_pathname: Path, to_dirfd: DirFd, to_pathname: Path, flags: MoveFlags
) -> int:
    """move_mount(2): attach a detached tree, or move a mount; or give a mount the peers of another."""
    _may_mount(task)
    check_flags(flags, m.MOVE_MOUNT_ALL)
    special = flags & (m.MOVE_MOUNT_SET_GROUP | m.MOVE_MOUNT_BENEATH)
    if special == m.MOVE_MOUNT_SET_GROUP | m.MOVE_MOUNT_BENEATH:
        raise EINVAL
    source = _place(task, from_dirfd, from_pathname, _at_flags(flags))
    to = _place(task, to_dirfd, to_pathname, _at_flags(flags >> 4))
    mount, vfs = source.mount, task.kernel.vfs
    is_mounted(source)
    if special:
        is_mounted(to)
    if special == m.MOVE_MOUNT_SET_GROUP:
        propagation.set_group(to.mount, mount)
        return 0
    if special == m.MOVE_MOUNT_BENEATH:
        to = propagation.check_beneath(vfs, mount, to.mount)
    else:
        to = vfs.crossed(to)
    if mount in vfs.detached:
        check_kind(mount, to)
        tree.attach(vfs, mount, to)
    else:
        move(task, mount, to)
    return 0


def _at_flags(flags: int) -> int:
    """AT_* for the lower four bits of MOVE_MOUNT_*."""
    empty = AT_EMPTY_PATH if flags & m.MOVE_MOUNT_F_EMPTY_PATH else 0
    return empty if flags & m.MOVE_MOUNT_F_SYMLINKS else empty | AT_SYMLINK_NOFOLLOW


# ---- file systems


@syscall("fsopen", returns="fd")
def sys_fsopen(task: Task, fsname: Str, flags: Annotated[int, Arg(32, "flags:fsopen")]) -> int:
    """fsopen(2): begin to configure a new instance of a file system."""
    _may_mount(task)
    check_flags(flags, m.FSOPEN_CLOEXEC)
    name = task.mm.read_cstr(fsname, 4096)
    if name is None:
        raise EINVAL
    if name not in task.kernel.vfs.filesystems():
        raise ENODEV
    return install_new(task, Configuration(task.kernel.vfs, name), bool(flags))


@syscall("fspick", returns="fd")
def sys_fspick(task: Task, dirfd: DirFd, pathname: Path, flags: PickFlags) -> int:
    """fspick(2): begin to change the file system of a mount."""
    _may_mount(task)
    check_flags(flags, m.FSPICK_CLOEXEC | m.FSPICK_SYMLINK_NOFOLLOW | m.FSPICK_NO_AUTOMOUNT | m.FSPICK_EMPTY_PATH)
    at_flags = AT_EMPTY_PATH if flags & m.FSPICK_EMPTY_PATH else 0
    at_flags |= AT_SYMLINK_NOFOLLOW if flags & m.FSPICK_SYMLINK_NOFOLLOW else 0
    at = _place(task, dirfd, pathname, at_flags)
    is_mounted(at)
    return install_new(task, Configuration(task.kernel.vfs, at.mount.sb.fstype, at.mount), bool(flags & m.FSPICK_CLOEXEC))


def _configuration(task: Task, fd: int) -> Configuration:
    file = task.files.get(fd)
    if not isinstance(file, Configuration):
        raise EINVAL
    return file


def _check_arguments(command: int, key: int, value: int, aux: int) -> None:
    """Which of the three arguments each command has. EINVAL, EOPNOTSUPP."""
    if command == m.FSCONFIG_SET_FLAG:
        good = key and not value and not aux
    elif command == m.FSCONFIG_SET_STRING:
        good = key and value and not aux
    elif command == m.FSCONFIG_SET_BINARY:
        good = key and value and 0 < aux <= _BINARY_MAX
    elif command in (m.FSCONFIG_SET_PATH, m.FSCONFIG_SET_PATH_EMPTY):
        good = key and value and (aux == AT_FDCWD or aux >= 0)
    elif command == m.FSCONFIG_SET_FD:
        good = key and not value and aux >= 0
    elif command in (m.FSCONFIG_CMD_CREATE, m.FSCONFIG_CMD_CREATE_EXCL, m.FSCONFIG_CMD_RECONFIGURE):
        good = not key and not value and not aux
    else:
        raise EOPNOTSUPP
    if not good:
        raise EINVAL


@syscall("fsconfig")
def sys_fsconfig(task: Task, fd: Fd, cmd: Command, key: Str, value: UserPtr, aux: Int) -> int:
    """fsconfig(2): set a parameter of a file system, or make or change it.

    Partial: no file system here has parameters that are paths, descriptors or bytes (EINVAL).
    """
    if fd < 0:
        raise EINVAL
    _check_arguments(cmd, key, value, aux)
    configuration = _configuration(task, fd)
    if cmd in (m.FSCONFIG_CMD_CREATE, m.FSCONFIG_CMD_CREATE_EXCL):
        _may_mount(task)
        configuration.create(task)
    elif cmd == m.FSCONFIG_CMD_RECONFIGURE:
        _may_mount(task)
        _change(task, configuration)
    else:
        name = _text(task, key)
        text = _text(task, value) if cmd == m.FSCONFIG_SET_STRING else None
        if cmd not in (m.FSCONFIG_SET_FLAG, m.FSCONFIG_SET_STRING):
            raise configuration.complain(f"Bad value for '{name.decode(errors='replace')}'")
        configuration.set(name, text)
    return 0


def _text(task: Task, address: int) -> bytes:
    text = task.mm.read_cstr(address, _KEY_MAX)
    if text is None:
        raise EINVAL
    return text


def _change(task: Task, configuration: Configuration) -> None:
    configuration.check_change()
    mount = configuration.mount
    assert mount is not None
    if configuration.read_only and not mount.sb.read_only:
        vfs = task.kernel.vfs
        tree.check_writers([each for each in vfs.mounts if each.sb is mount.sb], writing(task))
    reconfigure(mount, configuration.options, configuration.read_only)
    configuration.changed()


@syscall("fsmount", returns="fd")
def sys_fsmount(
    task: Task, fd: Fd, flags: Annotated[int, Arg(32, "flags:fsmount")], attr_flags: AttrFlags
) -> int:
    """fsmount(2): a detached mount of a file system that was configured."""
    _may_mount(task)
    check_flags(flags, m.FSMOUNT_CLOEXEC)
    check_flags(attr_flags, _FOR_MOUNT)
    atime = _ATIMES.get(attr_flags & m.MOUNT_ATTR_ATIME)
    if atime is None:
        raise EINVAL
    configuration = _configuration(task, fd)
    sb = configuration.sb
    if sb is None:
        raise EINVAL("not created yet")
    if configuration.phase != configuring.AWAITING_MOUNT:
        raise EBUSY
    task.files.reserve()
    vfs = task.kernel.vfs
    mount = vfs.new_mount(sb, configuration.source or b"none", _bits(attr_flags) | atime)
    vfs.detached[mount] = None
    configuration.mount = mount
    configuration.changed()
    return install_new(task, _detached(task, mount), bool(flags))


# ---- attributes


@syscall("mount_setattr")
def sys_mount_setattr(
    task: Task, dirfd: DirFd, pathname: Path, flags: SetattrFlags, uattr: UserPtr, usize: Size
) -> int:
    """mount_setattr(2): change the attributes of a mount, or of a tree of mounts.

    Partial: MOUNT_ATTR_IDMAP fails with EINVAL: there is one user namespace.
    """
    check_flags(flags, AT_EMPTY_PATH | m.AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)
    if usize > _ATTR_MAX:
        raise E2BIG
    if usize < _ATTR.size:
        raise EINVAL
    _may_mount(task)
    raw = task.mm.read(uattr, usize)
    if any(raw[_ATTR.size :]):
        raise E2BIG
    wanted, cleared, kind, userns = _ATTR.unpack_from(raw)
    if not wanted and not cleared and not kind:
        return 0
    _check_attributes(task, wanted, cleared, kind, userns)
    at = _place(task, dirfd, pathname, flags)
    is_mounted(at)
    mounts = tree.with_below(task.kernel.vfs, at.mount, bool(flags & m.AT_RECURSIVE))
    if wanted & m.MOUNT_ATTR_RDONLY:
        tree.check_writers(mounts, writing(task))
    for each in mounts:
        if kind:
            propagation.set_type(task.kernel.vfs, each, kind)
        kept = each.flags & ~_bits(cleared) | _bits(wanted)
        if cleared & m.MOUNT_ATTR_ATIME:
            kept = kept & ~(m.MS_NOATIME | m.MS_RELATIME | m.MS_STRICTATIME) | _ATIMES[wanted & m.MOUNT_ATTR_ATIME]
        set_flags(each, kept)
    return 0


def _check_attributes(task: Task, wanted: int, cleared: int, kind: int, userns: int) -> None:
    """EINVAL for what makes no sense; EBADF for the descriptor of no user namespace."""
    if kind & ~PROPAGATION or kind & (kind - 1):
        raise EINVAL
    check_flags(wanted | cleared, _FOR_MOUNT | m.MOUNT_ATTR_IDMAP)
    if cleared & m.MOUNT_ATTR_ATIME:
        if cleared & m.MOUNT_ATTR_ATIME != m.MOUNT_ATTR_ATIME or wanted & m.MOUNT_ATTR_ATIME not in _ATIMES:
            raise EINVAL
    elif wanted & m.MOUNT_ATTR_ATIME:
        raise EINVAL
    if (wanted | cleared) & m.MOUNT_ATTR_IDMAP:
        if wanted & m.MOUNT_ATTR_IDMAP and userns <= 0x7FFFFFFF:
            task.files.get(userns)  # EBADF
        raise EINVAL("no user namespaces to map ids with")
