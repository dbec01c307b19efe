"""Samples of tasks as tables of 80 columns, in the manner of top(1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trapline.scope.strace.text import printable
from trapline.scope.views.space import amount

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.scope.views.tasks import Rates, Row, Sample

    Key = Callable[[Row, tuple[float, float, float, float]], object]

#: What tasks can be sorted by; the largest first, but for numbers and names.
KEYS: dict[str, Key] = {
    "cpu": lambda row, rate: rate[0] + rate[1],
    "user": lambda row, rate: rate[0],
    "system": lambda row, rate: rate[1],
    "wait": lambda row, rate: row.wait_ns,
    "faults": lambda row, rate: rate[2],
    "calls": lambda row, rate: rate[3],
    "rss": lambda row, rate: row.rss,
    "time": lambda row, rate: row.user_ns + row.system_ns,
    "pid": lambda row, rate: row.tid,
    "command": lambda row, rate: row.command,
}
ASCENDING = ("pid", "command")
NOTHING = (0.0, 0.0, 0.0, 0.0)
MOST_CALLS = 8  #: shown on the line of calls


def order(sample: Sample, rates: Rates, key: str, *, reverse: bool = False) -> list[Row]:
    """The rows by a name of KEYS; equal ones by number."""
    value = KEYS[key]
    rows = sorted(sample.rows, key=lambda row: row.tid)
    rows.sort(key=lambda row: value(row, rates.rows.get(row.tid, NOTHING)), reverse=(key not in ASCENDING) != reverse)  # type: ignore[arg-type,return-value]
    return rows


def summary(sample: Sample, rates: Rates) -> list[str]:
    """The lines above the table."""
    states = {letter: sum(row.state == letter for row in sample.rows) for letter in "RSTZ"}
    states["S"] += sum(row.state == "D" for row in sample.rows)
    clock = datetime.fromtimestamp(sample.clock_ns / 1e9, UTC).strftime("%H:%M:%S")
    up = sample.up_ns // 10**9
    words = ", ".join(f"{states[letter]} {name}" for letter, name in zip("RSTZ", _STATES, strict=True) if states[letter])
    number = len(sample.rows)
    busiest = sorted(rates.calls.items(), key=lambda item: (-item[1], item[0]))[:MOST_CALLS]
    calls = ", ".join(f"{name} {rate:.0f}" for name, rate in busiest if rate >= 0.5)
    return [
        f"trapline top {clock} UTC, up {up // 60}:{up % 60:02d}; {number} task{'' if number == 1 else 's'}: {words or 'none'}",
        f"per second: {rates.crossings:.0f} crossings, {rates.faults:.0f} faults, {rates.switches:.0f} switches, "
        f"{rates.signals:.0f} signals",
        f"of {sample.cpus} CPUs: {rates.user * 100:.0f} % user, {rates.system * 100:.0f} % kernel; "
        f"memory {amount(sample.memory)} of {amount(sample.memory_total)}, at most {amount(sample.memory_peak)}",
        fit_list(f"calls per second: {calls or 'none'}"),
    ]  # fmt: skip


_STATES = ("running", "sleeping", "stopped", "zombie")
HEAD = f"{'PID':>7} S {'%USER':>6} {'%SYS':>6} {'WAIT':>7} {'RSS':>6} {'FAULT/s':>7} {'CALL/s':>7} {'IN':<9} COMMAND"


HEAD_CELLS = ("PID", "S", "%USER", "%SYS", "WAIT", "RSS", "FAULT/s", "CALL/s", "IN", "COMMAND")


def fit_list(text: str, width: int = 80) -> str:
    """As many members of a list as fit."""
    while len(text) > width:
        text = text.rpartition(", ")[0]
    return text


def seconds(ns: int) -> str:
    """A duration in seven columns."""
    value = ns / 1e9
    if value < 1000:
        return f"{value:.2f}"
    return f"{int(value) // 3600}:{int(value) // 60 % 60:02d}h" if value >= 36000 else f"{value:.0f}"


def cells(row: Row, rate: tuple[float, float, float, float]) -> tuple[str, ...]:
    """The same, one by one, for tables that know no columns of letters: see HEAD_CELLS."""
    user, system, faults, calls = rate
    numbers = f"{user * 100:.1f}", f"{system * 100:.1f}", seconds(row.wait_ns), amount(row.rss), f"{faults:.0f}", f"{calls:.0f}"
    return (str(row.tid), row.state, *numbers, row.call, row.command)


def line(row: Row, rate: tuple[float, float, float, float]) -> str:
    """One row of the table."""
    user, system, faults, calls = rate
    command = printable(row.command)
    return (
        f"{row.tid:>7} {row.state} {user * 100:>6.1f} {system * 100:>6.1f} {seconds(row.wait_ns):>7} {amount(row.rss):>6} "
        f"{faults:>7.0f} {calls:>7.0f} {row.call[:9]:<9} {command[:15]}"
    )


def table(sample: Sample, rates: Rates, key: str = "cpu", *, reverse: bool = False) -> str:
    """All of it."""
    rows = [line(row, rates.rows.get(row.tid, NOTHING)) for row in order(sample, rates, key, reverse=reverse)]
    return "\n".join([*summary(sample, rates), "", HEAD, *rows]) + "\n"
