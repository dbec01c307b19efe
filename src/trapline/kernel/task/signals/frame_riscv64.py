"""The riscv64 signal frame: building it for a handler, and rt_sigreturn(2) taking it back.

    high    ... interrupted stack (there is no red zone)
            ucontext     960 bytes: 176 of its own, pc, x1 to x31, the floating-point union  <- a2
    sp ->   siginfo_t    128 bytes, 16-byte aligned                                          <- a1

There is no sa_restorer: the handler returns to `__vdso_rt_sigreturn`. On the way back every field is an allegation, but
there is little that cannot be true: any program counter may be tried, and x0 is not in the frame. What is reserved must
be zero, or the process dies of SIGSEGV, as on Linux.
"""

from __future__ import annotations

from array import array
from trapline.typed import TYPE_CHECKING

from trapline.abi import riscv64 as r
from trapline.abi.errno import Errno
from trapline.abi.signal import SA_ONSTACK, SIGINFO_SIZE, SS_AUTODISARM
from trapline.kernel.task.signals import altstack
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

UCONTEXT = SIGINFO_SIZE
_REGS = UCONTEXT + r.UCONTEXT.size
_FPREGS = _REGS + r.SC_REGS_SIZE
FRAME_SIZE = _FPREGS + r.SC_FPREGS_SIZE
SIGMASK = UCONTEXT + 40


def build(task: Task, info: SigInfo, action: Action, mask: int) -> bool:
    """Put `task` into its handler; `mask` is what sigreturn restores. False when the stack does not take the frame."""
    vdso = task.kernel.vdso
    if vdso is None or not task.mm.vdso:
        return False
    top, confined = _stack(task, action)
    frame = (top - FRAME_SIZE) & -16
    if not 0 < frame < task.kernel.machine.arch.task_size or (confined and not altstack.holds(task.altstack, frame)):
        return False
    try:
        task.mm.write(frame, _contents(task, info, mask))
    except Errno:
        return False
    if task.altstack[2] & SS_AUTODISARM:
        task.altstack = altstack.NONE
    regs = task.ctx.regs
    regs[r.A0], regs[r.A1], regs[r.A2] = info.signo, frame, frame + UCONTEXT
    regs[r.RA] = task.mm.vdso + vdso.sigreturn
    regs[r.SP] = frame
    regs[r.PC] = action.handler
    return True


def _stack(task: Task, action: Action) -> tuple[int, bool]:
    """Where the frame goes below, and whether it must stay within the alternate stack."""
    sp, stack = task.ctx.regs[r.SP], task.altstack
    if action.flags & SA_ONSTACK and altstack.flags(stack, sp) == 0:
        return stack[0] + stack[1], True
    return sp, altstack.in_use(stack, sp)


def _contents(task: Task, info: SigInfo, mask: int) -> bytes:
    low, size, flags = task.altstack
    regs = task.ctx.regs
    return b"".join((
        info.pack(), r.UCONTEXT.pack(0, 0, low, flags, 0, size, mask), regs[r.PC :].tobytes(), regs[1 : r.PC].tobytes(),
        task.ctx.get_fp().ljust(r.SC_FPREGS_SIZE, b"\0"),
    ))  # fmt: skip


def read_back(task: Task) -> tuple[int, tuple[int, int, int] | None] | None:
    """rt_sigreturn(2): load the registers from the frame at the stack pointer.

    Returns the signal mask and the alternate stack (sp, size, flags) that the frame holds. The stack is None if the registers
    and the mask are in force, but not all of it can be true: SIGSEGV meets the program where it was interrupted. None alone,
    with nothing changed, if there is no frame.
    """
    ctx = task.ctx
    try:
        data = task.mm.read(ctx.regs[r.SP], FRAME_SIZE)
    except Errno:
        return None
    _, _, low, flags, _, size, mask = r.UCONTEXT.unpack_from(data, UCONTEXT)
    regs = array("Q", data[_REGS:_FPREGS])
    ctx.regs[r.PC] = regs[0] & ~1  # as the hardware's own way back reads it (sepc)
    ctx.regs[1 : r.PC] = regs[1:]
    fp = data[_FPREGS:]
    good = not any(fp[r.SC_RESERVED :]) and ctx.set_fp(fp[: task.kernel.machine.arch.fp_size])
    return mask, (low, size, flags) if good else None
