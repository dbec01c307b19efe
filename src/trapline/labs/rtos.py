"""Y8: the same two tasks of a small real-time system in one flat space, and each behind a line; one of them writes wildly."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from trapline.typed import Any

from trapline.labs.code import bare
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
    undecided,
)
from trapline.machine.riscv.addresses import RAM_BASE
from trapline.machine.riscv.pmp import NAPOT, R, W, X
from trapline.machine.riscv.status import MPIE, MPP_SHIFT, M, U
from trapline.machine.riscv.trap import STORE_ACCESS

CONTROL, LOGGER, SYSTEM = RAM_BASE + 0x1_0000, RAM_BASE + 0x1_1000, RAM_BASE + 0x1_3000  #: each one's memory
SETPOINT, WILD = 0x600D, 0xDEAD
ROUNDS_MOST = 200
PERIOD = 30  #: ticks of the clock, of 100 instructions each
_STAMPS = 0x100  #: in a page: when it began, each time
_MOST = 5_000_000
FLAT, APART = "flat", "separated"

EXPLAIN = """
A real-time system of some 100 instructions has two tasks. Control has the higher priority: a timer releases it every
3000 instructions, it checks its setpoint, acts on it, and waits for the next period. Logger runs in between, and is
preempted whenever the timer says so. After a while a bug in logger makes it write through a wild pointer, which
happens to be the address of control's setpoint.

Flat, as FreeRTOS is by default: everything runs in machine mode and shares one memory. To wait is a function call,
which keeps the registers that a call must keep. The wild write succeeds, logger goes on as if nothing had happened,
and from then on control acts on a wrong setpoint: a fault in one task has become a fault in another, and the symptom
is far from the cause.

Separated: the same tasks run in user mode. Each sees the program's code and its own page (physical memory protection,
PMP, which the system changes at each switch); to wait is an ecall, which traps and keeps all registers. The same
write now raises a store access fault at the instruction that is wrong, the system stops logger, and control never
notices.

The price is counted in instructions: from the timer's handler to the first instruction of control (release), and how
long logger is away when it is preempted, all in. On both sides each of these is the same every time (distinct: 1):
the flat system is cheaper, but not more deterministic.

`--without separation` runs the second system flat, too. What is not modelled: caches and the pipeline, in which a
mode switch costs more than its instructions.
"""

_SAVE = "\n".join(f"sd x{n}, {8 * n}(tp)" for n in range(1, 32) if n != 4)
_LOAD = "\n".join(f"ld x{n}, {8 * n}(tp)" for n in range(1, 32) if n != 4)
_KEPT = (1, 2, 8, 9, *range(18, 28))  #: registers that a function must keep, and the return address
_CALL = "\n".join(f"sd x{n}, {8 * n}(t0)" for n in _KEPT)

TASKS = """
control:
    li s0, CONTROL
    li s1, 0
period:
    csrr t0, instret
    slli t1, s1, 3
    add t1, t1, s0
    sd t0, STAMPS(t1)           # when it began
    addi s1, s1, 1
    ld t1, 0(s0)                # the setpoint
    li t2, SETPOINT
    beq t1, t2, right
    ld t3, 16(s0)
    addi t3, t3, 1
    sd t3, 16(s0)
right:
    sd s1, 8(s0)
    li t0, ROUNDS
    beq s1, t0, enough
    WAIT
    j period
enough:
    FINISH

logger:
    li s0, LOGGER
    li s2, WHEN
    li s4, 0
    csrr s3, instret
log:
    csrr t0, instret
    sub t1, t0, s3
    mv s3, t0
    bleu t1, s4, near           # the longest time it was away
    mv s4, t1
    sd s4, 8(s0)
near:
    ld t1, 0(s0)
    addi t1, t1, 1
    sd t1, 0(s0)
    bne t1, s2, log
    li t2, CONTROL              # the bug
    li t3, WILD
    sd t3, 0(t2)
    j log
idle:
    j idle
"""
SYSTEM_TEXT = """
    la t0, trap
    csrw mtvec, t0
    li t0, TEXT_AREA
    csrw pmpaddr0, t0
    li t0, PROTECTION
    csrw pmpcfg0, t0
    li t0, 7
    csrw mcounteren, t0
    csrw scounteren, t0
    li t0, SETPOINT
    li t1, CONTROL
    sd t0, 0(t1)
    li s0, SYSTEM
    la t0, control
    sd t0, CONTROL_TCB(s0)
    la t0, logger
    sd t0, LOGGER_TCB(s0)
    la t0, idle
    sd t0, IDLE_TCB(s0)
    li t0, CONTROL_AREA
    sd t0, CONTROL_TCB + 256(s0)
    li t0, LOGGER_AREA
    sd t0, LOGGER_TCB + 256(s0)
    sd t0, IDLE_TCB + 256(s0)
    addi t0, s0, LOGGER_TCB
    sd t0, 0(s0)                # the background task
    li t1, MTIME
    ld t0, 0(t1)
    addi t0, t0, PERIOD
    li t1, MTIMECMP
    sd t0, 0(t1)
    li t0, 128
    csrw mie, t0
    ld tp, 0(s0)
    j switch

.align 4
trap:
    csrrw tp, mscratch, tp
    SAVE
    csrr t0, mscratch
    sd t0, 32(tp)
    csrr t0, mepc
    sd t0, 0(tp)
    csrr t0, mcause
    bltz t0, timer
    li t1, 8
    bne t0, t1, fault
    addi t0, a7, 0
    bnez t0, finish
    ld t0, 0(tp)
    addi t0, t0, 4
    sd t0, 0(tp)
background:
    li t0, SYSTEM
    ld tp, 0(t0)
switch:                         # to the task whose block is in tp
    OPEN
    csrw mscratch, tp
    ld t0, 0(tp)
    csrw mepc, t0
    li t0, STATUS
    csrw mstatus, t0
    LOAD
    ld tp, 32(tp)
    mret
timer:
    li t0, SYSTEM
    ld t1, 8(t0)
    slli t2, t1, 3
    add t2, t2, t0
    csrr t3, minstret
    sd t3, STAMPS(t2)
    addi t1, t1, 1
    sd t1, 8(t0)
    li t1, MTIMECMP
    ld t2, 0(t1)
    addi t2, t2, PERIOD
    sd t2, 0(t1)
    addi tp, t0, CONTROL_TCB
    j switch
fault:                          # the task is not run again
    li t1, SYSTEM
    sd t0, 16(t1)
    csrr t0, mtval
    sd t0, 24(t1)
    li t2, IDLE_TCB
    add t0, t1, t2
    sd t0, 0(t1)
    j background
wait:                           # in the flat system, a call
    csrci mstatus, 8
    csrr t0, mscratch
    sd ra, 0(t0)
    CALL
    j background
finish:
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
"""


def _area(start: int, size: int) -> int:
    """A pmpaddr for a naturally aligned region."""
    return (start | size // 2 - 1) >> 2


def _program(apart: bool, rounds: int, when: int) -> Any:
    text = (SYSTEM_TEXT + TASKS).replace("SAVE", _SAVE).replace("LOAD", _LOAD).replace("CALL", _CALL)
    text = text.replace("WAIT", "li a7, 0\necall" if apart else "call wait")
    text = text.replace("FINISH\n", "li a7, 1\necall\n" if apart else "j finish\n")
    text = text.replace("OPEN", "ld t0, 256(tp)\ncsrw pmpaddr1, t0" if apart else "")
    names = {
        **bare.PLACES, "CONTROL": CONTROL, "LOGGER": LOGGER, "SYSTEM": SYSTEM, "SETPOINT": SETPOINT, "WILD": WILD,
        "ROUNDS": rounds, "WHEN": when, "PERIOD": PERIOD, "STAMPS": _STAMPS, "TEXT_AREA": _area(RAM_BASE, 0x1_0000),
        "PROTECTION": NAPOT | R | X | (NAPOT | R | W) << 8, "CONTROL_AREA": _area(CONTROL, 4096),
        "LOGGER_AREA": _area(LOGGER, 4096), "CONTROL_TCB": 0x900 - 0x1000, "LOGGER_TCB": 0xB00 - 0x1000,
        "IDLE_TCB": 0xD00 - 0x1000, "STATUS": (U if apart else M) << MPP_SHIFT | MPIE,
    }  # fmt: skip
    return assemble(text, RAM_BASE, names)


def measure(knobs: Knobs, progress: Progress) -> Figures:
    rounds, when = knobs.number("rounds"), knobs.number("when")
    systems = {}
    for name, apart in ((FLAT, False), (APART, knobs.on("separation"))):
        progress(name)
        memory, count = bare.run(_program(apart, rounds, when), most=_MOST)
        systems[name] = {**_figures(memory, rounds), "instructions": count, "apart": apart}
    return {"rounds": rounds, "when": when, "systems": systems}


def _figures(memory: bytes, rounds: int) -> dict[str, Any]:
    setpoint, done, wrong = struct.unpack_from("<3Q", memory, CONTROL - RAM_BASE)
    counted, away = struct.unpack_from("<2Q", memory, LOGGER - RAM_BASE)
    _, released, cause, address = struct.unpack_from("<4Q", memory, SYSTEM - RAM_BASE)
    begins = struct.unpack_from(f"<{rounds}Q", memory, CONTROL - RAM_BASE + _STAMPS)
    timers = struct.unpack_from(f"<{rounds}Q", memory, SYSTEM - RAM_BASE + _STAMPS)
    release = [begin - timer for begin, timer in zip(begins, timers, strict=True)]
    return {"setpoint": setpoint, "done": done, "wrong": wrong, "logged": counted, "away": away, "released": released,
            "cause": cause, "address": address, "release": release}  # fmt: skip


def draw(figures: Figures) -> Sequence[Chart]:
    flat, apart = (figures["systems"][name] for name in (FLAT, APART))
    rows: list[list[str | int]] = [
        ["periods of control", flat["done"], apart["done"]],
        ["of them with a wrong setpoint", flat["wrong"], apart["wrong"]],
        ["setpoint at the end", f"{flat['setpoint']:#x}", f"{apart['setpoint']:#x}"],
        ["logger's lines", flat["logged"], apart["logged"]],
        ["what stopped it", _stopped(flat), _stopped(apart)],
        ["release of control, instructions", max(flat["release"][1:]), max(apart["release"][1:])],
        ["distinct values of that", len(set(flat["release"][1:])), len(set(apart["release"][1:]))],
        ["logger is away for, instructions", flat["away"], apart["away"]],
    ]
    second = APART if apart["apart"] else "flat again"
    bars = [(f"{name}: {what}", value) for name, system in ((FLAT, flat), (second, apart))
            for what, value in (("release", max(system["release"][1:])), ("away", system["away"]))]  # fmt: skip
    return [Table("Two tasks, one of which writes wildly", ("", FLAT, second), rows), Bars("The price", bars, "instructions")]


def _stopped(system: dict[str, Any]) -> str:
    return f"cause {system['cause']} at {system['address']:#x}" if system["cause"] else "nothing"


def verdict(figures: Figures) -> Verdict:
    flat, apart = (figures["systems"][name] for name in (FLAT, APART))
    if flat["logged"] < figures["when"]:
        return undecided(f"logger wrote {flat['logged']} lines and did not come to its bug: take --rounds higher")
    if not flat["wrong"]:
        return refuted("the wild write did not reach control in the flat system")
    if apart["wrong"] or apart["cause"] != STORE_ACCESS or apart["done"] != figures["rounds"]:
        return refuted(f"in the second system control acted {apart['wrong']} times on what logger wrote")
    costs = [max(each["release"][1:]) for each in (flat, apart)]
    if costs[0] >= costs[1] or flat["away"] >= apart["away"]:
        return refuted(f"the flat system is not cheaper: {costs[0]} instructions against {costs[1]}")
    return supported(
        f"flat, a release takes {costs[0]} instructions and a preemption {flat['away']}, separated {costs[1]} and "
        f"{apart['away']}; flat, one wild write made {flat['wrong']} of {flat['done']} periods wrong, separated it trapped "
        f"(cause {apart['cause']}) and none was"
    )


LAB = Lab(
    id="Y8",
    name="rtos",
    title="Two tasks with and without separation",
    question="What does a real-time system save that draws no line between its tasks, and what does a bug cost it?",
    claim="Real-time systems such as FreeRTOS do with little or no separation, for low overhead and determinism: all tasks "
    "share one flat memory, and protection is left to the application.",
    machines=("board",),
    seconds=1,
    knobs=(
        number("rounds", 40, "periods of control", 10, ROUNDS_MOST),
        number("when", 3000, "lines that logger writes before its bug", 1000, 100_000),
        switch("separation", "off: the second system is flat, too"),
    ),
    off="--without separation",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
