"""`--dump-pagetables`: the page tables of each process, when it ends."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.scope.listener import Listener
from trapline.scope.views.pagetables import dump

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


class PageTableDump(Listener):
    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def exiting(self, task: Task) -> None:
        """The last thread of a process that shares its memory with nobody."""
        mm = task.mm
        if mm is not None and mm.users == 1:
            self._write(f"page tables of process {task.group.pid} ({task.comm.decode(errors='replace')})\n{dump(mm)}")
