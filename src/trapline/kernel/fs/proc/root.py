"""The top of /proc: processes by number, `self` and `thread-self`, and the files about the system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trapline.abi.errno import ENOENT
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.proc import net, sysctl, system
from trapline.kernel.fs.proc.base import NET_INO, ROOT_INO, ProcDir, ProcSuperBlock, task_ino
from trapline.kernel.fs.proc.taskdir import PROCESS, TaskDir
from trapline.kernel.fs.synthetic import SynthDir, SynthFile, SynthLink
from trapline.kernel.ipc.sysv import proc as sysvipc

_DT_DIR = 4


class ProcRoot(ProcDir):
    """`fixed` holds what does not depend on processes; inodes there are made once."""

    __slots__ = ("_net", "fixed")

    def __init__(self, sb: ProcSuperBlock) -> None:
        super().__init__(sb, None, 0o555, ino=ROOT_INO)
        kernel = sb.kernel
        self._net: Inode | None = None
        children: dict[bytes, Inode | Callable[[], Inode]] = {
            name: _file(sb, make, mode) for name, (mode, make) in system.FILES.items()
        }
        children[b"cpuinfo"] = _file(sb, _cpuinfo, 0o444)
        children[b"self"] = SynthLink(sb, lambda: _self(kernel))
        children[b"thread-self"] = SynthLink(sb, lambda: _thread_self(kernel))
        children[b"mounts"] = SynthLink(sb, b"self/mounts")
        children[b"net"] = SynthLink(sb, b"self/net")
        children[b"sys"] = lambda: sysctl.build(sb)
        children[b"fs"] = lambda: SynthDir(sb)
        children[b"bus"] = lambda: SynthDir(sb)
        children[b"driver"] = lambda: SynthDir(sb)
        children[b"irq"] = lambda: SynthDir(sb)
        children[b"tty"] = lambda: _tty(sb)
        children[b"sysvipc"] = lambda: _sysvipc(sb)
        self.fixed = SynthDir(sb, children, ino=ROOT_INO)

    def net(self) -> Inode:
        """What /proc/PID/net is, for every process."""
        if self._net is None:
            sb: Any = self.sb
            children = {name: _file(sb, _constant(text), 0o444) for name, text in net.FIXED.items()}
            children[b"unix"] = _file(sb, net.unix, 0o444)
            self._net = SynthDir(sb, children, ino=NET_INO)
        return self._net

    def lookup(self, name: bytes) -> Inode:
        if not name.isdigit():
            return self.fixed.lookup(name)
        kernel: Any = self.sb.kernel  # type: ignore[attr-defined]
        if len(name) > 10 or name[0] == 48:
            raise ENOENT
        task = _by_number(kernel, int(name))
        if task is None:
            raise ENOENT
        return TaskDir(self.sb, task, True)  # type: ignore[arg-type]

    def entries(self) -> list[Entry]:
        kernel: Any = self.sb.kernel  # type: ignore[attr-defined]
        groups = sorted(pid for pid, each in kernel.groups.items() if each.leader is not None)
        return self.fixed.entries() + [(b"%d" % pid, task_ino(pid, PROCESS), _DT_DIR) for pid in groups]


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


def _file(sb: ProcSuperBlock, make: Callable[[Any], bytes], mode: int) -> Callable[[], Inode]:
    return lambda: SynthFile(sb, lambda: make(sb.kernel), mode)


def _constant(text: bytes) -> Callable[[Any], bytes]:
    return lambda kernel: text


def _cpuinfo(kernel: Any) -> bytes:
    from trapline.kernel.drivers.hostcpu import cpuinfo

    return cpuinfo(kernel.machine.arch, kernel.machine.cpus)


_DRIVERS = (
    b"/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
    b"/dev/console         /dev/console    5       1 system:console\n"
    b"/dev/ptmx            /dev/ptmx       5       2 system\n"
    b"pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
    b"pty_master           /dev/ptm      128 0-1048575 pty:master\n"
)


def _tty(sb: ProcSuperBlock) -> Inode:
    texts = {b"drivers": _DRIVERS, b"ldiscs": b"n_tty       0\n"}
    return SynthDir(sb, {name: _file(sb, _constant(text), 0o444) for name, text in texts.items()})


def _sysvipc(sb: ProcSuperBlock) -> Inode:
    return SynthDir(sb, {name: _file(sb, make, 0o444) for name, make in sysvipc.FILES.items()})
