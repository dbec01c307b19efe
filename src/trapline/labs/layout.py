"""M5: what is where in a process: text, data, heap, mappings, and a stack that grows down until it may not."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from trapline.labs.code.elf import TEXT
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, Value, run
from trapline.labs.framework.charts import Chart, Table
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
from trapline.scope.views.space import amount, look

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

RLIMIT_STACK = 3
SIGSEGV = 11
HEAP = 64 << 10
DEEP = 256 << 10  #: below the stack pointer: more than exec(2) maps, less than the limit

EXPLAIN = """
The program asks for a heap (brk) and a mapping (mmap), and then lets children try out what the picture says, each one
access: a write to the text, a write to the data, a touch of the stack 256 KiB below the stack pointer, where nothing
is mapped yet, and a touch far below the limit of the stack. A child that is still alive after its access exits with
0; one that is not, died of SIGSEGV.

The table is the address space of the first process when it ends, lowest address first, as /proc/PID/maps would have
it: the rights and sizes are those of the areas, the resident bytes are counted in the page tables. Text may be read
and executed, never written; data, heap and stack may be written, never executed. The heap begins behind the program's
data and grows up as brk moves; mappings are placed from the top down, below the gap that is left for the stack; the
stack is on top and grows down: a fault just below it is a wish for more, until RLIMIT_STACK is reached. What is below
that is the guard: a fault there is a fault. The vDSO is the kernel's gift, a page of code that user space runs.

`--without growth` sets RLIMIT_STACK to what is there already, before the children are made: the touch that had grown
the stack is then a wild access like every other one, and the claim of a dynamic stack fails.

Try `--stack=16`, and `trapline maps` on any program of yours.
"""


class _Probe(NamedTuple):
    name: str
    what: str  #: for people
    dies: bool  #: as the layout has it


PROBES = (
    _Probe("text", "write to the text", True),
    _Probe("data", "write to the data", False),
    _Probe("deep", "touch the stack 256 KiB down", False),
    _Probe("beyond", "touch below the stack's limit", True),
)


def measure(knobs: Knobs, progress: Progress) -> Figures:
    limit = knobs.number("stack") << 20
    program, cells = _program(knobs.machine, limit if knobs.on("growth") else 0, limit)
    areas: list[dict[str, Any]] = []
    with lab_kernel(knobs.machine) as kernel:

        def mark(task: Task, stage: int) -> None:
            progress("looking at the address space")
            space = look(kernel.system, task.group.pid)
            areas.extend(
                {name: getattr(each, name) for name in ("start", "end", "rights", "kind", "name", "rss")}
                for each in space.areas
            )

        *_, parent = run(kernel, program, marks=mark)
    ends = {each.name: parent[cells[each.name]] for each in PROBES}
    return {"limit": limit, "areas": areas, "ends": ends, "heap": parent[cells["heap"]], "grown": parent[cells["grown"]],
            "stack": parent[cells["stack"]], "mapping": parent[cells["mapping"]]}  # fmt: skip


def _program(machine: str, growth: int, limit: int) -> tuple[Program, dict[str, Cell]]:
    """growth: what RLIMIT_STACK becomes, 0 for the least there is."""
    program = Program.of(machine)
    rlimit = program.put((growth or 4096).to_bytes(8, "little") + (1 << 40).to_bytes(8, "little"))
    program.call("prlimit64", 0, RLIMIT_STACK, rlimit, 0)
    cells = {"heap": program.call("brk", 0), "stack": program.stack()}
    cells["grown"] = program.call("brk", program.sum(cells["heap"], HEAP))
    program.store(program.sum(cells["heap"], 0), 1)
    rights = PROT_READ | PROT_WRITE
    cells["mapping"] = program.call("mmap", 0, HEAP, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    program.store(cells["mapping"], 1)
    own = program.cell()
    places: dict[str, Value] = {
        "text": TEXT, "data": own.address, "deep": program.sum(cells["stack"], -DEEP),
        "beyond": program.sum(cells["stack"], -limit - (1 << 20)),
    }  # fmt: skip
    for name, place in places.items():
        cells[name] = _try(program, place)
    program.mark(0)
    program.exit(0)
    return program, cells


def _try(program: Program, place: Value) -> Cell:
    """Let a child write there; its wait(2) status."""
    with program.child() as status:
        program.store(place, 1)
    return status


def draw(figures: Figures) -> Sequence[Chart]:
    rows = [
        [f"{a['start']:#x}", a["rights"], amount(a["end"] - a["start"]), amount(a["rss"]), a["kind"], a["name"]]
        for a in figures["areas"]
    ]
    ends = [[each.what, _end(figures["ends"][each.name]), "dies" if each.dies else "lives"] for each in PROBES]
    return [
        Table("The address space, from the bottom up", ("from", "rights", "size", "resident", "what", ""), rows),
        Table("What children found out", ("a child", "then", "the layout says"), ends),
    ]


def _end(status: int) -> str:
    return "SIGSEGV" if status & 0x7F == SIGSEGV else "lives" if not status else f"status {status:#x}"


def _wrong(figures: Figures) -> list[str]:
    """What is not as the claim has it."""
    areas = figures["areas"]
    first = {each["kind"]: each for each in reversed(areas)}
    ends = figures["ends"]
    wrong = [f"{each.what}: {_end(ends[each.name])}" for each in PROBES if bool(ends[each.name]) != each.dies]
    order = [first[kind]["start"] for kind in ("program", "heap", "stack") if kind in first]
    if len(order) != 3 or order != sorted(order) or not order[1] < figures["mapping"] < order[2]:
        wrong.append("text, heap, mappings and stack do not follow one another")
    if figures["grown"] - figures["heap"] != HEAP:
        wrong.append("the heap did not grow")
    wrong += (f"{each['name'] or each['kind']} is {each['rights']}" for each in areas if {"w", "x"} <= set(each["rights"]))
    return wrong


def verdict(figures: Figures) -> Verdict:
    wrong = _wrong(figures)
    if wrong:
        return refuted("; ".join(wrong))
    return supported(
        f"text, data, heap, mappings and stack follow one another in {len(figures['areas'])} areas, none both writable and "
        f"executable; the heap grew by {amount(HEAP)}, the stack on a touch {amount(DEEP)} below it, and not beyond "
        f"{amount(figures['limit'])}"
    )


LAB = Lab(
    id="M5",
    name="layout",
    title="The layout of a process",
    question="What lies where in an address space, and which of it moves?",
    claim="User space is divided into text that can only be read, data, a heap that brk or mmap allocates, and a stack "
    "that grows down from high addresses.",
    machines=("host", "riscv"),
    seconds=1,
    knobs=(
        number("stack", 8, "limit of the stack, in MiB", 1, 64),
        switch("growth", "off: the stack's limit is what it has already"),
    ),
    off="--without growth",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
