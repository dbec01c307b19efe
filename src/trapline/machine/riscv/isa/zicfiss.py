"""Zicfiss: the shadow stack (volume I, "Control-flow Integrity", "Shadow Stack"). All but ssamoswap are encoded as
may-be-operations, and are that where there is no shadow stack. The link register is x1 or x5: 1 + imm.
"""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zicfiss")
atomic = extension("Zicfiss", system=True)


@op("1100111 00 uimm[2] 01 00000 100 00000 1110011", "link")
def sspush(m: Vocabulary, i: Instruction) -> None:
    m.shadow_push(i.imm + 1)


@op("110011011100 00 uimm[2] 01 100 00000 1110011", "link")
def sspopchk(m: Vocabulary, i: Instruction) -> None:
    m.shadow_check(i.imm + 1)


@op("110011011100 00000 100 nzrd 1110011", "rd")
def ssrdp(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.shadow_pointer())


@atomic("01001 aq rl rs2 rs1 010 rd 0101111", "rd, rs2, (rs1)")
def ssamoswap_w(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.shadow_swap(m.x(i.rs1), 4, m.x(i.rs2)))


@atomic("01001 aq rl rs2 rs1 011 rd 0101111", "rd, rs2, (rs1)")
def ssamoswap_d(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.shadow_swap(m.x(i.rs1), 8, m.x(i.rs2)))
