"""System V semaphores, semop(2): sets of counters that several operations change at once, or not at all.

Who cannot go on waits in the set's queue with its operations. Every change walks that queue in order, and does for the
sleepers what has become possible: so a waker never races with those it wakes, and the first come are served first.

Invariants:
- 0 <= value <= SEMVMX for every semaphore;
- `waiting` holds exactly the calls whose operations cannot be done now.
"""

from __future__ import annotations

from array import array
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import ipc
from trapline.abi.errno import E2BIG, EAGAIN, EFBIG, EIDRM, EINTR, EINVAL, ENOMEM, ENOSPC, ERANGE, Errno
from trapline.kernel.ipc.sysv.ids import Object, now_s
from trapline.kernel.sync.park import Interrupted, WaitQueue

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.ipc.sysv.namespace import IpcNamespace
    from trapline.kernel.ipc.sysv.undo import UndoList


class Operation(NamedTuple):
    """struct sembuf."""

    num: int
    op: int
    flags: int


class SemSet(Object):
    """`values` and `pids` (of the last semop(2) or SETVAL) by semaphore number."""

    __slots__ = ("ctime", "namespace", "otime", "pids", "undoers", "values", "waiting")

    def __init__(self, namespace: IpcNamespace, task: Any, key: int, count: int, mode: int) -> None:
        super().__init__(key, mode, task.creds)
        self.namespace = namespace
        self.values = array("H", bytes(2 * count))
        self.pids = array("I", bytes(4 * count))
        self.otime, self.ctime = 0, now_s(namespace.kernel)
        self.waiting: list[Pending] = []
        self.undoers: dict[UndoList, None] = {}  #: who holds adjustments of this set
        namespace.semaphores += count

    def pack(self) -> bytes:
        """struct semid_ds."""
        own: bytes = self.namespace.kernel.abi.semid_ds.pack(self.otime, self.ctime, len(self.values))
        return self.pack_perm() + own

    # ---- doing operations

    def blocker(self, operations: list[Operation]) -> Operation | None:
        """The first operation that cannot be done, None if all can. Raises ERANGE."""
        after: dict[int, int] = {}
        for each in operations:
            value = after.get(each.num, self.values[each.num])
            if (each.op == 0 and value) or value + each.op < 0:
                return each
            if value + each.op > ipc.SEMVMX:
                raise ERANGE
            after[each.num] = value + each.op
        return None

    def perform(self, operations: list[Operation], pid: int, undo: UndoList | None) -> None:
        """Do what `blocker` found possible. Raises ERANGE when an adjustment would be out of range."""
        if undo is not None:
            undo.note(self, [each for each in operations if each.flags & ipc.SEM_UNDO])
        for each in operations:
            self.values[each.num] += each.op
            self.pids[each.num] = pid

    def changed(self) -> None:
        """Values may have changed: serve the sleepers, until nothing more is possible."""
        again = True
        while again:
            again = False
            for each in tuple(self.waiting):
                if each.try_again(self):
                    self.waiting.remove(each)
                    self.otime = now_s(self.namespace.kernel)
                    again = again or each.alters

    def count_waiting(self, num: int, zero: bool) -> int:
        """GETNCNT and GETZCNT: how many calls wait for semaphore `num` to grow, or to be zero."""
        found = 0
        for each in self.waiting:
            stuck = self.blocker(each.operations)
            found += stuck is not None and stuck.num == num and (stuck.op == 0) == zero
        return found

    def set_values(self, values: dict[int, int], pid: int) -> None:
        """SETVAL, SETALL: adjustments of these semaphores are forgotten by every process."""
        if any(not 0 <= value <= ipc.SEMVMX for value in values.values()):
            raise ERANGE
        for each in self.undoers:
            each.forget(self, values)
        for num, value in values.items():
            self.values[num] = value
            self.pids[num] = pid
        self.ctime = now_s(self.namespace.kernel)
        self.changed()

    def remove(self) -> None:
        """IPC_RMID."""
        self.namespace.sem.remove(self)
        self.namespace.semaphores -= len(self.values)
        for undo in tuple(self.undoers):
            undo.drop(self)
        for each in self.waiting:
            each.finish(EIDRM)
        self.waiting.clear()


class Pending:
    """One sleeping semop(2). `result`: None while it sleeps, 0 once it was done, else the error class."""

    __slots__ = ("alters", "operations", "pid", "queue", "result", "undo")

    def __init__(self, operations: list[Operation], pid: int, undo: UndoList | None) -> None:
        self.operations = operations
        self.pid = pid
        self.undo = undo
        self.alters = any(each.op for each in operations)
        self.queue = WaitQueue()
        self.result: int | type[Errno] | None = None

    def finish(self, result: int | type[Errno]) -> None:
        self.result = result
        self.queue.wake_all()

    def try_again(self, semset: SemSet) -> bool:
        """The call has its result now."""
        try:
            stuck = semset.blocker(self.operations)
            if stuck is None:
                semset.perform(self.operations, self.pid, self.undo)
                self.finish(0)
            elif stuck.flags & ipc.IPC_NOWAIT:
                self.finish(EAGAIN)
        except (ERANGE, ENOMEM) as error:
            self.finish(type(error))
        return self.result is not None


def get(namespace: IpcNamespace, task: Any, key: int, count: int, flags: int) -> int:
    """semget(2)."""
    if count < 0 or count > namespace.semmsl:
        raise EINVAL("nsems")

    def make() -> SemSet:
        if not count:
            raise EINVAL("nsems is 0")
        if namespace.semaphores + count > namespace.semmns:
            raise ENOSPC("semmns")
        namespace.sem.check_room()
        return SemSet(namespace, task, key, count, flags)

    def fits(semset: SemSet) -> None:
        if count > len(semset.values):
            raise EINVAL("the set is smaller")

    return namespace.sem.get(task, key, flags, make, fits)


def operate(
    namespace: IpcNamespace, task: Any, ident: int, operations: list[Operation], deadline_ns: int | None
) -> int | Coroutine[Any, Any, int]:
    """semtimedop(2): done at once, or a coroutine that waits for it."""
    semset = namespace.sem.find(ident)
    if max(each.num for each in operations) >= len(semset.values):
        raise EFBIG
    alters = any(each.op for each in operations)
    semset.check(task.creds, 0o222 if alters else 0o444)
    undo = undo_list(task) if any(each.flags & ipc.SEM_UNDO for each in operations) else None
    stuck = semset.blocker(operations)
    if stuck is None:
        semset.perform(operations, task.group.pid, undo)
        semset.otime = now_s(namespace.kernel)
        if alters:
            semset.changed()
        return 0
    if stuck.flags & ipc.IPC_NOWAIT:
        raise EAGAIN
    pending = Pending(operations, task.group.pid, undo)
    semset.waiting.append(pending)
    return _wait(semset, pending, deadline_ns)


def undo_list(task: Any) -> UndoList:
    """The adjustments that the task's end will make; one list for all that share it by CLONE_SYSVSEM."""
    from trapline.kernel.ipc.sysv.undo import UndoList

    if task.sem_undo is None:
        task.sem_undo = UndoList()
    undo: UndoList = task.sem_undo
    return undo


async def _wait(semset: SemSet, pending: Pending, deadline_ns: int | None) -> int:
    """Sleep until somebody has done the operations for us. A signal ends it with EINTR, never with a restart."""
    try:
        await pending.queue.wait(deadline_ns)
        if pending.result is None:
            raise EAGAIN("timed out")
    except Interrupted:
        if pending.result is None:
            raise EINTR from None
    finally:
        if pending in semset.waiting:
            semset.waiting.remove(pending)
    if pending.result:
        raise pending.result  # type: ignore[misc]  # not 0, not None: an error class
    return 0


def read_operations(namespace: IpcNamespace, task: Any, address: int, count: int) -> list[Operation]:
    """The sembuf array of a call. Raises EINVAL, E2BIG, EFAULT."""
    if count < 1:
        raise EINVAL("nsops")
    if count > namespace.semopm:
        raise E2BIG
    raw = task.mm.read(address, count * ipc.SEMBUF.size)
    return [Operation(*fields) for fields in ipc.SEMBUF.iter_unpack(raw)]
