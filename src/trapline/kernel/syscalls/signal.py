"""Acting on signals: sigaction(2), sigprocmask(2), sigaltstack(2), waiting for signals, and sigreturn(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import signal as s
from trapline.abi.errno import EAGAIN, EINTR, EINVAL
from trapline.abi.signal import SIGSET_SIZE, UNBLOCKABLE, bit
from trapline.kernel.sync.park import RESTART_NOHAND, Interrupted, WaitQueue
from trapline.kernel.syscalls.declare import Arg, Result, Signal, Size, syscall
from trapline.kernel.syscalls.timearg import after, read_timespec
from trapline.kernel.task.signals import altstack
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.deliver import sigreturn
from trapline.kernel.task.signals.mask import set_blocked, set_temporary
from trapline.kernel.task.signals.pending import pending_set, take
from trapline.kernel.task.signals.send import action_changed

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

SigactionIn = Annotated[int, Arg(64, "struct:sigaction")]
SigactionOut = Annotated[int, Arg(64, "struct_out:sigaction")]
SigsetIn = Annotated[int, Arg(64, "struct:sigset")]
SigsetOut = Annotated[int, Arg(64, "struct_out:sigset")]
SiginfoOut = Annotated[int, Arg(64, "struct_out:siginfo")]
TimespecIn = Annotated[int, Arg(64, "struct:timespec")]
StackIn = Annotated[int, Arg(64, "struct:stack_t")]
StackOut = Annotated[int, Arg(64, "struct_out:stack_t")]
MaskHow = Annotated[int, Arg(-32, "enum:sigprocmask_how")]


def _check_size(sigsetsize: int) -> None:
    if sigsetsize != SIGSET_SIZE:
        raise EINVAL("sigsetsize")


@syscall("rt_sigaction")
def sys_rt_sigaction(task: Task, signum: Signal, act: SigactionIn, oldact: SigactionOut, sigsetsize: Size) -> int:
    """rt_sigaction(2): examine and change what the process does on a signal."""
    _check_size(sigsetsize)
    abi = task.kernel.abi
    new = None
    if act:
        handler, flags, restorer, mask = abi.unpack_sigaction(task.mm.read(act, abi.sigaction_size))
        new = Action(handler, flags, restorer, mask & ~UNBLOCKABLE)
    if not 1 <= signum <= s.NSIG or (new is not None and UNBLOCKABLE & bit(signum)):
        raise EINVAL("signal number")
    group = task.group
    old = group.actions.table[signum]
    if new is not None:
        group.actions.table[signum] = new
        if new.handler <= s.SIG_IGN:
            action_changed(group, signum)
    if oldact:
        task.mm.write(oldact, abi.pack_sigaction(*old))
    return 0


@syscall("rt_sigprocmask")
def sys_rt_sigprocmask(task: Task, how: MaskHow, nset: SigsetIn, oset: SigsetOut, sigsetsize: Size) -> int:
    """rt_sigprocmask(2): examine and change the signals the thread blocks."""
    _check_size(sigsetsize)
    old = task.blocked
    if nset:
        mask = task.mm.read_u64(nset)
        if how == s.SIG_BLOCK:
            mask |= old
        elif how == s.SIG_UNBLOCK:
            mask = old & ~mask
        elif how != s.SIG_SETMASK:
            raise EINVAL("how")
        if mask != old:
            set_blocked(task, mask)
    if oset:
        task.mm.write_u64(oset, old)
    return 0


@syscall("rt_sigpending")
def sys_rt_sigpending(task: Task, uset: SigsetOut, sigsetsize: Size) -> int:
    """rt_sigpending(2): the blocked signals that are pending for the thread or the process."""
    if sigsetsize > SIGSET_SIZE:
        raise EINVAL("sigsetsize")
    task.mm.write(uset, (pending_set(task) & task.blocked).to_bytes(8, "little")[:sigsetsize])
    return 0


@syscall("rt_sigtimedwait")
def sys_rt_sigtimedwait(
    task: Task, uthese: SigsetIn, uinfo: SiginfoOut, uts: TimespecIn, sigsetsize: Size
) -> Result:
    """rt_sigtimedwait(2): take a pending signal of a set, or wait for one."""
    _check_size(sigsetsize)
    these = task.mm.read_u64(uthese) & ~UNBLOCKABLE
    deadline = None
    if uts:
        delay = read_timespec(task, uts)
        deadline = after(task.kernel.clock.monotonic_ns(), delay) if delay else 0
    info = take(task, these)
    if info is None:
        if deadline == 0:
            raise EAGAIN("no such signal is pending")
        return _sigtimedwait(task, these, uinfo, deadline)
    if uinfo:
        task.mm.write(uinfo, info.pack())
    return info.signo


async def _sigtimedwait(task: Task, these: int, uinfo: int, deadline: int | None) -> int:
    while True:
        try:
            woken = await task.group.signal_wait.wait(deadline)
        except Interrupted:
            woken = None
        # after sleep: the signal may be one of ours, or another thread took it
        info = take(task, these)
        if info is not None:
            if uinfo:
                task.mm.write(uinfo, info.pack())
            return info.signo
        if woken is None:
            raise EINTR
        if not woken:
            raise EAGAIN("no such signal came in time")


@syscall("rt_sigsuspend")
async def sys_rt_sigsuspend(task: Task, unewset: SigsetIn, sigsetsize: Size) -> int:
    """rt_sigsuspend(2): block a temporary set of signals until a signal is caught."""
    _check_size(sigsetsize)
    set_temporary(task, task.mm.read_u64(unewset))
    return await _sleep_for_ever()


@syscall("pause")
async def sys_pause(task: Task) -> int:
    """pause(2): sleep until a signal is caught."""
    return await _sleep_for_ever()


async def _sleep_for_ever() -> int:
    nobody = WaitQueue()
    while True:
        await nobody.wait(restart=RESTART_NOHAND)


@syscall("sigaltstack")
def sys_sigaltstack(task: Task, uss: StackIn, uoss: StackOut) -> int:
    """sigaltstack(2): examine and change the thread's alternate signal stack."""
    wanted = None
    if uss:
        low, flags, _, size = s.STACK_T.unpack(task.mm.read(uss, s.STACK_T.size))
        wanted = (low, size, flags & 0xFFFFFFFF)
    sp = task.ctx.regs[task.kernel.machine.arch.sp]
    low, size, flags = task.altstack
    old = s.STACK_T.pack(low, altstack.flags(task.altstack, sp) | flags & s.SS_AUTODISARM, 0, size)
    if wanted is not None:
        altstack.change(task, wanted, sp)
    if uoss:
        task.mm.write(uoss, old)
    return 0


@syscall("rt_sigreturn", returns="hex")
def sys_rt_sigreturn(task: Task) -> int:
    """rt_sigreturn(2): return from a signal handler to what it interrupted."""
    sigreturn(task)
    result: int = task.ctx.regs[task.kernel.machine.arch.ret]
    return result


@syscall("restart_syscall")
def sys_restart_syscall(task: Task) -> Result:
    """restart_syscall(2): continue a call with a time-out that a signal interrupted."""
    again, task.again = task.again, None
    if again is None:
        raise EINTR
    result: Result = again(task)
    return result
