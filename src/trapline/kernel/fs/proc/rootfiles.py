"""What is in /proc besides processes: files about the system, and the directories sys, net, tty and sysvipc; proc(5)."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import Any

from trapline.kernel.fs.inode import Inode
from trapline.kernel.fs.proc import net, sysctl, system
from trapline.kernel.fs.proc.base import NET_INO, ProcSuperBlock, TaskSubdir
from trapline.kernel.fs.synthetic import Child, SynthDir, SynthFile
from trapline.kernel.ipc.sysv import proc as sysvipc


def children(sb: ProcSuperBlock) -> dict[bytes, Child]:
    """All of them, by name. Inodes are made when they are first looked up."""
    found: dict[bytes, Child] = {name: _file(sb, make, mode) for name, (mode, make) in system.FILES.items()}
    found[b"cpuinfo"] = _file(sb, _cpuinfo, 0o444)
    found[b"sys"] = lambda: sysctl.build(sb)
    found |= {name: lambda: SynthDir(sb) for name in (b"fs", b"bus", b"driver", b"irq")}
    found[b"tty"] = lambda: _tty(sb)
    found[b"sysvipc"] = lambda: _sysvipc(sb)
    return found


def net_directory(sb: ProcSuperBlock) -> Inode:
    """/proc/PID/net."""
    files = {name: _file(sb, _constant(text), 0o444) for name, text in net.FIXED.items()}
    files[b"unix"] = _file(sb, net.unix, 0o444)
    return TaskSubdir(sb, files, ino=NET_INO)


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
