"""`trapline`: run, trace, boot, doctor, help. Errors go to stderr as `trapline: what is wrong: what to do`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from trapline.cli.options import UsageError

FAILED = 125  #: our own failure, as env(1) and timeout(1) have it
SIGINT = 2
YOUNG = 30_000  #: objects made before the youngest are looked through for garbage: more than a start makes

USAGE = """\
usage: trapline run [OPTION]... [--] PROGRAM [ARGUMENT]...
       trapline trace [OPTION]... [--] PROGRAM [ARGUMENT]...
       trapline boot [OPTION]... FILE
       trapline doctor [--json]
       trapline help [run|trace|boot|doctor]
       trapline --version

Runs unmodified Linux programs in hardware user mode, under a kernel written in
Python.

  run      run a program; `trapline help run` lists the options
  trace    run a program and write its system calls, as strace does
  boot     run a RISC-V computer: a bare-metal program, firmware, Linux
  doctor   say what this host offers, which machine will run, what is missing
"""


def say(text: str) -> int:
    """Print on stdout; the exit status: a reader that is gone is no failure, a full disk is."""
    data = memoryview(text.encode())
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        return 0
    except OSError as error:
        complain(f"standard output: {error.strerror}")
        return FAILED
    return 0


def complain(text: str) -> None:
    """One line on stderr, if anybody listens. Not through `sys.stderr`, which would try again at the end of the process."""
    with suppress(OSError):
        os.write(2, f"trapline: {text}\n".encode(errors="surrogateescape"))


def plug_streams() -> None:
    """Put /dev/null where the caller closed a standard stream, so that nothing that we open is taken for it."""
    fd = 0
    while fd <= 2:
        fd = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(fd, fd <= 2)
    os.close(fd)


def command() -> None:
    """The process `trapline`: `main`, then the end at once, for Python's own end would take 9 ms to take memory apart."""
    gc.set_threshold(YOUNG)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(code)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status of the command `words` (default: those of this process)."""
    words = list(sys.argv[1:] if words is None else words)
    plug_streams()
    command, rest = (words[0], words[1:]) if words else ("", [])
    try:
        if command == "run":
            from trapline.cli.run import main as run

            return run(rest)
        if command == "trace":
            from trapline.cli.trace import main as trace

            return trace(rest)
        if command == "boot":
            from trapline.cli.boot import main as boot

            return boot(rest)
        if command == "doctor":
            from trapline.cli.doctor import main as doctor

            return doctor(rest)
        return _small(command, rest)
    except UsageError as error:
        complain(str(error))
        return FAILED
    except KeyboardInterrupt:  # while nothing runs yet that it would be meant for
        from trapline.cli.run import leave

        return leave(-SIGINT)


def _small(command: str, rest: list[str]) -> int:
    if command in ("--version", "version"):
        from trapline import __version__

        return say(f"trapline {__version__}\n")
    if command in ("help", "--help", "-h"):
        return say(_help(rest[0] if rest else ""))
    if command:
        raise UsageError(f"unknown command {command}: to run a program, write `trapline run {command}`")
    with suppress(OSError):
        os.write(2, USAGE.encode())
    return FAILED


def _help(topic: str) -> str:
    if topic == "run":
        from trapline.cli.run import usage

        return usage()
    if topic == "trace":
        from trapline.cli.trace import usage as usage_of_trace

        return usage_of_trace()
    if topic == "boot":
        from trapline.cli.boot import usage as usage_of_boot

        return usage_of_boot()
    if topic == "doctor":
        from trapline.cli.doctor import usage as usage_of_doctor

        return usage_of_doctor()
    if topic:
        raise UsageError(f"no help on {topic}: there is `trapline help run`, `help trace`, `help boot` and `help doctor`")
    return USAGE
