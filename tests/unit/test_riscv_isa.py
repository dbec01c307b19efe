"""Instruction declarations: encodings, decoding, and the meaning of what the differential tests cannot reach."""

from __future__ import annotations

import random
import struct

import pytest
from riscv_util import BASE, M64, new_hart, put, random_word, run, tier  # noqa: F401

import riscv_page
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.isa.declare import parse
from trapline.machine.riscv.isa.decode import BY_NAME, OPS, decode, encode
from trapline.machine.riscv.isa.zfa import LITERALS
from trapline.machine.riscv.trap import STORE_PAGE

DATA = BASE + 0x10000


def bits(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_decode_gives_back_what_encode_was_given(op) -> None:
    rng = random.Random(op.name)
    for _ in range(20):
        i = decode(random_word(rng, op))
        assert i is not None
        operands = {field.name: getattr(i, field.name) for field in op.fields}
        if op.name not in ("fence", "fence.i"):  # their register fields have no meaning
            assert decode(encode(op.name, **operands)).op is op
        assert encode(op.name, **operands) == i.raw


def test_overlapping_encodings_are_ordered_by_specificity() -> None:
    for one in OPS:
        for other in OPS:
            if one is not other and one.length == other.length and not (one.match ^ other.match) & one.mask & other.mask:
                assert one.mask != other.mask, (one.name, other.name)


def test_every_word_decodes_or_does_not_without_an_exception() -> None:
    rng = random.Random(1)
    for _ in range(20_000):
        word = rng.getrandbits(32) | 3
        i = decode(word)
        assert i is None or (word & i.op.mask == i.op.match and i.length == 4)


def test_encode_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError):
        encode("addi", rd=1, imm=2048)
    with pytest.raises(ValueError):
        encode("addi", rs3=1)
    with pytest.raises(ValueError):
        parse("half", "0000000 rs2", "", "X", lambda m, i: None)


def test_operands_named_in_assembly_exist() -> None:
    for op in OPS:
        for letter, field in (("fs3", "rs3"), ("csr", "csr"), ("imm", "imm")):
            if letter in op.operands.replace("(", " ").replace(",", " ").split():
                assert any(each.name == field for each in op.fields), op.name


@pytest.mark.parametrize(
    ("name", "a", "b", "result"),
    [
        ("czero.eqz", 7, 0, 0), ("czero.eqz", 7, 1, 7), ("czero.nez", 7, 0, 7), ("czero.nez", 7, 1 << 63, 0),
        ("div", 1 << 63, M64, 1 << 63), ("rem", 1 << 63, M64, 0), ("div", 5, 0, M64), ("rem", 5, 0, 5), ("divu", 5, 0, M64),
        ("divw", 0x8000_0000, M64, 0xFFFF_FFFF_8000_0000), ("remuw", 0xFFFF_FFFF, 0, M64), ("mulhsu", M64, M64, M64),
        ("rol", 1, 65, 2), ("ror", 1, 0, 1), ("rolw", 0x8000_0001, 0, 0xFFFF_FFFF_8000_0001), ("rorw", 1, 1, 0xFFFF_FFFF_8000_0000),
    ],
)  # fmt: skip
def test_register_operation(name: str, a: int, b: int, result: int) -> None:
    hart = new_hart()
    hart.xs[5], hart.xs[6] = a, b
    put(hart, (name, {"rd": 7, "rs1": 5, "rs2": 6}))
    run(hart, 1)
    assert hart.xs[7] == result


def test_jalr_reads_its_base_before_it_writes_the_link_and_clears_bit_0() -> None:
    hart = new_hart()
    hart.xs[1] = BASE + 0x101
    put(hart, ("jalr", {"rd": 1, "rs1": 1, "imm": 4}))
    run(hart, 1)
    assert (hart.cpu[at.PC], hart.xs[1]) == (BASE + 0x104, BASE + 4)


def test_compressed_jump_and_link_returns_behind_two_bytes() -> None:
    hart = new_hart()
    hart.xs[5] = BASE + 0x100
    put(hart, encode("c.jalr", rs1=5))
    run(hart, 1)
    assert (hart.cpu[at.PC], hart.xs[1]) == (BASE + 0x100, BASE + 2)


def test_reservation_lets_one_store_through() -> None:
    hart = new_hart()
    hart.xs[10], hart.xs[11] = DATA, 42
    put(hart, ("lr.d", {"rd": 5, "rs1": 10}), ("sc.d", {"rd": 6, "rs1": 10, "rs2": 11}), ("sc.d", {"rd": 7, "rs1": 10, "rs2": 0}))
    run(hart, 3)
    assert (hart.xs[6], hart.xs[7], hart.bus.read(DATA, 8)) == (0, 1, 42)


def test_reservation_does_not_survive_the_end_of_a_run() -> None:
    hart = new_hart()
    hart.xs[10] = DATA
    put(hart, ("lr.w", {"rd": 5, "rs1": 10}), ("sc.w", {"rd": 6, "rs1": 10, "rs2": 10}))
    run(hart, 1)
    run(hart, 1)
    assert (hart.xs[6], hart.bus.read(DATA, 4)) == (1, 0)


def test_sc_elsewhere_fails() -> None:
    hart = new_hart()
    hart.xs[10], hart.xs[11] = DATA, DATA + 8
    put(hart, ("lr.w", {"rd": 5, "rs1": 10}), ("sc.w", {"rd": 6, "rs1": 11, "rs2": 10}))
    run(hart, 2)
    assert hart.xs[6] == 1


def test_cbo_zero_misses_the_pages_that_it_may_not_write() -> None:
    """It is native, and so are its misses: what a page's protection says must hold for them."""
    hart = new_hart()
    hart.cpu[at.PMPCFG], hart.cpu[at.PMPADDR] = 0x1F, (1 << 54) - 1
    hart.pmp.update()
    table = DATA + 0x4000
    for where in (table, table + 0x1000):
        hart.bus.write(where + 8 * (DATA >> 30 & 511 if where == table else DATA >> 21 & 511), 8, (where + 0x1000 >> 12) << 10 | 1)
    leaves = table + 0x2000 + 8 * (DATA >> 12 & 511)
    code = table + 0x2000 + 8 * (BASE >> 12 & 511)
    hart.bus.write(code, 8, (BASE >> 12) << 10 | 0xCB)
    put(hart, ("cbo.zero", {"rs1": 10}), ("cbo.zero", {"rs1": 10}))
    hart.cpu[at.MENVCFG] |= st.CBZE
    hart.cpu[at.MTVEC] = BASE + 0x100
    hart.xs[10] = DATA + 17
    for flags, cause in ((0xC7, 0), (0xC3, STORE_PAGE), (0, STORE_PAGE)):
        hart.bus.write(leaves, 8, (DATA >> 12) << 10 | flags)
        hart.bus.ram.mem[DATA - BASE : DATA - BASE + 64] = b"\xff" * 64
        hart.cpu[at.MCAUSE] = hart.cpu[at.MTVAL] = 0
        hart.change_space(8 << 60 | table >> 12)
        hart.shoot_down(None, None)
        hart.enter(1)
        run(hart, 2 if not cause else 1, BASE)
        assert (hart.cpu[at.MCAUSE], hart.cpu[at.MTVAL]) == (cause, DATA + 17 if cause else 0)
        assert bytes(hart.bus.ram.mem[DATA - BASE : DATA - BASE + 64]) == (b"\xff" * 64 if cause else bytes(64))


def test_cbo_zero_clears_the_whole_block() -> None:
    hart = new_hart()
    hart.bus.ram.mem[DATA - BASE - 64 : DATA - BASE + 128] = b"\xff" * 192
    hart.xs[10] = DATA + 17
    put(hart, ("cbo.zero", {"rs1": 10}))
    run(hart, 1)
    assert bytes(hart.bus.ram.mem[DATA - BASE - 64 : DATA - BASE + 128]) == b"\xff" * 64 + bytes(64) + b"\xff" * 64


@pytest.mark.parametrize(("size", "name"), [(2, "lhu"), (4, "lwu"), (8, "ld")])
def test_misaligned_loads_and_stores_work_across_pages(size: int, name: str) -> None:
    hart = new_hart()
    hart.xs[10], hart.xs[11] = DATA + 4095, 0x1122_3344_5566_7788
    put(hart, ({2: "sh", 4: "sw", 8: "sd"}[size], {"rs1": 10, "rs2": 11}), (name, {"rd": 12, "rs1": 10}))
    run(hart, 2)
    assert hart.xs[12] == 0x1122_3344_5566_7788 & (1 << 8 * size) - 1


# ---- Zfa


def fp_hart():
    hart = new_hart()
    hart.cpu[at.MSTATUS] |= st.FS
    return hart


@pytest.mark.parametrize("n", range(32))
def test_fli_loads_the_literal(n: int) -> None:
    hart = fp_hart()
    put(hart, ("fli.d", {"rd": 1, "rs1": n}), ("fli.s", {"rd": 2, "rs1": n}))
    run(hart, 2)
    special = {"min": 2.0**-1022, "inf": float("inf")}
    literal = LITERALS[n]
    if literal == "nan":
        assert (hart.fs[1], hart.fs[2]) == (0x7FF8 << 48, 0xFFFF_FFFF_7FC0_0000)
        return
    value = special[literal] if isinstance(literal, str) else literal
    assert hart.fs[1] == bits(value)
    single = 2.0**-126 if literal == "min" else value
    assert struct.pack("<Q", hart.fs[2])[:4] == struct.pack("<f", single)


@pytest.mark.parametrize(
    ("value", "mode", "rounded", "inexact"),
    [(2.5, 0, 2.0, 1), (2.5, 4, 3.0, 1), (-0.5, 0, -0.0, 1), (-0.5, 2, -1.0, 1), (0.1, 3, 1.0, 1), (3.0, 1, 3.0, 0), (1e300, 0, 1e300, 0)],
)
def test_fround_rounds_to_integral_values(value: float, mode: int, rounded: float, inexact: int) -> None:
    hart = fp_hart()
    hart.fs[1] = bits(value)
    put(hart, ("fround.d", {"rd": 2, "rs1": 1, "rm": mode}), ("froundnx.d", {"rd": 3, "rs1": 1, "rm": mode}))
    run(hart, 1)
    assert (hart.fs[2], hart.cpu[at.FFLAGS]) == (bits(rounded), 0)
    run(hart, 1)
    assert (hart.fs[3], hart.cpu[at.FFLAGS]) == (bits(rounded), inexact)


@pytest.mark.parametrize(
    ("value", "result", "flags"),
    [(1.75, 1, 1), (-1.0, M64, 0), (2.0**32 + 5, 5, 16), (-(2.0**31) - 1, 0x7FFF_FFFF, 16), (float("inf"), 0, 16), (float("nan"), 0, 16)],
)
def test_fcvtmod_wraps_where_fcvt_saturates(value: float, result: int, flags: int) -> None:
    hart = fp_hart()
    hart.fs[1] = bits(value)
    put(hart, ("fcvtmod.w.d", {"rd": 5, "rs1": 1}))
    run(hart, 1)
    assert (hart.xs[5], hart.cpu[at.FFLAGS]) == (result, flags)


def test_minimum_and_quiet_comparison_with_a_nan() -> None:
    hart = fp_hart()
    hart.fs[1], hart.fs[2] = bits(1.0), 0x7FF8 << 48
    operands = {"rs1": 1, "rs2": 2}
    put(hart, *((name, {"rd": n, **operands}) for n, name in ((3, "fminm.d"), (4, "fmin.d"), (5, "fltq.d"), (5, "flt.d"))))
    run(hart, 3)
    assert (hart.fs[3], hart.fs[4], hart.xs[5], hart.cpu[at.FFLAGS]) == (0x7FF8 << 48, bits(1.0), 0, 0)
    run(hart, 1)
    assert hart.cpu[at.FFLAGS] == 16


def test_single_without_its_box_is_the_canonical_nan() -> None:
    hart = fp_hart()
    hart.fs[1], hart.fs[2] = 0x3F80_0000, 0xFFFF_FFFF_3F80_0000
    put(hart, ("fadd.s", {"rd": 3, "rs1": 1, "rs2": 2}), ("fsw", {"rs1": 10, "rs2": 1}))
    hart.xs[10] = DATA
    run(hart, 2)
    assert (hart.fs[3], hart.bus.read(DATA, 4)) == (0xFFFF_FFFF_7FC0_0000, 0x3F80_0000)


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(OPS)


def test_page_of_instructions_has_each_once_and_is_current() -> None:
    lines = riscv_page.page().splitlines()
    for op in OPS:
        assert sum(line.startswith((f"| `{op.name} ", f"| `{op.name}`")) for line in lines) == 1
    assert riscv_page.PAGE.read_text() == riscv_page.page(), "run tools/riscv_page.py"
