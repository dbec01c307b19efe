"""Disassembly: what GNU objdump prints with `-M no-aliases`, so that the two can be compared word for word.

Operands are written as each declaration's second text says, by the words below.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from trapline.machine.riscv import csr
from trapline.machine.riscv.isa.declare import Instruction
from trapline.machine.riscv.isa.decode import decode
from trapline.machine.riscv.isa.zfa import LITERALS

X_NAMES = (
    "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6".split()
)
F_NAMES = (
    "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 "
    "ft8 ft9 ft10 ft11".split()
)
_ROUNDING = ("rne", "rtz", "rdn", "rup", "rmm", "unknown", "unknown", "")
_M64 = (1 << 64) - 1
_FENCE_TSO = 8


def _set(bits: int) -> str:
    """A fence's set of accesses."""
    return "".join(letter for letter, bit in zip("iorw", (8, 4, 2, 1), strict=True) if bits & bit) or "unknown"


def _literal(i: Instruction) -> str:
    """As C's %a prints it."""
    literal = LITERALS[i.rs1]
    return literal if isinstance(literal, str) else re.sub(r"\.?0*p", "p", literal.hex())


_OPERANDS: dict[str, Callable[[Instruction, int], str]] = {
    "rd": lambda i, pc: X_NAMES[i.rd],
    "rs1": lambda i, pc: X_NAMES[i.rs1],
    "rs2": lambda i, pc: X_NAMES[i.rs2],
    "fd": lambda i, pc: F_NAMES[i.rd],
    "fs1": lambda i, pc: F_NAMES[i.rs1],
    "fs2": lambda i, pc: F_NAMES[i.rs2],
    "fs3": lambda i, pc: F_NAMES[i.rs3],
    "sp": lambda i, pc: "sp",
    "imm": lambda i, pc: str(i.imm),
    "hex": lambda i, pc: hex(i.imm),
    "upper": lambda i, pc: hex(i.imm >> 12 & 0xFFFFF),
    "target": lambda i, pc: f"{pc + i.imm & _M64:x}",
    "csr": lambda i, pc: csr.TABLE[i.csr].name if i.csr in csr.TABLE else hex(i.csr),
    "rm": lambda i, pc: _ROUNDING[i.rm],
    "exact": lambda i, pc: _ROUNDING[i.rm] if i.rm else "",  # conversions that never round: no mode is the usual text
    "rtz": lambda i, pc: "rtz",
    "pred": lambda i, pc: _set(i.pred),
    "succ": lambda i, pc: _set(i.succ),
    "link": lambda i, pc: X_NAMES[1 + i.imm],
    "literal": lambda i, pc: _literal(i),
}
_WORD = re.compile(r"[a-z]+\d?")


def text(i: Instruction, pc: int = 0) -> str:
    """One decoded instruction at `pc`."""
    name, operands = i.op.name, i.op.operands
    if name == "fence" and i.fm == _FENCE_TSO:
        return "fence.tso"
    if name == "c.nop" and i.imm:
        return f"c.addi zero,{i.imm}"
    if i.op.extension in ("Zimop", "Zcmop"):
        name = f"{name}.{i.imm | (i.op.extension == 'Zcmop')}"
    order = ("", ".rl", ".aq", ".aqrl")[i.aq << 1 | i.rl]
    written = [_WORD.sub(lambda word: _OPERANDS[word[0]](i, pc), each) for each in operands.split(", ")]
    return f"{name}{order} {','.join(each for each in written if each)}".rstrip()


def disassemble(raw: int, pc: int = 0) -> str:
    """The text of an instruction word; what is none comes as data."""
    i = decode(raw)
    if i is None:
        return f".4byte {raw:#x}" if raw & 3 == 3 else f".2byte {raw:#x}"
    return text(i, pc)
