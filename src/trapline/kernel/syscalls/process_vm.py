"""process_vm_readv(2), process_vm_writev(2): copy between the caller's memory and another process's."""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.capability import CAP_SYS_PTRACE
from trapline.abi.errno import EFAULT, EINVAL, EPERM, ESRCH
from trapline.kernel.mm.errors import OutOfMemory
from trapline.kernel.sync.park import breathe
from trapline.kernel.syscalls.declare import Pid, Size, ULong, UserPtr, syscall
from trapline.kernel.task.task import WORK_EXIT

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.task import Task

PIECE = 256 << 10  #: bytes copied at once
MANY = 64  #: pieces after which others have a turn

Segments = list[tuple[int, int]]
Pieces = list[tuple[int, int, int]]  #: source, target, length


@syscall("process_vm_readv")
def sys_process_vm_readv(
    task: Task, pid: Pid, local: UserPtr, count: Size, remote: UserPtr, remote_count: Size, flags: ULong
) -> int | Coroutine[Any, Any, int]:
    """process_vm_readv(2): copy from another process's memory."""
    mine, theirs = _vectors(task, local, count, remote, remote_count, flags)
    if not sum(length for _, length in mine):
        return 0
    return _copy(task, _target(task, pid), task.mm, _pieces(theirs, mine))


@syscall("process_vm_writev")
def sys_process_vm_writev(
    task: Task, pid: Pid, local: UserPtr, count: Size, remote: UserPtr, remote_count: Size, flags: ULong
) -> int | Coroutine[Any, Any, int]:
    """process_vm_writev(2): copy to another process's memory."""
    mine, theirs = _vectors(task, local, count, remote, remote_count, flags)
    if not sum(length for _, length in mine):
        return 0
    return _copy(task, task.mm, _target(task, pid), _pieces(mine, theirs))


def _vectors(
    task: Task, local: int, count: int, remote: int, remote_count: int, flags: int
) -> tuple[Segments, Segments]:
    if flags:
        raise EINVAL
    return task.mm.read_iovec(local, count), task.mm.read_iovec(remote, remote_count)


def _target(task: Task, pid: int) -> AddressSpace:
    """The memory of `pid`, if the caller may attach to it (ptrace(2), "Ptrace access mode checking", REALCREDS)."""
    other = task.kernel.tasks.get(pid)
    if other is None or other.mm is None:
        raise ESRCH
    if other.group is task.group:
        return other.mm
    mine, its = task.creds, other.creds
    if not mine.has_cap(CAP_SYS_PTRACE):
        if not mine.uid == its.euid == its.suid == its.uid or not mine.gid == its.egid == its.sgid == its.gid:
            raise EPERM
        if other.dumpable != 1:
            raise EPERM
    return other.mm


def _copy(
    task: Task, source: AddressSpace, target: AddressSpace, pieces: Pieces
) -> int | Coroutine[Any, Any, int]:
    """Copy until either side is used up or faults; how many bytes. Raises EFAULT if the first cannot be copied."""
    if len(pieces) <= MANY:
        return _move(source, target, pieces)
    return _copy_long(task, source.get(), target.get(), pieces)


async def _copy_long(task: Task, source: AddressSpace, target: AddressSpace, pieces: Pieces) -> int:
    """`_copy`, with turns for others; puts both spaces."""
    done = 0
    try:
        for at in range(0, len(pieces), MANY):
            part = pieces[at : at + MANY]
            count = _move(source, target, part)
            done += count
            if count < sum(length for _, _, length in part) or task.work & WORK_EXIT:
                break
            await breathe()
    except (EFAULT, OutOfMemory):
        if not done:
            raise
    finally:
        source.put()
        target.put()
    return done


def _move(source: AddressSpace, target: AddressSpace, pieces: Pieces) -> int:
    done = 0
    try:
        for start, to, length in pieces:
            data = source.read_partial(start, length)
            written = target.write_partial(to, data)
            done += written
            if written < length:
                break
    except (EFAULT, OutOfMemory):
        if not done:
            raise
    return done


def _pieces(sources: Segments, targets: Segments) -> Pieces:
    """(source, target, length) such that each piece lies in one segment of either side."""
    pieces = []
    left, right = [list(each) for each in sources], [list(each) for each in targets]
    i = j = 0
    while i < len(left) and j < len(right):
        length = min(left[i][1], right[j][1], PIECE)
        if length:
            pieces.append((left[i][0], right[j][0], length))
        for segment in (left[i], right[j]):
            segment[0] += length
            segment[1] -= length
        i += not left[i][1]
        j += not right[j][1]
    return pieces
