"""M2: a walk, bit by bit; and the proof that the machine walks the entries that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE
from trapline.kernel.mm.policy import Policy
from trapline.labs.code.elf import TEXT
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, run
from trapline.labs.framework.charts import Chart, Steps, Table
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
from trapline.machine.paging.walk import walk
from trapline.scope.views.walks import Walk, explain

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

PAGE, BLOCK = 4096, 2 << 20
FIRST, SECOND, LARGE = 0xAAAA, 0xBBBB, 0xCCCC  #: what the program writes into its pages
WHICH = ("page", "large", "text", "readonly", "none", "hole")

EXPLAIN = """
The program maps pages of several kinds, writes a known word into each that it may write, and stops at a mark. The lab
walks its page tables there, from the root, entry by entry, and shows the walk to one of them (`--show`): which bits
of the address choose the entry, where in physical memory the entry is, and what each of its bits means.

Then it does what only the owner of the tables can: it exchanges the leaf entries of two pages, eight bytes each, in
physical memory, tells the machine to forget what it had cached of them, and lets the program go on. The program,
which has done nothing, reads its two pages again and finds each one's word in the other. So the tables that are shown
are the ones that the hardware walks: they are not a drawing.

An entry has a frame number, and bits that permit: present (V), write, user or supervisor, execute (or not); and two
that the walk sets, accessed and dirty. A table of 512 entries of 8 bytes fills one frame, nine bits of the address
choose an entry, and four levels (x86-64) or three (Sv39) make 48 or 39 bits. A leaf one level up maps 2 MiB and saves
one step. Whatever is not present ends the walk early.

`--without flush` leaves out that the machine is told: it goes on using what its TLB holds, the program reads the
words of before, and the exchange shows later or never. The table is right, the processor wrong: the bug that every
kernel fears. On the host machine the TLB is the mapping of the host's process; on the RISC-V machine, the hart's.
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    program, cells = _program(knobs.machine)
    found: dict[str, Walk] = {}
    figures: Figures = {}
    with lab_kernel(knobs.machine) as kernel:

        def mark(task: Task, stage: int) -> None:
            progress("walking")
            places = {name: int.from_bytes(task.mm.read(cell.address, 8), "little") for name, cell in cells.items()}
            pid = task.group.pid
            found.update({name: explain(kernel.system, pid, places[name]) for name in WHICH})
            figures["content"] = {name: _word(task, found[name].physical) for name in ("page", "large")}
            _exchange(task, places["page"], places["other"], knobs.on("flush"))

        (seen,) = run(kernel, program, marks=mark, policy=Policy(1, anon_most_pages=1, streak_pages=1))
        figures["levels"] = kernel.system.machine.arch.paging.levels
    walks = {name: _plain(each) for name, each in found.items()}
    after = {"page": seen[cells["after_page"]], "other": seen[cells["after_other"]]}
    return {**figures, "walks": walks, "after": after, "show": knobs.text("show")}


def _program(machine: str) -> tuple[Program, dict[str, Cell]]:
    """Its cells hold the addresses, and what was read after the exchange."""
    program = Program.of(machine)
    rights, flags = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    cells = {"page": program.call("mmap", 0, 2 * PAGE, rights, flags, -1, 0)}
    cells["other"] = program.sum(cells["page"], PAGE)
    large = 8 << 30  # free in every layout, and a multiple of 2 MiB
    cells["large"] = program.call("mmap", large, BLOCK, rights, flags, -1, 0)
    cells["readonly"] = program.call("mmap", 0, PAGE, PROT_READ, flags, -1, 0)
    cells["none"] = program.call("mmap", 0, PAGE, PROT_NONE, flags, -1, 0)
    cells["text"], cells["hole"] = program.cell(TEXT), program.cell(16 << 30)
    for name, word in (("page", FIRST), ("other", SECOND), ("large", LARGE)):
        program.store(cells[name], word)
    for name in ("page", "other", "readonly"):  # so that the machine has their translations
        program.load(cells[name])
    program.mark(0)
    cells["after_page"], cells["after_other"] = program.load(cells["page"]), program.load(cells["other"])
    program.exit(0)
    return program, cells


def _word(task: Task, physical: int) -> int:
    return int(task.mm.ram.words[physical >> 3])


def _exchange(task: Task, one: int, other: int, flush: bool) -> None:
    """Let two virtual pages change frames, in the table."""
    mm = task.mm
    words, fmt = mm.ram.words, mm.tables.fmt
    a, b = (walk(words, mm.tables.root, each, fmt) for each in (one, other))
    assert a is not None and b is not None and a.level == b.level == 0
    words[a.word], words[b.word] = b.entry, a.entry
    if flush:
        mm.space.flush(one, one + PAGE)
        mm.space.flush(other, other + PAGE)


def _plain(found: Walk) -> dict[str, Any]:
    steps = [
        {"table": step.table, "slot": step.slot, "at": step.address, "entry": step.entry, "summary": step.summary,
         "bits": [[bit.name, bit.low, bit.high, bit.value, bit.meaning] for bit in step.bits]}
        for step in found.steps
    ]  # fmt: skip
    return {"address": found.address, "parts": [list(each) for each in found.parts], "steps": steps, "size": found.size,
            "rights": found.rights, "physical": found.physical, "outcome": found.outcome, "paging": found.paging}  # fmt: skip


def draw(figures: Figures) -> Sequence[Chart]:
    shown = figures["walks"][figures["show"]]
    lanes = [step["table"] for step in shown["steps"]]
    parts = "  ".join(f"{name} {value:#x}" for name, value in shown["parts"])
    steps = [(n, f"{each['entry']:#x}", f"slot {each['slot']}: {each['summary']}") for n, each in enumerate(shown["steps"])]
    bits = [
        [step["table"], name, f"{low}" if low == high else f"{high}..{low}", meaning]
        for step in shown["steps"][-1:]
        for name, low, high, _, meaning in step["bits"]
    ]
    rows = [
        [name, f"{each['address']:#x}", len(each["steps"]), each["rights"] or "-", each["outcome"]]
        for name, each in figures["walks"].items()
    ]
    after = figures["after"]
    exchange = [["page", f"{FIRST:#x}", f"{after['page']:#x}"], ["the next page", f"{SECOND:#x}", f"{after['other']:#x}"]]
    return [
        Steps(f"{shown['address']:#x} = {parts}", lanes, steps),
        Table("The last entry, bit by bit", ("table", "field", "bits", "meaning"), bits),
        Table("Walks to pages of other kinds", ("what", "address", "steps", "rights", "ends at"), rows),
        Table("Two leaves are exchanged in RAM", ("the program reads", "before", "after"), exchange),
    ]


def verdict(figures: Figures) -> Verdict:
    walks, levels, after = figures["walks"], figures["levels"], figures["after"]
    if figures["content"] != {"page": FIRST, "large": LARGE}:
        return refuted(f"the walk leads to other memory than the program's: {figures['content']}")
    if after != {"page": SECOND, "other": FIRST}:
        return refuted(f"two entries were exchanged, and the program still reads {after['page']:#x} and {after['other']:#x}")
    counts = {name: len(each["steps"]) for name, each in walks.items()}
    if counts["page"] != levels or counts["large"] != levels - 1 or walks["hole"]["physical"] != -1:
        return refuted(f"the walks have {counts} steps on {levels} levels")
    return supported(
        f"{counts['page']} entries lead to a page of 4 KiB, {counts['large']} to one of 2 MiB, {counts['hole']} to nothing; "
        "physical memory holds there what the program wrote, and when two entries are exchanged it reads the pages exchanged"
    )


LAB = Lab(
    id="M2",
    name="walk",
    title="A walk, bit by bit",
    question="How does a virtual address become a physical one, and who says what may be done there?",
    claim="Page tables of several levels map virtual addresses to physical frames and enforce isolation and permissions "
    "for each page.",
    machines=("host", "riscv"),
    seconds=1,
    knobs=(
        choice("show", "page", "whose walk is drawn", *WHICH),
        switch("flush", "off: the machine is not told that entries have changed"),
    ),
    off="--without flush",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
