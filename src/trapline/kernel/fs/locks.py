"""Advisory locks: fcntl(2) record locks (`ranges`) and flock(2) locks, per inode; beside them, leases.

An owner is what a lock belongs to: the descriptor table of a process for classic record locks, the open file for open
file description locks. Ranges are [start, end] with the last byte included.

Invariant: `Inode.locks` is set while the inode has had any lock, so that files nobody locks pay one test at close.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EDEADLOCK, ENOLCK
from trapline.abi.fcntl import LOCK_EX
from trapline.abi.rw import F_OWNER_PID
from trapline.kernel.fs.ranges import RecordLock, RecordLocks
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.fdtable import FdTable
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.leases import Lease

MAX_LOCKS = 8192  #: record locks on one inode; beyond, ENOLCK


class InodeLocks:
    """All locks on one inode."""

    __slots__ = ("flocks", "leases", "notices", "queue", "ranges")

    def __init__(self) -> None:
        self.ranges = RecordLocks()
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
        file.owner, file.owner_signal = (F_OWNER_PID, 0, 0, 0), 0  # f_delown: nobody is told of it any more
        self.queue.wake_all()
        return True

    def _drop(self, owner: object) -> None:
        if self.ranges.count and self.ranges.drop(owner):
            self.queue.wake_all()

    # ---- record locks

    @property
    def records(self) -> list[RecordLock]:
        return self.ranges.all()

    def conflict(self, lock: RecordLock) -> RecordLock | None:
        """The first lock of somebody else that `lock` cannot live with."""
        return self.ranges.conflict(lock)

    def apply(self, lock: RecordLock) -> None:
        """Set (or, for F_UNLCK, clear) a range without a conflict: splits and joins the owner's locks. Raises ENOLCK."""
        if not self.ranges.apply(lock, MAX_LOCKS):
            raise ENOLCK("too many record locks on one file")
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
