"""P4: three modes, who takes a trap, and memory that only firmware may touch."""

from __future__ import annotations

import struct
from typing import Any

from trapline.labs.code import bare
from trapline.labs.code.text import assemble
from trapline.labs.framework.charts import Chart, Steps, Table
from trapline.labs.framework.lab import Figures, Knobs, Lab, Progress, Verdict, refuted, supported, switch
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.addresses import RAM_BASE

EXPLAIN = """
RISC-V has three modes: M for firmware, S for the kernel, U for programs. Every trap goes to M-mode, unless M-mode has
delegated its cause: a bit of medeleg for each exception, of mideleg for each interrupt. A delegated trap that happens in U-
or S-mode goes to S-mode directly: the hardware writes scause, sepc, stval instead of mcause, mepc, mtval, and jumps to stvec
instead of mtvec. Without that, firmware would stand between each program and its kernel.

The program of this lab is all three at once. Firmware sets up delegation, physical memory protection (PMP) and a timer, and
goes down to the kernel by mret; the kernel goes down to the program by sret; the program makes trap after trap. Each handler
writes down in which mode it runs, the cause, from where it came, and goes on behind the instruction.

PMP is firmware's own line. It holds for physical addresses, below page tables: the program and the kernel may neither read
nor write firmware's memory, and only read one more page. The timer shows the path that remains: the machine timer's interrupt
(7) cannot be delegated, so firmware takes it and sets the supervisor timer's bit (5), which S-mode takes; S-mode cannot clear
that bit and asks firmware to (an ecall from S-mode). The extension Sstc saves both trips.

Try: --without delegation: the same traps, all taken by firmware. --without protection: the forbidden accesses succeed.

Limits: this runs on the bare board, with none of this project's kernel. Under that kernel, it stands where firmware and
S-mode would, and gets all traps at once.
"""
LOG, READ_ONLY, SECRET = RAM_BASE + 0x10_0000, RAM_BASE + 0x11_0000, RAM_BASE + 0xF000
ENTRY = 48  #: bytes of the log for each trap: mode, cause, pc, value, mode before, instructions so far
_MODES = {st.U: "U", st.S: "S", st.M: "M"}
_CAUSES = {
    t.FETCH_ACCESS: "fetch access fault", t.ILLEGAL: "illegal instruction", t.BREAKPOINT: "breakpoint",
    t.LOAD_ACCESS: "load access fault", t.STORE_ACCESS: "store access fault", t.ECALL_U: "call from U-mode",
    t.ECALL_S: "call from S-mode", t.INTERRUPT | t.MTI: "machine timer", t.INTERRUPT | t.STI: "supervisor timer",
}  # fmt: skip
DELEGATED = 1 << t.ECALL_U | 1 << t.ILLEGAL | 1 << t.BREAKPOINT | 1 << t.LOAD_ACCESS | 1 << t.STORE_ACCESS
#: what the program does, in order: (label, what it is)
TRIES = (
    ("call", "ecall"), ("nonsense", "an unknown instruction"), ("stop", "ebreak"), ("peek", "reads sstatus"),
    ("nowhere", "reads where nothing is"), ("steal", "reads firmware's memory"), ("poke", "writes firmware's memory"),
    ("look", "reads an open page"), ("change", "writes that page"),
)  # fmt: skip
_NOTE = """
    li t4, {mode}
    sd t4, 0(s10)
    csrr t4, {x}cause
    sd t4, 8(s10)
    csrr t5, {x}epc
    sd t5, 16(s10)
    csrr t5, {x}tval
    sd t5, 24(s10)
    csrr t5, {x}status
    sd t5, 32(s10)
    csrr t5, {counter}
    sd t5, 40(s10)
    addi s10, s10, 48
"""
PROGRAM = """
    la t0, firmware_trap        # --- firmware, M-mode
    csrw mtvec, t0
    li s10, LOG
    li t0, SECRET_AREA
    csrw pmpaddr0, t0
    li t0, READ_AREA
    csrw pmpaddr1, t0
    li t0, -1
    csrw pmpaddr2, t0
    li t0, PROTECTION
    csrw pmpcfg0, t0
    li t0, DELEGATED
    csrw medeleg, t0
    li t0, STIP_IF
    csrw mideleg, t0
    li t0, -1
    csrw mcounteren, t0
    li t0, TIMERS
    csrw mie, t0
    li t0, MTIMECMP
    li t1, 8
    sd t1, 0(t0)
    li t0, TO_S
    csrw mstatus, t0
    la t0, kernel
    csrw mepc, t0
    mret

kernel:                         # --- the kernel, S-mode
    la t0, kernel_trap
    csrw stvec, t0
    li t0, STIP
    csrw sie, t0
    li t0, SPIE                 # SPP is 0: sret goes to U-mode
    csrw sstatus, t0
    la t0, user
    csrw sepc, t0
    sret

user:                           # --- the program, U-mode
    li a7, 0
call: ecall
nonsense: .word 0
stop: ebreak
peek: csrr a0, sstatus
    li a1, 0x40000000
nowhere: ld a0, 0(a1)
    li a1, SECRET
steal: ld a0, 0(a1)
poke: sd a1, 0(a1)
    li a1, READ_ONLY
look: ld a0, 0(a1)
change: sd a1, 0(a1)
    li a1, 800
idle: addi a1, a1, -1
    bnez a1, idle
    li a7, 93
leave: ecall

.align 4
firmware_trap:
    NOTE_M
    bltz t4, firmware_interrupt
    li t5, 9                    # a call from S-mode: clear the supervisor timer's bit
    bne t4, t5, skip
    li t5, STIP
    csrc mip, t5
skip:
    csrr t5, mepc
    addi t5, t5, 4
    csrw mepc, t5
    li t5, 93
    beq a7, t5, finish
    mret
firmware_interrupt:
    slli t4, t4, 1
    srli t4, t4, 1
    li t5, 5
    beq t4, t5, not_delegated
    li t5, MTIE
    csrc mie, t5
    li t5, STIP
    csrs mip, t5                # hand it to S-mode
    mret
not_delegated:
    li t5, STIP
    csrc mip, t5
    mret

.align 4
kernel_trap:
    NOTE_S
    bltz t4, kernel_interrupt
    csrr t5, sepc
    addi t5, t5, 4
    csrw sepc, t5
    li t5, 93
    beq a7, t5, finish
    sret
kernel_interrupt:
ask: ecall
    sret

finish:
    sd zero, 0(s10)
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    delegation, protection = knobs.on("delegation"), knobs.on("protection")
    napot, code = 3 << 3, 7
    rights = (napot | code) << 16 | (napot | (1 if protection else code)) << 8 | napot | (0 if protection else code)
    names = bare.PLACES | {
        "LOG": LOG, "SECRET": SECRET, "READ_ONLY": READ_ONLY, "SECRET_AREA": (SECRET >> 2) | 0x1FF,
        "READ_AREA": (READ_ONLY >> 2) | 0x1FF, "PROTECTION": rights, "DELEGATED": DELEGATED if delegation else 0,
        "STIP": st.STIP, "STIP_IF": st.STIP if delegation else 0,
        "TIMERS": 1 << t.MTI | st.STIP, "MTIE": 1 << t.MTI, "TO_S": st.S << st.MPP_SHIFT | st.MPIE, "SPIE": st.SPIE,
    }  # fmt: skip
    text = PROGRAM.replace("NOTE_M", _NOTE.format(mode=st.M, x="m", counter="minstret"))
    made = assemble(text.replace("NOTE_S", _NOTE.format(mode=st.S, x="s", counter="instret")), RAM_BASE, names)
    progress("firmware, a kernel and a program on one hart")
    memory, retired = bare.run(made, most=20_000)
    places = {address: label for label, address in made.labels.items()}
    return {"traps": _traps(memory, places), "instructions": retired, "delegation": delegation, "protection": protection}


def _traps(memory: bytes, places: dict[int, str]) -> list[dict[str, Any]]:
    found = []
    for at in range(LOG - RAM_BASE, len(memory), ENTRY):
        mode, cause, pc, value, status, instret = struct.unpack_from("<6Q", memory, at)
        if not mode:
            break
        before = status >> st.MPP_SHIFT & 3 if mode == st.M else status >> 8 & 1
        found.append({
            "mode": _MODES[mode], "from": _MODES[before], "cause": _CAUSES.get(cause, hex(cause)), "place": places.get(pc, ""),
            "pc": pc, "value": value, "instructions": instret,
        })  # fmt: skip
    return found


def draw(figures: Figures) -> list[Chart]:
    lanes = ("U program", "S kernel", "M firmware")
    what = dict(TRIES) | {"leave": "asks to end", "ask": "calls firmware"}
    steps = [(2, "sets up, goes down: mret", ""), (1, "sets up, goes down: sret", "")]
    rows = []
    for each in figures["traps"]:
        done = what.get(each["place"], "is interrupted")
        steps.append(("USM".index(each["from"]), done, ""))
        steps.append(("USM".index(each["mode"]), f"takes it: {each['cause']}", ""))
        rows.append((each["from"], done, each["cause"], each["mode"], f"{each['value']:#x}"))
    trapped = {each["place"] for each in figures["traps"]}
    rows += [("U", text, "none: it is carried out", "", "") for label, text in TRIES if label not in trapped]
    heads = ("in", "what it does", "cause", "taken in", "trap value")
    return [Steps("Who runs", lanes, steps), Table("Traps, in order", heads, rows)]


def verdict(figures: Figures) -> Verdict:
    traps = figures["traps"]
    of_user = [each for each in traps if each["from"] == "U" and each["cause"] != "machine timer"]
    in_kernel = [each for each in of_user if each["mode"] == "S"]
    stopped = {each["place"] for each in traps} & {"steal", "poke", "change"}
    why = (
        f"{len(in_kernel)} of {len(of_user)} traps of the program were taken in S-mode, without firmware; "
        f"{len(stopped)} of 3 accesses that protection forbids were stopped"
    )
    holds = len(in_kernel) == len(of_user) >= len(TRIES) - 1 and len(stopped) == 3
    return supported(why) if holds else refuted(why)


LAB = Lab(
    id="P4", name="modes", title="Three modes, delegation, protection",
    question="Who takes a trap, and who decides that?",
    claim="Traps go to M-mode unless it delegates them; delegated ones reach the kernel at once. PMP guards firmware.",
    machines=("board",), seconds=1, off="--without delegation", explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        switch("delegation", "delegate the traps of user mode to S-mode"),
        switch("protection", "protect memory of firmware's (PMP)"),
    ),
)  # fmt: skip
