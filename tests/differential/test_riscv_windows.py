"""Regions reach memory through windows, and loops through chunks: the reference tier is the judge, to the bit, after every budget.

Random loops run in user mode over a range of pages that lie in RAM partly one after the other, partly scattered; some may only be
read, some are not there. Between the pieces pages come and go, with the fence that the architecture asks for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from trapline.machine.paging.entry import SV39
from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.jit.native import NativeHart
from trapline.machine.riscv.trap import ECALL_U

try:
    from trapline.machine.riscv.jit.tiers import Tiers
except ImportError:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

SIZE = 4 << 20
CODE = 0x10000
VIRTUAL, PAGES = 0x200000, 24  #: the data
FRAMES = 0x100  #: the first frame of the data
ROOT, MIDDLE, LEAVES, CODE_LEAVES = 0x3000, 0x4000, 0x5000, 0x6000  #: page tables
POINTERS = (8, 9, 10, 11)
STEPS = (12, 13)  #: registers that hold steps
ROUNDS = 31
FULL = SV39.present | SV39.user | SV39.accessed
STATE = ((at.X, 32), (at.PC, 1), (at.INSTRET, 1))
_SIZES = {"lb": 1, "lbu": 1, "lh": 2, "lw": 4, "lwu": 4, "ld": 8, "sb": 1, "sh": 2, "sw": 4, "sd": 8}


def assemble(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def body(rng: random.Random) -> list[int]:
    """A round of a loop: accesses, steps, and perhaps a branch over some of them."""
    words: list[int] = []
    for pointer in rng.sample(POINTERS, rng.randrange(1, 5)):
        for _ in range(rng.randrange(1, 4)):
            name = rng.choice(list(_SIZES))
            offset = rng.choice((0, 0, 8, 16, -8, 3, 64, -2048, 2040)) // rng.choice((1, 1, 1, 2))
            if name[0] == "l":
                words.append(encode(name, rd=rng.randrange(18, 24), rs1=pointer, imm=offset))
            else:
                words.append(encode(name, rs1=pointer, rs2=rng.randrange(16, 26), imm=offset))
        kind = rng.random()
        if kind < 0.6:
            words.append(encode("addi", rd=pointer, rs1=pointer, imm=rng.choice((1, 2, 4, 8, 8, 16, -8, -8, -40, -1, 24, 100, 3))))
        elif kind < 0.8:
            words.append(encode("add", rd=pointer, rs1=pointer, rs2=rng.choice(STEPS)))
        elif kind < 0.85:
            words.append(encode("ld", rd=pointer, rs1=pointer, imm=0))
        if rng.random() < 0.3:
            words.append(encode("andi", rd=17, rs1=ROUNDS, imm=rng.choice((1, 3))))
            words.append(encode("beq", rs1=17, rs2=0, imm=8))
            words.append(encode("addi", rd=rng.choice((18, pointer)), rs1=rng.choice((19, pointer)), imm=8))
    return words


def program(rng: random.Random) -> bytes:
    words = body(rng)
    words += [encode("addi", rd=16, rs1=16, imm=1), encode("xor", rd=24, rs1=24, rs2=20)]
    words.append(encode("addi", rd=ROUNDS, rs1=ROUNDS, imm=-1))
    words.append(encode("bne", rs1=ROUNDS, rs2=0, imm=-4 * len(words)))
    return assemble(*words, encode("ecall"))


class Machine:
    """A hart in user mode, and its page tables."""

    def __init__(self, hart: Hart) -> None:
        self.hart = hart
        self.words = hart.bus.ram.words

    def start(self, text: bytes, seed: int) -> None:
        hart, words = self.hart, self.words
        rng = random.Random(seed)
        mem = hart.bus.ram.mem
        mem[:] = bytes(SIZE)
        mem[CODE : CODE + len(text)] = text
        mem[FRAMES << 12 : FRAMES + 2 * PAGES << 12] = rng.randbytes(2 * PAGES << 12)
        hart.reset(CODE)
        words[ROOT >> 3] = MIDDLE >> 12 << 10 | SV39.present
        words[MIDDLE >> 3], words[(MIDDLE >> 3) + 1] = CODE_LEAVES >> 12 << 10 | SV39.present, LEAVES >> 12 << 10 | SV39.present
        words[(CODE_LEAVES >> 3) + (CODE >> 12)] = CODE >> 12 << 10 | FULL | SV39.read | SV39.execute
        frame = FRAMES
        for page in range(PAGES):
            frame += rng.choice((1, 1, 1, 1, 2, 3))
            self.put(page, frame if rng.random() < 0.9 else 0, write=rng.random() < 0.9)
        cpu = hart.cpu
        cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
        hart.pmp.update()
        hart.change_space(st.SV39_MODE << st.MODE_SHIFT | ROOT >> 12)
        hart.shoot_down(None, None)
        hart.enter(st.U)
        cpu[at.INSTRET] = 0
        for n in range(1, 32):
            cpu[at.X + n] = rng.getrandbits(64)
        for n in POINTERS:
            cpu[at.X + n] = VIRTUAL + rng.randrange(PAGES << 12) & rng.choice((-1, -8, -8, -8))
        for n in STEPS:
            cpu[at.X + n] = rng.choice((0, 1, 8, 8, 40, 4096, 1 << 40, 1 << 58, (1 << 64) - 8))
        cpu[at.X + ROUNDS] = rng.choice((5, 40, 300, 700))

    def put(self, page: int, frame: int, *, write: bool = True) -> None:
        """Map a page of the data to a frame; 0: take it away."""
        bits = FULL | SV39.read | (SV39.write | SV39.dirty if write else 0)
        self.words[(LEAVES >> 3) + page] = frame << 10 | bits if frame else 0

    def state(self) -> list[int]:
        return [value for start, count in STATE for value in self.hart.cpu[start : start + count]]


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    rams = [Ram(SIZE) for _ in range(2)]
    tiers = Tiers(rams[1], background=False, hot=3)
    native = NativeHart(Bus(rams[1]), Code(Bus(rams[1])), hosted=True, tiers=tiers)
    yield Machine(Hart(Bus(rams[0]), Code(Bus(rams[0])), hosted=True)), Machine(native)
    tiers.close()


def resolve(machines: tuple[Machine, Machine], rng: random.Random) -> None:
    """After a fault: put the page where the next frame is, or leave the accesses out by going on behind them."""
    hart = machines[0].hart
    page = hart.cpu[at.TRAP_VALUE] - VIRTUAL >> 12
    if 0 <= page < PAGES and rng.random() < 0.9:
        change(machines, page, FRAMES + rng.randrange(1, 2 * PAGES))
    else:
        for each in machines:
            each.hart.cpu[at.PC] += 4


def change(machines: tuple[Machine, Machine], page: int, frame: int) -> None:
    for each in machines:
        each.put(page, frame)
        each.hart.shoot_down(VIRTUAL + (page << 12), None)


@pytest.mark.parametrize("seed", range(100))
def test_random_loops(machines: tuple[Machine, Machine], seed: int) -> None:
    rng = random.Random(~seed)
    text = program(random.Random(seed))
    for each in machines:
        each.start(text, seed)
    reference, native = machines
    for piece in range(60):
        budget = rng.choice((rng.randrange(1, 60), rng.randrange(500), 2000))
        want, got = reference.hart.run(budget), native.hart.run(budget)
        assert native.state() == reference.state(), f"piece {piece}"
        assert got == want
        assert native.hart.bus.ram.mem[FRAMES << 12 : FRAMES + 2 * PAGES << 12] == (
            reference.hart.bus.ram.mem[FRAMES << 12 : FRAMES + 2 * PAGES << 12]
        ), f"piece {piece}"
        if want == TRAPPED:
            for n in (at.TRAP_CAUSE, at.TRAP_VALUE):
                assert native.hart.cpu[n] == reference.hart.cpu[n]
            if reference.hart.cpu[at.TRAP_CAUSE] == ECALL_U:
                break
            resolve(machines, rng)
        elif rng.random() < 0.3:
            change(machines, rng.randrange(PAGES), rng.choice((0, FRAMES + rng.randrange(1, 2 * PAGES))))


@pytest.mark.parametrize("step", (1, -1, 8, -8, 24, -24, 4000, -4000))
def test_loops_cross_runs(machines: tuple[Machine, Machine], step: int) -> None:
    """A copy through scattered pages, up and down: every chunk ends where its run does."""
    up = step > 0
    text = assemble(
        encode("ld", rd=20, rs1=8, imm=-8),
        encode("sd", rs1=9, rs2=20, imm=0),
        encode("addi", rd=8, rs1=8, imm=0 if abs(step) > 2000 else step),
        encode("addi", rd=9, rs1=9, imm=step // 2),
        encode("add", rd=8, rs1=8, rs2=12) if abs(step) > 2000 else encode("addi", rd=0, rs1=0, imm=0),
        encode("addi", rd=ROUNDS, rs1=ROUNDS, imm=-1),
        encode("bne", rs1=ROUNDS, rs2=0, imm=-24),
        encode("ecall"),
    )
    rounds = min(3000, (PAGES - 1 << 12) // abs(step))
    for each in machines:
        each.start(text, 3)
        rng = random.Random(step)
        for page in range(PAGES):
            each.put(page, FRAMES + page if page % 4 else FRAMES + PAGES + page + rng.randrange(2))
        each.hart.shoot_down(None, None)
        cpu = each.hart.cpu
        cpu[at.X + 8] = cpu[at.X + 9] = VIRTUAL + (16 if up else (PAGES << 12) - 16)
        cpu[at.X + 12], cpu[at.X + ROUNDS] = step & st.MASK, rounds
    reference, native = machines
    before = native.hart.tiers.compiled
    while reference.hart.cpu[at.X + ROUNDS]:
        budget = rng.randrange(1, 3000)
        assert reference.hart.run(budget) == native.hart.run(budget)
        assert native.state() == reference.state()
    assert native.hart.bus.ram.mem[FRAMES << 12 :] == reference.hart.bus.ram.mem[FRAMES << 12 :]
    assert native.hart.tiers.compiled > before
