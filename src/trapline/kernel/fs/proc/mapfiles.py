"""/proc/PID/map_files: a process's mappings of files as magic links, proc(5)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.capability import CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN
from trapline.abi.errno import ENOENT, EPERM
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.proc.base import (
    MAP_FILES,
    ProcSuperBlock,
    TaskSubdir,
    alive,
    check_inspect,
    owner,
    task_ino,
)
from trapline.kernel.fs.proc.taskfd import MagicLink, name_of, need

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Path

DT_LNK = 10


class MapLink(MagicLink):
    """One mapping of a file. To follow it takes a privilege: a mapping outlives the right to open its file."""

    __slots__ = ()

    def follow(self, task: Any) -> Path:
        self._check()
        if task is not None and not (task.creds.has_cap(CAP_CHECKPOINT_RESTORE) or task.creds.has_cap(CAP_SYS_ADMIN)):
            raise EPERM
        return self.place(self.target_task)


class MapFilesDir(TaskSubdir):
    """/proc/PID/map_files: what is mapped where, one link per mapping of a file, named by its addresses."""

    __slots__ = ("task",)

    def __init__(self, sb: ProcSuperBlock, task: Any) -> None:
        super().__init__(sb, mode=0o500, uid=owner(task)[0], gid=owner(task)[1], ino=task_ino(task.tid, MAP_FILES))
        self.task = task

    def _areas(self) -> list[Any]:
        kernel = self.sb.kernel  # type: ignore[attr-defined]
        if not alive(kernel, self.task):
            raise ENOENT
        check_inspect(kernel, self.task)
        mm = self.task.mm
        return [each for each in mm.areas() if each.file is not None] if mm is not None else []

    def lookup(self, name: bytes) -> Inode:
        area = next((each for each in self._areas() if _range(each) == name), None)
        if area is None:
            raise ENOENT
        start = area.start
        mode = (0o400 if area.file.readable else 0) | (0o200 if area.file.writable else 0)
        return MapLink(
            self.sb, self.task, lambda t: t.kernel.vfs.path_of(_mapped(t, start, name)),  # type: ignore[arg-type]
            lambda t: name_of(t.kernel, _mapped(t, start, name)), mode=mode, ino=start >> 12,
        )  # fmt: skip

    def entries(self) -> list[Entry]:
        return [(_range(area), area.start >> 12, DT_LNK) for area in self._areas()]


def _range(area: Any) -> bytes:
    return b"%x-%x" % (area.start, area.end)


def _mapped(task: Any, start: int, name: bytes) -> File:
    """The file of a mapping that is still as it was when the link was found."""
    area = need(task.mm).map.find(start)
    if area is None or area.file is None or _range(area) != name:
        raise ENOENT
    file: File = area.file
    return file
