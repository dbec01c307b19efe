"""/proc files about the whole system: memory, CPUs, time, load, and lists that are mostly empty here.

Formats are those of proc(5); what has no counterpart in this kernel reads as zero or as an empty table.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from trapline.typed import Any
from weakref import WeakKeyDictionary

from trapline.kernel import uts
from trapline.kernel.fs.proc.base import ticks
from trapline.kernel.fs.proc.locks import locks
from trapline.kernel.mm.hugepages import pool_of
from trapline.kernel.mm.hugetlb import transparent_pages
from trapline.machine.paging.entry import PAGE_SHIFT

NS = 1_000_000_000
RUNNABLE = 0
_SPANS_NS = (60 * NS, 300 * NS, 900 * NS)
_PAGE_KB = 1 << PAGE_SHIFT >> 10

_DEVICES = (
    b"Character devices:\n  1 mem\n  4 /dev/vc/0\n  4 tty\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n"
    b" 10 misc\n128 ptm\n136 pts\n\nBlock devices:\n"
)
_MEMINFO_TAIL = (
    "Unevictable Mlocked SwapTotal SwapFree Dirty Writeback AnonPages Mapped Shmem KReclaimable Slab SReclaimable "
    "SUnreclaim KernelStack PageTables NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS VmallocTotal VmallocUsed "
    "VmallocChunk Percpu AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped"
).split()  # fmt: skip


def _spaces(kernel: Any) -> list[Any]:
    """Every address space in use, once."""
    return list({id(each.mm): each.mm for each in kernel.tasks.values() if each.mm is not None}.values())


def swap_pages(kernel: Any) -> tuple[int, int]:
    """(pages of swap, those that are free)."""
    return (kernel.swap.total_pages, kernel.swap.free_pages) if kernel.swap is not None else (0, 0)


def swaps(kernel: Any) -> bytes:
    """/proc/swaps: sizes in kB, without the page of the header."""
    lines = [b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"]
    if kernel.swap is not None:
        swap_pages(kernel)  # slots that nobody needs any more are not used
    for each in kernel.swap.areas.values() if kernel.swap is not None else ():
        name = b"".join(b"\\%03o" % byte if byte in b"\\ \t\n" else bytes([byte]) for byte in each.name)
        sizes = b"".join(b"%d\t\t" % (pages * _PAGE_KB) for pages in (each.total, each.used))
        kind = each.kind + (b"\t" if len(each.kind) > 7 else b"\t\t")
        lines.append(name.ljust(max(40, len(name) + 1)) + kind + sizes + b"%d\n" % each.priority)
    return b"".join(lines)


def meminfo(kernel: Any) -> bytes:
    frames = kernel.ram.frames
    total, used = frames.limit_pages, frames.used_pages
    spaces = _spaces(kernel)
    anon = min(used, sum(each.rss_anon for each in spaces))
    committed = sum(each.total_vm_pages for each in spaces)
    cached = used - anon
    swap = swap_pages(kernel)
    values = {
        "MemTotal": total, "MemFree": total - used, "MemAvailable": total - anon, "Buffers": 0, "Cached": cached,
        "SwapCached": len(kernel.swap.cache) if kernel.swap is not None else 0,
        "Active": used, "Inactive": 0, "Active(anon)": anon, "Inactive(anon)": 0,
        "Active(file)": cached, "Inactive(file)": 0,
    }  # fmt: skip
    tail = {
        "Mlocked": sum(each.locked_pages for each in spaces), "AnonPages": anon,
        "Mapped": sum(each.rss_pages for each in spaces) - anon, "CommitLimit": total // 2 + swap[0], "Committed_AS": committed,
        "SwapTotal": swap[0], "SwapFree": swap[1],
        "AnonHugePages": sum(transparent_pages(each.tables) for each in spaces),
    }  # fmt: skip
    values |= {name: max(0, tail.get(name, 0)) for name in _MEMINFO_TAIL}
    lines = [f"{name + ':':<15} {pages * _PAGE_KB:8d} kB\n" for name, pages in values.items()]
    pool = pool_of(kernel.ram)
    pool.settle()
    huge = {"Total": pool.total, "Free": len(pool.free), "Rsvd": pool.reserved, "Surp": pool.surplus}
    lines += [f"HugePages_{name + ':':<9}{pages:8d}\n" for name, pages in huge.items()]
    lines += [f"Hugepagesize:   {2048:8d} kB\n", f"Hugetlb:        {pool.total << 11:8d} kB\n"]
    return "".join(lines).encode()


def uptime(kernel: Any) -> bytes:
    up = kernel.clock.monotonic_ns() - kernel.boot_monotonic_ns
    idle = max(0, up * kernel.machine.cpus - _busy(kernel)[0] - _busy(kernel)[1])
    return b"%d.%02d %d.%02d\n" % (up // NS, up % NS // 10_000_000, idle // NS, idle % NS // 10_000_000)


def _busy(kernel: Any) -> tuple[int, int]:
    """(user, system) time of all tasks, dead ones included, in ns."""
    user = system = 0
    for group in kernel.groups.values():
        user += group.utime_ns
        system += group.stime_ns
        if group.parent is None:  # what was reaped is counted in its parents, and in the end here
            user += group.cutime_ns
            system += group.cstime_ns
    for task in kernel.tasks.values():
        user += task.utime_ns
        system += task.stime_ns
    return user, system


def stat(kernel: Any) -> bytes:
    user, system = _busy(kernel)
    up = kernel.clock.monotonic_ns() - kernel.boot_monotonic_ns
    cpus = kernel.machine.cpus
    idle = max(0, up * cpus - user - system)
    row = b"%d 0 %d %d 0 0 0 0 0 0\n"
    lines = [b"cpu  " + row % (ticks(user), ticks(system), ticks(idle))]
    share = row % (ticks(user) // cpus, ticks(system) // cpus, ticks(idle) // cpus)
    lines += [b"cpu%d " % cpu + share for cpu in range(cpus)]
    tasks = list(kernel.tasks.values())
    switches = sum(each.nvcsw + each.nivcsw for each in tasks)
    running = sum(each.state == RUNNABLE for each in tasks)
    lines.append(
        b"intr 0\nctxt %d\nbtime %d\nprocesses %d\nprocs_running %d\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n"
        % (switches, (kernel.boot_realtime_ns + kernel.clock.stepped_ns) // NS, _last_pid(kernel), running)
    )
    return b"".join(lines)


def _last_pid(kernel: Any) -> int:
    """The highest number in use: numbers are given out in order."""
    return max(kernel.tasks, default=1)


class _Load:
    """The load averages at one moment, and the CPU time used until then."""

    __slots__ = ("at_ns", "averages", "busy_ns")

    def __init__(self, boot_ns: int) -> None:
        self.at_ns = boot_ns
        self.busy_ns = 0
        self.averages = [0.0, 0.0, 0.0]


_loads: WeakKeyDictionary[Any, _Load] = WeakKeyDictionary()


def load_averages(kernel: Any) -> list[float]:
    """How many tasks ran on average, weighted over the last 1, 5 and 15 minutes.

    Nothing samples the run queue: between two looks, the CPU time that was used says how many ran. Tasks that waited for a CPU
    meanwhile are not seen.
    """
    load = _loads.setdefault(kernel, _Load(kernel.boot_monotonic_ns))
    now, busy = kernel.clock.monotonic_ns(), sum(_busy(kernel))
    passed = now - load.at_ns
    if passed > 0:
        ran = max(0, busy - load.busy_ns) / passed
        for index, span in enumerate(_SPANS_NS):
            weight = exp(-passed / span)
            load.averages[index] = load.averages[index] * weight + ran * (1 - weight)
        load.at_ns, load.busy_ns = now, busy
    return load.averages


def loadavg(kernel: Any) -> bytes:
    running = sum(each.state == RUNNABLE for each in kernel.tasks.values())
    loads = b" ".join(b"%.2f" % each for each in load_averages(kernel))
    return b"%b %d/%d %d\n" % (loads, running, len(kernel.tasks), _last_pid(kernel))


def version(kernel: Any) -> bytes:
    return b"%b version %b (trapline) (Python) %b\n" % (uts.SYSNAME, uts.RELEASE, uts.VERSION)


def cmdline(kernel: Any) -> bytes:
    return b"trapline\n"


def filesystems(kernel: Any) -> bytes:
    """Nothing here needs a block device."""
    return b"".join(b"nodev\t%b\n" % each for each in kernel.vfs.filesystems())


def vmstat(kernel: Any) -> bytes:
    frames = kernel.ram.frames
    tasks = list(kernel.tasks.values()) + list(kernel.groups.values())
    faults = sum(each.minflt + each.majflt for each in tasks)
    major = sum(each.majflt for each in tasks)
    zero = b"".join(b"%b 0\n" % each for each in (b"nr_dirty", b"nr_writeback", b"pgpgin", b"pgpgout"))
    pages_in, pages_out = (kernel.swap.pages_in, kernel.swap.pages_out) if kernel.swap is not None else (0, 0)
    free = frames.limit_pages - frames.used_pages
    return b"nr_free_pages %d\n%bpswpin %d\npswpout %d\npgfault %d\npgmajfault %d\n" % (
        free, zero, pages_in, pages_out, faults, major
    )  # fmt: skip


def buddyinfo(kernel: Any) -> bytes:
    free = kernel.ram.frames.limit_pages - kernel.ram.frames.used_pages
    columns = [free & 1023, *[0] * 9, free >> 10]
    return b"Node 0, zone   Normal " + b"".join(b"%6d " % each for each in columns) + b"\n"


def _text(text: bytes) -> Callable[[Any], bytes]:
    return lambda kernel: text


def interrupts(kernel: Any) -> bytes:
    return b"           " + b"".join(b"CPU%-8d" % cpu for cpu in range(kernel.machine.cpus)) + b"\n"


def kmsg(kernel: Any) -> bytes:
    """The kernel log as syslog(2) gives it."""
    lines = (f"<{priority}>[{ns // NS:5d}.{ns % NS // 1000:06d}] {text}\n" for ns, text, priority in kernel.log_lines)
    return "".join(lines).encode(errors="surrogateescape")


#: name -> (permissions, maker)
FILES: dict[bytes, tuple[int, Callable[[Any], bytes]]] = {
    b"meminfo": (0o444, meminfo),
    b"uptime": (0o444, uptime),
    b"stat": (0o444, stat),
    b"loadavg": (0o444, loadavg),
    b"version": (0o444, version),
    b"cmdline": (0o444, cmdline),
    b"filesystems": (0o444, filesystems),
    b"vmstat": (0o444, vmstat),
    b"buddyinfo": (0o400, buddyinfo),
    b"interrupts": (0o444, interrupts),
    b"kmsg": (0o400, kmsg),
    b"devices": (0o444, _text(_DEVICES)),
    b"partitions": (0o444, _text(b"major minor  #blocks  name\n\n")),
    b"diskstats": (0o444, _text(b"")),
    b"swaps": (0o444, swaps),
    b"modules": (0o444, _text(b"")),
    b"consoles": (0o444, _text(b"console              -W- (EC p  )    5:1\n")),
    b"crypto": (0o444, _text(b"")),
    b"cgroups": (0o444, _text(b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n")),
    b"locks": (0o444, locks),
    b"misc": (0o444, _text(b"")),
    b"execdomains": (0o444, _text(b"0-0\tLinux           \t[kernel]\n")),
}
