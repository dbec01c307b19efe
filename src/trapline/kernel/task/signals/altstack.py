"""The alternate signal stack, sigaltstack(2): where it is, whether a stack pointer is on it, and changing it."""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, ENOMEM, EPERM
from trapline.abi.signal import MINSIGSTKSZ, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

AltStack = tuple[int, int, int]  #: (lowest address, size, flags as set), as in Task.altstack
NONE: AltStack = (0, 0, SS_DISABLE)


def holds(stack: AltStack, sp: int) -> bool:
    """`sp` points into the stack."""
    low, size, _ = stack
    return low < sp <= low + size


def in_use(stack: AltStack, sp: int) -> bool:
    """Code runs on the stack. With SS_AUTODISARM it never counts as in use: entering a handler has disarmed it."""
    return not stack[2] & SS_AUTODISARM and holds(stack, sp)


def flags(stack: AltStack, sp: int) -> int:
    """What ss_flags reads as: SS_DISABLE, SS_ONSTACK or 0."""
    if not stack[1]:
        return SS_DISABLE
    return SS_ONSTACK if in_use(stack, sp) else 0


def change(task: Task, wanted: AltStack, sp: int) -> None:
    """Use another stack. Raises EPERM (code runs on the old one), EINVAL (flags), ENOMEM (too small)."""
    low, size, new_flags = wanted
    if in_use(task.altstack, sp):
        raise EPERM("running on the alternate stack")
    mode = new_flags & ~SS_AUTODISARM
    if mode not in (0, SS_DISABLE, SS_ONSTACK):
        raise EINVAL("ss_flags")
    if mode == SS_DISABLE:
        task.altstack = (0, 0, new_flags)
        return
    if size < MINSIGSTKSZ:
        raise ENOMEM("the stack is smaller than MINSIGSTKSZ")
    task.altstack = (low, size, new_flags)


def restore(task: Task, wanted: AltStack) -> None:
    """sigreturn(2): go back to the stack a frame holds; one that cannot be set is ignored."""
    with suppress(EPERM, EINVAL, ENOMEM):
        change(task, wanted, task.ctx.regs[task.kernel.machine.arch.sp])
