"""Zfa: additional floating-point instructions (volume I, "Zfa Extension for Additional Floating-Point Instructions")."""

from __future__ import annotations

import struct

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("Zfa", fp=True)

#: What fli loads, by the number in its rs1 field: values, or how the table of the manual names those that are none.
LITERALS: tuple[float | str, ...] = (
    -1.0, "min", 2.0**-16, 2.0**-15, 2.0**-8, 2.0**-7, 0.0625, 0.125, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75, 0.875,
    1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 8.0, 16.0, 128.0, 256.0, 2.0**15, 2.0**16, "inf", "nan",
)  # fmt: skip


def pattern(literal: float | str, bits: int) -> int:
    """The bit pattern of a literal; each is a number that single precision holds exactly, or named."""
    fraction, top = (23, 0xFF) if bits == 32 else (52, 0x7FF)
    if isinstance(literal, str):
        return {"min": 1 << fraction, "inf": top << fraction, "nan": top << fraction | 1 << (fraction - 1)}[literal]
    return int.from_bytes(struct.pack("<f" if bits == 32 else "<d", literal), "little")


_PATTERNS = {bits: tuple(pattern(each, bits) for each in LITERALS) for bits in (32, 64)}


def declare(bits: int, fmt: str, s: str) -> None:
    """The instructions that both precisions have."""

    @op(f"11110{fmt} 00001 rs1 000 rd 1010011", "fd, literal", mnemonic=f"fli.{s}")
    def fli(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, _PATTERNS[bits][i.rs1], bits)

    @op(f"00101{fmt} rs2 rs1 010 rd 1010011", "fd, fs1, fs2", mnemonic=f"fminm.{s}")
    def fminm(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fminm(m.f(i.rs1, bits), m.f(i.rs2, bits), bits), bits)

    @op(f"00101{fmt} rs2 rs1 011 rd 1010011", "fd, fs1, fs2", mnemonic=f"fmaxm.{s}")
    def fmaxm(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fmaxm(m.f(i.rs1, bits), m.f(i.rs2, bits), bits), bits)

    @op(f"01000{fmt} 00100 rs1 rm rd 1010011", "fd, fs1, rm", mnemonic=f"fround.{s}")
    def fround(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fround(m.f(i.rs1, bits), bits, i.rm, exact=False), bits)

    @op(f"01000{fmt} 00101 rs1 rm rd 1010011", "fd, fs1, rm", mnemonic=f"froundnx.{s}")
    def froundnx(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fround(m.f(i.rs1, bits), bits, i.rm, exact=True), bits)

    @op(f"10100{fmt} rs2 rs1 100 rd 1010011", "rd, fs1, fs2", mnemonic=f"fleq.{s}")
    def fleq(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.fleq(m.f(i.rs1, bits), m.f(i.rs2, bits), bits))

    @op(f"10100{fmt} rs2 rs1 101 rd 1010011", "rd, fs1, fs2", mnemonic=f"fltq.{s}")
    def fltq(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.fltq(m.f(i.rs1, bits), m.f(i.rs2, bits), bits))


declare(32, "00", "s")
declare(64, "01", "d")


@op("1100001 01000 rs1 001 rd 1010011", "rd, fs1, rtz")
def fcvtmod_w_d(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.f_to_int_modular(m.f(i.rs1, 64), 1))
