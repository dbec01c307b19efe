"""Leftovers of storage and terminals: sysfs(2), swapon(2), swapoff(2), vhangup(2); quotas and fanotify(7), which are absent."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_ADMIN, CAP_SYS_TTY_CONFIG
from trapline.abi.errno import EINVAL, ENOSYS, EPERM
from trapline.abi.fcntl import AT_FDCWD
from trapline.kernel.syscalls.atpath import check_flags
from trapline.kernel.syscalls.declare import Arg, Hex, Int, Path, refuse, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

SWAP_FLAGS = 0x7FFFF  #: SWAP_FLAG_PREFER, a priority, and SWAP_FLAG_DISCARD*

refuse(ENOSYS, "as without CONFIG_QUOTA", "quotactl", "quotactl_fd")
refuse(ENOSYS, "as without CONFIG_FANOTIFY; there is inotify(7)", "fanotify_init", "fanotify_mark")
refuse(ENOSYS, "no such call since Linux 6.7", "lookup_dcookie")


@syscall("sysfs")
def sys_sysfs(task: Task, option: Int, arg1: Hex, arg2: Hex) -> int:
    """sysfs(2): how many types of file systems there are, their numbers and names; not about the file system sysfs(5)."""
    types = task.kernel.vfs.filesystems()
    if option == 1:
        name = task.mm.read_cstr(arg1, 4096)
        if name not in types:
            raise EINVAL
        return types.index(name)
    if option == 2:
        if arg1 >= len(types):
            raise EINVAL
        task.mm.write(arg2, types[arg1] + b"\0")
        return 0
    if option == 3:
        return len(types)
    raise EINVAL


def _swap_file(task: Task, path: int) -> int:
    """No file is ever fit to swap to: there are no devices, and no file system here says where its blocks are."""
    task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(path))
    raise EINVAL


@syscall("swapon")
def sys_swapon(task: Task, path: Path, swapflags: Annotated[int, Arg(-32, "hex")]) -> int:
    """swapon(2): swap to a file. Always EINVAL in the end: as on tmpfs, no file can be swapped to."""
    check_flags(swapflags, SWAP_FLAGS)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    return _swap_file(task, path)


@syscall("swapoff")
def sys_swapoff(task: Task, path: Path) -> int:
    """swapoff(2): stop to swap to a file. Always EINVAL in the end: nothing is swapped to."""
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    return _swap_file(task, path)


@syscall("vhangup")
def sys_vhangup(task: Task) -> int:
    """vhangup(2): hang up the caller's controlling terminal."""
    if not task.creds.has_cap(CAP_SYS_TTY_CONFIG):
        raise EPERM
    if task.group.tty is not None:
        task.group.tty.hang_up()
    return 0
