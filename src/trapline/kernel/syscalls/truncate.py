"""The size and position of files, and their way to the disk: truncate(2), fallocate(2), lseek(2), fsync(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EBADF, EFBIG, EINVAL, EISDIR, ENODEV, ESPIPE, ETXTBSY
from trapline.abi.fcntl import (
    AT_FDCWD,
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE,
    FALLOC_FL_ZERO_RANGE,
    O_WRONLY,
)
from trapline.abi.stat import S_IFBLK, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs import notify
from trapline.kernel.fs.permission import MAY_WRITE, may_access, mode_after_write
from trapline.kernel.syscalls.atpath import Off, check_flags
from trapline.kernel.syscalls.declare import Arg, Fd, Path, Result, Size, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path as FsPath
    from trapline.kernel.task.task import Task

OFF_MAX = (1 << 63) - 1
RLIMIT_FSIZE = 1
FallocMode = Annotated[int, Arg(-32, "flags:fallocate")]
SyncFlags = Annotated[int, Arg(32, "flags:sync_file_range")]
Advice = Annotated[int, Arg(-32, "enum:fadvise")]
Whence = Annotated[int, Arg(32, "whence")]
_FALLOC = (
    FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_ZERO_RANGE
    | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE
)  # fmt: skip


def check_size_limit(task: Task, size: int) -> None:
    """RLIMIT_FSIZE: EFBIG, and the signal SIGXFSZ, for a file that would grow beyond it."""
    limits = task.group.rlimits
    if limits and size > limits[RLIMIT_FSIZE][0]:
        from trapline.abi.signal import SI_KERNEL, SIGXFSZ
        from trapline.kernel.task.signals.send import send_to_task
        from trapline.kernel.task.signals.siginfo import SigInfo

        send_to_task(task, SigInfo(SIGXFSZ, SI_KERNEL))
        raise EFBIG


def _truncate(task: Task, path: FsPath, length: int) -> int:
    inode = path.inode
    size = inode.size if inode.page_cache is None else inode.page_cache.size
    if length > size:
        check_size_limit(task, length)
    mode = mode_after_write(inode, task.creds)
    inode.setattr(size=length, mode=mode if mode != inode.mode & 0o7777 else None)
    notify.path_event(path, notify.IN_MODIFY)
    return 0


@syscall("truncate")
def sys_truncate(task: Task, path: Path, length: Off) -> Result:
    """truncate(2): make a file a given number of bytes long."""
    if length < 0:
        raise EINVAL
    found = task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(path))
    inode = found.inode
    kind = inode.mode & S_IFMT
    if kind == S_IFDIR:
        raise EISDIR
    if kind != S_IFREG:
        raise EINVAL
    may_access(found, task.creds, MAY_WRITE)
    if inode.writers < 0:
        raise ETXTBSY
    if inode.locks is not None and inode.locks.leases:
        from trapline.kernel.fs import leases

        if leases.must_wait(task, inode, O_WRONLY):
            return _truncate_unleased(task, found, length)
    return _truncate(task, found, length)


async def _truncate_unleased(task: Task, path: FsPath, length: int) -> int:
    from trapline.kernel.fs import leases

    await leases.wait(task, path.inode, O_WRONLY)
    return _truncate(task, path, length)


@syscall("ftruncate")
def sys_ftruncate(task: Task, fd: Fd, length: Off) -> int:
    """ftruncate(2): make an open file a given number of bytes long."""
    if length < 0:
        raise EINVAL
    file = task.files.get(fd)
    if not file.writable or file.inode.mode & S_IFMT != S_IFREG:
        raise EINVAL
    return _truncate(task, task.kernel.vfs.path_of(file), length)


@syscall("fallocate")
def sys_fallocate(task: Task, fd: Fd, mode: FallocMode, offset: Off, len: Off) -> int:
    """fallocate(2): allocate space in a file, or punch a hole into it.

    Partial: beyond 16 MiB of one call, and beyond the end of a file, space counts once it is written to;
    FALLOC_FL_COLLAPSE_RANGE and _INSERT_RANGE are ENOTSUP, as on tmpfs, and _ZERO_RANGE is but on the overlay.
    """
    file = task.files.get(fd)
    if offset < 0 or len <= 0:
        raise EINVAL
    check_flags(mode, _FALLOC)
    if not file.writable:
        raise EBADF
    kind = file.inode.mode & S_IFMT
    if kind == S_IFIFO:
        raise ESPIPE
    if kind == S_IFDIR:
        raise EISDIR
    if kind not in (S_IFREG, S_IFBLK):
        raise ENODEV
    if offset + len > OFF_MAX:
        raise EFBIG
    if not mode & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE):
        check_size_limit(task, offset + len)
    file.inode.allocate(mode, offset, len)
    file.inode.mtime_ns = file.inode.ctime_ns = task.kernel.vfs.now()
    return 0


@syscall("lseek")
def sys_lseek(task: Task, fd: Fd, offset: Off, whence: Whence) -> int:
    """lseek(2): move the position of an open file."""
    if whence > 4:
        task.files.get(fd)
        raise EINVAL
    return task.files.get(fd).seek(offset, whence)


# ---- to the disk


@syscall("fsync")
def sys_fsync(task: Task, fd: Fd) -> int:
    """fsync(2): write a file back."""
    task.files.get(fd).fsync(False)
    return 0


@syscall("fdatasync")
def sys_fdatasync(task: Task, fd: Fd) -> int:
    """fdatasync(2): write the data of a file back."""
    task.files.get(fd).fsync(True)
    return 0


@syscall("sync_file_range")
def sys_sync_file_range(task: Task, fd: Fd, offset: Off, nbytes: Off, flags: SyncFlags) -> int:
    """sync_file_range(2): write part of a file back; here, all of it."""
    file = task.files.get(fd)
    check_flags(flags, 7)
    if offset < 0 or nbytes < 0 or offset + nbytes > OFF_MAX:
        raise EINVAL
    if file.inode.mode & S_IFMT not in (S_IFREG, S_IFBLK, S_IFDIR, S_IFLNK):
        raise ESPIPE
    file.inode.fsync()
    return 0


@syscall("fadvise64")
def sys_fadvise64(task: Task, fd: Fd, offset: Off, len: Off, advice: Advice) -> int:
    """posix_fadvise(2): say how a file will be read; checked, and otherwise ignored."""
    file = task.files.get(fd)
    if file.inode.mode & S_IFMT == S_IFIFO:
        raise ESPIPE
    if len < 0 or not 0 <= advice <= 5:
        raise EINVAL
    return 0


@syscall("readahead")
def sys_readahead(task: Task, fd: Fd, offset: Off, count: Size) -> int:
    """readahead(2): checked, and otherwise ignored: reading brings pages in ahead by itself."""
    file = task.files.get(fd)
    if not file.readable:
        raise EBADF
    if file.inode.mode & S_IFMT != S_IFREG:
        raise EINVAL
    return 0


