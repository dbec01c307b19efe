"""M6: segments, and what is left of them: the pointer to a thread's own memory."""

from __future__ import annotations

from trapline.labs.code import guest, threads
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    number,
    refuted,
    supported,
    switch,
)

EXPLAIN = """
A segment is a range of memory: a base, which the processor adds to each address, and a limit, which it compares with.
Descriptors in tables of the kernel's (GDT, LDT) say both, and a segment register selects one. Before paging that was how
memory was shared out.

In 64-bit code almost nothing of it is left. Bases of CS, DS, ES and SS count as 0, and limits are not looked at: lsl still
reads a limit of 4 GiB out of the descriptors, and the program's stack lies far above that, and is used all the time. Only FS
and GS have kept a base, of 64 bits, in a register of the processor and not in a descriptor: the selector is 0. C libraries
have FS point to the memory that is a thread's own (its errno, its __thread variables). RISC-V has a register that does
nothing else, tp.

The threads of this lab's program share all memory, and each finds its own by FS or tp alone: it counts there, gives the CPU
away, and looks whether the pointer still leads to the same place. clone(2) has set it (CLONE_SETTLS), and at each switch from
one thread to another the kernel and the machine must take it along, or the counts would mix.

Look at: on x86-64 the base can be set in two ways, by a call (arch_prctl) and, since FSGSBASE, by an instruction of user
mode, which does not cross the line. The lab prices both.

Try: --without settls: the threads are made without a pointer of their own, all have their parent's, and count in the same
place. --machine riscv.

Limits: modify_ldt(2) and 32-bit segments are not there on this kernel, so no segment with a limit that counts can be made.
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    count = knobs.number("threads")
    progress(f"{count} threads")
    image = threads.program(knobs.machine, count, knobs.on("settls"))
    out = guest.run(image, machine=knobs.machine, take=threads.TAKE)
    figures: Figures = {
        "machine": knobs.machine, "rounds": threads.ROUNDS,
        "threads": [each._asdict() for each in threads.threads_of(out.data, count)],
    }  # fmt: skip
    if knobs.machine == "host":
        figures["segments"] = threads.segments_of(out.data)._asdict()
    return figures


def draw(figures: Figures) -> list[Chart]:
    pointer = "FS base" if figures["machine"] == "host" else "tp"
    names = ["the first thread's", *(f"thread {n}'s" for n in range(1, len(figures["threads"])))]
    found_there = zip(names, figures["threads"], strict=True)
    rows = [(name, f"{each['own']:#x}", each["counted"], each["strayed"]) for name, each in found_there]
    charts: list[Chart] = [Table(f"Memory found by {pointer}", ("whose", "where", "counted there", "strayed"), rows)]
    found = figures.get("segments")
    if found:
        what = (
            ("selector in FS", f"{found['selector']:#x}", "no descriptor"),
            ("base of FS", f"{found['base']:#x}", "in a register"),
            ("limit of CS", f"{found['code_limit']:#x}", "by lsl"), ("limit of SS", f"{found['stack_limit']:#x}", "by lsl"),
            ("stack pointer", f"{found['stack_pointer']:#x}", "beyond that limit, and in use"),
        )  # fmt: skip
        charts.append(Table("Segments in 64-bit code", ("what", "value", ""), what))
        prices = (("arch_prctl, a call", found["set_by_call"]), ("wrfsbase, an instruction", found["set_by_instruction"]))
        charts.append(Bars("To set the base of FS", prices, "cycles", log=True))
    return charts


def verdict(figures: Figures) -> Verdict:
    parent, *others = figures["threads"]
    rounds = figures["rounds"]
    own = [each for each in others if each["counted"] == rounds and not each["strayed"]]
    why = f"{len(own)} of {len(others)} threads counted to {rounds} in their own memory, {parent['counted']} in their parent's"
    good = len(own) == len(others) and not parent["counted"]
    found = figures.get("segments")
    if found:
        beyond = found["stack_pointer"] > found["stack_limit"]
        why += f"; the stack lies {'beyond' if beyond else 'within'} its segment's limit"
        good = good and beyond and not found["selector"] and found["base"] != 0
    return supported(why) if good else refuted(why)


LAB = Lab(
    id="M6", name="segments", title="Segments and thread pointers",
    question="What is left of segments, and how does a thread find its own memory?",
    claim="Bases and limits of segments no longer divide memory; FS base (RISC-V: tp) leads each thread to its own.",
    machines=("host", "riscv"), seconds=1, off="--without settls",
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        number("threads", 4, "how many", 2, 32),
        switch("settls", "give each thread a pointer of its own when it is made"),
    ),
)  # fmt: skip
