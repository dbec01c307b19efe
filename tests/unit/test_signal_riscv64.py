"""riscv64 signals: the frame as the headers lay it out, the way back, restarts, and what hardware raises."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import little_world
import pytest
import scripted
from little_world import BASE, CODE, SIZE, STACK, UNLIMITED, WAITS, World

from trapline.abi import riscv64 as r
from trapline.abi import signal as s
from trapline.abi.errno import EINTR, EINVAL
from trapline.abi.futex import FUTEX_WAIT
from trapline.abi.syscalls import RISCV64 as NUMBERS
from trapline.kernel.sync.park import RESTART_BLOCK
from trapline.kernel.syscalls import futex as _futex  # noqa: F401 - declares the calls
from trapline.kernel.syscalls import kill as _kill  # noqa: F401
from trapline.kernel.syscalls import riscv as _riscv  # noqa: F401
from trapline.kernel.syscalls import signal as _signal  # noqa: F401
from trapline.kernel.task.signals import restart
from trapline.kernel.task.signals.action import Action
from trapline.kernel.task.signals.fault import from_fault, from_trap
from trapline.kernel.task.signals.send import SigInfo, send_to_task
from trapline.kernel.task.task import Task
from trapline.machine import contract
from trapline.machine.riscv.arch import RISCV64

HANDLER, VDSO, SIGRETURN = CODE + 0x1000, 0x70_0000, 0x40
FP = 264


class RiscvContext(scripted.ScriptedContext):
    __slots__ = ()

    def __init__(self, space: Any) -> None:
        contract.Context.__init__(self, space, RISCV64.nregs)
        self.program = self.send = self.again = self.child = None
        self.fp = bytes(FP)

    def set_fp(self, image: bytes) -> bool:
        if len(image) != FP or int.from_bytes(image[256:260], "little") > 0xFF:
            return False
        self.fp = image
        return True


class RiscvMachine(scripted.ScriptedMachine):
    arch = RISCV64

    def new_context(self, space: Any) -> RiscvContext:
        return RiscvContext(space)


class RiscvWorld(World):
    """The little world, on another architecture."""

    def thread(self, group: Any, memory: Any = None, uid: int = 1000, tid: int = 0) -> Task:
        task = super().thread(group, memory, uid, tid)
        task.mm.vdso = VDSO
        for number in range(r.NREGS):
            task.ctx.regs[number] = 0
        task.ctx.regs[r.PC], task.ctx.regs[r.SP] = CODE, STACK
        return task

    def call(self, task: Task, name: str, *args: int) -> Any:
        regs = task.ctx.regs
        regs[r.A7] = NUMBERS[name]
        for register, value in zip(RISCV64.args, args, strict=False):
            regs[register] = value & UNLIMITED
        return self.ecall(task)

    def ecall(self, task: Task) -> Any:
        task.ctx.regs[r.PC] += 4
        task.ctx.kind, task.ctx.entry = contract.SYSCALL, contract.ENTRY_ECALL
        return self.result(task) if self.dispatcher.call(task) and self.leave(task) else WAITS

    def result(self, task: Task) -> int:
        value = task.ctx.regs[r.A0]
        self.results[task] = value - (1 << 64) if value >> 63 else value
        return self.results[task]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> RiscvWorld:
    monkeypatch.setattr(scripted, "ScriptedMachine", RiscvMachine)
    monkeypatch.setattr(little_world, "World", RiscvWorld)
    made = little_world.make_world(monkeypatch)
    made.kernel.vdso = SimpleNamespace(sigreturn=SIGRETURN)
    assert isinstance(made, RiscvWorld)
    return made


def catch(task: Task, signo: int, flags: int = 0, mask: int = 0) -> None:
    task.group.actions.table[signo] = Action(HANDLER, flags, 0, mask)


def interrupt(world: World, task: Task, flags: int = 0) -> None:
    catch(task, s.SIGUSR1, flags)
    send_to_task(task, SigInfo(s.SIGUSR1, s.SI_TKILL, pid=7, uid=8))
    assert world.leave(task)


def test_the_frame_is_laid_out_as_the_headers_say(world: RiscvWorld) -> None:
    task = world.process()
    regs = task.ctx.regs
    for number in range(1, 32):
        regs[number] = 0x1000 + number
    regs[r.SP] = STACK - 5
    task.ctx.set_fp(struct.pack("<32QI4x", *range(900, 932), 0x61))
    catch(task, s.SIGUSR1, mask=s.bit(s.SIGHUP))
    task.blocked = s.bit(s.SIGTERM)
    send_to_task(task, SigInfo(s.SIGUSR1, s.SI_TKILL, pid=77, uid=88))
    assert world.leave(task)
    frame = regs[r.SP]
    assert frame % 16 == 0 and STACK - 5 - 16 < frame + 128 + 960 <= STACK - 5
    assert (regs[r.PC], regs[r.RA], regs[r.A0]) == (HANDLER, VDSO + SIGRETURN, s.SIGUSR1)
    assert (regs[r.A1], regs[r.A2]) == (frame, frame + 128)
    assert struct.unpack("<iiiiiI", task.mm.read(frame, 24)) == (s.SIGUSR1, 0, s.SI_TKILL, 0, 77, 88)
    uc = task.mm.read(frame + 128, 960)
    assert struct.unpack_from("<QQ", uc) == (0, 0)
    assert struct.unpack_from("<QiiQ", uc, 16) == (0, s.SS_DISABLE, 0, 0)
    assert struct.unpack_from("<Q", uc, 40) == (s.bit(s.SIGTERM),) and not any(uc[48:176])
    general = struct.unpack_from("<32Q", uc, 176)
    assert general[0] == CODE and general[2] == STACK - 5 and general[10] == 0x100A and general[31] == 0x101F
    assert struct.unpack_from("<32QI", uc, 432) == (*range(900, 932), 0x61) and not any(uc[432 + 260 :])
    assert task.blocked == s.mask_of(s.SIGTERM, s.SIGHUP, s.SIGUSR1)


def test_sigreturn_brings_everything_back(world: RiscvWorld) -> None:
    task = world.process()
    for number in range(3, 32):
        task.ctx.regs[number] = number << 56
    image = struct.pack("<32QI4x", *(1 << n for n in range(32)), 3)
    task.ctx.set_fp(image)
    before = task.ctx.regs[:]
    interrupt(world, task)
    for number in (1, *range(3, 32)):
        task.ctx.regs[number] = 5
    task.ctx.set_fp(bytes(FP))
    world.call(task, "rt_sigreturn")
    assert task.ctx.regs == before and task.ctx.get_fp() == image and not task.blocked


def test_a_frame_that_cannot_be_true_kills(world: RiscvWorld) -> None:
    fp = 128 + 432
    for offset, data in ((fp + 516, b"\1"), (fp + 520, b"\1"), (fp + 524, b"\1"), (fp + 258, b"\1")):
        task = world.process()
        interrupt(world, task)
        task.mm.write(task.ctx.regs[r.SP] + offset, data)
        world.call(task, "rt_sigreturn")
        assert world.exits[-1] == (task.group, s.SIGSEGV), offset
    for sp in (0, BASE + SIZE - 64, UNLIMITED):
        task = world.process()
        task.ctx.regs[r.SP] = sp
        world.call(task, "rt_sigreturn")
        assert world.exits[-1] == (task.group, s.SIGSEGV), hex(sp)


def test_without_a_vdso_there_is_nowhere_to_return_to(world: RiscvWorld) -> None:
    task = world.process()
    task.mm.vdso = 0
    catch(task, s.SIGUSR1)
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert not world.leave(task) and world.exits == [(task.group, s.SIGSEGV)]


def test_the_alternate_stack_is_used_once_and_not_overrun(world: RiscvWorld) -> None:
    task = world.process()
    low = BASE + 0x8000
    task.mm.write(BASE, s.STACK_T.pack(low, 0, 0, 0x1000))
    assert world.call(task, "sigaltstack", BASE, 0) == 0
    interrupt(world, task, s.SA_ONSTACK | s.SA_NODEFER)
    first = task.ctx.regs[r.SP]
    assert low < first < low + 0x1000
    interrupt(world, task, s.SA_ONSTACK | s.SA_NODEFER)
    assert low < task.ctx.regs[r.SP] <= first - 1088
    task.ctx.regs[r.SP] = low + 0x200
    catch(task, s.SIGUSR1, s.SA_ONSTACK | s.SA_NODEFER)
    send_to_task(task, SigInfo(s.SIGUSR1))
    assert not world.leave(task) and world.exits[-1] == (task.group, s.SIGSEGV)


@pytest.mark.parametrize("restarts", [True, False])
def test_a_restarted_call_has_its_first_argument_again(world: RiscvWorld, restarts: bool) -> None:
    """a0 is both the first argument and the result."""
    task = world.process()
    assert world.call(task, "futex", BASE, FUTEX_WAIT, 0, 0) is WAITS
    after = task.ctx.regs[r.PC]
    catch(task, s.SIGUSR1, s.SA_RESTART if restarts else 0)
    send_to_task(task, SigInfo(s.SIGUSR1))
    world.settle()
    assert task.ctx.regs[r.PC] == HANDLER
    world.call(task, "rt_sigreturn")
    if restarts:
        assert (task.ctx.regs[r.PC], task.ctx.regs[r.A0], task.ctx.regs[r.A7]) == (after - 4, BASE, NUMBERS["futex"])
        assert world.ecall(task) is WAITS
    else:
        assert (task.ctx.regs[r.PC], world.result(task)) == (after, -EINTR.number)


def test_without_a_handler_restart_syscall_is_called(world: RiscvWorld) -> None:
    task = world.process()
    task.ctx.regs[r.PC], task.ctx.regs[r.A0] = CODE + 4, -EINTR.number & UNLIMITED
    task.restart, task.before_result = RESTART_BLOCK, BASE
    restart.without_handler(task)
    assert (task.ctx.regs[r.PC], task.ctx.regs[r.A0], task.ctx.regs[r.A7]) == (CODE, BASE, NUMBERS["restart_syscall"])


@pytest.mark.parametrize(
    ("cause", "signo", "code"),
    [
        (r.ILLEGAL, s.SIGILL, s.ILL_ILLOPC), (r.BREAKPOINT, s.SIGTRAP, s.TRAP_BRKPT), (r.INSN_ACCESS, s.SIGSEGV, s.SEGV_ACCERR),
        (r.LOAD_MISALIGNED, s.SIGBUS, s.BUS_ADRALN), (r.STORE_ACCESS, s.SIGSEGV, s.SEGV_ACCERR), (9, s.SIGILL, s.ILL_ILLTRP),
    ],
)  # fmt: skip
def test_exceptions_become_signals_with_the_instructions_address(world: RiscvWorld, cause: int, signo: int, code: int) -> None:
    task = world.process()
    task.ctx.vector, task.ctx.addr = cause, 0x55
    catch(task, signo)
    from_trap(task)
    assert world.leave(task) and task.ctx.regs[r.A0] == signo
    assert struct.unpack("<iiiiQ", task.mm.read(task.ctx.regs[r.A1], 24)) == (signo, 0, code, 0, CODE)


def test_a_page_fault_tells_the_address(world: RiscvWorld) -> None:
    task = world.process()
    catch(task, s.SIGSEGV)
    from_fault(task, (s.SIGSEGV, s.SEGV_MAPERR, 0x1234))
    assert world.leave(task)
    assert struct.unpack("<iiiiQ", task.mm.read(task.ctx.regs[r.A1], 24))[2:] == (s.SEGV_MAPERR, 0, 0x1234)


def test_sigaction_has_no_restorer(world: RiscvWorld) -> None:
    task = world.process()
    task.mm.write(BASE, s.SIGACTION_GENERIC.pack(HANDLER, s.SA_RESTORER | s.SA_SIGINFO | s.SA_UNSUPPORTED, UNLIMITED) + b"next")
    assert world.call(task, "rt_sigaction", s.SIGUSR1, BASE, 0, 8) == 0
    assert world.call(task, "rt_sigaction", s.SIGUSR1, 0, BASE, 8) == 0
    handler, flags, mask = s.SIGACTION_GENERIC.unpack(task.mm.read(BASE, 24))
    assert (handler, flags, mask) == (HANDLER, s.SA_SIGINFO, UNLIMITED & ~s.UNBLOCKABLE)
    assert task.mm.read(BASE + 24, 4) == b"next", "24 bytes, no more"


def test_hwprobe_answers_what_it_knows(world: RiscvWorld) -> None:
    task = world.process()
    pairs = ((r.HWPROBE_BASE_BEHAVIOR, 9), (r.HWPROBE_IMA_EXT_0, 9), (77, 9), (-5, 9))
    task.mm.write(BASE, b"".join(r.HWPROBE_PAIR.pack(*each) for each in pairs))
    assert world.call(task, "riscv_hwprobe", BASE, 4, 0, 0, 0) == 0
    found = list(r.HWPROBE_PAIR.iter_unpack(task.mm.read(BASE, 64)))
    assert found[0] == (r.HWPROBE_BASE_BEHAVIOR, 1) and found[2:] == [(-1, 0), (-1, 0)]
    assert found[1][1] & 3 == 3 and found[1][1] & r.HWPROBE_EXTENSIONS["zbb"], "F, D, C, and bit manipulation"
    assert world.call(task, "riscv_hwprobe", BASE, 1, 0, 0, 1) == -EINVAL.number
    task.mm.write_u64(BASE + 64, 1 << 40)
    assert world.call(task, "riscv_hwprobe", BASE, 1, 8, BASE + 64, 0) == -EINVAL.number, "no such CPU"
