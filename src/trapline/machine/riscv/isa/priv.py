"""The privileged instructions: calls, returns from traps, waiting, translation fences (volume II), and Svinval, Zawrs."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("privileged", system=True)
svinval = extension("Svinval", system=True)
zawrs = extension("Zawrs", system=True)


@op("000000000000 00000 000 00000 1110011")
def ecall(m: Vocabulary, i: Instruction) -> None:
    m.ecall()


@op("000000000001 00000 000 00000 1110011")
def ebreak(m: Vocabulary, i: Instruction) -> None:
    m.ebreak()


@op("000100000010 00000 000 00000 1110011")
def sret(m: Vocabulary, i: Instruction) -> None:
    m.sret()


@op("001100000010 00000 000 00000 1110011")
def mret(m: Vocabulary, i: Instruction) -> None:
    m.mret()


@op("000100000101 00000 000 00000 1110011")
def wfi(m: Vocabulary, i: Instruction) -> None:
    m.wfi()


@op("0001001 rs2 rs1 000 00000 1110011", "rs1, rs2")
def sfence_vma(m: Vocabulary, i: Instruction) -> None:
    m.sfence_vma(m.x(i.rs1), m.x(i.rs2), any_address=i.rs1 == 0, any_asid=i.rs2 == 0)


@svinval("0001011 rs2 rs1 000 00000 1110011", "rs1, rs2")
def sinval_vma(m: Vocabulary, i: Instruction) -> None:
    m.sinval(m.x(i.rs1), m.x(i.rs2), any_address=i.rs1 == 0, any_asid=i.rs2 == 0)


@svinval("000110000000 00000 000 00000 1110011")
def sfence_w_inval(m: Vocabulary, i: Instruction) -> None:
    m.sfence_order()


@svinval("000110000001 00000 000 00000 1110011")
def sfence_inval_ir(m: Vocabulary, i: Instruction) -> None:
    m.sfence_order()


@zawrs("000000001101 00000 000 00000 1110011")
def wrs_nto(m: Vocabulary, i: Instruction) -> None:
    m.wait_reservation(short=False)


@zawrs("000000011101 00000 000 00000 1110011")
def wrs_sto(m: Vocabulary, i: Instruction) -> None:
    m.wait_reservation(short=True)
