"""unshare(2) and setns(2). Every process is in the same namespaces: there is one of each kind."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import sched as c
from trapline.abi.capability import CAP_SYS_ADMIN, CAP_SYS_CHROOT
from trapline.abi.errno import EINVAL, EPERM, ESRCH, EUSERS
from trapline.kernel.ipc.pidfd import PidFile
from trapline.kernel.ipc.sysv import undo
from trapline.kernel.syscalls.declare import Arg, Fd, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

CloneFlags = Annotated[int, Arg(64, "flags:clone")]
_UNSHARES = (
    c.CLONE_THREAD | c.CLONE_FS | c.CLONE_SIGHAND | c.CLONE_VM | c.CLONE_FILES | c.CLONE_SYSVSEM | c.NAMESPACES
)  # fmt: skip


@syscall("unshare")
def sys_unshare(task: Task, flags: CloneFlags) -> int:
    """unshare(2): stop sharing the current directory, descriptors or semaphore adjustments with other tasks.

    Partial: namespaces are refused with EPERM, as where nobody may make any.
    """
    if flags & ~_UNSHARES:
        raise EINVAL
    _check_alone(task, _implied(flags))
    if flags & c.NAMESPACES:
        task.kernel.log_once("namespaces", "unshare: namespaces are not implemented: EPERM")
        raise EPERM("namespaces")
    if flags & c.CLONE_FILES and task.files.users > 1:
        task.files.check_copy()
    if flags & c.CLONE_FS and task.fs.users > 1:
        old_fs, task.fs = task.fs, task.fs.fork()
        old_fs.put()
    if flags & c.CLONE_FILES and task.files.users > 1:
        old_files, task.files = task.files, task.files.fork()
        old_files.put()
    if flags & c.CLONE_SYSVSEM:
        undo.leave(task)
    return 0


def _implied(flags: int) -> int:
    """The flags with those that follow from them: unshare(2), under each flag."""
    if flags & c.CLONE_NEWUSER:
        flags |= c.CLONE_THREAD | c.CLONE_FS
    if flags & c.CLONE_VM:
        flags |= c.CLONE_SIGHAND
    if flags & c.CLONE_SIGHAND:
        flags |= c.CLONE_THREAD
    return flags


def _check_alone(task: Task, flags: int) -> None:
    """What a process with threads, or one that shares its memory, cannot leave. Raises EINVAL."""
    group = task.group
    if flags & (c.CLONE_THREAD | c.CLONE_SIGHAND | c.CLONE_VM) and len(group.tasks) > 1:
        raise EINVAL("other threads")
    if flags & (c.CLONE_SIGHAND | c.CLONE_VM):
        others = (each for each in task.kernel.groups.values() if each is not group)
        if any(each.actions is group.actions for each in others):
            raise EINVAL("signal handlers are shared")
    if flags & c.CLONE_VM and task.mm.users > 1:
        raise EINVAL("memory is shared")


@syscall("setns")
def sys_setns(task: Task, fd: Fd, nstype: CloneFlags) -> int:
    """setns(2): enter the namespaces of another process, which are the caller's own.

    Partial: processes are named by pidfds; there are no files that stand for a namespace.
    """
    file = task.files.get(fd)
    if not isinstance(file, PidFile):
        raise EINVAL("not a namespace")
    nstype &= 0xFFFF_FFFF
    if not nstype or nstype & ~c.NAMESPACES:
        raise EINVAL
    if file.group.zombie or file.reaped():
        raise ESRCH
    if nstype & c.CLONE_NEWUSER:
        raise EINVAL("the user namespace the caller is in")
    if nstype & c.CLONE_NEWNS:
        _may_change_mounts(task)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    if nstype & c.CLONE_NEWTIME and len(task.group.tasks) > 1:
        raise EUSERS("other threads")
    return 0


def _may_change_mounts(task: Task) -> None:
    if not task.creds.has_cap(CAP_SYS_CHROOT) or not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    if task.fs.users > 1:
        raise EINVAL("the current directory is shared")
