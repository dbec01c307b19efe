"""M1: two address spaces, one kernel in both, and where the line between the halves is."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING

from trapline.abi.mman import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Program
from trapline.labs.code.program import run as run_program
from trapline.labs.code.spaces import LOAD, READ, STORE, USER, WRITE, Probe, World, results, slot
from trapline.labs.framework.charts import Chart, Table, Text
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    choice,
    refuted,
    supported,
    switch,
    undecided,
)
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.paging.walk import walk

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

#: name -> (first address of the kernel's part, last address of user space + 1)
SPLITS = {
    "3g-1g": (0xC000_0000, 0xC000_0000),
    "2g-2g": (0x8000_0000, 0x8000_0000),
    "1g-3g": (0x4000_0000, 0x4000_0000),
    "canonical": (0xFFFF_FFC0_0000_0000, 0x40_0000_0000),
}
DATA = 0x2_0000  #: where each process has its own page
OWN = (0xAAAA, 0xBBBB)  #: what is in it
HERE = 0x2000_0000  #: where processes under the kernel have theirs
TOP = 2  #: level of the root's entries

EXPLAIN = """
The lab builds two address spaces in the memory of a RISC-V computer, and a kernel of 40 instructions that is mapped
into both. One program runs in user mode in the first, then in the second. At the same virtual address it reads what
is in its page; it touches the last page below the line, which is its own too; and it tries to read and to write the
kernel's data, above the line.

Each process has a root table of its own. The entries for user space lead to tables of its own, so one address leads
to different frames. The entries for the kernel's part are the same eight bytes in both roots: they lead to one set of
tables. That is why the kernel is there whoever was interrupted, why it need not be mapped again for each process, and
why a trap need not change the root; the kernel's counter counts the traps of both. The bit U of its leaves is 0, so
user mode gets a page fault there.

Where the line is, is a choice (`--split`). An entry of the root of Sv39 maps 1 GiB, so the classic splits of a 32-bit
address space (3 GiB for user space and 1 GiB for the kernel from 0xC0000000, 2/2 and 1/3) are splits of its first
four entries; the tables are of 64 bits, real, and walked by the machine. The canonical split puts the kernel into the
upper half, where all bits above the walked ones are ones; user space has 256 GiB then. By default all four are run.

`--without share` leaves the kernel out of the second root. The first process works as before. Then the kernel
switches to the second root, and is gone under its own feet: the fetch of its very next instruction is a page fault,
there is no handler for it in this space either, and only firmware can end it. (A kernel may leave most of itself out,
as page-table isolation does against Meltdown; never the page that a trap enters.)

Under this project's kernel (`--machine host`, `--machine riscv`) the first half of the claim can be seen in a process
and its child. The second cannot: the upper half of their tables is empty, since the kernel is no guest of its own
machine. On the host machine it is another process of the host; on the RISC-V machine it stands outside, where
firmware and S-mode would be.
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    if knobs.machine != "board":
        return _under_kernel(knobs.machine)
    chosen = knobs.text("split")
    names = list(SPLITS) if chosen == "all" else [chosen]
    return {"runs": [_run(name, knobs.on("share"), progress) for name in names]}


def _run(name: str, share: bool, progress: Progress) -> Figures:
    progress(f"split {name}")
    base, user_end = SPLITS[name]
    world = World(base, share=share)
    frames = world.frames
    last = user_end - PAGE_SIZE
    for root, value in zip(world.roots, OWN, strict=True):
        frames.map(root, DATA, frames.alloc(value.to_bytes(8, "little")), READ | WRITE | USER)
        frames.map(root, last, frames.alloc((value << 16).to_bytes(8, "little")), READ | WRITE | USER)
    probes = [Probe(LOAD, DATA), Probe(LOAD, last), Probe(LOAD, world.data), Probe(STORE, world.data)]
    ran = world.run(probes)
    processes = []
    for n in range(2):
        found = results(ran, world.satp(n), len(probes))
        processes.append([[fault.cause if fault else 0, value & 0xFFFF_FFFF] for fault, value in found])
    roots = [[frames.entry(root, index) for index in (0, slot(base, TOP))] for root in world.roots]
    return {
        "split": name, "base": base, "last": last, "processes": processes, "roots": roots, "traps": ran.counter,
        "firmware": list(ran.firmware),
    }  # fmt: skip


def _under_kernel(machine: str) -> Figures:
    """A process and its child write different words to one address; their tables are looked at before they end."""
    program = Program.of(machine)
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    program.call("mmap", HERE, PAGE_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0)
    child = program.label()
    program.if_zero(program.fork(), child)
    program.store(HERE, OWN[0])
    program.call("wait4", -1, 0, 0, 0)
    program.mark(0)
    program.exit(0)
    program.here(child)
    program.store(HERE, OWN[1])
    program.mark(1)
    program.exit(0)
    seen: dict[int, dict[str, int]] = {}

    def mark(task: Task, which: int) -> None:
        mm = task.mm
        words, fmt, root = mm.ram.words, mm.tables.fmt, mm.tables.root
        found = walk(words, root, HERE, fmt)
        frame = fmt.pfn(found.entry) if found is not None else -1
        first = (root << PAGE_SHIFT) // 8
        half = 1 << fmt.index_bits - 1
        upper = sum(1 for entry in words[first + half : first + 2 * half].tolist() if entry & fmt.present)
        seen[which] = {"root": root, "frame": frame, "value": words[(frame << PAGE_SHIFT) // 8], "upper": upper}

    with lab_kernel(machine) as kernel:
        run_program(kernel, program, marks=mark)
    return {"machine": machine, "processes": [seen[0], seen[1]]}


def _cell(found: list[list[int]], n: int) -> str:
    if n >= len(found):
        return "did not get there"
    cause, value = found[n]
    return f"page fault {cause}" if cause else f"{value:#x}"


def _draw_kernels(figures: Figures) -> Sequence[Chart]:
    parent, child = figures["processes"]
    names = (("root", "frame of the top-level table"), ("frame", f"frame behind {HERE:#x}"), ("value", "what is there"),
             ("upper", "entries in the upper half of the top-level table"))  # fmt: skip
    rows = [[what, f"{parent[name]:#x}", f"{child[name]:#x}"] for name, what in names]
    return [Table(f"One address in two processes ({figures['machine']})", ("", "parent", "child"), rows)]


def draw(figures: Figures) -> Sequence[Chart]:
    if "machine" in figures:
        return _draw_kernels(figures)
    charts: list[Chart] = []
    for run in figures["runs"]:
        first, second = run["processes"]
        own, last, kernel = f"{DATA:#x}", f"{run['last']:#x}", f"{run['base'] + PAGE_SIZE:#x}"
        what = f"reads {own}", f"reads {last}, its last page", f"reads {kernel}, the kernel's", "writes there"
        rows = [[text, _cell(first, n), _cell(second, n)] for n, text in enumerate(what)]
        for n, text in enumerate(("root entry of user space", "root entry of the kernel")):
            rows.append([text, *(f"{root[n]:#x}" for root in run["roots"])])
        title = f"Split {run['split']}: the kernel from {run['base']:#x}"
        charts.append(Table(title, ("", "process A", "process B"), rows))
        if run["firmware"][0]:
            cause, pc, _ = run["firmware"]
            said = f"Firmware had to end it: page fault {cause} of a fetch at {pc:#x},"
            charts.append(Text("", [said, "where the kernel's next instruction should be."]))
    return charts


def _judge_kernels(figures: Figures) -> Verdict:
    parent, child = figures["processes"]
    if (parent["value"], child["value"]) != OWN or parent["frame"] == child["frame"] or parent["root"] == child["root"]:
        return refuted(f"two processes share what is behind {HERE:#x}: {figures['processes']}")
    return undecided(
        f"two processes hold {parent['value']:#x} and {child['value']:#x} at {HERE:#x}, in frames {parent['frame']:#x} and "
        f"{child['frame']:#x}; but the upper half of their tables has {parent['upper']} entries: this kernel is not in it"
    )


def verdict(figures: Figures) -> Verdict:
    if "machine" in figures:
        return _judge_kernels(figures)
    for run in figures["runs"]:
        wrong = _wrong(run)
        if wrong:
            return refuted(f"split {run['split']}: {wrong}")
    runs = figures["runs"]
    splits = "one split" if len(runs) == 1 else f"{len(runs)} splits"
    return supported(
        f"with {splits} both processes read their own data ({OWN[0]:#x}, {OWN[1]:#x}) at {DATA:#x}, could use "
        "the memory up to the line and none of the kernel's; one kernel, by one entry in both roots, took the traps of "
        f"both ({runs[0]['traps']})"
    )


def _wrong(run: Figures) -> str:
    if run["firmware"][0]:
        cause, pc, _ = run["firmware"]
        return f"in the second space there is no kernel: page fault {cause} of its next instruction at {pc:#x}"
    wanted = [[[0, own], [0, own << 16], [13, 0xFFFF_FFFF], [15, 0xFFFF_FFFF]] for own in OWN]
    if run["processes"] != wanted:
        return f"the processes found {run['processes']}"
    (user_a, kernel_a), (user_b, kernel_b) = run["roots"]
    if user_a == user_b or kernel_a != kernel_b:
        return "the roots share what is the user's, or not what is the kernel's"
    return ""


LAB = Lab(
    id="M1",
    name="spaces",
    title="Two address spaces and the split",
    question="How can every process have all addresses for itself, and the kernel be in each of them?",
    claim="The lower part of the virtual address space is each process's own; the upper part is the kernel's, and shared by "
    "all processes. On 32-bit x86 the split is at 0xC0000000.",
    machines=("board", "host", "riscv"),
    seconds=1,
    knobs=(
        choice("split", "all", "where the kernel's part begins", "all", *SPLITS),
        switch("share", "off: the second process's tables lack the kernel"),
    ),
    off="--without share",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
