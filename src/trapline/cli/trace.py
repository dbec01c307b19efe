"""`trapline trace`: run a program and write what it asks of the kernel, in strace(1)'s format and others.

Exit status: as for `trapline run`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline import __version__
from trapline.abi.errno import Errno
from trapline.cli import switches
from trapline.cli.main import FAILED, complain, say
from trapline.cli.options import Parsed, UsageError, describe
from trapline.cli.run import Outputs, Report, execute, leave, observe
from trapline.cli.wanted import Wanted, read
from trapline.scope.events import Recorder, Sink
from trapline.scope.forward import First, Separate
from trapline.scope.jsonlines import JsonLines
from trapline.scope.listener import Listener
from trapline.scope.perfetto import Perfetto
from trapline.scope.strace.choice import Chosen
from trapline.scope.strace.strace import Strace
from trapline.scope.strace.summary import Summary
from trapline.scope.tamper.inject import Injector

if TYPE_CHECKING:
    from trapline.cli.sqlite import Sqlite
    from trapline.embed import Kernel
    from trapline.kernel.task.task import Task


def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline trace [OPTION]... [--] PROGRAM [ARGUMENT]...

Runs PROGRAM under Trapline's kernel and writes the system calls it makes and
the signals it gets, as strace does; with interference, if that is wanted.

{describe(switches.options())}

options of `trapline run`:

{describe(switches.KERNEL)}

exit status: as for `trapline run`
"""


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    line = switches.parse(words)
    if line.kernel.flag("--help"):
        return say(usage())
    if ("V", None) in line.switches:
        return say(f"trapline {__version__}\n")
    if not line.kernel.rest:
        raise UsageError("no program: write `trapline trace PROGRAM`")
    wanted = read(line.switches)
    parsed = line.kernel
    for assignment in wanted.variables:
        parsed.values.setdefault("--env", []).append(assignment)
    if wanted.user:
        parsed.values["--user"] = [wanted.user]
    report = Report(parsed)
    try:
        code = execute(parsed, report, _Session(wanted).observe, wanted.unset)
    except UsageError as error:
        code = report.failed(FAILED, str(error))
    return leave(code)


class _Session:
    """One traced run."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._injector = Injector(wanted.rules)
        self._summary: Summary | None = None
        self._perfetto: Perfetto | None = None
        self._sqlite: Sqlite | None = None

    def observe(self, kernel: Kernel, parsed: Parsed, outputs: Outputs) -> Callable[[], None]:
        """Subscribe what is wanted; what is returned writes what comes at the end."""
        observe(kernel, parsed, outputs)
        wanted = self._wanted
        paths = self._paths(kernel, os.fsencode(parsed.last("--workdir")) or kernel.system.root.cwd)
        write = self._open(outputs)
        listeners: list[Listener] = []
        if not wanted.summary_only:
            listeners.append(self._text(outputs, write))
        if wanted.summary_only or wanted.summary:
            self._summary = Summary(wall=wanted.wall, overhead_ns=wanted.overhead_ns, statuses=wanted.statuses)
            listeners.append(self._summary)
        if wanted.perfetto:
            self._perfetto = Perfetto(outputs.open("--perfetto", wanted.perfetto))
            listeners.append(self._recorder(self._perfetto))
        if wanted.sqlite:
            from trapline.cli.sqlite import Sqlite

            self._sqlite = Sqlite(wanted.sqlite)
            listeners.append(self._recorder(self._sqlite))
        for each in listeners:
            chosen = Chosen(each, wanted.calls, wanted.signals, paths)
            kernel.subscribe(chosen if wanted.follow else First(chosen))
        if wanted.rules:
            kernel.interpose(self._injector)
            kernel.subscribe(self._injector)
        return lambda: self._finish(write)

    def _finish(self, write: Callable[[str], object]) -> None:
        if self._summary is not None:
            write(self._summary.table(self._wanted.columns, self._wanted.order))
        if self._perfetto is not None:
            self._perfetto.close()
        if self._sqlite is not None:
            self._sqlite.close()

    def _paths(self, kernel: Kernel, workdir: bytes) -> frozenset[bytes]:
        """The paths of -P, and what they lead to."""
        found: set[bytes] = set()
        for path in self._wanted.paths:
            name = os.fsencode(path)
            found.add(name)
            try:
                real = kernel.system.vfs.at_root(os.path.join(workdir, name)).display()
            except Errno:
                continue
            if real != name and "path-resolution" not in self._wanted.style.quiet:
                complain(f'Requested path "{path}" resolved into "{os.fsdecode(real)}"')
            found.add(real)
        return frozenset(found)

    def _open(self, outputs: Outputs) -> Callable[[str], object]:
        """Where the trace goes; with -ff, where the table goes."""
        wanted = self._wanted
        if wanted.separate and wanted.output:
            return outputs.open("-o", "")
        if wanted.output[:1] in ("|", "!"):
            return outputs.pipe("-o", wanted.output[1:])
        return outputs.open("-o", wanted.output, append=wanted.append)

    def _recorder(self, sink: Sink) -> Recorder:
        return Recorder(sink, style=self._wanted.style, statuses=self._wanted.statuses, mark=self._injector.mark)

    def _text(self, outputs: Outputs, write: Callable[[str], object]) -> Listener:
        """What writes each call, in all files that are wanted."""
        wanted = self._wanted

        def one(write: Callable[[str], object], separate: bool) -> Listener:
            if wanted.json:
                return self._recorder(JsonLines(write))
            return Strace(
                write, always_pid=wanted.follow and bool(wanted.output) and not separate,
                announce=wanted.follow and not wanted.output and "attach" not in wanted.style.quiet,
                style=wanted.style, statuses=wanted.statuses, mark=self._injector.mark,
            )  # fmt: skip

        def file(task: Task) -> str:
            return f"{wanted.output}.{task.tid}"

        def of_task(task: Task) -> Listener:
            return one(outputs.open("-o", file(task), append=wanted.append), True)

        if wanted.separate and wanted.output:
            return Separate(of_task, lambda task: outputs.shut("-o", file(task)))
        return one(write, False)
