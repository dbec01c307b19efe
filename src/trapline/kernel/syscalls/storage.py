"""Leftovers of storage and terminals: sysfs(2), vhangup(2); quotas and fanotify(7), which are absent."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.capability import CAP_SYS_TTY_CONFIG
from trapline.abi.errno import EINVAL, ENOSYS, EPERM
from trapline.kernel.syscalls.declare import Hex, Int, refuse, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

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


@syscall("vhangup")
def sys_vhangup(task: Task) -> int:
    """vhangup(2): hang up the caller's controlling terminal."""
    if not task.creds.has_cap(CAP_SYS_TTY_CONFIG):
        raise EPERM
    if task.group.tty is not None:
        task.group.tty.hang_up()
    return 0
