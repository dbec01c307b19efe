"""/proc/PID/fd and fdinfo: the open files of a task, as magic links and as text; also cwd, root and exe, proc(5)."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EBADF, ENOENT, ESRCH
from trapline.abi.fcntl import O_CLOEXEC
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.proc.base import ProcSuperBlock, TaskSubdir, alive, check_inspect, owner, task_ino
from trapline.kernel.fs.synthetic import SynthFile, SynthLink

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Path

_DT_LNK, _DT_REG = 10, 8
FD, FDINFO, LINK = 3, 4, 5  #: kinds for task_ino
DEAD = 3  #: Task.state


class MagicLink(SynthLink):
    """A link that leads to a place, not to a name; `place(task)` finds it, `text(task)` names it."""

    __slots__ = ("place", "target_task", "text")

    def __init__(
        self, sb: ProcSuperBlock, task: Any, place: Callable[[Any], Path], text: Callable[[Any], bytes], *,
        mode: int = 0o777, ino: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(sb, b"", ino=ino)
        self.mode = self.mode & ~0o777 | mode
        self.uid, self.gid = owner(task)
        self.target_task = task
        self.place = place
        self.text = text

    def readlink(self) -> bytes:
        self._check()
        return self.text(self.target_task)

    def follow(self, task: Any) -> Path:
        self._check()
        return self.place(self.target_task)

    def _check(self) -> None:
        kernel = self.sb.kernel  # type: ignore[attr-defined]
        if not alive(kernel, self.target_task) or self.target_task.state == DEAD:
            raise ENOENT
        check_inspect(kernel, self.target_task)


def need(value: Any) -> Any:
    if value is None:
        raise ENOENT
    return value


def _seen(kernel: Any, path: Path) -> bytes:
    """How the caller, with its own root, names a place."""
    caller = kernel.current
    root = caller.fs.root if caller is not None and caller.fs is not None else None
    return path.display(root)


def cwd(sb: ProcSuperBlock, task: Any) -> Inode:
    return MagicLink(
        sb, task, lambda t: need(t.fs).cwd, lambda t: _seen(t.kernel, need(t.fs).cwd), ino=task_ino(task.tid, LINK, 1)
    )


def root(sb: ProcSuperBlock, task: Any) -> Inode:
    return MagicLink(
        sb, task, lambda t: need(t.fs).root, lambda t: _seen(t.kernel, need(t.fs).root), ino=task_ino(task.tid, LINK, 2)
    )


def exe(sb: ProcSuperBlock, task: Any) -> Inode:
    """The program file: of the memory, so that threads of one process agree."""

    def file(t: Any) -> Any:
        return need(t.mm.exe_file if t.mm is not None and t.mm.exe_file is not None else t.group.exe)

    return MagicLink(
        sb, task, lambda t: t.kernel.vfs.path_of(file(t)), lambda t: name_of(t.kernel, file(t)), ino=task_ino(task.tid, LINK, 3)
    )


def name_of(kernel: Any, file: File) -> bytes:
    return _seen(kernel, file.path) if file.path is not None else file.display_path()


class FdDir(TaskSubdir):
    """/proc/PID/fd."""

    __slots__ = ("task",)

    def __init__(self, sb: ProcSuperBlock, task: Any) -> None:
        super().__init__(sb, mode=0o500, uid=owner(task)[0], gid=owner(task)[1], ino=task_ino(task.tid, FD))
        self.task = task

    def _files(self) -> Any:
        kernel = self.sb.kernel  # type: ignore[attr-defined]
        check_inspect(kernel, self.task)
        return need(self.task.files) if alive(kernel, self.task) else need(None)

    def lookup(self, name: bytes) -> Inode:
        fd = fd_number(name)
        files = self._files()
        try:
            file = files.get_any(fd)
        except EBADF:
            raise ENOENT from None
        mode = (0o500 if file.readable else 0) | (0o300 if file.writable else 0)
        return MagicLink(
            self.sb, self.task, lambda t: t.kernel.vfs.path_of(_open_file(t, fd)),  # type: ignore[arg-type]
            lambda t: name_of(t.kernel, _open_file(t, fd)), mode=mode, ino=task_ino(self.task.tid, FD + 0x10, fd),
        )  # fmt: skip

    def entries(self) -> list[Entry]:
        tid = self.task.tid
        return [(b"%d" % fd, task_ino(tid, FD + 0x10, fd), _DT_LNK) for fd in self._files().fds()]


def _open_file(task: Any, fd: int) -> File:
    try:
        file: File = need(task.files).get_any(fd)
    except EBADF:
        raise ENOENT from None
    return file


def fd_number(name: bytes) -> int:
    """A descriptor's name; raises ENOENT for any other text."""
    if not name.isdigit() or len(name) > 10 or (name[0] == 48 and len(name) > 1):
        raise ENOENT
    return int(name)


class FdInfoDir(FdDir):
    """/proc/PID/fdinfo."""

    __slots__ = ()

    def __init__(self, sb: ProcSuperBlock, task: Any) -> None:
        super().__init__(sb, task)
        self.mode = self.mode & ~0o777 | 0o555
        self.ino = task_ino(task.tid, FDINFO)

    def lookup(self, name: bytes) -> Inode:
        fd = fd_number(name)
        files, task = self._files(), self.task
        try:
            files.get_any(fd)
        except EBADF:
            raise ENOENT from None
        uid, gid = owner(task)
        return SynthFile(self.sb, lambda: _info(task, fd), 0o400, uid, gid, ino=task_ino(task.tid, FDINFO + 0x10, fd))

    def entries(self) -> list[Entry]:
        tid = self.task.tid
        return [(b"%d" % fd, task_ino(tid, FDINFO + 0x10, fd), _DT_REG) for fd in self._files().fds()]


def _info(task: Any, fd: int) -> bytes:
    if task.files is None:
        raise ESRCH
    from trapline.kernel.fs.proc.locks import rows_through

    file = _open_file(task, fd)
    flags = file.flags | (O_CLOEXEC if task.files.get_cloexec(fd) else 0)
    mount = file.path.mount.ident if file.path is not None else 0
    text = b"pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n" % (file.pos, flags, mount, file.inode.ino)
    text += b"".join(b"lock:\t%d: %b\n" % (number, row) for number, row in enumerate(rows_through(task, file), 1))
    more = getattr(file, "fdinfo", None)  # epoll, eventfd, ... say more of themselves
    return text + (more() if more is not None else b"")
