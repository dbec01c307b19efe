"""Charts as PNG and SVG, by matplotlib (the extra `plot`), which is imported when a drawing is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from trapline.typed import Any

from trapline.labs.framework.charts import Bars, Chart, Lines, Steps, Table, Text, clean, short
from trapline.labs.framework.lab import LabError

_WIDTH = 8.0  #: inches
_ROW = 0.28  #: inches of a bar, a row of a table, a line of text
_LONGEST = 48  #: characters of a label or a cell
_WIDEST = 96  #: characters of a line of text
MISSING = "drawing needs matplotlib: pip install 'trapline[plot]'"
_LETTER = 9.0  #: points, of a table's letters; their width is about 0.62 of that
_GAP = 3  #: characters between two columns
_KINDS = ("png", "svg")


def picture(title: str, charts: Sequence[Chart], kind: str) -> bytes:
    """All charts below one another. Raises LabError without matplotlib."""
    assert kind in _KINDS
    try:
        matplotlib, figures = import_module("matplotlib"), import_module("matplotlib.figure")
    except ImportError:
        raise LabError(MISSING) from None
    drawn = [each for each in charts if not isinstance(each, Bars | Table) or each.rows]
    heights = [_height(each) for each in drawn]
    with matplotlib.rc_context({"svg.hashsalt": "trapline", "text.usetex": False, "text.parse_math": False}):
        figure = figures.Figure(figsize=(_WIDTH, sum(heights) + 0.6), layout="constrained")
        figure.suptitle(clean(title))
        axes = figure.subplots(len(drawn) or 1, 1, squeeze=False, height_ratios=heights or [1])
        for chart, (axis,) in zip(drawn, axes, strict=False):
            axis.set_title(clean(chart.title), fontsize="medium", loc="left")
            _draw(axis, chart)
        out = BytesIO()
        figure.savefig(out, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def inline_svg(title: str, charts: Sequence[Chart]) -> str:
    """An <svg> element for a page, of what a page does not show as tables."""
    drawn = [each for each in charts if not isinstance(each, Table | Steps)]
    if not drawn:
        return ""
    text = picture(title, drawn, "svg").decode()
    return text[text.index("<svg") :]


def _height(chart: Chart) -> float:
    if isinstance(chart, Lines):
        return 3.5
    if isinstance(chart, Bars):
        return 0.9 + _ROW * len(chart.rows)
    if isinstance(chart, Table):
        return 0.35 + _ROW * (1 + len(chart.rows))
    return 0.6 + _ROW * len(chart.steps if isinstance(chart, Steps) else chart.lines)


def _draw(axis: Any, chart: Chart) -> None:
    if isinstance(chart, Bars):
        labels = [_cut(label) for label, _ in chart.rows]
        places = range(len(labels))
        drawn = axis.barh(places, [value for _, value in chart.rows])
        axis.set_yticks(places, labels)
        axis.invert_yaxis()
        axis.bar_label(drawn, [f" {short(value)}" for _, value in chart.rows])
        axis.set_xlabel(clean(chart.unit))
        if chart.log and any(value > 0 for _, value in chart.rows):
            _log(axis, "x")
        axis.margins(x=0.12)
    elif isinstance(chart, Lines):
        _draw_lines(axis, chart)
    elif isinstance(chart, Table):
        _draw_table(axis, chart)
    elif isinstance(chart, Steps):
        _draw_steps(axis, chart)
    else:
        _draw_text(axis, chart)


def _log(axis: Any, which: str) -> None:
    """A logarithmic scale whose numbers are written as elsewhere."""
    getattr(axis, f"set_{which}scale")("log")
    line = getattr(axis, f"{which}axis")
    line.set_major_formatter(lambda value, place: short(value))
    line.set_minor_formatter(lambda value, place: "")


def _cut(text: str) -> str:
    return clean(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _draw_lines(axis: Any, chart: Lines) -> None:
    for name, points in chart.series.items():
        ordered = sorted(points)
        axis.plot([x for x, _ in ordered], [y for _, y in ordered], marker="o", label=clean(name))
    for x, what in chart.marks:
        axis.axvline(x, linestyle=":", color="grey")
        axis.annotate(clean(what), (x, 0.97), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right")
    values = [point for points in chart.series.values() for point in points]
    if chart.log_x and all(x > 0 for x, _ in values):
        _log(axis, "x")
    if chart.log_y and all(y > 0 for _, y in values):
        _log(axis, "y")
    axis.set_xlabel(clean(chart.x))
    axis.set_ylabel(clean(chart.y))
    axis.grid(visible=True, alpha=0.3)
    if chart.series:
        axis.legend()


def _draw_table(axis: Any, chart: Table) -> None:
    """Columns as wide as what is in them, in letters as large as there is room for."""
    axis.axis("off")
    heads = [clean(each) for each in chart.heads]
    cells = [[_cut(short(each)) for each in row] for row in chart.rows]
    widths = [max(map(len, column)) + _GAP for column in zip(heads, *cells, strict=True)]
    shares = [each / sum(widths) for each in widths]
    drawn = axis.table(
        cells, colLabels=heads, colWidths=shares, cellLoc="left", colLoc="left", bbox=(0, 0, 1, 1), edges="horizontal"
    )  # fmt: skip
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(min(_LETTER, _WIDTH * 72 / (0.62 * sum(widths))))
    drawn.set_in_layout(False)


def _draw_steps(axis: Any, chart: Steps) -> None:
    count = len(chart.steps)
    axis.plot([lane for lane, _, _ in chart.steps], range(count), marker="o", drawstyle="steps-post", alpha=0.4)
    for n, (lane, what, note) in enumerate(chart.steps):
        drawn = axis.annotate(_cut(f" {what}  {note}"), (lane, n), fontsize="small", va="center")
        drawn.set_in_layout(False)
    axis.set_xticks(range(len(chart.lanes)), [clean(each) for each in chart.lanes])
    axis.set_xlim(-0.3, len(chart.lanes) - 0.2)
    axis.set_yticks(())
    axis.invert_yaxis()


def _draw_text(axis: Any, chart: Text) -> None:
    axis.axis("off")
    text = "\n".join(clean(line)[:_WIDEST] for line in chart.lines)
    drawn = axis.text(0, 1, text, family="monospace", fontsize="small", va="top", transform=axis.transAxes)
    drawn.set_in_layout(False)
