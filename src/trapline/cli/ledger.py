"""`trapline ledger`: run a program and say where the time of its crossings went; or compare two such runs.

Exit status: as for `trapline run`; of a comparison 0, or 125 if a file is no ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.cli.main import FAILED, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.run import OPTIONS as RUN
from trapline.cli.run import Outputs, Report, execute, leave, observe
from trapline.cli.values import number

if TYPE_CHECKING:
    from trapline.embed import Kernel
    from trapline.scope.ledger.account import Account

MAX_TOP = 1_000_000
KEYS = ("call", "kind", "task", "path")
OWN = (
    Option("-f", "", "follow threads and children"),
    Option("-o", "FILE", "write to FILE instead of stderr"),
    Option("--by", "KEY", "put crossings together by call (the default), kind, task or path"),
    Option("--top", "N", "show the N most expensive (default: 20; 0: all)"),
    Option("--histogram", "", "show how the durations of each are spread, too"),
    Option("--flame", "FILE", "write a flame graph: FILE.svg a picture, FILE.txt folded stacks"),
    Option("--json", "", "write the ledger as JSON instead of tables"),
    Option("--save", "FILE", "keep the ledger, as JSON, in FILE"),
    Option("--compare", "", "run nothing: compare two ledgers that were kept, FILE and FILE"),
)
OPTIONS = (*OWN, *(each for each in RUN if each.name != "--report-fd"))


def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline ledger [OPTION]... [--] PROGRAM [ARGUMENT]...
       trapline ledger --compare [--by KEY] [--top N] BEFORE AFTER

Runs PROGRAM under Trapline's kernel and says what each crossing between its
user mode and the kernel cost, and in which part: trap, decode, policy, copies,
body, wait, queue, resume; and what measuring that cost.

{describe(OWN)}

options of `trapline run`:

{describe(OPTIONS[len(OWN) :])}

exit status: as for `trapline run`; of a comparison 0
"""


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    parsed = parse(words, OPTIONS)
    if parsed.flag("--help"):
        return say(usage())
    key, top = _key(parsed), _top(parsed)
    if parsed.flag("--compare"):
        return say(_compare(parsed.rest, key, top))
    if not parsed.rest:
        raise UsageError("no program: write `trapline ledger PROGRAM`")
    _flame_format(parsed.last("--flame"))
    report = Report(parsed)
    try:
        code = execute(parsed, report, _observe)
    except UsageError as error:
        code = report.failed(FAILED, str(error))
    return leave(code)


def _key(parsed: Parsed) -> str:
    key = parsed.last("--by", "call")
    if key not in KEYS:
        raise UsageError(f"--by {key}: there is {', '.join(KEYS)}")
    return key


def _top(parsed: Parsed) -> int:
    return number("--top", parsed.last("--top", "20"), 0, MAX_TOP)


def _flame_format(path: str) -> str:
    """"svg" or "txt". Raises UsageError."""
    ending = path.rpartition(".")[2]
    if path and ending not in ("svg", "txt"):
        raise UsageError(f"--flame {path}: the name must end in .svg or .txt")
    return ending


def _observe(kernel: Kernel, parsed: Parsed, outputs: Outputs) -> Callable[[], None]:
    """Subscribe a ledger; what is returned writes it."""
    from trapline.scope.forward import First
    from trapline.scope.ledger.account import Account
    from trapline.scope.ledger.ledger import Ledger

    observe(kernel, parsed, outputs)
    write = outputs.open("-o", parsed.last("-o"))
    flame, save = parsed.last("--flame"), parsed.last("--save")
    write_flame = outputs.open("--flame", flame) if flame else None
    write_save = outputs.open("--save", save) if save else None
    ledger = Ledger(kernel.system.clock.monotonic_ns, paths=_key(parsed) == "path")
    kernel.subscribe(ledger if parsed.flag("-f") else First(ledger))
    start_ns = time.monotonic_ns()

    def finish() -> None:
        machine = "riscv" if kernel.system.machine.arch.name == "riscv64" else "host"
        account = Account.of(ledger, machine, parsed.rest, time.monotonic_ns() - start_ns)
        write(_text(account, parsed))
        if write_flame is not None:
            from trapline.scope.ledger.flame import folded, svg

            write_flame(svg(account) if _flame_format(flame) == "svg" else folded(account))
        if write_save is not None:
            write_save(account.text())

    return finish


def _text(account: Account, parsed: Parsed) -> str:
    if parsed.flag("--json"):
        return account.text()
    from trapline.scope.ledger.account_text import histograms, tables

    key, top = _key(parsed), _top(parsed)
    text = tables(account, key, top)
    return f"{text}\n{histograms(account, key, top)}" if parsed.flag("--histogram") else text


def _compare(files: list[str], key: str, top: int) -> str:
    if len(files) != 2:
        raise UsageError("--compare needs two files: those that `trapline ledger --save FILE` wrote, before and after")
    from trapline.scope.ledger.account_text import comparison

    before, after = map(_load, files)
    return comparison(before, after, key, top)


def _load(path: str) -> Account:
    from trapline.scope.ledger.account import Account, NoAccount

    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return Account.load(file.read())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}: choose another file") from None
    except NoAccount as error:
        raise UsageError(f"{path}: {error}") from None
