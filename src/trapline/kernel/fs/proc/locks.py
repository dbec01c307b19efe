"""/proc/locks, and the lock lines of /proc/PID/fdinfo: proc(5).

Locks are found through the files that processes have open: nobody else can hold one. Who waits for a lock is not shown.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.fcntl import F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX
from trapline.abi.stat import major, minor
from trapline.kernel.fs.ranges import END

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode

_TYPES = {F_RDLCK: b"READ ", F_WRLCK: b"WRITE", F_UNLCK: b"UNLCK"}


def locks(kernel: Any) -> bytes:
    """Every lock, numbered."""
    seen: dict[Inode, dict[File, int]] = {}  # inode -> its open files, and a process that has each
    for task in kernel.tasks.values():
        for _, file in task.files.items() if task.files is not None else ():
            if file.inode.locks is not None:
                seen.setdefault(file.inode, {}).setdefault(file, task.group.pid)
    rows = [row for inode, holders in seen.items() for row in rows_of(inode, holders)]
    return b"".join(b"%d: %b\n" % (number, row) for number, row in enumerate(rows, 1))


def rows_of(inode: Inode, holders: dict[File, int]) -> list[bytes]:
    """The locks on one inode."""
    rows = []
    place = b"%02x:%02x:%d" % (major(inode.sb.dev), minor(inode.sb.dev), inode.ino)
    for each in inode.locks.records:
        kind = b"OFDLCK" if each.pid == -1 else b"POSIX "
        what = b"READ " if each.kind == F_RDLCK else b"WRITE"
        end = b"EOF" if each.end == END else b"%d" % each.end
        rows.append(b"%b ADVISORY  %b %d %b %d %b" % (kind, what, each.pid, place, each.start, end))
    for file, operation in inode.locks.flocks.items():
        what = b"WRITE" if operation == LOCK_EX else b"READ "
        rows.append(b"FLOCK  ADVISORY  %b %d %b 0 EOF" % (what, holders.get(file, 0), place))
    for lease in inode.locks.leases.values():
        state = b"BREAKING " if lease.breaking else b"ACTIVE   "
        rows.append(b"LEASE  %b %b %d %b 0 EOF" % (state, _TYPES[lease.target], lease.pid, place))
    return rows


def rows_through(task: Any, file: File) -> list[bytes]:
    """The locks that a process holds through one of its open files."""
    inode = file.inode
    if inode.locks is None:
        return []
    rows = rows_of(inode, {file: task.group.pid})
    keep = [each.owner is file or each.owner is task.files for each in inode.locks.records]
    keep += [each is file for each in inode.locks.flocks]
    keep += [each is file for each in inode.locks.leases]
    return [row for row, kept in zip(rows, keep, strict=True) if kept]
