"""V6: a program that is all there is, in one mode, beside the same program behind a kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from trapline.typed import Any

from trapline.labs.code import bare
from trapline.labs.code.text import assemble
from trapline.labs.framework.charts import Bars, Chart, Table, Text
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
from trapline.machine.riscv.addresses import RAM_BASE, UART

DATA, MOST = RAM_BASE + 0x1_0000, 5_000_000
BARE, BEHIND = "one mode", "behind a kernel"

EXPLAIN = """
The program is a controller in its smallest form: in a loop, it reads an input (the clock's register), computes an
output from it, and writes that to a device (the serial port). Nobody else is there.

In one mode, it runs as the computer starts it, in machine mode: it loads from the clock's register and stores to the
port's, each one instruction, and no trap ever happens; the lab has put a counter where one would lead. This is how
firmware, boot loaders and the smallest devices work: a loop over all that is to be done (a super-loop), with direct
access to hardware.

Behind a kernel, the same loop runs in user mode. Neither register is its own, so it asks twice a round, by ecall; a
kernel of machine mode keeps the registers, looks at what is wanted, does it, and returns. The figures are what one
round takes in instructions and how many traps it made. Both are the same in every round.

`--without direct` puts the first program behind the kernel, too. Try what is given up as well: the bare program could
write anywhere, the kernel's variables included, for there is no other mode to keep it out; lab Y8 lets it.

What is not modelled: the time that a mode switch takes beyond its instructions (pipeline, caches), which makes the
difference larger on a real processor.
"""

_LOOP = """
    li s0, ROUNDS
    li s1, DATA
round:
    csrr s2, instret
    INPUT
    andi a0, a0, 15             # the output: a letter for the input's low bits
    addi a0, a0, 65
    OUTPUT
    csrr t0, instret
    sub t0, t0, s2
    sd t0, 64(s1)
    addi s1, s1, 8
    addi s0, s0, -1
    bnez s0, round
"""
_START = """
    la t0, trap
    csrw mtvec, t0
    li t0, 7
    csrw mcounteren, t0
    csrw scounteren, t0
    li t0, MEMORY_AREA          # RAM is open below M-mode; devices are not
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    la t0, program
    csrw mepc, t0
    la t0, stack
    csrw mscratch, t0
"""
_TRAP = """
.align 4
trap:
    csrrw sp, mscratch, sp
    SAVE
    li t0, DATA
    ld t1, 0(t0)
    addi t1, t1, 1
    sd t1, 0(t0)
    csrr t1, mcause
    li t2, 8
    bne t1, t2, finish          # no call: it may not do that
    csrr t1, mepc
    addi t1, t1, 4
    csrw mepc, t1
    beqz a7, finish
    addi t1, a7, -1
    bnez t1, put
    li t1, MTIME
    ld a0, 0(t1)
    j leave
put:
    li t1, UART
    sb a0, 0(t1)
leave:
    RESTORE
    csrrw sp, mscratch, sp
    mret
finish:
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
.align 16
.space 256
stack: .quad 0
"""
_DIRECT = {"INPUT": "li t1, MTIME\nld a0, 0(t1)", "OUTPUT": "li t1, UART\nsb a0, 0(t1)"}
_CALLS = {"INPUT": "li a7, 1\necall", "OUTPUT": "li a7, 2\necall"}
_SAVED = (1, *range(5, 8), *range(11, 18), *range(28, 32))  #: what a called function may change, but for the result


def _text(direct: bool) -> str:
    loop = _LOOP
    for name, code in (_DIRECT if direct else _CALLS).items():
        loop = loop.replace(name, code)
    save = "\n".join(f"sd x{reg}, {-8 * n - 8}(sp)" for n, reg in enumerate(_SAVED))
    restore = save.replace("sd x", "ld x")
    end = "j finish" if direct else "li a7, 0\necall"
    enter = "j program" if direct else "csrw mstatus, zero\nmret"
    return f"{_START}\n{enter}\nprogram:\n{loop}\n{end}\n" + _TRAP.replace("SAVE", save).replace("RESTORE", restore)


def measure(knobs: Knobs, progress: Progress) -> Figures:
    rounds = knobs.number("rounds")
    found = {}
    for name, direct in ((BARE, knobs.on("direct")), (BEHIND, False)):
        progress(name)
        found[name] = _run(direct, rounds)
    return {"rounds": rounds, "programs": found}


def _run(direct: bool, rounds: int) -> dict[str, Any]:
    names = {
        **bare.PLACES, "DATA": DATA, "UART": UART, "ROUNDS": rounds, "MEMORY_AREA": (RAM_BASE | (1 << 30) - 1) >> 2,
    }  # fmt: skip
    sent: list[bytes] = []
    memory, count = bare.run(assemble(_text(direct), RAM_BASE, names), most=MOST, send=sent.append)
    at = DATA - RAM_BASE
    (traps,) = struct.unpack_from("<Q", memory, at)
    took = struct.unpack_from(f"<{rounds}Q", memory, at + 64)
    return {"traps": traps, "took": list(took), "instructions": count, "sent": b"".join(sent).decode("ascii", "replace")}


def draw(figures: Figures) -> Sequence[Chart]:
    programs = figures["programs"]
    rows = [
        [name, each["traps"], max(each["took"]), len(set(each["took"])), each["instructions"]]
        for name, each in programs.items()
    ]
    heads = ("", "traps", "instructions a round", "distinct", "in all")
    return [
        Table(f"{figures['rounds']} rounds of one program", heads, rows),
        Bars("Instructions a round", [(name, max(each["took"])) for name, each in programs.items()]),
        Text("What came out of the serial port", [f"{name}: {each['sent'][:60]}" for name, each in programs.items()]),
    ]


def verdict(figures: Figures) -> Verdict:
    one, other = figures["programs"][BARE], figures["programs"][BEHIND]
    rounds = figures["rounds"]
    if len(one["sent"]) != rounds or len(other["sent"]) != rounds:
        return refuted(f"{len(one['sent'])} and {len(other['sent'])} bytes came out in {rounds} rounds")
    costs = max(one["took"]), max(other["took"])
    if one["traps"] or costs[0] >= costs[1]:
        return refuted(f"the first program made {one['traps']} traps; a round took {costs[0]} instructions against {costs[1]}")
    return supported(
        f"{rounds} rounds in one mode made no trap and took {costs[0]} instructions each, always the same; behind a kernel "
        f"they made {other['traps']} traps and took {costs[1]} each"
    )


LAB = Lab(
    id="V6",
    name="onemode",
    title="Bare metal in one mode",
    question="What does a program look like that has no kernel, and what does it save?",
    claim="Bare-metal systems run in one privileged mode, as a super-loop with direct access to hardware, without the latency "
    "and the overhead of mode switches.",
    machines=("board",),
    seconds=1,
    knobs=(
        number("rounds", 60, "rounds of the loop", 1, 5000),
        switch("direct", "off: the first program is behind the kernel, too"),
    ),
    off="--without direct",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
