"""The x86-64 signal frame: building it for a handler, and rt_sigreturn(2) taking it back.

    high    ... interrupted stack, its red zone of 128 bytes
            XSAVE image, 64-byte aligned
            siginfo_t    128 bytes                       <- rsi
            ucontext     304 bytes                       <- rdx
    rsp ->  restorer     8 bytes: where the handler returns to; rsp + 8 is 16-byte aligned

The order of `Context.regs` is that of struct sigcontext, so that the general registers are copied as one block. On the way
back every field is an allegation: segments, flags, canonical addresses and the FP image are checked or fixed, and a
frame that cannot be true kills the process with SIGSEGV, as on Linux.
"""

from __future__ import annotations

from array import array
from struct import Struct
from trapline.typed import TYPE_CHECKING

from trapline.abi import x86_64 as x
from trapline.abi.errno import Errno
from trapline.abi.signal import (
    FP_XSTATE_MAGIC1,
    SA_ONSTACK,
    SA_RESTORER,
    SS_AUTODISARM,
    UC_FP_XSTATE,
    UC_SIGCONTEXT_SS,
    UC_STRICT_RESTORE_SS,
)
from trapline.kernel.task.signals import altstack
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.siginfo import SigInfo

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

RED_ZONE = 128
_HEAD = Struct("<QQQQIiQ")  #: restorer, uc_flags, uc_link, uc_stack
_GREGS_SIZE = 23 * 8
_UCONTEXT = 8
_GREGS = _HEAD.size
_FPSTATE = _GREGS + _GREGS_SIZE
SIGMASK = _FPSTATE + 8 + 64
SIGINFO = SIGMASK + 8
FRAME_SIZE = SIGINFO + 128
_MASK64 = (1 << 64) - 1
_SEGMENTS = x.USER_CS | x.USER_DS << 48
_CODE_SEGMENTS = (x.USER_CS, x.USER32_CS)
_FX_SIZE, _FX_USED = 512, 464
_SW_RESERVED = Struct("<IIQI")  #: magic1, extended_size, xfeatures, xstate_size


def build(task: Task, info: SigInfo, action: Action, mask: int) -> bool:
    """Put `task` into its handler; `mask` is what sigreturn restores. False when the stack does not take the frame."""
    limit = task.kernel.machine.arch.task_size
    if not action.flags & SA_RESTORER or action.handler >= limit:
        return False
    sp, confined = _stack(task, action)
    image = task.ctx.get_fp()
    fpstate = (sp - len(image)) & -64
    frame = ((fpstate - FRAME_SIZE) & -16) - 8
    if not 0 < frame < limit or (confined and not altstack.holds(task.altstack, frame)):
        return False
    try:
        task.mm.write(fpstate, image)
        task.mm.write(frame, _contents(task, info, action, mask, fpstate))
    except Errno:
        return False
    if task.altstack[2] & SS_AUTODISARM:
        task.altstack = altstack.NONE
    _enter(task, info.signo, action.handler, frame)
    return True


def _stack(task: Task, action: Action) -> tuple[int, bool]:
    """Where the frame goes below, and whether it must stay within the alternate stack."""
    sp, stack = task.ctx.regs[x.RSP], task.altstack
    nested = altstack.in_use(stack, sp)
    sp -= RED_ZONE
    if action.flags & SA_ONSTACK and altstack.flags(stack, sp) == 0:
        return stack[0] + stack[1], True
    return sp, nested


def _contents(task: Task, info: SigInfo, action: Action, mask: int, fpstate: int) -> bytes:
    low, size, flags = task.altstack
    gregs = task.ctx.regs[:23]
    if gregs[x.CSGSFS] & 0xFFFF not in _CODE_SEGMENTS:
        gregs[x.CSGSFS] = _SEGMENTS
    gregs[x.OLDMASK] = mask
    uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
    return b"".join((
        _HEAD.pack(action.restorer, uc_flags, 0, low, flags, 0, size),
        gregs.tobytes(), fpstate.to_bytes(8, "little"), bytes(64), mask.to_bytes(8, "little"), info.pack(),
    ))  # fmt: skip


def _enter(task: Task, signo: int, handler: int, frame: int) -> None:
    task.ctx.reset_fp()  # a handler must not run into the exception it is about
    regs = task.ctx.regs
    regs[x.RDI] = signo
    regs[x.RSI] = frame + SIGINFO
    regs[x.RDX] = frame + _UCONTEXT
    regs[x.RAX] = 0
    regs[x.RSP] = frame
    regs[x.RIP] = handler
    regs[x.CSGSFS] = _SEGMENTS
    regs[x.EFLAGS] &= ~(x.DF_FLAG | x.RF | x.TF) & _MASK64


def read_back(task: Task) -> tuple[int, tuple[int, int, int] | None] | None:
    """rt_sigreturn(2): load the registers from the frame at the stack pointer.

    Returns the signal mask and the alternate stack (sp, size, flags) that the frame holds. The stack is None if the registers
    and the mask are in force, but not all of it can be true: SIGSEGV meets the program where it was interrupted. None alone,
    with nothing changed, if there is no frame.
    """
    ctx = task.ctx
    try:
        data = task.mm.read(ctx.regs[x.RSP] - 8 & _MASK64, SIGINFO)
    except Errno:
        return None
    _, uc_flags, _, low, flags, _, size = _HEAD.unpack_from(data)
    gregs = array("Q", data[_GREGS:_FPSTATE])
    good = _repair(gregs, ctx.regs[x.EFLAGS], uc_flags, task.kernel.machine.arch.task_size)
    ctx.regs[: x.ERR] = gregs[: x.ERR]
    if not _read_fp(task, int.from_bytes(data[_FPSTATE : _FPSTATE + 8], "little")):
        ctx.reset_fp()
        good = False
    return int.from_bytes(data[SIGMASK:SIGINFO], "little"), (low, size, flags) if good else None


def _read_fp(task: Task, fpstate: int) -> bool:
    """Load what the frame says of floating point, if anything; False if that cannot be loaded."""
    if not fpstate:
        task.ctx.reset_fp()
        return True
    try:
        return task.ctx.set_fp(_fp_image(task, fpstate))
    except Errno:
        return False


def _repair(gregs: array[int], eflags: int, uc_flags: int, limit: int) -> bool:
    """Fix the registers of a frame; False when no program can run with what they were."""
    code, stack = (gregs[x.CSGSFS] & 0xFFFF) | 3, (gregs[x.CSGSFS] >> 48) | 3
    good = stack == x.USER_DS or not uc_flags & UC_STRICT_RESTORE_SS
    good &= code in _CODE_SEGMENTS and _canonical(gregs[x.RSP])
    good &= gregs[x.RIP] < limit or gregs[x.RIP] >> 12 == x.VSYSCALL >> 12
    gregs[x.CSGSFS] = (code if code in _CODE_SEGMENTS else x.USER_CS) | x.USER_DS << 48
    gregs[x.EFLAGS] = eflags & ~x.EFLAGS_USER | gregs[x.EFLAGS] & x.EFLAGS_USER
    return good


def _canonical(address: int) -> bool:
    return address < 1 << 47 or address >= (1 << 64) - (1 << 47)


def _fp_image(task: Task, address: int) -> bytes:
    """The XSAVE image in user memory, or only its first 512 bytes if it does not say how long it is."""
    image = task.mm.read(address, _FX_SIZE)
    magic, extended, _, _ = _SW_RESERVED.unpack_from(image, _FX_USED)
    if magic != FP_XSTATE_MAGIC1 or not _FX_SIZE < extended <= task.kernel.machine.arch.fp_size:
        return image
    return image + task.mm.read(address + _FX_SIZE, extended - _FX_SIZE)
