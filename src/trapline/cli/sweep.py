"""`trapline sweep`: run a program once for each crossing that may fail, and report which failures it does not survive.

Exit status: 0 if it survives all, 1 if not, 125 our own failure, 126 and 127 as for `trapline run`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.cli import values
from trapline.cli.environment import environment
from trapline.cli.main import FAILED, SIGINT, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.run import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    OPTIONS,
    Outputs,
    allow_descriptors,
    kernel_settings,
    leave,
)
from trapline.scope.strace.text import printable

if TYPE_CHECKING:
    from trapline.sweep import Case, Outcome, Report, Sweep

Write = Callable[[str], int]  #: what takes text, and says with which exit status

_SWEEP = (
    Option("--calls", "SET", "only these calls: names, %classes, /regexes, as `trapline trace -e trace=` has them"),
    Option("--errors", "E,E...", "fail with these errors (EIO, ENOMEM, ...) instead of those that a call's manual page has"),
    Option("--every-error", "", "all errors that a call's manual page has, not only the most telling one"),
    Option("--with", "KIND,...", "kinds of failures: error, short (a transfer that moves half), interrupt (EINTR where a call "
           "had to wait); default: error,short"),
    Option("--each", "N", "only every N-th crossing"),
    Option("--loader", "", "also the calls of the dynamic loader (glibc's ld.so), which are left out otherwise"),
    Option("--compare", "all|status", "what must be as without failure: exit status, output and changed files (all, the "
           "default), or the exit status alone"),
    Option("--ignore", "GLOB", "files that may differ: caches, temporary names", many=True),
    Option("--input", "FILE", "the program's standard input (default: empty)"),
    Option("--timeout", "TIME", "a run that takes longer hangs (default: 20 times the first run, at least 2 s)"),
    Option("--list", "", "only list the cases"),
    Option("--case", "N", "run case N alone, and show what it prints and its last calls"),
    Option("--all", "", "list every outcome, not only failures that are not survived"),
    Option("--json", "", "write every outcome as one JSON object a line, instead of text"),
    Option("-o", "FILE", "write to FILE instead of stdout"),
)  # fmt: skip
_NOT_HERE = ("--trace", "--report-fd", "--save-overlay", "--dump-pagetables", "--rw", "--timeout", "--log", "--help")
_HELP = Option("--help", "", "this text")
KERNEL = tuple(each for each in OPTIONS if each.name not in _NOT_HERE)
_TAIL = 15
_COLOURS = {"crashed": 31, "hung": 31, "silent": 31, "missed": 33, "warned": 33}


def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline sweep [OPTION]... [--] PROGRAM [ARGUMENT]...

Runs PROGRAM once for each system call it makes that could fail, lets that one
fail, and reports which failures it does not survive: it crashes, hangs, or
exits as if all were well and has done something else. Each run has a kernel of
its own; nothing that the program writes reaches the host.

{describe(_SWEEP)}

options of `trapline run`:

{describe((*KERNEL, _HELP))}

exit status: 0 if every failure is survived; 1 if not; 125 trapline itself
failed, or there is nothing to compare with; 126 and 127 as `trapline run`
"""


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    parsed = parse(words, (*_SWEEP, *KERNEL, _HELP))
    if parsed.flag("--help"):
        return say(usage())
    if not parsed.rest:
        raise UsageError("no program: write `trapline sweep PROGRAM`")
    from trapline.abi.errno import ENOENT, Errno
    from trapline.kernel.config import ConfigError
    from trapline.kernel.panic import KernelPanic
    from trapline.machine.select import NoMachine
    from trapline.sweep import NotRepeatable, SweepError

    allow_descriptors()
    outputs = Outputs()
    try:
        return _sweep(parsed, outputs)
    except ENOENT:
        complain(f"{parsed.rest[0]}: not found in the guest: `--bind` or `--root /` can show more of the host")
        return NOT_FOUND
    except SweepError as error:
        complain(f"{error} (--compare=status)" if isinstance(error, NotRepeatable) else str(error))
    except Errno as error:
        complain(f"{parsed.rest[0]}: cannot be executed: {error}")
        return NOT_EXECUTABLE
    except (NoMachine, ConfigError, KernelPanic, ValueError, OSError) as error:
        complain(str(error))
    finally:
        outputs.close()
    return FAILED


def _sweep(parsed: Parsed, outputs: Outputs) -> int:
    write = _writer(parsed, outputs)
    sweep = _planned(parsed, outputs)
    if parsed.flag("--list"):
        return write("".join(f"{_line(each)}\n" for each in sweep.cases))
    if parsed.flag("--case"):
        number = values.number("--case", parsed.last("--case"), 1, max(1, len(sweep.cases)))
        return _alone(sweep, sweep.cases[number - 1], write)
    progress = _Progress(len(sweep.cases), parsed, write)
    report = sweep.run(progress=progress.done)
    progress.end()
    return progress.failed or _conclude(report, sweep, (lambda _: 0) if parsed.flag("--json") else write)


def _writer(parsed: Parsed, outputs: Outputs) -> Write:
    if not parsed.flag("-o"):
        return say
    write = outputs.open("-o", parsed.last("-o"))

    def to_file(text: str) -> int:
        write(text)
        return 0

    return to_file


def _planned(parsed: Parsed, outputs: Outputs) -> Sweep:
    from trapline.sandbox import Sandbox
    from trapline.scope.strace.choice import SetError
    from trapline.sweep import Sweep

    settings = kernel_settings(parsed, outputs)
    for each in settings["binds"]:
        if each.endswith(":rw"):
            raise UsageError(f"--bind {each}: nothing may stay of a run, for there are many: leave out :rw")
    settings["aslr"] = False  # addresses would differ from run to run
    settings.pop("log", None)
    env = environment(parsed.all("--env"), parsed.flag("--clear-env"), settings["identity"])
    timeout = values.duration_ns("--timeout", parsed.last("--timeout")) / 1e9 if parsed.flag("--timeout") else None
    workdir = values.directory(parsed.last("--workdir")) if parsed.flag("--workdir") else ""
    try:
        return Sweep(
            parsed.rest, sandbox=Sandbox(**settings), calls=parsed.last("--calls", "all"), kinds=_kinds(parsed),
            errors=_errors(parsed), every_error=parsed.flag("--every-error"), loader=parsed.flag("--loader"), timeout=timeout,
            each=values.number("--each", parsed.last("--each", "1"), 1, 1 << 31), env=env, cwd=workdir,
            status_only=_chosen(parsed, "--compare", ("all", "status")) == "status", input=_input(parsed),
            ignore=parsed.all("--ignore"),
        )  # fmt: skip
    except SetError as error:
        raise UsageError(f"--calls {parsed.last('--calls')}: {error}") from None


def _kinds(parsed: Parsed) -> list[str]:
    from trapline.scope.tamper.failures import KINDS
    from trapline.sweep import DEFAULT_KINDS

    if not parsed.flag("--with"):
        return sorted(DEFAULT_KINDS)
    kinds = parsed.last("--with").split(",")
    for each in kinds:
        if each not in KINDS:
            raise UsageError(f"--with {each}: the kinds are {', '.join(KINDS)}")
    return kinds


def _errors(parsed: Parsed) -> list[str]:
    from trapline.abi.errno import TEXTS

    errors = parsed.last("--errors").split(",") if parsed.flag("--errors") else []
    for each in errors:
        if each not in TEXTS:
            raise UsageError(f"--errors {each}: no such error: names are as in errno(3), for example EIO")
    return errors


def _chosen(parsed: Parsed, option: str, words: tuple[str, ...]) -> str:
    word = parsed.last(option, words[0])
    if word not in words:
        raise UsageError(f"{option} {word}: choose {' or '.join(words)}")
    return word


def _input(parsed: Parsed) -> bytes:
    if not parsed.flag("--input"):
        return b""
    path = parsed.last("--input")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"--input {path}: {error.strerror}") from None


class _Progress:
    """How far a sweep is, on a terminal; outcomes that matter, as they come."""

    def __init__(self, total: int, parsed: Parsed, write: Write) -> None:
        self._total, self._write = total, write
        self._everything, self._json = parsed.flag("--all"), parsed.flag("--json")
        self._count = self._bad = 0
        self._live = os.isatty(2)
        self._colour = os.isatty(1) and "NO_COLOR" not in os.environ and not parsed.flag("-o")
        self.failed = 0  #: the exit status, if something could not be written

    def done(self, outcome: Outcome) -> None:
        self._count += 1
        self._bad += not outcome.survived
        if self._json:
            self.failed |= self._write(json.dumps(_record(outcome)) + "\n")
        elif self._everything or not outcome.survived:
            self.end()
            kind = outcome.kind
            if self._colour and kind in _COLOURS:
                kind = f"\x1b[{_COLOURS[kind]}m{kind}\x1b[m"
            self.failed |= self._write(f"{_line(outcome.case)}\n    {kind}: {printable(outcome.why)}\n")
        if self._live:
            sys.stderr.write(f"\r{self._count} of {self._total} runs, {self._bad} not survived ")
            sys.stderr.flush()

    def end(self) -> None:
        """Take the line with the progress away."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _line(case: Case) -> str:
    return f"#{case.number} {printable(str(case.call))}: {case.failure.text}"


def _record(outcome: Outcome) -> dict[str, Any]:
    case, call = outcome.case, outcome.case.call
    return {
        "case": case.number, "crossing": str(case.crossing), "call": call.name, "shown": call.shown, "result": call.result,
        "kind": case.failure.kind, "failure": case.failure.text, "outcome": outcome.kind, "why": outcome.why,
        "survived": outcome.survived, "returncode": outcome.done.returncode,
        "stderr": outcome.done.stderr[:2000].decode(errors="replace"),
    }  # fmt: skip


def _conclude(report: Report, sweep: Sweep, write: Write) -> int:
    bad = report.not_survived
    parts = ", ".join(f"{count} {kind}" for kind, count in report.counts().items())
    said = f"{report.total} crossings, {len(sweep.cases)} failures tried: {parts or 'none'}\n"
    interrupted = len(report.outcomes) < len(sweep.cases)
    if interrupted:
        said = f"interrupted after {len(report.outcomes)} of {len(sweep.cases)} runs: {parts or 'none'}\n"
    if bad:
        said += f"to see one alone, add: --case {bad[0].case.number}\n"
    code = write(said)
    return leave(-SIGINT) if interrupted else code or (1 if bad else 0)


def _alone(sweep: Sweep, case: Case, write: Write) -> int:
    """Run one case, and show all of it."""
    outcome = sweep.one(case)
    done = outcome.done
    calls = [printable(str(each)) for each in done.trace.calls()]
    injected = next((n for n, each in enumerate(done.trace.calls()) if each.injected), len(calls))
    parts = [f"{_line(case)}\n", *(f"    {each}\n" for each in calls[max(0, injected - 3) : injected + _TAIL])]
    for name, data in (("output", done.stdout), ("errors", done.stderr)):
        text = data.decode(errors="replace")
        parts += [f"{name}:\n", *(f"    {printable(line)}\n" for line in text.splitlines())] if text else []
    parts.append(f"{outcome.kind}: {printable(outcome.why)}\n")
    return write("".join(parts)) or (0 if outcome.survived else 1)
