"""Syscall user dispatch, prctl(2) PR_SET_SYSCALL_USER_DISPATCH: a thread has its system calls sent back to it as SIGSYS.

For programs that emulate another system's calls: a call made from outside a range of code (the emulator's own) is not
served, if the byte that the thread chose, its selector, says SYSCALL_DISPATCH_FILTER_BLOCK. It comes before seccomp(2).
Neither children nor new programs inherit it. Source: admin-guide/syscall-user-dispatch.rst.
"""

from __future__ import annotations

from array import array
from trapline.typed import TYPE_CHECKING

from trapline.abi import prctl as p
from trapline.abi.errno import EFAULT, EINVAL
from trapline.abi.signal import SIGSEGV, SIGSYS, SYS_USER_DISPATCH
from trapline.kernel.security import seccomp
from trapline.kernel.task.signals.deliver import die
from trapline.kernel.task.signals.send import SigInfo, force

if TYPE_CHECKING:
    from trapline.kernel.entry.table import Table
    from trapline.kernel.task.task import Task

_MASK64 = (1 << 64) - 1


class Dispatch:
    """What one thread asked for: calls from [start, start + length) are always served; `selector` 0: no others are."""

    __slots__ = ("length", "selector", "start")

    def __init__(self, start: int, length: int, selector: int) -> None:
        self.start = start
        self.length = length
        self.selector = selector

    def sends_back(self, task: Task, table: Table, number: int, regs: array[int]) -> bool:
        """Whether a call is not served; then a signal is on its way."""
        arch = task.kernel.machine.arch
        pc = regs[arch.pc]
        if (pc - self.start) & _MASK64 < self.length:
            return False
        state = p.SYSCALL_DISPATCH_FILTER_BLOCK
        if self.selector:
            try:
                state = task.mm.read(self.selector, 1)[0]
            except EFAULT:
                die(task, SigInfo(SIGSEGV))
                return True
            if state == p.SYSCALL_DISPATCH_FILTER_ALLOW:
                return False
        if state != p.SYSCALL_DISPATCH_FILTER_BLOCK:
            die(task, SigInfo(SIGSYS))
            return True
        info = SigInfo(SIGSYS, SYS_USER_DISPATCH, addr=pc, syscall=seccomp.signed(number), arch=table.audit)
        force(task, info)
        return True


def set_dispatch(task: Task, args: tuple[int, int, int, int]) -> int:
    """prctl(2) PR_SET_SYSCALL_USER_DISPATCH: mode, start and length of the range, selector. EINVAL, EFAULT."""
    mode, start, length, selector = args
    if mode == p.PR_SYS_DISPATCH_OFF:
        if start or length or selector:
            raise EINVAL("unused arguments must be 0")
        task.user_dispatch = None
        return 0
    if mode != p.PR_SYS_DISPATCH_ON:
        raise EINVAL("no such mode")
    if start and start + length & _MASK64 <= start:
        raise EINVAL("the range wraps around")
    if selector >= task.mm.task_size:
        raise EFAULT
    task.user_dispatch = Dispatch(start, length, selector)
    seccomp.watch_calls(task)
    return 0
