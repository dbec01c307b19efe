"""M9: code injected into data faults when it is fetched, wherever the data is, unless its page may be executed."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from trapline.abi.signal import SIGSEGV
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, Value, run
from trapline.labs.code.text import assemble
from trapline.labs.framework.charts import Chart, Steps, Table
from trapline.labs.framework.lab import Figures, Knobs, Lab, Progress, Verdict, refuted, supported, switch
from trapline.machine.contract import EXEC, FAULT, READ, WRITE
from trapline.scope.listener import Listener

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

PAGE, ANSWER = 4096, 42
CAUGHT = 4  #: how a child ends whose handler was called
SEGV_CODES = {1: "SEGV_MAPERR", 2: "SEGV_ACCERR"}
ACCESS = {READ: "load", WRITE: "store", EXEC: "fetch"}
PLACES = {
    "mapping": "an anonymous mapping",
    "heap": "the heap",
    "stack": "the stack",
    "changed": "a mapping, then mprotect(r-x)",
}

EXPLAIN = """
Children write a function into data, byte by byte as an overflowing buffer would receive it, and call it: into an
anonymous mapping, into the heap, and into the stack. The function does nothing but put 42 into a register and return.

Permission to execute is a bit of the page's leaf entry: on x86-64 the highest one, NX, which forbids; on RISC-V the
bit X, which permits. The processor looks at it only when it fetches an instruction. So the write succeeds and the
jump succeeds, and the first fetch traps: the table has the address that the hardware names (it is the function's
own), what the access wanted, and the hardware's error code (x86-64: bit 4 says that it was a fetch; RISC-V: cause 12,
instruction page fault). The kernel finds an area there that does not allow it, and sends SIGSEGV with si_code
SEGV_ACCERR: the page exists, the access is not allowed.

The last child is the control: it writes the same function, and then asks for the page to be executable instead of
writable, as compilers at run time do. There the function runs and returns its 42. It is not the code that was wrong,
but its place; and no page ever is both writable and executable (W^X).

Without the mechanism (`--without nx`) all pages are made executable first, and the injected code runs everywhere.
Look at `trapline maps` of any program for the bit on real pages.

What this does not show: an attacker who injects no code, but returns into code that is there. That is lab C5.
"""


class _Faults(Listener):
    """The faults that ended in a signal, by process."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, Any]] = {}

    def fault(self, task: Task, address: int, access: int, served: bool) -> None:
        if not served:
            assert task.ctx.kind == FAULT
            self.found[task.group.pid] = {"address": address, "access": ACCESS[access], "error_code": task.ctx.code}


def _function(arch: str) -> bytes:
    """Return ANSWER."""
    if arch == "x86_64":
        return b"\xb8" + ANSWER.to_bytes(4, "little") + b"\xc3"  # mov eax, 42; ret
    return assemble(f"li a0, {ANSWER}\nret", 0).link()


class _Injection:
    """The program: a child for each place, whose cells say what became of it."""

    def __init__(self, machine: str, nx: bool) -> None:
        self.program = program = Program.of(machine)
        self._nx = nx
        self.which, self.page, self.written, self.returned = (program.cell() for _ in range(4))
        caught = program.catch(SIGSEGV)
        mapping = self._map()
        heap = program.call("brk", 0)
        program.call("brk", program.sum(heap, 2 * PAGE))
        places: dict[str, Value] = {
            "mapping": mapping, "heap": program.sum(heap, PAGE), "stack": program.sum(program.stack(), -1024),
            "changed": self._map(),
        }  # fmt: skip
        for n, (name, place) in enumerate(places.items()):
            with program.child():
                program.set(self.which, n)
                self._inject(place, change=name == "changed")
        program.exit(0)
        program.handler(caught)
        self.told = [program.load(program.sum(caught[1], at), size) for at, size in ((0, 4), (8, 4), (16, 8))]  # siginfo_t
        program.exit(CAUGHT)

    def _map(self) -> Cell:
        return self.program.call("mmap", 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)

    def _inject(self, place: Value, change: bool) -> None:
        """Write the function to `place`, and call it."""
        program = self.program
        program.set(self.page, place)
        for n, byte in enumerate(_function(program.arch)):
            program.store(program.sum(place, n), byte, 1)
        if change:
            program.call("mprotect", place, PAGE, PROT_READ | PROT_EXEC)
        elif not self._nx:
            self._unprotect(place)
        if program.arch == "riscv64":
            program.call("riscv_flush_icache", place, program.sum(place, PAGE), 0)
        program.set(self.written, program.load(place))
        program.set(self.returned, program.jump(place))

    def _unprotect(self, place: Value) -> None:
        """Let the page of `place` be executed: mprotect(2) refuses what is no page's beginning, so look for it downwards."""
        program = self.program
        start, found = program.sum(place), program.label()
        with program.times(PAGE // 16):
            program.if_zero(program.call("mprotect", start, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), found)
            program.add(start, -16)
        program.here(found)


def measure(knobs: Knobs, progress: Progress) -> Figures:
    injection = _Injection(knobs.machine, knobs.on("nx"))
    faults = _Faults()
    with lab_kernel(knobs.machine) as kernel:
        kernel.subscribe(faults)
        progress("injecting code")
        *children, _ = run(kernel, injection.program)
        fmt = kernel.system.machine.arch.paging.name
    function = _function(injection.program.arch)
    rows = []
    for seen in children:
        signal, code, address = (seen.unsigned(cell) for cell in injection.told)
        rows.append(
            {"place": list(PLACES)[seen[injection.which]], "at": seen.unsigned(injection.page),
             "written": seen.unsigned(injection.written).to_bytes(8, "little")[: len(function)] == function,
             "returned": seen[injection.returned], "status": seen.status >> 8, "signal": signal, "si_code": code,
             "si_addr": address, "fault": faults.found.get(seen.pid)}
        )  # fmt: skip
    return {"format": fmt, "nx": knobs.on("nx"), "rows": rows}


def draw(figures: Figures) -> Sequence[Chart]:
    rows: list[list[str]] = []
    for row in figures["rows"]:
        fault = row["fault"]
        trapped = f"{fault['access']}, code {fault['error_code']:#x}" if fault else ""
        told = SEGV_CODES.get(row["si_code"], str(row["si_code"])) if row["signal"] else f"returned {row['returned']}"
        rows.append([PLACES[row["place"]], f"{row['at']:#x}", "yes" if row["written"] else "no", trapped, told])
    steps = [
        (0, "writes the function", "allowed: a store"), (0, "jumps to it", ""),
        (1, "fetches, and sees the bit", "page fault"), (2, "finds an area without x", "SIGSEGV"),
        (0, "its handler is told where", ""),
    ]  # fmt: skip
    charts: list[Chart] = [Table(f"Code in data ({figures['format']})", ("in", "at", "written", "trap", "then"), rows)]
    return [*charts, Steps("", ("program", "processor", "kernel"), steps)] if figures["nx"] else charts


def verdict(figures: Figures) -> Verdict:
    rows = {row["place"]: row for row in figures["rows"]}
    data = [row for name, row in rows.items() if name != "changed"]
    ran = [row["place"] for row in data if row["returned"] == ANSWER]
    if ran:
        return refuted(f"the injected code ran in {', '.join(ran)}, and returned {ANSWER}")
    if not all(row["written"] for row in rows.values()) or rows["changed"]["returned"] != ANSWER:
        return refuted("the code does not run where it may, so that it does not elsewhere says nothing")
    faults = [row["fault"] or {"access": "", "address": 0} for row in data]
    exact = all(fault["access"] == "fetch" and fault["address"] == row["at"] for fault, row in zip(faults, data, strict=True))
    if not exact or any(row["si_addr"] != row["at"] for row in data):
        return refuted("it did not run, but not because of its fetch")
    return supported(
        f"written into {', '.join(row['place'] for row in data)}, the code trapped at its first fetch and the process got "
        "SIGSEGV; the same code ran when its page had become executable, and no longer writable"
    )


LAB = Lab(
    id="M9",
    name="nx",
    title="Code in data",
    question="Does code that is written into data run?",
    claim="No-execute bits mark pages of user space so that code injected into data does not run: the processor's memory "
    "management unit traps the attempt.",
    machines=("host", "riscv"),
    seconds=1,
    knobs=(switch("nx", "the pages are data only; off: they are made executable, too"),),
    off="--without nx",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
