"""`trapline`: one table of commands, and help on them. Errors go to stderr as `trapline: what is wrong: what to do`.

Each command is a module of this package that is imported when it is asked for: `main(words)` runs it, `usage()` is its help.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from trapline.typed import Any

from trapline.cli.options import UsageError, likest

FAILED = 125  #: our own failure, as env(1) and timeout(1) have it
SIGINT = 2
YOUNG = 30_000  #: objects made before the youngest are looked through for garbage: more than a start makes

PLUGGED: set[int] = set()  #: the standard streams that the caller had closed

#: Sorted by importance: name -> (how it is called, what it does).
COMMANDS = {
    "run": ("[OPTION]... [--] PROGRAM [ARGUMENT]...", "run a program; `trapline help run` lists the options"),
    "trace": ("[OPTION]... [--] PROGRAM [ARGUMENT]...", "run a program and write its system calls, as strace does"),
    "ledger": ("[OPTION]... [--] PROGRAM [ARGUMENT]...", "run a program and say what each of its crossings cost, and why"),
    "explore": ("[OPTION]... [--] PROGRAM [ARGUMENT]...", "watch a program, or a saved trace, in a web page"),
    "maps": ("[OPTION]... [--] PROGRAM [ARGUMENT]...", "run a program and show its address space, areas and page tables"),
    "top": ("[OPTION]... [--] PROGRAM [ARGUMENT]...", "run a program and watch its tasks, calls, faults and memory"),
    "sweep": ("[OPTION]... [--] PROGRAM [ARGUMENT]...", "let each call fail in turn: which failures a program survives"),
    "boot": ("[OPTION]... FILE", "run a RISC-V computer: a bare-metal program, firmware, Linux"),
    "lab": ("list | LAB [OPTION]... | all", "put claims about the two spaces to the test; draw what is measured"),
    "doctor": ("[--json] [--prepare]", "say what this host offers, which machine will run, what is missing"),
}


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
        PLUGGED.add(fd)
    PLUGGED.discard(fd)
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
        if command in COMMANDS:
            return int(_module(command).main(rest))
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
        near = likest(command, (*COMMANDS, "help"))
        hint = f"did you mean `trapline {near}`?" if near else f"to run a program, write `trapline run {command}`"
        raise UsageError(f"unknown command {command}: {hint}")
    with suppress(OSError):
        os.write(2, usage().encode())
    return FAILED


def _help(topic: str) -> str:
    if topic in COMMANDS:
        return str(_module(topic).usage())
    if topic:
        near = likest(topic, COMMANDS)
        hint = f"did you mean `trapline help {near}`?" if near else f"there is help on {', '.join(COMMANDS)}"
        raise UsageError(f"no help on {topic}: {hint}")
    return usage()


def usage() -> str:
    """The help on all commands."""
    calls = "".join(f"       trapline {name} {how}\n" for name, (how, _) in COMMANDS.items())
    lines = "".join(f"  {name:<10} {what}\n" for name, (_, what) in COMMANDS.items())
    return f"""\
usage:{calls[6:]}       trapline help [COMMAND]
       trapline --version

Runs unmodified Linux programs in hardware user mode, under a kernel written in
Python.

{lines}"""


def _module(command: str) -> Any:
    return __import__(f"trapline.cli.{command}", fromlist=("main",))
