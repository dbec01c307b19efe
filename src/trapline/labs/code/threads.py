"""A program of several threads, each of which counts in memory that it finds by its thread pointer alone (FS base, tp).

    DATA + 0        threads that have ended
    DATA + 8        x86-64: selector of FS, base of FS, limits of CS and SS, stack pointer; ticks of arch_prctl, of wrfsbase
    TLS + 64 n      thread n's own: its address, what it has counted, how often it found another address than at first
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from trapline.labs.code import x86
from trapline.labs.code.elf import DATA, TEXT, static
from trapline.labs.code.text import assemble

TLS, OWN, STACKS, STACK = DATA + 0x1000, 64, DATA + 0x4000, 0x1000
TAKE = 0x2000
ROUNDS = 100
_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM, _SETTLS = 0x100, 0x200, 0x400, 0x800, 0x10000, 0x40000, 0x80000
_FLAGS = _VM | _FS | _FILES | _SIGHAND | _THREAD | _SYSVSEM
_SET_FS = 0x1002
_REPEATS = 20


class Thread(NamedTuple):
    own: int  #: the address that its memory has in itself
    counted: int
    strayed: int  #: how often its pointer led elsewhere than at first


class Segments(NamedTuple):
    """What x86-64 says of its segments; `set_by_call` and `set_by_instruction`: ticks to set the base of FS."""

    selector: int
    base: int
    code_limit: int
    stack_limit: int
    stack_pointer: int
    set_by_call: int
    set_by_instruction: int


def program(machine: str, threads: int, settls: bool) -> bytes:
    flags = _FLAGS | (_SETTLS if settls else 0)
    code, arch = (_riscv(threads, flags), "riscv64") if machine == "riscv" else (_x86(threads, flags), "x86_64")
    return static(arch, code, data_bytes=0x4000 + STACK * (threads + 1))


def threads_of(data: bytes, threads: int) -> list[Thread]:
    """The first is the one that made the others, and counts nothing itself."""
    at = TLS - DATA
    return [Thread(*struct.unpack_from("<3Q", data, at + OWN * n)) for n in range(threads + 1)]


def segments_of(data: bytes) -> Segments:
    return Segments(*struct.unpack_from("<7Q", data, 8))


def _own(n: int) -> int:
    return TLS + OWN * n


def _x86(threads: int, flags: int) -> bytes:
    code = x86.X86(TEXT)
    _look(code)
    for n in range(threads + 1):
        code.mov(x86.RAX, _own(n))
        code.store(x86.RAX, 0, x86.RAX)
    code.syscall(158, _SET_FS, _own(0))
    for n in range(1, threads + 1):
        code.syscall(56, flags, STACKS + STACK * (n + 1), 0, 0, _own(n))
        code.zero(x86.RCX)
        code.compare(x86.RAX, x86.RCX)
        code.jump_if("z", "thread")
    code.mov(x86.R12, DATA)
    code.mov(x86.R13, threads)
    code.label("wait")
    code.syscall(24)  # sched_yield
    code.load(x86.RCX, x86.R12)
    code.compare(x86.RCX, x86.R13)
    code.jump_if("nz", "wait")
    code.syscall(231, 0)
    code.label("thread")
    code.mov(x86.R12, ROUNDS)
    code.raw(bytes.fromhex("644c8b2c2500000000"))  # mov r13, fs:[0]
    code.label("again")
    code.raw(bytes.fromhex("6448ff042508000000"))  # inc qword fs:[8]
    code.syscall(24)
    code.raw(bytes.fromhex("644c8b342500000000"))  # mov r14, fs:[0]
    code.compare(x86.R13, x86.R14)
    code.jump_if("z", "same")
    code.raw(bytes.fromhex("6448ff042510000000"))  # inc qword fs:[16]
    code.label("same")
    code.add_constant(x86.R12, -1)
    code.jump_if("nz", "again")
    code.mov(x86.R12, DATA)
    code.raw(bytes.fromhex("f0 49ff0424"))  # lock inc qword [r12]
    code.syscall(60, 0)
    return code.link()


def _look(code: x86.X86) -> None:
    """Selector, base and limits; and what it takes to set the base of FS, by a call and by an instruction."""
    code.mov(x86.R12, DATA + 8)
    code.syscall(158, _SET_FS, _own(0))
    # mov eax, fs; rdfsbase rax; mov ecx, cs and lsl rax, rcx; mov ecx, ss and lsl rax, rcx; mov rax, rsp
    for n, words in enumerate(("8ce0", "f3480fae c0", "8cc9 480f03c1", "8cd1 480f03c1", "4889e0")):
        code.zero(x86.RAX)
        code.raw(bytes.fromhex(words))
        code.store(x86.R12, 8 * n, x86.RAX)
    for n, words in enumerate(("0f05", "f3480faed6")):  # syscall; wrfsbase rsi
        code.mov(x86.RBX, _REPEATS)
        code.mov(x86.R13, 1 << 40)
        code.label(f"set {n}")
        code.read_tsc(x86.R14)
        code.mov(x86.RDI, _SET_FS)
        code.mov(x86.RSI, _own(0))
        code.mov(x86.RAX, 158)
        code.raw(bytes.fromhex(words))
        code.read_tsc(x86.R15)
        code.sub(x86.R15, x86.R14)
        code.compare(x86.R15, x86.R13)
        code.jump_if("nc", f"slower {n}")
        code.copy(x86.R13, x86.R15)
        code.label(f"slower {n}")
        code.add_constant(x86.RBX, -1)
        code.jump_if("nz", f"set {n}")
        code.store(x86.R12, 40 + 8 * n, x86.R13)


_RISCV_THREAD = """
wait:
    li a7, 124                  # sched_yield
    ecall
    li t0, DATA
    ld t0, 0(t0)
    li t1, THREADS
    bne t0, t1, wait
    li a0, 0
    li a7, 94
    ecall
thread:
    li s0, ROUNDS
    ld s1, 0(tp)
again:
    ld t0, 8(tp)
    addi t0, t0, 1
    sd t0, 8(tp)
    li a7, 124
    ecall
    ld t0, 0(tp)
    beq t0, s1, same
    ld t0, 16(tp)
    addi t0, t0, 1
    sd t0, 16(tp)
same:
    addi s0, s0, -1
    bnez s0, again
    li t0, DATA
    li t1, 1
    amoadd.d t1, t1, (t0)
    li a0, 0
    li a7, 93
    ecall
"""


def _riscv(threads: int, flags: int) -> bytes:
    lines = [f"li t0, {_own(n)}\n sd t0, 0(t0)" for n in range(threads + 1)]
    lines.append(f"li tp, {_own(0)}")
    for n in range(1, threads + 1):
        stack = STACKS + STACK * (n + 1)
        lines.append(f"li a0, {flags}\n li a1, {stack}\n li a2, 0\n li a3, {_own(n)}\n li a4, 0")
        lines.append("li a7, 220\n ecall\n beqz a0, thread")
    names = {"DATA": DATA, "THREADS": threads, "ROUNDS": ROUNDS}
    return assemble("\n".join(lines) + _RISCV_THREAD, TEXT, names).link()
