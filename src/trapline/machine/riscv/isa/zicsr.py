"""Zicsr: instructions that read and change control and status registers (volume I, "Zicsr Extension").

csrrw with rd = x0 does not read; csrrs and csrrc with rs1 = x0 (or an immediate of 0) do not write, so they may
name a read-only CSR.
"""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zicsr", system=True)


@op("csr rs1 001 rd 1110011", "rd, csr, rs1")
def csrrw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.csr(i.csr, "w", m.x(i.rs1), read=i.rd != 0, write=True))


@op("csr rs1 010 rd 1110011", "rd, csr, rs1")
def csrrs(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.csr(i.csr, "s", m.x(i.rs1), read=True, write=i.rs1 != 0))


@op("csr rs1 011 rd 1110011", "rd, csr, rs1")
def csrrc(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.csr(i.csr, "c", m.x(i.rs1), read=True, write=i.rs1 != 0))


@op("csr uimm[4:0] 101 rd 1110011", "rd, csr, imm")
def csrrwi(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.csr(i.csr, "w", i.imm, read=i.rd != 0, write=True))


@op("csr uimm[4:0] 110 rd 1110011", "rd, csr, imm")
def csrrsi(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.csr(i.csr, "s", i.imm, read=True, write=i.imm != 0))


@op("csr uimm[4:0] 111 rd 1110011", "rd, csr, imm")
def csrrci(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.csr(i.csr, "c", i.imm, read=True, write=i.imm != 0))
