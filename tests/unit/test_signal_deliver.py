"""Frames, masks, restarts, stops and hardware faults: what delivery does on the way to user mode."""

from __future__ import annotations

import struct

import pytest
from little_world import BASE, CODE, SIZE, STACK, UNLIMITED, WAITS, World, make_world

from trapline.abi import errno as e
from trapline.abi import signal as s
from trapline.abi import x86_64 as x
from trapline.abi.syscalls import X86_64 as NUMBERS
from trapline.kernel.sync.park import RESTART_BLOCK, RESTART_NOHAND, RESTART_NOINTR, RESTART_SYS
from trapline.kernel.syscalls import kill as _kill  # noqa: F401 - declares the calls
from trapline.kernel.syscalls import signal as _signal  # noqa: F401
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.fault import from_fault, from_trap
from trapline.kernel.task.signals.frame_x86_64 import FRAME_SIZE, SIGINFO
from trapline.kernel.task.signals.mask import set_blocked, set_temporary
from trapline.kernel.task.signals.send import SigInfo, force, send_to_group, send_to_task
from trapline.kernel.task.task import STOPPED, WORK_EXIT, WORK_STOP, Task

HANDLER, RESTORER = CODE + 0x1000, CODE + 0x2000
RAX, RIP, RSP = x.RAX, x.RIP, x.RSP


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def catch(task: Task, signo: int, flags: int = 0, mask: int = 0, handler: int = HANDLER) -> None:
    task.group.actions.table[signo] = Action(handler, flags | s.SA_RESTORER, RESTORER, mask)


def ucontext(task: Task) -> dict[str, int]:
    """The frame a handler runs on, read with offsets from asm/ucontext.h, not with the code under test."""
    raw = task.mm.read(task.ctx.regs[RSP], FRAME_SIZE)
    words = struct.unpack("<" + "Q" * 39, raw[: 39 * 8])
    names = "pretcode flags link ss_sp ss_flags ss_size r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip".split()
    names += "eflags csgsfs err trapno oldmask cr2 fpstate".split()
    uc = dict(zip(names, words, strict=False))
    uc["sigmask"] = words[38]
    return uc


def sigreturn(world: World, task: Task) -> int:
    """The handler returns to its restorer, which makes the call."""
    task.ctx.regs[RSP] += 8
    return world.call(task, "rt_sigreturn")


def test_the_frame_is_laid_out_as_the_headers_say(world: World) -> None:
    task = world.process()
    regs = task.ctx.regs
    before = [0x1000 + i for i in range(16)]
    regs[:16] = type(regs)("Q", before)
    regs[RSP], regs[x.EFLAGS] = STACK, 0x246 | x.DF_FLAG | x.TF | x.RF
    catch(task, s.SIGUSR1, mask=s.bit(s.SIGHUP))
    set_blocked(task, s.bit(s.SIGTERM))
    send_to_task(task, SigInfo(s.SIGUSR1, s.SI_TKILL, pid=77, uid=88))
    assert world.leave(task)
    frame = regs[RSP]
    assert frame % 16 == 8 and frame + FRAME_SIZE <= STACK - 128, "aligned as after a call, red zone kept"
    assert (regs[RIP], regs[x.RDI], regs[RAX]) == (HANDLER, s.SIGUSR1, 0)
    assert regs[x.RDX] == frame + 8 and regs[x.RSI] == frame + SIGINFO == frame + 8 + 304
    assert regs[x.EFLAGS] == 0x246
    uc = ucontext(task)
    assert uc["pretcode"] == RESTORER and uc["flags"] == 7 and uc["link"] == 0
    assert [uc[name] for name in ("r8", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx")] == [
        before[i] for i in (0, 7, 8, 9, 10, 11, 12, 13, 14)
    ]
    assert uc["rsp"] == STACK and uc["rip"] == CODE and uc["csgsfs"] == 0x33 | 0x2B << 48
    assert uc["fpstate"] % 64 == 0 and uc["fpstate"] >= frame + FRAME_SIZE
    assert uc["sigmask"] == s.bit(s.SIGTERM) == uc["oldmask"]
    assert task.blocked == s.mask_of(s.SIGTERM, s.SIGHUP, s.SIGUSR1)
    assert struct.unpack_from("<iiiiiI", task.mm.read(regs[x.RSI], 24)) == (s.SIGUSR1, 0, s.SI_TKILL, 0, 77, 88)


def test_sigreturn_brings_everything_back(world: World) -> None:
    task = world.process()
    task.ctx.regs[x.EFLAGS] = 0x246
    task.ctx.set_fp(bytes(range(256)) * 2)
    catch(task, s.SIGUSR1)
    send_to_task(task, SigInfo(s.SIGUSR1))
    before = task.ctx.regs[:]
    world.leave(task)
    for i in range(16):
        if i != RSP:
            task.ctx.regs[i] = 5
    task.ctx.reset_fp()
    sigreturn(world, task)
    assert task.ctx.regs[:19] == before[:19] and not task.blocked
    assert task.ctx.get_fp() == bytes(range(256)) * 2


def test_sigreturn_repairs_what_would_hurt_and_kills_for_the_rest(world: World) -> None:
    def attempt(offset: int, value: int) -> Task:
        task = world.process()
        task.ctx.regs[x.EFLAGS] = 0x202
        catch(task, s.SIGUSR1)
        send_to_task(task, SigInfo(s.SIGUSR1))
        world.leave(task)
        task.mm.write_u64(task.ctx.regs[RSP] + 8 * offset, value)
        sigreturn(world, task)
        return task

    rip, rsp, eflags, csgsfs, fpstate = 22, 21, 23, 24, 29
    assert attempt(eflags, UNLIMITED).ctx.regs[x.EFLAGS] == x.EFLAGS_USER | 0x202, "IOPL, IF, NT stay"
    assert attempt(eflags, 0).ctx.regs[x.EFLAGS] == 0x202
    assert attempt(csgsfs, 0x23 | 0x2B << 48).ctx.regs[x.CSGSFS] == 0x23 | 0x2B << 48
    for offset, value in (
        (rip, 0xFFFF_8000_0000_0000), (rip, 1 << 63), (rsp, 1 << 47), (csgsfs, 0x10 | 0x2B << 48),
        (csgsfs, 0x33 | 0x18 << 48), (fpstate, 0x10), (fpstate, UNLIMITED),
    ):  # fmt: skip
        task = attempt(offset, value)
        assert world.exits[-1] == (task.group, s.SIGSEGV), (offset, hex(value))
    assert not attempt(fpstate, 0).group.exiting, "no FP image: a fresh one"


def test_sigreturn_without_a_frame_kills(world: World) -> None:
    for sp in (0, 4, BASE + SIZE, UNLIMITED, 1 << 47):
        task = world.process()
        task.ctx.regs[RSP] = sp
        world.call(task, "rt_sigreturn")
        assert world.exits[-1] == (task.group, s.SIGSEGV)


def test_no_restorer_or_no_stack_is_sigsegv(world: World) -> None:
    task = world.process()
    task.group.actions.table[s.SIGUSR1] = Action(HANDLER, 0, 0, 0)
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert not world.leave(task) and world.exits == [(task.group, s.SIGSEGV)]
    task = world.process()
    catch(task, s.SIGUSR1)
    catch(task, s.SIGSEGV)
    task.ctx.regs[RSP] = 0x40
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert not world.leave(task) and world.exits[-1] == (task.group, s.SIGSEGV), "the handler finds no stack either"


def test_the_alternate_stack_is_used_once_and_not_overrun(world: World) -> None:
    task = world.process()
    low = BASE + 0x8000
    task.mm.write(BASE, s.STACK_T.pack(low, 0, 0, 0x2000))
    assert world.call(task, "sigaltstack", BASE, 0) == 0
    catch(task, s.SIGUSR1, s.SA_ONSTACK | s.SA_NODEFER)
    send_to_task(task, SigInfo(s.SIGUSR1))
    world.leave(task)
    first = task.ctx.regs[RSP]
    assert low < first < low + 0x2000
    assert ucontext(task)["ss_sp"] == low and ucontext(task)["ss_size"] == 0x2000
    assert world.call(task, "sigaltstack", BASE, 0) == -e.EPERM.number
    send_to_task(task, SigInfo(s.SIGUSR1))
    world.leave(task)
    assert low < task.ctx.regs[RSP] < first - 128, "nested: below, on the same stack"
    task.ctx.regs[RSP] = low + 0x200
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert not world.leave(task) and world.exits[-1] == (task.group, s.SIGSEGV)


def test_autodisarm_forgets_the_stack_until_sigreturn(world: World) -> None:
    task = world.process()
    low = BASE + 0x8000
    task.mm.write(BASE, s.STACK_T.pack(low, s.SS_AUTODISARM, 0, 0x2000))
    assert world.call(task, "sigaltstack", BASE, 0) == 0
    catch(task, s.SIGUSR1, s.SA_ONSTACK)
    send_to_task(task, SigInfo(s.SIGUSR1))
    world.leave(task)
    assert task.altstack == (0, 0, s.SS_DISABLE) and low < task.ctx.regs[RSP] < low + 0x2000
    sigreturn(world, task)
    assert task.altstack == (low, 0x2000, s.SS_AUTODISARM)


def test_sigaltstack_checks_its_arguments(world: World) -> None:
    task = world.process()
    for flags, size, error in ((4, 0x2000, e.EINVAL), (0, 2047, e.ENOMEM), (3, 0x2000, e.EINVAL)):
        task.mm.write(BASE, s.STACK_T.pack(BASE, flags, 0, size))
        assert world.call(task, "sigaltstack", BASE, 0) == -error.number
    assert world.call(task, "sigaltstack", 0, BASE) == 0
    assert s.STACK_T.unpack(task.mm.read(BASE, 24)) == (0, s.SS_DISABLE, 0, 0)
    assert world.call(task, "sigaltstack", 8, 0) == -e.EFAULT.number


def test_resethand_and_nodefer(world: World) -> None:
    task = world.process()
    catch(task, s.SIGUSR1, s.SA_RESETHAND | s.SA_NODEFER)
    send_to_task(task, SigInfo(s.SIGUSR1))
    world.leave(task)
    assert not task.blocked and task.group.actions.table[s.SIGUSR1].handler == s.SIG_DFL
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert not world.leave(task) and world.exits == [(task.group, s.SIGUSR1)]


def test_several_signals_nest_on_one_stack(world: World) -> None:
    task = world.process()
    catch(task, s.SIGUSR1)
    catch(task, s.SIGUSR2, handler=HANDLER + 8)
    for signo in (s.SIGUSR2, s.SIGUSR1):
        send_to_task(task, SigInfo(signo))
    world.leave(task)
    assert task.ctx.regs[RIP] == HANDLER + 8, "the last frame runs first"
    sigreturn(world, task)
    assert task.ctx.regs[RIP] == HANDLER
    sigreturn(world, task)
    assert task.ctx.regs[RIP] == CODE and not task.blocked


@pytest.mark.parametrize(
    ("kind", "flags", "restarts"),
    [
        (RESTART_SYS, s.SA_RESTART, True), (RESTART_SYS, 0, False), (RESTART_NOINTR, 0, True),
        (RESTART_NOHAND, s.SA_RESTART, False), (RESTART_BLOCK, s.SA_RESTART, False),
    ],
)  # fmt: skip
def test_a_handler_decides_whether_the_call_restarts(world: World, kind: int, flags: int, restarts: bool) -> None:
    task = world.process()
    catch(task, s.SIGUSR1, flags)
    task.ctx.regs[RIP] += 2
    task.ctx.regs[RAX] = -e.EINTR.number & UNLIMITED
    task.syscall_nr, task.restart = NUMBERS["read"], kind
    send_to_task(task, SigInfo(s.SIGUSR1))
    world.leave(task)
    sigreturn(world, task)
    want = (CODE, NUMBERS["read"]) if restarts else (CODE + 2, -e.EINTR.number & UNLIMITED)
    assert (task.ctx.regs[RIP], task.ctx.regs[RAX]) == want and task.restart == 0


@pytest.mark.parametrize("kind", [RESTART_SYS, RESTART_NOINTR, RESTART_NOHAND, RESTART_BLOCK])
def test_without_a_handler_every_call_goes_on(world: World, kind: int) -> None:
    task = world.process()
    task.ctx.regs[RIP] += 2
    task.syscall_nr, task.restart = NUMBERS["read"], kind
    world.leave(task)
    number = NUMBERS["restart_syscall" if kind == RESTART_BLOCK else "read"]
    assert (task.ctx.regs[RIP], task.ctx.regs[RAX]) == (CODE, number)


def test_sigsuspend_runs_the_handler_with_the_temporary_mask_and_restores_the_old(world: World) -> None:
    task = world.process()
    catch(task, s.SIGUSR1)
    set_blocked(task, s.mask_of(s.SIGUSR1))
    send_to_task(task, SigInfo(s.SIGUSR1))
    task.mm.write_u64(BASE, s.bit(s.SIGHUP))
    assert world.call(task, "rt_sigsuspend", BASE, 8) == 0
    assert task.ctx.regs[RIP] == HANDLER and task.blocked == s.mask_of(s.SIGHUP, s.SIGUSR1)
    assert ucontext(task)["sigmask"] == s.bit(s.SIGUSR1) and ucontext(task)["rax"] == -e.EINTR.number & UNLIMITED
    sigreturn(world, task)
    assert task.blocked == s.bit(s.SIGUSR1)


def test_a_call_that_ends_without_a_signal_restores_the_mask_first(world: World) -> None:
    """ppoll(2): the descriptor was ready, so the signal that only the temporary mask lets through stays pending."""
    task = world.process()
    catch(task, s.SIGUSR1)
    set_blocked(task, s.bit(s.SIGUSR1))
    set_temporary(task, 0)
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert world.leave(task)
    assert task.blocked == s.bit(s.SIGUSR1) and task.ctx.regs[RIP] == CODE and not task.work


def test_sigsuspend_survives_a_stop_and_goes_on(world: World) -> None:
    task = world.process(parent=world.process().group)
    task.mm.write_u64(BASE, 0)
    assert world.call(task, "rt_sigsuspend", BASE, 8) == WAITS
    send_to_group(task.group, SigInfo(s.SIGSTOP))
    world.settle()
    assert task.state == STOPPED and task.group.group_stop == s.SIGSTOP
    send_to_group(task.group, SigInfo(s.SIGCONT))
    world.settle()
    assert task.ctx.regs[RAX] == NUMBERS["rt_sigsuspend"] and world.again(task) == WAITS


def test_stopping_needs_every_thread_and_tells_the_parent(world: World) -> None:
    parent = world.process()
    catch(parent, s.SIGCHLD)
    main = world.process(parent.group)
    other = world.thread(main.group)
    other.on_cpu = True
    send_to_group(main.group, SigInfo(s.SIGSTOP, s.SI_USER))
    assert not world.leave(main) and main.state == STOPPED
    assert main.group.group_stop == 0 and other.work & WORK_STOP and world.kicked[-1] is other
    other.on_cpu = False
    assert not world.leave(other)
    assert main.group.group_stop == s.SIGSTOP and main.group.wait_event == s.CLD_STOPPED
    info = parent.group.pending.take(UNLIMITED)
    assert info is not None and (info.code, info.pid, info.status) == (s.CLD_STOPPED, main.group.pid, s.SIGSTOP)
    send_to_group(main.group, SigInfo(s.SIGCONT))
    assert set(world.enqueued) == {main, other} and main.group.wait_event == s.CLD_CONTINUED
    info = parent.group.pending.take(UNLIMITED)
    assert info is not None and (info.code, info.status) == (s.CLD_CONTINUED, s.SIGCONT)


def test_nocldstop_keeps_the_parent_quiet(world: World) -> None:
    parent = world.process()
    catch(parent, s.SIGCHLD, s.SA_NOCLDSTOP)
    child = world.process(parent.group)
    send_to_group(child.group, SigInfo(s.SIGSTOP))
    world.leave(child)
    assert child.group.wait_event == s.CLD_STOPPED and not parent.group.pending.mask


def test_terminal_stops_are_ignored_in_an_orphaned_group(world: World) -> None:
    orphan = world.process()
    send_to_group(orphan.group, SigInfo(s.SIGTSTP))
    assert world.leave(orphan)
    shell = world.process()
    job = world.process(shell.group)
    job.group.pgid = job.group.pid
    send_to_group(job.group, SigInfo(s.SIGTSTP))
    assert not world.leave(job) and job.group.group_stop == s.SIGTSTP


def test_sigcont_discards_pending_stops_and_stops_discard_sigcont(world: World) -> None:
    task = world.process()
    set_blocked(task, s.mask_of(s.SIGTSTP, s.SIGCONT))
    send_to_group(task.group, SigInfo(s.SIGTSTP))
    send_to_group(task.group, SigInfo(s.SIGCONT))
    assert task.group.pending.mask == s.bit(s.SIGCONT)
    send_to_task(task, SigInfo(s.SIGTSTP))
    assert task.group.pending.mask == 0 and task.pending.mask == s.bit(s.SIGTSTP)


def test_a_forced_signal_that_is_blocked_or_ignored_kills(world: World) -> None:
    for prepare in (
        lambda task: set_blocked(task, s.bit(s.SIGSEGV)),
        lambda task: task.group.actions.table.__setitem__(s.SIGSEGV, Action(s.SIG_IGN)),
    ):
        task = world.process()
        catch(task, s.SIGSEGV)
        prepare(task)
        force(task, SigInfo(s.SIGSEGV, s.SEGV_MAPERR, addr=1))
        assert not world.leave(task) and task.work & WORK_EXIT
        assert world.exits[-1] == (task.group, s.SIGSEGV)


def test_a_page_fault_fills_in_what_handlers_look_at(world: World) -> None:
    task = world.process()
    catch(task, s.SIGSEGV, s.SA_SIGINFO)
    task.ctx.addr, task.ctx.code = 0x1234, 2
    from_fault(task, (s.SIGSEGV, s.SEGV_MAPERR, 0x1234))
    assert world.leave(task)
    uc = ucontext(task)
    assert (uc["trapno"], uc["err"], uc["cr2"]) == (14, 6, 0x1234)
    assert struct.unpack_from("<iiiiQ", task.mm.read(task.ctx.regs[x.RSI], 24)) == (11, 0, s.SEGV_MAPERR, 0, 0x1234)


@pytest.mark.parametrize(
    ("vector", "signo", "code", "at_rip"),
    [
        (x.DE, s.SIGFPE, s.FPE_INTDIV, True), (x.UD, s.SIGILL, s.ILL_ILLOPN, True),
        (x.GP, s.SIGSEGV, s.SI_KERNEL, False), (x.BP, s.SIGTRAP, s.SI_KERNEL, False),
        (x.DB, s.SIGTRAP, s.TRAP_TRACE, True), (x.AC, s.SIGBUS, s.BUS_ADRALN, False),
        (x.SS, s.SIGBUS, s.SI_KERNEL, False), (99, s.SIGSEGV, s.SI_KERNEL, False),
    ],
)  # fmt: skip
def test_exceptions_become_signals(world: World, vector: int, signo: int, code: int, at_rip: bool) -> None:
    task = world.process()
    catch(task, signo)
    task.ctx.vector, task.ctx.code = vector, 0x18
    from_trap(task)
    info = task.pending.take(UNLIMITED)
    assert info is not None and (info.signo, info.code, info.addr) == (signo, code, CODE if at_rip else 0)
    assert task.ctx.regs[x.TRAPNO] == vector and task.ctx.regs[x.ERR] == 0x18


@pytest.mark.parametrize(
    ("mxcsr", "code"),
    [(0x1D80 | 4 | 0x200 ^ 0x200, s.FPE_FLTDIV), (0x1F00 | 1, s.FPE_FLTINV), (0x1F80 | 1, 0), (0x0F80 | 0x20, s.FPE_FLTRES)],
)
def test_sse_exceptions_say_which(world: World, mxcsr: int, code: int) -> None:
    task = world.process()
    catch(task, s.SIGFPE)
    image = bytearray(512)
    image[24:28] = mxcsr.to_bytes(4, "little")
    task.ctx.set_fp(bytes(image))
    task.ctx.vector = x.XM
    from_trap(task)
    info = task.pending.take(UNLIMITED)
    assert (info.code if info else 0) == code


def test_sigaction_checks_and_reads_back(world: World) -> None:
    task = world.process()
    flags = s.SA_SIGINFO | s.SA_RESTORER | s.SA_UNSUPPORTED | 0x80
    task.mm.write(BASE, s.SIGACTION.pack(HANDLER, flags, RESTORER, UNLIMITED))
    call = world.call
    assert call(task, "rt_sigaction", s.SIGUSR1, BASE, 0, 8) == 0
    assert call(task, "rt_sigaction", s.SIGUSR1, 0, BASE + 64, 8) == 0
    got = s.SIGACTION.unpack(task.mm.read(BASE + 64, 32))
    assert got == (HANDLER, s.SA_SIGINFO | s.SA_RESTORER, RESTORER, UNLIMITED & ~s.UNBLOCKABLE)
    for signo in (0, 65, s.SIGKILL, s.SIGSTOP, -1):
        assert call(task, "rt_sigaction", signo, BASE, 0, 8) == -e.EINVAL.number
    assert call(task, "rt_sigaction", s.SIGKILL, 0, BASE, 8) == 0
    assert call(task, "rt_sigaction", s.SIGUSR1, 8, 0, 8) == -e.EFAULT.number
    assert call(task, "rt_sigaction", s.SIGUSR1, 0, 0, 4) == -e.EINVAL.number


def test_sigprocmask_and_sigpending(world: World) -> None:
    task = world.process()
    task.mm.write_u64(BASE, UNLIMITED)
    assert world.call(task, "rt_sigprocmask", s.SIG_BLOCK, BASE, BASE + 8, 8) == 0
    assert task.blocked == UNLIMITED & ~s.UNBLOCKABLE and task.mm.read_u64(BASE + 8) == 0
    send_to_group(task.group, SigInfo(s.SIGTERM))
    assert world.call(task, "rt_sigpending", BASE, 8) == 0
    assert task.mm.read_u64(BASE) == s.bit(s.SIGTERM)
    assert world.call(task, "rt_sigprocmask", 3, BASE, 0, 8) == -e.EINVAL.number
    assert world.call(task, "rt_sigprocmask", 3, 0, BASE, 8) == 0, "how is not looked at without a set"
    task.mm.write_u64(BASE, 0)
    assert world.call(task, "rt_sigprocmask", s.SIG_SETMASK, BASE, 0, 8) == WAITS
    assert world.exits == [(task.group, s.SIGTERM)], "unblocked: delivered before the call returns"


def test_sigtimedwait_takes_waits_and_times_out(world: World) -> None:
    task = world.process()
    set_blocked(task, s.mask_of(s.SIGUSR1, 40))
    task.mm.write_u64(BASE, s.mask_of(s.SIGUSR1, 40))
    task.mm.write(BASE + 16, struct.pack("<qq", 1, 0))
    task.mm.write(BASE + 32, struct.pack("<qq", 0, 0))
    wait = ("rt_sigtimedwait", BASE, BASE + 128, BASE + 16, 8)
    assert world.call(task, "rt_sigtimedwait", BASE, 0, BASE + 32, 8) == -e.EAGAIN.number
    assert world.call(task, *wait) == WAITS
    send_to_group(task.group, SigInfo(40, s.SI_QUEUE, value=9))
    world.settle()
    assert world.results[task] == 40
    assert s.SIGINFO_QUEUE.unpack(task.mm.read(BASE + 128, 128))[6] == 9
    assert world.call(task, *wait) == WAITS
    world.pass_time(1_000_000_000)
    assert world.results[task] == -e.EAGAIN.number
    assert world.call(task, *wait) == WAITS
    catch(task, s.SIGHUP)
    send_to_task(task, SigInfo(s.SIGHUP))
    world.settle()
    assert ucontext(task)["rax"] == -e.EINTR.number & UNLIMITED
