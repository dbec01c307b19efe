"""How a system call is declared, once: `@syscall("name")` over a function whose annotations say what each argument is.

The signature is the single source for decoding registers, for strace output, the coverage page and the fuzzer. An
argument type is `Annotated[int, Arg(width, show)]`: its C width and sign, and how it prints. `show` is a small language:

    dec, udec, hex, oct          a number
    fd, dirfd, pid, signal, mode, clock, whence
    path, str                    a string in user memory
    flags:TABLE, enum:TABLE      names from a table of `scope.strace.names` (several bits, or one value)
    buf_in:ARG, buf_out          bytes in user memory; ARG names the argument with the length (out: the result is)
    struct:NAME, struct_out:NAME a structure read before, or written by, the call
    iov_in:ARG, iov_out:ARG      an iovec array of ARG entries
    ptr                          an address
    argv                         a NULL-terminated array of strings
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from trapline.typed import Annotated, Any, NamedTuple, TypeVar

from trapline.abi.errno import Errno

Result = int | Coroutine[Any, Any, int]


class Arg(NamedTuple):
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


class Parameter(NamedTuple):
    name: str
    width: int
    show: str


class SystemCall:
    """One declared call. `returns` shows the result: dec, hex, fd, or ptr."""

    __slots__ = ("family", "handler", "name", "parameters", "returns")

    def __init__(
        self, name: str, handler: Callable[..., Result], parameters: tuple[Parameter, ...], family: str, returns: str = "dec"
    ) -> None:
        self.name = name
        self.handler = handler
        self.parameters = parameters
        self.family = family
        self.returns = returns

    @property
    def summary(self) -> str:
        return self._paragraphs()[0].split("\n", 1)[0]

    @property
    def partial(self) -> str:
        """What is missing: the paragraph of the handler's docstring that starts with "Partial:"."""
        return next((" ".join(each[8:].split()) for each in self._paragraphs() if each.startswith("Partial:")), "")

    def _paragraphs(self) -> list[str]:
        import inspect  # not while a kernel starts: it takes several milliseconds

        return (inspect.getdoc(self.handler) or "").split("\n\n")


class Refusal(NamedTuple):
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
        SYSCALLS[name] = SystemCall(name, handler, (), handler.__module__.rpartition(".")[2], returns)
        return handler

    return register


def parameters(call: SystemCall) -> tuple[Parameter, ...]:
    """The C parameters of a declared call, decoded from its annotations once, when first asked for."""
    if not call.parameters:
        code = call.handler.__code__
        hints = call.handler.__annotations__
        args = [(each, _argument(hints[each], call.handler)) for each in code.co_varnames[1 : code.co_argcount]]
        call.parameters = tuple(Parameter(each, arg.width, arg.show) for each, arg in args)
    return call.parameters


def _argument(annotation: Any, handler: Callable[..., Result]) -> Arg:
    """What an annotation, postponed or not, says of a C argument. (typing.get_type_hints takes ten times as long.)"""
    hint = eval(annotation, handler.__globals__) if isinstance(annotation, str) else annotation
    found: Arg = hint.__metadata__[0]
    return found


def refuse(error: type[Errno], why: str, *names: str) -> None:
    """Declare calls that are always answered with `error`."""
    for name in names:
        REFUSALS[name] = Refusal(name, error, why)
