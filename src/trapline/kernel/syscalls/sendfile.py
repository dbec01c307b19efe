"""sendfile(2), copy_file_range(2): copying from one file to another inside the kernel.

The source is read at an offset, so that what the target does not take was never read. Between chunks of a long transfer
everybody else gets a turn, and a signal ends it with what was done.
"""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi.errno import EAGAIN, EBADF, EINVAL, EISDIR, EOVERFLOW, ESPIPE, Errno
from trapline.abi.fcntl import O_APPEND, O_NONBLOCK, SEEK_CUR, SEEK_SET
from trapline.abi.rw import MAX_RW_COUNT
from trapline.abi.stat import S_IFDIR, S_IFMT, S_IFREG
from trapline.kernel.ipc.pipe import PipeFile
from trapline.kernel.sync.park import Interrupted, breathe
from trapline.kernel.syscalls.declare import Arg, Fd, Result, Size, syscall
from trapline.kernel.syscalls.splice import OffsetPtr, load_offset, open_for
from trapline.kernel.syscalls.transfer import CHUNK, limit_write, wait_file, write_now

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

MAX_OFFSET = (1 << 63) - 1


@syscall("sendfile")
def sys_sendfile(task: Task, out_fd: Fd, in_fd: Fd, offset: OffsetPtr, count: Size) -> Result:
    """sendfile(2): copy from a file that has a position to any file."""
    where = load_offset(task, offset)
    source = open_for(task, in_fd, False)
    if where is not None:
        source.try_pread(0, 0)  # ESPIPE
    target = open_for(task, out_fd, True)
    try:
        source.seek(0, SEEK_CUR)
    except ESPIPE:
        raise EINVAL from None
    if target.flags & O_APPEND:
        raise EINVAL
    return _SendFile(task, source, target, min(count, MAX_RW_COUNT), where, offset).start()


class _SendFile:
    """One sendfile: reads at an offset, so that what the target does not take was never read."""

    def __init__(self, task: Task, source: File, target: File, count: int, where: int | None, address: int) -> None:
        self.task = task
        self.source = source
        self.target = target
        self.left = count
        self.address = address
        self.explicit = where is not None
        self.offset = where if where is not None else source.seek(0, SEEK_CUR)
        self.done = 0

    def start(self) -> Result:
        self.task.group.syscr += 1
        self.task.group.syscw += 1
        blocked = self._chunk()
        if blocked:
            if self.target.flags & O_NONBLOCK and not self.done:
                raise EAGAIN
            if self.target.flags & O_NONBLOCK or (self.done and isinstance(self.target, PipeFile)):
                return self._finish()  # as on Linux, a pipe that is full ends the call
            return self._rest(True)
        return self._rest(False) if self.left else self._finish()

    def _chunk(self) -> bool:
        """Copy one chunk; True if the target blocks. At the end of the source, `left` becomes 0."""
        if not self.left:
            return False
        want = min(self.left, CHUNK)
        data = self.source.try_pread(want, self.offset) or b""
        if len(data) < want:
            self.left = len(data)
        if not data:
            return False
        limited = limit_write(self.task, self.target, data, None)
        count = write_now(self.task, self.target, limited)
        if count is None:
            return True
        self.task.group.rchar += count
        self.offset += count
        self.done += count
        self.left -= count
        if count < len(data):
            if self.target.poll_queues():
                return True
            self.left = 0
        return False

    async def _rest(self, blocked: bool) -> int:
        source, target = self.source.get(), self.target.get()
        try:
            while self.left:
                if blocked:
                    if target.flags & O_NONBLOCK:
                        break
                    await wait_file(self.task, target, None)
                else:
                    await breathe()
                    if self.task.signal_wakes():
                        break
                blocked = self._chunk()
        except (Interrupted, Errno):
            if not self.done:
                raise
        finally:
            source.put()
            target.put()
        return self._finish()

    def _finish(self) -> int:
        if self.explicit:
            self.task.mm.write_u64(self.address, self.offset)
        else:
            self.source.seek(self.offset, SEEK_SET)
        return self.done


@syscall("copy_file_range")
def sys_copy_file_range(
    task: Task, fd_in: Fd, off_in: OffsetPtr, fd_out: Fd, off_out: OffsetPtr, size: Size,
    flags: Annotated[int, Arg(32, "hex")],
) -> Result:  # fmt: skip
    """copy_file_range(2): copy a range from one regular file to another."""
    if flags:
        raise EINVAL
    source, target = task.files.get(fd_in), task.files.get(fd_out)
    for file in (source, target):
        kind = file.inode.mode & S_IFMT
        if kind == S_IFDIR:
            raise EISDIR
        if kind != S_IFREG:
            raise EINVAL
    if not source.readable or not target.writable or target.flags & O_APPEND:
        raise EBADF
    start = load_offset(task, off_in)
    to = load_offset(task, off_out)
    move = _CopyRange(task, source, target, min(size, MAX_RW_COUNT), start, to, off_in, off_out)
    return move.start()


class _CopyRange:
    def __init__(
        self, task: Task, source: File, target: File, size: int, start: int | None, to: int | None, *addresses: int
    ) -> None:
        self.task = task
        self.source = source
        self.target = target
        self.addresses = addresses
        self.start_at = source.seek(0, SEEK_CUR) if start is None else start
        self.to = target.seek(0, SEEK_CUR) if to is None else to
        self.explicit = (start is not None, to is not None)
        if source.inode.live:
            source.inode.refresh()
        end = source.page_cache.size if source.page_cache is not None else source.inode.size
        self.left = max(0, min(size, end - self.start_at))
        self.done = 0
        if self.start_at + size > MAX_OFFSET or self.to + size > MAX_OFFSET:
            raise EOVERFLOW
        if source.inode is target.inode and self.start_at < self.to + self.left and self.to < self.start_at + self.left:
            raise EINVAL("overlapping ranges")

    def start(self) -> int | Coroutine[Any, Any, int]:
        self.task.group.syscr += 1
        self.task.group.syscw += 1
        self._chunk()
        return self._rest() if self.left else self._finish()

    def _chunk(self) -> None:
        if not self.left:
            return
        data = self.source.try_pread(min(self.left, CHUNK), self.start_at + self.done) or b""
        limited = limit_write(self.task, self.target, data, self.to + self.done)
        count = self.target.try_pwrite(limited, self.to + self.done) or 0
        self.task.group.rchar += count
        self.task.group.wchar += count
        self.done += count
        self.left = 0 if not count or count < len(data) else self.left - count

    async def _rest(self) -> int:
        source, target = self.source.get(), self.target.get()
        try:
            while self.left and not self.task.signal_wakes():
                await breathe()
                try:
                    self._chunk()
                except Errno:
                    break
            return self._finish()
        finally:
            source.put()
            target.put()

    def _finish(self) -> int:
        ends = (self.start_at + self.done, self.to + self.done)
        for file, end, explicit, address in zip(
            (self.source, self.target), ends, self.explicit, self.addresses, strict=True
        ):
            if explicit:
                self.task.mm.write_u64(address, end)
            else:
                file.seek(end, SEEK_SET)
        return self.done
