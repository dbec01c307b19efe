"""File handles: name_to_handle_at(2), open_by_handle_at(2): a file by what its file system calls it."""

from __future__ import annotations

from struct import Struct
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_DAC_READ_SEARCH
from trapline.abi.errno import EINVAL, ENOTSUP, EOVERFLOW, EPERM, ESTALE
from trapline.abi.fcntl import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    O_ALL,
    O_CLOEXEC,
    O_CREAT,
)
from trapline.kernel.fs.opening import open_inode
from trapline.kernel.syscalls.atpath import OpenFlags, check_flags
from trapline.kernel.syscalls.declare import Arg, DirFd, Path, Result, UserPtr, syscall
from trapline.kernel.syscalls.open import install

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

HandleFlags = Annotated[int, Arg(-32, "flags:name_to_handle_at")]
_HEAD = Struct("<Ii")  #: struct file_handle: handle_bytes, handle_type; the handle follows
MAX_HANDLE_SZ = 128
AT_HANDLE_FID = 0x200


@syscall("name_to_handle_at")
def sys_name_to_handle_at(
    task: Task, dirfd: DirFd, pathname: Path, handle: UserPtr, mount_id: UserPtr, flags: HandleFlags
) -> int:
    """name_to_handle_at(2): what a file is called by its file system, and which mount it was found on.

    Partial: tmpfs names its files; other file systems answer EOPNOTSUPP, as overlayfs does by default.
    """
    check_flags(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | AT_HANDLE_FID)
    vfs = task.kernel.vfs
    at_flags = flags & AT_EMPTY_PATH | (0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW)
    path = vfs.path_at(task, dirfd, task.mm.read_path(pathname), at_flags)
    name = path.mount.sb.export(path.inode)
    if name is None:
        raise ENOTSUP
    space, _ = _HEAD.unpack(task.mm.read(handle, _HEAD.size))
    if space > MAX_HANDLE_SZ:
        raise EINVAL
    task.mm.write_u32(mount_id, path.mount.ident)
    kind, data = name
    if space < len(data):
        task.mm.write(handle, _HEAD.pack(len(data), kind))
        raise EOVERFLOW
    task.mm.write(handle, _HEAD.pack(len(data), kind) + data)
    return 0


@syscall("open_by_handle_at", returns="fd")
def sys_open_by_handle_at(task: Task, mount_fd: DirFd, handle: UserPtr, flags: OpenFlags) -> Result:
    """open_by_handle_at(2): open a file by its handle; needs CAP_DAC_READ_SEARCH."""
    if not task.creds.has_cap(CAP_DAC_READ_SEARCH):
        raise EPERM
    vfs = task.kernel.vfs
    mount = task.fs.cwd.mount if mount_fd == AT_FDCWD else vfs.path_of(task.files.get_any(mount_fd)).mount
    size, kind = _HEAD.unpack(task.mm.read(handle, _HEAD.size))
    if not 0 < size <= MAX_HANDLE_SZ:
        raise EINVAL
    inode = mount.sb.find(kind, task.mm.read(handle + _HEAD.size, size))
    if inode is None:
        raise ESTALE
    task.files.reserve()
    file = open_inode(mount, inode, flags & O_ALL & ~O_CREAT, task)
    return install(task, file, bool(flags & O_CLOEXEC))
