"""The options of `trapline trace`: strace(1)'s, short and long, beside those of `trapline run` about the kernel.

A short option may be given with others (-ft) and with its value (-ofile, -o file). Options end at `--` or at the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trapline.cli.options import Option, Parsed, UsageError
from trapline.cli.options import parse as parse_long
from trapline.cli.run import OPTIONS

_NOT_HERE = ("--trace", "--report-fd")
KERNEL = tuple(each for each in OPTIONS if each.name not in _NOT_HERE)


class Switch(NamedTuple):
    """`letter`: "" for none; `long`: names; `value`: what its value is called; `optional`: a long name may do without it."""

    letter: str
    long: tuple[str, ...]
    value: str = ""
    help: str = ""
    optional: bool = False

    @property
    def key(self) -> str:
        return self.letter or self.long[0]


SWITCHES = (
    Switch("f", ("follow-forks",), "", "follow threads and children; -ff with -o FILE: into FILE.TID each"),
    Switch("o", ("output",), "FILE", "write to FILE instead of stderr; '|COMMAND' or '!COMMAND': into a command"),
    Switch("A", ("output-append-mode",), "", "append to the file of -o"),
    Switch("e", (), "EXPR", "trace=SET, signal=SET, status=SET, inject=SET:..., fault=SET:..., raw=SET, quiet=SET, "
           "decode-fds=SET, decode-pids=comm, abbrev=SET, verbose=SET, read=FDS, write=FDS; SET is [!]NAME,%CLASS,/REGEX,...; "
           "alone, EXPR is trace=EXPR"),
    Switch("P", ("trace-path",), "PATH", "only calls that access PATH"),
    Switch("z", ("successful-only",), "", "only calls that succeed"),
    Switch("Z", ("failed-only",), "", "only calls that fail"),
    Switch("y", (), "", "show the paths of descriptors; -yy: also devices' numbers and sockets"),
    Switch("Y", (), "", "show the names of processes"),
    Switch("t", (), "", "time of day; -tt: with microseconds; -ttt: since the epoch"),
    Switch("r", (), "", "time since the line before"),
    Switch("T", (), "", "time spent in each call"),
    Switch("i", ("instruction-pointer",), "", "show the instruction pointer"),
    Switch("k", ("stack-traces",), "", "show the stack behind each call and signal"),
    Switch("n", ("syscall-number",), "", "show the number of each call"),
    Switch("s", ("string-limit",), "N", "show at most N bytes of strings (default: 32)"),
    Switch("x", (), "", "binary strings in hexadecimal; -xx: all strings"),
    Switch("X", ("const-print-style",), "STYLE", "constants by name (abbrev), as numbers (raw), or as both (verbose)"),
    Switch("v", ("no-abbrev",), "", "show whole structures and the environment"),
    Switch("a", ("columns",), "COLUMN", "where results start (default: 40)"),
    Switch("q", (), "", "do not tell of new threads; -qq: nor of their ends"),
    Switch("c", ("summary-only",), "", "only a table of calls, errors and times"),
    Switch("C", ("summary",), "", "that table too"),
    Switch("w", ("summary-wall-clock",), "", "in the table: wall-clock time, not the kernel's work alone"),
    Switch("S", ("summary-sort-by",), "KEY", "sort it by time, min-time, max-time, avg-time, calls, errors, name, nothing"),
    Switch("U", ("summary-columns",), "LIST", "its columns: time-percent, total-time, min-time, max-time, avg-time, calls, "
           "errors, name"),
    Switch("O", ("summary-syscall-overhead",), "TIME", "take TIME (in us, or with a unit) off each call"),
    Switch("E", (), "VAR[=VAL]", "set a variable, or remove it"),
    Switch("u", (), "NAME", "run as this user; the same as --user"),
    Switch("V", ("version",), "", "say the version, and run nothing"),
    Switch("", ("json",), "", "write events as JSON lines instead of text"),
    Switch("", ("perfetto",), "FILE", "also write a timeline for ui.perfetto.dev to FILE"),
    Switch("", ("sqlite",), "FILE", "also write an SQLite database of all events to FILE, anew"),
    Switch("", ("output-separately",), "", "into FILE.TID each, without -f"),
)  # fmt: skip
#: Long names of strace's that stand for a letter with or without a value, or for an -e expression.
LONG = (
    Switch("", ("decode-fds",), "SET", optional=True),
    Switch("", ("strings-in-hex",), "WHICH", optional=True),
    Switch("", ("absolute-timestamps", "timestamps"), "FORMAT", optional=True),
    Switch("", ("relative-timestamps",), "PRECISION", optional=True),
    Switch("", ("syscall-times",), "PRECISION", optional=True),
    Switch("", ("quiet", "silent", "silence"), "SET", optional=True),
    *(Switch("", (name,), "SET") for name in ("trace", "signal", "status", "inject", "fault", "raw", "abbrev", "decode-pids")),
    *(Switch("", (name,), "SET") for name in ("verbose", "read", "write")),
)
NOTHING_RUNS = "nothing runs before PROGRAM: start it with `trapline trace PROGRAM`"
NO_TRACER = "the tracer is the kernel, and cannot be a grandchild"
NO_DEBUG = "there is no tracer to debug: --log shows the kernel's log"
#: What strace has and this cannot have, and why.
REFUSED = {
    "p": NOTHING_RUNS, "attach": NOTHING_RUNS,
    "D": NO_TRACER, "daemonize": NO_TRACER,
    "b": "the trace ends with the program", "detach-on": "the trace ends with the program",
    "I": "no signal of the program's reaches the tracer", "interruptible": "no signal of the program's reaches the tracer",
    "d": NO_DEBUG, "debug": NO_DEBUG,
    "seccomp-bpf": "no filter is needed: calls that are not traced are not stopped",
    "kvm": "no virtual CPU of KVM's runs", "tips": "see `trapline help trace`",
}  # fmt: skip
_BY_LETTER = {each.letter: each for each in SWITCHES if each.letter}
_BY_NAME = {name: each for each in (*SWITCHES, *LONG) for name in each.long}


class Line(NamedTuple):
    """`switches`: (key, value) in order; `kernel`: what is `trapline run`'s, with the program."""

    switches: list[tuple[str, str | None]]
    kernel: Parsed


def parse(words: Sequence[str]) -> Line:
    """Split a command line. Raises UsageError."""
    known = {option.name: option for option in KERNEL}
    found: list[tuple[str, str | None]] = []
    kernel: list[str] = []
    todo = list(reversed(words))
    while todo:
        word = todo.pop()
        if word == "--" or not word.startswith("-") or word == "-":
            todo += [word] if word != "--" else []
            break
        if not word.startswith("--"):
            _letters(word, todo, found, kernel)
        elif not _long(word, todo, found):
            kernel += _of_kernel(word, todo, known.get(word.partition("=")[0]))
    return Line(found, parse_long(kernel, KERNEL)._replace(rest=todo[::-1]))


def _letters(word: str, todo: list[str], found: list[tuple[str, str | None]], kernel: list[str]) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in REFUSED:
            raise UsageError(f"-{letter} cannot be: {REFUSED[letter]}")
        if letter == "h":
            kernel.append("--help")
            return
        switch = _BY_LETTER.get("f" if letter == "F" else letter)
        if switch is None:
            raise UsageError(f"unknown option -{letter}: --help lists the options")
        if switch.value:
            if not letters and not todo:
                raise UsageError(f"-{letter} needs a value: -{letter} {switch.value}")
            found.append((switch.key, letters or todo.pop()))
            return
        found.append((switch.key, None))


def _long(word: str, todo: list[str], found: list[tuple[str, str | None]]) -> bool:
    """A long option of strace's; False if it is none."""
    name, equals, value = word[2:].partition("=")
    if name in REFUSED:
        raise UsageError(f"--{name} cannot be: {REFUSED[name]}")
    switch = _BY_NAME.get(name)
    if switch is None:
        return False
    if equals and not switch.value:
        raise UsageError(f"--{name} takes no value: leave out ={value}")
    if switch.value and not equals and not switch.optional:
        if not todo:
            raise UsageError(f"--{name} needs a value: --{name}={switch.value}")
        equals, value = "=", todo.pop()
    found.append((switch.key, value if equals else None))
    return True


def _of_kernel(word: str, todo: list[str], option: Option | None) -> list[str]:
    """The words of an option of `trapline run`."""
    if option is not None and option.value and not option.optional and "=" not in word and todo:
        return [word, todo.pop()]
    return [word]


def options() -> list[Option]:
    """The switches for help."""
    out = []
    for each in SWITCHES:
        name = f"-{each.letter}" if each.letter else f"--{each.long[0]}"
        out.append(Option(name, each.value, each.help))
    return out
