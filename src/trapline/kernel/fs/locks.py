"""Advisory locks: fcntl(2) record locks (of processes and of open files) and flock(2) locks, per inode; beside them, leases.

An owner is what a lock belongs to: the descriptor table of a process for classic record locks, the open file for open
file description locks. Ranges are [start, end] with the last byte included; `END` is the end of every file.

Invariants:
- the record locks of one owner do not overlap, and neighbours of one type are joined;
- `Inode.locks` is set while the inode has had any lock, so that files nobody locks pay one test at close.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EDEADLOCK, ENOLCK
from trapline.abi.fcntl import F_UNLCK, F_WRLCK, LOCK_EX
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.fdtable import FdTable
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.leases import Lease

END = (1 << 63) - 1
MAX_LOCKS = 8192  #: record locks on one inode; beyond, ENOLCK


class RecordLock:
    """One locked range. `pid` is what F_GETLK reports: the process, or -1 for open file description locks."""

    __slots__ = ("end", "kind", "owner", "pid", "start")

    def __init__(self, owner: object, kind: int, start: int, end: int, pid: int) -> None:
        self.owner = owner
        self.kind = kind
        self.start = start
        self.end = end
        self.pid = pid

    def with_range(self, start: int, end: int) -> RecordLock:
        return RecordLock(self.owner, self.kind, start, end, self.pid)


class InodeLocks:
    """All locks on one inode."""

    __slots__ = ("flocks", "leases", "notices", "queue", "records")

    def __init__(self) -> None:
        self.records: list[RecordLock] = []
        self.flocks: dict[File, int] = {}  #: LOCK_SH or LOCK_EX by open file
        self.leases: dict[File, Lease] = {}
        self.notices: dict[tuple[Any, File], Any] = {}  #: of F_NOTIFY, by descriptor table and open directory
        self.queue = WaitQueue()  #: woken whenever a lock goes away or becomes weaker

    # ---- what the descriptor table and the open file call

    def on_close(self, files: FdTable, file: File) -> None:
        """A descriptor was closed: the process loses its record locks on the file (fcntl(2))."""
        self._drop(files)
        if self.notices and (files, file) in self.notices:
            self.notices[files, file].close()

    def on_release(self, file: File) -> None:
        """The last descriptor of an open file was closed: its own locks go."""
        self._drop(file)
        self.drop_lease(file)
        if self.flocks.pop(file, 0):
            self.queue.wake_all()

    def drop_lease(self, file: File) -> bool:
        """The lease of an open file ends; False if it had none."""
        if self.leases.pop(file, None) is None:
            return False
        file.owner, file.owner_signal = None, 0  # generic_setlease of fs/locks.c: nobody is told of it any more
        self.queue.wake_all()
        return True

    def _drop(self, owner: object) -> None:
        kept = [each for each in self.records if each.owner is not owner]
        if len(kept) != len(self.records):
            self.records = kept
            self.queue.wake_all()

    # ---- record locks

    def conflict(self, lock: RecordLock) -> RecordLock | None:
        """The first lock of somebody else that `lock` cannot live with."""
        for each in self.records:
            if each.start <= lock.end and lock.start <= each.end and each.owner is not lock.owner:
                if lock.kind == F_WRLCK or each.kind == F_WRLCK:
                    return each
        return None

    def apply(self, lock: RecordLock) -> None:
        """Set (or, for F_UNLCK, clear) a range without a conflict: splits and joins the owner's locks. Raises ENOLCK."""
        others = [each for each in self.records if each.owner is not lock.owner]
        mine = [each for each in self.records if each.owner is lock.owner]
        result: list[RecordLock] = []
        for each in mine:
            if each.end < lock.start or each.start > lock.end:
                result.append(each)
                continue
            if each.start < lock.start:
                result.append(each.with_range(each.start, lock.start - 1))
            if each.end > lock.end:
                result.append(each.with_range(lock.end + 1, each.end))
        if lock.kind != F_UNLCK:
            result = _join(result, lock)
        if len(others) + len(result) > max(MAX_LOCKS, len(self.records)):
            raise ENOLCK("too many record locks on one file")
        self.records = sorted(others + result, key=_by_start)
        self.queue.wake_all()

    # ---- flock(2)

    def flock(self, file: File, kind: int) -> bool:
        """Take LOCK_SH or LOCK_EX; False if another open file's lock is in the way. A lock held is given up first."""
        if self.flocks.get(file) == kind:
            return True
        if self.flocks.pop(file, 0):
            self.queue.wake_all()
        for held in self.flocks.values():
            if kind == LOCK_EX or held == LOCK_EX:
                return False
        self.flocks[file] = kind
        return True

    def funlock(self, file: File) -> None:
        if self.flocks.pop(file, 0):
            self.queue.wake_all()


def _join(locks: list[RecordLock], new: RecordLock) -> list[RecordLock]:
    """`locks` and `new`, joined with the neighbours of its type that touch it."""
    start, end = new.start, new.end
    kept = []
    for each in locks:
        if each.kind == new.kind and each.start <= end + 1 and start <= each.end + 1:
            start, end = min(start, each.start), max(end, each.end)
        else:
            kept.append(each)
    kept.append(new.with_range(start, end))
    return kept


def _by_start(lock: RecordLock) -> int:
    return lock.start


def locks_of(inode: Inode) -> InodeLocks:
    """The locks of an inode; from now on it is asked at every close."""
    if inode.locks is None:
        inode.locks = InodeLocks()
    locks: InodeLocks = inode.locks
    return locks


# ---- deadlocks among processes that wait for record locks

_waits: list[tuple[Any, Any]] = []  #: (owner that waits, owner it waits for), classic record locks only


def begin_wait(waiter: object, holder: object) -> tuple[Any, Any]:
    """Note that `waiter` is going to wait for `holder`; raises EDEADLOCK if that closes a circle."""
    seen: set[int] = set()
    pending = [holder]
    while pending:
        owner = pending.pop()
        if owner is waiter:
            raise EDEADLOCK
        if id(owner) not in seen:
            seen.add(id(owner))
            pending += [behind for ahead, behind in _waits if ahead is owner]
    edge = (waiter, holder)
    _waits.append(edge)
    return edge


def end_wait(edge: tuple[Any, Any]) -> None:
    for index, each in enumerate(_waits):
        if each is edge:
            del _waits[index]
            return
