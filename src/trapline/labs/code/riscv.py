"""An assembler for riscv64, on the encodings that the instructions' declarations give."""

from __future__ import annotations

import struct

from trapline.labs.code.assemble import Code
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.isa.decode import encode

ZERO, RA, SP, GP, TP, T0, T1, T2, S0, S1, A0, A1, A2, A3, A4, A5, A6, A7 = range(18)
S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, T3, T4, T5, T6 = range(18, 32)


def _word(raw: int) -> bytes:
    return struct.pack("<I", raw)


def csr_word(how: str, rd: int, csr: str | int, rs1: int = 0) -> int:
    """csrrw, csrrs, csrrc (`how`: w, s, c; wi, si, ci with a constant)."""
    number = NUMBERS[csr] if isinstance(csr, str) else csr
    if how.endswith("i"):
        return encode(f"csrr{how}", rd=rd, uimm=rs1, csr=number)
    return encode(f"csrr{how}", rd=rd, rs1=rs1, csr=number)


class Riscv(Code):
    """`op` appends any instruction that the machine knows, by mnemonic and operands."""

    def op(self, name: str, **operands: int) -> None:
        self.raw(_word(encode(name, **operands)))

    def to(self, name: str, label: str, **operands: int) -> None:
        """A branch or jump to a label."""
        self.at_label(label, 4, lambda at, to: _word(encode(name, imm=to - at, **operands)))

    def jump(self, label: str) -> None:
        self.to("jal", label)

    def call(self, label: str) -> None:
        self.to("jal", label, rd=RA)

    def ret(self) -> None:
        self.op("jalr", rs1=RA)

    def li(self, rd: int, value: int) -> None:
        """Any constant of 64 bits."""
        value = (value + (1 << 63)) % (1 << 64) - (1 << 63)
        if -2048 <= value < 2048:
            self.op("addi", rd=rd, imm=value)
            return
        low = (value + 2048) % 4096 - 2048
        high = (value - low) >> 12
        if -(1 << 31) <= value < (1 << 31) - 2048:
            self.op("lui", rd=rd, imm=high << 12)
            if low:
                self.op("addiw", rd=rd, rs1=rd, imm=low)
            return
        self.li(rd, high)
        self.op("slli", rd=rd, rs1=rd, imm=12)
        if low:
            self.op("addi", rd=rd, rs1=rd, imm=low)

    def la(self, rd: int, label: str) -> None:
        """The address of a label, relative to the pc."""

        def fix(at: int, to: int) -> bytes:
            low = (to - at + 2048) % 4096 - 2048
            return _word(encode("auipc", rd=rd, imm=to - at - low)) + _word(encode("addi", rd=rd, rs1=rd, imm=low))

        self.at_label(label, 8, fix)

    def csr(self, how: str, rd: int, csr: str | int, rs1: int = 0) -> None:
        self.raw(_word(csr_word(how, rd, csr, rs1)))

    def write_csr(self, csr: str | int, value: int | str, scratch: int = T0) -> None:
        """A constant, or the address of a label, into a register."""
        if isinstance(value, str):
            self.la(scratch, value)
        else:
            self.li(scratch, value)
        self.csr("w", ZERO, csr, scratch)

    def syscall(self, number: int, *arguments: int | str) -> None:
        for reg, value in zip((A0, A1, A2, A3, A4, A5), arguments, strict=False):
            if isinstance(value, str):
                self.la(reg, value)
            else:
                self.li(reg, value)
        self.li(A7, number)
        self.op("ecall")
