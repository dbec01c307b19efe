"""Disassembly of what objdump's own age or habits keep out of the comparison with it."""

from __future__ import annotations

import pytest

from trapline.machine.riscv.disasm import disassemble
from trapline.machine.riscv.isa.decode import encode


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (encode("fli.s", rd=1, rs1=1), "fli.s ft1,min"), (encode("fli.d", rd=1, rs1=9), "fli.d ft1,0x1.4p-2"),
        (encode("fli.d", rd=10, rs1=0), "fli.d fa0,-0x1p+0"), (encode("fli.d", rd=10, rs1=31), "fli.d fa0,nan"),
        (encode("fround.d", rd=1, rs1=2, rm=1), "fround.d ft1,ft2,rtz"), (encode("fminm.s", rd=1, rs1=2, rs2=3), "fminm.s ft1,ft2,ft3"),
        (encode("fcvtmod.w.d", rd=10, rs1=2), "fcvtmod.w.d a0,ft2,rtz"), (encode("fltq.d", rd=10, rs1=2, rs2=3), "fltq.d a0,ft2,ft3"),
        (encode("czero.eqz", rd=1, rs1=2, rs2=3), "czero.eqz ra,sp,gp"), (encode("fence", fm=8, pred=3, succ=3), "fence.tso"),
        (encode("fence", pred=15, succ=1), "fence iorw,w"), (encode("jal", imm=-4), "jal zero,ffffffffffffffFC".lower()),
        (encode("csrrs", rd=5, csr=0xC00), "csrrs t0,cycle,zero"), (encode("csrrs", rd=5, csr=0x7FF), "csrrs t0,0x7ff,zero"),
        (0xFFFF_FFFF, ".4byte 0xffffffff"), (0x0000, ".2byte 0x0"), (0x0001, "c.nop"),
    ],
)  # fmt: skip
def test_text(word: int, text: str) -> None:
    assert disassemble(word) == text
