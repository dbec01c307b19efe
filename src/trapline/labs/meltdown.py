"""C7: reading the kernel's memory through the cache of a speculative processor, and what helps against it."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import Any

from trapline.labs.code.leak import CAREFUL, MELTDOWN, SPECTRE, TEXT, VULNERABLE, Setting, leak
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    choice,
    number,
    refuted,
    supported,
    switch,
    undecided,
)

TOGETHER, APART, FENCED = "one table", "page-table isolation", "isolation and a fence"

EXPLAIN = """
Lab M3 shows that a program's load from the kernel's memory faults. On many processors before 2018 that was not the
whole story: the value was fetched, and instructions behind the load worked on with it, until the fault was noticed
and everything was undone. All but the cache.

The program reads the kernel's secret like this, byte by byte. It flushes 256 lines of its own memory from the cache;
loads the forbidden byte; and, in the instructions behind, which never happen, loads the line whose number is the
byte. The kernel gets its fault, and lets the program go on behind it. Then the program reads all its lines and takes
the time of each by the cycle counter: one of them is fast. Its number is the byte.

The processor is a model: this project's RISC-V hart with a cache (a miss takes 100 cycles, for a step of a walk too),
on which up to 16 instructions run ahead of a fault. `--core=careful` is the same without that: there the program
finds nothing.

Page-table isolation takes the kernel out of the table that is used in user mode, all but a page of code where traps
enter. That page changes the root (satp) on the way in and again on the way out. There is then no entry, so nothing to
fetch, and nothing leaks. The price is counted by calls that do nothing: two changes of satp each, and, without
address-space identifiers (`--without asid`), everything that the TLB knew, twice.

`--attack=spectre` is the other way: no load of the program's is forbidden. It has the kernel make it. A system call
looks up a table, and checks the index first. The program calls with good indices, until the processor expects the
check to be passed, and then with one that leads to the secret: the processor runs ahead as it has learnt, and the
kernel's own code touches the line. Page-table isolation is no hindrance, for it is the kernel that reads its own
memory; a fence behind the check is (or a mask of the index). The claim is then not supported.

`--without isolation` leaves the kernel in the table in the second run, too. What is not modelled: noise, indirect
branches, and everything that makes real attacks slow.
"""

def measure(knobs: Knobs, progress: Progress) -> Figures:
    isolated = knobs.on("isolation")
    kinds = [(TOGETHER, False, False), (APART, isolated, False)]
    if knobs.text("attack") == SPECTRE:
        kinds.append((FENCED, isolated, True))
    runs = {}
    for name, apart, fence in kinds:
        progress(name)
        how = Setting(
            knobs.text("attack"), knobs.text("core"), knobs.number("calls"), apart=apart, fence=fence, asid=knobs.on("asid")
        )
        runs[name] = leak(how)._asdict()
    return {
        "attack": knobs.text("attack"), "secret": TEXT.decode(), "core": knobs.text("core"), "calls": knobs.number("calls"),
        "runs": runs,
    }  # fmt: skip


def _shown(found: list[int]) -> str:
    """What the program found; a dot for a byte of which it found nothing."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in found)


def _right(run: dict[str, Any]) -> int:
    return sum(a == b for a, b in zip(run["found"], TEXT, strict=False))


def draw(figures: Figures) -> Sequence[Chart]:
    runs, calls = figures["runs"], figures["calls"]
    rows = [
        [name, run["faults"], _shown(run["found"]), f"{_right(run)} of {len(TEXT)}", round(run["cycles"] / calls, 1)]
        for name, run in runs.items()
    ]
    heads = ("", "faults", "what the program found", "right", "cycles a call")
    return [
        Table(f"The kernel's secret is {figures['secret']!r}; the core is {figures['core']}", heads, rows),
        Bars("What a call that does nothing takes", [(name, run["cycles"] / calls) for name, run in runs.items()], "cycles"),
    ]


def verdict(figures: Figures) -> Verdict:
    together, apart = figures["runs"][TOGETHER], figures["runs"][APART]
    if not _right(together):
        return undecided(f"this core lets nothing through: {together['faults']} loads faulted, and the program found nothing")
    if figures["attack"] == SPECTRE:
        fenced = _right(figures["runs"][FENCED])
        return refuted(
            f"page-table isolation does not help against this one: the kernel's own code read {_right(apart)} of "
            f"{len(TEXT)} bytes for the program; with a fence behind its check {fenced}"
        )
    if _right(apart):
        return refuted(f"in the second run the program found {_right(apart)} of {len(TEXT)} bytes: {_shown(apart['found'])}")
    price = apart["cycles"] / together["cycles"]
    return supported(
        f"all {together['faults']} loads faulted, and yet the program read {_right(together)} of {len(TEXT)} bytes of "
        f"the kernel; with page-table isolation none, and a call takes {price:.2g} times as many cycles"
    )


LAB = Lab(
    id="C7",
    name="meltdown",
    title="Meltdown, Spectre and page-table isolation",
    question="Can a load that faults tell a program what it was not allowed to read?",
    claim="Speculative execution leaks kernel data across the boundary; page-table isolation hides kernel memory from user "
    "space, at a modest cost.",
    machines=("board",),
    seconds=2,
    knobs=(
        choice("attack", MELTDOWN, "a load of the program's, or code of the kernel's, runs ahead", MELTDOWN, SPECTRE),
        choice("core", VULNERABLE, "whether the model runs ahead of a fault", VULNERABLE, CAREFUL),
        number("calls", 200, "calls by which the price is counted", 1, 10000),
        switch("isolation", "off: the kernel is in the second table, too"),
        switch("asid", "off: the TLB is flushed at each change of tables"),
    ),
    off="--without isolation",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
