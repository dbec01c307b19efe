"""/proc/PID/ns: the namespaces of a task, as magic links; namespaces(7)."""

from __future__ import annotations

from trapline.typed import Any

from trapline.abi.errno import ENOENT
from trapline.kernel.fs import nsfs
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.proc.base import NS, ProcSuperBlock, TaskSubdir, alive, owner, task_ino
from trapline.kernel.fs.proc.taskfd import MagicLink

_DT_LNK = 10


class NsDir(TaskSubdir):
    """/proc/PID/ns."""

    __slots__ = ("task",)

    def __init__(self, sb: ProcSuperBlock, task: Any) -> None:
        super().__init__(sb, None, 0o511, *owner(task), ino=task_ino(task.tid, NS))
        self.task = task

    def lookup(self, name: bytes) -> Inode:
        kind = nsfs.LINKS.get(name)
        if kind is None or not alive(self.sb.kernel, self.task):  # type: ignore[attr-defined]
            raise ENOENT
        ino = task_ino(self.task.tid, NS, 1 + list(nsfs.LINKS).index(name))
        return MagicLink(
            self.sb, self.task, lambda t: nsfs.path_of(t.kernel.vfs, kind), lambda t: nsfs.text(kind), ino=ino  # type: ignore[arg-type]
        )

    def entries(self) -> list[Entry]:
        tid = self.task.tid
        return [(name, task_ino(tid, NS, number), _DT_LNK) for number, name in enumerate(nsfs.LINKS, 1)]
