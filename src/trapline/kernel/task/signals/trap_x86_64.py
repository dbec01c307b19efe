"""What x86-64 code can raise, as signals.

Handlers look at the trap number, error code and address in their frame, so those registers are filled in here as the
processor left them. Sources: arch/x86/kernel/traps.c of Linux for which signal and code an exception becomes; AMD64
Architecture Programmer's Manual, volume 2, "Vectors".
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi import signal as s
from trapline.abi import x86_64 as x
from trapline.abi.signal import SI_KERNEL
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

#: vector -> (signal, code, whether si_addr is the instruction's address)
_EXCEPTIONS: dict[int, tuple[int, int, bool]] = {
    x.DE: (s.SIGFPE, s.FPE_INTDIV, True),
    x.DB: (s.SIGTRAP, s.TRAP_TRACE, True),
    x.BP: (s.SIGTRAP, SI_KERNEL, False),
    x.OF: (s.SIGSEGV, SI_KERNEL, False),
    x.BR: (s.SIGSEGV, SI_KERNEL, False),
    x.UD: (s.SIGILL, s.ILL_ILLOPN, True),
    x.NM: (s.SIGSEGV, SI_KERNEL, False),
    x.CSO: (s.SIGFPE, SI_KERNEL, False),
    x.TS: (s.SIGSEGV, SI_KERNEL, False),
    x.NP: (s.SIGBUS, SI_KERNEL, False),
    x.SS: (s.SIGBUS, SI_KERNEL, False),
    x.GP: (s.SIGSEGV, SI_KERNEL, False),
    x.AC: (s.SIGBUS, s.BUS_ADRALN, False),
    x.MC: (s.SIGBUS, SI_KERNEL, False),
}
#: exception bits of the FP status words, in the order Linux looks at them
_FP_CODES = (
    (0x01, s.FPE_FLTINV), (0x04, s.FPE_FLTDIV), (0x08, s.FPE_FLTOVF), (0x12, s.FPE_FLTUND), (0x20, s.FPE_FLTRES),
)  # fmt: skip
_FCW, _FSW, _MXCSR = 0, 2, 24  #: where the FXSAVE image has them


def note_fault(task: Task) -> None:
    """Fill in the registers that tell a handler of the page fault."""
    ctx = task.ctx
    _set_trap(task, x.PF, ctx.code | x.PF_USER | (x.PF_PRESENT if ctx.addr >= task.kernel.machine.arch.task_size else 0))
    ctx.regs[x.CR2] = ctx.addr


def explain(task: Task) -> SigInfo | None:
    """The signal that the task's exception becomes; None if there is nothing to tell after all."""
    ctx = task.ctx
    vector = ctx.vector
    _set_trap(task, vector, ctx.code)
    if vector in (x.MF, x.XM):
        code = fp_code(ctx.get_fp(), vector)
        return SigInfo(s.SIGFPE, code, addr=ctx.regs[x.RIP]) if code else None
    signo, code, with_address = _EXCEPTIONS.get(vector, (s.SIGSEGV, SI_KERNEL, False))
    return SigInfo(signo, code, addr=ctx.regs[x.RIP] if with_address else 0)


def _set_trap(task: Task, vector: int, error: int) -> None:
    regs = task.ctx.regs
    regs[x.TRAPNO] = vector
    regs[x.ERR] = error


def fp_code(image: bytes, vector: int) -> int:
    """Which FPE_ code an unmasked x87 (MF) or SSE (XM) exception has, or 0 if none is raised after all."""
    if vector == x.MF:
        control, status = (int.from_bytes(image[at : at + 2], "little") for at in (_FCW, _FSW))
        raised = status & ~control
    else:
        mxcsr = int.from_bytes(image[_MXCSR : _MXCSR + 4], "little")
        raised = ~(mxcsr >> 7) & mxcsr
    return next((code for bits, code in _FP_CODES if raised & bits), 0)
