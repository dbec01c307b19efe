"""M4: pages come when they are touched, and fork copies them when they are written."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING

from trapline.abi.mman import MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from trapline.kernel.mm.policy import Policy
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, run
from trapline.labs.code.sharing import share
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

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

PAGE = 4096
PARENTS, CHILDS = 0x11, 0x22  #: what each writes
_SAME = {None: "", 0: "no", 1: "yes"}
STAGES = ("started", "mapped", "touched", "forked", "child reads", "child writes")

EXPLAIN = """
The program maps some memory, writes one word into every page of it, and forks. The child reads every page, then
writes some of them; both look at the end whether each page still holds what they put there. Between these steps the
kernel is asked for four counts: minor faults, pages copied, frames of physical memory in use, and the size of the
resident set.

Demand paging: mmap(2) makes an area, which is a promise; no frame is taken. The first touch of a page walks to an
entry that is not present, and faults; the kernel finds the area, takes a zeroed frame, fills in the entry, and the
instruction runs again. The lab sets the kernel's policy to repair one page a fault (it maps up to 256 otherwise), so
that faults and pages are the same number. `--without demand` maps with MAP_POPULATE: the frames are there before
anything is touched.

Copy-on-write: fork(2) gives the child page tables of its own that lead to the same frames, and takes the write
permission out of both. Frames in use grow by the tables only. Reading costs nothing more. A write faults, the kernel
sees that the frame has two users, copies it, and both have a page of their own from there on. `--without cow` has the
kernel copy every page at the fork, as Unix did before: frames in use grow by the whole size at once, and no later
write faults.

Sharing, on purpose: a second program maps a page of a file twice. The first touch is a major fault, for the page must
come from the file; it stays in the page cache, so the second mapping takes a minor fault and leads to the same frame.
And it shares a page with its child (MAP_SHARED): the child writes, the frame stays the same in both, and the parent
reads what the child wrote. (The one page that is copied there is the child's own variables.)

Try `--pages=400 --written=400`, a child that writes everything: then copy-on-write has saved nothing and has cost a
fault for each page. That is why this kernel, left to itself, copies a small process at once.
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    pages, written = knobs.number("pages"), min(knobs.number("written"), knobs.number("pages"))
    program, cells = _program(knobs.machine, pages, written, knobs.on("demand"))
    policy = Policy()
    policy.one_page_per_fault()
    policy.fork_copy_pages = 0 if knobs.on("cow") else pages * 2
    rows: list[dict[str, int | str]] = []
    with lab_kernel(knobs.machine) as kernel:
        frames = kernel.system.machine.ram.frames

        def mark(task: Task, stage: int) -> None:
            progress(STAGES[stage])
            mm = task.mm
            rows.append(
                {"stage": STAGES[stage], "pid": task.group.pid, "faults": mm.minflt, "copied": mm.cow_pages,
                 "frames": frames.used_pages, "resident": mm.rss_anon}
            )  # fmt: skip

        child, parent = run(kernel, program, marks=mark, policy=policy)
    return {
        "pages": pages, "written": written, "stages": rows, "child_sum": child[cells["childs"]],
        "parent_sum": parent[cells["parents"]], "shared": share(knobs.machine, policy),
    }  # fmt: skip


def _program(machine: str, pages: int, written: int, demand: bool) -> tuple[Program, dict[str, Cell]]:
    program = Program.of(machine)
    parents, childs = program.cell(), program.cell()
    child = program.label()
    program.mark(0)
    flags = MAP_PRIVATE | MAP_ANONYMOUS | (0 if demand else MAP_POPULATE)
    memory = program.call("mmap", 0, pages * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0)
    program.mark(1)
    _write(program, memory, pages, PARENTS)
    program.mark(2)
    forked = program.fork()
    program.if_zero(forked, child)
    program.call("wait4", -1, 0, 0, 0)
    _sum(program, memory, pages, parents)
    program.exit(0)
    program.here(child)
    program.mark(3)
    _sum(program, memory, pages, childs)
    program.mark(4)
    _write(program, memory, written, CHILDS)
    program.mark(5)
    program.set(childs, 0)
    _sum(program, memory, pages, childs)
    program.exit(0)
    return program, {"parents": parents, "childs": childs}


def _write(program: Program, memory: Cell, pages: int, value: int) -> None:
    """The value into the first word of each page."""
    at = program.sum(memory)
    with program.times(pages):
        program.store(at, value)
        program.add(at, PAGE)


def _sum(program: Program, memory: Cell, pages: int, total: Cell) -> None:
    at = program.sum(memory)
    with program.times(pages):
        program.add(total, program.load(at))
        program.add(at, PAGE)


def _steps(figures: Figures) -> list[dict[str, int | str]]:
    """What each stage added; faults and copies are each process's own, frames are everybody's."""
    found = []
    last = figures["stages"][0]
    for row in figures["stages"][1:]:
        same = row["pid"] == last["pid"]
        own = {name: row[name] - (last[name] if same else 0) for name in ("faults", "copied")}
        found.append({"stage": row["stage"], **own, "frames": row["frames"] - last["frames"]})
        last = row
    return found


def draw(figures: Figures) -> Sequence[Chart]:
    steps = _steps(figures)
    heads = ("", "minor faults", "pages copied", "new frames")
    rows = [[str(each["stage"]), each["faults"], each["copied"], each["frames"]] for each in steps]
    shared = [
        [str(row["stage"]), row["minor"], row["major"], row["copied"], _SAME[row.get("same")]] for row in figures["shared"]
    ]
    title = f"{figures['pages']} pages; the child writes {figures['written']} of them"
    return [
        Table(title, heads, rows),
        Table("A file's page, and a page of shared memory", ("", "minor", "major", "copied", "the same frame"), shared),
        Bars("Frames of physical memory that each step took", [(str(s["stage"]), max(0, int(s["frames"]))) for s in steps]),
    ]


def verdict(figures: Figures) -> Verdict:
    mapped, touched, forked, reads, writes = _steps(figures)
    pages, written = figures["pages"], figures["written"]
    sums = figures["parent_sum"], figures["child_sum"]
    apart = sums == (pages * PARENTS, (pages - written) * PARENTS + written * CHILDS)
    if not apart:
        return refuted(f"a process sees what the other wrote: sums {sums}")
    if int(mapped["frames"]) >= pages:
        return refuted(f"mmap took {mapped['frames']} frames before a touch, and touching made {touched['faults']} faults")
    if int(forked["frames"]) >= pages:
        return refuted(f"fork took {forked['frames']} frames, one for each page, and writes copied {writes['copied']}")
    read, again, child = figures["shared"]
    if not (again["same"] and child["same"]) or again["major"]:
        return refuted(f"what should be shared is not: {figures['shared']}")
    exact = touched["faults"] == pages and writes["copied"] == written and reads["copied"] == 0
    said = (
        f"{pages} pages took no frame until they were touched ({touched['faults']} minor faults); fork took "
        f"{forked['frames']} frames, most of them tables, {written} writes copied {writes['copied']} pages, and neither "
        f"process sees the other's; a file's page came from the file once ({read['major']} major fault), and shared "
        "memory was one frame"
    )
    return supported(said) if exact else refuted(said)


LAB = Lab(
    id="M4",
    name="cow",
    title="Copy-on-write and demand paging",
    question="When does a page of memory come into being, and what does fork copy?",
    claim="The kernel shares frames between processes and copies them on write, for efficiency during forking; isolation "
    "stays whole.",
    machines=("host", "riscv"),
    seconds=1,
    knobs=(
        number("pages", 256, "pages that the program maps", 32, 480),
        number("written", 32, "pages of them that the child writes", 0, 480),
        switch("cow", "off: fork copies at once"),
        switch("demand", "off: mmap populates at once"),
    ),
    off="--without cow",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
