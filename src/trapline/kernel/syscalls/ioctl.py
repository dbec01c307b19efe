"""ioctl(2): what every file understands; the rest is the file's own."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import ioctl as c
from trapline.abi.errno import EINVAL, ENOTTY, EOPNOTSUPP
from trapline.abi.fcntl import O_ASYNC, O_NONBLOCK
from trapline.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.syscalls.async_io import set_async
from trapline.kernel.syscalls.declare import Arg, Fd, Hex, Result, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

Request = Annotated[int, Arg(32, "enum:ioctl")]


@syscall("ioctl")
def sys_ioctl(task: Task, fd: Fd, request: Request, arg: Hex) -> Result:
    """ioctl(2): control a device.

    Partial: the requests of terminals, pipes, sockets, interfaces, timers and random devices; file systems know FIONREAD,
    FIGETBSZ, FIOQSIZE and FS_IOC_FIEMAP, and refuse to clone or freeze.
    """
    file = task.files.get(fd)
    if request == c.FIOCLEX or request == c.FIONCLEX:
        task.files.set_cloexec(fd, request == c.FIOCLEX)
        return 0
    if request == c.FIONBIO:
        if task.mm.read_i32(arg):
            file.flags |= O_NONBLOCK
        else:
            file.flags &= ~O_NONBLOCK
        return 0
    if request == c.FIOASYNC:
        on = bool(task.mm.read_i32(arg))
        if on != bool(file.flags & O_ASYNC):
            if not set_async(task, fd, file, on):
                raise ENOTTY
            file.flags ^= O_ASYNC
        return 0
    if request == c.FS_IOC_FIEMAP:
        from trapline.kernel.syscalls.extents import fiemap

        return fiemap(task, file, arg)
    kind = file.inode.mode & S_IFMT
    if kind in (S_IFREG, S_IFDIR):
        return _on_storage(task, file, kind, request, arg)
    return file.ioctl(task, request, arg)


def _on_storage(task: Task, file: File, kind: int, request: int, arg: int) -> Result:
    size = file.page_cache.size if file.page_cache is not None else file.inode.size
    if request == c.FIONREAD and kind == S_IFREG:
        task.mm.write_u32(arg, (size - file.pos) & 0xFFFFFFFF)
    elif request == c.FIOQSIZE and kind in (S_IFREG, S_IFDIR, S_IFLNK):
        task.mm.write_u64(arg, size)
    elif request == c.FIGETBSZ:
        task.mm.write_u32(arg, file.inode.sb.block_size)
    elif request in (c.FICLONE, c.FICLONERANGE, c.FIFREEZE, c.FITHAW):
        if request == c.FICLONE and kind != S_IFREG:
            raise EINVAL
        raise EOPNOTSUPP
    else:
        return file.ioctl(task, request, arg)
    return 0
