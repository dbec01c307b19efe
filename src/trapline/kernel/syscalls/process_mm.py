"""What one process says about another's memory: process_madvise(2), process_mrelease(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_NICE
from trapline.abi.errno import EINVAL, EPERM, ESRCH, Errno
from trapline.abi.mman import MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT, MADV_WILLNEED
from trapline.kernel.ipc.pidfd import group_of_pidfd
from trapline.kernel.syscalls.declare import Arg, Fd, Size, UInt, syscall
from trapline.kernel.task.access import may_access

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.task import Task

Iov = Annotated[int, Arg(64, "iov_in:vlen")]
_MAY_ADVISE = (MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_COLLAPSE)


def _memory(task: Task, pidfd: int) -> tuple[Task, AddressSpace]:
    """A task of the process of a pidfd that still has memory, and the memory. Raises EBADF, ESRCH."""
    group = group_of_pidfd(task.files.get(pidfd))
    for each in group.tasks:
        if each.mm is not None:
            return each, each.mm
    raise ESRCH


@syscall("process_madvise")
def sys_process_madvise(
    task: Task, pidfd: Fd, vec: Iov, vlen: Size, advice: Annotated[int, Arg(-32, "enum:madvise")], flags: UInt
) -> int:
    """process_madvise(2): madvise(2) for ranges of another process; how many bytes were advised.

    Partial: as madvise(2).
    """
    if flags:
        raise EINVAL
    ranges = task.mm.read_iovec(vec, vlen)
    target, mm = _memory(task, pidfd)
    if not may_access(task, target):
        raise EPERM
    if mm is not task.mm and advice not in _MAY_ADVISE:
        raise EINVAL("not advice for others")
    if mm is not task.mm and not task.creds.has_cap(CAP_SYS_NICE):
        raise EPERM
    done = 0
    try:
        for start, length in ranges:
            mm.madvise(start, length, advice)
            done += length
    except Errno:
        if not done:
            raise
    return done


@syscall("process_mrelease")
def sys_process_mrelease(task: Task, pidfd: Fd, flags: UInt) -> int:
    """process_mrelease(2): release the memory of a process that was killed; it goes with its threads, which end at once."""
    if flags:
        raise EINVAL
    target, _ = _memory(task, pidfd)
    if not target.group.exiting:
        raise EINVAL("it goes on")
    return 0
