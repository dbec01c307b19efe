"""splice(2), tee(2), vmsplice(2): moving bytes between pipes and files, or user memory, inside the kernel.

Bytes leave their source only once their destination has taken them: a pipe is peeked at first, a file is read at an offset.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EAGAIN, EBADF, EFAULT, EINVAL, EPIPE, ESPIPE
from trapline.abi.fcntl import O_APPEND, O_DIRECT, O_NONBLOCK, SEEK_CUR
from trapline.abi.rw import MAX_RW_COUNT, SPLICE_F_ALL, SPLICE_F_NONBLOCK
from trapline.kernel.ipc.pipe import PipeFile
from trapline.kernel.syscalls.declare import Arg, Fd, Result, Size, syscall
from trapline.kernel.syscalls.iovec import UserBuffer, many
from trapline.kernel.syscalls.transfer import (
    CHUNK,
    broken_pipe,
    give_back,
    limit_write,
    read_now,
    wait_file,
    write_now,
)

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

OffsetPtr = Annotated[int, Arg(64, "struct:loff_t")]
SpliceFlags = Annotated[int, Arg(32, "flags:splice")]
IovIn = Annotated[int, Arg(64, "iov_in:nr_segs")]


def open_for(task: Task, fd: int, writing: bool) -> File:
    file = task.files.get(fd)
    if not (file.writable if writing else file.readable):
        raise EBADF
    return file


def load_offset(task: Task, address: int) -> int | None:
    """The loff_t at `address`, None for a null pointer. EINVAL below zero."""
    if not address:
        return None
    offset = task.mm.read_u64(address)
    if offset >> 63:
        raise EINVAL
    return int(offset)


# ---- splice(2)


@syscall("splice")
def sys_splice(
    task: Task, fd_in: Fd, off_in: OffsetPtr, fd_out: Fd, off_out: OffsetPtr, size: Size, flags: SpliceFlags
) -> Result:
    """splice(2): move data to or from a pipe.

    SPLICE_F_MOVE and SPLICE_F_MORE are hints, as on Linux: bytes are copied.
    """
    if not size:
        return 0
    if flags & ~SPLICE_F_ALL:
        raise EINVAL
    source, target = open_for(task, fd_in, False), open_for(task, fd_out, True)
    size = min(size, MAX_RW_COUNT)
    if not isinstance(source, PipeFile) and not isinstance(target, PipeFile):
        raise EINVAL
    if (off_in and isinstance(source, PipeFile)) or (off_out and isinstance(target, PipeFile)):
        raise ESPIPE
    if isinstance(source, PipeFile) and isinstance(target, PipeFile):
        if source.pipe is target.pipe:
            raise EINVAL
        return _PipeToPipe(task, source, target, size, flags).start()
    if isinstance(source, PipeFile):
        if target.flags & O_APPEND:
            raise EINVAL
        return _PipeToFile(task, source, target, size, flags, _offset_of(task, target, off_out), off_out).start()
    assert isinstance(target, PipeFile)
    return _FileToPipe(task, source, target, size, flags, _offset_of(task, source, off_in), off_in).start()


def _offset_of(task: Task, file: File, address: int) -> int | None:
    offset = load_offset(task, address)
    if offset is not None:
        file.try_pread(0, 0) if file.readable else file.seek(0, SEEK_CUR)  # EINVAL or ESPIPE without a position
    return offset


class _Move:
    """One splice: `step` moves what it can now, and says which file to wait for, or None."""

    def __init__(self, task: Task, source: File, target: File, size: int, flags: int) -> None:
        self.task = task
        self.source = source
        self.target = target
        self.left = size
        self.done = 0
        self.nonblock = bool(flags & SPLICE_F_NONBLOCK)

    def step(self) -> File | None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write offsets back."""

    def _may_wait(self, file: File) -> bool:
        return not self.nonblock and not file.flags & O_NONBLOCK

    def start(self) -> Result:
        blocked = self.step()
        if blocked is None or self.done:
            self.finish()
            return self.done
        if not self._may_wait(blocked):
            raise EAGAIN
        return self._wait(blocked)

    async def _wait(self, blocked: File | None) -> int:
        files = (self.source.get(), self.target.get())
        try:
            while blocked is not None and not self.done:
                if not self._may_wait(blocked):
                    raise EAGAIN
                await wait_file(self.task, blocked, None)
                blocked = self.step()
            self.finish()
            return self.done
        finally:
            for file in files:
                file.put()


class _PipeToPipe(_Move):
    source: PipeFile
    target: PipeFile

    def step(self) -> File | None:
        source, target = self.source.pipe, self.target.pipe
        if not target.readers:
            broken_pipe(self.task)
            raise EPIPE
        if not source.size:
            return self.source if source.writers else None
        count = min(self.left, source.size, target.room())
        if not count:
            return self.target
        self.done = _put(self.target, source.peek(count))
        self.taken()
        return None if self.done else self.target

    def taken(self) -> None:
        self.source.pipe.take(self.done)


def _put(target: PipeFile, data: bytes) -> int:
    """Into a pipe, in the amount that fits: splices are not held to PIPE_BUF."""
    return target.pipe.put(data[: target.pipe.room()], bool(target.flags & O_DIRECT))


class _AtOffset(_Move):
    """One side is a file: its position is used, or the offset that is kept in user memory."""

    def __init__(
        self, task: Task, source: File, target: File, size: int, flags: int, offset: int | None, address: int
    ) -> None:
        super().__init__(task, source, target, size, flags)
        self.offset = offset
        self.address = address

    def finish(self) -> None:
        if self.offset is not None:
            self.task.mm.write_u64(self.address, self.offset + self.done)


class _PipeToFile(_AtOffset):
    source: PipeFile

    def step(self) -> File | None:
        pipe = self.source.pipe
        if not pipe.size:
            return self.source if pipe.writers else None
        data = pipe.peek(min(self.left, CHUNK))
        data = limit_write(self.task, self.target, data, self.offset)
        count = write_now(self.task, self.target, data, self.offset)
        if count is None:
            return self.target
        pipe.take(count)
        self.done = count
        return None


class _FileToPipe(_AtOffset):
    target: PipeFile

    def step(self) -> File | None:
        pipe = self.target.pipe
        if not pipe.readers:
            broken_pipe(self.task)
            raise EPIPE
        room = pipe.room()
        if not room:
            return self.target
        data = read_now(self.task, self.source, min(self.left, room), self.offset)
        if data is None:
            return self.source
        self.done = _put(self.target, data)
        if self.done < len(data):
            give_back(self.source, data[self.done :], self.offset)
        return None


# ---- tee(2), vmsplice(2)


class _Tee(_PipeToPipe):
    """What was put into the target stays in the source."""

    def taken(self) -> None:
        pass


@syscall("tee")
def sys_tee(task: Task, fd_in: Fd, fd_out: Fd, size: Size, flags: SpliceFlags) -> Result:
    """tee(2): duplicate the content of a pipe into another."""
    if flags & ~SPLICE_F_ALL:
        raise EINVAL
    if not size:
        return 0
    source, target = open_for(task, fd_in, False), open_for(task, fd_out, True)
    if not isinstance(source, PipeFile) or not isinstance(target, PipeFile) or source.pipe is target.pipe:
        raise EINVAL
    return _Tee(task, source, target, min(size, MAX_RW_COUNT), flags).start()


@syscall("vmsplice")
def sys_vmsplice(task: Task, fd: Fd, iov: IovIn, nr_segs: Size, flags: SpliceFlags) -> Result:
    """vmsplice(2): move user memory into a pipe, or a pipe's content into user memory.

    SPLICE_F_GIFT permits to take the pages; bytes are copied.
    """
    if flags & ~SPLICE_F_ALL:
        raise EINVAL
    file = task.files.get(fd)
    if not isinstance(file, PipeFile):
        raise EBADF
    user = many(task.mm, iov, nr_segs)
    if not user.left:
        return 0
    nonblock = bool(flags & SPLICE_F_NONBLOCK or file.flags & O_NONBLOCK)
    move: _Move = _FromUser(task, file, file, user) if file.writable else _ToUser(task, file, file, user)
    move.nonblock = nonblock
    return move.start()


class _FromUser(_Move):
    target: PipeFile

    def __init__(self, task: Task, source: File, target: File, user: UserBuffer) -> None:
        super().__init__(task, source, target, user.left, 0)
        self.user = user

    def step(self) -> File | None:
        pipe = self.target.pipe
        if not pipe.readers:
            broken_pipe(self.task)
            raise EPIPE
        room = pipe.room()
        if not room:
            return self.target
        data = self.user.take(room)
        if not data:
            raise EFAULT
        self.done = _put(self.target, data)
        return None


class _ToUser(_Move):
    source: PipeFile

    def __init__(self, task: Task, source: File, target: File, user: UserBuffer) -> None:
        super().__init__(task, source, target, user.left, 0)
        self.user = user

    def step(self) -> File | None:
        pipe = self.source.pipe
        if not pipe.size:
            return self.source if pipe.writers else None
        data = pipe.peek(self.left)
        self.done = self.user.put(data)
        if not self.done:
            raise EFAULT
        pipe.take(self.done)
        return None
