"""`trapline lab`: run an experiment on a claim about user space and kernel space; `trapline lab list` says which there are.

Exit status: 0 if the run supports the claim, 1 if not, 2 if it leaves the question open, 125 if it could not be done.
"""

from __future__ import annotations

import json
import locale
import os
import sys
import time
from importlib.util import find_spec

from trapline.cli.main import FAILED, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.kernel.config import ConfigError
from trapline.labs.framework.index import find, labs
from trapline.labs.framework.lab import REFUTED, SUPPORTED, SWITCH, UNDECIDED, Knobs, Lab, LabError, Result
from trapline.labs.framework.page import html, text
from trapline.labs.framework.plot import MISSING
from trapline.labs.framework.terminal import Style, draw, wrap
from trapline.machine.select import NoMachine

_FAILURES = (LabError, NoMachine, ConfigError, TimeoutError)
_STATUS = {SUPPORTED: 0, REFUTED: 1, UNDECIDED: 2}
_COLOURS = {SUPPORTED: 32, REFUTED: 31, UNDECIDED: 33}
_MOST = 1000
OPTIONS = (
    Option("--without", "KNOB", "switch a knob off: --cow=off. May be repeated", many=True),
    Option("--machine", "MACHINE", "host, riscv (both under this kernel) or board (the RISC-V computer without it)"),
    Option("--repeat", "N", "run it N times; each run is judged, the last one is drawn"),
    Option("--json", "", "write one JSON object a run"),
    Option("--plot", "FILE", "draw into FILE too: .png, .svg or .html (needs the extra `plot`)"),
    Option("--page", "", "explain the lab, and do not run it"),
    Option("--help", "", "this text; after LAB, with its knobs"),
)


def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline lab list [--json]
       trapline lab LAB [--KNOB=VALUE]... [OPTION]...
       trapline lab all [OPTION]...

Runs an experiment on a claim about user space and kernel space, draws what was
measured, and says whether this run supports the claim. LAB is an id or a name
of `trapline lab list`; `trapline lab LAB --page` explains it and its knobs.

{describe(OPTIONS)}

exit status: 0 if the claim is supported, 1 if not, 2 if the run leaves it open,
125 if the experiment could not be done; of several runs the greatest
"""


def main(words: list[str]) -> int:
    name, rest = (words[0], words[1:]) if words else ("", [])
    if not name or name in ("--help", "-h"):
        return say(usage()) if name else _none()
    if name.startswith("-"):
        raise UsageError(f"name the lab first: trapline lab LAB {name}")
    try:
        if name == "list":
            return _list(parse(rest, OPTIONS))
        return _all(rest) if name == "all" else _one(find(name), rest)
    except _FAILURES as error:
        complain(str(error))
        return FAILED


def _none() -> int:
    raise UsageError("no lab: `trapline lab list` lists them")


def _style() -> Style:
    colour = os.isatty(1) and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    encoding = locale.getencoding().lower().replace("-", "")
    return Style(unicode=encoding == "utf8", colour=colour)


def _write(lines: list[str], style: Style) -> int:
    joined = "\n".join(lines) + "\n"
    return say(joined if style.unicode else joined.encode("ascii", "replace").decode())


def _list(parsed: Parsed) -> int:
    if parsed.flag("--help"):
        return say(usage())
    found = labs()
    if parsed.flag("--json"):
        names = "id", "name", "title", "question", "claim", "machines", "seconds"
        rows = [{name: getattr(each, name) for name in names} for each in found]
        return say(json.dumps(rows, indent=2) + "\n")
    style = _style()
    lines = []
    for each in found:
        about = f"{', '.join(each.machines)}; about {each.seconds} s"
        lines.append(f"{style.paint(f'{each.id:<3} {each.name:<12}', 1)} {about}")
        lines += wrap(each.question, style, "    ")
    return _write(lines, style)


def _all(rest: list[str]) -> int:
    for option in rest:
        if option.partition("=")[0] in ("--plot", "--without"):
            raise UsageError(f"{option.partition('=')[0]} is for one lab: name it")
    if "--help" in rest or "-h" in rest:
        return say(usage())
    worst = 0
    for lab in labs():
        try:
            worst = max(worst, _one(lab, rest))
        except _FAILURES as error:
            complain(f"{lab.id}: {error}")
            worst = FAILED
    return worst


def _one(lab: Lab, words: list[str]) -> int:
    knobs = [Option(f"--{each.name}", each.possible, f"{each.help} ({each.written(each.default)})") for each in lab.knobs]
    parsed = parse(words, (*knobs, *OPTIONS))
    style = _style()
    if parsed.rest:
        raise UsageError(f"lab takes no {parsed.rest[0]}: write knobs as --KNOB=VALUE")
    if parsed.flag("--help"):
        return say(f"{usage()}\nknobs of {lab.id}:\n\n{describe(knobs)}\n" if knobs else usage())
    if parsed.flag("--page"):
        return _write(text(lab, style), style)
    settings = _settings(lab, parsed)
    drawing = parsed.last("--plot")
    if drawing and drawing.rpartition(".")[2] not in ("png", "svg", "html"):
        raise UsageError(f"--plot {drawing}: the name must end with .png, .svg or .html")
    if drawing and not any(os.access(each, os.W_OK) for each in (drawing, os.path.dirname(drawing) or ".")):
        raise UsageError(f"--plot {drawing}: cannot be written: choose another file")
    if drawing and find_spec("matplotlib") is None:
        raise LabError(MISSING)
    count = _count(parsed)
    results = []
    failed = 0
    for _ in range(count):
        begin = time.perf_counter()
        results.append(lab.run(settings, _progress))
        seconds = time.perf_counter() - begin
        _progress("")
        if parsed.flag("--json"):
            failed |= say(json.dumps(results[-1].as_data() | {"seconds": round(seconds, 3)}) + "\n")
    failed |= 0 if parsed.flag("--json") else _show(results, style)
    if drawing:
        _plot(results[-1], drawing)
    return failed or max(_STATUS[each.verdict.outcome] for each in results)


def _count(parsed: Parsed) -> int:
    given = parsed.last("--repeat", "1")
    if not given.isdecimal() or not 1 <= int(given) <= _MOST:
        raise UsageError(f"--repeat {given}: write a number from 1 to {_MOST}")
    return int(given)


def _settings(lab: Lab, parsed: Parsed) -> Knobs:
    values: dict[str, int | str | bool] = {}
    for knob in lab.knobs:
        option = f"--{knob.name}"
        if not parsed.flag(option):
            continue
        try:
            values[knob.name] = knob.read(parsed.last(option))
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None
    for name in parsed.all("--without"):
        if name not in [each.name for each in lab.knobs if each.kind == SWITCH]:
            have = ", ".join(each.name for each in lab.knobs if each.kind == SWITCH)
            raise UsageError(f"--without {name}: lab {lab.id} can do without {have or 'nothing'}")
        values[name] = False
    return lab.settings(parsed.last("--machine"), **values)


def _progress(what: str) -> None:
    """A line on a terminal that the next one replaces."""
    if os.isatty(2):
        sys.stderr.write(f"\r\x1b[K{what[:78]}")
        sys.stderr.flush()


def _show(results: list[Result], style: Style) -> int:
    last = results[-1]
    lab = last.lab
    lines = [style.paint(f"{lab.id}  {lab.title}", 1) + f"  ({last.knobs.machine})", *wrap(lab.question, style), ""]
    for chart in last.charts():
        lines += [*draw(chart, style), ""]
    lines += ["The claim:", *wrap(lab.claim, style, "  "), ""]
    for each in results:
        head, *more = wrap(f"{each.verdict.outcome}: {each.verdict.why}.", style)
        outcome = each.verdict.outcome
        lines += [style.paint(outcome, _COLOURS[outcome]) + head[len(outcome) :], *more]
    return _write(lines, style)


def _plot(result: Result, path: str) -> None:
    from trapline.labs.framework.plot import inline_svg, picture

    lab, charts = result.lab, result.charts()
    kind = path.rpartition(".")[2]
    title = f"{lab.id}  {lab.title}"
    data = html(result, charts, inline_svg(title, charts)).encode() if kind == "html" else picture(title, charts, kind)
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise LabError(f"--plot {path}: {error.strerror}") from None
