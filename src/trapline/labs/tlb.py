"""M7: how much memory a TLB reaches with pages of 4 KiB and of 2 MiB: misses, and the steps of the walks that they cost."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from trapline.abi.syscalls import RISCV64
from trapline.kernel.mm.policy import Policy
from trapline.labs.code.elf import TEXT, static
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import MARK, MARKED, run_image
from trapline.labs.code.text import assemble
from trapline.labs.framework.charts import Chart, Lines, Table
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
    undecided,
)
from trapline.scope.views.space import amount

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

PAGE, BLOCK = 4096, 2 << 20
MEMORY = 8 << 30  #: virtual address of what is walked over; a multiple of 2 MiB
SMALLEST = 128 << 10
ENOUGH = 0.9  #: the part of the misses, or of the steps, of which the claim speaks

EXPLAIN = """
A RISC-V program reads one word from a random page of a range, again and again. The hart's TLB has 16 sets of 4
entries (`--sets`, `--ways`), and every load is looked up in it. What is not found costs a walk. The lab counts both,
for ranges from 128 KiB up, first with the memory mapped by pages of 4 KiB, then, the same program and the same
addresses, by 2 MiB leaves.

An entry reaches as far as its page: 64 entries reach 256 KiB or 128 MiB. As long as the range is within reach, each
page misses once. Beyond it a random access finds its page with the probability reach/range, so the misses rise to one
an access. With 2 MiB pages the same range has 512 times fewer pages, and the curve moves 512 times to the right.

Two things fall, and they are not the same. Misses fall because the reach grows. Steps (the entries of page tables
that walks read) fall for that reason, and in addition because each walk is shorter by one level: three entries on
Sv39 become two, four on x86-64 become three. The article names 90 % for misses; of its sources one names it for the
walks. The verdict says what both are here.

Make the TLB so small that it does not reach the range with large pages either (`--sets=1 --ways=2 --most=16`): then
misses fall by a part only, and the steps of each remaining walk by a third.

What is not modelled: caches for inner entries of walks (a real walk often reads one entry from memory, not three),
several TLB levels, and time. And the host's own TLB: its counters are not for users. `--without huge` maps 4 KiB
pages both times.
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    sets, ways, most = knobs.number("sets"), knobs.number("ways"), knobs.number("most") << 20
    if sets & sets - 1:
        raise LabError(f"a TLB has a power of two of sets, not {sets}: write --sets=16")
    ranges = [SMALLEST << n for n in range(20) if SMALLEST << n <= most]
    accesses = knobs.number("accesses")
    figures: Figures = {"sets": sets, "ways": ways, "accesses": accesses, "ranges": ranges}
    for name, huge in (("small", False), ("large", knobs.on("huge"))):
        progress(f"pages of {'2 MiB' if huge else '4 KiB'}")
        figures[name] = _counts(f"riscv:tlb={sets}x{ways}", ranges, accesses, huge)
    return figures


def _counts(machine: str, ranges: list[int], accesses: int, huge: bool) -> list[dict[str, int]]:
    """Of each range: misses, steps of walks, and lookups."""
    policy = Policy(512, anon_most_pages=512, huge=huge)
    found: list[dict[str, int]] = []
    before = (0, 0, 0)
    with lab_kernel(machine, 2 * ranges[-1] + (64 << 20)) as kernel:
        hardware: Any = kernel.system.machine
        tlb = hardware.harts[0].tlb

        def mark(task: Task, stage: int) -> None:
            nonlocal before
            now = tlb.misses, tlb.walk_steps, tlb.hits + tlb.misses
            if stage:
                misses, steps, lookups = (a - b for a, b in zip(now, before, strict=True))
                found.append({"misses": misses, "steps": steps, "lookups": lookups})
            before = now

        run_image(kernel, static("riscv64", _program(ranges, accesses)), marks=mark, policy=policy)
    return found


def _program(ranges: list[int], accesses: int) -> bytes:
    """For each range: touch every page once, a mark, the accesses, a mark."""
    flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
    text = f"""
        li a0, {MEMORY}
        li a1, {max(ranges[-1], BLOCK)}
        li a2, {PROT_READ | PROT_WRITE}
        li a3, {flags}
        li a4, -1
        li a5, 0
        li a7, {RISCV64["mmap"]}
        ecall
        li s3, {MEMORY}
        li s4, 6364136223846793005     # of Knuth's linear congruential generator
        li s2, 1
    """
    for n, size in enumerate(ranges):
        text += f"""
        li t0, {MEMORY}
        li t1, {MEMORY + size}
        li t2, {PAGE}
    touch{n}: sd t0, 0(t0)
        add t0, t0, t2
        bltu t0, t1, touch{n}
        li a0, {MARKED}
        li a7, {RISCV64[MARK]}
        ecall
        li s0, {accesses}
        li s1, {size // PAGE - 1}
    read{n}: mul s2, s2, s4
        addi s2, s2, 1442
        srli t0, s2, 33
        and t0, t0, s1
        slli t0, t0, 12
        add t0, t0, s3
        ld t1, 0(t0)
        addi s0, s0, -1
        bnez s0, read{n}
        li a0, {MARKED + 1}
        li a7, {RISCV64[MARK]}
        ecall
        """
    text += f"li a0, 0\nli a7, {RISCV64['exit_group']}\necall\n"
    return assemble(text, TEXT).link()


def _fall(figures: Figures, what: str, n: int) -> float:
    """By which part something is less with large pages, over range `n`."""
    small, large = figures["small"][n][what], figures["large"][n][what]
    return float(1 - large / small) if small else 0.0


def draw(figures: Figures) -> Sequence[Chart]:
    ranges, count = figures["ranges"], figures["accesses"]
    rows: list[list[str | int | float]] = []
    for n, size in enumerate(ranges):
        small, large = figures["small"][n], figures["large"][n]
        fall = [f"{_fall(figures, what, n):.1%}" for what in ("misses", "steps")]
        rows.append([amount(size), small["misses"], large["misses"], fall[0], small["steps"], large["steps"], fall[1]])
    heads = ("range", "misses 4K", "2M", "fall", "steps 4K", "2M", "fall")
    entries = figures["sets"] * figures["ways"]
    reaches = amount(entries * PAGE), amount(entries * BLOCK)
    title = f"{count} random reads; a TLB of {figures['sets']} x {figures['ways']} entries reaches {' or '.join(reaches)}"
    series = {
        name: [(size >> 10, 100 * figures[key][n]["misses"] / count) for n, size in enumerate(ranges)]
        for name, key in (("4 KiB pages", "small"), ("2 MiB pages", "large"))
    }
    reach = [(entries * PAGE >> 10, "reach of 4 KiB pages")] if ranges[0] <= entries * PAGE <= ranges[-1] else []
    return [Table(title, heads, rows), Lines("Misses", "KiB", "misses per 100 reads", series, log_x=True, marks=reach)]


def verdict(figures: Figures) -> Verdict:
    last = len(figures["ranges"]) - 1
    misses, steps = _fall(figures, "misses", last), _fall(figures, "steps", last)
    small, large = figures["small"][last], figures["large"][last]
    if not small["misses"]:
        return undecided(f"the TLB reaches all of {amount(figures['ranges'][last])} with 4 KiB pages: take --most higher")
    left = large["misses"]
    each = f"each of the {left} that are left has {large['steps'] / left:.2g}" if left else "none is left"
    said = (
        f"over {amount(figures['ranges'][last])} misses fall by {misses:.1%} and walk steps by {steps:.1%}; "
        f"a walk had {small['steps'] / (small['misses'] or 1):.2g} steps with 4 KiB pages, with 2 MiB pages {each}"
    )
    return supported(said) if misses >= ENOUGH else refuted(said)


LAB = Lab(
    id="M7",
    name="tlb",
    title="TLB reach with small and large pages",
    question="What do large pages save: misses of the TLB, or the steps of each walk?",
    claim="Huge pages of 2 MiB expand the TLB's coverage and cut its misses by up to 90 %, and shorten page walks.",
    machines=("riscv",),
    seconds=3,
    knobs=(
        number("sets", 16, "sets of the TLB, a power of two", 1, 1024),
        number("ways", 4, "entries of a set", 1, 64),
        number("most", 4, "the largest range, in MiB", 1, 256),
        number("accesses", 3000, "reads in each range", 100, 1_000_000),
        switch("huge", "off: the second run has 4 KiB pages, too"),
    ),
    off="--without huge",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
