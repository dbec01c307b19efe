"""Pieces of HTML for notebooks: tables, folded parts, the map of an address space. Whatever a program controls is escaped.

A piece is text of class Html; everything else that is put into one is escaped on the way. Colours are the page's own, so that
light and dark both work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _escape
from math import log2
from typing import TYPE_CHECKING, NamedTuple

from trapline.scope.strace.text import printable
from trapline.scope.views.space import amount
from trapline.scope.views.spacetext import blocks, label

if TYPE_CHECKING:
    from trapline.scope.views.space import Space

COLOURS = {
    "program": "#4c78a8", "heap": "#f58518", "stack": "#e45756", "library": "#72b7b2", "vdso": "#b279a2", "file": "#9d755d",
    "shared": "#54a24b", "anon": "#eeca3b",
}  # fmt: skip
_STYLE = """<style>
.trapline{font-size:13px;line-height:1.35}
.trapline table{border-collapse:collapse;margin:4px 0;font-family:ui-monospace,monospace;font-size:12px}
.trapline th,.trapline td{padding:1px 8px;text-align:left;white-space:pre;border:0;background:none}
.trapline th{border-bottom:1px solid currentColor;font-weight:600}
.trapline td.n,.trapline th.n{text-align:right}
.trapline tr:nth-child(even) td{background:rgba(128,128,128,.1)}
.trapline .scroll{max-height:24em;overflow:auto}
.trapline summary{cursor:pointer;opacity:.8}
.trapline .bad{color:#d62728}
</style>"""
WIDTH, HEIGHT = 860, 46


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Anything as HTML: a piece as it is, the rest as text without control characters."""
    return value if isinstance(value, Html) else Html(_escape(printable(str(value))))


def tag(name: str, content: object, **attributes: object) -> Html:
    """An element; `_` at the end of an attribute's name is left out."""
    given = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value != "")
    return Html(f"<{name}{given}>{escape(content)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Pieces, one after another."""
    return Html(_escape(between).join(escape(each) for each in parts))


def page(title: object, *parts: object) -> Html:
    """A whole view."""
    return Html(f'<div class="trapline">{_STYLE}{tag("div", tag("b", title))}{join(parts)}</div>')


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: str = "") -> Html:
    """`numbers`: a letter for each column, n: to the right."""
    kinds = numbers.ljust(len(head))
    classes = ["n" if each == "n" else "" for each in kinds]
    first = join(tag("th", name, class_=kind) for name, kind in zip(head, classes, strict=True))
    body = [
        tag("tr", join(tag("td", cell, class_=kind) for cell, kind in zip(row, classes, strict=True))) for row in rows
    ]
    return tag("div", tag("table", join([tag("thead", tag("tr", first)), tag("tbody", join(body))])), class_="scroll")


def folded(summary: object, *parts: object, open_: bool = False) -> Html:
    """A part that can be opened."""
    return Html(f"<details{' open' if open_ else ''}>{tag('summary', summary)}{join(parts)}</details>")


class _Bar(NamedTuple):
    """A stretch of the map."""

    weight: float
    colour: str
    words: str
    filled: float  #: which share of it is resident


def address_map(space: Space) -> Html:
    """A bar from 0 to the end of user space: widths by magnitude; what is resident is opaque. The mouse says what is what."""
    bars = _bars(space)
    scale = WIDTH / (sum(each.weight for each in bars) or 1)
    x, drawn = 0.0, []
    for each in bars:
        drawn.append(_drawn(each, x, each.weight * scale))
        x += each.weight * scale
    used = [kind for kind in COLOURS if any(each.kind == kind for each in space.areas)]
    square = '<span style="margin-right:1em"><span style="color:{colour}">&#9632;</span> {kind}</span>'
    legend = "".join(square.format(colour=COLOURS[kind], kind=kind) for kind in used)
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" style="max-width:{WIDTH}px" role="img">{"".join(drawn)}</svg>'
    return Html(f"<div>{picture}</div><div>{legend}</div>")


def _bars(space: Space) -> list[_Bar]:
    found: list[_Bar] = []
    at = 0
    for block in blocks(space.areas):
        start, end = block[0].start, block[-1].end
        if start > at:
            found.append(_gap(at, start))
        size, rss = sum(each.size for each in block), sum(each.rss for each in block)
        words = f"{start:x}-{end:x}: {label(block[0])}, {amount(size)}, {amount(rss)} resident"
        found.append(_Bar(_weight(size), COLOURS[block[0].kind], words, rss / size))
        at = end
    return [*found, _gap(at, space.task_size)] if at < space.task_size else found


def _gap(start: int, end: int) -> _Bar:
    return _Bar(_weight(end - start) * 0.6, "currentColor", f"{start:x}-{end:x}: free, {amount(end - start)}", 0.0)


def _weight(size: int) -> float:
    return max(1.0, log2(size) - 10)


def _drawn(bar: _Bar, x: float, width: float) -> str:
    faint = 0.06 if bar.colour == "currentColor" else 0.25
    high, inner = HEIGHT * bar.filled, max(0.5, width - 0.5)
    return (
        f"<g><title>{escape(bar.words)}</title>"
        f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="{HEIGHT}" fill="{bar.colour}" fill-opacity="{faint}"/>'
        f'<rect x="{x:.1f}" y="{HEIGHT - high:.1f}" width="{inner:.1f}" height="{high:.1f}" fill="{bar.colour}"/></g>'
    )
