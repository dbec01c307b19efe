"""read(2), write(2), readv(2), pread(2) and their kin. Measured budget of a small read or write: 3 µs.

The two hot calls have a fast path of their own, for a file that is ready and one buffer in good memory; the rest is
`transfer`'s.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EBADF, EFAULT, EINVAL, EOPNOTSUPP, EPIPE
from trapline.abi.rw import MAX_RW_COUNT, RWF_APPEND, RWF_DSYNC, RWF_NOWAIT, RWF_SUPPORTED, RWF_SYNC
from trapline.abi.stat import S_IFMT, S_IFREG
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.syscalls.declare import Arg, Fd, Size, syscall
from trapline.kernel.syscalls.iovec import many, one
from trapline.kernel.syscalls.transfer import (
    CHUNK,
    RLIM_INFINITY,
    RLIMIT_FSIZE,
    Transfer,
    broken_pipe,
    give_back,
    goes_on,
    read_user,
    write_user,
    write_waiting,
)

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

BufOut = Annotated[int, Arg(64, "buf_out")]
BufIn = Annotated[int, Arg(64, "buf_in:count")]
IovOut = Annotated[int, Arg(64, "iov_out:iovcnt")]
IovIn = Annotated[int, Arg(64, "iov_in:iovcnt")]
Offset = Annotated[int, Arg(-64, "dec")]
RwFlags = Annotated[int, Arg(-32, "flags:rwf")]
SET_ID = 0o6000


@syscall("read")
def sys_read(task: Task, fd: Fd, buf: BufOut, count: Size) -> Transfer:
    """read(2): read from a file descriptor."""
    file = task.files.get(fd)
    if not file.readable:
        raise EBADF
    group = task.group
    group.syscr += 1
    if count > CHUNK:
        return read_user(task, file, one(task.mm, buf, _checked(task, buf, count)))
    data = file.try_read(count)
    if data:
        try:
            task.mm.write(buf, data)
        except EFAULT:
            done = one(task.mm, buf, len(data)).put(data)
            give_back(file, data[done:])
            if not done:
                raise
            return done
        group.rchar += len(data)
        return len(data)
    if data is None:
        return read_user(task, file, one(task.mm, buf, count))
    return 0


@syscall("write")
def sys_write(task: Task, fd: Fd, buf: BufIn, count: Size) -> Transfer:
    """write(2): write to a file descriptor."""
    file = task.files.get(fd)
    if not file.writable:
        raise EBADF
    group = task.group
    group.syscw += 1
    if count > CHUNK or file.inode.mode & SET_ID or group.rlimits[RLIMIT_FSIZE][0] < RLIM_INFINITY:
        return write_user(task, file, one(task.mm, buf, _checked(task, buf, count)))
    try:
        data = task.mm.read(buf, count) if count else b""
    except EFAULT:
        return write_user(task, file, one(task.mm, buf, count))
    try:
        done = file.try_write(data)
    except EPIPE:
        broken_pipe(task)
        raise
    if done is None:
        return write_user(task, file, one(task.mm, buf, count))
    group.wchar += done
    if done == count:
        return done
    if not goes_on(file):
        return done
    return write_waiting(task, file, one(task.mm, buf + done, count - done), b"", done)


def _checked(task: Task, buf: int, count: int) -> int:
    """A length that may be large: EFAULT beyond user space, at most MAX_RW_COUNT."""
    if buf + count > task.mm.task_size:
        raise EFAULT
    return min(count, MAX_RW_COUNT)


def _readable(task: Task, fd: int) -> File:
    file = task.files.get(fd)
    if not file.readable:
        raise EBADF
    task.group.syscr += 1
    return file


def _writable(task: Task, fd: int) -> File:
    file = task.files.get(fd)
    if not file.writable:
        raise EBADF
    task.group.syscw += 1
    return file


def _seekable(file: File) -> None:
    """ESPIPE, before anything else is looked at, for files without a position."""
    file.try_pread(0, 0)


@syscall("readv")
def sys_readv(task: Task, fd: Fd, iov: IovOut, iovcnt: Size) -> Transfer:
    """readv(2): read into several buffers."""
    file = _readable(task, fd)
    return read_user(task, file, many(task.mm, iov, iovcnt))


@syscall("writev")
def sys_writev(task: Task, fd: Fd, iov: IovIn, iovcnt: Size) -> Transfer:
    """writev(2): write from several buffers."""
    file = _writable(task, fd)
    return write_user(task, file, many(task.mm, iov, iovcnt))


@syscall("pread64")
def sys_pread64(task: Task, fd: Fd, buf: BufOut, count: Size, offset: Offset) -> Transfer:
    """pread(2): read at an offset, without moving the file's position."""
    if offset < 0:
        raise EINVAL
    file = _readable(task, fd)
    if count > CHUNK:
        return read_user(task, file, one(task.mm, buf, _checked(task, buf, count)), offset)
    data = file.try_pread(count, offset)
    if data is None:
        return read_user(task, file, one(task.mm, buf, count), offset)
    if data:
        try:
            task.mm.write(buf, data)
        except EFAULT:
            done = one(task.mm, buf, len(data)).put(data)
            if not done:
                raise
            return done
        task.group.rchar += len(data)
    return len(data)


@syscall("pwrite64")
def sys_pwrite64(task: Task, fd: Fd, buf: BufIn, count: Size, offset: Offset) -> Transfer:
    """pwrite(2): write at an offset, without moving the file's position."""
    if offset < 0:
        raise EINVAL
    file = _writable(task, fd)
    group = task.group
    if count > CHUNK or file.inode.mode & SET_ID or group.rlimits[RLIMIT_FSIZE][0] < RLIM_INFINITY:
        return write_user(task, file, one(task.mm, buf, _checked(task, buf, count)), offset)
    try:
        data = task.mm.read(buf, count) if count else b""
    except EFAULT:
        return write_user(task, file, one(task.mm, buf, count), offset)
    done = file.try_pwrite(data, offset)
    if done is None:
        return write_user(task, file, one(task.mm, buf, count), offset)
    group.wchar += done
    return done


@syscall("preadv")
def sys_preadv(task: Task, fd: Fd, iov: IovOut, iovcnt: Size, offset: Offset, high: Size) -> Transfer:
    """preadv(2): readv at an offset."""
    if offset < 0:
        raise EINVAL
    file = _readable(task, fd)
    _seekable(file)
    return read_user(task, file, many(task.mm, iov, iovcnt), offset)


@syscall("pwritev")
def sys_pwritev(task: Task, fd: Fd, iov: IovIn, iovcnt: Size, offset: Offset, high: Size) -> Transfer:
    """pwritev(2): writev at an offset."""
    if offset < 0:
        raise EINVAL
    file = _writable(task, fd)
    return write_user(task, file, many(task.mm, iov, iovcnt), offset)


@syscall("preadv2")
def sys_preadv2(task: Task, fd: Fd, iov: IovOut, iovcnt: Size, offset: Offset, high: Size, flags: RwFlags) -> Transfer:
    """preadv2(2): preadv with flags; offset -1 stands for the file's position.

    RWF_HIPRI is for devices that can be polled; there are none.
    """
    where = _offset(offset)
    file = _readable(task, fd)
    nowait = _flags(file, flags)
    return read_user(task, file, many(task.mm, iov, iovcnt), where, nonblock=nowait)


@syscall("pwritev2")
def sys_pwritev2(task: Task, fd: Fd, iov: IovIn, iovcnt: Size, offset: Offset, high: Size, flags: RwFlags) -> Transfer:
    """pwritev2(2): pwritev with flags; offset -1 stands for the file's position.

    RWF_HIPRI is for devices that can be polled; there are none.
    """
    where = _offset(offset)
    file = _writable(task, fd)
    nowait = _flags(file, flags)
    user = many(task.mm, iov, iovcnt)
    cache = file.page_cache
    if flags & RWF_APPEND and cache is not None:
        if where is None:
            file.pos = cache.size
        else:
            where = cache.size
    done = write_user(task, file, user, where, nonblock=nowait)
    if flags & (RWF_DSYNC | RWF_SYNC) and file.inode.mode & S_IFMT == S_IFREG:
        file.fsync(not flags & RWF_SYNC)
    return done


def _offset(offset: int) -> int | None:
    if offset == -1:
        return None
    if offset < 0:
        raise EINVAL
    return offset


def _flags(file: File, flags: int) -> bool:
    """Check RWF_*; whether not to wait. EOPNOTSUPP."""
    if flags & ~RWF_SUPPORTED:
        raise EOPNOTSUPP("unknown RWF flags")
    if not flags & RWF_NOWAIT:
        return False
    if file.page_cache is None and not (isinstance(file, SpecialFile) and file.nowait):
        raise EOPNOTSUPP("RWF_NOWAIT on this kind of file")
    return True
