"""A lab: a claim, a program that puts it to the test, and what its figures say about the claim.

    LAB = Lab(
        id="M4", name="cow", title="...", question="...?", claim="...", machines=("host", "riscv"), seconds=1,
        knobs=(number("pages", 64, "pages that parent and child share", 8, 4096), switch("cow", "share until written")),
        off="--without cow", explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    )

`measure(knobs, progress)` does the experiment and returns figures, which are plain data (what JSON can hold) and all of this
run. `draw(figures)` makes charts of them, `verdict(figures)` judges the claim by them; neither measures anything. `off` are the
options that take the mechanism away: with them, the verdict of every lab is another one, and a test holds each lab to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from trapline.typed import Any, NamedTuple

from trapline.labs.framework.charts import Chart

Figures = dict[str, Any]
Progress = Callable[[str], None]  #: told what is being done; what it does with that is its own affair
SUPPORTED, REFUTED, UNDECIDED = "supported", "not supported", "undecided"
NUMBER, CHOICE, SWITCH = "number", "choice", "switch"


class LabError(Exception):
    """The experiment cannot be done here; the text says why, and what to do."""


class Verdict(NamedTuple):
    """What a run says of the claim, and why, in figures."""

    outcome: str
    why: str


def supported(why: str) -> Verdict:
    return Verdict(SUPPORTED, why)


def refuted(why: str) -> Verdict:
    return Verdict(REFUTED, why)


def undecided(why: str) -> Verdict:
    return Verdict(UNDECIDED, why)


class Knob(NamedTuple):
    """One thing that can be turned. `low` and `high` bound a number; `choices` are what a choice may be."""

    name: str
    kind: str
    default: int | str | bool
    help: str
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> int | str | bool:
        """A value as it is written. Raises ValueError, with what is possible."""
        if self.kind == SWITCH:
            if text not in ("on", "off"):
                raise ValueError(f"{text} is neither on nor off")
            return text == "on"
        if self.kind == CHOICE:
            if text not in self.choices:
                raise ValueError(f"{text} is none of {', '.join(self.choices)}")
            return text
        try:
            value = int(text, 0)
        except ValueError:
            raise ValueError(f"{text} is no whole number") from None
        if not self.low <= value <= self.high:
            raise ValueError(f"{text} is not between {self.low} and {self.high}")
        return value

    def written(self, value: object) -> str:
        return ("on" if value else "off") if self.kind == SWITCH else str(value)

    @property
    def possible(self) -> str:
        """What may be written, for people."""
        if self.kind == SWITCH:
            return "on|off"
        return "|".join(self.choices) if self.kind == CHOICE else f"{self.low}..{self.high}"


def number(name: str, default: int, text: str, low: int, high: int) -> Knob:
    return Knob(name, NUMBER, default, text, low, high)


def choice(name: str, default: str, text: str, *choices: str) -> Knob:
    return Knob(name, CHOICE, default, text, choices=choices)


def switch(name: str, text: str, default: bool = True) -> Knob:
    return Knob(name, SWITCH, default, text)


class Knobs:
    """How the knobs stand, and on which machine the lab runs."""

    def __init__(self, machine: str, values: Mapping[str, int | str | bool]) -> None:
        self.machine = machine
        self.values = dict(values)

    def number(self, name: str) -> int:
        return int(self.values[name])

    def text(self, name: str) -> str:
        return str(self.values[name])

    def on(self, name: str) -> bool:
        return bool(self.values[name])


@dataclass(frozen=True)
class Lab:
    """`machines`: host, riscv (both under this kernel), board (the RISC-V computer without it); the first is the default.
    `seconds`: about how long a run takes."""

    id: str
    name: str
    title: str
    question: str
    claim: str
    machines: tuple[str, ...]
    seconds: int
    off: str
    explain: str
    measure: Callable[[Knobs, Progress], Figures]
    draw: Callable[[Figures], Sequence[Chart]]
    verdict: Callable[[Figures], Verdict]
    knobs: tuple[Knob, ...] = ()

    def settings(self, machine: str = "", **values: int | str | bool) -> Knobs:
        """The knobs at their defaults, but for `values`. Raises LabError."""
        if machine and machine not in self.machines:
            raise LabError(f"lab {self.id} runs on {' and '.join(self.machines)} only: leave --machine {machine} out")
        known = {each.name: each.default for each in self.knobs}
        for name in values.keys() - known.keys():
            raise LabError(f"lab {self.id} has no knob {name}: it has {', '.join(known) or 'none'}")
        return Knobs(machine or self.machines[0], known | values)

    def run(self, knobs: Knobs | None = None, progress: Progress = lambda what: None) -> Result:
        """Do the experiment once. Raises LabError, and whatever the kernel or the machine raises."""
        used = knobs or self.settings()
        figures = self.measure(used, progress)
        return Result(self, used, figures, self.verdict(figures))


class Result(NamedTuple):
    """One run."""

    lab: Lab
    knobs: Knobs
    figures: Figures
    verdict: Verdict

    def charts(self) -> Sequence[Chart]:
        return self.lab.draw(self.figures)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from trapline.labs.framework.page import section

        return section(self)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "lab": self.lab.id, "name": self.lab.name, "machine": self.knobs.machine, "knobs": self.knobs.values,
            "claim": self.lab.claim, "verdict": self.verdict.outcome, "why": self.verdict.why,
            "figures": self.figures,
        }  # fmt: skip
