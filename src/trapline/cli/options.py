"""A small option parser: long options from a table, exact names, real errors. (argparse costs 10 ms of start-up.)

`--name VALUE` and `--name=VALUE` are the same; an optional value can only be given with `=`. Options end at `--` or at the
first word that is none, so that what follows belongs to the program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from trapline.typed import NamedTuple

WIDTH = 80
_INDENT = 26


class UsageError(Exception):
    """The command line makes no sense; the text says what, and what to do."""


class Option(NamedTuple):
    """`value`: what to call its value in help, "" for none; `optional`: it may be left out; `many`: may be repeated."""

    name: str
    value: str
    help: str
    optional: bool = False
    many: bool = False


class Parsed(NamedTuple):
    """What was given: `values[name]` is a list of values (None for one left out); `rest` are the other words."""

    values: dict[str, list[str | None]]
    rest: list[str]

    def flag(self, name: str) -> bool:
        return name in self.values

    def last(self, name: str, default: str = "") -> str:
        given = self.values.get(name)
        return given[-1] or "" if given else default

    def all(self, name: str) -> list[str]:
        return [each or "" for each in self.values.get(name, ())]


def parse(words: Sequence[str], options: Sequence[Option]) -> Parsed:
    """Split a command line. Raises UsageError."""
    known = {option.name: option for option in options}
    parsed = Parsed({}, [])
    todo = list(reversed(words))
    while todo:
        word = todo.pop()
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            todo.append(word)
            break
        name, equals, value = word.partition("=")
        option = known.get({"-h": "--help"}.get(name, name))
        if option is None:
            raise UsageError(f"unknown option {name}{_guess(name, known)}")
        parsed.values.setdefault(option.name, []).append(_value(option, equals, value, todo))
        if len(parsed.values[option.name]) > 1 and not option.many:
            raise UsageError(f"{option.name} was given twice: give it once")
    return parsed._replace(rest=todo[::-1])


def _value(option: Option, equals: str, value: str, todo: list[str]) -> str | None:
    if not option.value:
        if equals:
            raise UsageError(f"{option.name} takes no value: leave out ={value}")
        return None
    if equals and not value and option.optional:
        raise UsageError(f"{option.name}= needs a value, or leave out the =")
    if equals:
        return value
    if option.optional:
        return None
    if not todo:
        raise UsageError(f"{option.name} needs a value: {option.name} {option.value}")
    return todo.pop()


def likest(name: str, known: Iterable[str]) -> str:
    """The known name that shares the most pairs of letters with `name`, if any comes close; else ""."""
    wanted = set(pairwise(name))
    best, score = "", 0.5
    for each in known:
        pairs = set(pairwise(each))
        likeness = 2 * len(wanted & pairs) / (len(wanted) + len(pairs) or 1)
        if likeness > score:
            best, score = each, likeness
    return best


def _guess(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped option."""
    best = likest(name, known)
    return f": did you mean {best}?" if best else ": --help lists the options"


def describe(options: Sequence[Option]) -> str:
    """The options as lines of help."""
    lines: list[str] = []
    for option in options:
        value = f"[={option.value}]" if option.optional else f" {option.value}" if option.value else ""
        head = f"  {option.name}{value}"
        text = _wrap(option.help)
        if len(head) > _INDENT - 2:
            lines.append(head)
            head = ""
        lines.append(f"{head:<{_INDENT}}{text[0]}")
        lines.extend(" " * _INDENT + each for each in text[1:])
    return "\n".join(lines)


def _wrap(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > WIDTH - _INDENT:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
