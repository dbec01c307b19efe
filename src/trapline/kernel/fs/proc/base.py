"""What all of procfs is built from: its super block, directories whose names are asked for each time, and files of a task.

Invariants:
- inode numbers follow from what an inode shows, so that two looks at the same file agree (fts(3) compares them);
- nothing here keeps a task alive: files of a task that was reaped answer ESRCH, its names are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.capability import CAP_SYS_PTRACE
from trapline.abi.errno import EACCES, EPERM, ESRCH
from trapline.abi.mount import PROC_MAGIC
from trapline.kernel.fs.inode import VOLATILE, Inode
from trapline.kernel.fs.permission import in_group
from trapline.kernel.fs.superblock import SuperBlock
from trapline.kernel.fs.synthetic import SynthDir, SynthFile

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.vfs import Vfs

ROOT_INO = 1
NET_INO = 2
FIRST_INO = 16  #: of what stands for no task; those follow from its number
OPTIONS = frozenset((b"gid", b"hidepid", b"subset"))  #: see `options`
HIDEPID_OFF, HIDEPID_NO_ACCESS, HIDEPID_INVISIBLE, HIDEPID_NOT_PTRACEABLE = 0, 1, 2, 4
TICKS_PER_SECOND = 100  #: USER_HZ, what times in proc(5) count in
TICK_NS = 1_000_000_000 // TICKS_PER_SECOND


class ProcSuperBlock(SuperBlock):
    """Knows the kernel it shows. `kernel` is Any because core stands above file systems.

    Whom it shows which processes, proc(5), "Mount options": `hidepid` is one of HIDEPID_*, `pid_gid` a group that sees all
    the same, `pid_only` leaves out what is about no process.
    """

    __slots__ = ("hidepid", "kernel", "pid_gid", "pid_only")

    def __init__(self, vfs: Vfs | None, kernel: Any) -> None:
        super().__init__(vfs, b"proc", PROC_MAGIC)
        self.block_size = 1024
        self.next_ino = count(FIRST_INO).__next__
        self.kernel = kernel
        self.hidepid = self.pid_gid = 0
        self.pid_only = False

    def reconfigure(self, options: dict[bytes, bytes]) -> None:
        if options:
            from trapline.kernel.fs.proc.options import apply

            apply(self, options)

    def shows(self, task: Any, level: int) -> bool:
        """The caller gets at what `level` of hiding takes away."""
        if self.hidepid < level:
            return True
        if self.hidepid != HIDEPID_NOT_PTRACEABLE:
            caller = self.kernel.current
            if caller is None or in_group(caller.creds, self.pid_gid):
                return True
        return may_inspect(self.kernel, task)


NS, MAP_FILES = 7, 9  #: kinds for `task_ino` whose directories are made in modules that load late


def task_ino(tid: int, kind: int, index: int = 0) -> int:
    """The inode number of entry `index` of directory `kind` of a task."""
    return (tid + 1) << 32 | kind << 24 | index


class ProcDir(SynthDir):
    """A directory that may answer differently each time. Subclasses define `lookup` and `entries`."""

    __slots__ = ()
    volatile = VOLATILE


class TaskSubdir(ProcDir):
    """A directory of a task. Whatever it holds, its permissions are not for users to change."""

    __slots__ = ()

    def setattr(self, **changes: int | None) -> None:
        keep_mode(changes)
        super().setattr(**changes)


def keep_mode(changes: dict[str, int | None]) -> None:
    """Raise EPERM for chmod(2) of what belongs to a task."""
    if changes.get("mode") is not None:
        raise EPERM


def ticks(ns: int) -> int:
    return ns // TICK_NS


def alive(kernel: Any, task: Any) -> bool:
    """`task` is a thread, or the leader of a process that was not reaped yet."""
    return kernel.tasks.get(task.tid) is task or kernel.groups.get(task.tid) is task.group


def may_inspect(kernel: Any, target: Any) -> bool:
    """The caller may look into `target` as ptrace(2), "Ptrace access mode checking", PTRACE_MODE_READ_FSCREDS has it."""
    caller = kernel.current
    if caller is None or caller.group is target.group:
        return True
    mine, theirs = caller.creds, target.creds
    if mine.has_cap(CAP_SYS_PTRACE):
        return True
    same_user = mine.fsuid == theirs.euid == theirs.suid == theirs.uid
    same_group = mine.fsgid == theirs.egid == theirs.sgid == theirs.gid
    return bool(same_user and same_group and target.dumpable == 1)


def check_inspect(kernel: Any, target: Any) -> None:
    """Raise EACCES unless `may_inspect`."""
    if not may_inspect(kernel, target):
        raise EACCES


def owner(task: Any) -> tuple[int, int]:
    """Who owns the files of `task`: its effective ids, or root if it is not dumpable (proc(5), "/proc/pid")."""
    if task.dumpable != 1 or task.creds is None:
        return 0, 0
    return task.creds.euid, task.creds.egid


def queued_signals(task: Any) -> int:
    """How many signals are queued to processes of the user that `task` runs as."""
    uid, total = task.creds.uid, 0
    for group in task.kernel.groups.values():
        if group.tasks and group.tasks[0].creds.uid == uid:
            total += len(group.pending) + sum(len(each.pending) for each in group.tasks)
    return total


class TaskFile(SynthFile):
    """A text file of one task. `private`: opening it needs the right to inspect the task."""

    __slots__ = ("private", "task")

    def __init__(
        self, sb: ProcSuperBlock, task: Any, make: Callable[[Any], bytes], mode: int = 0o444, *,
        private: bool = False, store: Callable[[Any, bytes], None] | None = None, ino: int = 0,
    ) -> None:  # fmt: skip
        self.task = task
        self.private = private

        def generate() -> bytes:
            if not alive(sb.kernel, task):
                raise ESRCH
            if private:
                check_inspect(sb.kernel, task)
            return make(task)

        def write(data: bytes) -> None:
            if not alive(sb.kernel, task):
                raise ESRCH
            assert store is not None
            store(task, data)

        super().__init__(sb, generate, mode, *owner(task), store=None if store is None else write, ino=ino)

    def setattr(self, **changes: int | None) -> None:
        keep_mode(changes)
        super().setattr(**changes)

    def open(self, path: Path, flags: int, task: Any) -> File:
        if self.private:
            check_inspect(self.sb.kernel, self.task)  # type: ignore[attr-defined]
        return super().open(path, flags, task)


def text_file(
    sb: SuperBlock, make: Callable[[], bytes], mode: int = 0o444, store: Callable[[bytes], None] | None = None
) -> Callable[[], Inode]:
    """A child for a fixed directory: made when it is first looked up."""
    return lambda: SynthFile(sb, make, mode, store=store)


def constant(sb: SuperBlock, text: bytes, mode: int = 0o444) -> Callable[[], Inode]:
    return lambda: SynthFile(sb, lambda: text, mode)
