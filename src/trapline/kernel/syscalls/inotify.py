"""inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import event as e
from trapline.abi.errno import EINVAL, ENOTDIR
from trapline.abi.fcntl import AT_FDCWD
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.fs.permission import MAY_READ, may
from trapline.kernel.ipc.inotify import Inotify
from trapline.kernel.syscalls.declare import Arg, Fd, Int, Path, syscall
from trapline.kernel.syscalls.eventfd import install_new

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

InitFlags = Annotated[int, Arg(-32, "flags:inotify_init")]
Mask = Annotated[int, Arg(32, "flags:inotify")]
_MASK = (
    e.IN_ALL_EVENTS | e.IN_UNMOUNT | e.IN_Q_OVERFLOW | e.IN_IGNORED | e.IN_ONLYDIR | e.IN_DONT_FOLLOW | e.IN_EXCL_UNLINK
    | e.IN_MASK_CREATE | e.IN_MASK_ADD | e.IN_ISDIR | e.IN_ONESHOT
)  # fmt: skip


@syscall("inotify_init", returns="fd")
def sys_inotify_init(task: Task) -> int:
    """inotify_init(2): create an inotify instance."""
    return sys_inotify_init1(task, 0)


@syscall("inotify_init1", returns="fd")
def sys_inotify_init1(task: Task, flags: InitFlags) -> int:
    """inotify_init1(2): create an inotify instance."""
    if flags & ~(e.IN_NONBLOCK | e.IN_CLOEXEC):
        raise EINVAL
    return install_new(task, Inotify(task.kernel, flags & e.IN_NONBLOCK), bool(flags & e.IN_CLOEXEC))


def _instance(task: Task, fd: int) -> Inotify:
    file = task.files.get(fd)
    if not isinstance(file, Inotify):
        raise EINVAL
    return file


@syscall("inotify_add_watch")
def sys_inotify_add_watch(task: Task, fd: Fd, pathname: Path, mask: Mask) -> int:
    """inotify_add_watch(2): watch a file, or change what a watch reports."""
    if not mask & _MASK or (mask & e.IN_MASK_ADD and mask & e.IN_MASK_CREATE):
        raise EINVAL
    instance = _instance(task, fd)
    name = task.mm.read_path(pathname)
    inode = task.kernel.vfs.walk(task, AT_FDCWD, name, not mask & e.IN_DONT_FOLLOW).inode
    may(inode, task.creds, MAY_READ)
    if mask & e.IN_ONLYDIR and inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    return instance.watch(inode, mask)


@syscall("inotify_rm_watch")
def sys_inotify_rm_watch(task: Task, fd: Fd, wd: Int) -> int:
    """inotify_rm_watch(2): remove a watch."""
    _instance(task, fd).unwatch(wd)
    return 0
