"""S2: every number of the system-call table, called once, beside what the kernel declares of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from trapline.typed import Any

from trapline.abi.arch import ABIS
from trapline.abi.errno import ENOSYS, of_number
from trapline.abi.signal import SIGALRM
from trapline.kernel.syscalls.declare import Refusal
from trapline.kernel.syscalls.find import declaration, status
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, Seen, run
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    number,
    refuted,
    supported,
    switch,
)

ITIMER_REAL = 0
HOSTS = "answered by the host"
_PATIENCE_US = 200_000  #: after so long a call that waits is ended
#: Numbers that the host's seccomp may let pass (newer kernels do), and what they say to all but the host's own trampolines
PASSING = {335: ("uretprobe", "signal 4"), 336: ("uprobe", "ENXIO")}
GONE = ("getpid", "uname", "getcwd", "dup", "pipe2", "readlinkat", "madvise", "getrandom", "sysinfo", "times")

EXPLAIN = """
A program goes through the numbers from 0 to somewhat beyond the last one that Linux has, makes a child for each, and
the child makes the call with that number and six zeros. A timer ends calls that wait. What comes back is compared
with what the kernel declares: supported or partial (there is a handler), refused (always the same errno, on purpose),
or missing.

A system call is a number in a register, and the kernel's table an array. All that a program can learn of a call that
does not exist is ENOSYS; so a table is honest if ENOSYS comes from exactly the numbers that have no handler, and from
calls that are refused as a kernel refuses that was built without them. A call that is there says something else even
to zeros: EFAULT for a null pointer, EBADF for a descriptor that is none, EINVAL for a size, or it succeeds, since
zeros mean something to it. A result is an error if it lies between -4095 and -1.

On the host machine two numbers may be answered by the host: its seccomp lets uretprobe and uprobe pass without asking
any filter, since its own tracing needs them. They do nothing for anybody but the host's trampolines (SIGILL; ENXIO),
and the table says when it happens.

The bars show what zeros bring. They are also the simplest test of a kernel there is: none of these calls may harm it,
and the program goes on to the next one each time.

`--without handlers` replaces ten handlers by ENOSYS, behind the declarations' back: the table then says more than is
true, and the comparison finds exactly these. docs/coverage.md has every call with its restrictions.

What this does not show: that a call does what its manual page says. That is what the conformance tests are for.
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    program = Program.of(knobs.machine)
    numbers = ABIS[program.arch].numbers
    names = {nr: name for name, nr in numbers.items()}
    last = max(names) + knobs.number("beyond")
    cells = _program(program, last)
    with lab_kernel(knobs.machine) as kernel:
        if not knobs.on("handlers"):
            for name in GONE:
                kernel.replace(name, _gone)
        progress(f"calling {last + 1} numbers")
        *children, _ = run(kernel, program)
    rows: dict[int, dict[str, Any]] = {}
    for child in children:
        nr = child[cells["number"]]
        result = child[cells["result"]] if child[cells["back"]] else None
        if nr not in rows or (result or 0) > (rows[nr]["result"] or 0):  # of fork(2), the parent's
            rows[nr] = _row(nr, names.get(nr, ""), result, child, knobs.machine == "host")
    return {"machine": knobs.machine, "last": last, "rows": [rows[nr] for nr in sorted(rows)]}


def _gone(task: Any, *arguments: int) -> int:
    raise ENOSYS


def _program(program: Program, last: int) -> dict[str, Cell]:
    cells = {name: program.cell() for name in ("number", "result", "back")}
    timer = program.put(bytes(24) + _PATIENCE_US.to_bytes(8, "little"))  # struct itimerval: once
    again, done = program.here(), program.label()
    program.if_zero(program.sum(cells["number"], -last - 1), done)
    with program.child():
        program.call("setitimer", ITIMER_REAL, timer, 0)
        program.set(cells["result"], program.call_number(cells["number"], 0, 0, 0, 0, 0, 0))
        program.set(cells["back"], 1)
    program.add(cells["number"], 1)
    program.goto(again)
    program.here(done)
    program.exit(0)
    return cells


def _row(nr: int, name: str, result: int | None, child: Seen, host: bool) -> dict[str, Any]:
    kind, _ = status(name) if name else ("no such number", "")
    signal = child.status & 0x7F
    if result is not None:
        error = of_number(-result) if -4096 < result < 0 else None
        outcome = error.name if error is not None else "succeeds" if result >= 0 else str(result)
    else:
        outcome = {SIGALRM: "waits"}.get(signal, f"signal {signal}") if signal else "does not return"
    if host and outcome != ENOSYS.name and not name and nr in PASSING:
        name, said = PASSING[nr]
        return {"number": nr, "name": name, "result": result, "declared": HOSTS, "outcome": outcome, "right": outcome == said}
    found = declaration(name) if name else None
    wanted = found.error.name if isinstance(found, Refusal) else "" if found is not None else ENOSYS.name
    right = outcome == wanted if wanted else outcome != ENOSYS.name
    return {"number": nr, "name": name, "result": result, "declared": kind, "outcome": outcome, "right": right}


def draw(figures: Figures) -> Sequence[Chart]:
    rows = figures["rows"]
    declared = Counter(row["declared"] for row in rows)
    lines = []
    for kind, count in declared.most_common():
        mine = [row for row in rows if row["declared"] == kind]
        common = ", ".join(f"{what} {often}" for what, often in Counter(row["outcome"] for row in mine).most_common(4))
        lines.append([kind, count, sum(not row["right"] for row in mine), common])
    outcomes = Counter(row["outcome"] for row in rows if row["declared"] in ("supported", "partial"))
    heads = ("declared", "calls", "wrong", "what came back")
    charts: list[Chart] = [Table(f"{len(rows)} numbers, each called with six zeros", heads, lines)]
    wrong = [[row["number"], row["name"], row["declared"], row["outcome"]] for row in rows if not row["right"]]
    if wrong:
        charts.append(Table("Not as declared", ("number", "call", "declared", "came back"), wrong))
    return [*charts, Bars("What calls that have a handler say to zeros", outcomes.most_common(14))]


def verdict(figures: Figures) -> Verdict:
    rows = figures["rows"]
    if len(rows) != figures["last"] + 1:
        return refuted(f"only {len(rows)} of {figures['last'] + 1} numbers were called and answered")
    wrong = [row["name"] or str(row["number"]) for row in rows if not row["right"]]
    if wrong:
        return refuted(f"{len(wrong)} calls are not as they are declared: {', '.join(wrong[:12])}")
    has = sum(row["declared"] in ("supported", "partial") for row in rows)
    nothing = sum(row["outcome"] == ENOSYS.name for row in rows)
    passed = [row["name"] for row in rows if row["declared"] == HOSTS]
    besides = f"; {' and '.join(passed)} never came here, for the host's seccomp lets them pass" if passed else ""
    return supported(
        f"of {len(rows)} numbers {has} led to a handler, {nothing} were answered with ENOSYS, all as declared, and the program "
        f"went on after each of them{besides}"
    )


LAB = Lab(
    id="S2",
    name="table",
    title="Every entry of the table",
    question="What does the kernel say to each number that a program can put into the register?",
    claim="System calls are numbered; the number selects an entry of the kernel's table, which defines all that programs can "
    "ask for.",
    machines=("host", "riscv"),
    seconds=3,
    knobs=(
        number("beyond", 20, "how many numbers beyond the last one", 1, 1000),
        switch("handlers", "off: ten handlers are taken away, and their declarations are not"),
    ),
    off="--without handlers",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
