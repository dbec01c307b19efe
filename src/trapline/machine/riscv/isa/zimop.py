"""Zimop: may-be-operations, which write zero until an extension gives them a meaning (volume I, "Zimop Extension").

Their number is an operand here, and part of the name in their text. Those of Zcmop, which write nothing, are in c.py.
"""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zimop")


@op("1 uimm[4] 00 uimm[3:2] 0111 uimm[1:0] rs1 100 rd 1110011", "rd, rs1")
def mop_r(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, 0)


@op("1 uimm[2] 00 uimm[1:0] 1 rs2 rs1 100 rd 1110011", "rd, rs1, rs2")
def mop_rr(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, 0)
