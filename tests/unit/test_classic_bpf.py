"""Classic BPF: what the checker accepts always ends in a value; what it refuses, and what instructions mean."""

from __future__ import annotations

import random

import pytest

from trapline.abi import seccomp as b
from trapline.abi.errno import EINVAL
from trapline.kernel.bpf import classic

WORDS = 16
ALLOW = (b.BPF_RET | b.BPF_K, 0, 0, 7)
CODES = (
    b.BPF_LD | b.BPF_ABS, b.BPF_LD | b.BPF_IMM, b.BPF_LD | b.BPF_MEM, b.BPF_LD | b.BPF_LEN, b.BPF_LDX | b.BPF_IMM,
    b.BPF_LDX | b.BPF_MEM, b.BPF_LDX | b.BPF_LEN, b.BPF_ST, b.BPF_STX, b.BPF_MISC | b.BPF_TAX, b.BPF_MISC | b.BPF_TXA,
    b.BPF_RET | b.BPF_K, b.BPF_RET | b.BPF_A, b.BPF_JMP | b.BPF_JA, b.BPF_ALU | b.BPF_NEG,
    *(b.BPF_ALU | op | x for op in range(0, 0x80, 0x10) for x in (0, b.BPF_X)),
    *(b.BPF_JMP | op | x for op in (b.BPF_JEQ, b.BPF_JGT, b.BPF_JGE, b.BPF_JSET) for x in (0, b.BPF_X)),
)  # fmt: skip


def run(*program: tuple[int, int, int, int], data: tuple[int, ...] = tuple(range(100, 116))) -> int:
    classic.check(program, WORDS)
    return classic.run(program, data, 64)


@pytest.mark.parametrize(
    ("operation", "a", "k", "want"),
    [
        (b.BPF_ADD, 0xFFFFFFFF, 2, 1), (b.BPF_SUB, 1, 2, 0xFFFFFFFF), (b.BPF_MUL, 0x10000, 0x10001, 0x10000),
        (b.BPF_DIV, 0xFFFFFFFF, 2, 0x7FFFFFFF), (b.BPF_OR, 5, 2, 7), (b.BPF_AND, 7, 5, 5), (b.BPF_XOR, 7, 5, 2),
        (b.BPF_LSH, 0x80000001, 1, 2), (b.BPF_RSH, 0x80000000, 31, 1),
    ],
)  # fmt: skip
def test_arithmetic_is_of_32_bits(operation: int, a: int, k: int, want: int) -> None:
    load, done = (b.BPF_LD | b.BPF_IMM, 0, 0, a), (b.BPF_RET | b.BPF_A, 0, 0, 0)
    assert run(load, (b.BPF_ALU | operation, 0, 0, k), done) == want
    assert run(load, (b.BPF_LDX | b.BPF_IMM, 0, 0, k), (b.BPF_ALU | operation | b.BPF_X, 0, 0, 0), done) == want


def test_division_by_zero_returns_zero() -> None:
    assert run((b.BPF_LD | b.BPF_IMM, 0, 0, 9), (b.BPF_ALU | b.BPF_DIV | b.BPF_X, 0, 0, 0), ALLOW) == 0


def test_negation_and_lengths() -> None:
    done = (b.BPF_RET | b.BPF_A, 0, 0, 0)
    assert run((b.BPF_LD | b.BPF_LEN, 0, 0, 0), (b.BPF_ALU | b.BPF_NEG, 0, 0, 0), done) == 0x100000000 - 64
    assert run((b.BPF_LDX | b.BPF_LEN, 0, 0, 0), (b.BPF_MISC | b.BPF_TXA, 0, 0, 0), done) == 64


@pytest.mark.parametrize("x", [0, b.BPF_X])
def test_jumps_compare_unsigned(x: int) -> None:
    high = (b.BPF_LD | b.BPF_IMM, 0, 0, 0xFFFFFFFF)
    index = (b.BPF_LDX | b.BPF_IMM, 0, 0, 1)
    jump = (b.BPF_JMP | b.BPF_JGT | x, 1, 0, 1)
    assert run(high, index, jump, (b.BPF_RET, 0, 0, 1), (b.BPF_RET, 0, 0, 2)) == 2


def test_memory_that_only_one_way_wrote_may_not_be_read() -> None:
    branch = (b.BPF_JMP | b.BPF_JEQ, 0, 1, 5)
    store, load = (b.BPF_ST, 0, 0, 3), (b.BPF_LD | b.BPF_MEM, 0, 0, 3)
    with pytest.raises(EINVAL):
        classic.check((branch, store, load, ALLOW), WORDS)
    classic.check((store, branch, store, load, ALLOW), WORDS)


def test_whatever_the_checker_accepts_ends() -> None:
    rng = random.Random(1)
    accepted = 0
    for _ in range(20_000):
        size = rng.randrange(1, 9)
        program = [
            (rng.choice(CODES), rng.randrange(4), rng.randrange(4), rng.choice((0, 1, 4, 8, 15, 31, 0xFFFFFFFF)))
            for _ in range(size)
        ]
        program.append((b.BPF_RET | b.BPF_A, 0, 0, 0))
        try:
            classic.check(program, WORDS)
        except EINVAL:
            continue
        accepted += 1
        assert 0 <= classic.run(program, [rng.getrandbits(32) for _ in range(WORDS)], 64) <= classic.MASK
    assert accepted > 1000
