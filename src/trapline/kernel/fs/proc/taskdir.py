"""/proc/PID and /proc/PID/task/TID: what is in them, proc(5). What most programs never look at is imported when one does."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import ENOENT, EPERM
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.proc import taskfd
from trapline.kernel.fs.proc.base import (
    HIDEPID_NO_ACCESS,
    MAP_FILES,
    NET_INO,
    NS,
    ProcSuperBlock,
    TaskFile,
    TaskSubdir,
    alive,
    owner,
    task_ino,
)

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File as OpenFile
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.proc.taskfiles import File

_DT_DIR, _DT_LNK, _DT_REG = 4, 10, 8
PROCESS, THREAD, TASKS, ATTR = 0, 1, 2, 6  #: kinds for task_ino

_LINKS: dict[bytes, Callable[[ProcSuperBlock, Any], Inode]] = {b"cwd": taskfd.cwd, b"root": taskfd.root, b"exe": taskfd.exe}


def _attr(sb: ProcSuperBlock, task: Any) -> Inode:
    """No security module labels anything: the files are there and empty."""
    tid = task.tid
    children = {
        name: TaskFile(sb, task, lambda task: b"", 0o444, ino=task_ino(tid, ATTR, number))
        for number, name in enumerate((b"current", b"exec", b"fscreate", b"keycreate", b"prev", b"sockcreate"), 1)
    }
    return TaskSubdir(sb, children, 0o555, *owner(task), ino=task_ino(tid, ATTR))


def _namespaces(sb: ProcSuperBlock, task: Any) -> Inode:
    from trapline.kernel.fs.proc.taskns import NsDir

    return NsDir(sb, task)


def _map_files(sb: ProcSuperBlock, task: Any) -> Inode:
    from trapline.kernel.fs.proc.mapfiles import MapFilesDir

    return MapFilesDir(sb, task)


def _files(whole: bool) -> dict[bytes, File]:
    from trapline.kernel.fs.proc.taskfiles import ONE, WHOLE

    return WHOLE if whole else ONE


_DIRS: dict[bytes, tuple[int, Callable[[ProcSuperBlock, Any], Inode]]] = {
    b"attr": (ATTR, _attr), b"fd": (taskfd.FD, taskfd.FdDir), b"fdinfo": (taskfd.FDINFO, taskfd.FdInfoDir),
    b"map_files": (MAP_FILES, _map_files), b"ns": (NS, _namespaces),
}  # fmt: skip


class TaskDir(TaskSubdir):
    """/proc/PID (`whole`) or /proc/PID/task/TID."""

    __slots__ = ("task", "whole")

    def __init__(self, sb: ProcSuperBlock, task: Any, whole: bool) -> None:
        super().__init__(sb, None, 0o555, *_directory_owner(task), ino=task_ino(task.tid, PROCESS if whole else THREAD))
        self.task = task
        self.whole = whole

    def setattr(self, **changes: int | None) -> None:
        raise EPERM

    def _check_shown(self) -> None:
        """EPERM for whom `hidepid` keeps out."""
        if not self.sb.shows(self.task, HIDEPID_NO_ACCESS):  # type: ignore[attr-defined]
            raise EPERM("hidden by hidepid")

    def open(self, path: Path, flags: int, task: Any) -> OpenFile:
        self._check_shown()
        return super().open(path, flags, task)

    def lookup(self, name: bytes) -> Inode:
        self._check_shown()
        task, sb = self.task, self.sb
        if not alive(sb.kernel, task):  # type: ignore[attr-defined]
            raise ENOENT
        if name in _LINKS:
            return _LINKS[name](sb, task)  # type: ignore[arg-type]
        if name in _DIRS:
            return _DIRS[name][1](sb, task)  # type: ignore[arg-type]
        if name == b"net":
            return sb.root.net()  # type: ignore[attr-defined, no-any-return]
        if name == b"task" and self.whole:
            return TasksDir(sb, task)  # type: ignore[arg-type]
        file = _files(self.whole).get(name)
        if file is None:
            raise ENOENT
        ino = task_ino(task.tid, PROCESS if self.whole else THREAD, file.number)
        return file.inode(sb, task, file.make, file.mode, private=file.private, store=file.store, ino=ino)  # type: ignore[arg-type]

    def entries(self) -> list[Entry]:
        task, tid = self.task, self.task.tid
        if not alive(self.sb.kernel, task):  # type: ignore[attr-defined]
            return []
        kind = PROCESS if self.whole else THREAD
        found = [(name, task_ino(tid, kind, file.number), _DT_REG) for name, file in _files(self.whole).items()]
        found += [(name, task_ino(tid, taskfd.LINK, number), _DT_LNK) for number, name in enumerate(_LINKS, 1)]
        found += [(name, task_ino(tid, number), _DT_DIR) for name, (number, _) in _DIRS.items()]
        found.append((b"net", NET_INO, _DT_DIR))
        if self.whole:
            found.append((b"task", task_ino(tid, TASKS), _DT_DIR))
        return sorted(found)


def _directory_owner(task: Any) -> tuple[int, int]:
    """The directory itself shows who runs the process, even where its files are root's."""
    return (task.creds.euid, task.creds.egid) if task.creds is not None else (0, 0)


class TasksDir(TaskSubdir):
    """/proc/PID/task."""

    __slots__ = ("task",)

    def __init__(self, sb: ProcSuperBlock, task: Any) -> None:
        super().__init__(sb, None, 0o555, *_directory_owner(task), ino=task_ino(task.tid, TASKS))
        self.task = task

    def _threads(self) -> list[Any]:
        group = self.task.group
        return list(group.tasks) or [group.leader]

    def lookup(self, name: bytes) -> Inode:
        tid = taskfd.fd_number(name)
        for each in self._threads():
            if each.tid == tid:
                return TaskDir(self.sb, each, False)  # type: ignore[arg-type]
        raise ENOENT

    def entries(self) -> list[Entry]:
        return [(b"%d" % each.tid, task_ino(each.tid, THREAD), _DT_DIR) for each in self._threads()]
