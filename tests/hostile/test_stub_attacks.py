"""Attacks on the stub, from the guest's side: each must leave the machine alive and other spaces running.

A guest knows the stub: where it is, what it does. It may jump anywhere in it with any registers, and write any of its own slots.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostmachine_util import CODE, DATA, PAGE, STACK, Guest, assemble, run

from trapline.abi.x86_64 import CSGSFS, EFLAGS, IF, R8, R9, R10, RAX, RBX, RCX, RDI, RDX, RIP, RSI, RSP
from trapline.machine.contract import DEAD, EXCEPTION, FAULT, INTERRUPT, SYSCALL
from trapline.machine.paging.entry import X86_64 as FMT
from trapline.machine.ram import Ram

host = pytest.importorskip("trapline.machine.host")
layout = pytest.importorskip("trapline.machine.host.layout")
StubDied = pytest.importorskip("trapline.machine.host.errors").StubDied
Suspicion = pytest.importorskip("trapline.machine.host.suspicion").Suspicion
pytest.importorskip("trapline.machine.host._ring")

WITNESS = "1: mov eax, 110\n syscall\n inc rbx\n jmp 1b"
SLOT0 = layout.SLOTS
CLONE_PROCESS = 0x8000 | 17  # CLONE_PARENT, SIGCHLD: what the nursery does


def syscall_sites(nursery: bool = False) -> list[int]:
    """The system call instructions in the stub's text, or in the nursery's."""
    start, size = (layout.TEXT_SIZE, layout.NURSERY_SIZE) if nursery else (0, layout.TEXT_SIZE)
    image = Path(host.__file__).with_name("stub").read_bytes()
    text = image[0x1000 + start : 0x1000 + start + size]
    return [layout.STUB + start + i for i in range(len(text) - 1) if text[i : i + 2] == b"\x0f\x05"]


class Arena:
    """A machine with an honest guest, the witness, beside the attacker."""

    def __init__(self) -> None:
        self.machine = host.HostMachine(Ram(64 << 20, shared=True), 2)
        self.honest = Guest(self.machine, WITNESS, data_pages=0)
        self.witness = run(self.machine, self.honest.context())

    def attack(self, ctx: Any, seconds: float = 0.2, *, serve: int = 3) -> Any:
        """Run `ctx`, answering its traps a few times; kick it at the end. The context at its last trap."""
        machine = self.machine
        machine.resume(ctx)
        end = time.monotonic() + seconds
        kicked = False
        while True:
            got = machine.wait(time.monotonic_ns() + 20_000_000)
            if got is not None:
                assert got is ctx
                if got.kind == DEAD or kicked or serve == 0:
                    return got
                serve -= 1
                machine.resume(got)
            elif time.monotonic() > end and not kicked:
                kicked = True
                machine.kick(ctx)
            assert time.monotonic() < end + 5, "the attacker was neither stopped nor killed"

    def check(self) -> None:
        """The witness still runs, and so does a new space."""
        before = self.witness.regs[RBX]
        for _ in range(3):
            assert run(self.machine, self.witness).kind == SYSCALL
        assert self.witness.regs[RBX] == before + 3
        fresh = Guest(self.machine, WITNESS, data_pages=0)
        assert run(self.machine, fresh.context()).kind == SYSCALL
        fresh.space.close()


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena()
    yield arena
    arena.check()
    arena.machine.close()


CALLS = {
    "mmap of all RAM": (9, [0x10_0000_0000, 64 << 20, 3, 0x11, layout.FD_RAM, 0]),
    "mmap of the contexts": (9, [0x10_0000_0000, 1 << 20, 3, 0x11, layout.FD_CONTEXTS, 0]),
    "mmap over the stub": (9, [layout.STUB, PAGE, 7, 0x32, (1 << 64) - 1, 0]),
    "mprotect of the stub": (10, [layout.STUB, PAGE, 7, 0, 0, 0]),
    "munmap of the stub": (11, [layout.STUB, layout.TEXT_SIZE, 0, 0, 0, 0]),
    "munmap from the nursery's place on": (11, [layout.NURSERY, layout.NURSERY_SIZE | 1 << 32, 0, 0, 0, 0]),
    "munmap from elsewhere on": (11, [layout.NURSERY & 0xFFFF_FFFF, layout.NURSERY_SIZE, 0, 0, 0, 0]),
    "the nursery's munmap": (11, [layout.NURSERY, layout.NURSERY_SIZE, 0, 0, 0, 0]),
    "mmap of a nursery": (9, [layout.NURSERY, layout.NURSERY_SIZE, 5, 0x32, (1 << 64) - 1, 0]),
    "fork": (56, [CLONE_PROCESS, 0, 0, 0, 0, 0]),
    "thread": (56, [layout.CLONE_THREAD, SLOT0 + 0x7000, 0, 0, 0, 0]),
    "open": (2, [DATA, 2, 0, 0, 0, 0]),
    "execve": (59, [DATA, 0, 0, 0, 0, 0]),
    "kill": (62, [1, 9, 0, 0, 0, 0]),
    "ptrace": (101, [16, 1, 0, 0, 0, 0]),
    "write to RAM": (1, [layout.FD_RAM, DATA, 8, 0, 0, 0]),
    "doorbell, huge value": (1, [layout.FD_DOORBELL, DATA, 8, 0, 0, 0]),
    "doorbell, other length": (1, [layout.FD_DOORBELL, DATA, 4096, 0, 0, 0]),
    "PDEATHSIG off": (157, [1, 0, 0, 0, 0, 0]),
    "another prctl": (157, [15, DATA, 0, 0, 0, 0]),
    "futex, wait for ever": (202, [DATA, 0, 0, 0, 0, 0]),
    "futex, lock": (202, [DATA, 6, 0, 0, 0, 0]),
    "seccomp": (317, [1, 0, DATA, 0, 0, 0]),
    "x32": (0x40000009, [0, 1 << 20, 3, 0x11, 1, 0]),
    "exit": (60, [0, 0, 0, 0, 0, 0]),
    "exit_group": (231, [0, 0, 0, 0, 0, 0]),
    "sigreturn": (15, [0, 0, 0, 0, 0, 0]),
    "getppid": (110, [0, 0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("site", range(len(syscall_sites())))
@pytest.mark.parametrize("call", CALLS)
def test_jump_to_a_system_call_of_the_stub(arena: Arena, call: str, site: int) -> None:
    nr, args = CALLS[call]
    guest = Guest(arena.machine, "ud2")
    guest.write(guest.data[0], b"\xfe" + b"\xff" * 7)
    ctx = guest.context(pc=syscall_sites()[site])
    ctx.regs[RAX] = nr
    for register, value in zip((RDI, RSI, RDX, R10, R8, R9), args, strict=True):
        ctx.regs[register] = value
    before = set(os.listdir("/proc/self/task"))
    arena.attack(ctx, 0.02)
    if call.startswith(("mmap", "mprotect", "munmap", "fork", "thread", "open", "execve", "kill", "ptrace", "seccomp")):
        assert ctx.kind == DEAD, "the call went through"
    assert set(os.listdir("/proc/self/task")) == before


def test_the_nursery_is_gone_before_user_code_runs(arena: Arena) -> None:
    """Its system calls are not held: nobody may find it, in a new process, one with several threads, or one that looks again."""
    sites = syscall_sites(nursery=True)
    assert sites
    guest = Guest(arena.machine, WITNESS)
    contexts = [guest.context(pc=site) for site in sites] + [run(arena.machine, guest.context())]
    for ctx in contexts:
        ctx.regs[RIP] = sites[0] if ctx is contexts[-1] else ctx.regs[RIP]
        assert (run(arena.machine, ctx).kind, ctx.addr & -PAGE) == (FAULT, layout.NURSERY)
    reader = Guest(arena.machine, f"mov rax, [{layout.NURSERY}]")
    assert (run(arena.machine, reader.context()).kind, reader.space.process.fresh) == (FAULT, False)


def test_filter_and_text_end_where_they_should(arena: Arena) -> None:
    """Right behind the stub's text nothing is mapped, nor behind the nursery's place."""
    for end in (layout.STUB + layout.TEXT_SIZE, layout.NURSERY + layout.NURSERY_SIZE):
        guest = Guest(arena.machine, "mov eax, 9\n syscall")
        ctx = guest.context(pc=end)
        assert (run(arena.machine, ctx).kind, ctx.addr) == (FAULT, end)


def test_a_system_call_in_the_last_bytes_of_user_space_is_a_guests(arena: Arena) -> None:
    """Its return address is the stub's first."""
    guest = Guest(arena.machine)
    guest.write(guest.map(layout.STUB - 0x1000, execute=True, write=False), b"\x0f\x05", 0xFFE)
    ctx = guest.context(pc=layout.STUB - 2)
    ctx.regs[RAX] = 39
    assert run(arena.machine, ctx).kind == SYSCALL and ctx.regs[RAX] == 39


def test_stub_text_cannot_be_written(arena: Arena) -> None:
    guest = Guest(arena.machine, f"mov rdi, {layout.STUB}\n mov byte ptr [rdi], 0x90\n ud2")
    assert arena.attack(guest.context(), serve=0).kind == FAULT


SCRIBBLE = f"""
    mov r8, {SLOT0}
2:  mov rdi, r8
    mov rcx, {layout.SLOT_SIZE * 2 // 8}
    mov rax, {{value}}
    rep stosq
    jmp 2b
"""


@pytest.mark.parametrize("value", ["0", "-1", "1", "0x0000000200000001", f"{CODE}"])
def test_sibling_overwrites_the_slots(arena: Arena, value: str) -> None:
    guest = Guest(arena.machine, "1: mov eax, 39\n syscall\n jmp 1b")
    honest = guest.context()
    code = 0x50_0000
    guest.write(guest.map(code, execute=True), assemble(SCRIBBLE.format(value=value)))
    evil = guest.context(pc=code)
    machine = arena.machine
    run(machine, honest)
    for ctx in (honest, evil):
        machine.resume(ctx)
    end = time.monotonic() + 0.15
    alive = {id(honest), id(evil)}
    kicked = False
    while alive and time.monotonic() < end + 6:
        ctx = machine.wait(time.monotonic_ns() + 10_000_000)
        if ctx is not None:
            if ctx.kind == DEAD or time.monotonic() > end:
                alive.discard(id(ctx))
            else:
                guest.space.flush(DATA, DATA + PAGE)
                machine.resume(ctx)
        elif time.monotonic() > end and not kicked:
            kicked = True
            machine.kick(honest)
            machine.kick(evil)
    assert not alive, "a context neither trapped nor died"


def test_liar_cannot_reach_a_frame_after_flush(arena: Arena) -> None:
    """A thread says that it is stopped, and goes on writing to a page that the kernel takes away and gives to another."""
    source = f"""
        mov qword ptr [{DATA}], 1
        mov r8, {SLOT0}
        mov qword ptr [r8 + {layout.CAUSE}], {31 | 1 << 8}
        mov dword ptr [r8 + {layout.STATE}], 1
    2:  inc qword ptr [{DATA}]
        jmp 2b
    """
    guest = Guest(arena.machine, source)
    ctx = guest.context()
    arena.machine.resume(ctx)
    liar = None
    deadline = time.monotonic() + 5
    while liar is None and time.monotonic() < deadline:
        liar = arena.machine.wait(time.monotonic_ns() + 10_000_000)
    assert liar is ctx
    time.sleep(0.01)
    guest.set_entry(DATA, 0)
    process = guest.space.process
    guest.space.flush(DATA, DATA + PAGE)
    assert "computing" in process.obituary(), "the kernel sees what it does, and waits no longer than that takes"
    guest.write(guest.data[0], bytes(8))
    time.sleep(0.02)
    assert guest.read(guest.data[0], 8) == bytes(8)
    assert arena.attack(ctx).kind == DEAD


def test_a_busy_host_is_no_ground_for_suspicion() -> None:
    """A thread that has no CPU is not taken for one that computes, nor one that was stopped for one that sleeps."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        suspicion = Suspicion(process.pid, process.pid)
        for _ in range(10):
            time.sleep(0.01)
            assert suspicion.why() == ""
        os.kill(process.pid, signal.SIGCONT)
        deadline = time.monotonic() + 20
        while not (why := suspicion.why()) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert "computing" in why


@pytest.mark.parametrize("wants_to_run", [True, False])
def test_a_late_answer_to_a_kick(arena: Arena, monkeypatch: pytest.MonkeyPatch, wants_to_run: bool) -> None:
    """A thread that the host has not let run meanwhile is waited for; any other is ended."""
    guest = Guest(arena.machine, "2: jmp 2b")
    ctx = guest.context()
    arena.machine.resume(ctx)
    assert arena.machine.wait(time.monotonic_ns() + 200_000_000) is None
    pid = guest.space.process.pid
    os.kill(pid, signal.SIGSTOP)
    if wants_to_run:
        monkeypatch.setattr(Suspicion, "_look", lambda self: ("R", 0, 0))
    time.sleep(0.1)
    arena.machine.kick(ctx)
    end, got = time.monotonic() + 1.5, None
    while got is None and time.monotonic() < end:
        got = arena.machine.wait(time.monotonic_ns() + 50_000_000)
    assert (got is None) == wants_to_run
    if wants_to_run:
        os.kill(pid, signal.SIGCONT)
    while got is None and time.monotonic() < end + 10:
        got = arena.machine.wait(time.monotonic_ns() + 50_000_000)
    assert got is ctx and ctx.kind == (INTERRUPT if wants_to_run else DEAD)


def test_how_long_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = ["R", 5, 5]
    monkeypatch.setattr(Suspicion, "_look", lambda self: tuple(seen))
    suspicion = Suspicion(1, 1)
    assert suspicion.starved(20_000_000)
    seen[2] = 7
    assert not suspicion.starved(20_000_000) and suspicion.starved(1_000_000_000)
    seen[0] = "S"
    assert not suspicion.starved(1_000_000_000)
    seen[0], suspicion._since_ns = "R", suspicion._since_ns - 31_000_000_000
    assert not suspicion.starved(1_000_000_000)


def test_a_thread_that_nobody_wakes_is_not_waited_for() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        time.sleep(0.2)
        suspicion = Suspicion(process.pid, process.pid)
        assert [suspicion.why() for _ in range(3)] == ["", "", "it slept instead of doing as it was told"]
        process.kill()


def test_liar_cannot_reach_a_frame_after_its_end(arena: Arena) -> None:
    """It says that it is stopped, goes on writing, and its space is closed: its frames are nobody's until it is gone."""
    source = f"""
        mov qword ptr [{DATA}], 1
        mov r8, {SLOT0}
        mov qword ptr [r8 + {layout.CAUSE}], {31 | 1 << 8}
        mov dword ptr [r8 + {layout.STATE}], 1
    2:  inc qword ptr [{DATA}]
        jmp 2b
    """
    machine = arena.machine
    guest = Guest(machine, source)
    ctx = guest.context()
    machine.resume(ctx)
    deadline = time.monotonic() + 5
    while machine.wait(time.monotonic_ns() + 10_000_000) is not ctx:
        assert time.monotonic() < deadline
    process, frame, frames = ctx.slot.process, guest.data[0], machine.ram.frames
    ctx.close()
    guest.space.close()
    frames.put(frame)
    assert frame not in {frames.alloc() for _ in range(600)}
    assert process.alive()
    while process.alive():
        assert machine.wait(time.monotonic_ns() + 10_000_000) is None
        assert time.monotonic() < deadline
    frames.sweep()
    assert frame in {frames.alloc(zero=False) for _ in range(40)}
    guest.write(frame, bytes(8))
    time.sleep(0.02)
    assert guest.read(frame, 8) == bytes(8)


def forged(guest: Guest, *, rip: int, mask: int = 0, stack: int = 0, fpstate: int = 0, flags: int = 0x202) -> int:
    """A signal frame on the guest's data page; its address."""
    words = [0] * 56
    words[1], words[2 + 1], words[3 + 1], words[5] = 4, stack, 1 << 31, 0x3000 if stack else 0
    words[1] = 6
    gregs = layout.FRAME_GREGS // 8
    words[gregs + RSP], words[gregs + RIP], words[gregs + EFLAGS] = STACK - 64, rip, flags
    words[gregs + CSGSFS] = 0x33 | 0x2B << 48
    words[layout.FRAME_FPSTATE // 8] = fpstate
    words[layout.FRAME_MASK // 8] = mask
    guest.write(guest.data[1], b"".join(word.to_bytes(8, "little") for word in words))
    return DATA + PAGE


def sigreturn(guest: Guest, frame: int) -> Any:
    """A context that touches the frame, then jumps to a system call instruction of the stub with rt_sigreturn's number."""
    code = 0x58_0000
    guest.write(guest.map(code, execute=True), assemble("mov rax, [rsp]\n mov eax, 15\n jmp rdx"))
    ctx = guest.context(pc=code, sp=frame + 8)
    ctx.regs[RDX] = syscall_sites()[0]
    return ctx


@pytest.mark.parametrize("mask", [0, 1 << 9, (1 << 64) - 1])
def test_forged_sigreturn_that_blocks_the_kick(arena: Arena, mask: int) -> None:
    guest = Guest(arena.machine, "2: jmp 2b")
    ctx = sigreturn(guest, forged(guest, rip=CODE, mask=mask))
    assert arena.attack(ctx, 0.05).kind == (DEAD if mask else INTERRUPT)
    if mask:
        assert "kick" in ctx.reason or "SIGSEGV" in ctx.reason  # its first fetch is a fault that it blocks


@pytest.mark.parametrize("stack", [DATA, SLOT0 + 0x5000, layout.STUB, 0x1000, 0xFFFF_FFFF_0000_0000])
def test_forged_altstack(arena: Arena, stack: int) -> None:
    guest = Guest(arena.machine, "1: mov eax, 39\n syscall\n jmp 1b")
    for i in range(4):
        guest.set_entry(DATA + i * PAGE, guest.entry(DATA + i * PAGE) | FMT.accessed | FMT.dirty)
    ctx = sigreturn(guest, forged(guest, rip=CODE, stack=stack))
    arena.attack(ctx, 0.1)


@pytest.mark.parametrize("fpstate", [DATA, 0x10, 1 << 62, SLOT0 + 0x1000])
def test_forged_fp_pointer(arena: Arena, fpstate: int) -> None:
    guest = Guest(arena.machine, "1: mov eax, 39\n syscall\n jmp 1b")
    arena.attack(sigreturn(guest, forged(guest, rip=CODE, fpstate=fpstate)), 0.1)


def test_bad_fp_image_in_the_slot(arena: Arena) -> None:
    """A sibling's scribbling makes the host refuse the frame at sigreturn."""
    guest = Guest(arena.machine, "1: mov eax, 39\n syscall\n jmp 1b")
    ctx = run(arena.machine, guest.context())
    ctx.slot.fp[512:520] = b"\xff" * 8
    ctx.slot.fp[24:28] = b"\xff" * 4
    got = arena.attack(ctx, 0.1)
    assert got.kind in (DEAD, EXCEPTION, SYSCALL)


# ---- registers that make no sense


@pytest.mark.parametrize("sp", [0, 1, STACK - 61, 1 << 63, (1 << 64) - 8, SLOT0 + 0x3F00, layout.STUB])
def test_any_stack_pointer(arena: Arena, sp: int) -> None:
    guest = Guest(arena.machine, "1: mov eax, 39\n syscall\n jmp 1b")
    ctx = guest.context(sp=sp)
    for _ in range(3):
        assert run(arena.machine, ctx).kind == SYSCALL
        assert ctx.regs[RSP] == sp


@pytest.mark.parametrize("selectors", [0, (1 << 64) - 1, 0x10, 0x08, 0x33, 0x2B << 48 | 0x3, 0xFFFF << 48 | 0x33])
def test_any_selectors(arena: Arena, selectors: int) -> None:
    guest = Guest(arena.machine, "1: mov eax, 39\n syscall\n jmp 1b")
    ctx = guest.context()
    ctx.regs[CSGSFS] = selectors
    assert run(arena.machine, ctx).kind == SYSCALL
    assert ctx.regs[CSGSFS] & 0xFFFF == 0x33


@pytest.mark.parametrize("flags", [0, (1 << 64) - 1, 0x100, 0x40000, 0x4000, 0x3000, 0x20000, IF | 0x400])
def test_any_flags(arena: Arena, flags: int) -> None:
    guest = Guest(arena.machine, "1: mov eax, 39\n syscall\n pushf\n pop rbx\n jmp 1b")
    ctx = guest.context()
    ctx.regs[EFLAGS] = flags
    for _ in range(8):
        got = run(arena.machine, ctx)
        assert got.kind in (SYSCALL, EXCEPTION)
        assert got.regs[EFLAGS] & 0x3000 == 0  # IOPL
        assert got.regs[EFLAGS] & IF


@pytest.mark.parametrize("pc", [0, 1 << 47, 1 << 63, (1 << 64) - 1, 0xFFFF_8000_0000_0000, layout.STUB - 1, SLOT0])
def test_any_program_counter(arena: Arena, pc: int) -> None:
    got = arena.attack(Guest(arena.machine, "ud2").context(pc=pc), 0.05, serve=0)
    assert got.kind in (FAULT, EXCEPTION, DEAD)


@pytest.mark.parametrize("step", range(0, 0x400, 0x40))
def test_jump_anywhere_into_the_stub(arena: Arena, step: int) -> None:
    guest = Guest(arena.machine, "ud2", data_pages=1)
    for offset in range(step, step + 0x40, 7):
        ctx = guest.context(pc=layout.STUB + offset)
        ctx.regs[RDI] = ctx.regs[RCX] = SLOT0
        if arena.attack(ctx, 0.005, serve=1).kind == DEAD:
            guest = Guest(arena.machine, "ud2", data_pages=1)


# ---- death from outside


def test_stub_killed_from_outside(arena: Arena) -> None:
    ctx = Guest(arena.machine, "2: jmp 2b").context()
    arena.machine.resume(ctx)
    arena.machine.wait(time.monotonic_ns() + 10_000_000)
    os.kill(ctx.space.process.pid, signal.SIGKILL)
    assert arena.machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert (ctx.kind, "SIGKILL" in ctx.reason) == (DEAD, True)


def test_a_stub_that_dies_in_an_ordered_operation_is_reported_once(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = arena.machine
    guest = Guest(machine, WITNESS)
    ctx = run(machine, guest.context())
    guest.space.hint(DATA, DATA + PAGE)

    def dies(*unused: object) -> None:
        os.kill(ctx.space.process.pid, signal.SIGKILL)
        raise StubDied("it died in an operation")

    monkeypatch.setattr(machine.listener, "expect", dies)
    machine.resume(ctx)
    assert machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert ctx.kind == DEAD
    assert machine.wait(time.monotonic_ns() + 50_000_000) is None


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGUSR1, signal.SIGTRAP, signal.SIGSYS])
def test_signal_from_outside_is_a_spurious_trap(arena: Arena, number: int) -> None:
    ctx = Guest(arena.machine, "2: jmp 2b").context()
    arena.machine.resume(ctx)
    arena.machine.wait(time.monotonic_ns() + 10_000_000)
    os.kill(ctx.space.process.pid, number)
    assert arena.machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert ctx.kind == INTERRUPT


def test_zygote_killed_from_outside(tmp_path: Path) -> None:
    machine = host.HostMachine(Ram(64 << 20, shared=True), 2)
    ctx = run(machine, Guest(machine, WITNESS).context())
    os.kill(machine.crew.zygote.process.pid, signal.SIGKILL)
    time.sleep(0.02)
    assert run(machine, ctx).kind == SYSCALL
    other = Guest(machine, WITNESS).context()
    assert run(machine, other).kind == DEAD
    assert "zygote" in other.reason
    machine.close()


def test_no_process_is_left_when_the_kernel_is_killed() -> None:
    here = Path(__file__).resolve().parents[2]
    program = textwrap.dedent("""
        import sys, time
        from hostmachine_util import Guest, run
        from trapline.machine.host import HostMachine
        from trapline.machine.ram import Ram
        m = HostMachine(Ram(64 << 20, shared=True), 2)
        a, b = Guest(m, "2: jmp 2b"), Guest(m, "1: mov eax, 110\\n syscall\\n jmp 1b")
        c = run(m, b.context())
        m.resume(a.context())
        time.sleep(0.02)
        print(m.crew.zygote.process.pid, a.space.process.pid, b.space.process.pid, flush=True)
        while 1:
            m.crew.new_process()
    """)
    path = f"{here}/src:{here}/tests/unit"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, text=True
    )
    assert child.stdout is not None
    pids = list(map(int, child.stdout.readline().split()))
    assert len(pids) == 3
    session = os.getsid(pids[0])
    child.kill()
    child.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (left := in_session(session)):
        time.sleep(0.02)
    assert not left


def in_session(session: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(stat[3]) == session and stat[0] != "Z":
                found.append(int(name))
    return found


def test_kick_blocker_dies_while_another_guest_keeps_the_kernel_busy(arena: Arena) -> None:
    guest = Guest(arena.machine, "2: jmp 2b")
    blocker = sigreturn(guest, forged(guest, rip=CODE, mask=1 << 9))
    guest.space.hint(CODE, CODE + PAGE)  # its code page must be mapped before signals are masked
    machine, busy = arena.machine, arena.witness
    machine.resume(blocker)
    machine.resume(busy)
    deadline = time.monotonic() + 6
    kicked = False
    while time.monotonic() < deadline:
        got = machine.wait(time.monotonic_ns() + 10_000_000)
        if got is blocker:
            if got.kind == DEAD:
                break
            machine.resume(got)
        elif got is not None:
            machine.resume(got)
        if not kicked and time.monotonic() > deadline - 5.8:
            kicked = True
            machine.kick(blocker)
    assert blocker.kind == DEAD
    while machine.wait(time.monotonic_ns() + 100_000_000) is not busy:
        pass


def test_full_directory_of_extents_starts_anew(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trapline.machine.host.space.MAX_EXTENTS", 8)
    pages = 40
    guest = Guest(
        arena.machine,
        f"mov ecx, {pages}\n mov rsi, {DATA}\n 1: mov byte ptr [rsi], 7\n add rsi, 8192\n dec ecx\n jnz 1b\n syscall",
    )
    for i in range(pages):
        guest.map(DATA + i * 2 * PAGE)
    assert run(arena.machine, guest.context()).kind == SYSCALL
    assert len(guest.space.tlb) <= 8
