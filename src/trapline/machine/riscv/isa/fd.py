"""F and D: single- and double-precision floating point (volume I, "F Extension ..." and "D Extension ...").

Both precisions have the same instructions, so each is declared once, for a width in `bits`. What only
one has stands at the end.
"""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

f_extension = extension("F", fp=True)
d_extension = extension("D", fp=True)


def memory(bits: int, width: str, s: str) -> None:
    """Loads and stores. A store writes the register's low half as it is: no NaN-box is asked for."""
    op, size = (f_extension if bits == 32 else d_extension), bits // 8

    @op(f"imm[11:0] rs1 {width} rd 0000111", "fd, imm(rs1)", mnemonic=f"fl{s}")
    def load(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.load(m.x(i.rs1) + i.imm, size), bits)

    @op(f"imm[11:5] rs2 rs1 {width} imm[4:0] 0100111", "fs2, imm(rs1)", mnemonic=f"fs{s}")
    def store(m: Vocabulary, i: Instruction) -> None:
        m.store(m.x(i.rs1) + i.imm, size, m.f(i.rs2, 64))


def arithmetic(bits: int, fmt: str, s: str) -> None:
    op = f_extension if bits == 32 else d_extension

    @op(f"00000{fmt} rs2 rs1 rm rd 1010011", "fd, fs1, fs2, rm", mnemonic=f"fadd.{s}")
    def fadd(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fadd(m.f(i.rs1, bits), m.f(i.rs2, bits), bits, i.rm), bits)

    @op(f"00001{fmt} rs2 rs1 rm rd 1010011", "fd, fs1, fs2, rm", mnemonic=f"fsub.{s}")
    def fsub(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fsub(m.f(i.rs1, bits), m.f(i.rs2, bits), bits, i.rm), bits)

    @op(f"00010{fmt} rs2 rs1 rm rd 1010011", "fd, fs1, fs2, rm", mnemonic=f"fmul.{s}")
    def fmul(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fmul(m.f(i.rs1, bits), m.f(i.rs2, bits), bits, i.rm), bits)

    @op(f"00011{fmt} rs2 rs1 rm rd 1010011", "fd, fs1, fs2, rm", mnemonic=f"fdiv.{s}")
    def fdiv(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fdiv(m.f(i.rs1, bits), m.f(i.rs2, bits), bits, i.rm), bits)

    @op(f"01011{fmt} 00000 rs1 rm rd 1010011", "fd, fs1, rm", mnemonic=f"fsqrt.{s}")
    def fsqrt(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fsqrt(m.f(i.rs1, bits), bits, i.rm), bits)

    @op(f"00101{fmt} rs2 rs1 000 rd 1010011", "fd, fs1, fs2", mnemonic=f"fmin.{s}")
    def fmin(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fmin(m.f(i.rs1, bits), m.f(i.rs2, bits), bits), bits)

    @op(f"00101{fmt} rs2 rs1 001 rd 1010011", "fd, fs1, fs2", mnemonic=f"fmax.{s}")
    def fmax(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.fmax(m.f(i.rs1, bits), m.f(i.rs2, bits), bits), bits)


def fused(bits: int, fmt: str, s: str) -> None:
    """Multiply and add with one rounding; a sign changes by flipping its bit, which raises nothing."""
    op, sign = (f_extension if bits == 32 else d_extension), 1 << (bits - 1)

    @op(f"rs3 {fmt} rs2 rs1 rm rd 1000011", "fd, fs1, fs2, fs3, rm", mnemonic=f"fmadd.{s}")
    def fmadd(m: Vocabulary, i: Instruction) -> None:
        a, b, c = m.f(i.rs1, bits), m.f(i.rs2, bits), m.f(i.rs3, bits)
        m.wf(i.rd, m.fma(a, b, c, bits, i.rm), bits)

    @op(f"rs3 {fmt} rs2 rs1 rm rd 1000111", "fd, fs1, fs2, fs3, rm", mnemonic=f"fmsub.{s}")
    def fmsub(m: Vocabulary, i: Instruction) -> None:
        a, b, c = m.f(i.rs1, bits), m.f(i.rs2, bits), m.f(i.rs3, bits)
        m.wf(i.rd, m.fma(a, b, c ^ sign, bits, i.rm), bits)

    @op(f"rs3 {fmt} rs2 rs1 rm rd 1001011", "fd, fs1, fs2, fs3, rm", mnemonic=f"fnmsub.{s}")
    def fnmsub(m: Vocabulary, i: Instruction) -> None:
        a, b, c = m.f(i.rs1, bits), m.f(i.rs2, bits), m.f(i.rs3, bits)
        m.wf(i.rd, m.fma(a ^ sign, b, c, bits, i.rm), bits)

    @op(f"rs3 {fmt} rs2 rs1 rm rd 1001111", "fd, fs1, fs2, fs3, rm", mnemonic=f"fnmadd.{s}")
    def fnmadd(m: Vocabulary, i: Instruction) -> None:
        a, b, c = m.f(i.rs1, bits), m.f(i.rs2, bits), m.f(i.rs3, bits)
        m.wf(i.rd, m.fma(a ^ sign, b, c ^ sign, bits, i.rm), bits)


def signs(bits: int, fmt: str, s: str) -> None:
    """Sign injection: the second operand gives nothing but its sign."""
    op, sign = (f_extension if bits == 32 else d_extension), 1 << (bits - 1)

    @op(f"00100{fmt} rs2 rs1 000 rd 1010011", "fd, fs1, fs2", mnemonic=f"fsgnj.{s}")
    def fsgnj(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.f(i.rs1, bits) & ~sign | m.f(i.rs2, bits) & sign, bits)

    @op(f"00100{fmt} rs2 rs1 001 rd 1010011", "fd, fs1, fs2", mnemonic=f"fsgnjn.{s}")
    def fsgnjn(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.f(i.rs1, bits) & ~sign | ~m.f(i.rs2, bits) & sign, bits)

    @op(f"00100{fmt} rs2 rs1 010 rd 1010011", "fd, fs1, fs2", mnemonic=f"fsgnjx.{s}")
    def fsgnjx(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.f(i.rs1, bits) ^ m.f(i.rs2, bits) & sign, bits)


def comparisons(bits: int, fmt: str, s: str) -> None:
    op = f_extension if bits == 32 else d_extension

    @op(f"10100{fmt} rs2 rs1 010 rd 1010011", "rd, fs1, fs2", mnemonic=f"feq.{s}")
    def feq(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.feq(m.f(i.rs1, bits), m.f(i.rs2, bits), bits))

    @op(f"10100{fmt} rs2 rs1 001 rd 1010011", "rd, fs1, fs2", mnemonic=f"flt.{s}")
    def flt(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.flt(m.f(i.rs1, bits), m.f(i.rs2, bits), bits))

    @op(f"10100{fmt} rs2 rs1 000 rd 1010011", "rd, fs1, fs2", mnemonic=f"fle.{s}")
    def fle(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.fle(m.f(i.rs1, bits), m.f(i.rs2, bits), bits))

    @op(f"11100{fmt} 00000 rs1 001 rd 1010011", "rd, fs1", mnemonic=f"fclass.{s}")
    def fclass(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.fclass(m.f(i.rs1, bits), bits))


def conversions(bits: int, fmt: str, s: str) -> None:
    """To and from the four integer types."""
    op = f_extension if bits == 32 else d_extension
    for code, name, width, signed in (("00000", "w", 32, True), ("00001", "wu", 32, False),
                                      ("00010", "l", 64, True), ("00011", "lu", 64, False)):  # fmt: skip

        def to_int(m: Vocabulary, i: Instruction, width: int = width, signed: bool = signed) -> None:
            m.w(i.rd, m.f_to_int(m.f(i.rs1, bits), bits, i.rm, width, signed=signed))

        def to_float(m: Vocabulary, i: Instruction, width: int = width, signed: bool = signed) -> None:
            m.wf(i.rd, m.int_to_f(m.x(i.rs1), bits, i.rm, width, signed=signed), bits)

        op(f"11000{fmt} {code} rs1 rm rd 1010011", "rd, fs1, rm", mnemonic=f"fcvt.{name}.{s}")(to_int)
        rm = "rm" if bits - width < 32 else "exact"  # a double holds every word
        op(f"11010{fmt} {code} rs1 rm rd 1010011", f"fd, rs1, {rm}", mnemonic=f"fcvt.{s}.{name}")(to_float)


def moves(bits: int, fmt: str, s: str) -> None:
    """Bit patterns between the register files."""
    op = f_extension if bits == 32 else d_extension

    @op(f"11100{fmt} 00000 rs1 000 rd 1010011", "rd, fs1", mnemonic=f"fmv.x.{s}")
    def to_x(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.sx(m.f(i.rs1, 64), bits))

    @op(f"11110{fmt} 00000 rs1 000 rd 1010011", "fd, rs1", mnemonic=f"fmv.{s}.x")
    def from_x(m: Vocabulary, i: Instruction) -> None:
        m.wf(i.rd, m.zx(m.x(i.rs1), bits), bits)


for _bits, _fmt, _s, _width, _letter in ((32, "00", "s", "010", "w"), (64, "01", "d", "011", "d")):
    memory(_bits, _width, _letter)
    arithmetic(_bits, _fmt, _s)
    fused(_bits, _fmt, _s)
    signs(_bits, _fmt, _s)
    comparisons(_bits, _fmt, _s)
    conversions(_bits, _fmt, _s)
    moves(_bits, _fmt, _letter)


@d_extension("0100000 00001 rs1 rm rd 1010011", "fd, fs1, rm")
def fcvt_s_d(m: Vocabulary, i: Instruction) -> None:
    m.wf(i.rd, m.f_to_f(m.f(i.rs1, 64), 64, 32, i.rm), 32)


@d_extension("0100001 00000 rs1 rm rd 1010011", "fd, fs1, exact")
def fcvt_d_s(m: Vocabulary, i: Instruction) -> None:
    m.wf(i.rd, m.f_to_f(m.f(i.rs1, 32), 32, 64, i.rm), 64)
