"""M1: two address spaces, one kernel in both, and where the line between the halves is."""

from __future__ import annotations

from collections.abc import Sequence

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
)
from trapline.machine.paging.entry import PAGE_SIZE

#: name -> (first address of the kernel's part, last address of user space + 1)
SPLITS = {
    "3g-1g": (0xC000_0000, 0xC000_0000),
    "2g-2g": (0x8000_0000, 0x8000_0000),
    "1g-3g": (0x4000_0000, 0x4000_0000),
    "canonical": (0xFFFF_FFC0_0000_0000, 0x40_0000_0000),
}
DATA = 0x2_0000  #: where each process has its own page
OWN = (0xAAAA, 0xBBBB)  #: what is in it
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
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
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


def _cell(found: list[list[int]], n: int) -> str:
    if n >= len(found):
        return "did not get there"
    cause, value = found[n]
    return f"page fault {cause}" if cause else f"{value:#x}"


def draw(figures: Figures) -> Sequence[Chart]:
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


def verdict(figures: Figures) -> Verdict:
    for run in figures["runs"]:
        wrong = _wrong(run)
        if wrong:
            return refuted(f"split {run['split']}: {wrong}")
    runs = figures["runs"]
    return supported(
        f"with {len(runs)} split(s) both processes read their own data ({OWN[0]:#x}, {OWN[1]:#x}) at {DATA:#x}, could use "
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
    machines=("board",),
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
