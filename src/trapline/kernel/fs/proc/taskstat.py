"""/proc/PID/{stat,statm,status,sched,schedstat,io,limits,...}: what a task is and has used, as text, proc(5).

`whole` says whether a file stands for a whole process or for one of its threads (/proc/PID/task/TID): times and counts are
summed for a process.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.kernel.fs.proc.base import may_inspect, queued_signals, ticks
from trapline.kernel.mm.hugetlb import mapped_pages
from trapline.machine.paging.entry import PAGE_SHIFT

RUNNABLE, SLEEPING, STOPPED, DEAD = range(4)
_STATES = {
    "R": b"R (running)", "S": b"S (sleeping)", "D": b"D (disk sleep)", "T": b"T (stopped)", "Z": b"Z (zombie)",
    "X": b"X (dead)",
}  # fmt: skip
_PF_EXITING, _PF_FORKNOEXEC, _PF_RANDOMIZE = 0x4, 0x40, 0x400000
INFINITY = (1 << 64) - 1
_PAGE_KB = 1 << PAGE_SHIFT >> 10
_HEADER = b"%-25b %-20b %-20b %-10b\n"
_LIMITS = (
    (b"Max cpu time", b"seconds"), (b"Max file size", b"bytes"), (b"Max data size", b"bytes"), (b"Max stack size", b"bytes"),
    (b"Max core file size", b"bytes"), (b"Max resident set", b"bytes"), (b"Max processes", b"processes"),
    (b"Max open files", b"files"), (b"Max locked memory", b"bytes"), (b"Max address space", b"bytes"),
    (b"Max file locks", b"locks"), (b"Max pending signals", b"signals"), (b"Max msgqueue size", b"bytes"),
    (b"Max nice priority", b""), (b"Max realtime priority", b""), (b"Max realtime timeout", b"us"),
)  # fmt: skip


def state_letter(task: Any) -> str:
    if task.state == DEAD:
        return "Z" if task.group.zombie or task is task.group.leader else "X"
    if task.state == STOPPED:
        return "T"
    if task.state == SLEEPING:
        waiter = task.waiter
        return "S" if waiter is None or waiter.interruptible else "D"
    return "R"


def totals(task: Any, whole: bool) -> tuple[int, int, int, int]:
    """(user ns, system ns, minor faults, major faults)."""
    if not whole:
        return task.utime_ns, task.stime_ns, task.minflt, task.majflt
    group = task.group
    sums = [group.utime_ns, group.stime_ns, group.minflt, group.majflt]
    for each in group.tasks:
        sums[0] += each.utime_ns
        sums[1] += each.stime_ns
        sums[2] += each.minflt
        sums[3] += each.majflt
    mm = task.mm
    if mm is not None:  # faults are counted where they are repaired
        sums[2], sums[3] = max(sums[2], mm.minflt), max(sums[3], mm.majflt)
    return sums[0], sums[1], sums[2], sums[3]


def priority(task: Any) -> tuple[int, int, int, int]:
    """(priority, nice, real-time priority, policy) as /proc/PID/stat has them."""
    entity = task.entity
    if entity is None:
        return 20, 0, 0, 0
    return max(-1, entity.rank()) - 100, entity.nice, entity.own_priority, entity.policy


def _parent(task: Any) -> int:
    parent = task.group.parent
    return parent.pid if parent is not None else 0


def _terminal(task: Any) -> tuple[int, int]:
    tty = task.group.tty
    return (tty.rdev, tty.pgrp or -1) if tty is not None else (0, -1)


def stat(task: Any, whole: bool) -> bytes:
    group, mm = task.group, task.mm
    user, system, minflt, majflt = totals(task, whole)
    prio, nice, rt, policy = priority(task)
    tty, tpgid = _terminal(task)
    shown = mm is not None and may_inspect(task.kernel, task)
    layout = (
        (mm.start_code, mm.end_code, mm.start_stack, mm.start_data, mm.end_data, mm.start_brk, mm.arg_start, mm.arg_end,
         mm.env_start, mm.env_end) if shown else (1, 1, 0, 0, 0, 0, 0, 0, 0, 0) if mm is not None else (0,) * 10
    )  # fmt: skip
    flags = (0 if group.did_exec else _PF_FORKNOEXEC) | _PF_RANDOMIZE | (_PF_EXITING if task.state == DEAD else 0)
    low = (1 << 31) - 1
    fields = (
        _parent(task), group.pgid, group.sid, tty, tpgid, flags, minflt, group.cminflt, majflt, group.cmajflt,
        ticks(user), ticks(system), ticks(group.cutime_ns), ticks(group.cstime_ns), prio, nice, len(group.tasks), 0,
        ticks(max(0, task.start_time_ns - task.kernel.boot_monotonic_ns)), mm.total_vm_pages << PAGE_SHIFT if mm else 0,
        mm.rss_pages if mm else 0, _rss_limit(group), layout[0], layout[1], layout[2], 0, 0,
        task.pending.mask & low if task.pending else 0, task.blocked & low, _ignored(group) & low, _caught(group) & low,
        0, 0, 0, task.exit_signal or 0, task.cpu, rt, policy, 0, 0, 0, *layout[3:6], *layout[6:],
        task.exit_status if shown or mm is None else 0,
    )  # fmt: skip
    return b"%d (%b) %b %b\n" % (
        task.tid, task.comm or b"init", state_letter(task).encode(), b" ".join(b"%d" % each for each in fields)
    )


def _rss_limit(group: Any) -> int:
    return int(group.rlimits[5][0]) if len(group.rlimits) > 5 else INFINITY


def _ignored(group: Any) -> int:
    return int(group.actions.ignored_mask()) if group.actions is not None else 0


def _caught(group: Any) -> int:
    return int(group.actions.caught_mask()) if group.actions is not None else 0


def statm(task: Any) -> bytes:
    mm = task.mm
    if mm is None:
        return b"0 0 0 0 0 0 0\n"
    text = (mm.end_code + 0xFFF >> 12) - (mm.start_code >> 12)
    return b"%d %d %d %d 0 %d 0\n" % (mm.total_vm_pages, mm.rss_pages, mm.rss_file, text, mm.data_pages + mm.stack_pages)


def status(task: Any, whole: bool) -> bytes:
    group, creds = task.group, task.creds
    fs = task.fs
    head = [
        b"Name:\t%b" % (task.comm or b"init").replace(b"\\", b"\\\\").replace(b"\n", b"\\n"),
        b"Umask:\t%04o" % fs.umask if fs is not None else None,
        b"State:\t" + _STATES[state_letter(task)],
        b"Tgid:\t%d" % group.pid, b"Ngid:\t0", b"Pid:\t%d" % task.tid, b"PPid:\t%d" % _parent(task), b"TracerPid:\t0",
        b"Uid:\t%d\t%d\t%d\t%d" % (creds.uid, creds.euid, creds.suid, creds.fsuid),
        b"Gid:\t%d\t%d\t%d\t%d" % (creds.gid, creds.egid, creds.sgid, creds.fsgid),
        b"FDSize:\t%d" % _fd_size(task), b"Groups:\t%b " % b" ".join(b"%d" % each for each in creds.groups),
        b"NStgid:\t%d" % group.pid, b"NSpid:\t%d" % task.tid, b"NSpgid:\t%d" % group.pgid, b"NSsid:\t%d" % group.sid,
        b"Kthread:\t0",
    ]  # fmt: skip
    lines = [each for each in head if each is not None]
    if task.mm is not None:
        lines += _memory(task.mm, task.group.core is not None)
    lines += _signals(task) + _rights(task)
    lines += [b"voluntary_ctxt_switches:\t%d" % task.nvcsw, b"nonvoluntary_ctxt_switches:\t%d" % task.nivcsw]
    return b"\n".join(lines) + b"\n"


def _fd_size(task: Any) -> int:
    if task.files is None:
        return 0
    highest = max(task.files.fds(), default=0)
    return max(64, 1 << highest.bit_length())


def _memory(mm: Any, dumping: bool) -> list[bytes]:
    text = (mm.end_code + 0xFFF >> 12) - (mm.start_code >> 12)
    huge = mapped_pages(mm.tables, list(mm.tables.blocks)) if mm.huge_pages else 0
    sizes = (
        (b"VmPeak", mm.hiwater_vm_pages), (b"VmSize", mm.total_vm_pages), (b"VmLck", mm.locked_pages), (b"VmPin", 0),
        (b"VmHWM", mm.hiwater_rss_pages), (b"VmRSS", mm.rss_pages), (b"RssAnon", mm.rss_anon), (b"RssFile", mm.rss_file),
        (b"RssShmem", 0), (b"VmData", mm.data_pages), (b"VmStk", mm.stack_pages), (b"VmExe", text),
        (b"VmLib", max(0, mm.exec_pages - text)), (b"VmPTE", mm.tables.table_pages),
        (b"VmSwap", mm.tables.swapped), (b"HugetlbPages", huge),
    )  # fmt: skip
    lines = [b"%b:\t%8d kB" % (name, pages * _PAGE_KB) for name, pages in sizes]
    return [*lines, b"CoreDumping:\t%d" % dumping, b"THP_enabled:\t%d" % mm.policy.huge]


def _signals(task: Any) -> list[bytes]:
    group = task.group
    limit = group.rlimits[11][0] if len(group.rlimits) > 11 else 0
    own = task.pending.mask if task.pending is not None else 0
    shared = group.pending.mask if group.pending is not None else 0
    masks = (
        (b"SigPnd", own), (b"ShdPnd", shared), (b"SigBlk", task.blocked), (b"SigIgn", _ignored(group)),
        (b"SigCgt", _caught(group)),
    )  # fmt: skip
    lines = [b"Threads:\t%d" % max(1, len(group.tasks)), b"SigQ:\t%d/%d" % (queued_signals(task), limit)]
    return lines + [b"%b:\t%016x" % each for each in masks]


def _rights(task: Any) -> list[bytes]:
    creds = task.creds
    sets = (
        (b"CapInh", creds.inheritable), (b"CapPrm", creds.permitted), (b"CapEff", creds.effective),
        (b"CapBnd", creds.bounding), (b"CapAmb", creds.ambient),
    )  # fmt: skip
    cpus = task.kernel.machine.cpus
    allowed = (task.entity.affinity if task.entity is not None else 0) or (1 << cpus) - 1
    lines = [b"%b:\t%016x" % each for each in sets]
    lines += [b"NoNewPrivs:\t%d" % task.no_new_privs, *_seccomp(task)]
    lines += _speculation(task)
    lines += [b"Cpus_allowed:\t%b" % hex_mask(allowed, cpus), b"Cpus_allowed_list:\t%b" % cpu_list(allowed)]
    return [*lines, b"Mems_allowed:\t1", b"Mems_allowed_list:\t0"]


def _speculation(task: Any) -> list[bytes]:
    from trapline.kernel.drivers.hostcpu import speculation

    known = speculation(task.kernel.machine.arch)
    stores, branches = b"unknown", b"unsupported"
    if known is not None:
        stores = {0: b"not vulnerable", 2: b"vulnerable"}.get(known[0], b"globally mitigated")
        branches = {0: b"not affected", 2: b"always enabled"}.get(known[1], b"always disabled")
    return [b"Speculation_Store_Bypass:\t" + stores, b"SpeculationIndirectBranch:\t" + branches]


def _seccomp(task: Any) -> list[bytes]:
    rules = task.seccomp
    mode, count = (rules.mode, rules.count if rules.program else 0) if rules is not None else (0, 0)
    return [b"Seccomp:\t%d" % mode, b"Seccomp_filters:\t%d" % count]


def hex_mask(mask: int, bits: int) -> bytes:
    """A bitmap as the kernel prints it: groups of 32 bits, the first as short as it can be."""
    words = [mask >> shift & 0xFFFFFFFF for shift in range(0, max(bits, 1), 32)]
    width = (bits - 1) % 32 // 4 + 1
    return b",".join([b"%0*x" % (width, words[-1]), *(b"%08x" % each for each in reversed(words[:-1]))])


def cpu_list(mask: int) -> bytes:
    """Ranges: 0-3,5."""
    parts: list[bytes] = []
    at = 0
    while mask >> at:
        if mask >> at & 1:
            end = at
            while mask >> (end + 1) & 1:
                end += 1
            parts.append(b"%d" % at if end == at else b"%d-%d" % (at, end))
            at = end
        at += 1
    return b",".join(parts)


def limits(task: Any) -> bytes:
    lines = [_HEADER % (b"Limit", b"Soft Limit", b"Hard Limit", b"Units")]
    rlimits = task.group.rlimits
    for (name, unit), (soft, hard) in zip(_LIMITS, rlimits, strict=False):
        lines.append(_HEADER % (name, _limit(soft), _limit(hard), unit))
    return b"".join(lines)


def _limit(value: int) -> bytes:
    return b"unlimited" if value == INFINITY else b"%d" % value


def io(task: Any) -> bytes:
    """What the process has read and written. There is no storage, so nothing is read from or written to it."""
    group = task.group
    counts = (
        (b"rchar", group.rchar), (b"wchar", group.wchar), (b"syscr", group.syscr), (b"syscw", group.syscw),
        (b"read_bytes", 0), (b"write_bytes", 0), (b"cancelled_write_bytes", 0),
    )  # fmt: skip
    return b"".join(b"%b: %d\n" % each for each in counts)


def schedstat(task: Any) -> bytes:
    return b"%d 0 %d\n" % (task.utime_ns + task.stime_ns, task.nvcsw + task.nivcsw)


def sched(task: Any) -> bytes:
    prio, _, _, policy = priority(task)
    title = b"%b (%d, #threads: %d)" % (task.comm, task.tid, max(1, len(task.group.tasks)))
    run = task.utime_ns + task.stime_ns
    rows: tuple[tuple[bytes, bytes], ...] = (
        (b"se.sum_exec_runtime", b"%d.%06d" % (run // 1_000_000, run % 1_000_000)),
        (b"nr_switches", b"%d" % (task.nvcsw + task.nivcsw)), (b"nr_voluntary_switches", b"%d" % task.nvcsw),
        (b"nr_involuntary_switches", b"%d" % task.nivcsw), (b"policy", b"%d" % policy), (b"prio", b"%d" % (100 + prio)),
    )  # fmt: skip
    if task.entity is not None and task.entity.reservation is not None:
        mine = task.entity.reservation
        rows += (b"dl.runtime", b"%d" % mine.left_ns), (b"dl.deadline", b"%d" % mine.due_ns)
    body = b"".join(b"%-45b:%21b\n" % each for each in rows)
    return title + b"\n" + b"-" * 67 + b"\n" + body
