"""File descriptors: dup(2), close(2), close_range(2), flock(2), and what fcntl(2) does to descriptors and open files."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi import fcntl as f
from trapline.abi.errno import EAGAIN, EBADF, EBUSY, EINVAL, EPERM, ESRCH
from trapline.abi.rw import CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE, F_OWNER_PGRP, F_OWNER_PID, F_OWNER_TID
from trapline.kernel.fs.locks import locks_of
from trapline.kernel.syscalls.async_io import MSG_BAND, POLL_MSG_CODE, set_async, tell_owner
from trapline.kernel.syscalls.declare import Arg, Fd, Result, UInt, syscall
from trapline.kernel.syscalls.record_locks import get_lock, set_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.locks import InodeLocks
    from trapline.kernel.task.task import Task

FcntlCmd = Annotated[int, Arg(32, "enum:fcntl")]
FcntlArg = Annotated[int, Arg(64, "hex")]
CloseRangeFlags = Annotated[int, Arg(32, "flags:close_range")]
LockOp = Annotated[int, Arg(32, "flags:flock")]

SETTABLE = f.O_APPEND | f.O_NONBLOCK | f.O_ASYNC | f.O_DIRECT | f.O_NOATIME
NOT_SHOWN = f.O_CREAT | f.O_EXCL | f.O_NOCTTY | f.O_TRUNC | f.O_CLOEXEC
NSIG = 64


@syscall("close")
def sys_close(task: Task, fd: Fd) -> int:
    """close(2): close a file descriptor."""
    task.files.close(fd)
    return 0


@syscall("dup", returns="fd")
def sys_dup(task: Task, oldfd: Fd) -> int:
    """dup(2): duplicate a file descriptor."""
    return _dup(task, task.files.get_any(oldfd), False, 0)


def _dup(task: Task, file: File, cloexec: bool, lowest: int) -> int:
    fd = task.files.install(file, cloexec, lowest)  # raises before it takes the reference over
    file.get()
    return fd


@syscall("dup2", returns="fd")
def sys_dup2(task: Task, oldfd: Fd, newfd: Fd) -> int:
    """dup2(2): duplicate a file descriptor onto a given one."""
    if oldfd == newfd:
        task.files.get_any(oldfd)
        return newfd
    return _dup_onto(task, oldfd, newfd, False)


@syscall("dup3", returns="fd")
def sys_dup3(task: Task, oldfd: Fd, newfd: Fd, flags: Annotated[int, Arg(-32, "flags:open")]) -> int:
    """dup3(2): dup2 with O_CLOEXEC."""
    if flags & ~f.O_CLOEXEC or oldfd == newfd:
        raise EINVAL
    return _dup_onto(task, oldfd, newfd, bool(flags))


def _dup_onto(task: Task, oldfd: int, newfd: int, cloexec: bool) -> int:
    files = task.files
    if not 0 <= newfd < files.limit:
        raise EBADF
    files.install_at(newfd, files.get_any(oldfd).get(), cloexec)
    return newfd


@syscall("close_range")
def sys_close_range(task: Task, first: UInt, last: UInt, flags: CloseRangeFlags) -> int:
    """close_range(2): close a range of descriptors, or mark them close-on-exec."""
    if flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) or first > last:
        raise EINVAL
    if flags & CLOSE_RANGE_UNSHARE and task.files.users > 1:
        task.files.check_copy()
        shared, task.files = task.files, task.files.fork()
        shared.put()
    files = task.files
    if not flags & CLOSE_RANGE_CLOEXEC:
        files.close_range(first, last)
        return 0
    for fd in files.fds():
        if first <= fd <= last:
            files.set_cloexec(fd, True)
    return 0


# ---- flock(2)


@syscall("flock")
def sys_flock(task: Task, fd: Fd, operation: LockOp) -> Result:
    """flock(2): take or give up an advisory lock on an open file."""
    kind = operation & ~f.LOCK_NB
    if kind not in (f.LOCK_SH, f.LOCK_EX, f.LOCK_UN):
        raise EINVAL
    file = task.files.get(fd)
    locks = locks_of(file.inode)
    if kind == f.LOCK_UN:
        locks.funlock(file)
        return 0
    if locks.flock(file, kind):
        return 0
    if operation & f.LOCK_NB:
        raise EAGAIN
    return _flock_waiting(locks, file, kind)


async def _flock_waiting(locks: InodeLocks, file: File, kind: int) -> int:
    file.get()
    try:
        while True:
            await locks.queue.wait()
            if locks.flock(file, kind):
                return 0
    finally:
        file.put()


# ---- fcntl(2)


@syscall("fcntl")
def sys_fcntl(task: Task, fd: Fd, cmd: FcntlCmd, arg: FcntlArg) -> Result:
    """fcntl(2): manipulate a file descriptor."""
    file = task.files.get_any(fd)
    if file.flags & f.O_PATH and cmd not in _ON_PATHS:
        raise EBADF
    command = _COMMANDS.get(cmd)
    if command is None:
        raise EINVAL
    return command(task, fd, file, arg)


def _dupfd(task: Task, fd: int, file: File, arg: int) -> int:
    lowest = _int(arg)
    if not 0 <= lowest < task.files.limit:
        raise EINVAL
    return _dup(task, file, False, lowest)


def _dupfd_cloexec(task: Task, fd: int, file: File, arg: int) -> int:
    lowest = _int(arg)
    if not 0 <= lowest < task.files.limit:
        raise EINVAL
    return _dup(task, file, True, lowest)


def _getfd(task: Task, fd: int, file: File, arg: int) -> int:
    return int(task.files.get_cloexec(fd))


def _setfd(task: Task, fd: int, file: File, arg: int) -> int:
    task.files.set_cloexec(fd, bool(arg & f.FD_CLOEXEC))
    return 0


def _getfl(task: Task, fd: int, file: File, arg: int) -> int:
    return file.flags & ~NOT_SHOWN


def _setfl(task: Task, fd: int, file: File, arg: int) -> int:
    changed = (file.flags ^ arg) & SETTABLE
    if changed & arg & f.O_NOATIME:
        creds = task.creds
        if creds.fsuid != file.inode.uid and not creds.has_cap(3):
            raise EPERM("O_NOATIME on somebody else's file")
    if changed & f.O_ASYNC:
        set_async(task, fd, file, bool(arg & f.O_ASYNC))
    file.flags ^= changed
    return 0


def _getown(task: Task, fd: int, file: File, arg: int) -> int:
    if file.owner is None:
        return 0
    kind, number = file.owner[:2]
    return -number if kind == F_OWNER_PGRP else int(number)


def _setown(task: Task, fd: int, file: File, arg: int) -> int:
    who = _int(arg)
    if who == -1 << 31:
        raise EINVAL
    return _own(task, file, F_OWNER_PGRP if who < 0 else F_OWNER_PID, abs(who))


def _getown_ex(task: Task, fd: int, file: File, arg: int) -> int:
    kind, number = file.owner[:2] if file.owner is not None else (F_OWNER_TID, 0)
    task.mm.write(arg, (number << 32 | kind).to_bytes(8, "little"))
    return 0


def _setown_ex(task: Task, fd: int, file: File, arg: int) -> int:
    raw = task.mm.read(arg, 8)
    kind = int.from_bytes(raw[:4], "little")
    number = int.from_bytes(raw[4:], "little", signed=True)
    if kind not in (F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP):
        raise EINVAL
    return _own(task, file, kind, number)


def _own(task: Task, file: File, kind: int, number: int) -> int:
    """Who gets SIGIO; the caller's credentials are checked when it is sent."""
    if number:
        kernel = task.kernel
        if kind == F_OWNER_TID:
            known = number in kernel.tasks
        elif kind == F_OWNER_PID:
            known = number in kernel.groups
        else:
            known = bool(kernel.each_group(lambda each: each.pgid == number))
        if not known:
            raise ESRCH
    file.owner = (kind, number, task.creds.uid, task.creds.euid)
    return 0


def _getsig(task: Task, fd: int, file: File, arg: int) -> int:
    return file.owner_signal


def _setsig(task: Task, fd: int, file: File, arg: int) -> int:
    if not 0 <= arg <= NSIG:
        raise EINVAL
    file.owner_signal = arg
    return 0


def _getlease(task: Task, fd: int, file: File, arg: int) -> int:
    from trapline.kernel.fs import leases

    return leases.look(task, file)


def _setlease(task: Task, fd: int, file: File, arg: int) -> int:
    from trapline.kernel.fs import leases

    kind = _int(arg)
    if kind == f.F_UNLCK:
        leases.give_up(task, file)
        return 0
    if kind not in (f.F_RDLCK, f.F_WRLCK):
        raise EINVAL
    if leases.take(task, file, kind, lambda: tell_owner(task.kernel, file, fd, POLL_MSG_CODE, MSG_BAND)):
        _own_at_first(task, file)
    return 0


def _own_at_first(task: Task, file: File) -> None:
    """The caller's process hears of the file, unless somebody was named for that."""
    if file.owner is None or not file.owner[1]:
        file.owner = (F_OWNER_PID, task.group.pid, task.creds.uid, task.creds.euid)


def _notify(task: Task, fd: int, file: File, arg: int) -> int:
    from trapline.kernel.syscalls.directory_notify import set_notice

    set_notice(task, fd, file, arg & 0xFFFFFFFF)
    if arg & 0x7FFFFFFF:
        _own_at_first(task, file)
    return 0


def _setpipe_sz(task: Task, fd: int, file: File, arg: int) -> int:
    from trapline.kernel.ipc.pipe import PipeFile

    if not isinstance(file, PipeFile):
        raise EBADF
    return file.pipe.resize(arg & 0xFFFFFFFF)


def _getpipe_sz(task: Task, fd: int, file: File, arg: int) -> int:
    from trapline.kernel.ipc.pipe import PipeFile

    if not isinstance(file, PipeFile):
        raise EBADF
    return file.pipe.capacity


def _add_seals(task: Task, fd: int, file: File, arg: int) -> int:
    known = f.F_SEAL_SEAL | f.F_SEAL_SHRINK | f.F_SEAL_GROW | f.F_SEAL_WRITE | f.F_SEAL_FUTURE_WRITE | f.F_SEAL_EXEC
    inode = file.inode
    if not file.writable:
        raise EPERM
    if arg & ~known or inode.seals < 0:
        raise EINVAL
    if inode.seals & f.F_SEAL_SEAL:
        raise EPERM
    if arg & f.F_SEAL_WRITE and not inode.seals & f.F_SEAL_WRITE:
        cache = inode.page_cache
        if cache is not None and cache.shared_writers:
            raise EBUSY("a shared mapping may write")
    if arg & f.F_SEAL_EXEC and inode.mode & 0o111:
        arg |= f.F_SEAL_SHRINK | f.F_SEAL_GROW | f.F_SEAL_WRITE | f.F_SEAL_FUTURE_WRITE
    inode.seals |= arg
    return 0


def _get_seals(task: Task, fd: int, file: File, arg: int) -> int:
    if file.inode.seals < 0:
        raise EINVAL
    return file.inode.seals


def _int(arg: int) -> int:
    """An int argument in a 64-bit register."""
    arg &= 0xFFFFFFFF
    return arg - (1 << 32) if arg >> 31 else arg


def _getlk(task: Task, fd: int, file: File, arg: int) -> int:
    return get_lock(task, file, arg, ofd=False)


def _ofd_getlk(task: Task, fd: int, file: File, arg: int) -> int:
    return get_lock(task, file, arg, ofd=True)


def _setlk(task: Task, fd: int, file: File, arg: int) -> int | Coroutine[Any, Any, int]:
    return set_lock(task, file, arg, ofd=False, wait=False)


def _setlkw(task: Task, fd: int, file: File, arg: int) -> int | Coroutine[Any, Any, int]:
    return set_lock(task, file, arg, ofd=False, wait=True)


def _ofd_setlk(task: Task, fd: int, file: File, arg: int) -> int | Coroutine[Any, Any, int]:
    return set_lock(task, file, arg, ofd=True, wait=False)


def _ofd_setlkw(task: Task, fd: int, file: File, arg: int) -> int | Coroutine[Any, Any, int]:
    return set_lock(task, file, arg, ofd=True, wait=True)


_COMMANDS: dict[int, Callable[[Task, int, File, int], Result]] = {
    f.F_DUPFD: _dupfd, f.F_DUPFD_CLOEXEC: _dupfd_cloexec, f.F_GETFD: _getfd, f.F_SETFD: _setfd, f.F_GETFL: _getfl,
    f.F_SETFL: _setfl, f.F_GETLK: _getlk, f.F_SETLK: _setlk, f.F_SETLKW: _setlkw, f.F_OFD_GETLK: _ofd_getlk,
    f.F_OFD_SETLK: _ofd_setlk, f.F_OFD_SETLKW: _ofd_setlkw, f.F_GETOWN: _getown, f.F_SETOWN: _setown,
    f.F_GETOWN_EX: _getown_ex, f.F_SETOWN_EX: _setown_ex, f.F_GETSIG: _getsig, f.F_SETSIG: _setsig,
    f.F_GETLEASE: _getlease, f.F_SETLEASE: _setlease, f.F_NOTIFY: _notify, f.F_SETPIPE_SZ: _setpipe_sz,
    f.F_GETPIPE_SZ: _getpipe_sz, f.F_ADD_SEALS: _add_seals, f.F_GET_SEALS: _get_seals,
}  # fmt: skip
_ON_PATHS = frozenset((f.F_DUPFD, f.F_DUPFD_CLOEXEC, f.F_GETFD, f.F_SETFD, f.F_GETFL))
