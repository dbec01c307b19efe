"""Expressions of DWARF, as call frame information uses them: a little stack machine over registers and memory.

Source: DWARF 5, section 2.5. What frames do not use (types, calls, location lists) is Malformed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trapline.scope.unwind.dwarf import WORD, Malformed, Reader

MAX_STEPS, MAX_STACK = 200, 64
_CONSTANTS = {0x08: (1, False), 0x09: (1, True), 0x0A: (2, False), 0x0B: (2, True), 0x0C: (4, False), 0x0D: (4, True),
              0x0E: (8, False), 0x0F: (8, True), 0x03: (8, False)}  # fmt: skip


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _divided(a: int, b: int) -> int:
    a, b = _signed(a), _signed(b)
    if not b:
        raise Malformed
    return -(-a // b) if (a < 0) != (b < 0) else a // b


_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b, 0x1B: _divided, 0x1C: lambda a, b: a - b, 0x1E: lambda a, b: a * b, 0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b, 0x24: lambda a, b: a << min(b, 64), 0x25: lambda a, b: a >> min(b, 64),
    0x26: lambda a, b: _signed(a) >> min(b, 64), 0x27: lambda a, b: a ^ b,
    0x29: lambda a, b: a == b, 0x2A: lambda a, b: _signed(a) >= _signed(b), 0x2B: lambda a, b: _signed(a) > _signed(b),
    0x2C: lambda a, b: _signed(a) <= _signed(b), 0x2D: lambda a, b: _signed(a) < _signed(b), 0x2E: lambda a, b: a != b,
}  # fmt: skip
_UNARY: dict[int, Callable[[int], int]] = {0x19: lambda a: abs(_signed(a)), 0x1F: lambda a: -a, 0x20: lambda a: ~a}


def evaluate(code: bytes, registers: Mapping[int, int], read: Callable[[int, int], int], *initial: int) -> int:
    """The value of an expression; `read(address, size)` reads memory. Raises Malformed."""
    reader, stack = Reader(code), list(initial)
    for _ in range(MAX_STEPS):
        if not reader.more:
            if not stack:
                raise Malformed
            return stack[-1]
        try:
            _step(reader, stack, registers, read)
        except (IndexError, KeyError):
            raise Malformed from None
        if len(stack) > MAX_STACK:
            raise Malformed
    raise Malformed


def _step(reader: Reader, stack: list[int], registers: Mapping[int, int], read: Callable[[int, int], int]) -> None:
    op = reader.fixed(1)
    if op in _CONSTANTS:
        stack.append(reader.fixed(*_CONSTANTS[op]) & WORD)
    elif 0x30 <= op <= 0x4F:
        stack.append(op - 0x30)
    elif 0x70 <= op <= 0x8F or op == 0x92:
        register = op - 0x70 if op != 0x92 else reader.uleb()
        stack.append(registers[register] + reader.sleb() & WORD)
    elif op in (0x10, 0x11):
        stack.append((reader.uleb() if op == 0x10 else reader.sleb()) & WORD)
    elif op in (0x06, 0x94):
        stack.append(read(stack.pop(), 8 if op == 0x06 else min(reader.fixed(1), 8)))
    elif op in _BINARY:
        b, a = stack.pop(), stack.pop()
        stack.append(_BINARY[op](a, b) & WORD)
    elif op in _UNARY:
        stack.append(_UNARY[op](stack.pop()) & WORD)
    elif op == 0x23:
        stack[-1] = stack[-1] + reader.uleb() & WORD
    elif op in (0x28, 0x2F):
        delta = reader.fixed(2, True)
        if op == 0x2F or stack.pop():
            reader.at += delta
            if reader.at < 0:
                raise Malformed
    else:
        _rearrange(reader, stack, op)


def _rearrange(reader: Reader, stack: list[int], op: int) -> None:
    if op == 0x12:
        stack.append(stack[-1])
    elif op == 0x13:
        stack.pop()
    elif op == 0x14:
        stack.append(stack[-2])
    elif op == 0x15:
        stack.append(stack[-1 - reader.fixed(1)])
    elif op == 0x16:
        stack[-1], stack[-2] = stack[-2], stack[-1]
    elif op == 0x17:
        stack[-1], stack[-2], stack[-3] = stack[-2], stack[-3], stack[-1]
    elif op != 0x96:  # nop
        raise Malformed
