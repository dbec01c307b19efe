"""The host machine without a kernel: hand-made guests, one mechanism each."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import Any

import hostmachine_util
import pytest
from hostmachine_util import CODE, DATA, PAGE, STACK, Guest, run, until

from trapline.abi.x86_64 import (
    AC,
    BP,
    CSGSFS,
    DB,
    DE,
    EFLAGS,
    GP,
    R10,
    RAX,
    RBX,
    RCX,
    RDI,
    RIP,
    RSI,
    RSP,
    TF,
    UD,
    USER32_CS,
)
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
)
from trapline.machine.paging.entry import X86_64 as FMT

host = pytest.importorskip("trapline.machine.host")
if sys.platform != "linux" or os.uname().machine != "x86_64":
    pytest.skip("the host machine is for x86-64 Linux", allow_module_level=True)

machine = hostmachine_util.machine  # a fixture
GETPPID_LOOP = "1: mov eax, 110\n syscall\n jmp 1b"
SPIN = "1: inc rbx\n jmp 1b"
A, D = FMT.accessed, FMT.dirty


# ---- system calls


def test_syscall_round_trip(machine: Any) -> None:
    guest = Guest(machine, "mov eax, 39\n mov edi, 7\n mov r10, -1\n syscall\n mov rbx, rax\n mov eax, 60\n syscall")
    ctx = run(machine, guest.context())
    assert (ctx.kind, ctx.entry, ctx.regs[RAX], ctx.regs[RDI]) == (SYSCALL, ENTRY_SYSCALL, 39, 7)
    assert ctx.regs[R10] == (1 << 64) - 1
    assert guest.ram.mem[(guest.entry(CODE) & FMT.pfn_mask) + ctx.regs[RIP] - CODE - 2] == 0x0F
    ctx.regs[RAX] = 4242
    run(machine, ctx)
    assert (ctx.regs[RAX], ctx.regs[RBX]) == (60, 4242)


def test_int80_is_told_from_syscall(machine: Any) -> None:
    ctx = run(machine, Guest(machine, "mov eax, 20\n int 0x80\n ud2").context())
    assert (ctx.kind, ctx.entry, ctx.regs[RAX]) == (SYSCALL, ENTRY_INT80, 20)


def test_x32_number_is_a_trap_like_any_other(machine: Any) -> None:
    ctx = run(machine, Guest(machine, "mov eax, 0x40000027\n syscall").context())
    assert (ctx.kind, ctx.entry, ctx.regs[RAX]) == (SYSCALL, ENTRY_SYSCALL, 0x40000027)


def test_32_bit_code_traps(machine: Any) -> None:
    guest = Guest(machine, ".code32\n mov eax, 20\n mov ebx, 5\n int 0x80\n mov ecx, eax\n int 0x80")
    ctx = guest.context()
    ctx.regs[CSGSFS] = USER32_CS
    run(machine, ctx)
    assert (ctx.entry, ctx.regs[RAX], ctx.regs[RBX], ctx.regs[CSGSFS] & 0xFFFF) == (ENTRY_INT80, 20, 5, USER32_CS)
    ctx.regs[RAX] = 77
    assert run(machine, ctx).regs[RCX] == 77


def test_vsyscall_page(machine: Any) -> None:
    guest = Guest(machine, "mov rax, 0xffffffffff600400\n call rax\n ud2")
    ctx = run(machine, guest.context())
    if ctx.kind == FAULT:
        assert (ctx.addr, ctx.access) == (0xFFFFFFFFFF600400, EXEC)
    else:
        assert (ctx.kind, ctx.entry, ctx.regs[RAX]) == (SYSCALL, ENTRY_VSYSCALL, 201)
        assert ctx.regs[RSP] == STACK - 64
        assert CODE < ctx.regs[RIP] < CODE + 16


# ---- page faults: fills, A and D, permissions


def test_fault_that_the_tables_permit_is_no_trap_and_sets_accessed_and_dirty(machine: Any) -> None:
    guest = Guest(machine, f"mov rax, [{DATA}]\n syscall\n mov qword ptr [{DATA + PAGE}], 5\n syscall")
    ctx = run(machine, guest.context())
    assert ctx.kind == SYSCALL
    assert guest.entry(DATA) & (A | D) == A
    assert not guest.entry(DATA + PAGE) & D
    run(machine, ctx)
    assert guest.entry(DATA + PAGE) & (A | D) == A | D
    assert guest.read(guest.data[1], 8) == (5).to_bytes(8, "little")
    assert not guest.entry(DATA) & D


def test_first_write_after_read_sets_dirty(machine: Any) -> None:
    guest = Guest(machine, f"mov rax, [{DATA}]\n syscall\n mov byte ptr [{DATA}], 5\n syscall")
    ctx = run(machine, guest.context())
    assert not guest.entry(DATA) & D
    assert run(machine, ctx).kind == SYSCALL
    assert guest.entry(DATA) & D


@pytest.mark.parametrize(
    ("source", "access", "present"),
    [
        ("mov rax, [0x900000]", READ, 0),
        ("mov [0x900000], rax", WRITE, 0),
        ("mov rax, 0x900000\n jmp rax", EXEC, 0),
        (f"mov [{CODE}], rax", WRITE, 1),
        (f"mov rax, {DATA}\n jmp rax", EXEC, 1),
    ],
)
def test_faults_are_reported_as_our_tables_explain_them(machine: Any, source: str, access: int, present: int) -> None:
    ctx = run(machine, Guest(machine, source).context())
    assert (ctx.kind, ctx.access) == (FAULT, access)
    assert ctx.code == 4 | present | {READ: 0, WRITE: 2, EXEC: 16}[access]
    assert ctx.addr in (0x900000, CODE, DATA)


def test_kernel_page_is_not_for_user_code(machine: Any) -> None:
    guest = Guest(machine, f"mov rax, [{DATA}]")
    guest.set_entry(DATA, guest.entry(DATA) & ~FMT.user)
    ctx = run(machine, guest.context())
    assert (ctx.kind, ctx.addr, ctx.code) == (FAULT, DATA, 5)


def test_fault_is_retried_after_the_kernel_fixed_the_table(machine: Any) -> None:
    guest = Guest(machine, "mov rbx, [0x900008]\n syscall")
    ctx = run(machine, guest.context())
    assert ctx.kind == FAULT
    guest.write(guest.map(0x900000), b"abcdefgh", 8)
    assert run(machine, ctx).kind == SYSCALL
    assert ctx.regs[RBX] == int.from_bytes(b"abcdefgh", "little")


def test_faults_around_take_contiguous_pages_in_one_go(machine: Any) -> None:
    guest = Guest(machine, f"mov rsi, {DATA}\n 1: mov byte ptr [rsi], 1\n add rsi, 4096\n dec ecx\n jnz 1b\n syscall")
    pfn = guest.ram.frames.alloc(5)
    for i in range(32):
        guest.map(DATA + i * PAGE, pfn + i, flags=A | D)
    ctx = guest.context()
    ctx.regs[RCX] = 32
    run(machine, ctx)
    assert ctx.kind == SYSCALL
    assert guest.space.tlb.covering(DATA + 31 * PAGE)[:3] == (DATA, DATA + 32 * PAGE, pfn << 12)


def test_huge_page(machine: Any) -> None:
    guest = Guest(machine, "mov rbx, [0x4000000 + 0x12345]\n mov qword ptr [0x41fff00], 9\n syscall")
    pfn = guest.ram.frames.alloc(9)
    guest.write(pfn, b"\x07" + bytes(7), 0x12345)
    guest.set_entry(0x4000000, FMT.leaf(pfn, read=True, write=True, execute=False) | FMT.large, level=1)
    ctx = run(machine, guest.context())
    assert (ctx.kind, ctx.regs[RBX]) == (SYSCALL, 7)
    assert guest.ram.words[guest.word(0x4000000, 1)] & (A | D) == A | D
    assert guest.space.tlb.covering(0x4000000)[:2] == (0x4000000, 0x4200000)


def test_nothing_is_mapped_over_the_stub(machine: Any) -> None:
    guest = Guest(machine, "mov rbx, [rdi]\n syscall")
    top = machine.arch.task_size
    guest.map(top - PAGE)
    guest.map(top + 0x3000, flags=A | D)
    ctx = guest.context()
    ctx.regs[RDI] = top + 0x3000  # neither text nor slots: a hole in the stub's region
    assert (run(machine, ctx).kind, ctx.addr) == (FAULT, top + 0x3000)
    ctx.regs[RDI] = top - PAGE
    assert run(machine, ctx).kind == SYSCALL


def test_hint_loads_pages_without_faults(machine: Any) -> None:
    guest = Guest(machine, f"syscall\n mov rbx, [{DATA}]\n mov rbx, [{DATA + 3 * PAGE}]\n syscall")
    ctx = run(machine, guest.context())
    guest.space.hint(DATA, DATA + 4 * PAGE)
    run(machine, ctx)
    assert guest.space.tlb.covering(DATA + PAGE) is not None
    assert guest.entry(DATA + PAGE) & (A | D) == A


# ---- shoot-downs


def test_flush_makes_the_next_access_walk_again(machine: Any) -> None:
    guest = Guest(machine, f"1: mov rbx, [{DATA}]\n syscall\n jmp 1b")
    ctx = run(machine, guest.context())
    guest.write(guest.map(DATA), b"\x55")
    guest.space.flush(DATA, DATA + PAGE)
    assert run(machine, ctx).regs[RBX] == 0x55
    guest.set_entry(DATA, 0)
    guest.space.flush(DATA, DATA + PAGE)
    assert (run(machine, ctx).kind, ctx.addr) == (FAULT, DATA)


def test_flush_while_another_context_runs(machine: Any) -> None:
    guest = Guest(machine, f"1: mov [{DATA}], rbx\n mov rcx, [{DATA}]\n inc rbx\n jmp 1b")
    one, other = guest.context(), guest.context(pc=CODE)
    machine.resume(one)
    machine.resume(other)
    deadline = time.monotonic() + 5
    while not guest.read(guest.data[0], 8).strip(b"\0") and time.monotonic() < deadline:
        machine.wait(time.monotonic_ns() + 1_000_000)
    for _ in range(20):
        guest.set_entry(DATA, 0)
        guest.space.flush(DATA, DATA + PAGE)
        frame = guest.read(guest.data[0], 8)
        time.sleep(0.001)
        assert guest.read(guest.data[0], 8) == frame, "a CPU wrote to the frame after flush had returned"
        guest.set_entry(DATA, FMT.leaf(guest.data[0], read=True, write=True, execute=False))
        stop = time.monotonic() + 5
        while guest.read(guest.data[0], 8) == frame and time.monotonic() < stop:
            ctx = machine.wait(time.monotonic_ns() + 1_000_000)
            if ctx is not None:
                assert ctx.kind in (FAULT, INTERRUPT)
                machine.resume(ctx)
        assert guest.read(guest.data[0], 8) != frame


def test_downgrade_keeps_reading_and_stops_writing(machine: Any) -> None:
    guest = Guest(machine, f"1: mov rbx, [{DATA}]\n syscall\n mov [{DATA}], rbx\n jmp 1b")
    ctx = run(machine, run(machine, guest.context()))
    assert guest.space.tlb.covering(DATA)[3] & 2
    guest.set_entry(DATA, guest.entry(DATA) & ~FMT.write)
    guest.space.flush(0, machine.arch.task_size, downgrade=True)
    assert guest.space.tlb.covering(DATA)[3] == 1
    run(machine, ctx)
    assert (ctx.kind, ctx.addr, ctx.access, ctx.code) == (FAULT, DATA, WRITE, 7)


def test_exec_into_another_space(machine: Any) -> None:
    old, new = Guest(machine, "mov ebx, 1\n syscall"), Guest(machine, "mov ebx, 2\n syscall")
    ctx = run(machine, old.context())
    ctx.space = new.space
    old.space.close()
    ctx.regs[RIP] = CODE
    assert run(machine, ctx).regs[RBX] == 2


# ---- exceptions


@pytest.mark.parametrize(
    ("source", "vector"),
    [
        ("ud2", UD),
        ("xor ecx, ecx\n div ecx", DE),
        ("int3", BP),
        ("hlt", GP),
        ("mov rax, 0x8000000000000000\n mov rax, [rax]", GP),
        ("mov rax, 0x8000000000000000\n jmp rax", GP),
        ("pushf\n or dword ptr [rsp], 0x40000\n popf\n mov rax, [rsp+1]", AC),
        ("mov eax, 3\n mov ds, eax\n mov eax, 0x53\n mov ss, eax", GP),
    ],
)
def test_exceptions(machine: Any, source: str, vector: int) -> None:
    guest = Guest(machine, source)
    ctx = run(machine, guest.context())
    assert (ctx.kind, ctx.vector) == (EXCEPTION, vector)
    ctx.regs[RIP] = CODE  # it can go on
    assert run(machine, ctx).vector == vector


def test_single_step(machine: Any) -> None:
    ctx = Guest(machine, "nop\n nop\n nop").context()
    ctx.regs[EFLAGS] |= TF
    assert (run(machine, ctx).vector, ctx.regs[RIP]) == (DB, CODE + 1)
    assert (run(machine, ctx).vector, ctx.regs[RIP]) == (DB, CODE + 2)


# ---- running


def test_kick_ends_an_infinite_loop(machine: Any) -> None:
    ctx = Guest(machine, SPIN).context()
    for _ in range(100):  # a busy host may not have let it run in the first while
        machine.resume(ctx)
        assert machine.wait(time.monotonic_ns() + 20_000_000) is None
        machine.kick(ctx)
        assert machine.wait(time.monotonic_ns() + 10_000_000_000) is ctx
        assert ctx.kind == INTERRUPT
        if ctx.regs[RBX] > 1000:
            break
    assert ctx.regs[RBX] > 1000


def test_two_spaces_run_at_once(machine: Any) -> None:
    guests = [Guest(machine, GETPPID_LOOP) for _ in range(2)]
    counts = {id(guest): 0 for guest in guests}

    def serve(ctx: Any) -> None:
        counts[id(ctx.owner)] += 1
        machine.resume(ctx)

    for guest in guests:
        machine.resume(guest.context())
    until(machine, lambda: min(counts.values()) > 500, serve)


def test_two_contexts_of_one_space_run_at_once(machine: Any) -> None:
    guest = Guest(machine, f"1: lock inc qword ptr [{DATA}]\n 2: pause\n cmp byte ptr [{DATA}], 2\n jne 2b\n syscall")
    contexts = [guest.context(), guest.context()]
    for ctx in contexts:
        machine.resume(ctx)
    done: list[Any] = []

    def serve(ctx: Any) -> None:
        if ctx.kind == INTERRUPT:
            machine.resume(ctx)
        else:
            assert ctx.kind == SYSCALL
            done.append(ctx)

    until(machine, lambda: len(done) == 2, serve)
    assert len(guest.space.process.slots) == 2


def test_deadline_ring_and_watched_descriptors(machine: Any) -> None:
    start = time.monotonic_ns()
    assert machine.wait(start + 30_000_000) is None
    assert time.monotonic_ns() >= start + 30_000_000
    assert machine.wait(0) is None
    machine.ring()
    assert machine.wait(None) is None
    threading.Timer(0.02, machine.ring).start()
    assert machine.wait(None) is None
    reader, writer = os.pipe()
    machine.watch(reader, select.EPOLLIN)
    os.write(writer, b"x")
    assert machine.wait(None) is None
    assert machine.ready == [(reader, select.EPOLLIN)]
    machine.ready.clear()
    machine.watch(reader, 0)
    machine.watch(reader, 0)
    os.write(writer, b"x")
    assert machine.wait(time.monotonic_ns() + 5_000_000) is None
    assert machine.ready == []
    os.close(reader)
    os.close(writer)


def test_watched_descriptor_is_seen_while_a_guest_keeps_trapping(machine: Any) -> None:
    ctx = run(machine, Guest(machine, GETPPID_LOOP).context())
    reader, writer = os.pipe()
    machine.watch(reader, select.EPOLLIN)
    os.write(writer, b"x")
    for _ in range(500):
        machine.resume(ctx)
        machine.wait(None)
    assert machine.ready
    os.close(reader)
    os.close(writer)


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())


def test_close_leaves_no_process(machine: Any) -> None:
    guests = [Guest(machine, GETPPID_LOOP) for _ in range(3)]
    for guest in guests:
        run(machine, guest.context())
    guests[0].space.flush(0, machine.arch.task_size)
    guests[0].space.close()
    guests[1].space.close()
    before = children()
    machine.close()
    machine.close()
    after = children()
    assert before - after
    for pid in after & before:
        assert "stub" not in Path(f"/proc/{pid}/comm").read_text()


def test_many_spaces_one_after_another(machine: Any) -> None:
    for _ in range(50):
        guest = Guest(machine, GETPPID_LOOP, data_pages=0)
        run(machine, guest.context())
        guest.space.close()
    machine.wait(time.monotonic_ns() + 50_000_000)
    assert machine.crew.count()[0] <= 1


def test_resume_in_a_space_whose_process_died(machine: Any) -> None:
    guest = Guest(machine, GETPPID_LOOP)
    ctx = run(machine, guest.context())
    os.kill(guest.space.process.pid, 9)
    time.sleep(0.02)
    machine.resume(ctx)
    assert machine.wait(time.monotonic_ns() + 2_000_000_000) is ctx
    assert ctx.kind == DEAD
    assert "SIGKILL" in ctx.reason
    assert ctx.regs[RSI] == 0
