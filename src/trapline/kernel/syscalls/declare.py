"""How a system call is declared, once: `@syscall("name")` over a function whose annotations say what each argument is.

The signature is the single source for decoding registers, for strace output, the coverage page and the fuzzer. An
argument type is `Annotated[int, Arg(width, show)]`: its C width and sign, and how it prints. `show` is a small language:

    dec, udec, hex, oct          a number
    fd, dirfd, pid, signal, mode, clock, whence
    path, str                    a string in user memory
    flags:TABLE, enum:TABLE      names from a table of `scope.names` (several bits, or one value)
    buf_in:ARG, buf_out          bytes in user memory; ARG names the argument with the length (out: the result is)
    struct:NAME, struct_out:NAME a structure read before, or written by, the call
    iov_in:ARG, iov_out:ARG      an iovec array of ARG entries
    ptr                          an address
    argv                         a NULL-terminated array of strings
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, get_type_hints

from trapline.abi.errno import Errno

Result = int | Coroutine[Any, Any, int]


@dataclass(frozen=True, slots=True)
class Arg:
    """Width in bits (negative: signed) of a C argument, and how it prints."""

    width: int
    show: str = "dec"


Int = Annotated[int, Arg(-32, "dec")]
UInt = Annotated[int, Arg(32, "udec")]
Long = Annotated[int, Arg(-64, "dec")]
ULong = Annotated[int, Arg(64, "udec")]
Size = Annotated[int, Arg(64, "udec")]
Hex = Annotated[int, Arg(64, "hex")]
Fd = Annotated[int, Arg(-32, "fd")]
DirFd = Annotated[int, Arg(-32, "dirfd")]
Pid = Annotated[int, Arg(-32, "pid")]
Signal = Annotated[int, Arg(-32, "signal")]
Mode = Annotated[int, Arg(32, "mode")]
UserPtr = Annotated[int, Arg(64, "ptr")]
Path = Annotated[int, Arg(64, "path")]
Str = Annotated[int, Arg(64, "str")]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    width: int
    show: str


@dataclass(slots=True)
class SystemCall:
    """One declared call. `returns` shows the result: dec, hex, fd, or ptr."""

    name: str
    handler: Callable[..., Result]
    parameters: tuple[Parameter, ...]
    family: str
    returns: str = "dec"
    partial: str = field(default="")

    @property
    def summary(self) -> str:
        doc = inspect.getdoc(self.handler) or ""
        return doc.split("\n", 1)[0]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that is deliberately answered with one errno, and why."""

    name: str
    error: type[Errno]
    why: str


SYSCALLS: dict[str, SystemCall] = {}
REFUSALS: dict[str, Refusal] = {}

_Handler = TypeVar("_Handler", bound=Callable[..., Result])


def syscall(name: str, *, returns: str = "dec") -> Callable[[_Handler], _Handler]:
    """Register the handler of call `name` and return it unchanged.

    The handler takes the task, then one annotated parameter per C argument. A docstring paragraph that starts with
    "Partial:" says what is missing. It returns an int, or a coroutine that will (when it must wait).
    """

    def register(handler: _Handler) -> _Handler:
        if name in SYSCALLS:
            raise ValueError(f"system call {name} is declared twice")
        doc = inspect.getdoc(handler) or ""
        partial = next((" ".join(p[8:].split()) for p in doc.split("\n\n") if p.startswith("Partial:")), "")
        SYSCALLS[name] = SystemCall(
            name, handler, (), handler.__module__.rpartition(".")[2], returns=returns, partial=partial
        )
        return handler

    return register


def parameters(call: SystemCall) -> tuple[Parameter, ...]:
    """The C parameters of a declared call, decoded from its annotations once, when first asked for."""
    if not call.parameters:
        hints = get_type_hints(call.handler, include_extras=True, localns={"Task": Any})
        names = list(inspect.signature(call.handler).parameters)[1:]
        args = [(each, hints[each].__metadata__[0]) for each in names]
        call.parameters = tuple(Parameter(each, arg.width, arg.show) for each, arg in args)
    return call.parameters


def refuse(error: type[Errno], why: str, *names: str) -> None:
    """Declare calls that are always answered with `error`."""
    for name in names:
        REFUSALS[name] = Refusal(name, error, why)
