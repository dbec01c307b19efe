"""Zicbom and Zicboz: management and zeroing of cache blocks (volume I, "CMO Extensions")."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

zicbom = extension("Zicbom", system=True)
zicboz = extension("Zicboz", system=True)


@zicbom("000000000000 rs1 010 00000 0001111", "(rs1)")
def cbo_inval(m: Vocabulary, i: Instruction) -> None:
    m.cbo("inval", m.x(i.rs1))


@zicbom("000000000001 rs1 010 00000 0001111", "(rs1)")
def cbo_clean(m: Vocabulary, i: Instruction) -> None:
    m.cbo("clean", m.x(i.rs1))


@zicbom("000000000010 rs1 010 00000 0001111", "(rs1)")
def cbo_flush(m: Vocabulary, i: Instruction) -> None:
    m.cbo("flush", m.x(i.rs1))


@zicboz("000000000100 rs1 010 00000 0001111", "(rs1)")
def cbo_zero(m: Vocabulary, i: Instruction) -> None:
    m.cbo("zero", m.x(i.rs1))
