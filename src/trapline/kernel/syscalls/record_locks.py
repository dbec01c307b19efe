"""Record locks of fcntl(2): F_GETLK, F_SETLK, F_SETLKW, and their open-file-description forms."""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EAGAIN, EBADF, EINVAL, EOVERFLOW
from trapline.abi.fcntl import F_RDLCK, F_UNLCK, F_WRLCK, FLOCK, SEEK_CUR, SEEK_END, SEEK_SET
from trapline.kernel.fs.locks import InodeLocks, begin_wait, end_wait, locks_of
from trapline.kernel.fs.ranges import END, RecordLock

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task


def _read(task: Task, file: File, address: int, ofd: bool) -> RecordLock:
    """The lock that a struct flock in user memory describes. EINVAL, EOVERFLOW, EFAULT."""
    kind, whence, start, length, pid = FLOCK.unpack(task.mm.read(address, FLOCK.size))
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK) or (ofd and pid):
        raise EINVAL
    if whence == SEEK_CUR:
        start += file.pos
    elif whence == SEEK_END:
        start += file.page_cache.size if file.page_cache is not None else file.inode.size
    elif whence != SEEK_SET:
        raise EINVAL
    if start > END:
        raise EOVERFLOW
    if length > 0:
        end = start + length - 1
        if end > END:
            raise EOVERFLOW
    elif length < 0:
        start, end = start + length, start - 1
    else:
        end = END
    if start < 0:
        raise EINVAL
    owner: Any = file if ofd else task.files
    return RecordLock(owner, kind, start, end, -1 if ofd else task.group.pid)


def get_lock(task: Task, file: File, address: int, *, ofd: bool) -> int:
    """F_GETLK: describe the first lock in the way, or say that there is none."""
    lock = _read(task, file, address, ofd)
    if lock.kind == F_UNLCK:
        raise EINVAL
    locks: InodeLocks | None = file.inode.locks
    found = locks.conflict(lock) if locks is not None else None
    if found is None:
        task.mm.write(address, F_UNLCK.to_bytes(2, "little"))
        return 0
    length = 0 if found.end == END else found.end - found.start + 1
    task.mm.write(address, FLOCK.pack(found.kind, SEEK_SET, found.start, length, found.pid))
    return 0


def set_lock(
    task: Task, file: File, address: int, *, ofd: bool, wait: bool
) -> int | Coroutine[Any, Any, int]:
    """F_SETLK and F_SETLKW. EAGAIN, EBADF, EDEADLK, ENOLCK."""
    lock = _read(task, file, address, ofd)
    if (lock.kind == F_RDLCK and not file.readable) or (lock.kind == F_WRLCK and not file.writable):
        raise EBADF
    if lock.kind == F_UNLCK and file.inode.locks is None:
        return 0
    locks = locks_of(file.inode)
    found = locks.conflict(lock) if lock.kind != F_UNLCK else None
    if found is None:
        locks.apply(lock)
        return 0
    if not wait:
        raise EAGAIN
    return _set_waiting(task, file, locks, lock, found)


async def _set_waiting(
    task: Task, file: File, locks: InodeLocks, lock: RecordLock, found: RecordLock | None
) -> int:
    file.get()
    try:
        while found is not None:
            edge = begin_wait(lock.owner, found.owner) if lock.pid != -1 else None
            try:
                await locks.queue.wait()
            finally:
                if edge is not None:
                    end_wait(edge)
            found = locks.conflict(lock)
        # after sleep: the descriptor may have been closed, and a lock set now would never be dropped
        if lock.pid != -1 and file not in [each for _, each in task.files.items()]:
            raise EBADF
        locks.apply(lock)
        return 0
    finally:
        file.put()
