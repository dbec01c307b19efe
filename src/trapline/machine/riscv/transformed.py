"""What htinst and mtinst tell of a load, store or atomic that a guest's hypervisor must emulate: the instruction, transformed.

Source: volume II, "Hypervisor Extension", "Transformed Instruction or Pseudoinstruction for mtinst or htinst": immediates are
cleared, rs1 becomes the distance of the faulting byte from the access's first, and a compressed instruction is
its expansion with bit 1 clear.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.machine.riscv.isa.declare import OPS
from trapline.machine.riscv.isa.decode import decode

_LOADS, _STORES, _AMO, _SYSTEM = (0x03, 0x07), (0x23, 0x27), 0x2F, 0x73
_RS1 = 31 << 15
_M64 = (1 << 64) - 1
_FULL = {op.body: op for op in OPS if op.length == 4}


def transform(raw: int, x: Callable[[int], int], address: int) -> int:
    """The transformed instruction, or 0 for one that has no such form. x: the registers; address: the faulting byte."""
    i = decode(raw)
    if i is None:
        return 0
    op = _FULL[i.body]
    opcode = op.match & 0x7F
    if opcode in _LOADS:
        word = op.match | i.rd << 7
    elif opcode in _STORES:
        word = op.match | i.rs2 << 20
    elif opcode in (_AMO, _SYSTEM):
        word = raw & ~_RS1
    else:
        return 0
    distance = address - x(i.rs1) - i.imm & _M64
    word |= (distance & 31) << 15
    return word & ~2 if i.length == 2 else word
