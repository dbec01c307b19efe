"""The files of /proc/PID and /proc/PID/task/TID, proc(5): the small ones, and the table of all. Imported with the first."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import Any

from trapline.abi.capability import CAP_SYS_RESOURCE
from trapline.abi.core import FILTER_MASK
from trapline.abi.errno import EACCES, EINVAL, EPERM, ESRCH
from trapline.kernel.fs.proc import mounts, taskmm, taskstat
from trapline.kernel.fs.proc.base import TaskFile

OOM_MIN, OOM_MAX = -1000, 1000
COMM_MAX = 15
_WHOLE_MAP = b"%10d %10d %10d\n" % (0, 0, (1 << 32) - 1)

Make = Callable[[Any], bytes]


# ---- small files


def _comm(task: Any) -> bytes:
    return task.comm + b"\n"  # type: ignore[no-any-return]


def _set_comm(task: Any, data: bytes) -> None:
    caller = task.kernel.current
    if caller is not None and caller.group is not task.group:
        raise EINVAL("only a thread of the same process may")
    task.comm = data.split(b"\0")[0].split(b"\n")[0][:COMM_MAX]


def _oom_score(task: Any) -> bytes:
    limit = task.kernel.ram.frames.limit_pages
    pages = task.mm.rss_pages if task.mm is not None else 0
    return b"%d\n" % max(0, (pages * 1000 // limit + task.group.oom_score_adj + 1000) * 2 // 3)


def _oom_adj(task: Any) -> bytes:
    return b"%d\n" % task.group.oom_score_adj


def _set_oom_adj(task: Any, data: bytes) -> None:
    value = _integer(data)
    if not OOM_MIN <= value <= OOM_MAX:
        raise EINVAL
    caller = task.kernel.current
    if value < task.group.oom_score_adj and caller is not None and not caller.creds.has_cap(CAP_SYS_RESOURCE):
        raise EACCES
    task.group.oom_score_adj = value


def _core_filter(task: Any) -> bytes:
    return b"%08x\n" % task.group.core_filter if task.mm is not None else b""


def _set_core_filter(task: Any, data: bytes) -> None:
    """The filter belongs to the memory: whoever shares it shares that."""
    try:
        value = int(data.strip(b"\0 \n"), 0)
    except ValueError:
        raise EINVAL from None
    if not 0 <= value < 1 << 32:
        raise EINVAL
    if task.mm is None:
        raise ESRCH
    for each in task.kernel.tasks.values():
        if each.mm is task.mm:
            each.group.core_filter = value & FILTER_MASK


def _integer(data: bytes) -> int:
    try:
        return int(data.strip(b"\0 \n"))
    except ValueError:
        raise EINVAL from None


def _timerslack(task: Any) -> bytes:
    return b"%d\n" % task.timer_slack_ns


def _set_timerslack(task: Any, data: bytes) -> None:
    value = _integer(data)
    if value < 0:
        raise EINVAL
    task.timer_slack_ns = value or task.timer_slack_default_ns


def _personality(task: Any) -> bytes:
    return b"%08x\n" % task.personality


def _syscall(task: Any) -> bytes:
    """The call a task is in. Its arguments are not kept."""
    if task is not task.kernel.current and (task.syscall_nr < 0 or task.state == taskstat.RUNNABLE):
        return b"running\n"
    regs, arch = task.ctx.regs, task.kernel.machine.arch
    return b"%d %b 0x%x 0x%x\n" % (
        task.syscall_nr, b" ".join(b"0x%x" % regs[each] for each in arch.args), regs[arch.sp], regs[arch.pc],
    )  # fmt: skip


def _timers(task: Any) -> bytes:
    """POSIX timers: id, signal, clock."""
    lines = []
    for ident, timer in sorted((task.group.posix_timers or {}).items()):
        lines.append(
            b"ID: %d\nsignal: %d/%016x\nnotify: signal/pid.%d\nClockID: %d\n"
            % (ident, timer.signo, timer.value, task.group.pid, timer.clock_id)
        )
    return b"".join(lines)


def _no(task: Any) -> bytes:
    raise EPERM


def fixed(text: bytes) -> Make:
    return lambda task: text


def _stat_whole(task: Any) -> bytes:
    return taskstat.stat(task, True)


def _stat_thread(task: Any) -> bytes:
    return taskstat.stat(task, False)


def _status(task: Any) -> bytes:
    return taskstat.status(task, True)


# ---- the table


class File:
    """One entry: its permissions, what makes its text, whether it is private, what takes writes, or another inode class.

    `number` tells it from its neighbours in inode numbers.
    """

    __slots__ = ("inode", "make", "mode", "number", "private", "store")

    def __init__(
        self, mode: int, make: Make, *, private: bool = False, store: Callable[[Any, bytes], None] | None = None,
        inode: type[TaskFile] = TaskFile,
    ) -> None:  # fmt: skip
        self.mode = mode
        self.make = make
        self.private = private
        self.store = store
        self.inode = inode
        self.number = 0


BOTH: dict[bytes, File] = {
    b"auxv": File(0o400, taskmm.auxv, private=True),
    b"cgroup": File(0o444, fixed(b"0::/\n")),
    b"cmdline": File(0o444, taskmm.cmdline),
    b"comm": File(0o644, _comm, store=_set_comm),
    b"cpuset": File(0o444, fixed(b"/\n")),
    b"environ": File(0o400, taskmm.environ, private=True),
    b"gid_map": File(0o444, fixed(_WHOLE_MAP)),
    b"limits": File(0o444, taskstat.limits),
    b"loginuid": File(0o444, fixed(b"4294967295")),
    b"maps": File(0o444, taskmm.maps, private=True),
    b"mem": File(0o600, _no, inode=taskmm.MemInode),
    b"mountinfo": File(0o444, mounts.mountinfo, inode=mounts.MountsInode),
    b"mounts": File(0o444, mounts.mounts, inode=mounts.MountsInode),
    b"oom_score": File(0o444, _oom_score),
    b"oom_score_adj": File(0o644, _oom_adj, store=_set_oom_adj),
    b"pagemap": File(0o400, _no, inode=taskmm.PagemapInode),
    b"personality": File(0o400, _personality, private=True),
    b"projid_map": File(0o444, fixed(_WHOLE_MAP)),
    b"sched": File(0o444, taskstat.sched),
    b"schedstat": File(0o444, taskstat.schedstat),
    b"sessionid": File(0o444, fixed(b"4294967295")),
    b"setgroups": File(0o444, fixed(b"allow\n")),
    b"smaps": File(0o444, taskmm.smaps, private=True),
    b"smaps_rollup": File(0o444, taskmm.smaps_rollup, private=True),
    b"stack": File(0o400, _no),
    b"statm": File(0o444, taskstat.statm),
    b"status": File(0o444, _status),
    b"syscall": File(0o400, _syscall, private=True),
    b"uid_map": File(0o444, fixed(_WHOLE_MAP)),
    b"wchan": File(0o444, fixed(b"0")),
}
WHOLE: dict[bytes, File] = BOTH | {
    b"coredump_filter": File(0o644, _core_filter, store=_set_core_filter),
    b"io": File(0o400, taskstat.io, private=True),
    b"mountstats": File(0o400, mounts.mountstats),
    b"stat": File(0o444, _stat_whole),
    b"timers": File(0o444, _timers),
    b"timerslack_ns": File(0o666, _timerslack, private=True, store=_set_timerslack),
}
ONE: dict[bytes, File] = BOTH | {
    b"children": File(0o444, lambda task: b"".join(b"%d " % each.pid for each in task.group.children)),
    b"stat": File(0o444, _stat_thread),
}
for _number, _name in enumerate(sorted(WHOLE.keys() | ONE.keys()), 1):
    for _table in (WHOLE, ONE):
        if _name in _table:
            _table[_name].number = _number
