"""`%%trapline` in Jupyter and IPython: run a cell as a program in a kernel of its own, and look at what it did.

    %load_ext trapline
    %%trapline --trace
    ls /etc | wc -l

The cell is a shell script; with --python or --c it is a program in that language. What it prints is shown as it comes. The
cell's value is a Result, whose view in a notebook says how the program ended and shows what was asked for.
"""

from __future__ import annotations

import codecs
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from trapline.abi.errno import Errno
from trapline.cli.environment import environment
from trapline.cli.main import complain
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.run import OPTIONS as RUN
from trapline.cli.run import Outputs, allow_descriptors, kernel_settings
from trapline.cli.values import duration_ns
from trapline.embed import Kernel
from trapline.kernel.config import ConfigError, Identity
from trapline.kernel.task.task import Task, ThreadGroup
from trapline.machine.select import NoMachine
from trapline.scope.collected import Trace
from trapline.scope.events import Recorder
from trapline.scope.ledger.account import Account
from trapline.scope.ledger.account_text import tables
from trapline.scope.ledger.ledger import Ledger
from trapline.scope.listener import Listener
from trapline.scope.views import aslr, spacetext
from trapline.scope.views.aslr import Randomness
from trapline.scope.views.cached import Cached
from trapline.scope.views.html import Html, join, page, tag
from trapline.scope.views.htmlviews import account, process, space, trace
from trapline.scope.views.space import Space, look
from trapline.scope.views.walks import Walk

STREAM_LIMIT = 16 << 20  #: of each stream, what is kept and shown; more is counted
_NOT_HERE = ("--report-fd", "--dump-pagetables", "--log", "--trace", "--help")
OPTIONS = (
    Option("--python", "", "the cell is a Python program"),
    Option("--c", "", "the cell is a C program: compiled by the host's compiler, in a sandbox"),
    Option("--trace", "", "keep and show all calls and signals"),
    Option("--ledger", "", "say where the time of the crossings went"),
    Option("--maps", "", "show the address space of the first process at its end"),
    Option("-o", "NAME", "put the result into variable NAME"),
    Option("--quiet", "", "do not show what the program prints; the result has it"),
    *(each for each in RUN if each.name not in _NOT_HERE),
)
CELL = "/tmp/cell"
COMPILERS = {"host": "gcc", "riscv": "riscv64-linux-gnu-gcc"}


def usage() -> str:
    """The help text."""
    return f"%%trapline [OPTION]... [ARGUMENT]...\n\nRuns the cell as a program.\n\n{describe(OPTIONS)}\n"


#: How a terminal shows what a notebook draws.
_TEXTS: dict[type, Callable[[Any], str]] = {
    Space: lambda found: f"{spacetext.head(found)}\n{spacetext.table(found)}", Walk: spacetext.walk, Cached: spacetext.cached,
    Randomness: aslr.render, Account: lambda found: tables(found, "call", 20),
}  # fmt: skip


class Result:
    """How a cell's program ended, and what was asked for."""

    def __init__(self) -> None:
        self.returncode = 0  #: exit status, or minus the signal's number
        self.timed_out = False
        self.stdout, self.stderr = b"", b""
        self.seconds = 0.0
        self.trace: Trace | None = None
        self.ledger: Account | None = None
        self.space: Space | None = None

    @property
    def text(self) -> str:
        """Its standard output."""
        return self.stdout.decode(errors="replace")

    @property
    def ended(self) -> str:
        """In words."""
        if self.timed_out:
            return "the time-out ended it"
        return f"killed by signal {-self.returncode}" if self.returncode < 0 else f"exit status {self.returncode}"

    def __repr__(self) -> str:
        return f"<{self.ended}, {self.seconds:.2f} s>"

    def _repr_html_(self) -> str:
        parts: list[Html] = [trace(self.trace)] if self.trace is not None else []
        parts += [account(self.ledger)] if self.ledger is not None else []
        parts += [space(self.space)] if self.space is not None else []
        return page(tag("span", f"{self.ended}, {self.seconds:.2f} s", class_="bad" if self.returncode else ""), join(parts))


class _Stream:
    """Takes what the program writes, shows it as it comes, and keeps it: `fd` is the end to write to."""

    def __init__(self, shown: Callable[[str], object] | None) -> None:
        self._ours, self.fd = os.pipe()
        self._shown = shown
        self._data = bytearray()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        while chunk := os.read(self._ours, 1 << 16):
            room = STREAM_LIMIT - len(self._data)
            if room > 0:
                self._data += chunk[:room]
                if self._shown is not None:
                    self._shown(decode(chunk[:room]))
        os.close(self._ours)

    def end(self) -> bytes:
        """All that was written, up to the limit; the guest is gone."""
        os.close(self.fd)
        self._thread.join()
        return bytes(self._data)


class _AtEnd(Listener):
    """Looks at the first process when it ends."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.found: Space | None = None

    def exiting(self, task: Task) -> None:
        if task.group is self._kernel.system.first and task.mm is not None and task.mm.users == 1:
            self.found = look(self._kernel.system, task.group.pid)


def run_cell(line: str, cell: str) -> tuple[Result, str]:
    """Run `cell` as the options on `line` say: the result, and the name that it is to have. Raises UsageError."""
    parsed = parse(shlex.split(line), OPTIONS)
    name = parsed.last("-o")
    if name and not name.isidentifier():
        raise UsageError(f"-o {name}: not a name for a variable")
    if parsed.flag("--python") and parsed.flag("--c"):
        raise UsageError("--python and --c: choose one")
    machine = "riscv" if parsed.last("--machine") == "riscv" else "host"
    program = _compiled(cell, machine) if parsed.flag("--c") else cell.encode()
    command = [CELL] if parsed.flag("--c") else ["python3" if parsed.flag("--python") else "sh", CELL]
    return _run(parsed, program, [*command, *parsed.rest], machine), name


def _run(parsed: Parsed, program: bytes, command: list[str], machine: str) -> Result:
    outputs, result = Outputs(), Result()
    settings = kernel_settings(parsed, outputs)
    timeout = duration_ns("--timeout", parsed.last("--timeout")) / 1e9 if parsed.flag("--timeout") else None
    env = environment(parsed.all("--env"), parsed.flag("--clear-env"), settings["identity"])
    allow_descriptors()
    quiet = parsed.flag("--quiet")
    stdout, stderr = _Stream(None if quiet else sys.stdout.write), _Stream(None if quiet else sys.stderr.write)
    started = time.monotonic()
    try:
        with Kernel(stdio=(-1, stdout.fd, stderr.fd), forward_signals=False, **settings) as kernel:
            kernel.add_file(CELL, program, 0o755)
            events, ledger, end = Trace(), Ledger(kernel.system.clock.monotonic_ns), _AtEnd(kernel)
            for option, listener in (("--trace", Recorder(events)), ("--ledger", ledger), ("--maps", end)):
                if parsed.flag(option):
                    kernel.subscribe(listener)
            result.returncode = kernel.run(command, env=env, cwd=parsed.last("--workdir"), timeout=timeout)
            result.timed_out = kernel.timed_out
    finally:
        result.stdout, result.stderr = stdout.end(), stderr.end()
        outputs.close()
    result.seconds = time.monotonic() - started
    result.trace = events if parsed.flag("--trace") else None
    if parsed.flag("--ledger"):
        result.ledger = Account.of(ledger, machine, command, int(result.seconds * 1e9))
    result.space = end.found
    return result


def _compiled(cell: str, machine: str) -> bytes:
    """The program of a cell in C. The compiler runs in a kernel of its own, on the host machine. Raises UsageError."""
    stdout, stderr = _Stream(None), _Stream(None)
    compiler = COMPILERS[machine]
    words = [compiler, "-O1", "-g", *(["-static"] if machine == "riscv" else []), "-x", "c", f"{CELL}.c", "-o", CELL, "-lm"]
    try:
        with Kernel(stdio=(-1, stdout.fd, stderr.fd), forward_signals=False) as kernel:
            kernel.add_file(f"{CELL}.c", cell)
            code = kernel.run(words, env=environment((), False, Identity()), timeout=60)
            program = kernel.read_file(CELL) if code == 0 else b""
    except Errno as error:
        raise UsageError(f"--c needs {compiler} on the host: {error}") from None
    finally:
        stdout.end()
        said = stderr.end().decode(errors="replace")
    if code:
        raise UsageError(f"{compiler} failed with status {code}:\n{said}")
    if said:
        sys.stderr.write(said)
    return program


def load(shell: Any) -> None:
    """Register the magic, and how a process is shown."""

    def trapline(line: str, cell: str | None = None) -> Result | None:
        """Run the cell as a program in a kernel of its own: `%%trapline --help`."""
        if cell is None or "--help" in line.split():
            print(usage())
            return None
        try:
            result, name = run_cell(line, cell)
        except UsageError as error:
            complain_in_cell(str(error))
            return None
        except (NoMachine, ConfigError, Errno, OSError, ValueError) as error:
            complain_in_cell(f"the program did not start: {error}")
            return None
        if name:
            shell.push({name: result})
        return result

    shell.register_magic_function(trapline, "line_cell", "trapline")
    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type(ThreadGroup, process)
    for kind, text in _TEXTS.items():
        formatters["text/plain"].for_type(kind, lambda found, printer, _, text=text: printer.text(text(found).rstrip()))


def complain_in_cell(text: str) -> None:
    """Where errors of a cell are shown."""
    try:
        sys.stderr.write(f"trapline: {text}\n")
    except OSError:
        complain(text)
