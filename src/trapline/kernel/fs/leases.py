"""Leases, fcntl(2): whoever holds one hears of an open, a truncation or an execve(2) that it conflicts with, before
that goes on.

A lease belongs to an open file. Breaking it signals the holder and makes the breaker wait until the holder has given it up or
reduced it; one that does not within lease_break_time loses it (or is left with a read lease, if that is enough).
Times are CLOCK_MONOTONIC ns; a lease whose time is over is dealt with when somebody looks at it.

Invariant: `InodeLocks.leases` has at most one lease per open file, and more than one only if all are read leases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.abi.capability import CAP_LEASE
from trapline.abi.errno import EACCES, EAGAIN, EINVAL
from trapline.abi.fcntl import F_RDLCK, F_UNLCK, F_WRLCK, O_ACCMODE, O_NONBLOCK, O_RDONLY
from trapline.abi.stat import S_IFMT, S_IFREG
from trapline.kernel.fs.locks import locks_of

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.locks import InodeLocks


class Lease:
    """`target` is what the lease is to become (`kind` while nobody breaks it), `deadline_ns` until when (None: for ever)."""

    __slots__ = ("deadline_ns", "kind", "pid", "target", "tell")

    def __init__(self, kind: int, pid: int, tell: Callable[[], None]) -> None:
        self.kind = self.target = kind
        self.deadline_ns: int | None = None
        self.pid = pid
        self.tell = tell  #: signals the holder

    @property
    def breaking(self) -> bool:
        return self.target != self.kind


def take(task: Any, file: File, kind: int, tell: Callable[[], None]) -> bool:
    """F_SETLEASE with F_RDLCK or F_WRLCK; True if the file had none before. Raises EACCES, EINVAL, EAGAIN."""
    inode = file.inode
    _check_rights(task, inode)
    locks = locks_of(inode)
    _expire(locks, task.kernel.clock.monotonic_ns())
    others = [each for holder, each in locks.leases.items() if holder is not file]
    if kind == F_RDLCK:
        taken = inode.writers > 0 or any(each.kind == F_WRLCK or each.target == F_UNLCK for each in others)
    else:
        taken = bool(others) or inode.opens != 1 or inode.writers != int(file.writable)
    if taken:
        raise EAGAIN("the file is open in a way that conflicts, or has another lease")
    lease = locks.leases.get(file)
    if lease is None:
        locks.leases[file] = Lease(kind, task.group.pid, tell)
        return True
    lease.kind = kind
    if lease.target != F_UNLCK:
        lease.target, lease.deadline_ns = kind, None
    locks.queue.wake_all()
    return False


def give_up(task: Any, file: File) -> None:
    """F_SETLEASE with F_UNLCK. Raises EACCES, EINVAL, EAGAIN (there is none)."""
    _check_rights(task, file.inode)
    if file.inode.locks is None or not file.inode.locks.drop_lease(file):
        raise EAGAIN("no lease")


def look(task: Any, file: File) -> int:
    """F_GETLEASE: what the lease is, or is to become."""
    locks = file.inode.locks
    if locks is None or not locks.leases:
        return F_UNLCK
    _expire(locks, task.kernel.clock.monotonic_ns())
    lease = locks.leases.get(file)
    return F_UNLCK if lease is None else int(lease.target)


def _check_rights(task: Any, inode: Inode) -> None:
    if task.creds.fsuid != inode.uid and not task.creds.has_cap(CAP_LEASE):
        raise EACCES("somebody else's file")
    if inode.mode & S_IFMT != S_IFREG:
        raise EINVAL("leases are for regular files")


def _expire(locks: InodeLocks, now_ns: int) -> None:
    """Enforce what holders were given time for."""
    for file, lease in tuple(locks.leases.items()):
        if lease.breaking and lease.deadline_ns is not None and lease.deadline_ns <= now_ns:
            if lease.target == F_UNLCK:
                locks.drop_lease(file)
            else:
                lease.kind, lease.deadline_ns = lease.target, None
                locks.queue.wake_all()


# ---- breaking


def must_wait(task: Any, inode: Inode, flags: int) -> bool:
    """`inode` is to be opened with `flags`: break what conflicts. True: wait for it. Raises EAGAIN for O_NONBLOCK."""
    if not _break(task, inode.locks, flags):
        return False
    if flags & O_NONBLOCK:
        raise EAGAIN("a lease is in the way")
    return True


async def wait(task: Any, inode: Inode, flags: int) -> None:
    """Sleep until no lease conflicts. Raises Interrupted."""
    locks: InodeLocks = inode.locks
    while left := _break(task, locks, flags):
        deadlines = [each.deadline_ns for each in left if each.deadline_ns is not None]
        await locks.queue.wait(min(deadlines, default=None))


def _break(task: Any, locks: InodeLocks, flags: int) -> list[Lease]:
    """Tell the holders of conflicting leases, each once; which leases are in the way still."""
    kernel = task.kernel
    now_ns = kernel.clock.monotonic_ns()
    _expire(locks, now_ns)
    writes = flags & O_ACCMODE != O_RDONLY
    target = F_UNLCK if writes else F_RDLCK
    conflicting = [each for each in locks.leases.values() if writes or each.kind == F_WRLCK]
    for each in conflicting:
        if each.target in (target, F_UNLCK):
            continue
        each.target = target
        each.deadline_ns = now_ns + kernel.lease_break_time_s * 10**9 if kernel.lease_break_time_s else None
        each.tell()
    return conflicting
