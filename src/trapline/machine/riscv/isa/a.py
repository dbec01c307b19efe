"""RV64A: atomics (volume I, "A Extension for Atomic Instructions").

aq and rl order an access against others; every access of ours is sequentially consistent, so no body looks at them.
"""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Body, Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("A")


@op("00010 aq rl 00000 rs1 010 rd 0101111", "rd, (rs1)")
def lr_w(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.lr(m.x(i.rs1), 4))


@op("00010 aq rl 00000 rs1 011 rd 0101111", "rd, (rs1)")
def lr_d(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.lr(m.x(i.rs1), 8))


@op("00011 aq rl rs2 rs1 010 rd 0101111", "rd, rs2, (rs1)")
def sc_w(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sc(m.x(i.rs1), 4, m.x(i.rs2)))


@op("00011 aq rl rs2 rs1 011 rd 0101111", "rd, rs2, (rs1)")
def sc_d(m: Vocabulary, i: Instruction) -> None:
    m.w(i.rd, m.sc(m.x(i.rs1), 8, m.x(i.rs2)))


def _amo(name: str, size: int) -> Body:
    def body(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.amo(name, m.x(i.rs1), size, m.x(i.rs2)))

    body.__name__ = f"amo{name}_{'w' if size == 4 else 'd'}"
    return body


for _funct5, _name in (
    ("00001", "swap"), ("00000", "add"), ("00100", "xor"), ("01100", "and"), ("01000", "or"),
    ("10000", "min"), ("10100", "max"), ("11000", "minu"), ("11100", "maxu"),
):  # fmt: skip
    op(f"{_funct5} aq rl rs2 rs1 010 rd 0101111", "rd, rs2, (rs1)")(_amo(_name, 4))
    op(f"{_funct5} aq rl rs2 rs1 011 rd 0101111", "rd, rs2, (rs1)")(_amo(_name, 8))
