"""Control registers, encodings, traps, translation of fetches and protection: every rule as qemu-system-riscv64 has it, on two tiers.

Probes are generated (riscv_bare.py) from the declarations of registers and instructions and compared answer by answer. Where the two
differ and the manual is on our side, or leaves it open, the difference is named here: `OPEN_BITS`, `_excused`, `UNKNOWN`.
"""

from __future__ import annotations

import importlib.util
import random
import struct
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from riscv_bare import BASE, NEVER, NOWHERE, PROBES, QEMU, TABLES, Answer, Probe, address, csr, ours, theirs

from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.csr import TABLE
from trapline.machine.riscv.isa.declare import OPS, Op
from trapline.machine.riscv.isa.decode import decode, encode
from trapline.machine.riscv.trap import BREAKPOINT

pytestmark = pytest.mark.skipif(not QEMU, reason="no qemu-system-riscv64")
TIERS = ("reference", "native") if importlib.util.find_spec("llvmlite") else ("reference",)
CPU = "rv64,svpbmt=true,svnapot=true,svinval=true,zbc=false,x-epmp=true"
DATA, LANDING = TABLES + 0x8_0000, TABLES + 0xA_0000  #: what probes write, and where they jump: ecalls
LANDINGS = {LANDING: struct.pack("<I", encode("ecall")) * 0x2800}
MEMORY_CAUSES = frozenset((4, 5, 6, 7))


def compare(probes: Sequence[Probe], tmp_path: Path, more: dict[int, bytes] | None = None) -> list[tuple[Probe, Answer, Answer]]:
    """(probe, our answer, theirs) of each; the tiers must agree with one another."""
    more = LANDINGS | (more or {})
    first, *others = [ours(probes, more, tier) for tier in TIERS]
    for each in others:
        assert [(p, str(b)) for p, a, b in zip(probes, first, each, strict=True) if a != b] == []
    return list(zip(probes, first, theirs(probes, tmp_path, more, CPU), strict=True))


def report(differ: list[tuple[Probe, Answer, Answer]]) -> None:
    lines = [f"{p}\n  ours   {a}\n  theirs {b}" for p, a, b in differ[:20]]
    if differ:
        pytest.fail(f"{len(differ)} differ\n" + "\n".join(lines), pytrace=False)


# ---- control registers

ABSENT_INTERRUPTS = 1 << 12 | 1 << 13  #: interrupts that are not ours: of guests' devices, and of counters that overflow
#: Bits of registers that are not compared. WARL: what an unsupported value becomes is the implementation's choice, and QEMU 7.2
#: keeps many. Volume II, the section of each register.
OPEN_BITS = {
    "mstatus": st.VS | st.XS | st.UBE | st.UXL | st.SXL | st.SPELP | 0xFF << 36,  # QEMU lets UXL be written; V and H are not ours
    "sstatus": st.VS | st.XS | st.UBE | st.UXL | st.SPELP,
    "misa": 1 << 1 | 1 << 7,  # B came later than QEMU 7.2
    "medeleg": 1 << 10 | 1 << 11 | 1 << 14 | 0xFFFF << 16,  # QEMU delegates causes that S- and U-mode cannot raise
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
    for _ in range(4000):
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
    probes = [_trap_probe(rng) for _ in range(4000)]
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
    for probe, a, b in compare([_guest_probe(rng) for _ in range(3000)], tmp_path):
        left, right = _guest_answer(probe, a), _guest_answer(probe, b)
        at_break = a.s[0] == b.s[0] == BREAKPOINT and left._replace(s=()) == right._replace(s=())
        if left != right and not _excused(left, right) and not at_break:
            differ.append((probe, a, b))
    report(differ)


# ---- fetching through page tables

LEVELS = {st.SV39_MODE: 3, st.SV48_MODE: 4, st.SV57_MODE: 5}
#: A gigabyte where neither machine has anything. (Nothing smaller leads there: QEMU aborts where an instruction ends in such a page.)
ABSENT = 0xC000_0000
SUPERPAGE = LANDING & -(2 << 20)
FIRST = (LANDING - SUPERPAGE) >> 12  #: the lowest index of a last-level table that is used
PAGES = 8
#: What is there: pages of ecalls, and pages of ecalls that begin in the middle of a word.
FETCHED = {LANDING + 4096 * n: struct.pack("<I", 0x73 if n % 2 == 0 else 0x73_0000) * 1024 for n in range(PAGES + 1)}


def _leaf(rng: random.Random, level: int) -> int:
    """A leaf, mostly sound. Gigabytes and more lead nowhere, or are misaligned."""
    frame = rng.choice((ABSENT, LANDING)) if level > 1 else rng.choice((SUPERPAGE,) * 6 + (LANDING,)) if level else None
    if frame is None:
        frame = LANDING + 4096 * rng.randrange(PAGES)
    rights = rng.choice((0b100, 0b101, 0b111, 0b111, 0b101, 0b011, 0b001, 0b010, 0b110)) << 1
    entry = frame >> 12 << 10 | rights | (rng.random() < 0.95) | rng.getrandbits(1) << 4 | rng.getrandbits(5) << 5
    return entry | rng.choice((0,) * 8 + (1 << 63, 1 << 61, 2 << 61))  # QEMU lets the reserved bits 54 to 60 pass


def _tables(rng: random.Random, levels: int) -> bytes:
    """A root, and for each level below it three tables."""
    words = [0] * (512 * (1 + 3 * (levels - 1)))
    for table in range(1 + 3 * (levels - 1)):
        depth = (table + 2) // 3
        level = levels - 1 - depth
        for index in range(PAGES):
            entry = _leaf(rng, level)
            if level and rng.random() < 0.75:
                entry = TABLES + 4096 * (1 + 3 * depth + rng.randrange(3)) >> 12 << 10 | 1
                entry |= rng.choice((0,) * 8 + (1 << 4, 1 << 6, 1 << 7, 1 << 5, 1 << 63, 1 << 61, 1 << 8))
            words[512 * table + index + (0 if level else FIRST)] = entry
    return struct.pack(f"<{len(words)}Q", *words)


@pytest.mark.parametrize("mode", LEVELS, ids=["Sv39", "Sv48", "Sv57"])
def test_fetches(mode: int, tmp_path: Path) -> None:
    """Instructions on pages of every kind, some across two: what is executed, or cause, trap value and pc."""
    rng, levels = random.Random(mode), LEVELS[mode]
    probes = []
    for _ in range(2000):
        indices = [FIRST + rng.randrange(PAGES), *(rng.randrange(PAGES) for _ in range(levels - 1))]
        where = sum(index << 12 + 9 * level for level, index in enumerate(indices))
        where |= rng.choice((0, 2, 4, 0xFFC, 0xFFE, 0xFFE, rng.randrange(0, 4096, 2)))
        if rng.random() < 0.03:
            where |= 1 << rng.randrange(11 + 9 * levels, 64)
        status = rng.choice((0, st.SUM, st.MXR))
        satp = mode << st.MODE_SHIFT | TABLES >> 12
        probes.append(Probe(
            (), rng.choice((st.U, st.S)), mstatus=status, satp=satp, menvcfg=st.ADUE | st.PBMTE, at=where,
        ))  # fmt: skip
    differ = [each for each in compare(probes, tmp_path, {TABLES: _tables(rng, levels), **FETCHED}) if each[1] != each[2]]
    report(differ)


# ---- protection

def _napot(start: int, size: int) -> int:
    return start >> 2 | (size >> 3) - 1


def _set_address(n: int, value: int) -> list[int]:
    return [*address(5, value & -4096), encode("addi", rd=6, imm=value >> 6 & 63), encode("slli", rd=6, rs1=6, imm=6),
            encode("addi", rd=6, rs1=6, imm=value & 63), encode("or", rd=5, rs1=5, rs2=6), csr("w", f"pmpaddr{n}", rs1=5)]  # fmt: skip


def _config(*entries: int) -> int:
    return sum(each << 8 * n for n, each in enumerate(entries))


def _protected(secure: int) -> Probe:
    """The first probe: entries 10 to 13 let the driver live (code, devices, slots, probes), and mseccfg says what it will."""
    code = []
    for n, value in enumerate((_napot(BASE, 0x4000), _napot(0, 1 << 31), _napot(BASE, 2 << 20), _napot(PROBES, 1 << 20))):
        code += _set_address(10 + n, value)
    every, locked = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.NAPOT | pmp.LOCK
    before = [0, 0, *([every] * 4)]
    if secure & st.MML:
        before = [0, 0, locked | pmp.R | pmp.X, locked | pmp.R | pmp.W, locked | pmp.R | pmp.W, locked | pmp.R | pmp.X]
    for value in (st.RLB, secure | st.RLB):
        code += [encode("addi", rd=5, imm=value), csr("w", "mseccfg", rs1=5), csr("w", "pmpcfg2", rs1=10)]
    return Probe((*code, csr("s", "mseccfg", rd=11), csr("s", "pmpcfg2", rd=12)), st.M, (_config(*before),))


def _entry(rng: random.Random, step: int, secure: int) -> tuple[int, int]:
    """(address, configuration): where `step` divides its bounds."""
    where = DATA + rng.randrange(0, 0x8000, step)
    mode = rng.choice((pmp.OFF, pmp.TOR, pmp.TOR, pmp.NA4, pmp.NAPOT, pmp.NAPOT) if step == 4 else (pmp.OFF, pmp.TOR, pmp.TOR, pmp.NAPOT))
    size = max(8, step) << rng.randrange(13 if step == 4 else 3)
    config = rng.choice((0, 1, 3, 4, 5, 7)) | mode
    if secure & st.MML:
        config = rng.randrange(8) | mode | rng.choice((0, pmp.LOCK))
    return (_napot(where & -size, size) if mode == pmp.NAPOT else where >> 2), config


def _protection_probe(rng: random.Random, secure: int) -> Probe:
    kind, priv = rng.choice(("load", "load", "store", "store", "fetch")), rng.choice((st.U, st.S, st.M))
    entries = [_entry(rng, 4096 if kind == "fetch" else 4, secure) for _ in range(4)]
    if entries[0][1] & pmp.MODE == pmp.TOR:  # from address 0, where the driver is too
        entries[0] = entries[0][0], entries[0][1] & ~pmp.MODE
    code = [csr("w", "pmpcfg0"), *(word for n, each in enumerate(entries) for word in _set_address(n, each[0]))]
    code += [csr("w", "pmpcfg0", rs1=10), csr("s", "pmpcfg0", rd=10), *address(5, 0x1000), encode("srli", rd=6, rs1=5, imm=1)]
    code += [encode("or", rd=5, rs1=5, rs2=6), csr("c", "mstatus", rs1=5), csr("s", "mstatus", rs1=11)]
    status, size = priv << st.MPP_SHIFT, rng.choice((1, 2, 4, 8))
    where = DATA + rng.randrange(-0x1000, 0x9000, 4 if kind == "fetch" else size)
    if kind == "fetch":
        code += [csr("w", "mepc", rs1=12), encode("mret")]
    else:
        letter, status = {1: "b", 2: "h", 4: "w", 8: "d"}[size], status | st.MPRV
        code.append(encode("l" + letter, rd=13, rs1=12) if kind == "load" else encode("s" + letter, rs1=12, rs2=13))
        code.append(csr("w", "mstatus"))
    return Probe(tuple(code), st.M, (_config(*(config for _, config in entries)), status, where, 5))


@pytest.mark.parametrize("secure", [0, st.MMWP, st.MML, st.MML | st.MMWP], ids=["plain", "MMWP", "MML", "MML-MMWP"])
def test_protection(secure: int, tmp_path: Path) -> None:
    """Loads, stores and fetches of each mode under four random entries (locked ones with MML: rule locking bypassed, QEMU ignores them)."""
    rng = random.Random(secure)
    probes = [_protected(secure), *(_protection_probe(rng, secure) for _ in range(600))]
    memory = {DATA - 0x1000: struct.pack("<I", encode("ecall")) * 0x2C00}
    report([each for each in compare(probes, tmp_path, memory) if each[1] != each[2]])


# ---- protection of page tables

WALKED = 0x4000_0000  #: where S- and U-mode see DATA, through three levels of tables
MAPPED = 8


def _walk_probe(rng: random.Random) -> Probe:
    """A load or store of S- or U-mode through tables of which some entries cannot be read."""
    size, page = rng.choice((1, 2, 4, 8)), rng.randrange(MAPPED)
    where, entry = WALKED + 4096 * page + rng.randrange(0, 4096, size), TABLES + 0x2000 + 8 * page
    code = [csr("w", "pmpcfg0"), encode("sd", rs1=5, rs2=13)]  # the entry anew, without the bits that the access before has set
    code[:0] = address(5, entry)
    for n in range(4):
        spot = rng.choice((TABLES, TABLES + 0x1000, TABLES + 0x2000, DATA, DATA + 4096 * page)) + rng.choice((0, 8, 16, 64, 4096))
        size_log = rng.randrange(3, 14)
        code += _set_address(n, _napot(spot & -(1 << size_log), 1 << size_log))
    config = _config(*(rng.choice((0, 3, 3, 4, 7)) | rng.choice((pmp.OFF, pmp.NAPOT, pmp.NAPOT, pmp.NA4)) for _ in range(4)))
    code += [csr("w", "pmpcfg0", rs1=10), encode("sfence.vma"), csr("w", "mstatus", rs1=11)]
    letter = {1: "b", 2: "h", 4: "w", 8: "d"}[size]
    code.append(encode("l" + letter, rd=13, rs1=12) if rng.random() < 0.6 else encode("s" + letter, rs1=12, rs2=13))
    code += [csr("w", "mstatus"), csr("w", "pmpcfg0"), *address(5, entry), encode("ld", rd=13, rs1=5)]
    user = rng.getrandbits(1)
    leaf = DATA + 4096 * page >> 12 << 10 | rng.choice((7, 7, 7, 3)) | user << 4 | rng.choice((0, 1, 3, 3)) << 6
    status = st.MPRV | rng.choice((st.U, st.S)) << st.MPP_SHIFT | rng.choice((0, st.SUM))
    satp = st.SV39_MODE << st.MODE_SHIFT | TABLES >> 12
    return Probe(tuple(code), st.M, (config, status, where, leaf), satp=satp, menvcfg=st.ADUE)


def test_protected_tables(tmp_path: Path) -> None:
    """What a walk may not read is an access fault of the access it is for; what it may is left as it should be, bits A and D set."""
    rng = random.Random(40)
    probes = [_walk_probe(rng) for _ in range(1500)]
    pointers = struct.pack("<Q", TABLES + 0x1000 >> 12 << 10 | 1), struct.pack("<Q", TABLES + 0x2000 >> 12 << 10 | 1)
    report([each for each in compare(probes, tmp_path, {TABLES + 8: pointers[0], TABLES + 0x1000: pointers[1]}) if each[1] != each[2]])



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
    for probe, a, b in compare([_float_probe(rng) for _ in range(1500)], tmp_path):
        flags = a.s[0] & st.FS == st.FS and a.s[1] & 31
        if a != b and not (flags and _clean(a) == _clean(b)):
            differ.append((probe, a, b))
    report(differ)
