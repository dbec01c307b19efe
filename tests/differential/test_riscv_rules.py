"""Control registers, encodings, traps and floating-point state: every rule as qemu-system-riscv64 has it, on two tiers.

Probes are generated (riscv_bare.py) from the declarations of registers and instructions and compared answer by answer. Where the two
differ and the manual is on our side, or leaves it open, the difference is named here: `OPEN_BITS`, `_excused`, `UNKNOWN`, `_guest_probe`.
"""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import pytest
from riscv_bare import DATA, LANDING, NEVER, NOWHERE, QEMU, Answer, Probe, address, compare, csr, report

from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.csr import TABLE
from trapline.machine.riscv.isa.declare import OPS, Op
from trapline.machine.riscv.isa.decode import decode, encode
from trapline.machine.riscv.trap import BREAKPOINT

pytestmark = pytest.mark.skipif(not QEMU, reason="no qemu-system-riscv64")
MEMORY_CAUSES = frozenset((4, 5, 6, 7))


# ---- control registers

ABSENT_INTERRUPTS = 1 << 12 | 1 << 13  #: interrupts that are not ours: of guests' devices, and of counters that overflow
#: Bits of registers that are not compared. WARL: what an unsupported value becomes is the implementation's choice, and QEMU 7.2
#: keeps many. Volume II, the section of each register.
OPEN_BITS = {
    "mstatus": st.VS | st.XS | st.UBE | st.UXL | st.SXL | st.SPELP | st.MPELP | 3 << 36,  # QEMU lets UXL be written; V is not ours
    "sstatus": st.VS | st.XS | st.UBE | st.UXL | st.SPELP,
    "misa": 1 << 1,  # B came later than QEMU 7.2
    "medeleg": 1 << 11 | 1 << 14 | 0xF << 16,  # QEMU delegates causes that S- and U-mode cannot raise
    "mideleg": ABSENT_INTERRUPTS, "mie": ABSENT_INTERRUPTS, "mip": ABSENT_INTERRUPTS | 1 << 10, "sie": ABSENT_INTERRUPTS, "sip": ABSENT_INTERRUPTS,
    "mepc": 1, "sepc": 1,  # "the low bit is always zero"; QEMU keeps it
    "menvcfg": st.ADUE | 0xC, "senvcfg": 0xC, "mseccfg": 1 << 10,  # Svadu, Zicfilp and Zicfiss came later
    "mcounteren": NEVER << 32, "scounteren": NEVER << 32, "hcounteren": NEVER << 32, "mcountinhibit": NEVER << 32 | 2,  # 32 bits, no time
    "hstatus": NEVER ^ st.HSTATUS_WRITABLE, "hedeleg": 1 << 18, "henvcfg": st.ADUE | 0xC, "htinst": NEVER, "vsepc": 1,
    "vsstatus": NEVER, "hgatp": 3 | 3 << 58,  # it keeps every bit
    "hvip": 1 << 6, "vsie": NEVER, "vsip": NEVER,  # it lets mip.VSEIP be written, shares VSTIP with the timer, and does not shift what is written to vsie
}  # fmt: skip
#: Registers of which only whether they may be used is compared: they count, or say who made the hart, or what it counts.
OPEN_VALUES = ("cycle", "instret", "time", "mcycle", "minstret", "marchid", "mimpid", "mhpm", "hpm")
MODES = ((st.U, False), (st.S, False), (st.M, False), (st.U, True), (st.S, True))  #: and whether in a guest
PATTERNS = (0, NEVER, 0x5555_5555_5555_5555, 0x0123_4567_89AB_CDEF)
#: Numbers of neither machine, besides those of the table: reserved, custom, other extensions' (QEMU's own are left out).
NOWHERE_NUMBERS = (0x000, 0x004, 0x101, 0x107, 0x181, 0x3A1, 0x3A4, 0x3C0, 0x5C0, 0x7C0, 0x800, 0x9C0, 0xB01, 0xCC0, 0xFC0, 0xF10)
_LEFT_OUT = ("hpm", "mhpm", "pmpaddr", "tselect", "tdata", "tinfo", "tcontrol")  #: alike, or (triggers) QEMU aborts


def _numbers() -> list[int]:
    some = [n for n, each in TABLE.items() if not each.name.startswith(_LEFT_OUT)]
    kept = [n for n, each in TABLE.items() if each.name in ("hpmcounter3", "mhpmevent3", "mhpmcounter3", "pmpaddr0", "pmpaddr14")]
    return sorted({*some, *kept, *NOWHERE_NUMBERS} - {0x011})


def _register_probes() -> list[tuple[str, Probe]]:
    found = [("", Probe((csr("w", "stimecmp", rs1=13), csr("w", "vstimecmp", rs1=13)), st.M, (0, 0, 0, NEVER)))]  # what it is at reset is open
    for number, (priv, guest), how, pattern in product(_numbers(), MODES, "wsc", PATTERNS):
        if guest and (how == "c" or pattern not in PATTERNS[1:3]):
            continue
        name = TABLE[number].name if number in TABLE else ""
        value = pattern
        if name.startswith("pmpcfg"):
            value &= 0x1D1D_1D1D_1D1D_1D1D  # neither locked (for good) nor writable only (reserved)
            value &= NEVER >> 8 if how == "c" else NEVER  # that would leave some writable only
        elif name == "mseccfg":
            value &= st.RLB  # the others stay set
        elif name in ("mtvec", "stvec", "vstvec"):
            value &= ~2  # a reserved mode: QEMU drops the whole write, we keep the old mode
        elif name in ("menvcfg", "senvcfg", "henvcfg"):
            value = value & ~st.CBIE | (st.CBIE if value & 1 << 4 else 0)  # 2 is reserved
        elif name == "mstatus" and value & st.MPP == 2 << st.MPP_SHIFT:
            value &= ~st.MPP  # there is no mode 2; QEMU keeps it
        elif name in ("vsatp", "hgatp"):
            value = value & (1 << st.MODE_SHIFT) - 1 | (st.SV39_MODE << st.MODE_SHIFT if value >> 63 else 0)  # others: ignored or not
        elif name == "satp" and priv == st.S and value >> st.MODE_SHIFT in (8, 9, 10):
            continue  # the program would be nowhere
        if how != "w" and number >> 10 == 3 and not value:
            continue  # writes nothing, but writes: illegal (volume I, Zicsr). QEMU looks at the value
        code = (csr("s", number, rd=10), csr(how, number, rd=11, rs1=13), csr("s", number, rd=12), csr("w", number, rs1=10))
        probe = Probe(
            code, priv, (0, 0, 0, value), mstatus=st.FS, mcounteren=7, scounteren=3, menvcfg=st.STCE | st.PBMTE | 0xF1, guest=guest,
            vsstatus=st.FS, hideleg=0x444, hcounteren=3, henvcfg=st.STCE | 0xF1,
        )  # fmt: skip
        found.append((name or hex(number), probe))
    return found


def _settled(name: str, probe: Probe, answer: Answer) -> Answer:
    answer = _guest_answer(probe, answer)
    kept = 0 if name.startswith(OPEN_VALUES) else ~OPEN_BITS.get(name, 0)
    if name.startswith("pmpaddr"):
        kept = pmp.ADDRESS_MASK  # 54 bits
    elif probe.guest and name in ("sie", "sip"):
        kept = 0  # as vsie and vsip
    return answer._replace(a=tuple(value & kept for value in answer.a[:3]))


def test_registers(tmp_path: Path) -> None:
    """Reads, writes, sets and clears of registers, and of some that do not exist, in each mode: the value, or cause and trap value."""
    probes = _register_probes()
    differ = []
    names = [name for name, _ in probes]
    for (probe, a, b), name in zip(compare([probe for _, probe in probes], tmp_path), names, strict=True):
        if _settled(name, probe, a) != _settled(name, probe, b):
            differ.append((probe._replace(code=(name,)), a, b))  # type: ignore[arg-type]
    report(differ)


# ---- encodings

#: Extensions that QEMU 7.2 has not, or has otherwise: others compare them, or directed tests.
UNKNOWN = frozenset(("Zfa", "Zicond", "Zawrs", "Zicbom", "Zicboz", "Svinval", "H", "Zicfiss", "Zicfilp", "Zimop", "Zcmop"))
LEAVES = ("jalr", "c.jr", "c.jalr", "mret", "sret", "wfi", "sfence.vma")


def _comparable(word: int) -> bool:
    i = decode(word)
    if i is not None:
        atomic = i.op.name.startswith(("sc.", "amo"))  # where both must fail they differ in how: see below
        return not ("target" in i.op.operands or i.op.name in LEAVES or i.op.extension in UNKNOWN or i.op.name.startswith("csr") or atomic)
    if word & 0x7F == 0x73:
        return False  # other numbers of SYSTEM: the registers' test, and later extensions
    return word & 3 != 3 or word & 0x7F not in (0x0F, 0x6F)


def _near(rng: random.Random, op: Op) -> int:
    """An encoding of this op, mostly with one of its fixed bits wrong."""
    word = rng.getrandbits(8 * op.length) & ~op.mask | op.match
    if rng.random() < 0.8:
        word ^= 1 << rng.choice([bit for bit in range(8 * op.length) if op.mask >> bit & 1])
    return word if word & 3 == 3 else word & 0xFFFF


def _word(rng: random.Random) -> int:
    while True:
        kind = rng.random()
        word = _near(rng, rng.choice(OPS)) if kind < 0.5 else rng.getrandbits(32) | 3 if kind < 0.75 else rng.getrandbits(16)
        word = word if word & 3 == 3 else word & 0xFFFF
        if _comparable(word):
            return word


def _excused(a: Answer, b: Answer) -> bool:
    """Whether an answer is as good as QEMU's."""
    if {a.cause, b.cause} <= MEMORY_CAUSES:
        # Misaligned and nowhere: which comes first is open ("may have either higher or lower priority"), and so what tval tells.
        return a[2:] == b[2:]
    return a.cause == b.cause == BREAKPOINT and a[2:] == b[2:]  # tval of ebreak: the address, or zero


def test_encodings(tmp_path: Path) -> None:
    """Words over the whole opcode space, many a bit away from an instruction: illegal in both or in neither, with the same effect."""
    rng = random.Random(20)
    probes = []
    for _ in range(1500):
        word = _word(rng)
        status = rng.choice((0, st.FS, st.FS))
        args = tuple(rng.getrandbits(64) for _ in range(4))
        probes.append(Probe((word if word & 3 == 3 else word | 1 << 16,), rng.choice((st.U, st.S, st.M)), args, mstatus=status))
    differ = [(p, a, b) for p, a, b in compare(probes, tmp_path) if a != b and not _excused(a, b)]
    report(differ)


# ---- traps, delegation, interrupts

ORDINARY = [
    ["ecall"], ["mret"], ["sret"], ["wfi"], ["sfence.vma"], [("csrrs", {"rd": 10, "csr": 0x180})], [0], [NEVER >> 32],
    [("ld", {"rd": 10, "rs1": 11})], [("sd", {"rs1": 11, "rs2": 10})], [("lr.d", {"rd": 10, "rs1": 12})],
    [("amoadd.w", {"rd": 10, "rs1": 12, "rs2": 13})], [("jalr", {"rd": 1, "rs1": 13})],
    *([("csrrs", {"csr": number, "rd": 10 if number in (0x144, 0x104) else 0})] for number in (0xC00, 0xC01, 0xC02, 0x14D, 0x144, 0x104)),
    *([(f"csrr{how}", {"csr": 0x144, "rd": 10, "rs1": 11}), ("csrrs", {"csr": 0x144, "rd": 11})] for how in "wsc"),
    *([(f"csrr{how}", {"csr": 0x344, "rd": 10, "rs1": 11}), ("csrrs", {"csr": 0x144, "rd": 11})] for how in "wsc"),
    [("csrrw", {"csr": 0x141, "rs1": 13}), ("csrrw", {"csr": 0x100, "rs1": 10}), "sret"],
    [("csrrw", {"csr": 0x341, "rs1": 13}), ("csrrc", {"csr": 0x300, "rs1": 12}), ("csrrs", {"csr": 0x300, "rs1": 10}), "mret"],
]  # fmt: skip
STATUS_BITS = (st.SIE, st.SPIE, st.MPIE, st.SPP, st.SUM, st.MXR, st.TVM, st.TW, st.TSR)


def _words(parts: list[object]) -> tuple[int, ...]:
    return tuple(p if isinstance(p, int) else encode(p) if isinstance(p, str) else encode(p[0], **p[1]) for p in parts)  # type: ignore[index]


def _trap_probe(rng: random.Random) -> Probe:
    parts = rng.choice(ORDINARY)
    code = _words(parts)  # type: ignore[arg-type]
    status = sum(rng.sample(STATUS_BITS, rng.randrange(6)))
    # a0: a status (without MPRV: QEMU 7.2 leaves it set behind mret and sret); a1: where data is, or bits of mip; a2: where atomic data is, or bits of mstatus to clear; a3: where to jump
    fields = sum(rng.sample((*STATUS_BITS, st.FS), rng.randrange(6))) | rng.choice((0, 1, 3)) << st.MPP_SHIFT
    pending = isinstance(parts[0], tuple) and parts[0][1].get("csr") in (0x144, 0x344)  # type: ignore[attr-defined]
    a1 = rng.getrandbits(12) & 0xAAA if pending else rng.choice((NOWHERE, DATA))
    a2 = DATA if code[0] & 0x7F == 0x2F else st.MPP | rng.choice((0, st.MPIE, st.SIE))
    args = fields | st.XLEN_64, a1, a2, rng.choice((NOWHERE, LANDING, LANDING + 4))
    lent = rng.choice((0, 0, st.STCE))
    # One enabled interrupt: with several, QEMU takes the lowest number first, not the order of volume II.
    enabled = 1 << rng.choice((1, 3, 5, 7, 9, 11)) if rng.random() < 0.5 else 0
    wfi = parts == ["wfi"]
    modes = {"mret": (st.U, st.S), "sret": (st.U,)}.get(str(parts[0]), (st.U, st.S, st.M))  # where they may, other probes say where to
    return Probe(
        code, rng.choice(modes), args, status, medeleg=rng.getrandbits(16) & ~(1 << 9), mideleg=rng.getrandbits(16) & 0x222,
        mie=1 << 7 if wfi else enabled, mip=rng.getrandbits(16) & (0x202 if lent else 0x222), menvcfg=lent, mcounteren=rng.getrandbits(3),
        scounteren=rng.getrandbits(3), msip=rng.getrandbits(1), mtimecmp=0 if wfi else rng.choice((0, NEVER)),
    )  # fmt: skip


def test_traps(tmp_path: Path) -> None:
    """Exceptions and interrupts in each mode, delegated or not, returns to each mode, and what mstatus forbids."""
    rng = random.Random(30)
    probes = [_trap_probe(rng) for _ in range(1500)]
    differ = []
    for probe, a, b in compare(probes, tmp_path):
        mip = probe.code[0] >> 20 in (0x144, 0x344) and probe.code[0] & 0x7F == 0x73
        left, right = (each._replace(a=tuple(v & ~ABSENT_INTERRUPTS for v in each.a)) if mip else each for each in (a, b))
        if left != right and not _excused(a, b):
            differ.append((probe, a, b))
    report(differ)


GUEST_PARTS = [
    ["hfence.vvma"], ["hfence.gvma"], ["ebreak"], ["sfence.vma"], ["wfi"],
    *([("csrrs", {"csr": number})] for number in (0x100, 0x180, 0x200, 0x300, 0x600, 0x645)), [("csrrw", {"csr": 0x180})],
]  # fmt: skip
VIRTUAL, FORBIDDEN = 22, 1 << 2 | 1 << 22  #: the virtual-instruction exception; what delegates it and the illegal instruction


def _guest_probe(rng: random.Random) -> Probe:
    """A trap's probe in VS- or VU-mode, mostly; without what QEMU 7.2 has otherwise than the chapter on the hypervisor extension."""
    probe = _trap_probe(rng)
    while probe.priv == st.M or probe.code[0] >> 20 in (0x144, 0x104) or probe.code == (encode("sret"),):
        probe = _trap_probe(rng)  # it does not shift what is written to vsie and vsip
    if rng.random() < 0.3:
        parts = rng.choice(GUEST_PARTS)
        probe = probe._replace(code=_words(parts), **({"mie": 1 << 7, "mtimecmp": 0} if parts == ["wfi"] else {}))  # type: ignore[arg-type]
    if probe.mie and encode("wfi") not in probe.code and rng.random() < 0.5:
        probe = probe._replace(mie=1 << rng.choice((2, 6, 10)))
    probe = probe._replace(
        hstatus=sum(rng.sample((st.VTVM, st.VTW, st.VTSR, st.HU, st.SPVP), rng.randrange(4))), guest=rng.random() < 0.8,
        hedeleg=rng.getrandbits(16) & 0xB1BB, hideleg=rng.getrandbits(12) & 0x444, hcounteren=rng.getrandbits(3),  # 2 and 6: it takes 1 off
        medeleg=probe.medeleg | rng.choice((0, 7 << 21)), henvcfg=rng.choice((0, probe.menvcfg)),
        vsstatus=rng.choice((0, st.SIE, st.SPP | st.SPIE, st.SUM)),
    )  # fmt: skip
    if probe.code[0] >> 20 == 0x180:
        probe = probe._replace(hstatus=probe.hstatus & ~st.VTVM)  # it lets VS-mode use satp
    if probe.guest:
        probe = probe._replace(mstatus=probe.mstatus & ~(st.TVM | st.TSR))  # "do not affect execution in VS-mode"
    if probe.guest and probe.priv == st.U:
        probe = probe._replace(medeleg=probe.medeleg & ~FORBIDDEN)  # it knows no virtual instructions of VU-mode
    return probe


def _guest_answer(probe: Probe, answer: Answer) -> Answer:
    """Without GVA, which QEMU sets though the trap value is no address."""
    cause = 2 if probe.guest and probe.priv == st.U and answer.cause == VIRTUAL else answer.cause
    a = tuple(value & ~ABSENT_INTERRUPTS for value in answer.a) if probe.code[0] >> 20 in (0x344, 0x645) else answer.a
    return answer._replace(cause=cause, a=a, mstatus=answer.mstatus & ~st.GVA, h=(*answer.h[:4], answer.h[4] & ~st.H_GVA))


def test_traps_of_guests(tmp_path: Path) -> None:
    """What a hypervisor forbids, and to whom traps go: the guest, the hypervisor or M-mode."""
    rng = random.Random(35)
    differ = []
    for probe, a, b in compare([_guest_probe(rng) for _ in range(1500)], tmp_path):
        left, right = _guest_answer(probe, a), _guest_answer(probe, b)
        at_break = a.s[0] == b.s[0] == BREAKPOINT and left._replace(s=()) == right._replace(s=())
        if left != right and not _excused(left, right) and not at_break:
            differ.append((probe, a, b))
    report(differ)


# ---- the state of floating point

ARITHMETIC = [op for op in OPS if op.fp and op.extension in ("F", "D") and "(rs1)" not in op.operands]
VALUES = (
    0, 1, 1 << 63, 0x3FF0 << 48, 0x7FF0 << 48, 0x7FF8 << 48, 0x7FF0_0000_0000_0001, 0x41DF_FFFF_FFC0_0000, 0x7FEF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_3F80_0000, 0xFFFF_FFFF_7F80_0001, 0xFFFF_FFFF_4F00_0000, 0xFFFF_FFFF_7F7F_FFFF,
)  # fmt: skip


def _float_probe(rng: random.Random) -> Probe:
    """One instruction on fa0 to fa3, in any state of mstatus.FS and with any rounding mode; then mstatus, fcsr and a register."""
    op = rng.choice(ARITHMETIC)
    word = rng.getrandbits(32) & ~op.mask | op.match
    for each in op.fields:
        if each.name in ("rs1", "rs2", "rs3", "rd"):
            for source, mask, _ in each.pieces:
                word = word & ~(mask << source) | rng.choice((10, 11, 12, 13)) << source
    code = [*address(5, 0x6000), csr("s", "mstatus", rs1=5), *(encode("fmv.d.x", rd=n, rs1=n) for n in (10, 11, 12, 13))]
    code += [encode("csrrwi", csr=3), encode("csrrwi", csr=2, imm=rng.randrange(8)), csr("c", "mstatus", rs1=5)]
    code += [encode("addi", rd=6, imm=rng.choice((0, 1, 1, 2, 3))), encode("slli", rd=6, rs1=6, imm=st.FS_SHIFT), csr("s", "mstatus", rs1=6)]
    code += [word, csr("s", "mstatus", rd=18), csr("s", "fcsr", rd=19), encode("fmv.x.d", rd=20, rs1=rng.choice((10, 11, 12, 13)))]
    return Probe(tuple(code), st.M, tuple(rng.choice(VALUES) if rng.random() < 0.7 else rng.getrandbits(64) for _ in range(4)))


def _clean(answer: Answer) -> Answer:
    """Without FS: QEMU does not call the state dirty where only flags have changed."""
    kept = ~(st.SD | st.FS)
    return answer._replace(mstatus=answer.mstatus & kept, s=(answer.s[0] & kept, *answer.s[1:]))


def test_floating_point(tmp_path: Path) -> None:
    """Illegal while FS is off and with a reserved rounding mode; results, flags, and FS, which becomes dirty with either."""
    rng = random.Random(50)
    differ = []
    for probe, a, b in compare([_float_probe(rng) for _ in range(1000)], tmp_path):
        flags = a.s[0] & st.FS == st.FS and a.s[1] & 31
        if a != b and not (flags and _clean(a) == _clean(b)):
            differ.append((probe, a, b))
    report(differ)
