"""What a C library tells the kernel when a thread starts: its thread pointer, where its tid is, robust lists, rseq."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import prctl as p
from trapline.abi.errno import EBUSY, EFAULT, EINVAL, ENODEV, EPERM, ESRCH
from trapline.abi.x86_64 import FS_BASE, GS_BASE
from trapline.kernel.fs.proc.base import may_inspect
from trapline.kernel.syscalls.declare import Arg, Int, Pid, Size, UInt, ULong, UserPtr, syscall
from trapline.kernel.task import rseq as areas

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

ROBUST_LIST_HEAD = 24
RSEQ_UNREGISTER = 1


@syscall("arch_prctl")
def sys_arch_prctl(task: Task, code: Annotated[int, Arg(32, "enum:ARCH_PRCTL")], addr: ULong) -> int:
    """arch_prctl(2): set or get the FS and GS base.

    Partial: ARCH_SET_CPUID (ENODEV, as on hardware without CPUID faulting).
    """
    regs = task.ctx.regs
    if code in (p.ARCH_SET_FS, p.ARCH_SET_GS):
        if addr >= task.mm.task_size:
            raise EPERM("not a user address")
        regs[FS_BASE if code == p.ARCH_SET_FS else GS_BASE] = addr
    elif code in (p.ARCH_GET_FS, p.ARCH_GET_GS):
        task.mm.write_u64(addr, regs[FS_BASE if code == p.ARCH_GET_FS else GS_BASE])
    elif code == p.ARCH_GET_CPUID:
        return 1
    elif code == p.ARCH_SET_CPUID:
        raise ENODEV
    else:
        raise EINVAL
    return 0


@syscall("set_tid_address")
def sys_set_tid_address(task: Task, tidptr: UserPtr) -> int:
    """set_tid_address(2): where to clear the tid, and wake a futex, when the thread ends."""
    task.clear_child_tid = tidptr
    return task.tid


@syscall("set_robust_list")
def sys_set_robust_list(task: Task, head: UserPtr, length: Size) -> int:
    """set_robust_list(2): the list of futexes to release if the thread dies."""
    if length != ROBUST_LIST_HEAD:
        raise EINVAL
    task.robust_list = (head, length)
    return 0


@syscall("get_robust_list")
def sys_get_robust_list(task: Task, pid: Pid, head_ptr: UserPtr, size_ptr: UserPtr) -> int:
    """get_robust_list(2): the list that a thread has set."""
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None:
        raise EPERM if pid == task.kernel.init.pid else ESRCH
    if target is not task and not may_inspect(task.kernel, target):
        raise EPERM
    task.mm.write_u64(size_ptr, ROBUST_LIST_HEAD)
    task.mm.write_u64(head_ptr, target.robust_list[0])
    return 0


@syscall("rseq")
def sys_rseq(task: Task, rseq: UserPtr, rseq_len: UInt, flags: Int, sig: UInt) -> int:
    """rseq(2): register a restartable sequence area.

    Sections with flags, which Linux deprecates, are refused as it does: with SIGSEGV.
    """
    if flags & RSEQ_UNREGISTER:
        if flags != RSEQ_UNREGISTER or task.rseq[0] != rseq or not rseq or task.rseq[1] != rseq_len:
            raise EINVAL
        if task.rseq[2] != sig:
            raise EPERM
        areas.unregister(task)
        return 0
    if flags:
        raise EINVAL
    if task.rseq[0]:
        if task.rseq[:2] != (rseq, rseq_len):
            raise EINVAL
        if task.rseq[2] != sig:
            raise EPERM
        raise EBUSY
    if rseq % areas.SIZE or rseq_len != areas.SIZE:
        raise EINVAL
    if rseq + rseq_len > task.mm.task_size:
        raise EFAULT
    areas.register(task, rseq, rseq_len, sig)
    return 0
