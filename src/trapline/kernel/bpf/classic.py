"""Classic BPF over 32-bit words: the checker and the interpreter that seccomp(2) and socket filters run on.

The machine has an accumulator A, an index X and sixteen words of memory. Jumps go forwards only, so every program ends; the
checker proves that it ends in a return, that nothing is divided by a constant zero, and that no word of memory is read
before it was written on every way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trapline.abi import seccomp as b
from trapline.abi.errno import EINVAL

Instruction = tuple[int, int, int, int]  #: code, jump if true, jump if false, k
MASK = 0xFFFF_FFFF
PACKET = 0x1_0000  #: a mark on instructions that only socket filters have (packet.py)

_LOAD, _LOAD_IMM, _LOAD_MEM, _LOAD_LEN = b.BPF_LD | b.BPF_ABS, b.BPF_LD | b.BPF_IMM, b.BPF_LD | b.BPF_MEM, b.BPF_LD | b.BPF_LEN
_LDX_IMM, _LDX_MEM, _LDX_LEN = b.BPF_LDX | b.BPF_IMM, b.BPF_LDX | b.BPF_MEM, b.BPF_LDX | b.BPF_LEN
_RET_K, _RET_A = b.BPF_RET | b.BPF_K, b.BPF_RET | b.BPF_A
_TAX, _TXA = b.BPF_MISC | b.BPF_TAX, b.BPF_MISC | b.BPF_TXA
_JA = b.BPF_JMP | b.BPF_JA
_NEG = b.BPF_ALU | b.BPF_NEG

_OPERATIONS: dict[int, Callable[[int, int], int]] = {
    b.BPF_ADD: lambda a, x: a + x & MASK,
    b.BPF_SUB: lambda a, x: a - x & MASK,
    b.BPF_MUL: lambda a, x: a * x & MASK,
    b.BPF_DIV: lambda a, x: a // x,
    b.BPF_OR: lambda a, x: a | x,
    b.BPF_AND: lambda a, x: a & x,
    b.BPF_XOR: lambda a, x: a ^ x,
    b.BPF_LSH: lambda a, x: a << (x & 31) & MASK,
    b.BPF_RSH: lambda a, x: a >> (x & 31),
}
_TESTS: dict[int, Callable[[int, int], int]] = {
    b.BPF_JEQ: lambda a, x: a == x,
    b.BPF_JGT: lambda a, x: a > x,
    b.BPF_JGE: lambda a, x: a >= x,
    b.BPF_JSET: lambda a, x: a & x,
}
_ALU = {b.BPF_ALU | op | source: act for op, act in _OPERATIONS.items() for source in (b.BPF_K, b.BPF_X)}
_JUMPS = {b.BPF_JMP | op | source: test for op, test in _TESTS.items() for source in (b.BPF_K, b.BPF_X)}
_MEMORY = {_LOAD_MEM, _LDX_MEM, b.BPF_ST, b.BPF_STX}
_PLAIN = {_LOAD, _LOAD_IMM, _LOAD_LEN, _LDX_IMM, _LDX_LEN, _RET_K, _RET_A, _TAX, _TXA, _JA, _NEG}


def check(program: Sequence[Instruction], words: int) -> None:
    """Raise EINVAL unless `program` is safe over data of so many words."""
    if not 0 < len(program) <= b.BPF_MAXINSNS:
        raise EINVAL("length")
    for at, (code, true, false, k) in enumerate(program):
        left = len(program) - at - 1
        if code in _ALU:
            operation = code & 0xF0
            if not code & b.BPF_X and ((operation == b.BPF_DIV and not k) or (operation in (b.BPF_LSH, b.BPF_RSH) and k > 31)):
                raise EINVAL("constant out of range")
        elif code in _JUMPS:
            if max(true, false) >= left:
                raise EINVAL("jump beyond the end")
        elif code in _MEMORY:
            if k >= b.BPF_MEMWORDS:
                raise EINVAL("no such word of memory")
        elif code not in _PLAIN:
            raise EINVAL("unknown instruction")
        elif (code == _JA and k >= left) or (code == _LOAD and (k & 3 or k >= words * 4)):
            raise EINVAL("jump or load beyond the end")
    if program[-1][0] not in (_RET_K, _RET_A):
        raise EINVAL("does not end in a return")
    _check_memory(program)


def _check_memory(program: Sequence[Instruction]) -> None:
    """Every word of memory is written before it is read, whichever way was taken."""
    everything = (1 << b.BPF_MEMWORDS) - 1
    valid_at = [everything] * len(program)  #: what all jumps to an instruction agree was written
    valid = 0
    for at, (code, true, false, k) in enumerate(program):
        valid &= valid_at[at]
        if code in (b.BPF_ST, b.BPF_STX):
            valid |= 1 << k
        elif code in (_LOAD_MEM, _LDX_MEM):
            if not valid >> k & 1:
                raise EINVAL("memory is read before it is written")
        elif code in _JUMPS:
            valid_at[at + 1 + true] &= valid
            valid_at[at + 1 + false] &= valid
            valid = everything
        elif code == _JA:
            valid_at[at + 1 + k] &= valid
            valid = everything


def run(program: Sequence[Instruction], data: Sequence[int], length: int) -> int:
    """What a checked program returns for `data` (words); `length` in bytes is what its LEN loads give."""
    a = x = at = 0
    memory = [0] * b.BPF_MEMWORDS
    while True:
        code, true, false, k = program[at]
        at += 1
        if code == _LOAD:
            a = data[k >> 2]
        elif code in _JUMPS:
            at += true if _JUMPS[code](a, x if code & b.BPF_X else k) else false
        elif code == _RET_K:
            return k
        elif code in _ALU:
            operand = x if code & b.BPF_X else k
            if not operand and code & 0xF0 == b.BPF_DIV:
                return 0
            a = _ALU[code](a, operand)
        elif code == _JA:
            at += k
        elif code == _RET_A:
            return a
        elif code == _NEG:
            a = -a & MASK
        elif code in (_TAX, _LDX_IMM, _LDX_MEM, _LDX_LEN):
            x = a if code == _TAX else k if code == _LDX_IMM else memory[k] if code == _LDX_MEM else length
        elif code in (_TXA, _LOAD_IMM, _LOAD_MEM, _LOAD_LEN):
            a = x if code == _TXA else k if code == _LOAD_IMM else memory[k] if code == _LOAD_MEM else length
        elif code & PACKET:
            found = data.marked(code, k, a, x)  # type: ignore[attr-defined]
            if found is None:
                return 0
            if code & 7 == b.BPF_LDX:
                x = found
            else:
                a = found
        else:
            memory[k] = a if code == b.BPF_ST else x
