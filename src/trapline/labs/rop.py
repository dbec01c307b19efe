"""C5: return-oriented programming against a program without and with a shadow stack."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from trapline.labs.code.spaces import CODE, READ, USER, WRITE, World
from trapline.labs.code.text import assemble
from trapline.labs.framework.charts import Chart, Steps, Table
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
from trapline.machine.paging.entry import PAGE_SIZE
from trapline.machine.riscv.trap import ECALL_U, SHADOW_FAULT, SOFTWARE_CHECK, STORE_ACCESS

BASE = 0xFFFF_FFC0_0000_0000
INPUT, STACK, SHADOW = 0x3_0000, 0x5_0000, 0x7_0000  #: pages of the program: what it is given, and its two stacks
HONEST, DOOR = 0x600D, 0x0BAD  #: what the program reports when all is well, and what it never would
BUFFER = 2  #: words of room in the victim's buffer

EXPLAIN = """
A program in user mode copies its input into a buffer of two words on its stack, and trusts the length that comes with
the input. In the first address space the input is honest; in the second it is longer than the buffer, and the words
behind the buffer are the saved return address and what is above it on the stack.

The attacker injects no code, so lab M9's no-execute bit is no hindrance. The program's own code is enough: the
overwritten return address leads to the last instructions of a function (a gadget) which load a register from the
stack and return, to the next address that the attacker has put there, and so on: a program made of returns. Here the
chain is as long as `--gadgets` says, and its last link makes a system call that the program itself never makes, with
an argument of the attacker's choice.

With Zicfiss, a function's prologue pushes its return address a second time (sspush), onto the shadow stack, and its
epilogue pops and compares it (sspopchk) before it returns. If the two differ, the processor raises a software check,
cause 18 with 3 in the trap value, and the kernel ends the program. The pages of the shadow stack have the rights W
without R or X, a combination that was reserved before: every ordinary store to them faults, so the overflow, or any
other write, cannot reach them.

`--without shadow` runs the very same program where the extension is not switched on in menvcfg and senvcfg. Both
instructions are then may-be-operations, which do nothing: this is how one binary serves old and new machines; and the
attack succeeds.

What it does not stop: attacks that never return to a wrong place (overwritten function pointers: landing pads,
Zicfilp), or data.
"""

PROGRAM = """
start:
    li sp, STACK_TOP
    li t0, SHADOW
    sd zero, 0(t0)              # an ordinary store to the shadow stack
    call victim
    li a0, HONEST
    li a7, 0
    ecall                       # all is well
    li a7, 1
    ecall

victim:                         # copies its input: a length, and so many words
    addi sp, sp, -24
    sd ra, 16(sp)
    sspush ra
    li t0, INPUT
    ld t1, 0(t0)
    mv t2, sp                   # the buffer: two words
copy:
    beqz t1, copied
    addi t0, t0, 8
    ld t3, 0(t0)
    sd t3, 0(t2)
    addi t2, t2, 8
    addi t1, t1, -1
    j copy
copied:
    ld ra, 16(sp)
    addi sp, sp, 24
    sspopchk ra
    ret

helper:                         # an ordinary function; its end is a gadget
    addi sp, sp, -16
    sd ra, 8(sp)
    sd a0, 0(sp)
gadget:
    ld a0, 0(sp)
    ld ra, 8(sp)
    addi sp, sp, 16
    ret

open_door:                      # what only a privileged path of the program would call
    li a7, 0
    ecall
    li a7, 1
    ecall
"""
FUNCTIONS = ("start", "victim", "helper", "open_door")


def _names() -> dict[str, int]:
    return {"STACK_TOP": STACK + PAGE_SIZE // 2, "INPUT": INPUT, "HONEST": HONEST, "SHADOW": SHADOW}


def _inputs(gadgets: int) -> tuple[bytes, bytes]:
    """(honest, hostile)"""
    labels = assemble(PROGRAM, CODE, _names()).labels
    chain = [0x41] * BUFFER + [labels["gadget"]]
    for n in range(gadgets):
        last = n == gadgets - 1
        chain += [DOOR if last else n, labels["open_door" if last else "gadget"]]
    honest = struct.pack(f"<Q{BUFFER}Q", BUFFER, *([0x41] * BUFFER))
    return honest, struct.pack(f"<Q{len(chain)}Q", len(chain), *chain)


def measure(knobs: Knobs, progress: Progress) -> Figures:
    shadow = knobs.on("shadow")
    world = World(BASE)
    frames = world.frames
    progress("attacking")
    for root, data in zip(world.roots, _inputs(knobs.number("gadgets")), strict=True):
        frames.map(root, INPUT, frames.alloc(data), READ | USER)
        frames.map(root, STACK, frames.alloc(), READ | WRITE | USER)
        if shadow:
            frames.map(root, SHADOW, frames.alloc(), WRITE | USER)
    ran = world.execute(PROGRAM, _names(), shadow_stack=SHADOW + PAGE_SIZE if shadow else 0)
    logs = [
        [each._asdict() for each in ran.log if each.satp == world.satp(n)]
        for n in range(2)
    ]
    labels = assemble(PROGRAM, CODE, _names()).labels
    return {"shadow": shadow, "gadgets": knobs.number("gadgets"), "honest": logs[0], "hostile": logs[1], "labels": labels}


def _where(figures: Figures, pc: int) -> str:
    """The function that an address is in."""
    return max((figures["labels"][name], name) for name in FUNCTIONS if figures["labels"][name] <= pc)[1]


def _reported(log: list[dict[str, int]]) -> list[int]:
    return [each["a0"] for each in log if each["cause"] == ECALL_U]


def _caught(log: list[dict[str, int]]) -> list[dict[str, int]]:
    return [each for each in log if each["cause"] == SOFTWARE_CHECK and each["value"] == SHADOW_FAULT]


def draw(figures: Figures) -> Sequence[Chart]:
    steps = [(0, "overflows the buffer", "the saved return address is the attacker's")]
    if _caught(figures["hostile"]):
        steps.append((1, "sspopchk: the two addresses differ", "software check, the program ends"))
    else:
        steps += [(0, "returns into gadget", f"link {n + 1}") for n in range(figures["gadgets"])]
        steps.append((0, "returns into open_door", f"a0 = {DOOR:#x}"))
    rows: list[list[str]] = []
    for name in ("honest", "hostile"):
        for each in figures[name]:
            what = "call" if each["cause"] == ECALL_U else f"cause {each['cause']}, value {each['value']}"
            rows.append([name, _where(figures, each["pc"]), what, f"{each['a0']:#x}" if each["cause"] == ECALL_U else ""])
    return [
        Steps("The attack", ("program", "processor"), steps),
        Table("What the kernel saw", ("input", "in", "trap", "a0"), rows),
    ]


def verdict(figures: Figures) -> Verdict:
    if HONEST not in _reported(figures["honest"]) or _caught(figures["honest"]):
        return refuted("the program does not even work with honest input")
    hostile = _reported(figures["hostile"])
    if DOOR in hostile:
        return refuted(f"{figures['gadgets']} gadgets of the program's own code made it call with {DOOR:#x}, as it never does")
    caught = _caught(figures["hostile"])
    if not any(each["cause"] == STORE_ACCESS for each in figures["honest"]):
        return refuted("an ordinary store reached the shadow stack")
    if not caught:
        return refuted("the attack was not noticed")
    return supported(
        f"the return of {_where(figures, caught[0]['pc'])} to an overwritten address raised cause {SOFTWARE_CHECK} before a "
        f"gadget ran; an ordinary store to the shadow stack raised cause {STORE_ACCESS}; with honest input all is as before"
    )


LAB = Lab(
    id="C5",
    name="rop",
    title="Shadow stacks against return-oriented programming",
    question="Can an attacker who may not run code of their own run the program's, in another order?",
    claim="A shadow stack holds return addresses apart, where user code cannot write them, so that returns cannot be "
    "redirected.",
    machines=("board",),
    seconds=1,
    knobs=(
        number("gadgets", 2, "links of the attacker's chain", 1, 40),
        switch("shadow", "off: the extension is not switched on for user mode"),
    ),
    off="--without shadow",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
