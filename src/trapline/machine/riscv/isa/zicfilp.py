"""Zicfilp: landing pads (volume I, "Control-flow Integrity", "Landing Pad"). Where they are not enforced, lpad does nothing."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zicfilp")


@op("imm[31:12] 00000 0010111", "upper")
def lpad(m: Vocabulary, i: Instruction) -> None:
    m.land(i.imm)
