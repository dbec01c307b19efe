"""Charts in a terminal: 80 columns, line-drawing characters where the locale has them, colour where it is wanted."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log10
from trapline.typed import NamedTuple

from trapline.labs.framework.charts import Bars, Chart, Lines, Number, Point, Steps, Table, clean, short

_HEIGHT = 12  #: rows of a line chart
_COLOURS = (36, 33, 35, 32, 34, 31)
_EIGHTHS = "▏▎▍▌▋▊▉█"
_TINY = 1e-300


class Style(NamedTuple):
    width: int = 80
    unicode: bool = True
    colour: bool = False

    def paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text

    @property
    def marks(self) -> str:
        return "●▲■◆○△" if self.unicode else "*+x#o^"


def draw(chart: Chart, style: Style) -> list[str]:
    """The lines of a chart, its title first."""
    title = clean(chart.title)
    body: list[str]
    if isinstance(chart, Bars):
        body = _bars(chart, style)
    elif isinstance(chart, Table):
        body = _table(chart, style)
    elif isinstance(chart, Lines):
        body = _lines(chart, style)
    elif isinstance(chart, Steps):
        body = _steps(chart, style)
    else:
        body = [clean(line)[: style.width] for line in chart.lines]
    return [style.paint(title, 1), *body] if title else body


def wrap(text: str, style: Style, indent: str = "") -> list[str]:
    """A paragraph."""
    return textwrap.wrap(clean(" ".join(text.split())), style.width, initial_indent=indent, subsequent_indent=indent) or [""]


def _bars(chart: Bars, style: Style) -> list[str]:
    if not chart.rows:
        return ["(nothing)"]
    labels = [clean(label)[: style.width // 3] for label, _ in chart.rows]
    values = [f"{short(value)}{chart.unit and ' '}{chart.unit}" for _, value in chart.rows]
    left, right = max(map(len, labels)), max(map(len, values))
    room = max(8, style.width - left - right - 4)
    lengths = _lengths([value for _, value in chart.rows], chart.log)
    lines = []
    for label, value, length in zip(labels, values, lengths, strict=True):
        bar = _bar(length * room, style)
        lines.append(f"{label:<{left}}  {style.paint(bar, 36)}{' ' * (room - len(bar))}  {value:>{right}}")
    return lines


def _lengths(values: Sequence[Number], log: bool) -> list[float]:
    """From 0 to 1. On a logarithmic scale a tenth of the smallest positive value has no length."""
    top = max(values)
    if top <= 0:
        return [0.0 for _ in values]
    if not log:
        return [max(0.0, each / top) for each in values]
    low = log10(min(each for each in values if each > 0)) - 1
    return [max(0.0, (log10(each) - low) / (log10(top) - low)) if each > 0 else 0.0 for each in values]


def _bar(length: float, style: Style) -> str:
    if not style.unicode:
        return "#" * max(round(length), int(length > 0))
    eighths = max(round(length * 8), int(length > 0))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def _table(chart: Table, style: Style) -> list[str]:
    rows = [[clean(short(each)) for each in row] for row in (chart.heads, *chart.rows)]
    count = len(chart.heads)
    right = [all(not isinstance(row[n], str) for row in chart.rows) and bool(chart.rows) for n in range(count)]
    widths = [max(len(row[n]) for row in rows) for n in range(count)]
    wide = widths.index(max(widths))
    widths[wide] = max(8, widths[wide] - max(0, sum(widths) + 2 * (count - 1) - style.width))
    lines = []
    for row in rows:
        pieces = [textwrap.wrap(cell, widths[n]) or [""] for n, cell in enumerate(row)]
        for at in range(max(map(len, pieces))):
            cells = [piece[at] if at < len(piece) else "" for piece in pieces]
            padded = [f"{cell:>{widths[n]}}" if right[n] else f"{cell:<{widths[n]}}" for n, cell in enumerate(cells)]
            lines.append("  ".join(padded).rstrip())
        if len(lines) and row is rows[0]:
            lines.append(("─" if style.unicode else "-") * min(style.width, sum(widths) + 2 * (count - 1)))
    return lines


def _lines(chart: Lines, style: Style) -> list[str]:
    points = [point for series in chart.series.values() for point in series]
    if not points:
        return ["(nothing)"]
    place_x, low_x, high_x = _scale([x for x, _ in points] + [x for x, _ in chart.marks], chart.log_x)
    place_y, low_y, high_y = _scale([y for _, y in points], chart.log_y)
    left = max(len(short(low_y)), len(short(high_y)))
    room = style.width - left - 3
    grid = [[" "] * room for _ in range(_HEIGHT)]
    for x, _ in chart.marks:
        for row in grid:
            row[round(place_x(x) * (room - 1))] = "┊" if style.unicode else ":"
    for n, series in enumerate(chart.series.values()):
        _trace(grid, series, place_x, place_y, style.paint(style.marks[n % 6], _COLOURS[n % 6]), style)
    bar = "│" if style.unicode else "|"
    lines = []
    for n, row in enumerate(grid):
        label = short(high_y) if n == 0 else short(low_y) if n == _HEIGHT - 1 else ""
        lines.append(f"{label:>{left}} {bar}{''.join(row).rstrip()}")
    lines.append(" " * (left + 1) + ("└" + "─" * room if style.unicode else "+" + "-" * room))
    ends = short(low_x), short(high_x)
    lines.append(" " * (left + 2) + f"{ends[0]}{clean(chart.x):^{room - len(ends[0]) - len(ends[1])}}{ends[1]}"[:room])
    keys = [f"{style.paint(style.marks[n % 6], _COLOURS[n % 6])} {clean(name)}" for n, name in enumerate(chart.series)]
    lines.append("  ".join([clean(chart.y) + ":", *keys]))
    return lines + [f"{'┊' if style.unicode else ':'} {chart.x} {short(x)}: {clean(what)}" for x, what in chart.marks]


Place = Callable[[Number], float]


def _scale(values: Sequence[Number], log: bool) -> tuple[Place, Number, Number]:
    """(value to 0..1, the lowest, the highest)."""
    low, high = min(values), max(values)
    if log and low > 0:
        begin, span = log10(low), (log10(high) - log10(low)) or 1.0
        return (lambda value: (log10(max(value, _TINY)) - begin) / span), low, high
    low = min(low, 0) if low < high / 4 else low
    width = (high - low) or 1
    return (lambda value: (value - low) / width), low, high


def _trace(grid: list[list[str]], series: Sequence[Point], across: Place, up: Place, mark: str, style: Style) -> None:
    """Draw the points, and dots between them where nothing else is."""
    room, dot = len(grid[0]), "·" if style.unicode else "."
    cells = [(round(across(x) * (room - 1)), round((1 - up(y)) * (_HEIGHT - 1))) for x, y in sorted(series)]
    for (x0, y0), (x1, y1) in pairwise(cells):
        for x in range(x0 + 1, x1):
            y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
            if grid[y][x] == " ":
                grid[y][x] = dot
    for x, y in cells:
        grid[y][x] = mark


def _steps(chart: Steps, style: Style) -> list[str]:
    """A column for each lane; an arrow where the next step is in another one."""
    count = len(chart.lanes)
    room = min(28, (style.width - 2) // max(1, count) - 1) if count > 2 else style.width // 2 - 2
    bar = "│" if style.unicode else "|"
    lines = [bar.join(f" {clean(name)[:room]:<{room}}" for name in chart.lanes).rstrip()]
    lines.append(("┼" if style.unicode else "+").join([("─" if style.unicode else "-") * (room + 1)] * count))
    for lane, what, note in chart.steps:
        text = clean(f"{what}  {note}" if note else what)
        for at, piece in enumerate(textwrap.wrap(text, room, subsequent_indent="  ") or [""]):
            cells = [" " * (room + 1)] * count
            cells[lane] = f" {piece:<{room}}"
            line = bar.join(cells).rstrip()
            lines.append(line.replace(piece, style.paint(piece, 36), 1) if not at else line)
    return lines
