"""RV64M: multiplication and division (volume I, "M Extension for Integer Multiplication and Division")."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("M")


@op("0000001 rs2 rs1 000 rd 0110011", "rd, rs1, rs2")
def mul(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) * m.x(i.rs2))


@op("0000001 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def mulh(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.mulh(m.x(i.rs1), m.x(i.rs2)))


@op("0000001 rs2 rs1 010 rd 0110011", "rd, rs1, rs2")
def mulhsu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.mulhsu(m.x(i.rs1), m.x(i.rs2)))


@op("0000001 rs2 rs1 011 rd 0110011", "rd, rs1, rs2")
def mulhu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.mulhu(m.x(i.rs1), m.x(i.rs2)))


@op("0000001 rs2 rs1 100 rd 0110011", "rd, rs1, rs2")
def div(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.div(m.x(i.rs1), m.x(i.rs2)))


@op("0000001 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def divu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.divu(m.x(i.rs1), m.x(i.rs2)))


@op("0000001 rs2 rs1 110 rd 0110011", "rd, rs1, rs2")
def rem(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.rem(m.x(i.rs1), m.x(i.rs2)))


@op("0000001 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def remu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.remu(m.x(i.rs1), m.x(i.rs2)))


@op("0000001 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
def mulw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.x(i.rs1) * m.x(i.rs2), 32))


@op("0000001 rs2 rs1 100 rd 0111011", "rd, rs1, rs2")
def divw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.div(m.sx(m.x(i.rs1), 32), m.sx(m.x(i.rs2), 32)), 32))


@op("0000001 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def divuw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.divu(m.zx(m.x(i.rs1), 32), m.zx(m.x(i.rs2), 32)), 32))


@op("0000001 rs2 rs1 110 rd 0111011", "rd, rs1, rs2")
def remw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.rem(m.sx(m.x(i.rs1), 32), m.sx(m.x(i.rs2), 32)), 32))


@op("0000001 rs2 rs1 111 rd 0111011", "rd, rs1, rs2")
def remuw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.remu(m.zx(m.x(i.rs1), 32), m.zx(m.x(i.rs2), 32)), 32))
