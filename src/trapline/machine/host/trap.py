"""What happened: from a stopped slot's cause word and the registers to the trap that the contract describes.

`cause` is written by the stub's handler: signal | si_code << 8 | (int 0x80) << 16 | (vsyscall page) << 17; 0 means that an
ordered operation failed. Which exception it was is in the frame's TRAPNO and ERR, as the host kernel saves them. A host that
does not emulate the vsyscall page reports an execute fault there; it is passed on as a FAULT, and the kernel emulates the call.
"""

from __future__ import annotations

from trapline.typed import Final

from trapline.abi.x86_64 import CR2, ERR, GP, PF, PF_FETCH, PF_PRESENT, PF_USER, PF_WRITE, TRAPNO, XM
from trapline.machine.contract import (
    DEAD,
    ENTRY_INT80,
    ENTRY_SYSCALL,
    ENTRY_VSYSCALL,
    EXCEPTION,
    EXEC,
    FAULT,
    INTERRUPT,
    READ,
    SYSCALL,
    WRITE,
    Context,
)
from trapline.machine.host.layout import SIG_KICK, STUB
from trapline.machine.paging.entry import X86_64 as FMT
from trapline.machine.paging.walk import walk

_SIGBUS, _SIGSEGV, _SIGSYS = 7, 11, 31
_SI_KERNEL = 0x80
CAUSE_SYSCALL: Final = _SIGSYS | 1 << 8
_CAUSE_INT80: Final = CAUSE_SYSCALL | 1 << 16
_CAUSE_VSYSCALL: Final = CAUSE_SYSCALL | 1 << 17
CAUSE_FAILED: Final = 0


def decode(ctx: Context, cause: int) -> None:
    """Fill in the trap fields of `ctx`, whose registers are already copied. A page fault's `code` comes later."""
    regs = ctx.regs
    signal, code = cause & 255, cause >> 8 & 255
    vector = regs[TRAPNO]
    if signal == _SIGSYS and code == 1:
        ctx.kind = SYSCALL
        ctx.entry = {_CAUSE_INT80: ENTRY_INT80, _CAUSE_VSYSCALL: ENTRY_VSYSCALL}.get(cause, ENTRY_SYSCALL)
    elif signal in (SIG_KICK, _SIGSYS) or code == 0 or code > _SI_KERNEL:  # kill(2) from outside
        ctx.kind = INTERRUPT
    elif vector == PF and code != _SI_KERNEL and signal == _SIGSEGV:
        err = regs[ERR]
        ctx.kind = FAULT
        ctx.addr = regs[CR2]
        ctx.access = WRITE if err & PF_WRITE else EXEC if err & PF_FETCH else READ
    elif vector == PF and signal == _SIGBUS:
        ctx.kind = DEAD
        ctx.reason = f"the host has no memory for the guest page at {regs[CR2]:#x}"
    else:
        ctx.kind = EXCEPTION
        ctx.vector = vector if vector <= XM and vector != PF else GP  # else: the host refused to load the registers
        ctx.code = regs[ERR] if vector <= XM else 0
        ctx.addr = 0


def fault_code(words: memoryview, ctx: Context, root: int) -> int:
    """The error code that this CPU would give if it walked our tables."""
    code = PF_USER | (PF_WRITE if ctx.access & WRITE else 0) | (PF_FETCH if ctx.access & EXEC else 0)
    present = ctx.addr < STUB and walk(words, root, ctx.addr, FMT) is not None
    return code | (PF_PRESENT if present else 0)
