"""What regions are planned from: shapes, budgets paid in advance, groups of accesses, loops."""

from __future__ import annotations

import random

import pytest

from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.jit import groups, loops, prepaid
from trapline.machine.riscv.jit.shape import Shape, discover, successors

START = 0x1000


def shape(*words: int, jumped: tuple[int, ...] = ()) -> Shape:
    page = b"".join(word.to_bytes(4, "little") for word in words).ljust(4096, b"\0")
    end = START + 4 * len(words)
    return discover(
        START, lambda va: page if va == START else None, lambda pc: pc < end, lambda va: [START + 4 * n for n in jumped]
    )


def program(rng: random.Random, length: int) -> list[int]:
    """Branches to anywhere, among additions."""
    words = []
    for n in range(length):
        if rng.random() < 0.35:
            words.append(encode("beq", rs1=5, rs2=6, imm=4 * (rng.randrange(length) - n)))
        else:
            words.append(encode("addi", rd=5, rs1=5, imm=1))
    return words


@pytest.mark.parametrize("seed", range(50))
def test_what_is_taken_off_is_used_or_given_back(seed: int) -> None:
    """On a random walk: nobody runs into the red, and every cycle comes to a checkpoint."""
    rng = random.Random(seed)
    blocks = shape(*program(rng, 60)).blocks
    plan = prepaid.plan(blocks, [START])
    at, taken = START, 0
    since = 0
    for _ in range(500):
        if at in plan.checkpoints:
            assert taken == 0
            taken, since = plan.needs[at], 0
        assert taken == plan.needs[at] >= len(blocks[at].body)
        taken -= len(blocks[at].body)
        since += 1
        assert since <= len(blocks)
        ways = [to for to in successors(blocks[at]) if to in blocks]
        if not ways:
            break
        at = rng.choice(ways)
        assert taken >= plan.due(at)
        taken = plan.due(at)


def test_computed_jumps_lead_where_jumps_have_led() -> None:
    add = encode("addi", rd=5, rs1=5, imm=1)
    back = encode("jal", rd=0, imm=-12)
    found = shape(encode("jalr", rd=0, rs1=6), add, encode("jal", rd=0, imm=-8), add, back, jumped=(1, 3))
    assert set(found.blocks) == {START, START + 4, START + 12}
    assert found.computed == [START + 4, START + 12] and not found.returns


def test_returns_lead_behind_calls() -> None:
    add = encode("addi", rd=5, rs1=5, imm=1)
    found = shape(encode("jal", rd=1, imm=12), add, encode("jal", rd=0, imm=-8), add, encode("jalr", rd=0, rs1=1), jumped=(1, 3))
    assert found.returns == [START + 4] and not found.computed


def test_accesses_at_known_distances_are_one_group() -> None:
    found = shape(
        encode("sd", rs1=8, rs2=5, imm=0),
        encode("addi", rd=8, rs1=8, imm=16),
        encode("sd", rs1=8, rs2=5, imm=-8),
        encode("ld", rd=8, rs1=8, imm=0),
        encode("sd", rs1=8, rs2=5, imm=0),
    )
    plan = groups.find(found.blocks[START].body)
    first, second, load, other = (plan[n] for n in (0, 2, 3, 4))
    assert first.group is second.group and (first.group.low, first.group.high, second.offset) == (0, 16, 8)
    assert len({first.group.window, load.group.window, other.group.window}) == 3
    assert load.group.window < groups.KIND_WINDOWS <= first.group.window


def test_steps_of_a_loop() -> None:
    """A pointer that moves by a number, one that moves by a register, one that nobody can follow."""
    found = shape(
        encode("ld", rd=5, rs1=8, imm=0),
        encode("sb", rs1=9, rs2=5, imm=4),
        encode("ld", rd=10, rs1=10, imm=8),
        encode("addi", rd=8, rs1=8, imm=-24),
        encode("add", rd=9, rs1=9, rs2=11),
        encode("bne", rs1=8, rs2=7, imm=-20),
    )
    (loop,) = loops.find(found.blocks)
    assert {(each.register, each.low, each.high, each.step, each.by) for each in loop.reaches} == {(8, 0, 8, -24, 0), (9, 4, 5, 0, 11)}
    assert set(loop.accesses) == {START, START + 4}
    assert loop.shortest == 6 and loop.rounds == min(loops.UNKNOWN_ROUNDS, loops.CHUNK_BYTES // 24)


def test_a_step_that_changes_is_none() -> None:
    found = shape(
        encode("sb", rs1=9, rs2=5, imm=0),
        encode("add", rd=9, rs1=9, rs2=11),
        encode("addi", rd=11, rs1=11, imm=1),
        encode("bne", rs1=9, rs2=7, imm=-12),
    )
    assert not loops.find(found.blocks)


def test_ways_of_different_directions_are_no_step() -> None:
    found = shape(
        encode("sb", rs1=9, rs2=5, imm=0),
        encode("beq", rs1=5, rs2=6, imm=12),
        encode("addi", rd=9, rs1=9, imm=1),
        encode("bne", rs1=9, rs2=7, imm=-12),
        encode("addi", rd=9, rs1=9, imm=-1),
        encode("bne", rs1=9, rs2=7, imm=-20),
    )
    assert not loops.find(found.blocks)


@pytest.mark.parametrize("seed", range(50))
def test_chunk_of_a_loop_has_no_checkpoint_but_its_header(seed: int) -> None:
    """Whoever leaves a chunk at a checkpoint goes to the header's other form, for which nothing has been taken off yet. The order
    in which blocks were found must not make others."""
    rng = random.Random(seed)
    body = [encode("lw", rd=7, rs1=10), encode("addi", rd=10, rs1=10, imm=4)]
    for n in range(8):  # forward branches of all lengths within the round
        body += [encode("beq", rs1=5, rs2=7, imm=4 * rng.randint(1, 2 * (8 - n))), encode("addi", rd=8, rs1=8, imm=1)]
    body.append(encode("bne", rs1=10, rs2=11, imm=-4 * len(body)))
    (loop,) = loops.find(shape(*body).blocks)
    order = list(loop.blocks)
    rng.shuffle(order)
    plan = prepaid.plan({start: loop.blocks[start] for start in order}, [loop.header])
    assert plan.checkpoints == {loop.header}
