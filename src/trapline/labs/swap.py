"""M10: a program uses more memory than there is; what it uses often stays, the rest goes to disk and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING

from trapline.abi.mman import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, run
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
from trapline.scope.listener import Listener

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

PAGE = 4096
MEMORY, SWAP = 16 << 20, 128 << 20
SIGKILL = 9
STAGES = ("mapped", "written", "read", "and hot ones")

EXPLAIN = """
The computer has 16 MiB of memory, less what the kernel takes, and a device to swap to. The program maps more than
that, writes one word into every page, and adds all words up. Then it reads them all once more, and between any two
pages one of a few *hot* pages, in turn. At each step the kernel is asked for its counts: minor and major faults,
pages that went out and came in.

mmap(2) promises; a write makes a page. When few frames are free, a clock goes over the page tables: a page whose
accessed bit is set loses the bit, one whose bit is still clear goes out. Its content is written to the device, its
page-table entry is no longer present and says where that is, its frame is free. The next access faults, and this is
a *major* fault: the page must be read before the instruction can run again. Neighbours come with it, more and more
as long as they are used in order, so one major fault may bring 64 pages.

The hot pages are accessed again and again, so each time the hand passes, their bit is set, and they stay: their
major faults are counted apart. On the RISC-V machine the hart sets the bit. On the host machine the host CPU's page
tables are out of reach: there, clearing the bit unmaps the page, and the next access, a miss that the kernel's own
walk serves, sets it.

Pages that were only read are not written a second time: their copy on the device is still good. That is why, after
the first reading, more pages come in than go out.

`--without swap` takes the device away. The sum is not to be had then: the process is killed when memory is out.
"""


class _Faults(Listener):
    """Major faults, by whether they are of hot pages, and the time that the kernel took for them."""

    def __init__(self) -> None:
        self.hot_from = self.hot_to = 0
        self.hot = self.cold = self.ns = 0

    def faulted(self, task: Task, address: int, access: int, kind: str, pages: int, since_ns: int) -> None:
        if kind == "major":
            self.ns += task.kernel.clock.monotonic_ns() - since_ns
            if self.hot_from <= address < self.hot_to:
                self.hot += 1
            else:
                self.cold += 1


def measure(knobs: Knobs, progress: Progress) -> Figures:
    pages, hot = knobs.number("pages"), knobs.number("hot")
    program, total, where = _program(knobs.machine, pages, hot)
    rows: list[dict[str, int | str]] = []
    faults = _Faults()
    with lab_kernel(knobs.machine, MEMORY, swap=SWAP if knobs.on("swap") else 0) as kernel:
        system = kernel.system

        def mark(task: Task, stage: int) -> None:
            progress(STAGES[stage])
            swap = system.swap
            rows.append(
                {"stage": STAGES[stage], "minor": task.mm.minflt, "major": task.mm.majflt, "out": swap.pages_out if swap else 0,
                 "in": swap.pages_in if swap else 0, "frames": system.ram.frames.used_pages, "hot": faults.hot,
                 "cold": faults.cold, "ns": faults.ns, "at": system.clock.monotonic_ns()}
            )  # fmt: skip
            faults.hot_from = task.mm.read_u64(where.address)
            faults.hot_to = faults.hot_from + hot * PAGE

        kernel.subscribe(faults)
        (end,) = run(kernel, program, marks=mark)
        limit = system.ram.frames.limit_pages
    return {
        "pages": pages, "hot": hot, "limit": limit, "stages": rows, "status": end.status & 127, "sum": end[total],
        "expected": 2 * sum(range(1, pages + 1)) + hot * (pages // hot),
    }  # fmt: skip


def _program(machine: str, pages: int, hot: int) -> tuple[Program, Cell, Cell]:
    """The program, the cell of its sum, and the one of where the hot pages are."""
    program = Program.of(machine)
    total = program.cell()
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE  # what is promised is more than there is
    hot_pages = program.call("mmap", 0, hot * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0)
    memory = program.call("mmap", 0, pages * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0)
    program.mark(0)
    at, value = program.sum(memory), program.cell(1)
    with program.times(pages):
        program.store(at, value)
        program.add(at, PAGE)
        program.add(value, 1)
    at = program.sum(hot_pages)
    with program.times(hot):
        program.store(at, 1)
        program.add(at, PAGE)
    program.mark(1)
    at = program.sum(memory)
    with program.times(pages):
        program.add(total, program.load(at))
        program.add(at, PAGE)
    program.mark(2)
    at = program.sum(memory)
    with program.times(pages // hot):
        warm = program.sum(hot_pages)
        with program.times(hot):
            program.add(total, program.load(at))
            program.add(at, PAGE)
            program.add(total, program.load(warm))
            program.add(warm, PAGE)
    with program.times(pages % hot):
        program.add(total, program.load(at))
        program.add(at, PAGE)
    program.mark(3)
    program.exit(0)
    return program, total, hot_pages


def _steps(figures: Figures) -> list[dict[str, int | str]]:
    """What each stage added."""
    found, last = [], figures["stages"][0]
    for row in figures["stages"][1:]:
        found.append({"stage": row["stage"]} | {name: row[name] - last[name] for name in row if name != "stage"})
        last = row
    return found


def draw(figures: Figures) -> Sequence[Chart]:
    steps = _steps(figures)
    heads = ("step", "minor", "major", "of hot pages", "out", "in", "µs each")
    rows = [
        [str(s["stage"]), s["minor"], s["major"], s["hot"], s["out"], s["in"],
         f"{int(s['ns']) / 1000 / int(s['major']):.0f}" if s["major"] else ""]
        for s in steps
    ]  # fmt: skip
    title = f"{figures['pages']} pages and {figures['hot']} hot ones in {figures['limit']} frames: faults, and pages moved"
    charts: list[Chart] = [Table(title, heads, rows)]
    if not steps:
        return charts
    for name, what in (("out", "Pages that went out"), ("in", "Pages that came back")):
        charts.append(Bars(what, [(str(s["stage"]), max(0, int(s[name]))) for s in steps]))
    return charts


def verdict(figures: Figures) -> Verdict:
    if figures["status"] or len(figures["stages"]) < len(STAGES):
        how = "was killed" if figures["status"] == SIGKILL else f"ended with signal {figures['status']}"
        return refuted(f"{figures['pages']} pages do not fit into {figures['limit']} frames: the program {how}")
    if figures["sum"] != figures["expected"]:
        return refuted(f"the sum is {figures['sum']}, not {figures['expected']}")
    written, read, hot = _steps(figures)
    if not (int(written["out"]) and int(read["major"]) and int(hot["major"])):
        return refuted(f"everything fits: {figures['pages']} pages in {figures['limit']} frames; give more --pages")
    said = (
        f"{figures['pages']} pages in {figures['limit']} frames hold what was written: {written['out']} went out while they "
        f"were written, {read['in']} came back for {read['major']} major faults when they were read, each {_us(read)} µs of "
        f"the kernel's time; {figures['pages']} accesses to hot pages took {hot['hot']} major faults"
    )
    return supported(said) if int(hot["hot"]) * 100 <= int(figures["pages"]) else refuted(said)


def _us(step: dict[str, int | str]) -> int:
    return int(step["ns"]) // 1000 // max(1, int(step["major"]))


LAB = Lab(
    id="M10",
    name="swap",
    title="Swap: more memory than there is",
    question="How does a program use more memory than the computer has, and which pages stay?",
    claim="Pages that a program has not used for a while can be on a disk, without its knowing: it sees one store. "
    "What it uses often stays in memory.",
    machines=("host", "riscv"),
    seconds=3,
    knobs=(
        number("pages", 6000, "pages that the program writes", 1000, 30000),
        number("hot", 64, "pages that it uses all the time", 8, 512),
        switch("swap", "off: there is nowhere to put pages out to"),
    ),
    off="--without swap",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
