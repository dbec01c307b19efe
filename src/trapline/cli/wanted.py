"""Wanted: what the switches of `trapline trace` ask for."""

from __future__ import annotations

from typing import Any

from trapline.cli.options import UsageError
from trapline.scope.strace import choice, constants, summary
from trapline.scope.strace.choice import STATUSES, SetError
from trapline.scope.strace.style import MICRO, MILLI, NANO, PLAIN, SECONDS, Style
from trapline.scope.strace.text import ALL_HEX, ESCAPED, HEX_CHARS, HEX_STRINGS
from trapline.scope.tamper import rules

PRECISION = {"s": SECONDS, "ms": MILLI, "us": MICRO, "ns": NANO}
QUIET = ("attach", "exit", "path-resolution", "personality", "thread-execve", "superseded")
QUIET_LEVELS = ((), ("attach", "personality"), ("attach", "personality", "exit"), QUIET)
DETAILS = ("dev", "path", "pidfd", "socket")
HEX = {"none": ESCAPED, "non-ascii-chars": HEX_CHARS, "non-ascii": HEX_STRINGS, "all": ALL_HEX, None: ALL_HEX}
#: Short words for the keys of -e.
KEYS = {
    "t": "trace", "s": "signal", "signals": "signal", "a": "abbrev", "v": "verbose", "x": "raw", "r": "read", "reads": "read",
    "w": "write", "writes": "write", "q": "quiet", "silent": "quiet", "silence": "quiet",
}  # fmt: skip
EXPRESSIONS = frozenset(
    "trace signal status inject fault raw quiet decode-fds decode-pids abbrev verbose read write".split()
)
MAX_LIMIT = 1 << 24


class Wanted:
    """The defaults are strace's."""

    def __init__(self) -> None:
        self.style: Style = PLAIN
        self.follow = self.separate = self.append = False
        self.output = self.user = self.perfetto = self.sqlite = ""
        self.json = False
        self.calls: frozenset[str] | None = None  #: None: all
        self.signals: frozenset[int] | None = None
        self.statuses: frozenset[str] | None = None
        self.paths: list[str] = []
        self.rules: list[rules.Rule] = []
        self.summary = self.summary_only = self.wall = False
        self.columns: tuple[str, ...] = summary.DEFAULT_COLUMNS
        self.order = "time-percent"
        self.overhead_ns = 0
        self.variables: list[str | None] = []
        self.unset: list[str] = []

    def restyle(self, **changes: Any) -> None:
        self.style = self.style._replace(**changes)


def read(switches: list[tuple[str, str | None]]) -> Wanted:
    """What (key, value) pairs ask for. Raises UsageError."""
    wanted = Wanted()
    counts: dict[str, int] = {}
    for key, value in switches:
        counts[key] = counts.get(key, 0) + 1
        name = f"-{key}" if len(key) == 1 else f"--{key}"
        try:
            _one(wanted, key, value, counts[key])
        except SetError as error:
            raise UsageError(f"{name} {value}: {error}") from None
        except ValueError:
            raise UsageError(f"{name} {value}: not a value it can have: --help lists the options") from None
    _check(wanted)
    return wanted


def _check(wanted: Wanted) -> None:
    if wanted.summary and wanted.summary_only:
        raise UsageError("-c and -C exclude each other: -C also writes the calls")
    if wanted.separate and wanted.output[:1] in ("|", "!"):
        raise UsageError("-ff cannot write into a command: give -o FILE, or -f once")
    if wanted.separate and wanted.output and wanted.summary_only:
        raise UsageError("-c with -ff -o: the table is one for all: give -f once")
    if wanted.json and wanted.summary_only:
        raise UsageError("-c writes no events: leave out --json")


def _one(wanted: Wanted, key: str, value: str | None, times: int) -> None:
    """Take in one switch. Raises ValueError."""
    given = value or ""
    if key in _FLAGS:
        setattr(wanted, _FLAGS[key], True)
    elif key in _STYLES:
        wanted.restyle(**{_STYLES[key]: True})
    elif key == "v":
        wanted.restyle(whole=True, abbreviated=None)
    elif key in _COUNTED:
        _counted(wanted, key, times)
    elif key in ("output", "o", "u", "perfetto", "sqlite"):
        setattr(wanted, {"o": "output", "u": "user"}.get(key, key), given)
    elif key == "e":
        _expression(wanted, given)
    elif key in EXPRESSIONS:
        _qualify(wanted, key, "all" if value is None else given)
    elif key == "P":
        wanted.paths.append(given)
    elif key == "E":
        (wanted.variables if "=" in given else wanted.unset).append(given)
    elif key in ("s", "a"):
        wanted.restyle(**{"limit" if key == "s" else "column": _number(given)})
    elif key == "X":
        if given not in constants.STYLES:
            raise ValueError
        wanted.restyle(constants=given)
    elif key in ("S", "U", "O"):
        _table(wanted, key, given)
    else:
        _timing(wanted, key, value)


_FLAGS = {
    "A": "append", "c": "summary_only", "C": "summary", "w": "wall", "json": "json", "output-separately": "separate",
}  # fmt: skip
_STYLES = {"i": "counter", "k": "stacks", "n": "number", "Y": "commands"}
_COUNTED = frozenset("fyxqtrTzZ")


def _counted(wanted: Wanted, key: str, times: int) -> None:
    """Switches without a value, most of which say more when they are repeated."""
    if key == "f":
        wanted.follow = True
        wanted.separate = wanted.separate or times > 1
    elif key == "y":
        wanted.restyle(paths=True, devices=times > 1)
    elif key == "x":
        wanted.restyle(escape=HEX_STRINGS if times == 1 else ALL_HEX)
    elif key == "q":
        wanted.restyle(quiet=frozenset(QUIET_LEVELS[min(times, 3)]))
    elif key == "t":
        wanted.restyle(clock="time" if times < 3 else "unix", clock_digits=SECONDS if times == 1 else MICRO)
    elif key == "r":
        wanted.restyle(relative=MICRO)
    elif key == "T":
        wanted.restyle(duration=MICRO)
    else:
        wanted.statuses = frozenset(("successful" if key == "z" else "failed",))


def _number(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MAX_LIMIT:
        raise ValueError
    return value


def _table(wanted: Wanted, key: str, value: str) -> None:
    if key == "S":
        wanted.order = summary.order(value)
    elif key == "U":
        wanted.columns = summary.columns(value)
    else:
        wanted.overhead_ns = rules.duration_ns(value)


def _timing(wanted: Wanted, key: str, value: str | None) -> None:
    """The long options whose value may be left out."""
    if key == "strings-in-hex":
        if value not in HEX:
            raise ValueError
        wanted.restyle(escape=HEX[value])
    elif key == "relative-timestamps":
        wanted.restyle(relative=_precision(value))
    elif key == "syscall-times":
        wanted.restyle(duration=_precision(value))
    else:
        for word in (value or "time").split(","):
            word = word.rpartition(":")[2]
            if word in PRECISION:
                wanted.restyle(clock=wanted.style.clock or "time", clock_digits=PRECISION[word])
            elif word in ("none", "time", "unix"):
                wanted.restyle(clock="" if word == "none" else word)
            else:
                raise ValueError


def _precision(value: str | None) -> int:
    if value is not None and value not in PRECISION:
        raise ValueError
    return PRECISION[value or "us"]


def _expression(wanted: Wanted, text: str) -> None:
    """-e [KEY=]VALUE."""
    key, equals, value = text.partition("=")
    key = KEYS.get(key, key)
    if equals and key == "kvm":
        from trapline.cli.switches import REFUSED

        raise SetError(f"cannot be: {REFUSED[key]}")
    if equals and key in EXPRESSIONS:
        _qualify(wanted, key, value)
    else:
        _qualify(wanted, "trace", text)


def _qualify(wanted: Wanted, key: str, value: str) -> None:
    if key == "trace":
        wanted.calls = choice.calls(value)
    elif key == "signal":
        wanted.signals = choice.signals(value)
    elif key == "status":
        wanted.statuses = choice.members(value, STATUSES, "status")
    elif key == "raw":
        wanted.restyle(raw=choice.calls(value).__contains__)
    elif key == "quiet":
        wanted.restyle(quiet=choice.members(value, QUIET, "quiet"))
    elif key == "decode-fds":
        details = choice.members(value, DETAILS, "decode-fds")
        wanted.restyle(paths=bool(details), devices=bool(details & {"dev", "socket"}))
    elif key == "decode-pids":
        wanted.restyle(commands=bool(choice.members(value, ("comm",), "decode-pids")))
    elif key == "abbrev":
        wanted.restyle(abbreviated=choice.calls(value).__contains__)
    elif key == "verbose":
        wanted.restyle(followed=choice.calls(value).__contains__)
    elif key in ("read", "write"):
        wanted.restyle(**{f"{key}s": choice.descriptors(value)})
    else:
        wanted.rules.append(rules.rule(value, fault=key == "fault"))
