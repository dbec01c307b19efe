"""The vocabulary's floating point: registers with NaN-boxing, rounding modes, flags; the arithmetic is `softfloat`'s."""

from __future__ import annotations

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import softfloat as soft
from trapline.machine.riscv import status as st
from trapline.machine.riscv.softfloat import FORMATS, SINGLE
from trapline.machine.riscv.trap import ILLEGAL, Trap

_BOX = 0xFFFF_FFFF << 32
_M32, _M64 = (1 << 32) - 1, (1 << 64) - 1
DYNAMIC = 7


class Floats:
    """Part of the hart."""

    __slots__ = ()

    cpu: memoryview
    fs: memoryview  #: f0 to f31

    # ---- registers

    def f(self, n: int, bits: int) -> int:
        value: int = self.fs[n]
        if bits == 64:
            return value
        return value & _M32 if value >= _BOX else SINGLE.nan

    def wf(self, n: int, value: int, bits: int) -> None:
        self.fs[n] = value & _M64 if bits == 64 else value & _M32 | _BOX
        self.cpu[at.MSTATUS] |= st.FS

    def rounding(self, rm: int) -> int:
        """The mode that an instruction's field selects; a reserved one is an illegal instruction."""
        mode: int = self.cpu[at.FRM] if rm == DYNAMIC else rm
        if mode > soft.RMM:
            raise Trap(ILLEGAL, self.raw())
        return mode

    def raw(self) -> int:
        """The bits of the instruction being executed."""
        raise NotImplementedError

    def _done(self, result: soft.Result) -> int:
        """Take in the flags of a result."""
        value, flags = result
        if flags:
            cpu = self.cpu
            cpu[at.FFLAGS] |= flags
            cpu[at.MSTATUS] |= st.FS
        return value

    # ---- arithmetic

    def fadd(self, a: int, b: int, bits: int, rm: int) -> int:
        return self._done(soft.add(a, b, FORMATS[bits], self.rounding(rm)))

    def fsub(self, a: int, b: int, bits: int, rm: int) -> int:
        return self._done(soft.sub(a, b, FORMATS[bits], self.rounding(rm)))

    def fmul(self, a: int, b: int, bits: int, rm: int) -> int:
        return self._done(soft.mul(a, b, FORMATS[bits], self.rounding(rm)))

    def fdiv(self, a: int, b: int, bits: int, rm: int) -> int:
        return self._done(soft.div(a, b, FORMATS[bits], self.rounding(rm)))

    def fsqrt(self, a: int, bits: int, rm: int) -> int:
        return self._done(soft.sqrt(a, FORMATS[bits], self.rounding(rm)))

    def fma(self, a: int, b: int, c: int, bits: int, rm: int) -> int:
        return self._done(soft.fma(a, b, c, FORMATS[bits], self.rounding(rm)))

    # ---- comparison

    def fmin(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.minimum(a, b, FORMATS[bits]))

    def fmax(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.minimum(a, b, FORMATS[bits], greatest=True))

    def fminm(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.minimum(a, b, FORMATS[bits], numbers=False))

    def fmaxm(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.minimum(a, b, FORMATS[bits], greatest=True, numbers=False))

    def feq(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.eq(a, b, FORMATS[bits]))

    def flt(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.lt(a, b, FORMATS[bits]))

    def fle(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.le(a, b, FORMATS[bits]))

    def fltq(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.lt(a, b, FORMATS[bits], quiet=True))

    def fleq(self, a: int, b: int, bits: int) -> int:
        return self._done(soft.le(a, b, FORMATS[bits], quiet=True))

    def fclass(self, a: int, bits: int) -> int:
        return soft.classify(a, FORMATS[bits])

    # ---- conversion

    def f_to_int(self, a: int, bits: int, rm: int, width: int, *, signed: bool) -> int:
        value = self._done(soft.to_int(a, FORMATS[bits], self.rounding(rm), width, signed=signed))
        return _word(value) if width == 32 else value

    def f_to_int_modular(self, a: int, rm: int) -> int:
        return _word(self._done(soft.to_int_modular(a, FORMATS[64])))

    def int_to_f(self, value: int, bits: int, rm: int, width: int, *, signed: bool) -> int:
        value &= (1 << width) - 1
        if signed and value >> (width - 1):
            value -= 1 << width
        return self._done(soft.from_int(value, FORMATS[bits], self.rounding(rm)))

    def f_to_f(self, a: int, bits: int, to: int, rm: int) -> int:
        return self._done(soft.convert(a, FORMATS[bits], FORMATS[to], self.rounding(rm)))

    def fround(self, a: int, bits: int, rm: int, *, exact: bool) -> int:
        return self._done(soft.round_to_integral(a, FORMATS[bits], self.rounding(rm), exact=exact))


def _word(value: int) -> int:
    """The low 32 bits, sign-extended."""
    return ((value & _M32) ^ 1 << 31) - (1 << 31)
