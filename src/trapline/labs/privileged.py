"""P1: what becomes of a privileged instruction in user mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from trapline.abi import signal as sig
from trapline.labs.code.probes import Answer, Probe, ask, forgiving
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import Figures, Knobs, Lab, Progress, Verdict, refuted, supported, switch
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.isa.declare import OPS
from trapline.machine.riscv.isa.decode import encode

EXPLAIN = """
The processor knows in which mode it is. An instruction that reaches devices, interrupts, the translation of addresses or the
mode itself is carried out in the kernel's mode only; in user mode the processor does not begin it, but traps: it switches to
the kernel, at an address that the kernel chose, with the address of the instruction and a reason. On x86-64 the reason is
mostly vector 13, general protection (#GP); for instructions that do not exist in user mode at all it is vector 6, invalid
opcode (#UD). RISC-V has one cause for both, number 2, illegal instruction. The kernel has no use for the instruction; it
makes a signal of the trap.

The program of this lab executes one such instruction after the other. Its handler writes down what it is told (signal,
si_code, and on x86-64 the trap number that is in its frame), sets the program counter in the frame behind the instruction,
and returns. 'executed' in the table would mean that the processor did it. The first and the last probes are there to show
that the method can tell: they are no privileged instructions.

On the host machine this is your own processor, in its user mode. On the RISC-V machine every instruction that the manual
reserves for S-mode or M-mode is tried, and all 4096 numbers of control registers, by reading them.

Try: --machine riscv. --without signals gives the program a kernel that goes on behind the instruction without a signal: the
processor still refuses, but nobody is told.

Limits: IN and OUT are allowed in user mode where a kernel gives a program the right to ports (ioperm(2)), and rdpmc where it
sets CR4.PCE; this kernel does neither. Whether reading a counter (cycle, time, instret) is allowed on RISC-V is the kernel's
choice, too: mcounteren and scounteren.
"""


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


CONTROLS = ("nop", "cpuid", "rdtsc", "addi", "ld")  #: not privileged
X86 = tuple(
    Probe(name, _hex(code), note)
    for name, code, note in (
        ("nop", "90", "nothing"), ("in al, dx", "ec", "device"), ("in al, 0x80", "e480", "device"),
        ("out dx, al", "ee", "device"), ("insb", "6c", "device"),
        ("outsb", "6e", "device"), ("hlt", "f4", "processor"), ("cli", "fa", "interrupts"),
        ("sti", "fb", "interrupts"), ("mov rax, cr0", "0f20c0", "mode"), ("mov rax, cr3", "0f20d8", "translation"),
        ("mov cr3, rax", "0f22d8", "translation"), ("mov rax, cr8", "440f20c0", "interrupts"),
        ("mov rax, dr7", "0f21f8", "debugging"), ("mov dr7, rax", "0f23f8", "debugging"), ("clts", "0f06", "mode"),
        ("lmsw ax", "0f01f0", "mode"), ("rdmsr", "0f32", "model registers"), ("wrmsr", "0f30", "model registers"),
        ("rdpmc", "0f33", "counters"), ("lgdt [r12]", "410f011424", "segments"), ("lidt [r12]", "410f011c24", "interrupts"),
        ("lldt ax", "0f00d0", "segments"), ("ltr ax", "0f00d8", "segments"), ("invlpg [r12]", "410f013c24", "translation"),
        ("invd", "0f08", "caches"), ("wbinvd", "0f09", "caches"), ("swapgs", "0f01f8", "segments"),
        ("sysretq", "480f07", "mode"), ("xsetbv", "0f01d1", "mode"), ("stac", "0f01cb", "mode"), ("clac", "0f01ca", "mode"),
        ("rsm", "0faa", "mode"), ("rdtsc", "0f31", "time"), ("cpuid", "0fa2", "identity"),
    )
)  # fmt: skip
_EXTENSIONS = ("privileged", "Svinval", "H")
_UNPRIVILEGED = ("ecall", "ebreak")  #: they are there for user mode


_CODES = {
    ("SIGSEGV", sig.SI_KERNEL): "SI_KERNEL", ("SIGILL", sig.ILL_ILLOPN): "ILL_ILLOPN", ("SIGILL", sig.ILL_ILLOPC): "ILL_ILLOPC",
}  # fmt: skip
_VECTORS = {0: "", 6: "6 #UD", 13: "13 #GP"}


def riscv_probes() -> list[Probe]:
    """The instructions that are not for user mode, and all control registers."""
    ops = [op for op in OPS if op.extension in _EXTENSIONS and op.name not in _UNPRIVILEGED]
    control = Probe("addi", _word(encode("addi", rd=10, imm=7)), "I")
    return [control, *(Probe(op.name, _word(op.match), op.extension) for op in ops)]


def registers() -> list[Probe]:
    names = {number: name for name, number in NUMBERS.items()}
    return [Probe(names.get(n, f"{n:#05x}"), _word(encode("csrrs", rd=10, csr=n))) for n in range(4096)]


def _word(raw: int) -> bytes:
    return raw.to_bytes(4, "little")


def measure(knobs: Knobs, progress: Progress) -> Figures:
    prepare = None if knobs.on("signals") else forgiving(knobs.machine)
    probes = riscv_probes() if knobs.machine == "riscv" else X86
    progress(f"{len(probes)} instructions in user mode")
    rows = [_row(probe, answer) for probe, answer in zip(probes, ask(probes, knobs.machine, prepare), strict=True)]
    figures: Figures = {"machine": knobs.machine, "instructions": rows}
    if knobs.machine == "riscv":
        progress("4096 control registers in user mode")
        every = registers()
        figures["registers"] = _by_level(every, ask(every, knobs.machine, prepare))
    return figures


def _row(probe: Probe, answer: Answer) -> dict[str, Any]:
    return {
        "instruction": probe.name, "of": probe.note, "executed": answer.executed,
        "signal": sig.NAMES[answer.signo], "code": answer.code, "vector": answer.vector,
    }  # fmt: skip


def _by_level(probes: Sequence[Probe], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Of the registers of each mode: how many numbers there are, how many trapped, which could be read."""
    found = []
    for level, mode in enumerate(("user", "supervisor", "hypervisor", "machine")):
        mine = [(p, a) for n, (p, a) in enumerate(zip(probes, answers, strict=True)) if n >> 8 & 3 == level]
        read = [p.name for p, a in mine if a.executed]
        signals = Counter(sig.NAMES[a.signo] for _, a in mine if a.signo)
        found.append({"mode": mode, "numbers": len(mine), "signals": dict(signals), "read": read})
    return found


def draw(figures: Figures) -> list[Chart]:
    rows = figures["instructions"]
    shown = []
    for each in rows:
        end = "executed" if each["executed"] else "trapped, " + (each["signal"] or "nobody was told")
        vector = _VECTORS.get(each["vector"], str(each["vector"]))
        shown.append((each["instruction"], each["of"], end, _CODES.get((each["signal"], each["code"]), ""), vector))
    heads = ("instruction", "about", "in user mode", "si_code", "vector")
    charts: list[Chart] = [Table(f"Instructions, in user mode of {figures['machine']}", heads, shown)]
    if "registers" in figures:
        levels = figures["registers"]
        bars = [(f"{each['mode']} ({each['numbers']} numbers)", len(each["read"])) for each in levels]
        charts.append(Bars("Control registers that user mode could read, by whose they are", bars))
    return charts


def verdict(figures: Figures) -> Verdict:
    controls = [each for each in figures["instructions"] if each["instruction"] in CONTROLS]
    tried = [each for each in figures["instructions"] if each["instruction"] not in CONTROLS]
    done = [each["instruction"] for each in tried if each["executed"]]
    silent = [each for each in tried if not each["executed"] and not each["signal"]]
    kinds = Counter(each["signal"] for each in tried)
    registers_read = [name for level in figures.get("registers", ())[1:] for name in level["read"]]
    why = f"of {len(tried)} instructions {len(done)} were executed; " + ", ".join(
        f"{count} became {name}" if name else f"of {count} nobody was told" for name, count in sorted(kinds.items())
    )
    if "registers" in figures:
        above = sum(each["numbers"] for each in figures["registers"][1:])
        why += f"; of {above} register numbers above user level {len(registers_read)} could be read"
        silent += [each for each in figures["registers"][1:] if not each["signals"]]
    good = not done and not silent and not registers_read and all(each["executed"] for each in controls)
    return supported(why) if good else refuted(why)


LAB = Lab(
    id="P1", name="privileged", title="Privileged instructions",
    question="What happens to a program that executes an instruction of the kernel's?",
    claim="In user mode privileged instructions are not carried out: they trap, and the kernel makes a signal of the trap.",
    machines=("host", "riscv"), seconds=1, off="--without signals",
    knobs=(switch("signals", "let the kernel make signals of exceptions"),),
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
)  # fmt: skip
