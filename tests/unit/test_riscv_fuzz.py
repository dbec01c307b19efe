"""Hostile code: whatever the bits, a hart ends its run with an architectural state, never with an exception of Python's."""

from __future__ import annotations

import random

import pytest
import riscv_util
from riscv_random import usable
from riscv_util import BASE, M64, new_hart, put, random_word, tier  # noqa: F401

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.csr import NUMBERS, TABLE
from trapline.machine.riscv.hart import BUDGET, TRAPPED, WAITING, Hart
from trapline.machine.riscv.isa.decode import OPS, encode

MEMORY, NOISE = 4 << 20, 0x8000
M_HANDLER, S_HANDLER = BASE + NOISE, BASE + NOISE + 0x1000
SYSTEM = [op for op in OPS if op.system]


def word(rng: random.Random) -> bytes:
    """An instruction as likely as not to be privileged, or noise."""
    kind = rng.random()
    if kind < 0.1:
        return rng.getrandbits(32).to_bytes(4, "little")
    op = rng.choice(SYSTEM if kind < 0.4 else OPS)
    bits = random_word(rng, op)
    if op.name.startswith("csrr") and rng.random() < 0.8:
        bits = bits & 0xFFFFF | rng.choice(sorted(TABLE)) << 20
    return bits.to_bytes(op.length, "little")


def handler(epc: str, scratch: str, back: str) -> list[int]:
    """Go on behind what trapped, with interrupts off."""
    swap = encode("csrrw", rd=31, rs1=31, csr=NUMBERS[scratch])
    off = encode("csrrwi", csr=NUMBERS["mie" if back == "mret" else "sie"])
    read, write = encode("csrrs", rd=31, csr=NUMBERS[epc]), encode("csrrw", rs1=31, csr=NUMBERS[epc])
    return [swap, read, encode("addi", rd=31, rs1=31, imm=4), write, off, swap, encode(back)]


def wild_hart(rng: random.Random, *, hosted: bool) -> Hart:
    """Pages of noise, two handlers behind them, random registers, many of them near memory."""
    hart = new_hart(MEMORY, hosted=hosted)
    for start in range(0, NOISE, 0x1000):
        code = b"".join(word(rng) for _ in range(1100))[:4096]
        hart.bus.ram.mem[start : start + 4096] = code
    put(hart, *handler("mepc", "mscratch", "mret"), at_=M_HANDLER)
    put(hart, *handler("sepc", "sscratch", "sret"), at_=S_HANDLER)
    for n in range(32):
        hart.fs[n] = rng.getrandbits(64)
    scatter(hart, rng)
    return hart


def scatter(hart: Hart, rng: random.Random) -> None:
    """Go on somewhere else in the noise, in any mode, with other registers and the handlers back in place."""
    for n in range(1, 32):
        near = BASE + rng.randrange(0x10000, MEMORY)
        hart.xs[n] = rng.choice((rng.getrandbits(64), near, near & ~63, rng.randrange(256), M64 - rng.randrange(256)))
    cpu = hart.cpu
    cpu[at.VIRT] = cpu[at.ELP] = 0
    hart.change_space(0)
    cpu[at.MSECCFG] = 0
    for n in range(at.PMP_ENTRIES):
        cpu[at.PMPCFG + n] = 0
    if rng.random() < 0.9:
        cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
    hart.pmp.update()
    cpu[at.MTVEC], cpu[at.STVEC] = M_HANDLER, S_HANDLER | rng.randint(0, 1)
    cpu[at.MSTATUS] = st.XLEN_64 | rng.getrandbits(64) & st.MSTATUS_WRITABLE & ~(st.MPP | st.MPRV)
    cpu[at.MEDELEG], cpu[at.MIDELEG] = rng.choice((0, 0xB3FF, 0xF4_B7FF)), rng.choice((0, 0x222)) | st.H_INTERRUPTS
    cpu[at.HEDELEG], cpu[at.HIDELEG] = rng.choice((0, 0x4_B1FF)), rng.choice((0, st.VS_INTERRUPTS))
    cpu[at.VSTVEC], cpu[at.VSATP], cpu[at.HGATP] = S_HANDLER, 0, 0
    cpu[at.SENVCFG], cpu[at.HENVCFG] = rng.choice((0, 0, 0, st.LPE, st.SSE)), rng.choice((0, 0, 0, st.LPE, st.SSE))
    cpu[at.MENVCFG] = rng.choice((0, 0, 0, st.LPE, st.SSE)) | rng.getrandbits(64) & (st.STCE | st.ADUE)
    cpu[at.MIE], cpu[at.LINES] = rng.choice((0, 0xAAA)), rng.choice((0, 0, 0, 0xAAA))
    hart.waiting = False
    hart.tlb.flush()
    hart.forget_pages()
    hart.enter(rng.choice((st.U, st.S, st.M)))
    if cpu[at.PRIV] != st.M and rng.random() < 0.4:
        hart.cross(1)
    cpu[at.PC] = BASE + rng.randrange(NOISE) & ~1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("hosted", [False, True])
def test_noise_never_raises(seed: int, hosted: bool) -> None:
    rng = random.Random(seed)
    hart = wild_hart(rng, hosted=hosted)
    retired = 0
    for _ in range(60):
        scatter(hart, rng)
        before = hart.cpu[at.INSTRET]
        assert hart.run(100) in (BUDGET, TRAPPED, WAITING)
        assert all(0 <= value <= M64 for value in hart.xs)
        assert hart.xs[0] == 0
        assert hart.cpu[at.PRIV] in (st.U, st.S, st.M)
        assert hart.cpu[at.PC] % 2 == 0
        assert 0 <= hart.cpu[at.INSTRET] - before <= 100
        retired += hart.cpu[at.INSTRET] - before
    assert retired > (20 if hosted else 600)


def test_usable_ops_are_all_unprivileged() -> None:
    assert not any(op.system for op in usable({op.extension for op in OPS}))


#: What is not architectural state: where things are in the host, and what is counted of caches.
_OWN = {"ram_host", "sink", "budget", "hpmcounter", "trap_cause", "trap_value"}
_NAMES = [name for name, _ in at.FIELDS]
_COMPARED = at.FIELDS[: _NAMES.index("traps")] + at.FIELDS[_NAMES.index("virt") :]
_ARCHITECTURAL = [each for each in _COMPARED if each[0] not in _OWN]


def state(hart: Hart) -> dict[str, list[int]]:
    return {name: hart.cpu[at.OFFSETS[name] : at.OFFSETS[name] + words].tolist() for name, words in _ARCHITECTURAL}


@pytest.mark.parametrize("seed", range(8))
def test_noise_does_the_same_in_both_tiers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    harts, dice = [], [random.Random(seed), random.Random(seed)]
    for make, rng in zip((Hart, riscv_util.native), dice, strict=True):
        monkeypatch.setattr(riscv_util, "_make", make)
        harts.append(wild_hart(rng, hosted=False))
    for _ in range(60):
        reasons = [hart.run(60) for hart in harts]
        assert reasons[0] == reasons[1]
        one, other = map(state, harts)
        assert {name: (one[name], other[name]) for name in one if one[name] != other[name]} == {}
        for hart, rng in zip(harts, dice, strict=True):
            scatter(hart, rng)
    assert bytes(harts[0].bus.ram.mem) == bytes(harts[1].bus.ram.mem)
