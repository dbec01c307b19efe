"""V5: the same packets through a kernel, and past it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from trapline.labs.code import bypass
from trapline.labs.code.bypass import BYPASS, KERNEL, SIZE, Outcome
from trapline.labs.framework.charts import Bars, Chart, Lines, Point, Table
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
A program that gets its packets from the kernel pays for each: a system call, saved and restored registers, a copy from the
kernel's buffer to its own. Kernel bypass, as in DPDK, maps the card into the program: its registers and the memory that it
writes packets to. The program talks to the card itself, by loads and stores, and reads the packets where they are.

The lab has both on the bare RISC-V board, with the same card and the same packets: a kernel in M-mode, a program in user
mode, PMP between them. The kernel path is a call that waits for a packet (wfi, so that the processor rests), takes it from
the card, and copies its bytes; in batches, it brings as many as there are, up to --batch. On the other path PMP opens the
card's registers to the program, which looks at them again and again. In both the program adds up all words of all packets,
and the lab compares the sum, so nothing is left out.

Look at: how many packets get done when more come than can be. Batches save the crossings, and most of the difference that is
left is the copy. Then look at the processor's share at low rates, on the left: the kernel sleeps until a packet comes, the
program that polls never does.

What it costs besides: nobody stands between program and card any more. The kernel cannot say which packets are whose, filter,
count or share the card with a second program; and a card that writes to memory by itself obeys the program now, so it also
takes an IOMMU to keep it from the memory of others (this board has none).

Try: --without grant. PMP keeps the card closed, and the first load from it traps.

Limits: the kernel here has no protocols; with them both paths would have more to do. Batches wait for no further packets.
"""
RATES = (1, 5, 10, 20, 30, 40, 60, 80, 120)  #: packets in 10 000 instructions
CALLS, BATCHES, PAST = "kernel", "kernel, batches", "bypass"


def measure(knobs: Knobs, progress: Progress) -> Figures:
    units = knobs.number("instructions")
    paths: dict[str, list[dict[str, Any]]] = {CALLS: [], BATCHES: [], PAST: []}
    for rate in RATES:
        progress(f"{rate} packets in 10 000 instructions")
        for name, path, batch in ((CALLS, KERNEL, 1), (BATCHES, KERNEL, knobs.number("batch")), (PAST, BYPASS, 1)):
            outcome = bypass.run(path, rate, units, batch=batch, granted=knobs.on("grant"))
            paths[name].append(_row(rate, outcome, units))
    return {"paths": paths, "size": SIZE}


def _row(rate: int, outcome: Outcome, units: int) -> dict[str, Any]:
    return {
        "rate": rate, "offered": outcome.offered, "done": outcome.done, "whole": outcome.whole, "crossings": outcome.crossings,
        "latency": median(outcome.latency) if outcome.latency else None, "share": round(100 * outcome.instructions / units, 1),
    }  # fmt: skip


def draw(figures: Figures) -> list[Chart]:
    paths, x = figures["paths"], "packets offered in 10 000 instructions"

    def series(what: str) -> dict[str, Sequence[Point]]:
        return {name: [(each["rate"], each[what]) for each in rows if each[what] is not None] for name, rows in paths.items()}

    last = {name: rows[-1] for name, rows in paths.items()}
    copied = {CALLS: figures["size"], BATCHES: figures["size"], PAST: 0}
    table = [(name, each["done"], each["crossings"], copied[name]) for name, each in last.items()]
    heads = ("path", "packets done", "traps", "bytes copied for each packet")
    return [
        Lines("Packets done", x, "packets", series("done"), log_x=True),
        Lines("How long the processor was busy, %", x, "%", series("share"), log_x=True),
        Lines("From arrival until taken, half of them", x, "instructions", series("latency"), log_x=True, log_y=True),
        Bars("Packets done at the highest rate", [(name, each["done"]) for name, each in last.items()]),
        Table("At the highest rate", heads, table),
    ]


def verdict(figures: Figures) -> Verdict:
    paths = figures["paths"]
    high = {name: rows[-1] for name, rows in paths.items()}
    low = {name: rows[0] for name, rows in paths.items()}
    whole = all(each["whole"] for rows in paths.values() for each in rows)
    why = (
        f"at the highest rate {high[CALLS]['done']} packets by calls, {high[BATCHES]['done']} in batches, "
        f"{high[PAST]['done']} past the kernel, with {high[CALLS]['crossings']}, {high[BATCHES]['crossings']} and "
        f"{high[PAST]['crossings']} traps; at the lowest the processor is busy {low[CALLS]['share']:.0f} % and "
        f"{low[PAST]['share']:.0f} % of the time"
    )
    more = high[PAST]["done"] > high[BATCHES]["done"] > high[CALLS]["done"] and high[PAST]["crossings"] == 0
    price = low[PAST]["share"] > 90 > low[CALLS]["share"]
    return supported(why) if whole and more and price else refuted(why)


LAB = Lab(
    id="V5", name="bypass", title="Past the kernel",
    question="What is saved if a program talks to the network card itself?",
    claim="Kernel bypass saves crossings and copies, so more packets get done; the price is a processor that never rests.",
    machines=("board",), seconds=3, off="--without grant",
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        number("batch", 16, "packets that a call of the batching program may bring", 2, 64),
        number("instructions", 40_000, "time for each rate and path, in instructions", 20_000, 10_000_000),
        switch("grant", "let the program use the card's registers"),
    ),
)  # fmt: skip
