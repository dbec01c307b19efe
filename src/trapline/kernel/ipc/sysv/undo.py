"""SEM_UNDO: what the end of a process gives back to semaphores.

An UndoList is one process's (or of all that share it by clone(2), CLONE_SYSVSEM): for each set, what to add to each value
when its last user is gone.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import ERANGE
from trapline.abi.ipc import SEMAEM, SEMVMX
from trapline.kernel.ipc.sysv.ids import now_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trapline.kernel.ipc.sysv.sem import Operation, SemSet


class UndoList:
    __slots__ = ("adjustments", "users")

    def __init__(self) -> None:
        self.users = 1
        self.adjustments: dict[SemSet, dict[int, int]] = {}

    def note(self, semset: SemSet, operations: list[Operation]) -> None:
        """Remember to undo `operations`. Raises ERANGE, ENOMEM, having remembered nothing."""
        old = self.adjustments.get(semset, {})
        new = dict(old)
        for each in operations:
            new[each.num] = new.get(each.num, 0) - each.op
            if not -SEMAEM - 1 <= new[each.num] <= SEMAEM:
                raise ERANGE
        semset.namespace.note_undo(len(new) - len(old))
        self.adjustments[semset] = new
        semset.undoers[self] = None

    def forget(self, semset: SemSet, numbers: Iterable[int]) -> None:
        """The values were set: there is nothing to undo."""
        mine = self.adjustments[semset]
        before = len(mine)
        for num in numbers:
            mine.pop(num, None)
        semset.namespace.note_undo(len(mine) - before)

    def drop(self, semset: SemSet) -> None:
        """The set is gone, or its adjustments were made."""
        gone = self.adjustments.pop(semset, {})
        semset.namespace.note_undo(-len(gone))
        semset.undoers.pop(self, None)

    def share(self) -> UndoList:
        self.users += 1
        return self


def leave(task: Any) -> None:
    """`task` uses its list no more; the last user's leaving makes the adjustments, within 0 and SEMVMX."""
    undo: UndoList | None = task.sem_undo
    if undo is None:
        return
    task.sem_undo = None
    undo.users -= 1
    if undo.users:
        return
    for semset, adjustments in tuple(undo.adjustments.items()):
        undo.drop(semset)
        for num, change in adjustments.items():
            if change:
                semset.values[num] = min(max(semset.values[num] + change, 0), SEMVMX)
                semset.pids[num] = task.group.pid
        semset.otime = now_s(task.kernel)
        semset.changed()
