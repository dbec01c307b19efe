"""A program that goes into the kernel by every way there is, over and over, and notes what each takes.

    DATA + 0        time-stamp counter, seconds and nanoseconds of CLOCK_MONOTONIC: at the beginning, then at the end
    DATA + 0x100    for each way 24 bytes: units of its fastest round of calls (time-stamp counter; riscv64: `time`), 1 if it
                    could be gone, and the signal if it could not
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from trapline.labs.code import x86
from trapline.labs.code.elf import DATA, TEXT, static
from trapline.labs.code.probes import SIGNALS, x86_handler
from trapline.labs.code.text import assemble

RESULTS, RESULT, TAKE = 0x100, 24, 0x100 + 24 * 8
_TIMESPEC, _FUNCTION, _ASIDE = DATA + 0x800, DATA + 0x900, DATA + 0x1000
_VSYSCALL_TIME = 0xFFFF_FFFF_FF60_0400
_AT_SYSINFO_EHDR = 33


class Way(NamedTuple):
    """`crosses`: how often one call is expected to enter the kernel. `call` is the system call it amounts to."""

    name: str
    call: str
    crosses: int


X86_WAYS = (
    Way("a call of a function", "", 0), Way("syscall: getppid", "getppid", 1), Way("int 0x80: getppid", "getppid", 1),
    Way("vsyscall page: time", "time", 1), Way("syscall: clock_gettime", "clock_gettime", 1),
    Way("vDSO: clock_gettime", "clock_gettime", 0), Way("sysenter", "", 0),
)  # fmt: skip
RISCV_WAYS = (
    Way("a call of a function", "", 0), Way("ecall: getppid", "getppid", 1), Way("ecall: clock_gettime", "clock_gettime", 1),
    Way("vDSO: clock_gettime", "clock_gettime", 1),
)  # fmt: skip


class Price(NamedTuple):
    units: int  #: of a round, at best
    gone: bool
    signo: int


def x86_program(vdso_offset: int, calls: int, rounds: int) -> bytes:
    """`vdso_offset`: of clock_gettime in the vDSO; without a vDSO the program makes the system call, as C libraries do."""
    code = x86.X86(TEXT)
    code.copy(x86.RBP, x86.RSP)
    for each in SIGNALS:
        code.syscall(13, each, "action", 0, 8)  # rt_sigaction
    _find_vdso(code, vdso_offset)
    code.mov(x86.R14, _ASIDE)
    _note_time(code, DATA)
    for n in range(len(X86_WAYS)):
        _x86_way(code, n, calls, rounds)
    _note_time(code, DATA + 24)
    code.syscall(1, 1, DATA, TAKE)  # write
    code.syscall(231, 0)  # exit_group
    code.label("nothing")
    code.ret()
    code.label("ask")
    code.mov(x86.RAX, 228)
    code.raw(b"\x0f\x05")
    code.ret()
    x86_handler(code)
    return static("x86_64", code.link())


def _note_time(code: x86.X86, where: int) -> None:
    code.syscall(228, 1, where + 8)
    code.read_tsc(x86.R8)
    code.mov(x86.RSI, where)
    code.store(x86.RSI, 0, x86.R8)


def _find_vdso(code: x86.X86, offset: int) -> None:
    """rbp is the stack pointer that the program began with. The address of the function goes to _FUNCTION."""
    code.load(x86.RDI, x86.RBP)  # argc
    code.shift_left(x86.RDI, 3)
    code.add(x86.RDI, x86.RBP)
    code.add_constant(x86.RDI, 16)  # the environment
    code.zero(x86.RSI)
    code.label("environment")
    code.load(x86.RAX, x86.RDI)
    code.add_constant(x86.RDI, 8)
    code.compare(x86.RAX, x86.RSI)
    code.jump_if("nz", "environment")
    code.mov(x86.R9, _AT_SYSINFO_EHDR)
    code.mov(x86.R10, "ask")
    code.label("auxiliary")
    code.load(x86.RAX, x86.RDI)
    code.load(x86.R11, x86.RDI, 8)
    code.add_constant(x86.RDI, 16)
    code.compare(x86.RAX, x86.RSI)
    code.jump_if("z", "found")
    code.compare(x86.RAX, x86.R9)
    code.jump_if("nz", "auxiliary")
    code.lea(x86.R10, x86.R11, offset)
    code.label("found")
    code.mov(x86.RAX, _FUNCTION)
    code.store(x86.RAX, 0, x86.R10)


def _x86_way(code: x86.X86, n: int, calls: int, rounds: int) -> None:
    """rbx counts rounds, rbp calls; r12 is the least, r13 the beginning, r15 where to go on after a signal.

    sysenter is only tried where it is known to trap: on Intel's processors it enters the kernel, which returns to where a
    32-bit vDSO would have sent it from.
    """
    code.mov(x86.R15, f"after {n}")
    if X86_WAYS[n].name == "sysenter":
        _unless_amd(code, f"over {n}")
    code.mov(x86.RBX, rounds)
    code.mov(x86.R12, 1 << 40)
    code.label(f"round {n}")
    code.mov(x86.RBP, calls)
    code.read_tsc(x86.R13)
    code.label(f"call {n}")
    _x86_call(code, n)
    code.add_constant(x86.RBP, -1)
    code.jump_if("nz", f"call {n}")
    code.read_tsc(x86.RDI)
    code.sub(x86.RDI, x86.R13)
    code.compare(x86.RDI, x86.R12)
    code.jump_if("nc", f"slower {n}")
    code.copy(x86.R12, x86.RDI)
    code.label(f"slower {n}")
    code.add_constant(x86.RBX, -1)
    code.jump_if("nz", f"round {n}")
    code.mov(x86.RDI, DATA + RESULTS + RESULT * n)
    code.store(x86.RDI, 0, x86.R12)
    code.mov(x86.RAX, 1)
    code.store(x86.RDI, 8, x86.RAX)
    code.label(f"after {n}")
    code.load(x86.RAX, x86.R14)
    code.mov(x86.RDI, DATA + RESULTS + RESULT * n)
    code.store(x86.RDI, 16, x86.RAX)
    code.zero(x86.RAX)
    code.store(x86.R14, 0, x86.RAX)
    code.label(f"over {n}")


def _unless_amd(code: x86.X86, label: str) -> None:
    """Go to `label` if the processor's maker (CPUID, leaf 0) is not AuthenticAMD."""
    code.zero(x86.RAX)
    code.raw(b"\x0f\xa2")  # cpuid
    code.mov(x86.RAX, int.from_bytes(b"Auth", "little"))
    code.compare(x86.RAX, x86.RBX)
    code.jump_if("nz", label)


def _x86_call(code: x86.X86, n: int) -> None:
    if n == 0:
        code.call("nothing")
    elif n == 1:
        code.syscall(110)
    elif n == 2:
        code.mov(x86.RAX, 64)  # getppid of i386
        code.raw(b"\xcd\x80")
    elif n == 3:
        code.mov(x86.RDI, 0)
        code.mov(x86.RAX, _VSYSCALL_TIME)
        code.call_register(x86.RAX)
    elif n == 4:
        code.syscall(228, 1, _TIMESPEC)
    elif n == 6:
        code.raw(b"\x0f\x34")  # sysenter
    else:
        code.mov(x86.RDI, 1)
        code.mov(x86.RSI, _TIMESPEC)
        code.mov(x86.RAX, _FUNCTION)
        code.load(x86.RAX, x86.RAX)
        code.call_register(x86.RAX)


_RISCV_FIND = """
    ld a0, 0(sp)                # argc
    slli a0, a0, 3
    add a0, a0, sp
    addi a0, a0, 16             # the environment
environment:
    ld a1, 0(a0)
    addi a0, a0, 8
    bnez a1, environment
    li a3, 33                   # AT_SYSINFO_EHDR
auxiliary:
    ld a1, 0(a0)
    ld a2, 8(a0)
    addi a0, a0, 16
    beqz a1, found
    bne a1, a3, auxiliary
    li a4, OFFSET
    add s6, a2, a4
found:
    li s5, DATA + RESULTS
"""
_RISCV_WAY = """
    li s0, ROUNDS
    li s2, 1000000000
round{n}:
    li s1, CALLS
    csrr s3, time
call{n}:
    {body}
    addi s1, s1, -1
    bnez s1, call{n}
    csrr t0, time
    sub t0, t0, s3
    bgeu t0, s2, slower{n}
    mv s2, t0
slower{n}:
    addi s0, s0, -1
    bnez s0, round{n}
    sd s2, 0(s5)
    li t0, 1
    sd t0, 8(s5)
    addi s5, s5, RESULT
"""
_RISCV_CALLS = (
    "call nothing", "li a7, 173\n ecall", "li a0, 1\n li a1, DATA + 0x800\n li a7, 113\n ecall",
    "li a0, 1\n li a1, DATA + 0x800\n jalr ra, 0(s6)",
)  # fmt: skip


def riscv_program(vdso_offset: int, calls: int, rounds: int) -> bytes:
    names = {"DATA": DATA, "RESULTS": RESULTS, "RESULT": RESULT, "OFFSET": vdso_offset, "CALLS": calls, "ROUNDS": rounds}
    ways = "".join(_RISCV_WAY.format(n=n, body=body) for n, body in enumerate(_RISCV_CALLS))
    text = f"{_RISCV_FIND}{ways}\n li a0, 0\n li a7, 94\n ecall\nnothing: ret\n"
    return static("riscv64", assemble(text, TEXT, names).link())


def prices(data: bytes, ways: Sequence[Way]) -> list[Price]:
    """What a program left at DATA."""
    found = [struct.unpack_from("<3Q", data, RESULTS + RESULT * n) for n in range(len(ways))]
    return [Price(units, bool(gone), signo) for units, gone, signo in found]


def ns_per_tick(data: bytes) -> float:
    """Of the time-stamp counter, by the two clocks at DATA."""
    numbers: tuple[int, ...] = struct.unpack_from("<6Q", data)
    begin, begin_s, begin_ns, end, end_s, end_ns = numbers
    return ((end_s - begin_s) * 10**9 + end_ns - begin_ns) / (end - begin)


