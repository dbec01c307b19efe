"""`trapline explore`: a page in the browser, over a program that runs, or over a saved trace.

Exit status: as for `trapline run`. The page stays when the program has ended, until Ctrl-C.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from trapline.cli import values
from trapline.cli.browser import is_wanted, open_browser
from trapline.cli.main import FAILED, SIGINT, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.run import OPTIONS as RUN
from trapline.cli.run import Outputs, Report, execute, leave, observe
from trapline.scope.events import Recorder
from trapline.scope.web.console import Stream
from trapline.scope.web.feed import Feed
from trapline.scope.web.process import Address, Live, fork, serve_saved
from trapline.scope.web.saved import NoTrace, Saved
from trapline.scope.web.wire import Wire

if TYPE_CHECKING:
    from trapline.embed import Kernel

OPTIONS = (
    Option("--open", "FILE", "show a saved trace instead of running a program: JSON lines (`trapline trace --json`, or the "
           "page's own download) or SQLite (`trapline trace --sqlite`)"),
    Option("--port", "N", "listen on this port of 127.0.0.1 (default: any that is free)"),
    Option("--browser", "", "open a browser (default: if this is a terminal of a graphical session)"),
    Option("--no-browser", "", "only print the page's address"),
    Option("--no-wait", "", "start the program at once, not when the page is open"),
    Option("--console", "page|own", "where the program reads and writes: `page`, a terminal of its own, on the page; `own`, "
           "your standard streams, which the page shows too (default: page if standard input is a terminal)"),
    Option("--exit", "", "end with the program, not with Ctrl-C"),
)  # fmt: skip
_NOT_HERE = ("--report-fd", "--trace", "--help")
KERNEL = tuple(each for each in RUN if each.name not in _NOT_HERE)
HELP = Option("--help", "", "this text")


def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline explore [OPTION]... [--] PROGRAM [ARGUMENT]...
       trapline explore [OPTION]... --open FILE

Shows what PROGRAM asks of Trapline's kernel while it runs, in a page that only
this computer, and only with the address printed, can see.

{describe((*OPTIONS, HELP))}

options of `trapline run`:

{describe(KERNEL)}

exit status: as for `trapline run`
"""


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    parsed = parse(words, (*OPTIONS, *KERNEL, HELP))
    if parsed.flag("--help"):
        return say(usage())
    if parsed.flag("--browser") and parsed.flag("--no-browser"):
        raise UsageError("--browser and --no-browser: give one of them")
    if parsed.flag("--open"):
        return _open(parsed)
    if not parsed.rest:
        raise UsageError("no program: write `trapline explore PROGRAM`, or --open FILE")
    session = _Session(parsed, _listen(parsed))
    report = Report(parsed)
    stay = not parsed.flag("--exit")
    try:
        code = execute(parsed, report, session.observe)
    except UsageError as error:
        code = report.failed(FAILED, str(error))
    except KeyboardInterrupt:  # while no program runs that it would be meant for
        code, stay = -SIGINT, False
    session.end(code, stay)
    return leave(code)


def _open(parsed: Parsed) -> int:
    """Show a saved trace."""
    path = parsed.last("--open")
    if parsed.rest:
        raise UsageError("--open FILE shows a trace and runs nothing: leave out the program")
    try:
        saved = Saved(path)
    except OSError as error:
        raise UsageError(f"--open {path}: {error.strerror}") from None
    except NoTrace as error:
        raise UsageError(f"--open {path}: {error}") from None
    address = _listen(parsed)
    file = _announce(parsed, address)
    serve_saved(address, saved.fill)
    _remove(file)
    return 0


def _listen(parsed: Parsed) -> Address:
    port = values.number("--port", parsed.last("--port"), 0, 65535) if parsed.flag("--port") else 0
    try:
        return Address(port)
    except OSError as error:
        raise UsageError(f"--port {port}: {error.strerror}: choose another port, or none") from None


def _announce(parsed: Parsed, address: Address) -> str:
    """Say where the page is, and open it if that is wanted; a file to remove at the end, or ""."""
    complain(f"the page is at {address.url}")
    if parsed.flag("--browser") or (is_wanted() and not parsed.flag("--no-browser")):
        return open_browser(address.url)
    return ""


def _remove(file: str) -> None:
    if file:
        with suppress(OSError):
            os.unlink(file)


class _Streams(NamedTuple):
    """What takes the place of our standard streams while the program runs."""

    read: list[Stream]  #: where the server reads what the program writes
    terminal: int  #: the master side of the program's terminal, or -1
    program: dict[int, int]  #: our stream's number -> the descriptor that takes its place

    @classmethod
    def make(cls, wanted: str, own: list[int]) -> _Streams:
        """`own`: copies of our standard streams. Raises UsageError."""
        if wanted not in ("page", "own"):
            raise UsageError(f"--console {wanted}: there is `page` and `own`")
        if wanted == "page":
            master, slave = os.openpty()
            return cls([Stream(master, own[1])], master, {0: slave, 1: slave, 2: slave})
        out, err = os.pipe(), os.pipe()
        return cls([Stream(out[0], own[1]), Stream(err[0], own[2])], -1, {1: out[1], 2: err[1]})

    def close_program(self) -> None:
        for fd in set(self.program.values()):
            os.close(fd)

    def replace(self) -> None:
        """In the kernel's process: the program's sides take the place of ours; the server's are closed."""
        for each in self.read:
            os.close(each.source)
        for number, fd in self.program.items():
            os.dup2(fd, number)
        self.close_program()


class _Session:
    """A program that runs, the server's process, and the streams between them."""

    def __init__(self, parsed: Parsed, address: Address) -> None:
        self._parsed = parsed
        self._feed: Feed | None = None
        self._kernel: Kernel | None = None
        self._own = [os.dup(fd) for fd in (0, 1, 2)]
        streams = _Streams.make(parsed.last("--console") or ("page" if os.isatty(0) else "own"), self._own)
        ours, theirs = socket.socketpair()
        self._file = _announce(parsed, address)

        def live() -> Live:
            ours.close()
            streams.close_program()
            return Live(address, theirs, streams.read, streams.terminal)

        self._server = fork(live)
        theirs.close()
        address.socket.close()
        streams.replace()
        self._wire = Wire(ours)

    def observe(self, kernel: Kernel, parsed: Parsed, outputs: Outputs) -> Callable[[], None]:
        """Subscribe the feed; what is returned is called at the end."""
        observe(kernel, parsed, outputs)
        self._kernel = kernel
        deadline_ns = None
        if parsed.flag("--timeout"):
            deadline_ns = kernel.system.clock.monotonic_ns() + values.duration_ns("--timeout", parsed.last("--timeout"))
        feed = self._feed = Feed(kernel.system, self._wire, deadline_ns)
        kernel.subscribe(Recorder(feed))
        kernel.subscribe(feed)
        machine = kernel.system.machine
        started_ns = kernel.system.clock.realtime_ns()
        feed.tell(run={
            "status": "running", "program": parsed.rest, "machine": parsed.last("--machine", "host"), "why": "",
            "arch": machine.arch.name, "cpus": machine.cpus, "started_ns": started_ns,
        })  # fmt: skip
        if not parsed.flag("--no-wait"):
            feed.wait_for_page()
        return feed.finish

    def end(self, code: int, stay: bool) -> None:
        """The program ended, or did not start: tell the page, give the streams back, and stay if that is wanted."""
        timed_out = self._kernel is not None and self._kernel.timed_out
        exit_status = {"signal": -code} if code < 0 else {"status": code, "timed_out": timed_out}
        self._wire.send(b"S", {"run": {"status": "ended", "why": "", "exit": exit_status, "ended_ns": time.time_ns()}})
        self._wire.drain(10)
        for number, fd in enumerate(self._own):  # nothing of the program's streams is open after this
            os.dup2(fd, number)
            os.close(fd)
        if self._feed is not None and stay:
            complain("the program has ended; the page stays until Ctrl-C")
            with suppress(KeyboardInterrupt):
                self._feed.attend()
        self._wire.close()
        _remove(self._file)
        os.waitpid(self._server, 0)
        sys.stdout.flush()
