"""Zifencei: instruction fetch sees earlier stores (volume I, "Zifencei Extension for Instruction-Fetch Fence")."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zifencei", system=True)


@op("imm[11:0] rs1 001 rd 0001111")
def fence_i(m: Vocabulary, i: Instruction) -> None:
    """Its operands are reserved and ignored."""
    m.fence_i()
