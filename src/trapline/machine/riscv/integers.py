"""The vocabulary's registers, integers, conditions and control on Python ints: the reference meaning of each word.

Hot: these run once or more per instruction, so they are short, and callers pass them values that may exceed 64 bits.
"""

from __future__ import annotations

M64 = (1 << 64) - 1
_SIGN = 1 << 63


def signed(value: int) -> int:
    """A value as a signed 64-bit number."""
    value &= M64
    return value - (1 << 64) if value >> 63 else value


class Integers:
    """Part of the hart: it has the registers."""

    __slots__ = ("at", "next", "xs")

    cpu: memoryview  #: the CPU struct
    xs: memoryview  #: x0 to x31
    at: int  #: address of the instruction being executed
    next: int  #: address of the one to execute after it

    # ---- registers

    def x(self, n: int) -> int:
        return self.xs[n]

    def w(self, n: int, value: int) -> None:
        if n:
            self.xs[n] = value & M64

    # ---- words of the CPU struct

    def word(self, n: int) -> int:
        return self.cpu[n]

    def set_word(self, n: int, value: int) -> None:
        self.cpu[n] = value & M64

    # ---- integers

    def sx(self, value: int, width: int) -> int:
        sign = 1 << (width - 1)
        return ((value & ((sign << 1) - 1)) ^ sign) - sign

    def zx(self, value: int, width: int) -> int:
        return value & ((1 << width) - 1)

    def sll(self, value: int, count: int) -> int:
        return value << (count & 63)

    def srl(self, value: int, count: int) -> int:
        return (value & M64) >> (count & 63)

    def sra(self, value: int, count: int) -> int:
        return signed(value) >> (count & 63)

    def mulh(self, a: int, b: int) -> int:
        return signed(a) * signed(b) >> 64

    def mulhu(self, a: int, b: int) -> int:
        return (a & M64) * (b & M64) >> 64

    def mulhsu(self, a: int, b: int) -> int:
        return signed(a) * (b & M64) >> 64

    def div(self, a: int, b: int) -> int:
        a, b = signed(a), signed(b)
        if b == 0:
            return -1
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient

    def divu(self, a: int, b: int) -> int:
        b &= M64
        return (a & M64) // b if b else M64

    def rem(self, a: int, b: int) -> int:
        a, b = signed(a), signed(b)
        if b == 0:
            return a
        rest = abs(a) % abs(b)
        return -rest if a < 0 else rest

    def remu(self, a: int, b: int) -> int:
        b &= M64
        return (a & M64) % b if b else a

    def clz(self, value: int) -> int:
        return 64 - (value & M64).bit_length()

    def ctz(self, value: int) -> int:
        value &= M64
        return (value & -value).bit_length() - 1 if value else 64

    def cpop(self, value: int) -> int:
        return (value & M64).bit_count()

    def bswap(self, value: int) -> int:
        return int.from_bytes((value & M64).to_bytes(8, "little"), "big")

    # ---- conditions

    def eq(self, a: int, b: int) -> int:
        return (a ^ b) & M64 == 0

    def ne(self, a: int, b: int) -> int:
        return (a ^ b) & M64 != 0

    def lt(self, a: int, b: int) -> int:
        return (a + _SIGN) & M64 < (b + _SIGN) & M64

    def ltu(self, a: int, b: int) -> int:
        return a & M64 < b & M64

    def ge(self, a: int, b: int) -> int:
        return (a + _SIGN) & M64 >= (b + _SIGN) & M64

    def geu(self, a: int, b: int) -> int:
        return a & M64 >= b & M64

    def select(self, condition: int, yes: int, no: int) -> int:
        return yes if condition else no

    # ---- control

    def pc(self) -> int:
        return self.at

    def jump(self, target: int) -> None:
        self.next = target & M64

    def branch(self, condition: int, target: int) -> None:
        if condition:
            self.next = target & M64
