"""V1: a guest that knows that it is one changes its page tables by hypercalls, and the hypervisor checks each change."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from trapline.typed import Any

from trapline.labs.code import bare, shadow
from trapline.labs.code.spaces import EXECUTE, READ, USED, USER, WRITE, Frames
from trapline.labs.code.text import assemble
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
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE, SV39
from trapline.machine.riscv.addresses import RAM_BASE
from trapline.machine.riscv.status import MODE_SHIFT, SV39_MODE
from trapline.machine.riscv.trap import ECALL_U, LOAD_PAGE

CODE, QUEUE, PAGES = 0x1_0000, 0x40_0000, 0x80_0000  #: of the guest
OUTSIDE = 0x90_0000  #: where it maps what is not its own
STATE, GUEST_RAM = RAM_BASE + 0x8000, RAM_BASE + (4 << 20)
WORD, SECRET = 0x600D, 0x5EC2E7
MOST, MEMORY = 1_000_000, 16 << 20
_QUEUE = PAGE_SIZE // 16  #: changes that fit
CALLS, SHADOW, STAGES = "hypercalls", "a shadow table", "two stages"

EXPLAIN = """
The guest's kernel runs in user mode, and knows it: what it must not do itself, it asks for. Its page table is the
very table that the processor walks (Xen's direct paging), mapped nowhere in the guest, so the guest cannot write it.
To map pages, the guest fills a queue with changes, each a place in its table and the new entry, and makes one call
for all of them (ecall, as mmu_update is Xen's hypercall). The hypervisor looks at each one before it writes it: the
frame must be the guest's own.

The comparison makes the same changes on the two hypervisors of lab V3: with a shadow table each write of the guest
traps, with two stages none does. A queue of `--batch` changes divides the exits by that number; this is what
paravirtualisation was for, before processors had two stages. A walk is as short as without a hypervisor, since there
is only one table.

The check is the line. At the end the guest asks for a mapping of the hypervisor's own memory and reads it. The
hypervisor refuses the change, and the read is a page fault. `--without check` makes it believe the guest: the read
then returns the hypervisor's secret. A table that is walked by the processor is as good as the check of whoever
writes it.

What is left out: Xen lets guests read their tables, counts references to each frame by type, and checks that no page
table is ever mapped writable.
"""

_GUEST = """
    li s0, QUEUE
    li s1, COUNT
    li s2, 0                    # the entry's place
    li s3, ENTRY
    li s5, 0                    # changes in the queue
    mv s6, s0
map:
    sd s2, 0(s6)
    sd s3, 8(s6)
    addi s6, s6, 16
    addi s5, s5, 1
    addi s2, s2, 8
    addi s3, s3, 1024           # one frame further
    addi s1, s1, -1
    beqz s1, ask
    li t0, BATCH
    bltu s5, t0, map
ask:
    mv a0, s5
    li a7, 1
    ecall
    mv s6, s0
    li s5, 0
    bnez s1, map
    li s1, COUNT                # read them all
    li s2, PAGES
    li s3, 4096
    li s4, WORD
    li s7, 0
read:
    ld t0, 0(s2)
    bne t0, s4, wrong
    addi s7, s7, 1
wrong:
    add s2, s2, s3
    addi s1, s1, -1
    bnez s1, read
    li t0, PLACE                # and now what is not its own
    sd t0, 0(s0)
    li t0, FOREIGN
    sd t0, 8(s0)
    li a0, 1
    li a7, 1
    ecall
    li s8, 0
    li t0, OUTSIDE
    ld s8, 0(t0)
    mv a0, s7
    mv a1, s8
    li a7, 0
    ecall
"""
#: at STATE: changes asked for; refused; traps; pages that were right; what was read outside; the last fault
_HYPERVISOR = """
    la t0, exit
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, SATP
    csrw satp, t0
    li t0, CODE
    csrw mepc, t0
    csrw mstatus, zero
    mret
.align 4
exit:                           # by convention the guest keeps nothing in t-registers
    li t6, STATE
    csrr t0, mcause
    li t1, ECALL_U
    bne t0, t1, fault
    ld t1, 16(t6)
    addi t1, t1, 1
    sd t1, 16(t6)
    beqz a7, end
    li t1, QUEUE_FRAME
    li t4, MOST                 # as many as the queue holds
    bgtu a0, t4, skip
change:
    beqz a0, skip
    ld t2, 0(t1)                # the place, copied once
    ld t3, 8(t1)                # the entry
    addi t1, t1, 16
    addi a0, a0, -1
    ld t4, 0(t6)
    addi t4, t4, 1
    sd t4, 0(t6)
    li t4, 4088
    bgtu t2, t4, refuse
    andi t4, t2, 7
    bnez t4, refuse
    CHECK
    ori t3, t3, USER
    li t4, TABLE
    add t4, t4, t2
    sd t3, 0(t4)
    j change
refuse:
    ld t4, 8(t6)
    addi t4, t4, 1
    sd t4, 8(t6)
    j change
fault:
    sd t0, 40(t6)
skip:
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    sfence.vma
    mret
end:
    sd a0, 24(t6)
    sd a1, 32(t6)
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
"""
_CHECK = """
    slli t4, t3, 10             # the frame, without the bits above it
    srli t4, t4, 20
    li t5, FIRST
    bltu t4, t5, refuse
    li t5, BEHIND
    bgeu t4, t5, refuse
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    count = knobs.number("changes")
    progress(CALLS)
    ours = _run(count, min(knobs.number("batch"), _QUEUE), knobs.on("check"))
    systems = {CALLS: {"exits": ours["traps"] - 2, "right": ours["right"], "instructions": ours["instructions"]}}
    for name, how in ((SHADOW, True), (STAGES, False)):
        progress(name)
        found = shadow.updates(count, shadow=how)
        exits = sum(found.exits.values()) - 1  # the last one is the end
        systems[name] = {"exits": exits, "right": found.right, "instructions": found.instructions}
    return {"changes": count, "systems": systems, "asked": ours}


def _run(count: int, batch: int, check: bool) -> dict[str, Any]:
    own, frames = Frames(GUEST_RAM), Frames()
    secret = frames.alloc(SECRET.to_bytes(8, "little"))
    root = frames.alloc()
    code, queue = own.alloc(), own.alloc()
    frames.map(root, CODE, code, READ | EXECUTE | USER)
    frames.map(root, QUEUE, queue, READ | WRITE | USER)
    frames.map(root, PAGES, code, READ)  # makes the table that is to be filled
    table = shadow.table_of(frames, root, PAGES)
    frames.set_entry(table, 0, 0)
    pages = [own.alloc(WORD.to_bytes(8, "little")) for _ in range(count)]
    bits = SV39.present | USED | READ
    names = {
        **bare.PLACES, "CODE": CODE, "QUEUE": QUEUE, "PAGES": PAGES, "OUTSIDE": OUTSIDE, "COUNT": count, "BATCH": batch,
        "ENTRY": pages[0] >> 2 | bits, "WORD": WORD, "STATE": STATE, "SATP": SV39_MODE << MODE_SHIFT | root >> PAGE_SHIFT,
        "PLACE": (OUTSIDE - PAGES >> PAGE_SHIFT) * 8, "FOREIGN": secret >> 2 | bits, "QUEUE_FRAME": queue, "TABLE": table,
        "ECALL_U": ECALL_U, "MOST": _QUEUE, "USER": USER, "FIRST": GUEST_RAM >> PAGE_SHIFT,
        "BEHIND": GUEST_RAM + (2 << 20) >> PAGE_SHIFT,
    }  # fmt: skip
    guest = assemble(_GUEST, CODE, names).link()
    pieces = [*frames.pieces(), *((at, guest if at == code else page) for at, page in own.pieces())]
    hypervisor = assemble(_HYPERVISOR.replace("CHECK", _CHECK if check else ""), RAM_BASE, names)
    memory, instructions = bare.run(hypervisor, most=MOST, memory=MEMORY, pieces=pieces)
    names_of = ("asked", "refused", "traps", "right", "outside", "fault")
    state = struct.unpack_from("<6Q", memory, STATE - RAM_BASE)
    return {**dict(zip(names_of, state, strict=True)), "instructions": instructions}


def draw(figures: Figures) -> Sequence[Chart]:
    systems, asked = figures["systems"], figures["asked"]
    rows = [[name, each["exits"], each["instructions"], each["right"]] for name, each in systems.items()]
    got = f"page fault {asked['fault']}" if asked["fault"] else f"{asked['outside']:#x}"
    attack = [["changes asked for", asked["asked"]], ["refused", asked["refused"]], ["the guest reads there", got]]
    heads = ("", "exits", "instructions", "pages that were right")
    return [
        Table(f"A guest maps {figures['changes']} pages and reads each", heads, rows),
        Bars("Exits", [(name, each["exits"]) for name, each in systems.items()]),
        Table("At the end it asks for a page of the hypervisor's", ("", ""), attack),
    ]


def verdict(figures: Figures) -> Verdict:
    systems, asked, count = figures["systems"], figures["asked"], figures["changes"]
    if asked["fault"] != LOAD_PAGE or asked["refused"] != 1:
        return refuted(f"the guest mapped memory of the hypervisor's and read {asked['outside']:#x}")
    if any(each["right"] != count for each in systems.values()):
        return refuted(f"a guest did not find its own pages: {systems}")
    calls, traps = systems[CALLS]["exits"], systems[SHADOW]["exits"]
    if calls >= traps:
        return refuted(f"{calls} hypercalls are no fewer than the {traps} exits of a shadow table")
    return supported(
        f"{count} changes took {calls} hypercalls; a shadow table takes {traps} exits, two stages {systems[STAGES]['exits']}; "
        f"the one change that reached for the hypervisor's memory was refused, and the access ended in cause {asked['fault']}"
    )


LAB = Lab(
    id="V1",
    name="hypercall",
    title="Hypercalls",
    question="What does a guest gain that knows of its hypervisor, and who watches over its page tables?",
    claim="Xen has the guest's kernel issue hypercalls, for page-table updates for example, instead of trapping its sensitive "
    "instructions; that takes fewer transitions, and guests stay isolated.",
    machines=("board",),
    seconds=1,
    knobs=(
        number("changes", 40, "pages that the guest maps", 2, 200),
        number("batch", 10, "changes of a hypercall", 1, 200),
        switch("check", "off: the hypervisor writes what it is told"),
    ),
    off="--without check",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
