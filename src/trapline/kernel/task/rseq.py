"""Restartable sequences, rseq(2): per-CPU data without atomic instructions.

User code keeps, in memory that it registers, a pointer to the critical section it is in; the kernel keeps there the CPU it
is on. A thread that was away from its CPU (another task ran there, it moved, or a signal handler comes between) does not go
on inside a critical section: it goes to the section's abort handler. Whatever cannot be true kills it with SIGSEGV.

    struct rseq     u32 cpu_id_start, u32 cpu_id, u64 rseq_cs, u32 flags, u32 node_id, u32 mm_cid
    struct rseq_cs  u32 version, u32 flags, u64 start_ip, u64 post_commit_offset, u64 abort_ip
"""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import Errno
from trapline.abi.signal import SI_KERNEL, SIGSEGV
from trapline.kernel.task.signals.send import force
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

SIZE = 32
_CPU_ID, _RSEQ_CS = 4, 8
_SECTION = struct.Struct("<IIQQQ")
_UNINITIALIZED = 0xFFFFFFFF


class BadSection(Exception):
    """What user memory says of a critical section cannot be true."""


def register(task: Task, address: int, length: int, signature: int) -> None:
    """From now on the area at `address` is kept up to date. Raises EFAULT."""
    task.mm.write(address, struct.pack("<IIQ", task.cpu, task.cpu, 0))
    task.rseq = (address, length, signature)


def unregister(task: Task) -> None:
    """Raises EFAULT."""
    task.mm.write(task.rseq[0], struct.pack("<II", 0, _UNINITIALIZED))
    task.rseq = (0, 0, 0)


def resumed(task: Task) -> None:
    """`task` goes to user mode on a CPU that was another task's meanwhile: say which CPU it is, and leave a section."""
    try:
        _leave_section(task)
        task.mm.write(task.rseq[0], struct.pack("<II", task.cpu, task.cpu))
    except (Errno, BadSection):
        _kill(task)


def interrupted(task: Task) -> bool:
    """A signal handler is about to run: leave a section. False when the task dies of a bad one instead."""
    try:
        _leave_section(task)
    except (Errno, BadSection):
        return False
    return True


def _kill(task: Task) -> None:
    """It is about to run: the timer makes it trap as soon as it does, to take its signal."""
    task.rseq = (0, 0, 0)
    force(task, SigInfo(SIGSEGV, SI_KERNEL))
    task.kernel.timers.add(0, lambda: task.kernel.kick(task))


def _leave_section(task: Task) -> None:
    mm, (address, _, signature) = task.mm, task.rseq
    pointer = mm.read_u64(address + _RSEQ_CS)
    if not pointer:
        return
    mm.write_u64(address + _RSEQ_CS, 0)
    arch = task.kernel.machine.arch
    start, length, abort = _section(task, pointer, arch.task_size)
    if not start <= task.ctx.regs[arch.pc] < start + length:
        return  # the pointer is cleared late: by whoever looks after the section is over
    if mm.read_u32(abort - 4) != signature:
        raise BadSection
    task.ctx.regs[arch.pc] = abort


def _section(task: Task, pointer: int, limit: int) -> tuple[int, int, int]:
    """(start, length, abort handler) of the struct rseq_cs at `pointer`."""
    version, flags, start, length, abort = _SECTION.unpack(task.mm.read(pointer, _SECTION.size))
    inside = start <= abort < start + length
    if version or flags or start >= limit or start + length > limit or not 4 <= abort < limit or inside:
        raise BadSection
    return start, length, abort
