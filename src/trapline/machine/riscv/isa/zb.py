"""Zba, Zbb and Zbs: address generation, basic bit manipulation, single bits (volume I, "B Extension for Bit Manipulation")."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Value, Vocabulary

zba = extension("Zba")
zbb = extension("Zbb")
zbs = extension("Zbs")

# ---- Zba: shifted addends


@zba("0000100 rs2 rs1 000 rd 0111011", "rd, rs1, rs2", mnemonic="add.uw")
def add_uw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.zx(m.x(i.rs1), 32) + m.x(i.rs2))


@zba("0010000 rs2 rs1 010 rd 0110011", "rd, rs1, rs2")
def sh1add(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) * 2 + m.x(i.rs2))


@zba("0010000 rs2 rs1 100 rd 0110011", "rd, rs1, rs2")
def sh2add(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) * 4 + m.x(i.rs2))


@zba("0010000 rs2 rs1 110 rd 0110011", "rd, rs1, rs2")
def sh3add(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) * 8 + m.x(i.rs2))


@zba("0010000 rs2 rs1 010 rd 0111011", "rd, rs1, rs2")
def sh1add_uw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.zx(m.x(i.rs1), 32) * 2 + m.x(i.rs2))


@zba("0010000 rs2 rs1 100 rd 0111011", "rd, rs1, rs2")
def sh2add_uw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.zx(m.x(i.rs1), 32) * 4 + m.x(i.rs2))


@zba("0010000 rs2 rs1 110 rd 0111011", "rd, rs1, rs2")
def sh3add_uw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.zx(m.x(i.rs1), 32) * 8 + m.x(i.rs2))


@zba("000010 uimm[5:0] rs1 001 rd 0011011", "rd, rs1, hex")
def slli_uw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sll(m.zx(m.x(i.rs1), 32), i.imm))


# ---- Zbb: logic with negation


@zbb("0100000 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def andn(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) & ~m.x(i.rs2))


@zbb("0100000 rs2 rs1 110 rd 0110011", "rd, rs1, rs2")
def orn(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) | ~m.x(i.rs2))


@zbb("0100000 rs2 rs1 100 rd 0110011", "rd, rs1, rs2")
def xnor(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, ~(m.x(i.rs1) ^ m.x(i.rs2)))


# ---- Zbb: counting bits


@zbb("011000000000 rs1 001 rd 0010011", "rd, rs1")
def clz(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.clz(m.x(i.rs1)))


@zbb("011000000001 rs1 001 rd 0010011", "rd, rs1")
def ctz(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.ctz(m.x(i.rs1)))


@zbb("011000000010 rs1 001 rd 0010011", "rd, rs1")
def cpop(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.cpop(m.x(i.rs1)))


@zbb("011000000000 rs1 001 rd 0011011", "rd, rs1")
def clzw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.clz(m.zx(m.x(i.rs1), 32)) - 32)


@zbb("011000000001 rs1 001 rd 0011011", "rd, rs1")
def ctzw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.ctz(m.x(i.rs1) | 1 << 32))


@zbb("011000000010 rs1 001 rd 0011011", "rd, rs1")
def cpopw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.cpop(m.zx(m.x(i.rs1), 32)))


# ---- Zbb: the lesser and the greater


@zbb("0000101 rs2 rs1 110 rd 0110011", "rd, rs1, rs2")
def max_(m: Vocabulary, i: Instruction) -> None:
    a, b = m.x(i.rs1), m.x(i.rs2)
    m.w(i.rd, m.select(m.lt(a, b), b, a))


@zbb("0000101 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def maxu(m: Vocabulary, i: Instruction) -> None:
    a, b = m.x(i.rs1), m.x(i.rs2)
    m.w(i.rd, m.select(m.ltu(a, b), b, a))


@zbb("0000101 rs2 rs1 100 rd 0110011", "rd, rs1, rs2")
def min_(m: Vocabulary, i: Instruction) -> None:
    a, b = m.x(i.rs1), m.x(i.rs2)
    m.w(i.rd, m.select(m.lt(a, b), a, b))


@zbb("0000101 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def minu(m: Vocabulary, i: Instruction) -> None:
    a, b = m.x(i.rs1), m.x(i.rs2)
    m.w(i.rd, m.select(m.ltu(a, b), a, b))


# ---- Zbb: extension, rotation, bytes


@zbb("011000000100 rs1 001 rd 0010011", "rd, rs1")
def sext_b(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.x(i.rs1), 8))


@zbb("011000000101 rs1 001 rd 0010011", "rd, rs1")
def sext_h(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.x(i.rs1), 16))


@zbb("000010000000 rs1 100 rd 0111011", "rd, rs1")
def zext_h(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.zx(m.x(i.rs1), 16))


def _rotate_left(m: Vocabulary, value: Value, count: Value) -> Value:
    return m.sll(value, count) | m.srl(value, 0 - count)


def _rotate_left_word(m: Vocabulary, value: Value, count: Value) -> Value:
    word = m.zx(value, 32)
    count = count & 31
    return m.sx(m.sll(word, count) | m.srl(word, 32 - count), 32)


@zbb("0110000 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def rol(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, _rotate_left(m, m.x(i.rs1), m.x(i.rs2)))


@zbb("0110000 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def ror(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, _rotate_left(m, m.x(i.rs1), 0 - m.x(i.rs2)))


@zbb("011000 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, hex")
def rori(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, _rotate_left(m, m.x(i.rs1), 64 - i.imm))


@zbb("0110000 rs2 rs1 001 rd 0111011", "rd, rs1, rs2")
def rolw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, _rotate_left_word(m, m.x(i.rs1), m.x(i.rs2)))


@zbb("0110000 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def rorw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, _rotate_left_word(m, m.x(i.rs1), 0 - m.x(i.rs2)))


@zbb("0110000 uimm[4:0] rs1 101 rd 0011011", "rd, rs1, hex")
def roriw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, _rotate_left_word(m, m.x(i.rs1), 32 - i.imm))


@zbb("001010000111 rs1 101 rd 0010011", "rd, rs1")
def orc_b(m: Vocabulary, i: Instruction) -> None:
    """Each byte becomes 0xff unless it is zero."""
    value, low = m.x(i.rs1), 0x7F7F_7F7F_7F7F_7F7F
    tops = (((value & low) + low) | value) & 0x8080_8080_8080_8080
    m.w(i.rd, m.srl(tops, 7) * 255)


@zbb("011010111000 rs1 101 rd 0010011", "rd, rs1")
def rev8(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.bswap(m.x(i.rs1)))


# ---- Zbs: one bit


@zbs("0100100 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def bclr(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) & ~m.sll(1, m.x(i.rs2)))


@zbs("0100100 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def bext(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.srl(m.x(i.rs1), m.x(i.rs2)) & 1)


@zbs("0110100 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def binv(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) ^ m.sll(1, m.x(i.rs2)))


@zbs("0010100 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def bset(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) | m.sll(1, m.x(i.rs2)))


@zbs("010010 uimm[5:0] rs1 001 rd 0010011", "rd, rs1, hex")
def bclri(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) & ~m.sll(1, i.imm))


@zbs("010010 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, hex")
def bexti(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.srl(m.x(i.rs1), i.imm) & 1)


@zbs("011010 uimm[5:0] rs1 001 rd 0010011", "rd, rs1, hex")
def binvi(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) ^ m.sll(1, i.imm))


@zbs("001010 uimm[5:0] rs1 001 rd 0010011", "rd, rs1, hex")
def bseti(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) | m.sll(1, i.imm))
