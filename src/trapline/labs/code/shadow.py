"""A guest that changes its page tables, on a hypervisor with a second stage and on one that keeps a shadow table.

The guest writes an entry into its table and reads the page that it maps, again and again. With a second stage (VS-mode) that
is its own affair. With a shadow table (user mode, as before processors knew guests) its table is mapped read-only: each write
traps, and the hypervisor makes it, in the guest's table and in the one that the processor walks. Guest physical addresses are
the real ones.
"""

from __future__ import annotations

import struct
from trapline.typed import NamedTuple

from trapline.labs.code import bare
from trapline.labs.code.spaces import EXECUTE, READ, USED, USER, WRITE, Frames
from trapline.labs.code.text import assemble
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE, SV39
from trapline.machine.riscv.addresses import RAM_BASE
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.status import MODE_SHIFT, MPP_SHIFT, MPV, SV39_MODE, S, U
from trapline.machine.riscv.tlb import Tlb
from trapline.machine.riscv.trap import STORE_PAGE

CODE, TABLE, PAGES = 0x1_0000, 0x40_0000, 0x80_0000  #: of the guest: its code, its table as data, what that table maps
COUNTS, VCPU, RESULT = (RAM_BASE + each for each in (0x8000, 0x9000, 0xA000))
GUEST_RAM, BLOCK = RAM_BASE + (4 << 20), 2 << 20
WORD, MOST, MEMORY = 0x600D, 200_000, 16 << 20
_CAUSES = 32
_SAVE = "\n".join(f"sd x{n}, {8 * n}(tp)" for n in range(1, 32) if n != 4)

_GUEST = """
    li s0, TABLE
    li s1, COUNT
    li s2, PAGES
    li s3, ENTRY
    li s4, WORD
    li s5, 1024                 # one frame further, in an entry
    li s6, 4096
    li a0, 0
map:
    sd s3, 0(s0)
    ld t0, 0(s2)
    bne t0, s4, wrong
    addi a0, a0, 1
wrong:
    addi s0, s0, 8
    add s2, s2, s6
    add s3, s3, s5
    addi s1, s1, -1
    bnez s1, map
    ecall
"""
_HYPERVISOR = """
    la t0, exit
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, SATP
    csrw satp, t0
    li t0, VSATP
    csrw vsatp, t0
    li t0, HGATP
    csrw hgatp, t0
    li tp, VCPU
    csrw mscratch, tp
    li t0, STATUS
    csrw mstatus, t0
    li t0, CODE
    csrw mepc, t0
    mret
.align 4
exit:
    csrrw tp, mscratch, tp
    SAVE
    csrr t0, mcause
    li t1, COUNTS
    slli t2, t0, 3
    add t1, t1, t2
    ld t2, 0(t1)
    addi t2, t2, 1
    sd t2, 0(t1)
    li t1, STORE_PAGE
    bne t0, t1, end
    csrr t0, mtval              # the address of the entry: which one it is
    slli t0, t0, 52
    srli t0, t0, 52
    csrr t1, mepc
    addi t2, t1, 4
    csrw mepc, t2
    li t2, INSTRUCTION          # at its real address
    slli t1, t1, 52
    srli t1, t1, 52
    add t2, t2, t1
    lwu t1, 0(t2)
    srli t1, t1, 17
    andi t1, t1, 248
    add t1, t1, tp
    ld t1, 0(t1)                # what the guest stores
    li t2, GUEST_TABLE
    add t2, t2, t0
    sd t1, 0(t2)
    ori t1, t1, USER
    li t2, SHADOW_TABLE
    add t2, t2, t0
    sd t1, 0(t2)
    slli t0, t0, 9              # the page that it maps
    li t1, PAGES
    add t0, t0, t1
    sfence.vma t0, zero
    ld t0, 40(tp)
    ld t1, 48(tp)
    ld t2, 56(tp)
    csrrw tp, mscratch, tp
    mret
end:
    li t0, RESULT
    sd a0, 0(t0)
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
"""


class Updates(NamedTuple):
    """What `count` changes of the table took."""

    right: int  #: pages in which the guest found what it should
    exits: dict[int, int]  #: by cause
    walks: int
    steps: int  #: references of these walks
    instructions: int


def updates(count: int, *, shadow: bool) -> Updates:
    frames, own = Frames(), Frames(GUEST_RAM)
    root = own.alloc()
    code = own.alloc()
    own.map(root, CODE, code, READ | EXECUTE)
    own.map(root, PAGES, root, READ)  # makes the table that the guest will fill
    table = table_of(own, root, PAGES)
    own.set_entry(table, 0, 0)
    own.map(root, TABLE, table, READ | WRITE)
    first = own.alloc(WORD.to_bytes(8, "little"))
    for _ in range(count - 1):
        own.alloc(WORD.to_bytes(8, "little"))
    entry = first >> PAGE_SHIFT << SV39.pfn_shift | SV39.present | USED | READ
    real = satp = second = 0
    if shadow:
        real = frames.alloc()
        frames.map(real, CODE, code, READ | EXECUTE | USER)
        frames.map(real, TABLE, table, READ | USER)
        frames.map(real, PAGES, code, READ)
        satp = SV39_MODE << MODE_SHIFT | real >> PAGE_SHIFT
    else:
        second = frames.alloc(pages=4)
        for pa in range(GUEST_RAM, GUEST_RAM + BLOCK, PAGE_SIZE):
            frames.map(second, pa, pa, READ | WRITE | EXECUTE | USER)
    names = {
        **bare.PLACES, "TABLE": TABLE, "COUNT": count, "PAGES": PAGES, "ENTRY": entry, "WORD": WORD, "SATP": satp, "VCPU": VCPU,
        "VSATP": 0 if shadow else SV39_MODE << MODE_SHIFT | root >> PAGE_SHIFT, "CODE": CODE, "COUNTS": COUNTS,
        "RESULT": RESULT,
        "HGATP": SV39_MODE << MODE_SHIFT | second >> PAGE_SHIFT if second else 0, "INSTRUCTION": code, "USER": USER,
        "STATUS": U << MPP_SHIFT if shadow else S << MPP_SHIFT | MPV, "STORE_PAGE": STORE_PAGE, "GUEST_TABLE": table,
        "SHADOW_TABLE": table_of(frames, real, PAGES) if shadow else 0,
    }  # fmt: skip
    guest = assemble(_GUEST, CODE, names).link()
    pieces = [*frames.pieces(), *((at, guest if at == code else page) for at, page in own.pieces())]
    tlbs: list[Tlb] = []

    def prepare(board: Board) -> None:
        tlbs.append(board.harts.each[0].tlb)

    hypervisor = assemble(_HYPERVISOR.replace("SAVE", _SAVE), RAM_BASE, names)
    memory, instructions = bare.run(hypervisor, most=MOST, memory=MEMORY, pieces=pieces, prepare=prepare)
    counts = struct.unpack_from(f"<{_CAUSES}Q", memory, COUNTS - RAM_BASE)
    (right,) = struct.unpack_from("<Q", memory, RESULT - RAM_BASE)
    exits = {cause: exits for cause, exits in enumerate(counts) if exits}
    tlb = tlbs[0]
    return Updates(right, exits, tlb.misses if shadow else sum(tlb.nested.values()), tlb.walk_steps, instructions)


def table_of(frames: Frames, root: int, va: int) -> int:
    """The table of the lowest level for an address."""
    table = root
    for level in (2, 1):
        table = SV39.pfn(frames.entry(table, va >> PAGE_SHIFT + 9 * level & 511)) << PAGE_SHIFT
    return table
