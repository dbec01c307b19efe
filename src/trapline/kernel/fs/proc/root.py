"""The top of /proc: processes by number, `self` and `thread-self`, and the files about the system.

What those files say is imported when the first of them is looked up: most programs know no more of /proc than /proc/self.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.abi.errno import ENOENT
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.proc.base import HIDEPID_INVISIBLE, ROOT_INO, ProcDir, ProcSuperBlock, task_ino
from trapline.kernel.fs.proc.taskdir import PROCESS, TaskDir
from trapline.kernel.fs.synthetic import SynthDir, SynthLink

_DT_DIR = 4
ALWAYS = frozenset((b".", b"..", b"self", b"thread-self"))  #: what is left with subset=pid, besides processes


class ProcRoot(ProcDir):
    """Inodes of what does not depend on processes are made once: `links` at once, all others with the first of them."""

    __slots__ = ("_fixed", "_net", "links")

    def __init__(self, sb: ProcSuperBlock) -> None:
        super().__init__(sb, None, 0o555, ino=ROOT_INO)
        kernel = sb.kernel
        self._net: Inode | None = None
        self._fixed: SynthDir | None = None
        self.links = {
            b"self": SynthLink(sb, lambda: _self(kernel)),
            b"thread-self": SynthLink(sb, lambda: _thread_self(kernel)),
            b"mounts": SynthLink(sb, b"self/mounts"),
            b"net": SynthLink(sb, b"self/net"),
        }

    def fixed(self) -> SynthDir:
        """What does not depend on processes."""
        if self._fixed is None:
            from trapline.kernel.fs.proc.rootfiles import children

            self._fixed = SynthDir(self.sb, {**self.links, **children(self.sb)}, ino=ROOT_INO)  # type: ignore[arg-type]
        return self._fixed

    def net(self) -> Inode:
        """What /proc/PID/net is, for every process."""
        if self._net is None:
            from trapline.kernel.fs.proc.rootfiles import net_directory

            self._net = net_directory(self.sb)  # type: ignore[arg-type]
        return self._net

    def lookup(self, name: bytes) -> Inode:
        if not name.isdigit():
            if self.sb.pid_only and name not in ALWAYS:  # type: ignore[attr-defined]
                raise ENOENT
            return self.links.get(name) or self.fixed().lookup(name)
        kernel: Any = self.sb.kernel  # type: ignore[attr-defined]
        if len(name) > 10 or name[0] == 48:
            raise ENOENT
        task = _by_number(kernel, int(name))
        if task is None or not self.sb.shows(task, HIDEPID_INVISIBLE):  # type: ignore[attr-defined]
            raise ENOENT
        return TaskDir(self.sb, task, True)  # type: ignore[arg-type]

    def entries(self) -> list[Entry]:
        kernel: Any = self.sb.kernel  # type: ignore[attr-defined]
        groups = sorted(pid for pid, each in kernel.groups.items() if each.leader is not None)
        sb: ProcSuperBlock = self.sb  # type: ignore[assignment]
        if sb.hidepid:
            groups = [pid for pid in groups if sb.shows(kernel.groups[pid].leader, HIDEPID_INVISIBLE)]
        fixed = self.fixed().entries()
        if sb.pid_only:
            fixed = [entry for entry in fixed if entry[0] in ALWAYS]
        return fixed + [(b"%d" % pid, task_ino(pid, PROCESS), _DT_DIR) for pid in groups]


def _by_number(kernel: Any, number: int) -> Any:
    """A process by its pid, or the process of a thread by its tid (not listed, but there: proc(5), "/proc/tid")."""
    group = kernel.groups.get(number)
    if group is not None:
        return group.leader
    return kernel.tasks.get(number)


def _self(kernel: Any) -> bytes:
    task = kernel.current
    if task is None:
        raise ENOENT
    return b"%d" % task.group.pid


def _thread_self(kernel: Any) -> bytes:
    task = kernel.current
    if task is None:
        raise ENOENT
    return b"%d/task/%d" % (task.group.pid, task.tid)
