"""Atomics between harts, on every tier: locks keep what they guard, and the tiers leave the same state, whatever the length of turns."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.harts import IDLE, Harts
from trapline.machine.riscv.isa.decode import encode

pytest.importorskip("llvmlite")

from trapline.machine.riscv.jit.native import NativeHart
from trapline.machine.riscv.jit.tiers import Tiers

BASE, SHARED, MEMORY = 0x8000_0000, 0x8000_8000, 2 << 20
COUNT, ROUNDS = 3, 200
#: How many jumps make a place warm (worth baseline code) and hot (worth a region).
TIERS = {"interpreter": {"warm": 0, "hot": 0}, "baseline": {"warm": 2, "hot": 0}, "regions": {"warm": 0, "hot": 3}, "all": {"warm": 2, "hot": 9}}
AMOS = ("swap", "add", "xor", "and", "or", "min", "max", "minu", "maxu")
#: Registers: a0 SHARED, s1 rounds left, s2 failures of sc, s3 and s4 this hart's numbers; the lock is the first word.
LOCK, LEFT, FAILED = 10, 9, 18

Words = list[int]


def looped(body: Words) -> Words:
    """ROUNDS times; then the hart waits for ever."""
    text = [*body, encode("addi", rd=LEFT, rs1=LEFT, imm=-1)]
    return [*text, encode("bne", rs1=LEFT, imm=-4 * len(text)), encode("wfi"), encode("jal", imm=-4)]


def guarded() -> Words:
    """What only one hart may do at a time: count in three words, one after the other."""
    words = []
    for offset in (64, 128, 192):
        words += [encode("ld", rd=6, rs1=LOCK, imm=offset), encode("addi", rd=6, rs1=6, imm=1), encode("sd", rs1=LOCK, rs2=6, imm=offset)]
    return words


def lock_of_lr_sc(size: str) -> Words:
    take = [encode(f"lr.{size}", rd=5, rs1=LOCK, aq=1), encode("bne", rs1=5, imm=-4), encode("addi", rd=6, imm=1)]
    take += [encode(f"sc.{size}", rd=5, rs1=LOCK, rs2=6), encode("beq", rs1=5, imm=12), encode("addi", rd=FAILED, rs1=FAILED, imm=1)]
    take += [encode("jal", imm=-24)]
    return looped([*take, *guarded(), encode("fence", pred=3, succ=1), encode("sw" if size == "w" else "sd", rs1=LOCK)])


def lock_of_amoswap(size: str) -> Words:
    take = [encode("addi", rd=6, imm=1), encode(f"amoswap.{size}", rd=5, rs1=LOCK, rs2=6, aq=1), encode("beq", rs1=5, imm=12)]
    take += [encode("addi", rd=FAILED, rs1=FAILED, imm=1), encode("jal", imm=-16)]
    return looped([*take, *guarded(), encode(f"amoswap.{size}", rs1=LOCK, rs2=0, rl=1)])


def random_atomics(rng: random.Random) -> Words:
    """Atomics of all kinds on eight words that overlap by halves, plain stores, and pairs of lr and sc with work between."""
    body = []
    for _ in range(12):
        size, kind = rng.choice("wd"), rng.random()
        offset = rng.randrange(4) * 8 + (rng.choice((0, 4)) if size == "w" else 0)
        body.append(encode("addi", rd=11, rs1=LOCK, imm=offset))
        if kind < 0.5:
            body.append(encode(f"amo{rng.choice(AMOS)}.{size}", rd=5, rs1=11, rs2=rng.choice((19, 20))))
        elif kind < 0.65:
            body.append(encode("s" + size, rs1=11, rs2=rng.choice((19, 20))))
        else:
            body += [encode(f"lr.{size}", rd=6, rs1=11), encode("add", rd=6, rs1=6, rs2=19)]
            body += [encode("sub", rd=20, rs1=20, rs2=6)] * rng.randrange(4)
            body += [encode(f"sc.{size}", rd=7, rs1=11, rs2=6), encode("add", rd=FAILED, rs1=FAILED, rs2=7)]
        body += [encode("xor", rd=20, rs1=20, rs2=5), encode("addi", rd=19, rs1=19, imm=rng.randrange(-99, 99))]
    return looped(body)


def finished(words: Words, quantum: int, make: Callable[..., Hart] = Hart, ram: Ram | None = None) -> tuple[list[dict[str, Any]], bytes]:
    """All harts run the program to its end: the registers of each, and the shared memory."""
    ram = ram or Ram(MEMORY)
    harts = Harts(Bus(ram, BASE), COUNT, make=make, quantum=quantum)
    for n, word in enumerate(words):
        harts.bus.write(BASE + 4 * n, 4, word)
    for n, hart in enumerate(harts.each):
        hart.reset(BASE)
        for register, value in ((LOCK, SHARED), (LEFT, ROUNDS), (FAILED, 0), (19, 0x1234_5678_9ABC_DEF1 * (n + 3)), (20, ~n)):
            hart.cpu[at.X + register] = value & (1 << 64) - 1
    assert harts.run(3_000_000) == IDLE, "it did not end"
    registers = [{"x": hart.cpu[at.X : at.X + 32].tolist(), "instret": hart.cpu[at.INSTRET]} for hart in harts.each]
    return registers, bytes(ram.mem[SHARED - BASE : SHARED - BASE + 256])


def on(tier: str, words: Words, quantum: int) -> tuple[list[dict[str, Any]], bytes]:
    ram = Ram(MEMORY)
    tiers = Tiers(ram, background=False, **TIERS[tier])
    try:
        found = finished(words, quantum, partial(NativeHart, tiers=tiers), ram)
        assert bool(tiers.compiled) == (tier in ("regions", "all")) and bool(tiers.baseline) == (tier in ("baseline", "all"))
        return found
    finally:
        tiers.close()


@pytest.mark.parametrize("lock", [lock_of_lr_sc, lock_of_amoswap])
@pytest.mark.parametrize("size", ["w", "d"])
@pytest.mark.parametrize("quantum", [5, 64])
def test_locks(lock: Callable[[str], Words], size: str, quantum: int) -> None:
    """Nothing is counted twice or lost, though the lock was contended; every tier does it alike."""
    words = lock(size)
    expected = finished(words, quantum)
    registers, memory = expected
    assert [int.from_bytes(memory[n : n + 8], "little") for n in (0, 64, 128, 192)] == [0, *[COUNT * ROUNDS] * 3]
    if lock is lock_of_amoswap or quantum == 5:
        assert sum(each["x"][FAILED] for each in registers) > 0
    for tier in TIERS:
        assert on(tier, words, quantum) == expected, tier


@pytest.mark.parametrize("seed", range(6))
def test_random_atomics(seed: int) -> None:
    """All kinds at once, on words that the harts share, in turns so short that they end between lr and sc."""
    rng = random.Random(seed)
    words, quantum = random_atomics(rng), rng.choice((3, 7, 50))
    expected = finished(words, quantum)
    assert sum(each["x"][FAILED] for each in expected[0]) > 0
    for tier in TIERS:
        assert on(tier, words, quantum) == expected, tier
