"""C: compressed instructions, each another way to write a base instruction (volume I, "C Extension").

Code points that the manual reserves do not decode; its hints decode as the instruction they look like, which does nothing.
"""

from __future__ import annotations

from trapline.machine.riscv.isa import fd, i, priv, zicfiss  # noqa: F401  (their ops must be declared before these)
from trapline.machine.riscv.isa.declare import OPS, Body, compressed

_BASE: dict[str, Body] = {op.name: op.body for op in OPS}
_X0, _RA, _SP = 0, 1, 2


def _declare(mnemonic: str, encoding: str, base: str, operands: str = "", extension: str = "C", **implied: int) -> None:
    compressed(mnemonic, encoding, _BASE[base], operands, extension, **implied)


# ---- quadrant 0: wide immediates from three-bit registers

_declare("c.addi4spn", "000 nzuimm[5:4|9:6|2|3] rd' 00", "addi", "rd, sp, imm", rs1=_SP)
_declare("c.fld", "001 uimm[5:3] rs1' uimm[7:6] rd' 00", "fld", "fd, imm(rs1)")
_declare("c.lw", "010 uimm[5:3] rs1' uimm[2|6] rd' 00", "lw", "rd, imm(rs1)")
_declare("c.ld", "011 uimm[5:3] rs1' uimm[7:6] rd' 00", "ld", "rd, imm(rs1)")
_declare("c.fsd", "101 uimm[5:3] rs1' uimm[7:6] rs2' 00", "fsd", "fs2, imm(rs1)")
_declare("c.sw", "110 uimm[5:3] rs1' uimm[2|6] rs2' 00", "sw", "rs2, imm(rs1)")
_declare("c.sd", "111 uimm[5:3] rs1' uimm[7:6] rs2' 00", "sd", "rs2, imm(rs1)")

# ---- quadrant 1: immediates, arithmetic on three-bit registers, jumps

_declare("c.nop", "000 imm[5] 00000 imm[4:0] 01", "addi")
_declare("c.addi", "000 imm[5] rd/rs1 imm[4:0] 01", "addi", "rd, imm")
_declare("c.addiw", "001 imm[5] nzrd/rs1 imm[4:0] 01", "addiw", "rd, imm")
_declare("c.li", "010 imm[5] rd imm[4:0] 01", "addi", "rd, imm")
_declare("c.addi16sp", "011 nzimm[9] 00010 nzimm[4|6|8:7|5] 01", "addi", "sp, imm", rd=_SP, rs1=_SP)
_declare("c.lui", "011 nzimm[17] rd nzimm[16:12] 01", "lui", "rd, upper")
_declare("c.srli", "100 uimm[5] 00 rd'/rs1' uimm[4:0] 01", "srli", "rd, hex")
_declare("c.srai", "100 uimm[5] 01 rd'/rs1' uimm[4:0] 01", "srai", "rd, hex")
_declare("c.andi", "100 imm[5] 10 rd'/rs1' imm[4:0] 01", "andi", "rd, imm")
_declare("c.sub", "100 0 11 rd'/rs1' 00 rs2' 01", "sub", "rd, rs2")
_declare("c.xor", "100 0 11 rd'/rs1' 01 rs2' 01", "xor", "rd, rs2")
_declare("c.or", "100 0 11 rd'/rs1' 10 rs2' 01", "or", "rd, rs2")
_declare("c.and", "100 0 11 rd'/rs1' 11 rs2' 01", "and", "rd, rs2")
_declare("c.subw", "100 1 11 rd'/rs1' 00 rs2' 01", "subw", "rd, rs2")
_declare("c.addw", "100 1 11 rd'/rs1' 01 rs2' 01", "addw", "rd, rs2")
_declare("c.j", "101 imm[11|4|9:8|10|6|7|3:1|5] 01", "jal", "target")
_declare("c.beqz", "110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "beq", "rs1, target")
_declare("c.bnez", "111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "bne", "rs1, target")

# Zcmop: may-be-operations, with odd numbers, and what Zicfiss makes of two.
_declare("c.mop", "011 00 uimm[3:1] 1 00000 01", "addi", extension="Zcmop", rd=_X0, rs1=_X0)
_declare("c.sspush", "011 00 000 1 00000 01", "sspush", "link", extension="Zicfiss", imm=0)
_declare("c.sspopchk", "011 00 010 1 00000 01", "sspopchk", "link", extension="Zicfiss", imm=4)

# ---- quadrant 2: stack-relative accesses, moves, register jumps

_declare("c.slli", "000 uimm[5] rd/rs1 uimm[4:0] 10", "slli", "rd, hex")
_declare("c.fldsp", "001 uimm[5] rd uimm[4:3|8:6] 10", "fld", "fd, imm(sp)", rs1=_SP)
_declare("c.lwsp", "010 uimm[5] nzrd uimm[4:2|7:6] 10", "lw", "rd, imm(sp)", rs1=_SP)
_declare("c.ldsp", "011 uimm[5] nzrd uimm[4:3|8:6] 10", "ld", "rd, imm(sp)", rs1=_SP)
_declare("c.jr", "100 0 nzrs1 00000 10", "jalr", "rs1", rd=_X0)
_declare("c.mv", "100 0 rd nzrs2 10", "add", "rd, rs2", rs1=_X0)
_declare("c.ebreak", "100 1 00000 00000 10", "ebreak")
_declare("c.jalr", "100 1 nzrs1 00000 10", "jalr", "rs1", rd=_RA)
_declare("c.add", "100 1 rd/rs1 nzrs2 10", "add", "rd, rs2")
_declare("c.fsdsp", "101 uimm[5:3|8:6] rs2 10", "fsd", "fs2, imm(sp)", rs1=_SP)
_declare("c.swsp", "110 uimm[5:2|7:6] rs2 10", "sw", "rs2, imm(sp)", rs1=_SP)
_declare("c.sdsp", "111 uimm[5:3|8:6] rs2 10", "sd", "rs2, imm(sp)", rs1=_SP)
