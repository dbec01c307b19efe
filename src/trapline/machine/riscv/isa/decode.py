"""From bits to instructions: a table by opcode and funct3, then the most specific match.

`decode` returns None for what is no instruction; the hart makes that an illegal-instruction exception.
"""

from __future__ import annotations

from functools import cache

from trapline.machine.riscv.isa import (  # noqa: F401
    a,
    c,
    fd,
    h,
    i,
    m,
    priv,
    zb,
    zfa,
    zicbo,
    zicfilp,
    zicfiss,
    zicond,
    zicsr,
    zifencei,
    zimop,
)
from trapline.machine.riscv.isa.declare import OPS, Instruction, Op

KEY_32, KEY_16 = 0x707F, 0xE003  #: the bits that choose a list of candidates
_KEEP = 1 << 16  #: decoded instructions remembered

_cache: dict[int, Instruction | None] = {}


_BY_BITS = sorted(OPS, key=lambda op: -op.mask.bit_count())
_OPS_32, _OPS_16 = ([op for op in _BY_BITS if op.length == size] for size in (4, 2))


@cache
def candidates(key: int) -> tuple[Op, ...]:
    """The ops that some bits leave possible, the most specific first. `key`: an instruction's bits of KEY_32, or of KEY_16."""
    ops, mask = (_OPS_32, KEY_32) if key & 3 == 3 else (_OPS_16, KEY_16)
    return tuple(op for op in ops if not (key ^ op.match) & op.mask & mask)

BY_NAME: dict[str, Op] = {op.name: op for op in OPS}


def length(low_half: int) -> int:
    """Bytes of the instruction that begins with this half-word. (Longer formats are no instructions of ours.)"""
    return 4 if low_half & 3 == 3 else 2


def decode(raw: int) -> Instruction | None:
    """The instruction with these bits: 16 if the lowest two are not 11, else 32."""
    try:
        return _cache[raw]
    except KeyError:
        found = _decode(raw)
        if len(_cache) >= _KEEP:
            _cache.clear()
        _cache[raw] = found
        return found


def _decode(raw: int) -> Instruction | None:
    for op in candidates(raw & (KEY_32 if raw & 3 == 3 else KEY_16)):
        if raw & op.mask == op.match and all(each.get(raw) for each in op.fields if each.nonzero):
            return Instruction(op, raw)
    return None


def encode(name: str, **operands: int) -> int:
    """The bits of an instruction by mnemonic and operands (zero unless given). Raises ValueError if one does not fit."""
    op = BY_NAME[name]
    raw = op.match
    for each in op.fields:
        raw |= each.put(operands.pop(each.name, 8 if each.bias else 0))
    if operands:
        raise ValueError(f"{name} has no operand {', '.join(operands)}")
    return raw
