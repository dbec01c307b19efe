"""V3: how many memory references a translation in two stages takes, and what the second stage is for."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import Any

from trapline.labs.code import bare
from trapline.labs.code.shadow import updates
from trapline.labs.code.spaces import READ, USER, WRITE, Frames
from trapline.labs.code.text import assemble
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    choice,
    number,
    refuted,
    supported,
    switch,
)
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE, SV39, SV48, SV57, Format
from trapline.machine.riscv.addresses import RAM_BASE
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.status import MODE_SHIFT, SPVP
from trapline.machine.riscv.tlb import Tlb
from trapline.machine.riscv.trap import ECALL_U, ECALL_VS, LOAD_GUEST_PAGE

FORMATS: dict[str, tuple[Format, int]] = {"sv39": (SV39, 8), "sv48": (SV48, 9), "sv57": (SV57, 10)}
GUEST = 0x10_0000_0000  #: guest virtual address of the pages that are read
ESCAPE = 0x20_0000_0000  #: guest virtual, of memory that is not the guest's
RESULTS = RAM_BASE + 0x9000
GUEST_RAM, BLOCK = RAM_BASE + (4 << 20), 2 << 20  #: where the guest's memory is, for itself and in truth
MEMORY, MOST = 16 << 20, 100_000
LARGE = "large"
STAGES, SHADOW = "two stages", "a shadow table"
SECRET, WORD = 0x5EC2E7, 0x600D

EXPLAIN = """
A hypervisor gives a guest page tables for the guest's own use, from guest virtual to guest physical addresses, and
keeps a second table of its own, from guest physical to real ones. The processor walks both at every miss: each entry
of the guest's table is at a guest physical address, so each one must be translated by the second table before it can
be read. With n levels in the guest and m in the second stage, that makes (n+1)(m+1)-1 references: 15 for Sv39 on
Sv39x4, 24 for four levels on four, where one stage takes n.

The lab builds both tables in the memory of a RISC-V computer with the hypervisor extension, and reads pages through
them (hlv.d, a load with a guest's eyes). Cold, everything is forgotten before each read. Warm, only the page is new:
the TLB holds pairs, and apart from them what the second stage says of guest physical pages, so that the guest's own
tables are found without another walk. `--leaves=large` maps the second stage with 2 MiB leaves: one level less, and
one remembered leaf serves all of the guest's tables, so that of the n+1 second walks only one is made.

The alternative, before processors could do this, was a shadow table: from guest virtual to real addresses directly, n
references, kept up to date by the hypervisor. The lab's second guest fills a table of its own, entry by entry, and
reads what it has mapped: with two stages nothing of that is the hypervisor's business; with a shadow table each write
is an exit, since the guest's table is mapped read-only. So both have their price: long walks at misses, or an exit
for each change.

And the second stage is a line: an address that the guest maps to physical memory that is not its own ends in a guest
page fault (cause 21), which tells the hypervisor the guest physical address. `--without second` switches the second
stage off (hgatp = 0): walks are as short as in one stage, and the guest, who believes that it maps its own memory,
reads the hypervisor's.
"""

PROGRAM = """
    la t0, trap
    csrw mtvec, t0
    li s11, RESULTS
    li t0, -1                   # all memory is open below M-mode
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, HGATP
    csrw hgatp, t0
    li t0, VSATP
    csrw vsatp, t0
    li t0, SPVP                 # hlv reads as the guest's kernel would
    csrw hstatus, t0
    li s0, GUEST
    li s1, PAGES
    li s2, PAGE
read:
    FORGET
    hlv.d a0, (s0)
    li t0, WORD
    bne a0, t0, done
    ld t1, 0(s11)
    addi t1, t1, 1
    sd t1, 0(s11)
    add s0, s0, s2
    addi s1, s1, -1
    bnez s1, read
done:
    REACH
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
.align 4
trap:
    csrr t0, mcause
    sd t0, 8(s11)
    csrr t0, mtval2             # the guest physical address, four bits less
    slli t0, t0, 2
    sd t0, 16(s11)
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    mret
"""
_HEADS = ("", "exits", "walks", "references")
_FORGET = "hfence.gvma\nhfence.vvma"
_REACH = "li s0, ESCAPE\nli a0, 0\nhlv.d a0, (s0)\nsd a0, 24(s11)"


def measure(knobs: Knobs, progress: Progress) -> Figures:
    guest, host, pages = knobs.text("guest"), knobs.text("host"), knobs.number("pages")
    second = knobs.text("leaves") if knobs.on("second") else ""
    rows = []
    for name, kind, cold in (
        ("one stage, cold", "", True), ("two stages, cold", second, True), ("two stages, warm", second, False),
    ):  # fmt: skip
        progress(name)
        rows.append({"name": name, **_walks(guest, host, kind, pages, cold)})
    return {
        "guest": guest, "host": host, "levels": [FORMATS[guest][0].levels, FORMATS[host][0].levels], "second": second,
        "pages": pages, "rows": rows, "reach": _reach(guest, host, second),
        "updates": {name: _updates(knobs.number("updates"), shadow) for name, shadow in ((STAGES, False), (SHADOW, True))},
    }  # fmt: skip


def _updates(count: int, shadow: bool) -> dict[str, int]:
    """What a guest's changes of its own table take."""
    found = updates(count, shadow=shadow)
    end = ECALL_U if shadow else ECALL_VS
    exits = sum(exits for cause, exits in found.exits.items() if cause != end)
    return {"count": count, "right": found.right, "exits": exits, "walks": found.walks, "steps": found.steps}


def _walks(guest: str, host: str, second: str, pages: int, cold: bool) -> dict[str, Any]:
    """Read each page once: how many walks took how many references, and what trapped."""
    memory, tlb = _run(guest, host, second, pages, cold, "")
    right, cause = (_result(memory, n) for n in range(2))
    return {"walks": {str(count): walks for count, walks in tlb.nested.items()}, "right": right, "traps": int(cause > 0)}


def _reach(guest: str, host: str, second: str) -> dict[str, int]:
    """The guest reads through an address that it maps to the hypervisor's memory."""
    memory, _ = _run(guest, host, second, 1, True, _REACH)
    return {"cause": _result(memory, 1), "address": _result(memory, 2), "got": _result(memory, 3)}


def _result(memory: bytes, n: int) -> int:
    at = RESULTS - RAM_BASE + 8 * n
    return int.from_bytes(memory[at : at + 8], "little")


def _run(guest: str, host: str, second: str, pages: int, cold: bool, reach: str) -> tuple[bytes, Tlb]:
    (first_format, first_mode), (second_format, second_mode) = FORMATS[guest], FORMATS[host]
    frames = Frames()
    secret = frames.alloc(SECRET.to_bytes(8, "little"))
    own = Frames(GUEST_RAM)
    root = own.alloc()
    for n in range(pages):
        own.map(root, GUEST + n * PAGE_SIZE, own.alloc(WORD.to_bytes(8, "little")), READ | WRITE, fmt=first_format)
    own.map(root, ESCAPE, secret, READ | WRITE, fmt=first_format)
    hgatp = 0
    if second:
        table = frames.alloc(pages=4)  # the root is four times as wide
        level = 1 if second == LARGE else 0
        for pa in range(GUEST_RAM, GUEST_RAM + BLOCK, PAGE_SIZE << 9 * level):
            frames.map(table, pa, pa, READ | WRITE | USER, level, second_format)
        hgatp = second_mode << MODE_SHIFT | table >> PAGE_SHIFT
    names = {
        **bare.PLACES, "HGATP": hgatp, "VSATP": first_mode << MODE_SHIFT | root >> PAGE_SHIFT, "SPVP": SPVP, "RESULTS": RESULTS,
        "GUEST": GUEST, "PAGES": pages, "PAGE": PAGE_SIZE, "WORD": WORD, "ESCAPE": ESCAPE,
    }  # fmt: skip
    text = PROGRAM.replace("FORGET", _FORGET if cold else "nop").replace("REACH", reach or "nop")
    tlbs: list[Tlb] = []
    pieces = [*frames.pieces(), *own.pieces()]
    code = assemble(text, RAM_BASE, names)

    def prepare(board: Board) -> None:
        tlbs.append(board.harts.each[0].tlb)

    memory, _ = bare.run(code, most=MOST, memory=MEMORY, pieces=pieces, prepare=prepare)
    return memory, tlbs[0]


def _mean(row: dict[str, Any]) -> float:
    walks = sum(row["walks"].values())
    return sum(int(count) * number for count, number in row["walks"].items()) / walks if walks else 0.0


def _most(row: dict[str, Any]) -> int:
    return max(map(int, row["walks"]), default=0)


def draw(figures: Figures) -> Sequence[Chart]:
    n, m = figures["levels"]
    rows: list[list[str | int | float]] = [
        [row["name"], sum(row["walks"].values()), round(_mean(row), 1), _most(row), row["traps"]] for row in figures["rows"]
    ]
    reach = figures["reach"]
    met = f"cause {reach['cause']} at guest physical {reach['address']:#x}" if reach["cause"] else f"read {reach['got']:#x}"
    title = f"{figures['guest']} in the guest, {figures['host']}x4 below: (n+1)(m+1)-1 = {(n + 1) * (m + 1) - 1} at most"
    changes = [[name, row["exits"], row["walks"], row["steps"]] for name, row in figures["updates"].items()]
    return [
        Table(title, ("", "walks", "references", "most", "traps"), rows),
        Bars("References of a walk", [(str(row[0]), row[2] if isinstance(row[2], float) else 0) for row in rows]),
        Table(f"The guest maps {next(iter(figures['updates'].values()))['count']} pages, and reads each", _HEADS, changes),
        Table("The guest maps an address to memory that is not its own", ("it reads there", "what happened"), [["", met]]),
    ]


def verdict(figures: Figures) -> Verdict:
    single, cold, warm = figures["rows"]
    reach, (n, m) = figures["reach"], figures["levels"]
    if reach["cause"] != LOAD_GUEST_PAGE:
        return refuted(f"the guest read the hypervisor's {reach['got']:#x}; its walks took {_mean(cold):.2g} references")
    large = figures["second"] == LARGE  # one leaf, once found, serves the rest of the walk
    wanted = n + m - 1 if large else (n + 1) * (m + 1) - 1
    said = (
        f"a cold walk took {_most(cold)} references instead of {_most(single)}, a warm one {_mean(warm):.2g} on average, none "
        f"of them trapped, and an address outside of the guest's memory ended in cause {reach['cause']}; "
        f"{figures['updates'][STAGES]['count']} changes of the guest's table took no exit, with a shadow table "
        f"{figures['updates'][SHADOW]['exits']}"
    )
    changes = figures["updates"]
    if changes[STAGES]["exits"] or any(each["right"] != each["count"] for each in changes.values()):
        return refuted(f"a guest that maps pages exits to the hypervisor, or reads others: {changes}")
    exact = _most(cold) == wanted and _most(single) == n and not any(row["traps"] for row in figures["rows"])
    return supported(said) if exact and all(row["right"] == figures["pages"] for row in figures["rows"]) else refuted(said)


LAB = Lab(
    id="V3",
    name="nested",
    title="Nested walks",
    question="What does it cost a guest that its physical addresses are not the real ones?",
    claim="Second-level address translation combines the guest's page tables with the hypervisor's in hardware, without exits "
    "to the hypervisor and without shadow page tables.",
    machines=("board",),
    seconds=1,
    knobs=(
        choice("guest", "sv39", "format of the guest's tables", *FORMATS),
        choice("host", "sv39", "format of the second stage", *FORMATS),
        choice("leaves", "small", "the second stage maps pages of 4 KiB or of 2 MiB", "small", LARGE),
        number("updates", 20, "pages that the second guest maps", 1, 400),
        number("pages", 32, "pages that are read, each once", 1, 256),
        switch("second", "off: guest physical addresses are the real ones"),
    ),
    off="--without second",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
