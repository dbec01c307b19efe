"""The tiers of the RISC-V machine agree: reference = interpreter = baseline = regions, to the bit, after every budget.

Random programs of every instruction that is not the hart's own business run on a reference hart and on native ones, in pieces of
random budgets; registers, flags, memory, counters and traps are compared after each piece.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.isa.declare import OPS, Op
from trapline.machine.riscv.isa.decode import decode, encode, length
from trapline.machine.riscv.jit import baseline as bl
from trapline.machine.riscv.jit.native import NativeHart
from trapline.machine.riscv.trap import BREAKPOINT, ECALL_M, ILLEGAL

try:
    from trapline.machine.riscv.jit.tiers import Tiers
except ImportError:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

CODE, DATA, SIZE = 0x10000, 0x20000, 4 << 20
LENGTH = 40  #: instructions of a random program
COUNTER, POINTERS = 31, (2, 8, 9)  #: registers that random instructions leave alone
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x8000_0000, 1 << 63, (1 << 63) - 1, (1 << 64) - 1)
FLOATS = (
    0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0x7FF0_0000_0000_0001, 1, 0x000F_FFFF_FFFF_FFFF,
    0x7FEF_FFFF_FFFF_FFFF, 0x41DF_FFFF_FFC0_0000, 0x43E0_0000_0000_0000, 0x3FDF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_3F80_0000,
    0xFFFF_FFFF_7F80_0001, 0xFFFF_FFFF_7FC0_0000, 0xFFFF_FFFF_0000_0001, 0xFFFF_FFFF_7F7F_FFFF, 0xFFFF_FFFF_BF00_0000,
)  # fmt: skip
STATE = ((at.X, 32), (at.PC, 1), (at.F, 32), (at.FRM, 1), (at.FFLAGS, 1), (at.INSTRET, 1))
JUMPS = {op.name for op in OPS if op.name.startswith(("b", "c.b")) and "target" in op.operands} | {"jal", "jalr", "c.j", "c.jr", "c.jalr"}
USABLE = [op for op in OPS if not op.system and op.name not in JUMPS]
MEMORY = [op for op in USABLE if "(rs1)" in op.operands]


def instruction(rng: random.Random, op: Op) -> bytes:
    """The bits of `op` with random operands; memory is reached through a pointer, and pointers are not overwritten."""
    free = [n for n in range(32) if n != COUNTER and n not in POINTERS]
    while True:
        raw = op.match
        for each in op.fields:
            width = max(target + mask.bit_length() for _, mask, target in each.pieces)
            value = rng.getrandbits(width)
            if each.name == "rd":
                value = rng.choice(free) & ((1 << width) - 1)
            elif each.name == "rs1" and op in MEMORY:
                value = rng.choice(POINTERS)
                value = value - 8 if each.bias else value
            elif each.name == "rm":
                value = rng.choice((0, 1, 2, 3, 4, 7, 7, 7, 7, 5))
            elif each.name == "imm" and op in MEMORY and rng.random() < 0.8:
                value &= -8
            for source, mask, target in each.pieces:
                raw |= (value >> target & mask) << source
        fields = {each.name: each.get(raw) for each in op.fields}
        written = fields.get("rd", op.implied.get("rd", 0))
        if any(each.nonzero and not fields[each.name] for each in op.fields) or written in (COUNTER, *POINTERS):
            if "rd" not in fields:
                return b"\x01\x00"  # it always writes one of ours: a c.nop instead
            continue
        return raw.to_bytes(op.length, "little")


def program(rng: random.Random) -> bytes:
    """A loop of random instructions, with branches forward."""
    body: list[bytes] = []
    for _ in range(LENGTH):
        kind = rng.random()
        if kind < 0.08:
            name = rng.choice(("beq", "bne", "blt", "bge", "bltu", "bgeu"))
            skipped = rng.choice(USABLE)
            over = instruction(rng, skipped)
            body.append(encode(name, rs1=rng.randrange(32), rs2=rng.randrange(32), imm=4 + len(over)).to_bytes(4, "little"))
            body.append(over)
        else:
            body.append(instruction(rng, rng.choice(MEMORY if kind < 0.25 else USABLE)))
    return looped(body)


def looped(body: list[bytes]) -> bytes:
    """These instructions, COUNTER times, and then an ecall."""
    text = b"".join(body)
    text += encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1).to_bytes(4, "little")
    back = -len(text)
    text += encode("bne", rs1=COUNTER, rs2=0, imm=back).to_bytes(4, "little")
    return text + encode("ecall").to_bytes(4, "little")


def prepare(hart: Hart, text: bytes, seed: int) -> None:
    rng = random.Random(seed)
    hart.reset(CODE)
    cpu = hart.cpu
    cpu[at.MSTATUS] |= rng.choice((st.FS, st.FS, st.FS, 1 << 13, 0))
    cpu[at.FRM], cpu[at.FFLAGS], cpu[at.INSTRET] = rng.choice((0, 0, 0, 1, 2, 3, 4, 6)), 0, 0
    for n in range(1, 32):
        cpu[at.X + n] = rng.choice((rng.choice(INTERESTING), rng.getrandbits(64), rng.getrandbits(12)))
    for n in range(32):
        cpu[at.F + n] = rng.choice((rng.choice(FLOATS), rng.getrandbits(64), rng.getrandbits(32) | 0xFFFF_FFFF << 32))
    for n in POINTERS:
        cpu[at.X + n] = DATA + rng.randrange(8) * 0x1000 + 0x800
    cpu[at.X + COUNTER] = 12
    ram = hart.bus.ram
    ram.mem[:CODE] = bytes(CODE)  # where small numbers point to
    ram.mem[CODE : CODE + len(text)] = text
    ram.mem[DATA : DATA + 0x10000] = rng.randbytes(0x10000)

#: How many jumps make a place warm (worth baseline code) and hot (worth a region).
TIERS = {
    "interpreter": {"warm": 0, "hot": 0}, "baseline": {"warm": 2, "hot": 0}, "regions": {"warm": 0, "hot": 3}, "all": {"warm": 2, "hot": 5},
}  # fmt: skip


@pytest.fixture(scope="module")
def harts() -> Iterator[tuple[Hart, dict[str, NativeHart]]]:
    """One reference hart, and native ones for each tier, which makes its code at once, and for all; each has its own RAM."""
    rams = [Ram(SIZE) for _ in range(1 + len(TIERS))]
    tiers = {name: Tiers(ram, background=False, **how) for (name, how), ram in zip(TIERS.items(), rams[1:], strict=True)}
    reference = Hart(Bus(rams[0]), Code(Bus(rams[0])), hosted=True)
    native = {
        name: NativeHart(Bus(ram), Code(Bus(ram)), hosted=True, tiers=each)
        for (name, each), ram in zip(tiers.items(), rams[1:], strict=True)
    }
    yield reference, native
    for each in tiers.values():
        each.close()


def snapshot(hart: Hart) -> list[int]:
    return [value for start, count in STATE for value in hart.cpu[start : start + count]]


def describe(index: int) -> str:
    for start, count in STATE:
        if index < count:
            name = next(name for name, at_word in at.OFFSETS.items() if at_word == start)
            return f"{name}[{index}]"
        index -= count
    return "?"


def agree(harts: tuple[Hart, dict[str, NativeHart]], text: bytes, seed: int, budgets: list[int]) -> None:
    """Run a program on every tier, from the state that `seed` makes, in pieces of these budgets; compare after each."""
    reference, native = harts
    for name, hart in native.items():
        prepare(reference, text, seed)
        prepare(hart, text, seed)
        for piece, budget in enumerate(budgets):
            want, got = reference.run(budget), hart.run(budget)
            expected, found = snapshot(reference), snapshot(hart)
            wrong = [f"{describe(i)}: {b:#x}, not {a:#x}" for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b]
            assert not wrong, f"{name}, seed {seed}, piece {piece}: {wrong}"
            assert got == want, f"{name}, seed {seed}: ended with {got}, not {want}"
            assert reference.bus.ram.mem[DATA : DATA + 0x10000] == hart.bus.ram.mem[DATA : DATA + 0x10000]
            if want == TRAPPED:
                for n in (at.TRAP_CAUSE, at.TRAP_VALUE):
                    assert hart.cpu[n] == reference.cpu[n], f"{name}, seed {seed}: trap {n}"
                if reference.cpu[at.TRAP_CAUSE] == ECALL_M:
                    break
                for each in (reference, hart):  # go on behind what trapped
                    pc = each.cpu[at.PC]
                    each.cpu[at.PC] = pc + length(each.bus.read(pc, 2))


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(harts: tuple[Hart, dict[str, NativeHart]], seed: int) -> None:
    agree(harts, program(random.Random(seed)), seed, [random.Random(~seed).randrange(1, 200) for _ in range(40)])


EXTENSIONS = sorted({op.extension for op in USABLE})
OF_EXTENSION = {name: [op for op in USABLE if op.extension == name] for name in EXTENSIONS}
INSTRUCTIONS = draw.sampled_from(EXTENSIONS).flatmap(
    lambda name: draw.builds(lambda op, rng: instruction(rng, op), draw.sampled_from(OF_EXTENSION[name]), draw.randoms(use_true_random=False))
)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    body=draw.lists(INSTRUCTIONS, min_size=1, max_size=30), seed=draw.integers(0, 1 << 20),
    budgets=draw.lists(draw.integers(1, 150), min_size=1, max_size=6),
)  # fmt: skip
def test_programs_that_shrink(harts: tuple[Hart, dict[str, NativeHart]], body: list[bytes], seed: int, budgets: list[int]) -> None:
    """Loops of instructions of every extension alike; one that fails is reduced to the few instructions and pieces that matter."""
    agree(harts, looped(body), seed, [*budgets, 1000])


def blocks(hart: NativeHart) -> int:
    """Blocks of baseline code made so far."""
    return hart.tiers.baseline.blocks if hart.tiers.baseline is not None else 0


def test_each_tier_makes_its_code(harts: tuple[Hart, dict[str, NativeHart]]) -> None:
    """The comparison above means something only if all tiers ran."""
    _, native = harts
    text = encode("addi", rd=5, rs1=5, imm=1).to_bytes(4, "little")
    text += encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1).to_bytes(4, "little")
    text += encode("bne", rs1=COUNTER, rs2=0, imm=-8).to_bytes(4, "little")
    text += encode("ecall").to_bytes(4, "little")
    for name, hart in native.items():
        prepare(hart, text, 1)
        before = hart.tiers.compiled, blocks(hart)
        assert hart.run(1000) == TRAPPED
        assert hart.tiers.compiled == before[0] + (name in ("regions", "all"))
        assert blocks(hart) == before[1] + (name in ("baseline", "all"))
        assert hart.cpu[at.X + COUNTER] == 0


def test_changed_code_is_decoded_anew(harts: tuple[Hart, dict[str, NativeHart]]) -> None:
    """The kernel puts another program into the same frame, with no fence: the next mapping sees it."""
    _, native = harts
    for hart in native.values():
        for value in (3, 4):
            text = encode("addi", rd=5, rs1=0, imm=value).to_bytes(4, "little")
            text += encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1).to_bytes(4, "little")
            text += encode("bne", rs1=COUNTER, rs2=0, imm=-8).to_bytes(4, "little")
            text += encode("ecall").to_bytes(4, "little")
            prepare(hart, text, 1)
            assert hart.run(1000) == TRAPPED
            assert hart.cpu[at.X + 5] == value


def assemble(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def test_one_region_serves_both_loops(harts: tuple[Hart, dict[str, NativeHart]]) -> None:
    """An outer loop was compiled again, inner loop and all, when it became hot too."""
    hart = harts[1]["regions"]
    text = assemble(
        encode("addi", rd=6, rs1=0, imm=2),
        encode("addi", rd=6, rs1=6, imm=-1),
        encode("bne", rs1=6, rs2=0, imm=-4),
        encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1),
        encode("bne", rs1=COUNTER, rs2=0, imm=-16),
        encode("ecall"),
    )
    prepare(hart, text, 1)
    before = hart.tiers.compiled
    assert hart.run(1000) == TRAPPED and hart.cpu[at.X + COUNTER] == 0
    assert hart.tiers.compiled == before + 1
    assert hart.tiers.page(CODE).entries == {0, 2}


def test_a_place_becomes_hot_again_when_code_elsewhere_has_changed(harts: tuple[Hart, dict[str, NativeHart]]) -> None:
    """A loop whose region was dropped, because a function that it calls had changed, stayed in the interpreter."""
    hart = harts[1]["regions"]
    loop = (
        encode("jal", rd=0, imm=4),
        encode("jal", rd=1, imm=0x1000 - 4),
        encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1),
        encode("bne", rs1=COUNTER, rs2=0, imm=-8),
        encode("ecall"),
    )
    for value in (3, 4):
        function = assemble(encode("addi", rd=5, rs1=0, imm=value), encode("jalr", rd=0, rs1=1))
        prepare(hart, assemble(*loop).ljust(0x1000, b"\0") + function, 1)
        before = hart.tiers.compiled
        assert hart.run(1000) == TRAPPED and hart.cpu[at.X + 5] == value
        assert hart.tiers.compiled == before + 1
        assert 2 in hart.tiers.page(CODE).entries


TRAP_REGISTERS = {priv: [priv << 8 | n for n in (0x40, 0x41, 0x42, 0x43)] for priv in (st.S, st.M)}


@pytest.mark.parametrize("priv", (st.U, st.S, st.M))
def test_trap_registers(harts: tuple[Hart, dict[str, NativeHart]], priv: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the mode and of lower ones are native; those of a higher one are illegal."""
    reference, native = harts
    rng = random.Random(priv)
    numbers = [number for mode, some in TRAP_REGISTERS.items() if mode <= max(priv, st.S) for number in some]
    words = [
        encode(rng.choice(("csrrw", "csrrs", "csrrc")), rd=rng.choice((0, 5, 6)), rs1=rng.choice((0, 5, 6, 7)), csr=rng.choice(numbers))
        for _ in range(100)
    ]
    words += [encode("csrrs", rd=10 + mode, csr=mode << 8) for mode in (st.S, st.M) if mode <= max(priv, st.S)]
    steps: list[int] = []
    plain = NativeHart._step
    monkeypatch.setattr(NativeHart, "_step", lambda hart, left: steps.append(left) or plain(hart, left))
    for hart in native.values():
        for each in (reference, hart):
            prepare(each, assemble(*words, encode("ebreak")), 7)
            each.cpu[at.PMPCFG], each.cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
            each.pmp.update()
            each.enter(priv)
        steps.clear()
        assert reference.run(1000) == hart.run(1000) == TRAPPED
        assert snapshot(reference) == snapshot(hart)
        assert reference.cpu[at.TRAP_CAUSE] == hart.cpu[at.TRAP_CAUSE] == (ILLEGAL if priv == st.U else BREAKPOINT)
        for n in (at.MSCRATCH, at.MEPC, at.MCAUSE, at.MTVAL, at.SSCRATCH, at.SEPC, at.SCAUSE, at.STVAL):
            assert reference.cpu[n] == hart.cpu[n]
        assert len(steps) == (priv == st.U)


def test_one_register_leads_to_two_pages(harts: tuple[Hart, dict[str, NativeHart]]) -> None:
    """Each access of a region is looked up for itself: before and behind the end of a page, and misaligned."""
    reference, native = harts
    text = assemble(
        encode("ld", rd=5, rs1=8, imm=-8),
        encode("ld", rd=6, rs1=8, imm=0),
        encode("sd", rs1=8, rs2=5, imm=8),
        encode("beq", rs1=COUNTER, rs2=0, imm=8),
        encode("sd", rs1=8, rs2=6, imm=-16),
        encode("lw", rd=7, rs1=8, imm=-6),
        encode("ld", rd=10, rs1=8, imm=-4),
        encode("addi", rd=8, rs1=8, imm=8),
        encode("ld", rd=11, rs1=8, imm=-16),
        encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1),
        encode("bne", rs1=COUNTER, rs2=0, imm=-40),
        encode("ecall"),
    )
    for hart in native.values():
        for each in (reference, hart):
            prepare(each, text, 5)
            each.cpu[at.X + 8] = DATA + 0x1000 - 32
        for budget in (7, 50, 1000):
            assert reference.run(budget) == hart.run(budget)
            assert snapshot(reference) == snapshot(hart)
        assert hart.cpu[at.X + COUNTER] == 0
        assert reference.bus.ram.mem[DATA : DATA + 0x10000] == hart.bus.ram.mem[DATA : DATA + 0x10000]


@pytest.mark.parametrize("name", TIERS)
def test_a_program_that_rewrites_itself(harts: tuple[Hart, dict[str, NativeHart]], name: str) -> None:
    """A loop that changes an instruction of its own, behind fence.i: every round executes what the round before wrote."""
    reference, hart = harts[0], harts[1][name]
    text = assemble(
        encode("lw", rd=6, rs1=8, imm=0),  # the instruction to change,
        encode("addi", rd=7, rs1=0, imm=1),
        encode("slli", rd=7, rs1=7, imm=20),
        encode("add", rd=6, rs1=6, rs2=7),  # with 1 more in its immediate,
        encode("sw", rs1=8, rs2=6, imm=0),
        encode("fence.i"),
        encode("addi", rd=5, rs1=5, imm=1),  # is this one
        encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1),
        encode("bne", rs1=COUNTER, rs2=0, imm=-32),
        encode("ecall"),
    )
    for each in (reference, hart):
        prepare(each, text, 3)
        each.cpu[at.X + 5], each.cpu[at.X + 8], each.cpu[at.X + COUNTER] = 0, CODE + 24, 30
    for budget in (13, 1, 100, 1000):
        assert reference.run(budget) == hart.run(budget)
        assert snapshot(reference) == snapshot(hart)
    assert hart.cpu[at.X + 5] == sum(range(2, 32)) and hart.cpu[at.X + COUNTER] == 0


def test_blocks_that_find_no_room_are_made_when_there_is_some(harts: tuple[Hart, dict[str, NativeHart]]) -> None:
    """Baseline code has a bound; when it is reached, everything is forgotten as the next page of code is mapped."""
    reference, hart = harts[0], harts[1]["baseline"]
    baseline = hart.tiers.baseline
    assert baseline is not None
    loop = (encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1), encode("bne", rs1=COUNTER, rs2=0, imm=-4))
    context = baseline._context
    context[bl.LIMIT], kept = context[bl.CURSOR], context[bl.LIMIT]
    for made, text in ((0, assemble(*loop, encode("ecall"))), (1, assemble(encode("addi"), *loop, encode("ecall")))):
        before = baseline.blocks
        for each in (reference, hart):
            prepare(each, text, 3)
        assert reference.run(1000) == hart.run(1000) == TRAPPED
        assert snapshot(reference) == snapshot(hart)
        assert baseline.blocks == before + made and baseline.full is not bool(made)
        context[bl.LIMIT] = kept


def test_what_stencils_leave_is_exact(harts: tuple[Hart, dict[str, NativeHart]]) -> None:
    """Ways out of the middle of a block, and jumps within it, with every budget."""
    reference, hart = harts[0], harts[1]["baseline"]
    text = assemble(
        encode("addi", rd=5, rs1=5, imm=1),
        encode("beq", rs1=5, rs2=6, imm=8),  # forward, within the block
        encode("addi", rd=7, rs1=7, imm=3),
        encode("add", rd=10, rs1=10, rs2=7),
        encode("lw", rd=11, rs1=8, imm=2),  # misaligned
        encode("jal", rd=0, imm=8),
        encode("addi", rd=7, rs1=7, imm=5),
        encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1),
        encode("bne", rs1=COUNTER, rs2=0, imm=-32),
        encode("ecall"),
    )
    for budget in range(1, 24):
        for each in (reference, hart):
            prepare(each, text, 3)
            each.cpu[at.X + 5], each.cpu[at.X + 6] = 0, 6
        ended = -1
        while ended != TRAPPED:
            ended = reference.run(budget)
            assert hart.run(budget) == ended
            assert snapshot(reference) == snapshot(hart)


@pytest.mark.parametrize("first", [0, 1])
def test_blocks_begin_again_behind_what_has_no_stencil(harts: tuple[Hart, dict[str, NativeHart]], first: int) -> None:
    """Straight code behind a system instruction stayed in the interpreter: no jump leads there."""
    reference, hart = harts[0], harts[1]["baseline"]
    words = [encode("addi", rd=5, rs1=5, imm=1)] * first
    words += [encode("csrrw", rd=6, rs1=5, csr=0x340), encode("addi", rd=7, rs1=6, imm=2), encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1)]
    words += [encode("bne", rs1=COUNTER, rs2=0, imm=-4 * len(words)), encode("ecall")]
    for each in (reference, hart):
        prepare(each, assemble(*words), 3)
    before = blocks(hart)
    for budget in (3, 5, 1000):
        assert reference.run(budget) == hart.run(budget)
        assert snapshot(reference) == snapshot(hart) and reference.cpu[at.MSCRATCH] == hart.cpu[at.MSCRATCH]
    assert blocks(hart) == before + 1 + first


BRANCHING = ("beq", "bne", "blt", "bge", "bltu", "bgeu", "jal", "jal", "c.j", "c.beqz", "c.bnez", "jalr")
LINK = 1  #: where calls keep their return address, and nothing else writes


def tangle(rng: random.Random) -> bytes:
    """Instructions with a quarter of jumps, each to any other of them: it need not end."""
    kinds = [rng.choice(BRANCHING) if rng.random() < 0.25 else "" for _ in range(rng.randrange(10, 90))]
    plain = [_plain_instruction(rng) for _ in kinds]
    sizes = [(2 if name.startswith("c.") else 4) if name else len(plain[n]) for n, name in enumerate(kinds)]
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    out = b""
    for n, name in enumerate(kinds):
        distance = rng.choice(starts) - starts[n]
        operands = {"rs1": rng.randrange(3, 31), "rs2": rng.randrange(31), "imm": distance}
        if name == "jalr":
            operands = {"rd": rng.choice((0, 5)), "rs1": LINK}
        elif name == "jal":
            operands = {"rd": rng.choice((0, LINK)), "imm": distance}
        elif name == "c.j":
            operands = {"imm": distance}
        elif name in ("c.beqz", "c.bnez"):
            operands = {"rs1": rng.randrange(8, 16), "imm": max(-256, min(254, distance))}
        out += encode(name, **operands).to_bytes(sizes[n], "little") if name else plain[n]
    return out + encode("jal", rd=0, imm=-len(out)).to_bytes(4, "little")


def _plain_instruction(rng: random.Random) -> bytes:
    while True:
        made = instruction(rng, rng.choice(MEMORY if rng.random() < 0.2 else USABLE))
        found = decode(int.from_bytes(made, "little"))
        if found is not None and found.rd != LINK:
            return made


@pytest.mark.parametrize("seed", range(20))
def test_random_jumps(harts: tuple[Hart, dict[str, NativeHart]], seed: int) -> None:
    """Blocks that overlap, jump into one another and end everywhere; a jump to nowhere traps, and the program starts again."""
    reference, native = harts
    text = tangle(random.Random(seed))
    budgets = [random.Random(~seed).choice((1, 2, 3, 7, 50, 300)) for _ in range(60)]
    for name in ("baseline", "all"):
        hart = native[name]
        for each in (reference, hart):
            prepare(each, text, seed)
            each.cpu[at.X + LINK] = CODE
        for piece, budget in enumerate(budgets):
            want, got = reference.run(budget), hart.run(budget)
            expected, found = snapshot(reference), snapshot(hart)
            wrong = [f"{describe(i)}: {b:#x}, not {a:#x}" for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b]
            assert not wrong and got == want, f"{name}, seed {seed}, piece {piece}: {wrong}"
            if want == TRAPPED:
                assert hart.cpu[at.TRAP_CAUSE] == reference.cpu[at.TRAP_CAUSE]
                for each in (reference, hart):
                    each.cpu[at.PC], each.cpu[at.X + LINK] = CODE, CODE
        assert reference.bus.ram.mem[DATA : DATA + 0x10000] == hart.bus.ram.mem[DATA : DATA + 0x10000]
