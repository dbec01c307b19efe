"""Zfa: additional floating-point instructions (volume I, "Zfa Extension for Additional Floating-Point Instructions")."""

from __future__ import annotations

from fractions import Fraction

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zfa", fp=True)

#: What fli loads, by the number in its rs1 field: values, or how the table of the manual names those that are none.
LITERALS: tuple[Fraction | str, ...] = (
    Fraction(-1), "min", Fraction(1, 1 << 16), Fraction(1, 1 << 15), Fraction(1, 256), Fraction(1, 128), Fraction(1, 16),
    Fraction(1, 8), Fraction(1, 4), Fraction(5, 16), Fraction(3, 8), Fraction(7, 16), Fraction(1, 2), Fraction(5, 8),
    Fraction(3, 4), Fraction(7, 8), Fraction(1), Fraction(5, 4), Fraction(3, 2), Fraction(7, 4), Fraction(2), Fraction(5, 2),
    Fraction(3), Fraction(4), Fraction(8), Fraction(16), Fraction(128), Fraction(256), Fraction(1 << 15), Fraction(1 << 16),
    "inf", "nan",
)  # fmt: skip


def pattern(literal: Fraction | str, bits: int) -> int:
    """The bit pattern of a literal; each is a normal number of at most three significant bits, or named."""
    fraction, top = (23, 0xFF) if bits == 32 else (52, 0x7FF)
    if isinstance(literal, str):
        return {"min": 1 << fraction, "inf": top << fraction, "nan": top << fraction | 1 << (fraction - 1)}[literal]
    value, exponent = abs(literal), 0
    while value >= 2:
        value, exponent = value / 2, exponent + 1
    while value < 1:
        value, exponent = value * 2, exponent - 1
    sign = 1 << (bits - 1) if literal < 0 else 0
    return sign | (exponent + (top >> 1)) << fraction | int((value - 1) * (1 << fraction))


_PATTERNS = {bits: tuple(pattern(each, bits) for each in LITERALS) for bits in (32, 64)}


def declare(bits: int, fmt: str, s: str) -> None:
    """The instructions that both precisions have."""

    @op(f"11110{fmt} 00001 rs1 000 rd 1010011", "fd, literal", mnemonic=f"fli.{s}")
    def fli(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, _PATTERNS[bits][i.rs1], bits)

    @op(f"00101{fmt} rs2 rs1 010 rd 1010011", "fd, fs1, fs2", mnemonic=f"fminm.{s}")
    def fminm(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fminm(m.f(i.rs1, bits), m.f(i.rs2, bits), bits), bits)

    @op(f"00101{fmt} rs2 rs1 011 rd 1010011", "fd, fs1, fs2", mnemonic=f"fmaxm.{s}")
    def fmaxm(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fmaxm(m.f(i.rs1, bits), m.f(i.rs2, bits), bits), bits)

    @op(f"01000{fmt} 00100 rs1 rm rd 1010011", "fd, fs1, rm", mnemonic=f"fround.{s}")
    def fround(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fround(m.f(i.rs1, bits), bits, i.rm, exact=False), bits)

    @op(f"01000{fmt} 00101 rs1 rm rd 1010011", "fd, fs1, rm", mnemonic=f"froundnx.{s}")
    def froundnx(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fround(m.f(i.rs1, bits), bits, i.rm, exact=True), bits)

    @op(f"10100{fmt} rs2 rs1 100 rd 1010011", "rd, fs1, fs2", mnemonic=f"fleq.{s}")
    def fleq(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.fleq(m.f(i.rs1, bits), m.f(i.rs2, bits), bits))

    @op(f"10100{fmt} rs2 rs1 101 rd 1010011", "rd, fs1, fs2", mnemonic=f"fltq.{s}")
    def fltq(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.fltq(m.f(i.rs1, bits), m.f(i.rs2, bits), bits))


declare(32, "00", "s")
declare(64, "01", "d")


@op("1100001 01000 rs1 001 rd 1010011", "rd, fs1, rtz")
def fcvtmod_w_d(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.f_to_int_modular(m.f(i.rs1, 64), 1))
