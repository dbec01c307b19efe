"""Every lab supports its claim as it is, and does not when its mechanism is taken away; and its page is complete."""

from __future__ import annotations

import json
from html import escape

import pytest

from trapline.labs.framework.index import labs
from trapline.labs.framework.lab import REFUTED, SUPPORTED, SWITCH, UNDECIDED, Lab, Result
from trapline.labs.framework.page import html, markdown
from trapline.labs.framework.terminal import Style, draw

ALL = labs()


def switched(lab: Lab) -> dict[str, int | str | bool]:
    """The knobs that `off` turns."""
    values: dict[str, int | str | bool] = {}
    words = lab.off.split()
    while words:
        word = words.pop(0)
        if word == "--without":
            values[words.pop(0)] = False
        else:
            name, _, value = word.removeprefix("--").partition("=")
            values[name] = next(each for each in lab.knobs if each.name == name).read(value)
    assert values, "nothing is switched off"
    return values


def shown(result: Result) -> str:
    """The charts as a terminal has them; they fit, and figures are what JSON can hold."""
    again = json.loads(json.dumps(result.figures))
    lines = [line for chart in result.lab.draw(again) for line in draw(chart, Style())]
    assert all(len(line) <= 80 and line.isprintable() for line in lines), lines
    assert result.lab.verdict(again) == result.verdict
    assert escape(result.lab.title) in html(result, result.charts(), "") and escape(result.verdict.outcome) in result._repr_html_()
    return "\n".join(lines)


@pytest.mark.parametrize("lab", ALL, ids=[each.id for each in ALL])
@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_verdict_turns_with_the_mechanism(lab: Lab, on: bool) -> None:
    result = lab.run(lab.settings(**({} if on else switched(lab))))
    text = shown(result)
    assert result.verdict.outcome == (SUPPORTED if on else REFUTED), f"{result.verdict.why}\n{text}"


@pytest.mark.parametrize(
    ("lab", "machine"), [(lab, name) for lab in ALL for name in lab.machines[1:]], ids=lambda each: getattr(each, "id", each)
)
def test_other_machines(lab: Lab, machine: str) -> None:
    result = lab.run(lab.settings(machine))
    text = shown(result)
    wanted = UNDECIDED if lab.id == "M1" else SUPPORTED  # this kernel is not in its programs' tables
    assert result.verdict.outcome == wanted, f"{result.verdict.why}\n{text}"


@pytest.mark.parametrize("lab", ALL, ids=[each.id for each in ALL])
def test_page(lab: Lab) -> None:
    text = markdown(lab)
    assert lab.claim in text and len(lab.explain.split()) > 100
    assert lab.question.endswith("?") and lab.claim.endswith(".")
    assert all(each.help and (each.kind != SWITCH or isinstance(each.default, bool)) for each in lab.knobs)
