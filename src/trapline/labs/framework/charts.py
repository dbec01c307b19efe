"""Charts as data: what is drawn is said once, and `terminal`, `plot` and `page` each draw it.

Labels may come from programs: whoever draws cleans them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Number = int | float
Point = tuple[Number, Number]


@dataclass(frozen=True)
class Bars:
    """One bar for each row (label, value). `log`: lengths by the logarithm, for values of several orders."""

    title: str
    rows: Sequence[tuple[str, Number]]
    unit: str = ""
    log: bool = False


@dataclass(frozen=True)
class Table:
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str | Number]]


@dataclass(frozen=True)
class Lines:
    """One line of points (x, y) for each series. `marks`: (x, what is there)."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[Point]]
    log_x: bool = False
    log_y: bool = False
    marks: Sequence[tuple[Number, str]] = field(default=())


@dataclass(frozen=True)
class Steps:
    """Who does what, one after the other: (number of the lane, what is done there, a note)."""

    title: str
    lanes: Sequence[str]
    steps: Sequence[tuple[int, str, str]]


@dataclass(frozen=True)
class Text:
    """Lines as they are, in a fixed width."""

    title: str
    lines: Sequence[str]


Chart = Bars | Table | Lines | Steps | Text


def histogram(title: str, values: Sequence[Number], unit: str = "", bins: int = 12) -> Bars:
    """How many of the values lie in each of `bins` equal ranges, as bars."""
    if not values:
        return Bars(title, ())
    low, high = min(values), max(values)
    width = (high - low) / bins or 1
    counts = [0] * bins
    for each in values:
        counts[min(bins - 1, int((each - low) / width))] += 1
    return Bars(title, [(f"{short(low + n * width)}{unit and ' '}{unit}", count) for n, count in enumerate(counts)])


def short(value: Number | str) -> str:
    """A number as one reads it: whole ones with their thousands apart, others with three digits that count."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", " ")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def clean(text: object) -> str:
    """Text without anything that a terminal would obey."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(text))
