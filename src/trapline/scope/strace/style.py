"""Style: how a trace is written: the options of strace(1) under "Output format". The default is strace's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trapline.scope.strace.constants import ABBREV
from trapline.scope.strace.text import ESCAPED, LIMIT

SECONDS, MILLI, MICRO, NANO = 0, 3, 6, 9  #: digits behind the point


def _none(name: str) -> bool:
    return False


class Style(NamedTuple):
    """`clock`: "" for no time of day, "time" or "unix"; `clock_digits`, `relative`, `duration`: digits, -1 for none at all."""

    limit: int = LIMIT  #: bytes of a string that are shown
    escape: int = ESCAPED  #: one of text.ESCAPED, HEX_STRINGS, ALL_HEX, HEX_CHARS
    column: int = 40  #: where results start
    paths: bool = False  #: of descriptors
    devices: bool = False  #: numbers of device files, and who is connected to a socket
    commands: bool = False  #: names of the processes behind numbers at the start of a line
    whole: bool = False  #: structures with every member
    abbreviated: Callable[[str], bool] | None = None  #: calls whose structures are abbreviated, if that depends on the call
    followed: Callable[[str], bool] | None = None  #: calls whose pointers to structures are followed; None: all
    pointers: bool = False  #: structures are just pointers: of the call at hand
    constants: str = ABBREV  #: one of constants.STYLES
    raw: Callable[[str], bool] = _none  #: calls whose arguments are just numbers
    clock: str = ""
    clock_digits: int = SECONDS
    relative: int = -1
    duration: int = -1
    stacks: bool = False  #: of each call and signal
    counter: bool = False  #: the instruction pointer
    number: bool = False  #: the call's number
    reads: Callable[[int], bool] | None = None  #: descriptors; what is read from them is dumped
    writes: Callable[[int], bool] | None = None  #: the same of what is written
    quiet: frozenset[str] = frozenset()  #: "attach", "exit", "path-resolution"


PLAIN = Style()
