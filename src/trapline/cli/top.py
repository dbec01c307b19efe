"""`trapline top`: run a program and watch its tasks: on the whole screen, or as text. Exit status: as for `trapline run`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.cli import values
from trapline.cli.main import FAILED, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.run import OPTIONS as RUN
from trapline.cli.run import Outputs, Report, execute, leave, observe
from trapline.scope.views.space import plain
from trapline.scope.views.tasks import Sample, Tally, between, sample
from trapline.scope.views.taskstext import KEYS, table

if TYPE_CHECKING:
    from trapline.embed import Kernel

KERNEL = tuple(each for each in RUN if each.name not in ("--trace", "--dump-pagetables", "--report-fd"))
OPTIONS = (
    Option("--batch", "", "print tables on stdout instead of a screen; what the program prints goes to stderr"),
    Option("-n", "N", "with --batch: print N tables (default: until the program ends); the program goes on to its end"),
    Option("-d", "TIME", "time between two looks (default: 1s)"),
    Option("--sort", "KEY", f"sort by {', '.join(KEYS)} (default: cpu)"),
    Option("--reverse", "", "the other way round"),
    Option("--threads", "", "a line for each thread instead of each process"),
    Option("--json", "", "with --batch: one JSON object a line for each look"),
    Option("--output", "FILE", "what the program prints, stdout and stderr, goes to FILE"),
)
FEED = Option("--feed", "FD,FD", "for the screen's own use: samples to the first descriptor, orders from the second")
INTERVAL_NS = 1_000_000_000
KEYS_HELP = """\
keys: arrows choose a task, Enter opens it (memory, files, calls, ledger), Esc
closes; s next sort key, r reverse, t threads, p or space pause, k send a
signal, o output, q quit"""


def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline top [OPTION]... [--] PROGRAM [ARGUMENT]...

Runs PROGRAM under Trapline's kernel and shows its tasks while they run: their
times, faults and memory, and what they ask of the kernel. The program's input
is empty unless --batch is given.

{describe(OPTIONS)}

{KEYS_HELP}

options of `trapline run`:

{describe(KERNEL)}

exit status: as for `trapline run`
"""


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    parsed = parse(words, (*OPTIONS, FEED, *KERNEL))
    if parsed.flag("--help"):
        return say(usage())
    if not parsed.rest:
        raise UsageError("no program: write `trapline top PROGRAM`")
    key = parsed.last("--sort", "cpu")
    if key not in KEYS:
        raise UsageError(f"--sort {key}: there is {', '.join(KEYS)}")
    for option in ("-n", "--json"):
        if parsed.flag(option) and not parsed.flag("--batch"):
            raise UsageError(f"{option} is for --batch")
    if parsed.flag("--feed"):
        from trapline.cli.top_feed import Feed

        return _run(parsed, Feed(parsed))
    if parsed.flag("--batch"):
        return _run(parsed, Batch(parsed, _aside(parsed)))
    return _screen(words, parsed)


def interval_ns(parsed: Parsed) -> int:
    """The time between two looks."""
    return values.duration_ns("-d", parsed.last("-d")) if parsed.flag("-d") else INTERVAL_NS


def _screen(words: list[str], parsed: Parsed) -> int:
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("top needs a terminal: write `trapline top --batch`")
    try:
        from trapline.cli.top_screen import Watcher
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("textual", "rich"):
            raise
        raise UsageError("the screen needs textual: pip install 'trapline[top]', or write `trapline top --batch`") from None
    interval_ns(parsed)  # says what is wrong with it
    watcher = Watcher(words, parsed)
    watcher.run()
    if watcher.complaint:
        complain(watcher.complaint)
    return leave(watcher.code)


def _run(parsed: Parsed, batch: Batch) -> int:
    report = Report(parsed)
    try:
        code = execute(parsed, report, batch.observe)
    except UsageError as error:
        code = report.failed(FAILED, str(error))
    return leave(code)


def _aside(parsed: Parsed) -> int:
    """Keep stdout for the tables, and give the program another; the descriptor of what is kept."""
    kept = os.dup(1)
    os.set_inheritable(kept, False)
    redirect(parsed)
    return kept


def redirect(parsed: Parsed) -> None:
    """What the program prints goes to --output, or to stderr. Raises UsageError."""
    if not parsed.flag("--output"):
        os.dup2(2, 1)
        return
    path = parsed.last("--output")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}: choose another file") from None
    sys.stdout.flush()
    os.dup2(fd, 1)
    os.close(fd)


class Batch:
    """Looks at a kernel again and again, and writes what it sees."""

    def __init__(self, parsed: Parsed, fd: int) -> None:
        self._fd = fd
        self._parsed = parsed
        self._interval_ns = interval_ns(parsed)
        self._left = values.number("-n", parsed.last("-n"), 1, 1 << 31) if parsed.flag("-n") else -1
        self.by_thread = parsed.flag("--threads")
        self._before: Sample | None = None
        self.kernel: Kernel
        self.tally: Tally

    def observe(self, kernel: Kernel, parsed: Parsed, outputs: Outputs) -> Callable[[], None]:
        """Subscribe, and look from now on; what is returned looks a last time."""
        observe(kernel, parsed, outputs)
        self.kernel, self.tally = kernel, Tally(kernel.system)
        kernel.subscribe(self.tally)
        self._before = sample(kernel.system, self.tally, by_thread=self.by_thread)
        self._again()
        return self.finish

    def _again(self) -> None:
        system = self.kernel.system
        system.timers.add(system.clock.monotonic_ns() + self._interval_ns, self._due)

    def _due(self) -> None:
        self.look()
        if self._left:
            self._again()

    def look(self) -> None:
        """Write one table."""
        now = sample(self.kernel.system, self.tally, by_thread=self.by_thread)
        before, self._before = self._before, now
        assert before is not None
        rates = between(before, now)
        if self._parsed.flag("--json"):
            text = json.dumps({"sample": plain(now), "rates": plain(rates)}) + "\n"
        else:
            key = self._parsed.last("--sort", "cpu")
            text = table(now, rates, key, reverse=self._parsed.flag("--reverse")) + "\n"
        self._left -= 1
        if not self._write(text):
            self._left = 0

    def finish(self) -> None:
        """The program has ended, if it ever ran: a last table, unless there were enough."""
        if self._left and self.kernel.system.first is not None:
            self.look()
        os.close(self._fd)

    def _write(self, text: str) -> bool:
        """False: nobody reads any more."""
        data = memoryview(text.encode())
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BrokenPipeError:
            return False
        except OSError as error:
            complain(f"standard output: not all was written: {error.strerror}")
            return False
        return True
