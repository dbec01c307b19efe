"""RV64I: the base integer instructions (volume I, "RV32I Base Integer Instruction Set" and "RV64I ...")."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("I")

# ---- upper immediates and jumps


@op("imm[31:12] rd 0110111", "rd, upper")
def lui(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, i.imm)


@op("imm[31:12] rd 0010111", "rd, upper")
def auipc(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.pc() + i.imm)


@op("imm[20|10:1|11|19:12] rd 1101111", "rd, target")
def jal(m: Vocabulary, i: Instruction) -> None:
    m.jump(m.pc() + i.imm)
    m.w(i.rd, m.pc() + i.length)


@op("imm[11:0] rs1 000 rd 1100111", "rd, imm(rs1)")
def jalr(m: Vocabulary, i: Instruction) -> None:
    target = (m.x(i.rs1) + i.imm) & ~1
    m.w(i.rd, m.pc() + i.length)
    m.jump(target)


@op("imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011", "rs1, rs2, target")
def beq(m: Vocabulary, i: Instruction) -> None:
    m.branch(m.eq(m.x(i.rs1), m.x(i.rs2)), m.pc() + i.imm)


@op("imm[12|10:5] rs2 rs1 001 imm[4:1|11] 1100011", "rs1, rs2, target")
def bne(m: Vocabulary, i: Instruction) -> None:
    m.branch(m.ne(m.x(i.rs1), m.x(i.rs2)), m.pc() + i.imm)


@op("imm[12|10:5] rs2 rs1 100 imm[4:1|11] 1100011", "rs1, rs2, target")
def blt(m: Vocabulary, i: Instruction) -> None:
    m.branch(m.lt(m.x(i.rs1), m.x(i.rs2)), m.pc() + i.imm)


@op("imm[12|10:5] rs2 rs1 101 imm[4:1|11] 1100011", "rs1, rs2, target")
def bge(m: Vocabulary, i: Instruction) -> None:
    m.branch(m.ge(m.x(i.rs1), m.x(i.rs2)), m.pc() + i.imm)


@op("imm[12|10:5] rs2 rs1 110 imm[4:1|11] 1100011", "rs1, rs2, target")
def bltu(m: Vocabulary, i: Instruction) -> None:
    m.branch(m.ltu(m.x(i.rs1), m.x(i.rs2)), m.pc() + i.imm)


@op("imm[12|10:5] rs2 rs1 111 imm[4:1|11] 1100011", "rs1, rs2, target")
def bgeu(m: Vocabulary, i: Instruction) -> None:
    m.branch(m.geu(m.x(i.rs1), m.x(i.rs2)), m.pc() + i.imm)


# ---- loads and stores


@op("imm[11:0] rs1 000 rd 0000011", "rd, imm(rs1)")
def lb(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 1, signed=True))


@op("imm[11:0] rs1 001 rd 0000011", "rd, imm(rs1)")
def lh(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 2, signed=True))


@op("imm[11:0] rs1 010 rd 0000011", "rd, imm(rs1)")
def lw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 4, signed=True))


@op("imm[11:0] rs1 011 rd 0000011", "rd, imm(rs1)")
def ld(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 8, signed=True))


@op("imm[11:0] rs1 100 rd 0000011", "rd, imm(rs1)")
def lbu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 1))


@op("imm[11:0] rs1 101 rd 0000011", "rd, imm(rs1)")
def lhu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 2))


@op("imm[11:0] rs1 110 rd 0000011", "rd, imm(rs1)")
def lwu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 4))


@op("imm[11:5] rs2 rs1 000 imm[4:0] 0100011", "rs2, imm(rs1)")
def sb(m: Vocabulary, i: Instruction) -> None:
    m.store(m.x(i.rs1) + i.imm, 1, m.x(i.rs2))


@op("imm[11:5] rs2 rs1 001 imm[4:0] 0100011", "rs2, imm(rs1)")
def sh(m: Vocabulary, i: Instruction) -> None:
    m.store(m.x(i.rs1) + i.imm, 2, m.x(i.rs2))


@op("imm[11:5] rs2 rs1 010 imm[4:0] 0100011", "rs2, imm(rs1)")
def sw(m: Vocabulary, i: Instruction) -> None:
    m.store(m.x(i.rs1) + i.imm, 4, m.x(i.rs2))


@op("imm[11:5] rs2 rs1 011 imm[4:0] 0100011", "rs2, imm(rs1)")
def sd(m: Vocabulary, i: Instruction) -> None:
    m.store(m.x(i.rs1) + i.imm, 8, m.x(i.rs2))


# ---- register and immediate


@op("imm[11:0] rs1 000 rd 0010011", "rd, rs1, imm")
def addi(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) + i.imm)


@op("imm[11:0] rs1 010 rd 0010011", "rd, rs1, imm")
def slti(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.lt(m.x(i.rs1), i.imm))


@op("imm[11:0] rs1 011 rd 0010011", "rd, rs1, imm")
def sltiu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.ltu(m.x(i.rs1), i.imm))


@op("imm[11:0] rs1 100 rd 0010011", "rd, rs1, imm")
def xori(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) ^ i.imm)


@op("imm[11:0] rs1 110 rd 0010011", "rd, rs1, imm")
def ori(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) | i.imm)


@op("imm[11:0] rs1 111 rd 0010011", "rd, rs1, imm")
def andi(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) & i.imm)


@op("000000 uimm[5:0] rs1 001 rd 0010011", "rd, rs1, hex")
def slli(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sll(m.x(i.rs1), i.imm))


@op("000000 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, hex")
def srli(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.srl(m.x(i.rs1), i.imm))


@op("010000 uimm[5:0] rs1 101 rd 0010011", "rd, rs1, hex")
def srai(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sra(m.x(i.rs1), i.imm))


@op("imm[11:0] rs1 000 rd 0011011", "rd, rs1, imm")
def addiw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.x(i.rs1) + i.imm, 32))


@op("0000000 uimm[4:0] rs1 001 rd 0011011", "rd, rs1, hex")
def slliw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.sll(m.x(i.rs1), i.imm), 32))


@op("0000000 uimm[4:0] rs1 101 rd 0011011", "rd, rs1, hex")
def srliw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.srl(m.zx(m.x(i.rs1), 32), i.imm), 32))


@op("0100000 uimm[4:0] rs1 101 rd 0011011", "rd, rs1, hex")
def sraiw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sra(m.sx(m.x(i.rs1), 32), i.imm))


# ---- register and register


@op("0000000 rs2 rs1 000 rd 0110011", "rd, rs1, rs2")
def add(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) + m.x(i.rs2))


@op("0100000 rs2 rs1 000 rd 0110011", "rd, rs1, rs2")
def sub(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) - m.x(i.rs2))


@op("0000000 rs2 rs1 001 rd 0110011", "rd, rs1, rs2")
def sll(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sll(m.x(i.rs1), m.x(i.rs2)))


@op("0000000 rs2 rs1 010 rd 0110011", "rd, rs1, rs2")
def slt(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.lt(m.x(i.rs1), m.x(i.rs2)))


@op("0000000 rs2 rs1 011 rd 0110011", "rd, rs1, rs2")
def sltu(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.ltu(m.x(i.rs1), m.x(i.rs2)))


@op("0000000 rs2 rs1 100 rd 0110011", "rd, rs1, rs2")
def xor(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) ^ m.x(i.rs2))


@op("0000000 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def srl(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.srl(m.x(i.rs1), m.x(i.rs2)))


@op("0100000 rs2 rs1 101 rd 0110011", "rd, rs1, rs2")
def sra(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sra(m.x(i.rs1), m.x(i.rs2)))


@op("0000000 rs2 rs1 110 rd 0110011", "rd, rs1, rs2")
def or_(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) | m.x(i.rs2))


@op("0000000 rs2 rs1 111 rd 0110011", "rd, rs1, rs2")
def and_(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.x(i.rs1) & m.x(i.rs2))


@op("0000000 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
def addw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.x(i.rs1) + m.x(i.rs2), 32))


@op("0100000 rs2 rs1 000 rd 0111011", "rd, rs1, rs2")
def subw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.x(i.rs1) - m.x(i.rs2), 32))


@op("0000000 rs2 rs1 001 rd 0111011", "rd, rs1, rs2")
def sllw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.sll(m.x(i.rs1), m.x(i.rs2) & 31), 32))


@op("0000000 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def srlw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sx(m.srl(m.zx(m.x(i.rs1), 32), m.x(i.rs2) & 31), 32))


@op("0100000 rs2 rs1 101 rd 0111011", "rd, rs1, rs2")
def sraw(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sra(m.sx(m.x(i.rs1), 32), m.x(i.rs2) & 31))


@op("fm pred succ rs1 000 rd 0001111", "pred, succ")
def fence(m: Vocabulary, i: Instruction) -> None:
    """Order memory accesses. `pause` and the reserved forms are fences too; rs1 and rd are reserved and ignored."""
    m.fence(i.pred, i.succ, i.fm)
