"""Tables of the benchmark's samples, at most 80 columns wide."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from workloads import MEMORY

Samples = dict[str, dict[str, list[float]]]  # system → row → nanoseconds per operation (memory: bytes), one per round
Cell = Callable[[str, str], str]


def amount(row: str, value: float) -> str:
    if row == MEMORY:
        return f"{value / (1 << 20):.1f} MiB"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} ns"


def table(title: str, columns: Sequence[str], rows: Sequence[str], cell: Cell) -> str:
    """14 columns for the row's name, 11 for each system."""
    lines = ["", title, f"{'':14}" + "".join(f"{column:>11}" for column in columns)]
    lines += [f"{row:14}" + "".join(f"{cell(row, column):>11}" for column in columns) for row in rows]
    return "\n".join(lines)


def report(samples: Samples, rows: Sequence[str]) -> str:
    """Medians, minima, and how many times Trapline's median is each other's."""
    systems = list(samples)

    def statistic(reduce: Callable[[list[float]], float]) -> Cell:
        return lambda row, system: amount(row, reduce(samples[system][row])) if samples[system].get(row) else "-"

    def ratio(row: str, system: str) -> str:
        ours, theirs = samples["trapline"].get(row), samples[system].get(row)
        return f"{statistics.median(ours) / statistics.median(theirs):.3g}" if ours and theirs else "-"

    parts = [table("median, per operation", systems, rows, statistic(statistics.median))]
    if any(len(values) > 1 for found in samples.values() for values in found.values()):
        parts.append(table("minimum", systems, rows, statistic(min)))
    others = [system for system in systems if system != "trapline"]
    if "trapline" in systems and others:
        parts.append(table("trapline divided by … (medians; below 1: trapline takes less)", others, rows, ratio))
    return "\n".join(parts)


def markdown(samples: Samples, rows: Sequence[str]) -> str:
    """The medians as a table for docs/performance.md; what Trapline is not ahead of is marked."""
    systems = list(samples)
    lines = ["| row | " + " | ".join(systems) + " |", "|---|" + "---:|" * len(systems)]
    for row in rows:
        middle = {system: statistics.median(samples[system][row]) for system in systems if samples[system].get(row)}
        ours = middle.get("trapline")
        cells = []
        for system in systems:
            text = amount(row, middle[system]) if system in middle else "-"
            behind = ours is not None and system not in ("native", "trapline") and middle.get(system, ours) < ours
            cells.append(f"**{text}**" if behind else text)
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def medians(samples: Samples) -> Samples | dict[str, dict[str, float]]:
    return {s: {r: round(statistics.median(v), 3) for r, v in found.items()} for s, found in samples.items()}
