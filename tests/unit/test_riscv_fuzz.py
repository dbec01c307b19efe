"""Hostile code: whatever the bits, a hart ends its run with an architectural state, never with an exception of Python's."""

from __future__ import annotations

import random

import pytest
from riscv_random import usable
from riscv_util import BASE, M64, new_hart, random_word, tier  # noqa: F401

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.csr import TABLE
from trapline.machine.riscv.hart import BUDGET, TRAPPED, WAITING, Hart
from trapline.machine.riscv.isa.decode import OPS

MEMORY = 4 << 20
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


def wild_hart(rng: random.Random, *, hosted: bool) -> Hart:
    """Random registers, many of them near memory; handlers, tables and code in the same noise."""
    hart = new_hart(MEMORY, hosted=hosted)
    for start in range(0, 0x8000, 0x1000):
        code = b"".join(word(rng) for _ in range(1100))[:4096]
        hart.bus.ram.mem[start : start + 4096] = code
    for n in range(1, 32):
        hart.xs[n] = rng.choice((rng.getrandbits(64), BASE + rng.randrange(MEMORY), rng.randrange(256), M64 - rng.randrange(256)))
    for n in range(32):
        hart.fs[n] = rng.getrandbits(64)
    cpu = hart.cpu
    if rng.random() < 0.5:
        cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
        hart.pmp.update()
    cpu[at.MTVEC], cpu[at.STVEC] = BASE + 0x2000, BASE + 0x4001
    cpu[at.MSTATUS] |= st.FS * rng.randint(0, 1)
    cpu[at.MIE] = cpu[at.LINES] = 0xAAA * rng.randint(0, 1)
    hart.enter(rng.choice((st.U, st.S, st.M)))
    return hart


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("hosted", [False, True])
def test_noise_never_raises(seed: int, hosted: bool) -> None:
    rng = random.Random(seed)
    hart = wild_hart(rng, hosted=hosted)
    retired = 0
    for _ in range(30):
        reason = hart.run(100)
        assert reason in (BUDGET, TRAPPED, WAITING)
        assert all(0 <= value <= M64 for value in hart.xs)
        assert hart.xs[0] == 0
        assert hart.cpu[at.PRIV] in (st.U, st.S, st.M)
        assert hart.cpu[at.PC] % 2 == 0
        assert 0 <= hart.cpu[at.INSTRET] - retired <= 100
        retired = hart.cpu[at.INSTRET]
        hart.waiting = False
        if reason == TRAPPED:
            hart.cpu[at.PC] = BASE + rng.randrange(0x8000) & ~1


def test_usable_ops_are_all_unprivileged() -> None:
    assert not any(op.system for op in usable({op.extension for op in OPS}))
