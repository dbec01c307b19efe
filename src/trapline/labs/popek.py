"""P3: Popek and Goldberg's condition, instruction by instruction, on the host's processor and on the RISC-V machine."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trapline.abi import signal as sig
from trapline.labs.code.probes import Answer, Probe, ask
from trapline.labs.code.sensitive import ALWAYS_TRAPS, INNOCUOUS, LEAKS, MODES, PRIVILEGED, Finding, classify
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    choice,
    refuted,
    supported,
    switch,
)

EXPLAIN = """
Popek and Goldberg (1974) asked which computers can run a guest's kernel in user mode, under a monitor that gets control
whenever it matters. An instruction is sensitive if it changes how the machine is set up (control sensitive), or if what it
does depends on that or on the mode (behaviour sensitive). It is privileged if it traps in user mode. If every sensitive
instruction is privileged, the monitor can let the guest run and emulate what traps. If one is not, the guest's kernel gets an
answer that is not its own, and nobody notices: the instruction leaks.

x86 had 17 such instructions (Robin and Irvine, 2000). They are executed here in user mode. 'Leaks' means that the processor
carried it out and what is in the last column came back: the real selector of the code segment with the mode in its low bits,
the interrupt flag as it really is, limits and rights of the host kernel's segments. popfq is the worst: it is asked to clear
the interrupt flag, does not, and says nothing. Processors with UMIP trap SGDT, SIDT, SLDT, STR and SMSW, and Linux then gives
made-up values. That is seen here by the time: to trap and be emulated takes more than a thousand cycles, to execute takes
tens. CPUID is not among the 17, but a hypervisor makes it trap: it may take thousands.

On the RISC-V machine the definition itself is put to the test, for every instruction and every control register. Each is
executed from equal registers in user mode, S-mode and M-mode, and under two different settings of the machine (interrupts,
trap vectors, scratch registers, delegation, address-space number). Sensitive is what ends differently or changes the
settings; privileged is what traps in user mode. Nothing may be sensitive and not privileged.

Try: --counters=on lets user mode read cycle, time and instret, as Linux does: whether that leaks is a matter of definition
(they show how much the machine has done, which a monitor may want to hide), so it is a setting, and trapped when it is off.
--mode=S executes the same as a guest's kernel in S-mode: what is sensitive works and does not trap, so nothing holds it.
--machine host leaves RISC-V out.

Limits: what page tables do is not an instruction's doing, and both processors leave it to shadow page tables or a second
stage. Extensions that are switched for user mode as a whole (floating point, shadow stacks) must be set the same for the
guest.
"""
EMULATED_TICKS = 600  #: more than the same code takes that does not trap, on any processor since 2010


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


_KEEP = "49890424"  # mov [r12], rax
_TARGET = "488d05{:02x}000000" + "41890424" + "8cc8" + "4189442404"  # [r12] = cs:rip + that, as a far pointer
#: Robin and Irvine's, but for INT n, which is a way in and traps; each leaves what it was told at [r12]. The first and the last
#: are not of them
X86 = tuple(
    Probe(name, _hex(code), note)
    for name, code, note in (
        ("nop", "90", ""),
        ("sgdt", "410f010424", "kernel's segments"), ("sidt", "410f010c24", "its trap vectors"),
        ("sldt", "410f000424", "local segments"), ("str", "410f000c24", "task segment"),
        ("smsw", "410f012424", "half of CR0"), ("pushfq", "9c418f0424", "interrupt flag"),
        ("popfq", "9c48812424fffdffff9d9c418f0424", "after clearing it"),
        ("lar", "b8100000000f02c0" + _KEEP, "kernel segment's rights"),
        ("lsl", "b8100000000f03c0" + _KEEP, "its size"),
        ("verr", "b82b0000000f00e00f94c00fb6c0" + _KEEP, "it is readable"),
        ("verw", "b82b0000000f00e80f94c00fb6c0" + _KEEP, "it is writable"),
        ("mov rax, cs", "8cc8" + _KEEP, "low bits: the mode"), ("push fs", "0fa0418f0424", "a segment"),
        ("pop fs", "6a000fa1", "loads a segment"),
        ("jmp far", _TARGET.format(15) + "41ff2c24", "code segment"),
        ("call far", _TARGET.format(17) + "41ff1c24" + "eb01" + "cb", "code segment"),
        ("retfq", "8cc850" + "488d050300000050" + "48cb" + "8cc8" + _KEEP, "code segment"),
        ("cpuid", "b8010000000fa2" + _KEEP, "processor"),
    )
)  # fmt: skip
CONTROLS = ("nop", "cpuid")
UMIP = Probe("umip", _hex("b80700000031c90fa24889c8" + _KEEP))  #: whether the processor has it: leaf 7, ecx, bit 2


def measure(knobs: Knobs, progress: Progress) -> Figures:
    figures: Figures = {"mode": knobs.text("mode")}
    if knobs.machine == "host":
        progress("the host's processor, in user mode")
        *found, umip = ask((*X86, UMIP), "host")
        figures["x86"] = [_row(probe, answer, found[0].ticks) for probe, answer in zip(X86, found, strict=True)]
        figures["umip"] = bool(umip.value[0] & 4)
    progress(f"every instruction and register of the RISC-V machine, in {knobs.text('mode')}-mode")
    every = classify(MODES[knobs.text("mode")], knobs.on("counters"))
    figures["riscv"] = dict(Counter(each.kind for each in every))
    figures["by extension"] = _by_extension(every)
    figures["each"] = {each.subject.name: each.kind for each in every}
    figures["leaking"] = [{"what": each.subject.name, "depends on": each.depends} for each in every if each.kind == LEAKS]
    return figures


def _row(probe: Probe, answer: Answer, nothing: int) -> dict[str, Any]:
    ticks = max(0, answer.ticks - nothing)
    if probe.name == "nop":
        kind = "executes"
    elif answer.signo:
        kind = f"traps: {sig.NAMES[answer.signo]}"
    else:
        kind = "traps, emulated" if ticks > EMULATED_TICKS else LEAKS
    value = int.from_bytes(answer.value[:10] if probe.name in ("sgdt", "sidt") else answer.value[:8], "little")
    return {"instruction": probe.name, "kind": kind, "ticks": ticks, "value": f"{value:#x}", "tells": probe.note}


def _by_extension(every: list[Finding]) -> list[dict[str, Any]]:
    counts: dict[str, Counter[str]] = {}
    for each in every:
        counts.setdefault(each.subject.extension, Counter())[each.kind] += 1
    return [{"extension": name, **found} for name, found in counts.items()]


def draw(figures: Figures) -> list[Chart]:
    charts: list[Chart] = []
    if "x86" in figures:
        rows = [tuple(each[key] for key in ("instruction", "kind", "ticks", "value", "tells")) for each in figures["x86"]]
        heads = ("instruction", "what it does", "cycles", "answer", "tells")
        has = "has UMIP" if figures["umip"] else "has no UMIP"
        charts.append(Table(f"The host's processor, in user mode; it {has}", heads, rows))
    kinds = (ALWAYS_TRAPS, PRIVILEGED, INNOCUOUS, LEAKS)
    charts.append(Bars(f"The RISC-V machine: instructions and registers, tried in {figures['mode']}-mode",
                       [(kind, figures["riscv"].get(kind, 0)) for kind in kinds]))  # fmt: skip
    rows = [(each["extension"], *(each.get(kind, 0) for kind in kinds)) for each in figures["by extension"]]
    charts.append(Table("The same by extension; --json has each", ("extension", *kinds), rows))
    leaking = [(each["what"], each["depends on"]) for each in figures["leaking"]]
    if leaking:
        charts.append(Table("What leaks there", ("what", "its effect depends on, or is"), leaking))
    return charts


def verdict(figures: Figures) -> Verdict:
    counts, leaking = figures["riscv"], len(figures["leaking"])
    why = f"RISC-V: {counts.get(PRIVILEGED, 0)} of {sum(counts.values())} trap in {figures['mode']}-mode, {leaking} leak"
    holds = leaking == 0 and counts.get(PRIVILEGED, 0) > 0
    if "x86" in figures:
        kinds = Counter(each["kind"].partition(":")[0] for each in figures["x86"] if each["instruction"] not in CONTROLS)
        why += "; x86: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        holds = holds and kinds[LEAKS] > 0
    return supported(why) if holds else refuted(why)


LAB = Lab(
    id="P3", name="popek", title="Popek and Goldberg, instruction by instruction",
    question="Does everything trap that a guest's kernel must not do by itself?",
    claim="On RISC-V all sensitive instructions trap in user mode, so a guest's kernel can be held there; on x86 not all.",
    machines=("host", "board"), seconds=1, off="--mode=S", explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        choice("mode", "U", "where the guest's kernel would run on RISC-V", "U", "S"),
        switch("counters", "let lower modes read cycle, time and instret", False),
    ),
)  # fmt: skip
