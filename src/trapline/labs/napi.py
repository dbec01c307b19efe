"""I4: polling, interrupts, and NAPI's hybrid: where the curves cross."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from trapline.labs.code import packets
from trapline.labs.code.packets import HYBRID, INTERRUPTS, POLLING, Load, Outcome
from trapline.labs.framework.charts import Chart, Lines, Point, Table
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
A driver learns that packets have come in one of two ways. By interrupt: at once, and at no cost while nothing comes, but each
packet costs a trap, saved registers, a talk with the interrupt controller, a return and a switch. By polling: it looks at the
card every so often; that costs the same whether anything comes or not, and a packet waits until somebody looks.

Under overload interrupts fail in a worse way: the handler runs before everything else, so it takes packets out of the card
that the application never gets to, as its CPU time goes to the handler. Delivered packets become fewer as more come: receive
livelock (Mogul and Ramakrishnan, 1996). Linux's NAPI is both: the first packet interrupts; the handler turns the card's
interrupt off and lets the kernel poll, a budget of packets at a time, until the card is empty; then interrupts are on again.

The lab has a network card for the RISC-V board and three drivers in machine code, on the bare machine. Packets come at a
rate, at irregular moments; each needs --work instructions of the application. What is left over goes to other work. Counted
are the packets that the application got done, how many instructions passed from the arrival to that, and the driver's share
of the processor: everything that is neither the application nor other work.

Look at: the driver's share on the left, where interrupts are cheaper, and where it crosses; the delivered packets on the
right. The hybrid should be like interrupts at low rates and like polling at high ones; in between it still pays for
interrupts that polling saves. Nothing here is random: each run gives the same.

Try: --every=4000 makes polling cheap and late. --budget=1 lets the hybrid stop after each packet. --without masking: the
hybrid's handler leaves the card's interrupts on, as the plain interrupt driver does.

Limits: the card holds 64 packets and loses what comes then, as real ones do. There is no cache to warm or to pollute, so
interrupts are cheaper here than on a real processor.
"""
RATES = (1, 2, 5, 10, 20, 30, 40, 60, 100, 200, 400)  #: packets in 10 000 instructions
DRIVERS = (POLLING, INTERRUPTS, HYBRID)


def measure(knobs: Knobs, progress: Progress) -> Figures:
    work, units = knobs.number("work"), knobs.number("instructions")
    drivers: dict[str, list[dict[str, Any]]] = {each: [] for each in DRIVERS}
    for rate in RATES:
        progress(f"{rate} packets in 10 000 instructions")
        for name in DRIVERS:
            driver = INTERRUPTS if name == HYBRID and not knobs.on("masking") else name
            outcome = packets.run(driver, Load(rate, work, units), every=knobs.number("every"), budget=knobs.number("budget"))
            drivers[name].append(_row(rate, outcome, work, units))
    figures: Figures = {"work": work, "drivers": drivers}
    figures["costs_more"] = _first(figures, "share", lambda polling, interrupts: interrupts > polling)
    figures["delivers_less"] = _first(figures, "delivered", lambda polling, interrupts: interrupts < 0.95 * polling)
    return figures


def _row(rate: int, outcome: Outcome, work: int, units: int) -> dict[str, Any]:
    busy = outcome.other + outcome.delivered * work
    return {
        "rate": rate, "offered": outcome.offered, "delivered": outcome.delivered, "interrupts": outcome.interrupts,
        "latency": median(outcome.latency) if outcome.latency else None, "other": round(100 * outcome.other / units, 2),
        "share": round(max(0.0, 100 * (units - busy) / units), 2),
    }  # fmt: skip


def _first(figures: Figures, what: str, crossed: Any) -> int | None:
    """The lowest rate from which on interrupts stand so to polling."""
    rows = figures["drivers"]
    pairs = zip(rows[POLLING], rows[INTERRUPTS], strict=True)
    return next((polling["rate"] for polling, interrupts in pairs if crossed(polling[what], interrupts[what])), None)


def draw(figures: Figures) -> list[Chart]:
    rows = figures["drivers"]
    x = "packets offered in 10 000 instructions"

    def series(what: str) -> dict[str, Sequence[Point]]:
        return {name: [(each["rate"], each[what]) for each in rows[name] if each[what] is not None] for name in DRIVERS}

    cost = [(figures["costs_more"], "interrupts begin to cost more")] if figures["costs_more"] else []
    lost = [(figures["delivers_less"], "interrupts begin to deliver less")] if figures["delivers_less"] else []
    table = [
        (each["rate"], *(rows[name][n][what] for what in ("delivered", "interrupts") for name in DRIVERS))
        for n, each in enumerate(rows[POLLING])
    ]
    first, *others = DRIVERS
    heads = ("rate", f"done: {first}", *others, f"traps: {first}", *others)
    return [
        Lines("The driver's share of the processor, %", x, "%", series("share"), log_x=True, marks=cost),
        Lines("Packets that the application got done", x, "packets", series("delivered"), log_x=True, marks=lost),
        Lines("From arrival to that, half of the packets", x, "instructions", series("latency"), log_x=True, log_y=True),
        Table("Packets and interrupts", heads, table),
    ]


def verdict(figures: Figures) -> Verdict:
    rows = figures["drivers"]
    low, high = ({name: rows[name][end] for name in DRIVERS} for end in (0, -1))
    why = (
        f"at the lowest rate the driver takes {low[POLLING]['share']} % polling, {low[INTERRUPTS]['share']} % by interrupts, "
        f"{low[HYBRID]['share']} % as hybrid; at the highest it delivers {high[POLLING]['delivered']}, "
        f"{high[INTERRUPTS]['delivered']} and {high[HYBRID]['delivered']} packets; interrupts cost more from a rate of "
        f"{figures['costs_more']} on, deliver less from {figures['delivers_less']} on"
    )
    crossed = low[INTERRUPTS]["share"] < low[POLLING]["share"]
    crossed = crossed and high[INTERRUPTS]["delivered"] < high[POLLING]["delivered"] / 2
    best = low[HYBRID]["share"] < low[POLLING]["share"] and high[HYBRID]["delivered"] > 0.9 * high[POLLING]["delivered"]
    quick = low[HYBRID]["latency"] < low[POLLING]["latency"]
    return supported(why) if crossed and best and quick else refuted(why)


LAB = Lab(
    id="I4", name="napi", title="Polling, interrupts, and NAPI",
    question="Should a driver wait to be interrupted, or look for itself?",
    claim="Interrupts are better at low rates, polling at high ones; NAPI's hybrid is quick and cheap at both ends.",
    machines=("board",), seconds=3, off="--without masking", explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        number("work", 200, "instructions of the application for each packet", 10, 10_000),
        number("every", 400, "instructions of other work between two looks of the polling driver", 10, 100_000),
        number("budget", 16, "packets that the hybrid takes in a row", 1, 64),
        number("instructions", 40_000, "for each rate and driver", 20_000, 10_000_000),
        switch("masking", "let the hybrid turn interrupts off while it polls"),
    ),
)  # fmt: skip
