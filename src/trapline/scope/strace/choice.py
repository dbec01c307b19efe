"""Choice: which calls and signals a trace is about: the sets of strace(1), `-e trace=`, `-e signal=`, `-e status=` and `-P`.

A set is `[!]value[,value]...`. A value for calls is a name, %class, /regex, `all` or `none`, with `?` before it where it may
match nothing, and @64 or @32 behind it. Calls of 32-bit code carry the names of the 64-bit ones here,
so that @32 and @x32 match none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from trapline.abi.syscalls import RISCV64, X86_64
from trapline.kernel.syscalls.declare import parameters
from trapline.scope.forward import Through
from trapline.scope.listener import Args, Listener
from trapline.scope.strace import names
from trapline.scope.strace.classes import BARE, CLASSES
from trapline.scope.strace.files import name_of
from trapline.scope.strace.memory import PATH_LIMIT, Decoder

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

Names = Callable[[str], bool]
KNOWN = frozenset(X86_64) | frozenset(RISCV64)
STATUSES = frozenset(("successful", "failed", "unfinished", "unavailable", "detached"))
MAX_SIGNAL = 64


class SetError(ValueError):
    """A word that names nothing; the text says which."""


def calls(text: str) -> frozenset[str]:
    """The names of system calls in a set. Raises SetError."""
    inverted, text = text[:1] == "!", text.removeprefix("!")
    found: set[str] = set()
    for word in text.split(","):
        found |= _calls(word)
    return KNOWN - found if inverted else frozenset(found)


def _calls(word: str) -> frozenset[str]:
    optional, word = word[:1] == "?", word.removeprefix("?")
    word, at, width = word.partition("@") if not word.startswith("/") else (word, "", "")
    if at and width not in ("64", "32", "x32"):
        raise SetError(f"invalid system call '{word}@{width}'")
    if word == "none":
        return frozenset()
    if word == "all":
        found = KNOWN
    elif word.startswith("/"):
        try:
            pattern = re.compile(word[1:])
        except re.error as error:
            raise SetError(f"invalid regular expression '{word[1:]}': {error}") from None
        found = frozenset(filter(pattern.search, KNOWN))
    elif word.startswith("%") or word in BARE:
        found = CLASSES.get(word.removeprefix("%"), frozenset())
    else:
        found = frozenset((word,)) & KNOWN
        if word.isdigit():
            found = frozenset(name for name, number in X86_64.items() if number == int(word))
    if not found and not optional:
        raise SetError(f"invalid system call '{word}'")
    return found if width in ("", "64") else frozenset()


def signals(text: str) -> frozenset[int]:
    """The numbers of signals in a set. Raises SetError."""
    inverted, text = text[:1] == "!", text.removeprefix("!")
    every = frozenset(range(1, MAX_SIGNAL + 1))
    found: frozenset[int] = frozenset()
    for word in text.split(","):
        if word not in ("all", "none"):
            found |= {signal(word)}
        elif word == "all":
            found = every
    return every - found if inverted else found


def signal(word: str) -> int:
    """The number of a signal: SIGINT, INT, int or 2. Raises SetError."""
    name = word.upper().removeprefix("SIG")
    number = int(word) if word.isdigit() else next((n for n, known in names.SIGNALS.items() if known == name), 0)
    if not 1 <= number <= MAX_SIGNAL:
        raise SetError(f"invalid signal '{word}'")
    return number


def descriptors(text: str) -> Callable[[int], bool]:
    """Whether a descriptor is in a set of numbers. Raises SetError."""
    inverted, text = text[:1] == "!", text.removeprefix("!")
    found: set[int] = set()
    every = False
    for word in text.split(","):
        if word == "all":
            every = True
        elif word.isdecimal() and word.isascii() and int(word) < 1 << 31:
            found.add(int(word))
        elif word != "none":
            raise SetError(f"invalid descriptor '{word}'")
    return lambda fd: (every or fd in found) is not inverted


def members(text: str, known: Iterable[str], what: str) -> frozenset[str]:
    """The words of a set that are in `known`. Raises SetError."""
    inverted, text = text[:1] == "!", text.removeprefix("!")
    every = frozenset(known)
    found: frozenset[str] = frozenset()
    for word in text.split(","):
        if word not in every and word not in ("all", "none"):
            raise SetError(f"invalid {what} '{word}'")
        found |= every if word == "all" else frozenset((word,)) & every
    return every - found if inverted else found


def paths_of(task: Task, call: SystemCall, args: Args) -> Iterator[bytes]:
    """The paths that a call's arguments name, and those of its descriptors."""
    decoder = Decoder(task, {})
    for each, value in zip(parameters(call), args, strict=False):
        if each.show == "path":
            found = decoder.string(value, PATH_LIMIT) if value else None
            if found is not None:
                yield found[0]
        elif each.show in ("fd", "dirfd"):
            name = name_of(task, value)
            if name is not None:
                yield name


def status_of(result: int | None) -> str:
    """What -e status calls the way a call ended."""
    if result is None:
        return "unfinished"
    return "failed" if -4096 < result < 0 else "successful"


class Chosen(Through):
    """Passes on the calls in `calls` that concern one of `paths` (if there are any), and the signals in `signals`."""

    def __init__(
        self, listener: Listener, calls: frozenset[str] | None, signals: frozenset[int] | None, paths: frozenset[bytes]
    ) -> None:
        super().__init__(listener)
        self._calls = calls
        self._signals = signals
        self._paths = paths
        self._open: set[Any] = set()

    def spawned(self, task: Task) -> None:
        if (self._calls is None or "execve" in self._calls) and not self._paths:
            self._listener.spawned(task)
        else:
            self._listener.started(task)

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        if (self._calls is None or call.name in self._calls) and (not self._paths or self._concerned(task, call, args)):
            self._open.add(task)
            self._listener.enter(task, call, args)

    def waits(self, task: Task) -> None:
        if task in self._open:
            self._listener.waits(task)

    def continues(self, task: Task) -> None:
        if task in self._open:
            self._listener.continues(task)

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        if task in self._open:
            self._open.discard(task)
            self._listener.exit(task, call, args, result)

    def signal(self, task: Task, info: Any) -> None:
        if self._signals is None or info.signo in self._signals:
            self._listener.signal(task, info)

    def ignored(self, task: Task, info: Any) -> None:
        if self._signals is None or info.signo in self._signals:
            self._listener.ignored(task, info)

    def exited(self, task: Task, status: int) -> None:
        self._open.discard(task)
        self._listener.exited(task, status)

    def _concerned(self, task: Task, call: SystemCall, args: Args) -> bool:
        return any(each in self._paths for each in paths_of(task, call, args))
