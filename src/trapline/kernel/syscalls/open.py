"""open(2), openat(2), openat2(2), creat(2): from a name to a file descriptor."""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi.errno import E2BIG, EAGAIN, EINVAL
from trapline.abi.fcntl import (
    AT_FDCWD,
    O_ALL,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_PATH,
    O_TMPFILE_BIT,
    O_TRUNC,
    O_WRONLY,
    OPEN_HOW,
    OPEN_HOW_MAX,
    RESOLVE_ALL,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
)
from trapline.kernel.fs.file import File
from trapline.kernel.fs.opening import open_at
from trapline.kernel.syscalls.atpath import OpenFlags
from trapline.kernel.syscalls.declare import Arg, DirFd, Mode, Path, Size, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

OpenHow = Annotated[int, Arg(64, "struct:open_how")]


@syscall("open", returns="fd")
def sys_open(task: Task, pathname: Path, flags: OpenFlags, mode: Mode) -> int | Coroutine[Any, Any, int]:
    """open(2): open a file, and create it if O_CREAT says so.

    O_SYNC and O_DSYNC reach the host's disk where a bind mount writes through; other files are in memory, as those of tmpfs,
    where O_DIRECT asks for nothing, either.
    """
    return _open(task, AT_FDCWD, pathname, flags & O_ALL, mode & 0o7777, 0)


@syscall("openat", returns="fd")
def sys_openat(
    task: Task, dirfd: DirFd, pathname: Path, flags: OpenFlags, mode: Mode
) -> int | Coroutine[Any, Any, int]:
    """openat(2): open a file relative to a directory."""
    return _open(task, dirfd, pathname, flags & O_ALL, mode & 0o7777, 0)


@syscall("creat", returns="fd")
def sys_creat(task: Task, pathname: Path, mode: Mode) -> int | Coroutine[Any, Any, int]:
    """creat(2): open(2) with O_CREAT|O_WRONLY|O_TRUNC."""
    return _open(task, AT_FDCWD, pathname, O_CREAT | O_WRONLY | O_TRUNC, mode & 0o7777, 0)


@syscall("openat2", returns="fd")
def sys_openat2(
    task: Task, dirfd: DirFd, pathname: Path, how: OpenHow, size: Size
) -> int | Coroutine[Any, Any, int]:
    """openat2(2): open a file, with rules for the path walk, and errors for flags that make no sense."""
    if size < OPEN_HOW.size:
        raise EINVAL
    if size > OPEN_HOW_MAX:
        raise E2BIG
    raw = task.mm.read(how, size)
    if any(raw[OPEN_HOW.size :]):
        raise E2BIG
    flags, mode, resolve = OPEN_HOW.unpack_from(raw)
    if flags & ~O_ALL or resolve & ~RESOLVE_ALL or mode & ~0o7777:
        raise EINVAL
    if resolve & RESOLVE_BENEATH and resolve & RESOLVE_IN_ROOT:
        raise EINVAL
    if mode and not flags & (O_CREAT | O_TMPFILE_BIT):
        raise EINVAL
    if flags & O_PATH and flags & ~(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC):
        raise EINVAL
    if resolve & RESOLVE_CACHED and flags & (O_TRUNC | O_CREAT | O_TMPFILE_BIT):
        raise EAGAIN
    return _open(task, dirfd, pathname, flags, mode, resolve)


def _open(
    task: Task, dirfd: int, pathname: int, flags: int, mode: int, resolve: int
) -> int | Coroutine[Any, Any, int]:
    name = task.mm.read_path(pathname)
    files = task.files
    files.reserve()
    file = open_at(task.kernel.vfs, task, dirfd, name, flags, mode, resolve)
    if isinstance(file, File):
        return files.install(file, flags & O_CLOEXEC != 0)
    return _open_later(task, file, flags & O_CLOEXEC != 0)


def install(task: Task, file: File | Coroutine[Any, Any, File], cloexec: bool) -> int | Coroutine[Any, Any, int]:
    """A descriptor for a file that is open, or will be."""
    return task.files.install(file, cloexec) if isinstance(file, File) else _open_later(task, file, cloexec)


async def _open_later(task: Task, opening: Coroutine[Any, Any, File], cloexec: bool) -> int:
    """A FIFO waits for its other end."""
    file = await opening
    try:  # after sleep: the table may be full
        return task.files.install(file, cloexec)
    except BaseException:
        file.put()
        raise
