"""Probes: instructions that user code executes one by one, and what came of each.

The program installs one handler for every signal that an instruction can raise. Before each probe it notes where to go on; the
handler writes down what it is told, and changes the program counter in its frame, so that sigreturn goes on there.

    record, 128 bytes: signal, si_code, si_addr, trap number, error code, 1 if the probe was executed to its end, ticks of the
    fastest execution (x86-64), then what the probe itself leaves there (64 bytes)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from trapline.abi import riscv64 as rv
from trapline.abi import signal as sig
from trapline.abi import x86_64 as pc
from trapline.labs.code import guest, x86
from trapline.labs.code.elf import DATA, TEXT, static
from trapline.labs.code.text import X, assemble

if TYPE_CHECKING:
    from trapline.embed import Kernel
    from trapline.kernel.task.task import Task

RECORD, VALUE = 128, 64
SIGNALS = (sig.SIGILL, sig.SIGTRAP, sig.SIGBUS, sig.SIGFPE, sig.SIGSEGV)
#: where the frame has what a handler reads and changes, in bytes from its ucontext
_X86_RIP, _X86_ERROR, _X86_TRAP, _RISCV_PC = 40 + 8 * pc.RIP, 40 + 8 * pc.ERR, 40 + 8 * pc.TRAPNO, 176
_RESTORER = 0x0400_0000
REPEATS = 20


class Probe(NamedTuple):
    """Some code. x86-64: r12 points to 64 bytes for it, rax, rcx and rdx are 0; r8 to r15 are not to be changed, nor rsp.
    riscv64: what it leaves in a0 is kept; s2 and s3 are not to be changed."""

    name: str
    code: bytes
    note: str = ""


class Answer(NamedTuple):
    """What came of one. signo is 0 if there was no signal."""

    signo: int
    code: int
    address: int
    vector: int
    error: int
    executed: bool
    ticks: int
    value: bytes


def ask(probes: Sequence[Probe], machine: str, prepare: guest.Prepare | None = None) -> list[Answer]:
    """Have user code on `machine` execute them. Raises TimeoutError."""
    size = RECORD * len(probes)
    image = program(probes, machine)
    out = guest.run(image, machine=machine, take=size, prepare=prepare)
    return answers(out.data)


def program(probes: Sequence[Probe], machine: str) -> bytes:
    """The whole ELF file. It writes its records to descriptor 1, and leaves them at DATA."""
    size = RECORD * len(probes)
    code, arch = (_riscv(probes, size), "riscv64") if machine == "riscv" else (_x86(probes, size), "x86_64")
    return static(arch, code, data_bytes=size + 4096)


def answers(data: bytes) -> list[Answer]:
    found = []
    for at in range(0, len(data), RECORD):
        signo, code, address, vector, error, executed, ticks = struct.unpack_from("<Qi4xQQQQQ", data, at)
        found.append(Answer(signo, code, address, vector, error, bool(executed), ticks, data[at + VALUE : at + RECORD]))
    return found


def forgive(machine: str, kernel: Kernel) -> None:
    """From now on the kernel sends no signal for an exception: it goes on behind the probe, as if nothing had happened."""
    here, resume = (rv.PC, X["s2"]) if machine == "riscv" else (pc.RIP, pc.R15)

    def skip(task: Task) -> None:
        task.ctx.regs[here] = task.ctx.regs[resume]

    kernel.system.hooks.exception = skip  # type: ignore[method-assign]


def forgiving(machine: str) -> Callable[[Kernel], None]:
    return partial(forgive, machine)


def _x86(probes: Sequence[Probe], size: int) -> bytes:
    code = x86.X86(TEXT)
    for each in SIGNALS:
        code.syscall(13, each, "action", 0, 8)  # rt_sigaction
    for n, probe in enumerate(probes):
        code.mov(x86.R14, DATA + RECORD * n)
        code.lea(x86.R12, x86.R14, VALUE)
        code.mov(x86.R15, f"after {n}")
        code.mov(x86.R9, REPEATS)
        code.mov(x86.R11, 1 << 40)
        code.label(f"again {n}")
        code.read_tsc(x86.R8)
        for each in (x86.RAX, x86.RCX, x86.RDX):
            code.zero(each)
        code.raw(probe.code)
        code.read_tsc(x86.R10)
        code.sub(x86.R10, x86.R8)
        code.compare(x86.R10, x86.R11)
        code.jump_if("nc", f"slower {n}")
        code.copy(x86.R11, x86.R10)
        code.label(f"slower {n}")
        code.add_constant(x86.R9, -1)
        code.jump_if("nz", f"again {n}")
        code.mov(x86.R13, 1)
        code.store(x86.R14, 40, x86.R13)
        code.store(x86.R14, 48, x86.R11)
        code.label(f"after {n}")
    code.syscall(1, 1, DATA, size)  # write
    code.syscall(231, 0)  # exit_group
    x86_handler(code)
    return code.link()


def x86_handler(code: x86.X86) -> None:
    """rdi: signal; rsi: siginfo; rdx: ucontext; r14 and r15 are as they were."""
    code.label("handler")
    code.store(x86.R14, 0, x86.RDI)
    for source, offset, to in (
        (x86.RSI, 8, 8), (x86.RSI, 16, 16), (x86.RDX, _X86_TRAP, 24), (x86.RDX, _X86_ERROR, 32),
    ):  # fmt: skip
        code.load(x86.RAX, source, offset)
        code.store(x86.R14, to, x86.RAX)
    code.store(x86.RDX, _X86_RIP, x86.R15)
    code.ret()
    code.label("restorer")
    code.syscall(15)  # rt_sigreturn
    code.label("action")
    x86_action(code, "handler", "restorer")


def x86_action(code: x86.X86, handler: str, restorer: str) -> None:
    """A struct kernel_sigaction, for rt_sigaction(2) itself."""
    for word in (handler, sig.SA_SIGINFO | sig.SA_NODEFER | _RESTORER, restorer, 0):
        if isinstance(word, str):
            code.at_label(word, 8, lambda at, to: struct.pack("<Q", to))
        else:
            code.raw(struct.pack("<Q", word))


_RISCV_HANDLER = """
handler:                    # a0: signal; a1: siginfo; a2: ucontext; s2 and s3 are as they were
    sd a0, 0(s3)
    ld t0, 8(a1)
    sd t0, 8(s3)
    ld t0, 16(a1)
    sd t0, 16(s3)
    sd s2, PC(a2)
    ret
.align 8
action: .quad handler, FLAGS, 0
"""


def _riscv(probes: Sequence[Probe], size: int) -> bytes:
    lines = [f"li a0, {each}; la a1, action; li a2, 0; li a3, 8; li a7, 134; ecall" for each in SIGNALS]  # rt_sigaction
    lines.append("li s3, DATA; li s4, 1")
    for n, probe in enumerate(probes):
        words = ", ".join(str(each) for (each,) in struct.iter_unpack("<I", probe.code))
        lines.append(f"la s2, after{n}; .word {words}; sd s4, 40(s3); sd a0, {VALUE}(s3)")
        lines.append(f"after{n}: addi s3, s3, {RECORD}")
    lines.append("li a0, 1; li a1, DATA; li a2, SIZE; li a7, 64; ecall; li a0, 0; li a7, 94; ecall")  # write, exit_group
    names = {"DATA": DATA, "SIZE": size, "PC": _RISCV_PC, "FLAGS": sig.SA_SIGINFO | sig.SA_NODEFER}
    return assemble("\n".join(lines).replace("; ", "\n") + _RISCV_HANDLER, TEXT, names).link()
