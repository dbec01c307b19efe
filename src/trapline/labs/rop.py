"""C5: code that is reused: overwritten return addresses and function pointers, against shadow stacks and landing pads."""

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
    choice,
    number,
    refuted,
    supported,
    undecided,
)
from trapline.machine.paging.entry import PAGE_SIZE
from trapline.machine.riscv.trap import ECALL_U, LANDING_FAULT, SHADOW_FAULT, SOFTWARE_CHECK, STORE_ACCESS

BASE = 0xFFFF_FFC0_0000_0000
INPUT, STACK, SHADOW = 0x3_0000, 0x5_0000, 0x7_0000  #: pages of the program: what it is given, and its two stacks
HONEST, DOOR = 0x600D, 0x0BAD  #: what the program reports when all is well, and what it never would
BUFFER = 2  #: words of room in the victim's buffer
RETURN, POINTER = "return", "pointer"
HARDWARE, SOFTWARE, NONE = "hardware", "software", "none"
#: how a function keeps its return address apart, and takes it back
_KEEP = {
    HARDWARE: ("sspush ra", "sspopchk ra"), NONE: ("sspush ra", "sspopchk ra"),
    SOFTWARE: ("sd ra, 0(gp)\naddi gp, gp, 8", "addi gp, gp, -8\nld ra, 0(gp)"),
}  # fmt: skip
FUNCTIONS: tuple[str, ...] = ("start", "victim", "callback", "helper", "open_door")

EXPLAIN = """
A program in user mode copies its input into a buffer of two words on its stack, and trusts the length that comes with
the input. Behind the buffer are a pointer to a function, which it calls afterwards, and the saved return address. In
the first address space the input is honest; in the second it is longer than the buffer.

The attacker injects no code, so lab M9's no-execute bit is no hindrance: the program's own code is enough. An
overwritten return address leads to the last instructions of a function (a gadget), which load a register from the
stack and return to the next address that the attacker has put there, and so on: a program made of returns,
`--gadgets` links long. Its last link makes a system call that the program itself never makes. With `--attack=pointer`
it is the function pointer that is overwritten, and leads into the middle of a function.

In hardware: with Zicfiss a function's prologue pushes its return address a second time (sspush), onto the shadow
stack, and its epilogue pops and compares it (sspopchk) before it returns. If they differ, the processor raises a
software check, cause 18 with 3 in the trap value, and the kernel ends the program. The pages of the shadow stack have
the rights W without R or X, reserved before: every ordinary store to them faults, so no overflow reaches them. With
Zicfilp an indirect jump or call must lead to a landing pad (lpad); elsewhere, the software check has the value 2.

In software (`--protect=software`, as Clang's shadow call stack does it), the second stack is ordinary memory at gp,
and the epilogue takes the return address from there. The overflow then has no effect, without a trap: the victim
returns where it was called. But that memory can be written by whoever finds it, and pointers are not protected at
all.

`--protect=none` runs the program of the hardware variant on a processor in which nothing is switched on. sspush,
sspopchk and lpad do nothing there: one binary serves old and new machines; and the attack succeeds.
"""

PROGRAM = """
start:
    li sp, STACK_TOP
    li gp, SHADOW + 64
    li t0, SHADOW
    sd zero, 0(t0)              # an ordinary store to the second stack
    call victim
    li a0, HONEST
    li a7, 0
    ecall                       # all is well
    li a7, 1
    ecall

victim:                         # copies its input: a length, and so many words
    addi sp, sp, -32
    sd ra, 24(sp)
    KEEP
    la t0, callback
    sd t0, 16(sp)
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
    ld t4, 16(sp)               # the pointer
    jalr ra, 0(t4)
    ld ra, 24(sp)
    TAKE
    addi sp, sp, 32
    ret

callback:
    lpad 0
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
    lpad 0
    li a0, DOOR
inside:
    li a7, 0
    ecall
    li a7, 1
    ecall
"""


def _names() -> dict[str, int]:
    return {"STACK_TOP": STACK + PAGE_SIZE // 2, "INPUT": INPUT, "HONEST": HONEST, "SHADOW": SHADOW, "DOOR": DOOR}


def _text(protect: str) -> str:
    keep, take = _KEEP[protect]
    return PROGRAM.replace("KEEP", keep).replace("TAKE", take)


def _inputs(labels: dict[str, int], attack: str, gadgets: int) -> tuple[bytes, bytes]:
    """(honest, hostile)"""
    words = [0x41] * BUFFER
    hostile = [*words, labels["open_door"] + 4]  # into its middle, behind the landing pad
    if attack == RETURN:
        hostile = [*words, labels["callback"], labels["gadget"]]
        for n in range(gadgets):
            last = n == gadgets - 1
            hostile += [DOOR if last else n, labels["inside" if last else "gadget"]]
    return struct.pack("<3Q", BUFFER, *words), struct.pack(f"<Q{len(hostile)}Q", len(hostile), *hostile)


def measure(knobs: Knobs, progress: Progress) -> Figures:
    attack, protect, gadgets = knobs.text("attack"), knobs.text("protect"), knobs.number("gadgets")
    text = _text(protect)
    labels = assemble(text, CODE, _names()).labels
    world = World(BASE)
    frames = world.frames
    progress("attacking")
    for root, data in zip(world.roots, _inputs(labels, attack, gadgets), strict=True):
        frames.map(root, INPUT, frames.alloc(data), READ | USER)
        frames.map(root, STACK, frames.alloc(), READ | WRITE | USER)
        if protect != NONE:
            frames.map(root, SHADOW, frames.alloc(), (WRITE if protect == HARDWARE else READ | WRITE) | USER)
    hardware = protect == HARDWARE
    ran = world.execute(text, _names(), shadow_stack=SHADOW + PAGE_SIZE if hardware else 0, pads=hardware)
    logs = [[each._asdict() for each in ran.log if each.satp == world.satp(n)] for n in range(2)]
    return {"attack": attack, "protect": protect, "gadgets": gadgets, "honest": logs[0], "hostile": logs[1], "labels": labels}


def _where(figures: Figures, pc: int) -> str:
    """The function that an address is in."""
    return max((figures["labels"][name], name) for name in FUNCTIONS if figures["labels"][name] <= pc)[1]


def _reported(log: list[dict[str, int]]) -> list[int]:
    return [each["a0"] for each in log if each["cause"] == ECALL_U]


def _caught(log: list[dict[str, int]]) -> list[dict[str, int]]:
    return [each for each in log if each["cause"] == SOFTWARE_CHECK]


def _steps(figures: Figures) -> list[tuple[int, str, str]]:
    steps = [(0, "overflows the buffer", f"the {figures['attack']} is the attacker's")]
    if caught := _caught(figures["hostile"]):
        shadow = caught[0]["value"] == SHADOW_FAULT
        steps.append((1, "sspopchk: two addresses differ" if shadow else "no landing pad is there", "software check"))
    elif DOOR not in _reported(figures["hostile"]):
        steps.append((0, "returns by the second stack", "to where it was called"))
    elif figures["attack"] == RETURN:
        steps += [(0, "returns into gadget", f"link {n + 1}") for n in range(figures["gadgets"])]
        steps.append((0, "returns into open_door", f"a0 = {DOOR:#x}"))
    else:
        steps.append((0, "calls the middle of open_door", f"a0 = {DOOR:#x}"))
    return steps


def draw(figures: Figures) -> Sequence[Chart]:
    rows: list[list[str]] = []
    for name in ("honest", "hostile"):
        for each in figures[name]:
            what = "call" if each["cause"] == ECALL_U else f"cause {each['cause']}, value {each['value']:#x}"
            rows.append([name, _where(figures, each["pc"]), what, f"{each['a0']:#x}" if each["cause"] == ECALL_U else ""])
    title = f"An overwritten {figures['attack']}; protection: {figures['protect']}"
    return [
        Steps(title, ("program", "processor"), _steps(figures)),
        Table("What the kernel saw", ("input", "in", "trap", "a0"), rows),
    ]


def verdict(figures: Figures) -> Verdict:
    honest, hostile, protect = figures["honest"], figures["hostile"], figures["protect"]
    if HONEST not in _reported(honest) or _caught(honest):
        return refuted("the program does not even work with honest input")
    if DOOR in _reported(hostile):
        how = f"{figures['gadgets']} gadgets" if figures["attack"] == RETURN else "a pointer"
        return refuted(f"{how} made the program's own code call with {DOOR:#x}; protection: {protect}")
    if protect == SOFTWARE:
        return undecided(
            "the overwritten address was not used, so the return was not redirected; but the second stack is ordinary memory, "
            "and a store of user code reached it without a fault"
        )
    caught = _caught(hostile)
    wanted = SHADOW_FAULT if figures["attack"] == RETURN else LANDING_FAULT
    if not caught or caught[0]["value"] != wanted or not any(each["cause"] == STORE_ACCESS for each in honest):
        return refuted("the attack was not noticed, or an ordinary store reached the shadow stack")
    return supported(
        f"the overwritten {figures['attack']} raised cause {SOFTWARE_CHECK}, value {wanted}, in "
        f"{_where(figures, caught[0]['pc'])}, and nothing of the attack ran; an ordinary store to the shadow stack raised "
        f"cause {STORE_ACCESS}; honest input is served"
    )


LAB = Lab(
    id="C5",
    name="rop",
    title="Control-flow integrity against reused code",
    question="Can an attacker who may not run code of their own run the program's, in another order?",
    claim="A shadow stack holds return addresses apart, where user code cannot write them, so that returns cannot be "
    "redirected.",
    machines=("board",),
    seconds=1,
    knobs=(
        choice("attack", RETURN, "what the overflow overwrites", RETURN, POINTER),
        choice("protect", HARDWARE, "by what the program is protected", HARDWARE, SOFTWARE, NONE),
        number("gadgets", 2, "links of the attacker's chain", 1, 40),
    ),
    off="--protect=none",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
