"""A lab as a page: what is claimed and how it is tested, as text for a terminal, as Markdown, and as HTML with its figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape

from trapline.labs.framework.charts import Chart, Steps, Table, clean, short
from trapline.labs.framework.lab import Lab, Result
from trapline.labs.framework.terminal import Style, draw, wrap

_CSS = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #ddd }
h2 { font-size: 1.1rem }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto } svg { max-width: 100%; height: auto }
.supported { color: #176b2c } .refuted { color: #a11616 } .undecided { color: #7a5b00 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 }
pre { background: #252525 }
th, td { border-color: #444 } svg { background: #fff }
.supported { color: #6c6 } .refuted { color: #f77 } .undecided { color: #dc5 } }
"""
_POLICY = """\
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">"""


def text(lab: Lab, style: Style) -> list[str]:
    """The explanation for a terminal."""
    lines = [style.paint(f"{lab.id}  {lab.title}", 1), "", *wrap(lab.question, style), ""]
    lines += ["The claim:", *wrap(lab.claim, style, "  "), ""]
    for paragraph in paragraphs(lab):
        lines += [*wrap(paragraph, style), ""]
    return lines + _commands(lab)


def paragraphs(lab: Lab) -> list[str]:
    return [" ".join(each.split()) for each in lab.explain.strip().split("\n\n")]


def _commands(lab: Lab) -> list[str]:
    lines = [f"trapline lab {lab.id}", f"trapline lab {lab.id} {lab.off}      # without the mechanism"]
    width = max((len(each.name) + len(each.possible) + 3 for each in lab.knobs), default=0)
    knobs = ((f"--{each.name}={each.possible}", f"{each.help} ({each.written(each.default)})") for each in lab.knobs)
    return lines + [f"  {head:<{width}}  {text}" for head, text in knobs]


def markdown(lab: Lab) -> str:
    """The explanation as a section of a page."""
    knobs = [f"| `--{k.name}` | `{_escaped(k.possible)}` | {k.written(k.default)} | {k.help} |" for k in lab.knobs]
    table = ["", "| knob | values | default | |", "|---|---|---|---|", *knobs] if knobs else []
    head = [f"## {lab.id} {lab.title}", "", f"*{lab.question}*", "", f"> {lab.claim}", ""]
    head += [each for paragraph in paragraphs(lab) for each in (paragraph, "")]
    run = [f"    trapline lab {lab.id}", f"    trapline lab {lab.id} {lab.off}", "", f"Runs on: {', '.join(lab.machines)}."]
    return "\n".join([*head, *run, *table]) + "\n"


def _escaped(text: str) -> str:
    """For a cell of a table."""
    return text.replace("|", "\\|")


def html(result: Result, charts: Sequence[Chart], svg: str) -> str:
    """A page that needs nothing else. `svg` is a drawing of ours; everything else is escaped."""
    lab = result.lab
    parts = [_head(result), svg, *(_html_table(each) for each in charts if isinstance(each, Table | Steps))]
    parts += [f"<p>{_marked(each)}</p>" for each in paragraphs(lab)]
    data = json.dumps(result.as_data(), indent=2)
    parts.append(f"<details><summary>Figures of this run</summary><pre>{escape(data)}</pre></details>")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(lab.id)} {_text(lab.title)}</title>'
    return f"{head}{_POLICY}<style>{_CSS}</style><body>{''.join(parts)}</body></html>\n"


def section(result: Result) -> str:
    """The same within somebody else's page: its head and its tables; charts as a terminal has them."""
    parts = [_head(result)]
    for chart in result.charts():
        if isinstance(chart, Table | Steps):
            parts.append(_html_table(chart))
        else:
            parts.append(f"<pre>{escape(chr(10).join(draw(chart, Style())))}</pre>")
    return "".join(parts)


def _head(result: Result) -> str:
    lab, verdict = result.lab, result.verdict
    kind = {"supported": "supported", "not supported": "refuted"}.get(verdict.outcome, "undecided")
    parts = [f"<h1>{_text(lab.id)} {_text(lab.title)}</h1><p><em>{_text(lab.question)}</em></p>"]
    parts.append(f"<blockquote>{_text(lab.claim)}</blockquote>")
    parts.append(f'<p class="{kind}"><strong>{_text(verdict.outcome)}</strong>: {_text(verdict.why)}</p>')
    return "".join(parts)


def _text(text: str) -> str:
    return escape(clean(text))


def _marked(text: str) -> str:
    """Text of ours, in which code stands between backquotes."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _html_table(chart: Table | Steps) -> str:
    if isinstance(chart, Steps):
        heads: Sequence[str] = ("where", "what", "")
        rows: Sequence[Sequence[object]] = [(chart.lanes[lane], what, note) for lane, what, note in chart.steps]
    else:
        heads, rows = chart.heads, chart.rows
    cells = "".join(f"<th>{_text(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<h2>{_text(chart.title)}</h2><table><tr>{cells}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f'<td class="number">{_text(short(value))}</td>'
    return f"<td>{_text(str(value))}</td>"
