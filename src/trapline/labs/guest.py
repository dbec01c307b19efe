"""V2: one guest, its kernel and its program, with the hypervisor extension and without: every exit counted, by cause."""

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
)
from trapline.machine.riscv.addresses import RAM_BASE, UART
from trapline.machine.riscv.status import MPP_SHIFT, MPV, S, U
from trapline.machine.riscv.trap import ECALL_U, ECALL_VS, ILLEGAL, STORE_ACCESS

VCPU, COUNTS, GUEST, STACK = (RAM_BASE + each for each in (0x1_0000, 0x1_1000, 0x1_2000, 0x1_4000))
MOST = 5_000_000
_CAUSES = 32
EXTENSION, EMULATED = "hypervisor extension", "trap and emulate"
CAUSES = {
    ECALL_VS: "call from the guest's kernel", ECALL_U: "call from user mode", ILLEGAL: "privileged instruction",
    STORE_ACCESS: "store to a device",
}  # fmt: skip

EXPLAIN = """
The guest is a kernel of 20 instructions with a program. The program makes system calls; the kernel's handler looks at
scause, moves sepc on, exchanges sscratch, and returns with sret, as every RISC-V kernel does. At the end it writes a
few bytes to the serial port, and asks the hypervisor to be switched off. It does not know that it is a guest, and is
the same machine code in both runs.

With the hypervisor extension, the kernel runs in VS-mode and the program in VU-mode: the processor has a second set
of the supervisor's registers (vsstatus, vsepc, ...) and lets the guest's traps go to the guest's kernel directly
(hedeleg). The hypervisor is not there at all, until the guest touches a device or calls it.

Trap and emulate, as Popek and Goldberg described it and as VMware and Xen did without such processors: the guest's
kernel runs in user mode. Each of its privileged instructions traps, and the hypervisor does in memory what the
instruction would have done to a register. A system call of the guest's program traps to the hypervisor too, which
passes it on. It works without any change because on RISC-V every sensitive instruction traps in user mode (lab P3);
on the x86 of before 2006 some did not.

The table counts exits by cause. Per system call of the guest, trap and emulate takes one exit for the call and one
for each privileged instruction of the handler; the extension takes none. Device accesses and hypercalls exit both
ways: that is why paravirtual devices exist.

`--without extension` runs the first guest by trap and emulate, too. Limits: the guest has no page tables (lab V3), no
interrupts.
"""

GUEST_TEXT = """
guest:
    la t0, guest_trap
    csrw stvec, t0
    li t0, STACK
    csrw sscratch, t0
    la t0, guest_program
    csrw sepc, t0
    csrw sstatus, zero          # SPP: sret goes to user mode
    sret
guest_program:
    li s0, CALLS
    li a7, 64
again:
    ecall
    addi s0, s0, -1
    bnez s0, again
    li a7, 93
    ecall
guest_trap:
    csrrw sp, sscratch, sp
    csrr t0, scause
    li t1, 8
    bne t0, t1, guest_done
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    li t0, GUEST
    ld t1, 0(t0)
    addi t1, t1, 1
    sd t1, 0(t0)
    li t0, 93
    beq a7, t0, guest_done
    csrrw sp, sscratch, sp
    sret
guest_done:
    li t0, UART
    li t1, 111                  # "ok"
    sb t1, 0(t0)
    li t1, 107
    sb t1, 0(t0)
    ecall                       # a hypercall
"""
_SAVE = "\n".join(f"sd x{n}, {8 * n}(tp)" for n in range(1, 32) if n != 4)
_LOAD = "\n".join(f"ld x{n}, {8 * n}(tp)" for n in range(1, 32) if n != 4)
HYPERVISOR = """
    la t0, exit
    csrw mtvec, t0
    li t0, MEMORY_AREA          # RAM is open below M-mode; devices are not
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, DELEGATED
    csrw medeleg, t0
    csrw hedeleg, t0
    li tp, VCPU
    csrw mscratch, tp
    li t0, 1
    sd t0, 256(tp)              # the guest begins in its kernel
    li t0, STATUS
    csrw mstatus, t0
    la t0, guest
    csrw mepc, t0
    mret

.align 4
exit:                           # registers at tp; 256: in the guest's kernel; from 512 on its supervisor's registers
    csrrw tp, mscratch, tp
    SAVE
    csrrw t0, mscratch, tp
    sd t0, 32(tp)
    csrr s0, mepc
    csrr s1, mcause
    li t0, COUNTS
    slli t1, s1, 3
    add t0, t0, t1
    ld t1, 0(t0)
    addi t1, t1, 1
    sd t1, 0(t0)
    li t0, ECALL_VS
    beq s1, t0, finish
    lwu s2, 0(s0)               # the instruction
    li t0, STORE
    beq s1, t0, device
    li t0, ILLEGAL
    beq s1, t0, privileged
    li t0, ECALL_U
    bne s1, t0, finish
    ld t0, 256(tp)              # a call: of the guest's kernel, or of its program
    bnez t0, finish
    li t0, 1
    sd t0, 256(tp)
    li t0, ECALL_U
    sd t0, SCAUSE(tp)
    sd s0, SEPC(tp)
    sd zero, SSTATUS(tp)
    ld s0, STVEC(tp)
    j enter
device:                         # sb rs2, 0(rs1)
    srli t0, s2, 17
    andi t0, t0, 248
    add t0, t0, tp
    ld t1, 0(t0)
    csrr t0, mtval
    sb t1, 0(t0)
    j next
privileged:
    li t0, SRET
    bne s2, t0, access
    sd zero, 256(tp)
    ld s0, SEPC(tp)
    j enter
access:                         # csrrw, or csrrs with x0
    srli t0, s2, 17
    andi t0, t0, 2040
    add t0, t0, tp
    addi t0, t0, 512            # the register's place
    ld t1, 0(t0)
    srli t2, s2, 12
    andi t2, t2, 7
    addi t2, t2, -1
    bnez t2, result
    srli t2, s2, 12
    andi t2, t2, 248
    add t2, t2, tp
    ld t2, 0(t2)
    sd t2, 0(t0)
result:
    srli t2, s2, 4
    andi t2, t2, 248
    beqz t2, next
    add t2, t2, tp
    sd t1, 0(t2)
next:
    addi s0, s0, 4
enter:
    csrw mepc, s0
    sd zero, 0(tp)
    LOAD
    ld tp, 32(tp)
    mret
finish:
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
"""


def measure(knobs: Knobs, progress: Progress) -> Figures:
    calls = knobs.number("calls")
    found = {}
    for name, extension in ((EXTENSION, knobs.on("extension")), (EMULATED, False)):
        progress(name)
        found[name] = _run(extension, calls)
    return {"calls": calls, "guests": found}


def _place(csr: int) -> int:
    """Where the hypervisor keeps a supervisor's register of the guest, from its block on."""
    return 512 + 8 * (csr & 0xFF)


def _run(extension: bool, calls: int) -> dict[str, Any]:
    mode = S << MPP_SHIFT | MPV if extension else U << MPP_SHIFT
    names = {
        **bare.PLACES, "UART": UART, "VCPU": VCPU, "COUNTS": COUNTS, "GUEST": GUEST, "STACK": STACK, "CALLS": calls,
        "MEMORY_AREA": (RAM_BASE | (1 << 30) - 1) >> 2, "DELEGATED": 1 << ECALL_U if extension else 0, "STATUS": mode,
        "ECALL_VS": ECALL_VS, "ECALL_U": ECALL_U, "ILLEGAL": ILLEGAL, "STORE": STORE_ACCESS, "SRET": 0x1020_0073,
        "SSTATUS": _place(0x100), "STVEC": _place(0x105), "SEPC": _place(0x141), "SCAUSE": _place(0x142),
    }  # fmt: skip
    text = HYPERVISOR.replace("SAVE", _SAVE).replace("LOAD", _LOAD) + GUEST_TEXT
    sent: list[bytes] = []
    memory, count = bare.run(assemble(text, RAM_BASE, names), most=MOST, send=sent.append)
    counts = struct.unpack_from(f"<{_CAUSES}Q", memory, COUNTS - RAM_BASE)
    (served,) = struct.unpack_from("<Q", memory, GUEST - RAM_BASE)
    exits = {str(cause): exits for cause, exits in enumerate(counts) if exits}
    return {"exits": exits, "served": served, "instructions": count, "sent": b"".join(sent).decode("ascii", "replace")}


def _exits(guest: dict[str, Any]) -> int:
    return sum(guest["exits"].values())


def draw(figures: Figures) -> Sequence[Chart]:
    guests = figures["guests"]
    causes = sorted({cause for guest in guests.values() for cause in guest["exits"]}, key=int)
    rows: list[list[str | int]] = [
        [f"{cause}: {CAUSES.get(int(cause), '?')}", *(guest["exits"].get(cause, 0) for guest in guests.values())]
        for cause in causes
    ]
    rows.append(["exits in all", *map(_exits, guests.values())])
    rows.append(["instructions", *(guest["instructions"] for guest in guests.values())])
    rows.append(["system calls that the guest served", *(guest["served"] for guest in guests.values())])
    rows.append(["what came out of the port", *(guest["sent"] for guest in guests.values())])
    return [
        Table(f"One guest, {figures['calls']} system calls: exits to the hypervisor", ("cause", *guests), rows),
        Bars("Exits", [(name, _exits(guest)) for name, guest in guests.items()]),
    ]


def verdict(figures: Figures) -> Verdict:
    one, other = (figures["guests"][name] for name in (EXTENSION, EMULATED))
    served = figures["calls"] + 1
    if any(guest["served"] != served or guest["sent"] != "ok" for guest in (one, other)):
        return refuted(f"the guests served {one['served']} and {other['served']} calls instead of {served}")
    each = _exits(other) / served
    if _exits(one) > 3 or _exits(one) >= _exits(other):
        return refuted(f"the first guest exited {_exits(one)} times, {_exits(one) / served:.2g} for each of its system calls")
    return supported(
        f"the same guest ran unmodified both ways; with the extension its {served} system calls needed no exit ({_exits(one)} "
        f"in all, for devices and the end), by trap and emulate {each:.2g} each, and "
        f"{other['instructions'] / one['instructions']:.2g} times as many instructions"
    )


LAB = Lab(
    id="V2",
    name="guest",
    title="A guest with and without hardware's help",
    question="What does a hypervisor have to do for a guest that makes a system call?",
    claim="Processor extensions run unmodified systems with their own line between user and kernel; without them, each "
    "crossing in the guest costs exits to the hypervisor.",
    machines=("board",),
    seconds=1,
    knobs=(
        number("calls", 50, "system calls of the guest's program", 1, 1000),
        switch("extension", "off: the first guest runs by trap and emulate, too"),
    ),
    off="--without extension",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
