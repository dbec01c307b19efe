"""kcmp(2): do two processes share a file, memory, or whatever else can be shared?"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi import kcmp as k
from trapline.abi.errno import EINVAL, ENOENT, EPERM, ESRCH
from trapline.kernel.ipc.epoll import Epoll
from trapline.kernel.syscalls.declare import Arg, Pid, ULong, syscall
from trapline.kernel.task.access import may_access

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

#: what each type but the two about files compares
_SHARED: dict[int, Callable[[Task], Any]] = {
    k.KCMP_VM: lambda task: task.mm,
    k.KCMP_FILES: lambda task: task.files,
    k.KCMP_FS: lambda task: task.fs,
    k.KCMP_SIGHAND: lambda task: task.group.actions,
    k.KCMP_IO: lambda task: task.io_context,
    k.KCMP_SYSVSEM: lambda task: task.sem_undo,
}
_WORD = (1 << 64) - 1


@syscall("kcmp")
def sys_kcmp(
    task: Task, pid1: Pid, pid2: Pid, type: Annotated[int, Arg(-32, "enum:kcmp")], idx1: ULong, idx2: ULong
) -> int:
    """kcmp(2): compare two processes: 0 the same, 1 less, 2 greater, in an order that lasts until the next boot."""
    first, second = task.kernel.tasks.get(pid1), task.kernel.tasks.get(pid2)
    if first is None or second is None:
        raise EPERM if {pid1, pid2} <= {task.kernel.init.pid, *task.kernel.tasks} else ESRCH
    if not (may_access(task, first) and may_access(task, second)):
        raise EPERM
    if type == k.KCMP_FILE:
        return _order(task, _file(first, idx1), _file(second, idx2))
    if type == k.KCMP_EPOLL_TFD:
        return _order(task, _file(first, idx1), _watched(task, second, idx2))
    if type not in _SHARED:
        raise EINVAL
    look = _SHARED[type]
    return _order(task, look(first), look(second))


def _file(task: Task, fd: int) -> File:
    """kcmp(2) takes the low half of an index, as the kernel's `unsigned int`."""
    file: File = task.files.get_any(fd & 0xFFFFFFFF)
    return file


def _watched(task: Task, other: Task, address: int) -> File:
    """The `toff`-th file that epoll `efd` of `other` watches as descriptor `tfd`."""
    efd, tfd, toff = k.EPOLL_SLOT.unpack(task.mm.read(address, k.EPOLL_SLOT.size))
    epoll = other.files.get(efd)
    if not isinstance(epoll, Epoll):
        raise EINVAL("not an epoll")
    found: list[File] = [file for file, fd in epoll.interests if fd == tfd]
    if toff >= len(found):
        raise ENOENT
    file: File = found[toff]
    return file


def _order(task: Task, first: Any, second: Any) -> int:
    """Sorting needs an order, but where objects lie is the kernel's own business: a secret permutation hides it."""
    if first is second:
        return 0
    key, odd = task.kernel.kcmp_secret
    return 1 if (id(first) ^ key) * odd & _WORD < (id(second) ^ key) * odd & _WORD else 2
