"""Popek and Goldberg's definitions, put to the test on the RISC-V machine for every instruction and control register.

Each is executed from equal registers and memory, in each mode, under two settings of the machine that differ in what a kernel
owns and a user program should not notice. What came of it is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.isa.declare import OPS, Op
from trapline.machine.riscv.isa.decode import decode, encode

BASE, DATA = 0x8000_0000, 0x8002_0000
MODES = {"U": st.U, "S": st.S, "M": st.M}
ALWAYS_TRAPS, PRIVILEGED, INNOCUOUS, LEAKS = "traps in every mode", "privileged", "innocuous", "leaks"
_OPERANDS = {"rd": 11, "rs1": 10, "rs2": 12, "rs3": 13}
_IMMEDIATES = (0, 16, 32, 64, 1, 4096)
#: What a kernel owns, and two values of it; none lets an interrupt happen
_SETTINGS: dict[int, tuple[int, int]] = {
    at.MEDELEG: (0, 0xB1FF), at.MIDELEG: (st.H_INTERRUPTS, st.H_INTERRUPTS | st.SSIP), at.MIE: (0, st.SSIP),
    at.MTVEC: (BASE, DATA), at.MSCRATCH: (1, 2), at.MEPC: (BASE, DATA), at.MCAUSE: (2, 3), at.MTVAL: (1, 2),
    at.STVEC: (BASE, DATA), at.SSCRATCH: (1, 2),
    at.SEPC: (BASE, DATA), at.SCAUSE: (2, 3), at.STVAL: (1, 2), at.STIMECMP: (1 << 60, 1 << 61), at.HARTID: (0, 1),
    at.HTIMEDELTA: (1, 2), at.VSSCRATCH: (1, 2), at.TDATA2: (1, 2), at.INSTRET: (1000, 5000),
}  # fmt: skip
_STATUS = (st.SPIE, st.SPP | st.MPP | st.SIE | st.MPIE)
#: What user code may change: that is no control of the machine
_USERS = {at.PC, at.FRM, at.FFLAGS, at.INSTRET, at.RESERVED, at.RESERVATION, at.RESERVATION_SIZE, at.TRAP_CAUSE, at.TRAP_VALUE,
          at.SINK, at.GRANTED, at.BUDGET, *range(at.X, at.X + 32), *range(at.F, at.F + 32)}  # fmt: skip


class Subject(NamedTuple):
    """An instruction with operands, or one way to use a control register."""

    name: str
    extension: str
    word: int


class Effect(NamedTuple):
    """What came of one execution."""

    trapped: bool
    seen: bytes  #: registers, pc and memory afterwards
    controls: bool  #: it changed what is not the user's


class Finding(NamedTuple):
    subject: Subject
    kind: str  #: one of the four above
    depends: str  #: of one that leaks: on what its effect depends


def subjects() -> list[Subject]:
    """All instructions but the CSR instructions; reading and writing of each control register in their place."""
    found = [Subject(op.name, op.extension, _word(op)) for op in OPS if op.extension != "Zicsr"]
    for name, number in sorted(NUMBERS.items(), key=lambda item: item[1]):
        found.append(Subject(f"read {name}", "registers", encode("csrrs", rd=11, csr=number)))
        found.append(Subject(f"write {name}", "registers", encode("csrrw", rd=11, rs1=10, csr=number)))
    return found


def _word(op: Op) -> int:
    """The instruction with operands that an access can be made with: registers that hold good addresses, a small immediate."""
    for immediate in _IMMEDIATES:
        raw = op.match
        try:
            for each in op.fields:
                raw |= each.put(_OPERANDS.get(each.name, immediate if each.name == "imm" else each.bias))
        except ValueError:
            continue
        found = decode(raw)
        if found is not None and found.op is op:
            return raw
    return next(raw for raw in range(1 << 16) if raw & op.mask == op.match and (found := decode(raw)) and found.op is op)


class Bench:
    """One hart on which all subjects lie ready; `counters`: lower modes may read cycle, time and instret."""

    def __init__(self, every: list[Subject], counters: bool) -> None:
        bus = Bus(Ram(2 << 20), BASE)
        for n, each in enumerate(every):
            bus.write(BASE + 8 * n, 4, each.word)
        self._time = 0
        self.hart = hart = Hart(bus, Code(bus), hosted=True, time=lambda: self._time)
        cpu = hart.cpu
        cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
        cpu[at.MENVCFG] = cpu[at.SENVCFG] = st.CBIE_FLUSH | st.CBCFE | st.CBZE
        cpu[at.MCOUNTEREN] = cpu[at.SCOUNTEREN] = 7 if counters else 0
        cpu[at.MSTATUS] |= st.FS
        hart.pmp.update()
        self._first = list(cpu[: at.FIRST_CONTEXT]), list(cpu[at.VIRT :])
        self._memory = bytes(bus.ram.mem)

    def execute(self, n: int, mode: int, setting: int) -> Effect:
        """Subject number `n`."""
        hart, mem = self.hart, self.hart.bus.ram.mem
        cpu = hart.cpu
        hart.reset(BASE + 8 * n)
        for index, values in zip((0, at.VIRT), self._first, strict=True):
            for k, value in enumerate(values):
                cpu[index + k] = value
        for index, pair in _SETTINGS.items():
            cpu[index] = pair[setting]
        cpu[at.MSTATUS] |= _STATUS[setting]
        self._time = 10 + setting
        for k in range(1, 32):
            cpu[at.X + k] = DATA + 64 * k
        cpu[at.PC] = BASE + 8 * n
        hart.pmp.update()
        hart.enter(mode)
        before = {index: cpu[index] for index in _watched()}
        trapped = hart.run(1) == TRAPPED
        seen = bytes(hart.bytes_[8 * at.X : 8 * at.FFLAGS + 8]) + bytes(mem[DATA - BASE : DATA - BASE + 4096])
        controls = hart.waiting or any(cpu[index] != value for index, value in before.items())
        mem[DATA - BASE : DATA - BASE + 4096] = self._memory[DATA - BASE : DATA - BASE + 4096]
        return Effect(trapped, seen, controls)


def _watched() -> Iterator[int]:
    """The words that say how the machine is set up."""
    for first, count in ((at.PRIV, 1), (at.HARTID, 1), (at.OFFSETS["mstatus"], at.USER_WINDOW - at.OFFSETS["mstatus"])):
        yield from (index for index in range(first, first + count) if index not in _USERS)
    yield from range(at.VIRT, at.SSP)


def classify(guest_mode: int, counters: bool) -> list[Finding]:
    """What each subject is, to a monitor whose guest's kernel runs in `guest_mode`."""
    every = subjects()
    bench = Bench(every, counters)
    return [Finding(each, *_kind(bench, n, guest_mode)) for n, each in enumerate(every)]


def _kind(bench: Bench, n: int, mode: int) -> tuple[str, str]:
    effects = [bench.execute(n, mode, setting) for setting in (0, 1)]
    highest = bench.execute(n, st.M, 0)
    if any(each.trapped for each in effects):
        return (ALWAYS_TRAPS if highest.trapped else PRIVILEGED), ""
    if any(each.controls for each in effects):
        return LEAKS, "it changes the machine"
    if effects[0].seen != effects[1].seen:
        return LEAKS, "the machine's setting"
    if mode != st.M and not highest.trapped and effects[0].seen != highest.seen:
        return LEAKS, "the mode"
    return INNOCUOUS, ""
