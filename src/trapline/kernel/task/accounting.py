"""Process accounting, acct(2): a record of each process that ends, in the third version of acct(5)'s format, added to a file.

When the file's file system has no more room than the second number of /proc/sys/kernel/acct says (per cent), nothing is written
until it has more than the first; the third is how many seconds pass between two looks.

Invariant: `Kernel.accounting` is None while nobody asked for records; then the end of a process costs one look at that.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

AFORK, ACORE, AXSIG = 0x01, 0x08, 0x10
VERSION = 3
#: flag, version, tty, exit code, uid, gid, pid, parent, begin; elapsed; user, system, memory, -, -, minor, major, -; name
RECORD = struct.Struct("<2BH6If8H16s")
NSEC, TICK_NS = 10**9, 10**7
SIGNAL, CORE = 0x7F, 0x80
MANTISSA_BITS, EXPONENT_BITS, DIGIT = 13, 3, 3
MASK32 = (1 << 32) - 1


class Accounting:
    """Where the records of one kernel go; `file` is a reference of its own."""

    __slots__ = ("checks_at_ns", "file", "full")

    def __init__(self, file: File) -> None:
        self.file = file
        self.full = False  #: there was too little room when it was looked at last
        self.checks_at_ns = 0  #: CLOCK_MONOTONIC

    def close(self) -> None:
        self.file.put()

    def process_ends(self, task: Task, status: int) -> None:
        """`task` is the last of its process, and still has its memory; `status` is the process's, as wait(2) has it."""
        if self._has_room(task.kernel):
            with suppress(Errno):  # as on Linux, nobody hears of a record that could not be written
                self.file.try_write(record(task, status))

    def _has_room(self, kernel: Kernel) -> bool:
        now_ns = kernel.clock.monotonic_ns()
        if now_ns >= self.checks_at_ns:
            resume, suspend, pause_s = kernel.accounting_limits
            self.checks_at_ns = now_ns + pause_s * NSEC
            space = self.file.inode.statfs()
            full = space.bfree * 100 <= space.blocks * (resume if self.full else suspend) and space.blocks > 0
            if full != self.full:
                self.full = full
                kernel.log("Process accounting " + ("paused" if full else "resumed"))
        return not self.full


def record(task: Task, status: int) -> bytes:
    """The process of `task` in 64 bytes."""
    group, kernel = task.group, task.kernel
    elapsed_ns = kernel.clock.monotonic_ns() - group.leader.start_time_ns
    flag = (0 if group.did_exec else AFORK) | (ACORE if status & CORE else 0) | (AXSIG if status & SIGNAL else 0)
    parent = group.parent.pid if group.parent is not None else 0
    mm = task.mm
    memory_kb, minor, major = (mm.total_vm_pages << 2, mm.minflt, mm.majflt) if mm is not None else (0, 0, 0)
    counts = (
        (group.utime_ns + task.utime_ns) // TICK_NS, (group.stime_ns + task.stime_ns) // TICK_NS, memory_kb, 0, 0,
        group.minflt + task.minflt + minor, group.majflt + task.majflt + major, 0,
    )  # fmt: skip
    tty = group.tty.rdev & 0xFFFF if group.tty is not None else 0
    return RECORD.pack(
        flag, VERSION, tty, status, task.creds.uid, task.creds.gid, group.pid,
        parent, (kernel.clock.realtime_ns() - elapsed_ns) // NSEC & MASK32, elapsed_ns // TICK_NS,
        *map(comp_t, counts), task.comm[:15],
    )  # fmt: skip


def comp_t(value: int) -> int:
    """acct(5)'s floating point: 13 bits of mantissa, and an exponent of 3 bits to base 8; rounded, and at most 0xFFFF."""
    exponent = half = 0
    while value >> MANTISSA_BITS:
        half = value >> DIGIT - 1 & 1
        value >>= DIGIT
        exponent += 1
    value += half
    if value >> MANTISSA_BITS:
        value >>= DIGIT
        exponent += 1
    return 0xFFFF if exponent >> EXPONENT_BITS else exponent << MANTISSA_BITS | value
