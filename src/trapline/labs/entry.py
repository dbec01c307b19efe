"""S3: what every way into the kernel costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trapline.abi import signal as sig
from trapline.labs.code import guest, hostrun, symbols, ways
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    LabError,
    Progress,
    Verdict,
    number,
    refuted,
    supported,
    switch,
)
from trapline.scope.listener import Listener
from trapline.user.vdso.vdso import load_image

if TYPE_CHECKING:
    from trapline.embed import Kernel

EXPLAIN = """
User code enters the kernel where the processor lets it, and nowhere else. x86-64 has several such doors, by age: int 0x80, a
trap through the vector table, which loads segments and a stack from memory; the vsyscall page, at a fixed address, once code
that answered three calls, today a trap that the kernel emulates; syscall, made for the purpose, which takes the new program
counter from a register. sysenter is Intel's for 32-bit code: on AMD's processors it does not exist in 64-bit code, and traps.
RISC-V has one: ecall. The vDSO is no door: it is a shared object of the kernel's, mapped into every program, whose
clock_gettime reads a page that the kernel keeps up to date and the processor's counter, and answers without crossing.

The program is machine code put together by this lab; it goes each way many times and keeps the fastest of many rounds. The
same file runs under this kernel and, if --native=on, directly on the host's, so what differs is the kernel. How often each
way really enters the kernel is counted in a second, shorter run, by an observer of this kernel.

Look at: the ratio of syscall to vDSO, on either side. Natively int 0x80 costs more than syscall by what the processor does
more: it saves the whole state and looks segments up. Under this kernel each arrives as a signal of the host's (SIGSYS), and
that is what takes the time. On the RISC-V machine the vDSO's functions make their system call: reading the emulated clock
would cost no less.

Try: --without vdso. The program finds no vDSO, and does what a C library does: it makes the system call.

Limits: figures are of this moment and this computer. vsyscall may be switched off in the host's kernel (vsyscall=none): then
the native row says so.
"""
ROUNDS, RUNS = 10, 3


def measure(knobs: Knobs, progress: Progress) -> Figures:
    calls = knobs.number("calls")
    hide = _without_vdso if not knobs.on("vdso") else None
    offset = _offset(load_image("x86_64")[0], "this kernel's")
    progress("this kernel, on the host's processor")
    program = ways.x86_program(offset, calls, ROUNDS)
    ours, native = [], []
    closed: list[dict[str, str]] = []
    for _ in range(RUNS):  # in turn, so that both see the same neighbours
        data = guest.run(program, take=ways.TAKE, prepare=hide).data
        closed = _closed(data)
        ours.append(_x86_prices(data, calls))
        native += _native(calls) if knobs.on("native") else []
    tables = [_table("this kernel, host machine", ways.X86_WAYS, ours)]
    if native:
        tables.append(_table("the host's kernel", ways.X86_WAYS, native))
    if knobs.on("riscv"):
        progress("this kernel, on the RISC-V machine")
        image = load_image("riscv64")[0]
        code = ways.riscv_program(_offset(image, "the RISC-V machine's"), calls, 5)
        found = guest.run(code, machine="riscv", take=ways.TAKE).data
        prices = [100 / calls * each.units for each in ways.prices(found, ways.RISCV_WAYS)]
        tables.append(_table("this kernel, RISC-V machine", ways.RISCV_WAYS, [prices]))
    progress("how often each way enters the kernel")
    return {"tables": tables, "crossings": _crossings(offset, knobs.on("vdso")), "closed": closed}


def _offset(image: bytes, whose: str) -> int:
    found = symbols.functions(image).get("__vdso_clock_gettime")
    if found is None:
        raise LabError(f"{whose} vDSO has no function __vdso_clock_gettime: build the package anew")
    return found


def _x86_prices(data: bytes, calls: int) -> list[float | None]:
    """Nanoseconds for one call, by way; None: it cannot be gone."""
    scale = ways.ns_per_tick(data) / calls
    return [each.units * scale if each.gone else None for each in ways.prices(data, ways.X86_WAYS)]


def _closed(data: bytes) -> list[dict[str, str]]:
    """The doors that are none, and what came of trying."""
    return [
        {"way": way.name, "signal": sig.NAMES[price.signo] if price.signo else "not tried on this processor"}
        for way, price in zip(ways.X86_WAYS, ways.prices(data, ways.X86_WAYS), strict=True)
        if not price.gone
    ]


def _native(calls: int) -> list[list[float | None]]:
    """The same when the host's own kernel runs the program; nothing if that cannot be."""
    offset = symbols.functions(hostrun.vdso()).get("__vdso_clock_gettime")
    data = hostrun.run(ways.x86_program(offset, calls, ROUNDS)) if offset is not None else None
    return [_x86_prices(data, calls)] if data and len(data) == ways.TAKE else []


def _without_vdso(kernel: Kernel) -> Callable[[], None]:
    """As in a kernel that was built without one, programs are told of none. The result puts it back."""
    system, vdso = kernel.system, kernel.system.vdso
    system.vdso = None
    return lambda: setattr(system, "vdso", vdso)


def _table(where: str, every: Sequence[ways.Way], runs: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """The least of each way over all runs, in nanoseconds."""
    least = [min((each for each in prices if each is not None), default=None) for prices in zip(*runs, strict=True)]
    rows = [{"way": way.name, "ns": None if ns is None else round(ns, 2)} for way, ns in zip(every, least, strict=True)]
    return {"where": where, "rows": rows}


class _Count(Listener):
    """How often each call came in, by the door."""

    def __init__(self) -> None:
        self.found: Counter[tuple[str, int]] = Counter()

    def enter(self, task: Any, call: Any, args: Any) -> None:
        self.found[call.name, task.ctx.entry] += 1


def _crossings(offset: int, vdso: bool) -> list[dict[str, Any]]:
    """Of each way, how often one call of it enters the kernel, on the host machine."""
    calls, rounds, count = 200, 20, _Count()

    def prepare(kernel: Kernel) -> Callable[[], None] | None:
        kernel.subscribe(count)
        return None if vdso else _without_vdso(kernel)

    guest.run(ways.x86_program(offset, calls, rounds), prepare=prepare)
    made = calls * rounds
    clocks = count.found["clock_gettime", 0] - made - 2  # the two of the program's own that note the time
    each = (0, count.found["getppid", 0], count.found["getppid", 1], count.found["time", 2], made, clocks)
    open_ways = [way for way in ways.X86_WAYS if way.name != "sysenter"]
    return [
        {"way": way.name, "expected": way.crosses, "crossings": round(entered / made, 3)}
        for way, entered in zip(open_ways, each, strict=True)
    ]


def draw(figures: Figures) -> list[Chart]:
    charts: list[Chart] = [
        Bars(f"One call: {table['where']}", [(row["way"], row["ns"]) for row in table["rows"] if row["ns"]], "ns", log=True)
        for table in figures["tables"]
    ]
    rows = [(each["way"], each["crossings"]) for each in figures["crossings"]]
    charts.append(Table("How often one call enters this kernel", ("way", "times"), rows))
    if figures["closed"]:
        closed = [(each["way"], each["signal"]) for each in figures["closed"]]
        charts.append(Table("Doors that are none, in 64-bit code on this processor", ("way", "what comes of it"), closed))
    return charts


def verdict(figures: Figures) -> Verdict:
    wrong = [each["way"] for each in figures["crossings"] if abs(each["crossings"] - each["expected"]) > 0.1]
    rows = {row["way"]: row["ns"] for row in figures["tables"][0]["rows"]}
    call, vdso = rows["syscall: clock_gettime"], rows["vDSO: clock_gettime"]
    why = f"clock_gettime by syscall takes {call:.0f} ns, by the vDSO {vdso:.0f} ns; "
    why += f"{wrong[0]} enters it otherwise than claimed" if wrong else "every door enters the kernel once, the vDSO does not"
    return supported(why) if not wrong and vdso * 3 < call else refuted(why)


LAB = Lab(
    id="S3", name="entry", title="The price of every way in",
    question="What does it cost to enter the kernel, by each door that the processor has?",
    claim="Every system call crosses the line and pays for it, whatever its instruction; the vDSO answers without crossing.",
    machines=("host",), seconds=2, off="--without vdso", explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        number("calls", 100, "calls in a round, of which the fastest of 30 counts", 10, 10_000),
        switch("vdso", "map a vDSO into programs"),
        switch("native", "measure the host's own kernel too"),
        switch("riscv", "measure the RISC-V machine too"),
    ),
)  # fmt: skip
