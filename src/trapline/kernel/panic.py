"""Panic: the kernel's own bug ends the kernel, with its state; it is never turned into an errno.

In a nutshell: whatever escapes the trap loop, or the start of a program, and is not an errno, is a bug. `panic` collects what
is worth knowing: what was raised and where, for whom the kernel was at work, with which registers, how full memory was.

Invariant: after a panic a kernel may only be closed.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import FAULT, SYSCALL

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.task.task import Task

_FRAMES = 12  #: of the Python stack, the innermost


class KernelPanic(Exception):
    """The kernel has a bug. The text is its state, in lines; the cause is what was raised."""


def panic(kernel: System, error: Exception) -> KernelPanic:
    """What to raise, from `error`. The first line is on the kernel log too."""
    what = " ".join(f"{type(error).__name__}: {error}".split())
    kernel.log(f"kernel panic: {what}")
    frames = kernel.ram.frames
    lines = [
        f"kernel panic: {what}",
        "this is a bug of Trapline's, not of the program's: please report it with these lines",
        *(_task(kernel, kernel.current) if kernel.current is not None else ["no task has run yet"]),
        f"tasks: {len(kernel.tasks)}; memory: {frames.used_pages} of {frames.limit_pages} pages",
        *_stack(error)[-_FRAMES:],
    ]
    return KernelPanic("\n  ".join(lines))


def _stack(error: Exception) -> list[str]:
    """Where `error` was raised, the innermost frame last. (No module `traceback`: it opens files, and none may be left.)"""
    lines: list[str] = []
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append(f"at {code.co_filename.rpartition('/trapline/')[2]}:{at.tb_lineno} in {code.co_name}")
        at = at.tb_next
    return lines


def _task(kernel: System, task: Task) -> list[str]:
    """Whose trap was served last, what it was, and the registers it came with."""
    ctx = task.ctx
    arch = kernel.machine.arch
    what = f"trap {ctx.kind}"
    if ctx.kind == SYSCALL:
        what = f"{_name(kernel, task.syscall_nr)}({', '.join(hex(ctx.regs[each]) for each in arch.args)})"
    elif ctx.kind == FAULT:
        what = f"page fault at {ctx.addr:#x}, access {ctx.access}"
    return [
        f"serving {task.comm.decode(errors='replace')}[{task.tid}]: {what}",
        f"pc {ctx.regs[arch.pc]:#x}, sp {ctx.regs[arch.sp]:#x}",
    ]


def _name(kernel: System, number: int) -> str:
    names = kernel.loop.dispatcher.table.names
    return (names[number] if 0 <= number < len(names) else None) or f"system call {number}"
