"""Moving bytes between files and user memory: the one place where reads and writes wait.

`read_user` and `write_user` do everything that the fast paths of `rw` do not: waiting, iovecs, transfers larger than a
chunk, bad addresses in the middle, limits and signals. Both take `offset` None for the file's position.

Invariants:
- at most CHUNK bytes are in the kernel's own memory at once;
- between chunks of a long transfer everybody else gets a turn, and a signal ends it with what was done;
- bytes that user memory did not take go back to the file.
"""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EAGAIN, EFAULT, EFBIG, EINTR, EPIPE, Errno
from trapline.abi.fcntl import O_APPEND, O_NONBLOCK
from trapline.abi.poll import POLLIN, POLLOUT
from trapline.abi.signal import SIGPIPE, SIGXFSZ
from trapline.abi.stat import S_IFMT, S_IFREG, S_IFSOCK, S_ISGID, S_ISUID
from trapline.kernel.fs.permission import mode_after_write
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import Interrupted, WaitQueue, breathe, wait_any
from trapline.kernel.task.signals.send import SigInfo, send_to_task

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.syscalls.iovec import UserBuffer
    from trapline.kernel.task.task import Task

CHUNK = 1 << 20
RLIMIT_FSIZE = 1
RLIM_INFINITY = (1 << 64) - 1
SI_USER = 0

Transfer = int | Coroutine[Any, Any, int]


def read_now(task: Task, file: File, count: int, offset: int | None = None) -> bytes | None:
    """One try to read; None: would block."""
    if offset is not None:
        return file.try_pread(count, offset)
    data = file.try_read(count)
    if data is None and isinstance(file, SpecialFile) and file.by_task:
        data = file.read_as(task, count)
    return data


def write_now(task: Task, file: File, data: bytes | memoryview, offset: int | None = None) -> int | None:
    """One try to write; None: would block. A broken pipe raises the signal too."""
    try:
        done = file.try_write(data) if offset is None else file.try_pwrite(data, offset)
        if done is None and isinstance(file, SpecialFile) and file.by_task:
            done = file.write_as(task, data)
    except EPIPE:
        broken_pipe(task)
        raise
    if done:
        task.group.wchar += done
    return done


def broken_pipe(task: Task) -> None:
    send_to_task(task, SigInfo(SIGPIPE, SI_USER, task.group.pid, task.creds.uid))


def deadline_of(task: Task, file: File, count: int, writing: bool) -> int | None:
    """When a blocked transfer gives up; None: never."""
    if isinstance(file, SpecialFile):
        patience = file.patience_ns(count, writing)
        if patience is not None:
            return int(task.kernel.clock.monotonic_ns()) + patience
    return None


def queues_of(task: Task, file: File) -> tuple[WaitQueue, ...]:
    """Where `task` sleeps for a file."""
    return file.queues_as(task) if isinstance(file, SpecialFile) else file.poll_queues()


def goes_on(file: File) -> bool:
    """A write that was taken in part goes on: streams that block do, records and regular files do not."""
    if file.flags & O_NONBLOCK or (isinstance(file, SpecialFile) and file.records):
        return False
    return bool(file.poll_queues())


async def wait_file(task: Task, file: File, deadline: int | None, *, may_restart: bool = True, turn: int = 0) -> bool:
    """Sleep until the file may be ready; False: the deadline passed. A wait with a time-out is not restarted.

    `turn`: POLLIN or POLLOUT, which one sleeper needs to itself if the file is of that kind.
    """
    if turn:
        turn &= file.turns if isinstance(file, SpecialFile) else 0
    try:
        return await wait_any(queues_of(task, file), deadline, turn=turn)
    except Interrupted:
        if may_restart:
            raise
        raise EINTR from None


# ---- reading


def read_user(
    task: Task, file: File, user: UserBuffer, offset: int | None = None, *, nonblock: bool = False
) -> Transfer:
    """Read into user memory: how many bytes, or a coroutine that will say."""
    want = min(user.left, CHUNK)
    data = read_now(task, file, want, offset)
    if data is None:
        if nonblock or file.flags & O_NONBLOCK:
            raise EAGAIN
        return _read_waiting(task, file, user, offset)
    done = _deliver(task, file, user, data, offset)
    if done < len(data) or len(data) < CHUNK or not user.left:
        return done
    return _read_more(task, file, user, offset, done)


def _deliver(task: Task, file: File, user: UserBuffer, data: bytes, offset: int | None) -> int:
    done = user.put(data)
    task.group.rchar += done
    if done < len(data):
        give_back(file, data[done:], offset)
        if not done:
            raise EFAULT
    return done


def give_back(file: File, rest: bytes, offset: int | None = None) -> None:
    """The last bytes that were read could not be delivered."""
    if offset is not None:
        return
    if isinstance(file, SpecialFile):
        file.unread(rest)
    else:
        file.pos -= len(rest)


async def _read_waiting(task: Task, file: File, user: UserBuffer, offset: int | None) -> int:
    if isinstance(file, SpecialFile) and file.gathers:
        from trapline.kernel.syscalls.socket_receive import gather

        return await gather(task, file, user)
    file.get()
    try:
        data = await read_blocking(task, file, min(user.left, CHUNK), offset)
        return _deliver(task, file, user, data, offset)
    finally:
        file.put()


async def read_blocking(task: Task, file: File, count: int, offset: int | None = None) -> bytes:
    """Wait until there is something to read, or the file's patience is over."""
    while True:
        deadline = deadline_of(task, file, count, False)
        may_restart = deadline is None or file.inode.mode & S_IFMT != S_IFSOCK
        ready = await wait_file(task, file, deadline, may_restart=may_restart, turn=POLLIN)
        data = read_now(task, file, count, offset)
        if data is not None:
            if isinstance(file, SpecialFile) and file.turns:
                file.pass_on(POLLIN)
            return data
        if not ready:
            assert isinstance(file, SpecialFile)
            return file.gave_up(count, False)


async def _read_more(task: Task, file: File, user: UserBuffer, offset: int | None, done: int) -> int:
    """The rest of a long read, chunk by chunk."""
    file.get()
    try:
        while user.left and not task.signal_wakes():
            await breathe()
            want = min(user.left, CHUNK)
            try:
                data = read_now(task, file, want, None if offset is None else offset + done)
                count = _deliver(task, file, user, data, offset) if data else 0
            except Errno:
                break
            done += count
            if data is None or count < want:
                break
        return done
    finally:
        file.put()


# ---- writing


def write_user(
    task: Task, file: File, user: UserBuffer, offset: int | None = None, *, nonblock: bool = False
) -> Transfer:
    """Write from user memory: how many bytes, or a coroutine that will say."""
    data = user.take(CHUNK)
    if user.left and len(data) < CHUNK and (not data or _records(file)):
        raise EFAULT
    limited = limit_write(task, file, data, offset)
    done = write_now(task, file, limited, offset)
    if done is None:
        if nonblock or file.flags & O_NONBLOCK:
            raise EAGAIN
        return write_waiting(task, file, user, data, 0)
    faulted = bool(user.left) and len(data) < CHUNK
    if done == len(data) and (not user.left or faulted):
        return done
    if done < len(limited):
        if nonblock or not goes_on(file):
            return done
        return write_waiting(task, file, user, data[done:], done)
    if len(limited) < len(data) or faulted:
        return done
    return _write_more(task, file, user, offset, done)


def _records(file: File) -> bool:
    return isinstance(file, SpecialFile) and file.records


def limit_write(task: Task, file: File, data: bytes, offset: int | None) -> bytes:
    """What RLIMIT_FSIZE leaves of a write to a regular file (EFBIG and SIGXFSZ if nothing); the set-id bits go."""
    inode = file.inode
    if inode.mode & S_IFMT != S_IFREG or not data:
        return data
    if inode.mode & (S_ISUID | S_ISGID):
        mode = mode_after_write(inode, task.creds)
        if mode != inode.mode & 0o7777:
            inode.setattr(mode=mode)
    limit = task.group.rlimits[RLIMIT_FSIZE][0]
    if limit >= RLIM_INFINITY or file.page_cache is None:
        return data
    where = file.page_cache.size if file.flags & O_APPEND else file.pos if offset is None else offset
    if where >= limit:
        send_to_task(task, SigInfo(SIGXFSZ))
        raise EFBIG
    return data[: limit - where]


async def write_waiting(task: Task, file: File, user: UserBuffer, data: bytes, done: int) -> int:
    """The rest of a write that a pipe, socket or terminal did not take at once."""
    file.get()
    view = memoryview(data or user.take(CHUNK))
    try:
        while True:
            deadline = deadline_of(task, file, len(view), True)
            if not await wait_file(task, file, deadline, may_restart=deadline is None, turn=POLLOUT):
                if not done:
                    raise EAGAIN
                return done
            while view:
                count = write_now(task, file, view)
                if count is None:
                    break
                done += count
                view = view[count:]
                if not view and user.left:
                    view = memoryview(user.take(CHUNK))
            if not view:
                if isinstance(file, SpecialFile) and file.turns:
                    file.pass_on(POLLOUT)
                return done
    except (Interrupted, Errno):
        if done:
            return done
        raise
    finally:
        file.put()


async def _write_more(task: Task, file: File, user: UserBuffer, offset: int | None, done: int) -> int:
    """The rest of a long write, chunk by chunk."""
    file.get()
    try:
        while user.left and not task.signal_wakes():
            await breathe()
            data = user.take(CHUNK)
            if not data:
                break
            at = None if offset is None else offset + done
            try:
                limited = limit_write(task, file, data, at)
                count = write_now(task, file, limited, at)
            except Errno:
                break
            if count is None or (count < len(limited) and file.poll_queues()):
                if not goes_on(file):
                    return done + (count or 0)
                rest = data[count or 0 :]
                return await write_waiting(task, file, user, rest, done + (count or 0))
            done += count
            if count < len(data):
                break
        return done
    finally:
        file.put()
