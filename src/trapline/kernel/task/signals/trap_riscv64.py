"""What riscv64 code can raise, as signals. Source: arch/riscv/kernel/traps.c of Linux: si_addr is always the instruction's."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi import riscv64 as r
from trapline.abi import signal as s
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

#: cause -> (signal, code)
_EXCEPTIONS: dict[int, tuple[int, int]] = {
    r.INSN_MISALIGNED: (s.SIGBUS, s.BUS_ADRALN),
    r.INSN_ACCESS: (s.SIGSEGV, s.SEGV_ACCERR),
    r.ILLEGAL: (s.SIGILL, s.ILL_ILLOPC),
    r.BREAKPOINT: (s.SIGTRAP, s.TRAP_BRKPT),
    r.LOAD_MISALIGNED: (s.SIGBUS, s.BUS_ADRALN),
    r.LOAD_ACCESS: (s.SIGSEGV, s.SEGV_ACCERR),
    r.STORE_MISALIGNED: (s.SIGBUS, s.BUS_ADRALN),
    r.STORE_ACCESS: (s.SIGSEGV, s.SEGV_ACCERR),
}
_UNKNOWN = (s.SIGILL, s.ILL_ILLTRP)


def note_fault(task: Task) -> None:
    """The frame has no room for the cause: siginfo says it all."""


def explain(task: Task) -> SigInfo:
    """The signal that the task's exception becomes."""
    ctx = task.ctx
    signo, code = _EXCEPTIONS.get(ctx.vector, _UNKNOWN)
    return SigInfo(signo, code, addr=ctx.regs[r.PC])
