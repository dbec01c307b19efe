"""Zicond: conditional zero (volume I, "Zicond Extension for Integer Conditional Operations")."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zicond")


@op("0000111 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def czero_eqz(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.select(m.eq(m.x(i.rs2), 0), 0, m.x(i.rs1)))


@op("0000111 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def czero_nez(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.select(m.ne(m.x(i.rs2), 0), 0, m.x(i.rs1)))
