"""M8: how many bits of each area's address differ from run to run."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from trapline.typed import TYPE_CHECKING

from trapline.abi.personality import ADDR_NO_RANDOMIZE
from trapline.labs.code.elf import movable
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Program
from trapline.labs.framework.charts import Bars, Chart, Table, histogram
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

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

AREAS = ("program", "heap", "mmap", "vdso", "stack")
SAMPLE, LAUNCHER = "/tmp/sample", "/tmp/launcher"
FEW_BITS = 8  #: a claim of randomness needs more

EXPLAIN = """
A program of one system call, which may be loaded anywhere, is started many times. When it ends, the kernel is asked
where its code, its heap, its mappings, the vDSO and its stack began.

An address is random as far as its bits are. For every area the lab counts the bits that were not always the same
(varying), and how evenly each of them was 0 and 1: the sum of these bits' entropies is the estimate, an upper one,
since it takes bits for independent. It is what an attacker must guess: with n bits, 2 to the power of n-1 attempts on
average, if each failed one has the program start anew, and one attempt if the address leaks. Distinct counts the
different values: of N runs nearly all are, for anything over twice log2 N bits.

The sample has no dynamic loader, so that its code is placed as a mapping is, and has no random number of its own: its
distance to the mappings never changes. What is random is decided at exec(2): a program that is linked to a fixed
address has no random code, and fork(2) copies the layout, so that all children of a server have one and the same. And
areas may share a random number: look at the distances. Where two areas always have the same distance, one leaked
address tells the other. On x86-64 mappings have 28 random bits, as Linux has it; Sv39, whose user space has 38 bits
in all, leaves fewer.

`--without aslr` has the launcher call personality(ADDR_NO_RANDOMIZE) first, as `setarch -R` does and debuggers do:
then every run has the same addresses. `trapline run --no-aslr` switches it off for all, `--seed` makes it repeatable.
"""


class _Places(Listener):
    """Where things are in every sample that ends."""

    def __init__(self) -> None:
        self.found: list[dict[str, int]] = []

    def exiting(self, task: Task) -> None:
        mm = task.mm
        if mm is not None:
            stack = mm.start_stack
            self.found.append(
                {"program": mm.start_code, "heap": mm.start_brk, "mmap": mm.mmap_base, "vdso": mm.vdso, "stack": stack}
            )


def _launcher(machine: str, random: bool) -> bytes:
    """personality(2), then the sample."""
    program = Program.of(machine)
    path = program.put(SAMPLE.encode() + b"\0")
    arguments = program.put(path.to_bytes(8, "little") + bytes(8))
    program.call("personality", 0 if random else ADDR_NO_RANDOMIZE)
    program.call("execve", path, arguments, 0)
    program.exit(1)
    return program.link()


def measure(knobs: Knobs, progress: Progress) -> Figures:
    places = _Places()
    with lab_kernel(knobs.machine) as kernel:
        kernel.add_file(SAMPLE, movable(kernel.system.machine.arch.name), 0o755)
        kernel.add_file(LAUNCHER, _launcher(knobs.machine, knobs.on("aslr")), 0o755)
        kernel.subscribe(places)
        count = knobs.number("runs")
        for n in range(count):
            if not n % 50:
                progress(f"run {n} of {count}")
            if kernel.run([LAUNCHER]):
                raise LabError("the sample did not run: is the machine out of memory?")
    return {"runs": count, "areas": {name: [each[name] for each in places.found] for name in AREAS}}


def bits(values: Sequence[int]) -> tuple[int, float]:
    """(bits that vary, the sum of their entropies)."""
    varying, total = 0, 0.0
    for bit in range(max(values).bit_length()):
        share = sum(value >> bit & 1 for value in values) / len(values)
        if 0 < share < 1:
            varying += 1
            total -= share * log2(share) + (1 - share) * log2(1 - share)
    return varying, total


def _distances(figures: Figures, one: str, other: str) -> int:
    return len({a - b for a, b in zip(figures["areas"][one], figures["areas"][other], strict=True)})


def draw(figures: Figures) -> Sequence[Chart]:
    rows: list[list[str | int | float]] = []
    for name, values in figures["areas"].items():
        varying, entropy = bits(values)
        span = log2(max(values) - min(values) or 1)
        rows.append([name, f"{values[0]:#x}", len(set(values)), varying, round(entropy, 1), f"2^{span:.0f}"])
    heads = ("area", "first run", "distinct", "varying bits", "entropy", "spread over")
    pairs = (("vdso", "mmap"), ("program", "mmap"), ("heap", "program"), ("stack", "mmap"))
    distances: list[list[str | int | float]] = [[f"{a} - {b}", _distances(figures, a, b)] for a, b in pairs]
    mappings = [(value - min(figures["areas"]["mmap"])) / (1 << 30) for value in figures["areas"]["mmap"]]
    return [
        Table(f"{figures['runs']} runs", heads, rows),
        Table("Distances: 1 means that whoever knows one address knows both", ("between", "distinct"), distances),
        Bars("Entropy", [(str(row[0]), float(row[4])) for row in rows], "bits"),
        histogram("Where mappings begin, above the lowest", mappings, "GiB", 8),
    ]


def verdict(figures: Figures) -> Verdict:
    found = {name: round(bits(values)[1], 1) for name, values in figures["areas"].items()}
    said = ", ".join(f"{name} {entropy:g}" for name, entropy in found.items())
    fixed = [name for name, entropy in found.items() if entropy < FEW_BITS]
    if fixed:
        return refuted(f"bits of entropy over {figures['runs']} runs: {said}; that is few for {', '.join(fixed)}")
    return supported(f"bits of entropy over {figures['runs']} runs: {said}")


LAB = Lab(
    id="M8",
    name="aslr",
    title="Entropy of the layout",
    question="How much does an attacker who knows the program not know of its addresses?",
    claim="Address-space layout randomisation puts stack, heap and libraries at random places in each process, which makes "
    "attacks that rely on fixed addresses hard.",
    machines=("host", "riscv"),
    seconds=2,
    knobs=(
        number("runs", 128, "how often the program is started", 32, 10000),
        switch("aslr", "off: personality(ADDR_NO_RANDOMIZE) before exec"),
    ),
    off="--without aslr",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
