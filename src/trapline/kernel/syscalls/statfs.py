"""Whole file systems: statfs(2), ustat(2), sync(2), syncfs(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EINVAL
from trapline.abi.fcntl import AT_FDCWD
from trapline.abi.mount import (
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RELATIME,
    ST_NOATIME,
    ST_NODEV,
    ST_NODIRATIME,
    ST_NOEXEC,
    ST_NOSUID,
    ST_NOSYMFOLLOW,
    ST_RDONLY,
    ST_RELATIME,
    ST_VALID,
)
from trapline.abi.stat import STATFS, USTAT
from trapline.kernel.syscalls.atpath import Dev
from trapline.kernel.syscalls.declare import Arg, Fd, Path, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.mount import Path as FsPath
    from trapline.kernel.task.task import Task

StatfsOut = Annotated[int, Arg(64, "struct_out:statfs")]

_FLAGS = (
    (MS_NOSUID, ST_NOSUID), (MS_NODEV, ST_NODEV), (MS_NOEXEC, ST_NOEXEC), (MS_NOATIME, ST_NOATIME),
    (MS_NODIRATIME, ST_NODIRATIME), (MS_RELATIME, ST_RELATIME), (MS_NOSYMFOLLOW, ST_NOSYMFOLLOW),
)  # fmt: skip


def _mount_flags(mount: Mount) -> int:
    flags = ST_VALID | (ST_RDONLY if mount.read_only() else 0)
    for bit, shown in _FLAGS:
        if mount.flags & bit:
            flags |= shown
    return flags


def _statfs(path: FsPath) -> bytes:
    inode = path.inode
    st = inode.statfs()
    dev = inode.sb.dev
    return STATFS.pack(
        st.magic, st.bsize, st.blocks, st.bfree, st.bfree, st.files, st.ffree, dev & 0x7FFFFFFF, dev >> 32 & 0x7FFFFFFF,
        st.namelen, st.bsize, _mount_flags(path.mount),
    )  # fmt: skip


@syscall("statfs")
def sys_statfs(task: Task, path: Path, buf: StatfsOut) -> int:
    """statfs(2): what is known of the file system a file is on."""
    task.mm.write(buf, _statfs(task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(path))))
    return 0


@syscall("fstatfs")
def sys_fstatfs(task: Task, fd: Fd, buf: StatfsOut) -> int:
    """fstatfs(2): what is known of the file system an open file is on."""
    task.mm.write(buf, _statfs(task.kernel.vfs.path_of(task.files.get_any(fd))))
    return 0


@syscall("ustat")
def sys_ustat(task: Task, dev: Dev, ubuf: UserPtr) -> int:
    """ustat(2): free blocks and inodes of a mounted file system, by device number."""
    for mount in task.kernel.vfs.mounts:
        if mount.sb.dev == dev:
            st = mount.sb.statfs()
            task.mm.write(ubuf, USTAT.pack(min(st.bfree, 0x7FFFFFFF), st.ffree))
            return 0
    raise EINVAL("no such file system")


@syscall("sync")
def sys_sync(task: Task) -> int:
    """sync(2): write everything back."""
    task.kernel.vfs.sync()
    return 0


@syscall("syncfs")
def sys_syncfs(task: Task, fd: Fd) -> int:
    """syncfs(2): write one file system back."""
    task.files.get(fd).inode.sb.sync()
    return 0
