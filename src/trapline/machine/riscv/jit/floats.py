"""The vocabulary's floating point, lowered to LLVM: on the host's SSE unit, in the guest's rounding mode.

In a nutshell: values are bit patterns; an operation is one of LLVM's constrained intrinsics, which keep their order and their
flags; the flags gather in MXCSR until native code is left. Only modes that SSE has get here: see FP_READY in state.py.

Invariant: what the unit would do differently from the manual (a NaN operand of min and max, a conversion out of range, a fused
operation that gives NaN, another rounding mode than frm's) is a step.
"""

from __future__ import annotations

import struct

from trapline.machine.riscv import layout
from trapline.machine.riscv import status as st
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.emit import INTEGER_DECLARATIONS, Emitter
from trapline.machine.riscv.jit.text import Operand, Value, text

STRICT = 'metadata !"fpexcept.strict"'
DYNAMIC = 'metadata !"round.dynamic"'
CANONICAL = {32: 0x7FC0_0000, 64: 0x7FF8_0000_0000_0000}
_TYPE = {32: "float", 64: "double"}
_BOX = 0xFFFF_FFFF << 32
RTZ, DYN = 1, 7
_MODES = 0b10_01_11_00  #: SSE's rounding modes, two bits for each of frm's first four
#: Declarations that every module needs.
DECLARATIONS = INTEGER_DECLARATIONS + "\n".join(
    f"declare {t} @llvm.experimental.constrained.{op}.f{bits}({', '.join([t] * count)}, {'metadata, ' * rounded}metadata)"
    for bits, t in _TYPE.items()
    for op, count, rounded in (("fadd", 2, 1), ("fsub", 2, 1), ("fmul", 2, 1), ("fdiv", 2, 1), ("sqrt", 1, 1), ("fma", 3, 1))
) + "\n" + "\n".join(
    f"declare i1 @llvm.experimental.constrained.{op}.f{bits}({t}, {t}, metadata, metadata)"
    for bits, t in _TYPE.items()
    for op in ("fcmp", "fcmps")
) + """
declare float @llvm.experimental.constrained.fptrunc.f32.f64(double, metadata, metadata)
declare double @llvm.experimental.constrained.fpext.f64.f32(float, metadata)
declare i64 @llvm.experimental.constrained.fptosi.i64.f32(float, metadata)
declare i64 @llvm.experimental.constrained.fptosi.i64.f64(double, metadata)
declare float @llvm.experimental.constrained.sitofp.f32.i64(i64, metadata, metadata)
declare double @llvm.experimental.constrained.sitofp.f64.i64(i64, metadata, metadata)
declare i64 @llvm.x86.sse.cvtss2si64(<4 x float>)
declare i64 @llvm.x86.sse2.cvtsd2si64(<2 x double>)
"""


class _Unit(Emitter):
    """Between the guest's floating-point state and the host's unit, when native code is entered and left."""

    def begin(self) -> None:
        """FP_READY, and the MXCSR to run with: all exceptions masked, no flag set, frm's rounding mode."""
        code = self.code
        frm, on = self._word(at.FRM), self._word(at.MSTATUS) & st.FS
        on = on & self.select(self._word(8 * layout.VIRT), self._word(8 * layout.VSSTATUS), -1)  # a guest needs both
        ready = code.let(f"and i1 {code.let(f'icmp eq i64 {on.name}, {st.FS}')}, {code.let(f'icmp ult i64 {frm.name}, 4')}")
        self._set_word(at.FP_READY, code.condition(ready))
        mode = self.srl(_MODES, code.binary("shl", frm & 3, 1)) & 3
        self._set_word(at.MXCSR, code.binary("shl", mode, 13) | 0x1F80)

    def end(self) -> None:
        """The flags that were raised (IE DE ZE OE UE PE) into fflags (NV DZ OF UF NX)."""
        raised, flags = self._word(at.MXCSR), self._word(at.FFLAGS)
        for source, target in ((0, 4), (2, 3), (3, 2), (4, 1), (5, 0)):
            flags = flags | self.code.binary("shl", self.srl(raised, source) & 1, target)
        self._set_word(at.FFLAGS, flags)


def unit() -> str:
    """The functions `load_unit` and `save_unit`."""
    load, save = _Unit(), _Unit()
    load.begin()
    save.end()
    for each in (load, save):
        each.code.line("ret void")
    header = "define internal void @{}(ptr %cpu) nounwind"
    return load.code.function(header.format("load_unit")) + save.code.function(header.format("save_unit"))


class FloatEmitter(Emitter):
    """An emitter with the whole vocabulary."""

    # ---- registers

    def f(self, n: int, bits: int) -> Value:
        whole = self.freg(n)
        if bits == 64:
            return whole
        code = self.code
        boxed = code.let(f"icmp uge i64 {whole.name}, {text(_BOX)}")
        return code.value(f"select i1 {boxed}, i64 {self.zx(whole, 32).name}, i64 {CANONICAL[32]}")

    def wf(self, n: int, value: Operand, bits: int) -> None:
        if bits == 32:
            value = self.code.binary("or", value, _BOX)
        self.set_freg(n, value if isinstance(value, Value) else self.code.value(f"add i64 {text(value)}, 0"))

    def to_host(self, value: Operand, bits: int) -> str:
        """A bit pattern as a float or double."""
        if bits == 64:
            return self.code.let(f"bitcast i64 {text(value)} to double")
        narrow = self.code.let(f"trunc i64 {text(value)} to i32")
        return self.code.let(f"bitcast i32 {narrow} to float")

    def from_host(self, name: str, bits: int) -> Value:
        if bits == 64:
            return self.code.value(f"bitcast double {name} to i64")
        narrow = self.code.let(f"bitcast float {name} to i32")
        return self.code.value(f"zext i32 {narrow} to i64")

    # ---- operations

    def rounding(self, rm: Operand) -> None:
        """Go on only if the instruction's rounding mode is the one that the host's unit is in."""
        if isinstance(rm, int) and rm == DYN:
            return
        code = self.code
        same = code.let(f"icmp eq i64 {self._word(at.FRM).name}, {text(rm)}")
        if isinstance(rm, Value):
            same = code.let(f"or i1 {same}, {code.let(f'icmp eq i64 {rm.name}, {DYN}')}")
        self.step_if(code.let(f"xor i1 {same}, true"))

    def _canonical(self, name: str, bits: int, *, step: bool = False) -> Value:
        """A result with the canonical NaN for any; or a step instead of it."""
        t = _TYPE[bits]
        nan = self.code.let(
            f"call i1 @llvm.experimental.constrained.fcmp.f{bits}({t} {name}, {t} {name}, metadata !\"uno\", {STRICT})"
        )
        if step:
            self.step_if(nan)
            return self.from_host(name, bits)
        pattern = self.from_host(name, bits)
        return self.code.value(f"select i1 {nan}, i64 {CANONICAL[bits]}, i64 {pattern.name}")

    def _arithmetic(self, op: str, operands: tuple[Operand, ...], bits: int, rm: Operand, *, step: bool = False) -> Value:
        self.rounding(rm)
        t = _TYPE[bits]
        words = ", ".join(f"{t} {self.to_host(each, bits)}" for each in operands)
        name = self.code.let(f"call {t} @llvm.experimental.constrained.{op}.f{bits}({words}, {DYNAMIC}, {STRICT})")
        return self._canonical(name, bits, step=step)

    def fadd(self, a: Operand, b: Operand, bits: int, rm: Operand) -> Value:
        return self._arithmetic("fadd", (a, b), bits, rm)

    def fsub(self, a: Operand, b: Operand, bits: int, rm: Operand) -> Value:
        return self._arithmetic("fsub", (a, b), bits, rm)

    def fmul(self, a: Operand, b: Operand, bits: int, rm: Operand) -> Value:
        return self._arithmetic("fmul", (a, b), bits, rm)

    def fdiv(self, a: Operand, b: Operand, bits: int, rm: Operand) -> Value:
        return self._arithmetic("fdiv", (a, b), bits, rm)

    def fsqrt(self, a: Operand, bits: int, rm: Operand) -> Value:
        return self._arithmetic("sqrt", (a,), bits, rm)

    def fma(self, a: Operand, b: Operand, c: Operand, bits: int, rm: Operand) -> Value:
        """inf * 0 + NaN is invalid here and not on the host: a NaN result is a step."""
        return self._arithmetic("fma", (a, b, c), bits, rm, step=True)

    def _fcmp(self, how: str, a: Operand, b: Operand, bits: int, *, signalling: bool) -> str:
        t, op = _TYPE[bits], "fcmps" if signalling else "fcmp"
        x, y = self.to_host(a, bits), self.to_host(b, bits)
        return self.code.let(
            f"call i1 @llvm.experimental.constrained.{op}.f{bits}({t} {x}, {t} {y}, metadata !\"{how}\", {STRICT})"
        )

    def feq(self, a: Operand, b: Operand, bits: int) -> Value:
        return self.code.condition(self._fcmp("oeq", a, b, bits, signalling=False))

    def flt(self, a: Operand, b: Operand, bits: int) -> Value:
        return self.code.condition(self._fcmp("olt", a, b, bits, signalling=True))

    def fle(self, a: Operand, b: Operand, bits: int) -> Value:
        return self.code.condition(self._fcmp("ole", a, b, bits, signalling=True))

    def fltq(self, a: Operand, b: Operand, bits: int) -> Value:
        return self.code.condition(self._fcmp("olt", a, b, bits, signalling=False))

    def fleq(self, a: Operand, b: Operand, bits: int) -> Value:
        return self.code.condition(self._fcmp("ole", a, b, bits, signalling=False))

    def _is_nan(self, a: Operand, bits: int) -> str:
        """Without the host's unit, which would raise a flag for a signalling NaN."""
        magnitude = self.code.binary("and", a, (1 << (bits - 1)) - 1)
        infinity = CANONICAL[bits] & ~(1 << (22 if bits == 32 else 51))
        return self.code.let(f"icmp ugt i64 {magnitude.name}, {infinity}")

    def _extreme(self, a: Operand, b: Operand, bits: int, *, least: bool) -> Value:
        """Of two that are not NaN; -0 is less than +0."""
        code = self.code
        self.step_if(code.let(f"or i1 {self._is_nan(a, bits)}, {self._is_nan(b, bits)}"))
        less = self._fcmp("olt" if least else "ogt", a, b, bits, signalling=False)
        equal = self._fcmp("oeq", a, b, bits, signalling=False)
        both = code.binary("or" if least else "and", a, b)
        other = code.let(f"select i1 {equal}, i64 {both.name}, i64 {text(b)}")
        return code.value(f"select i1 {less}, i64 {text(a)}, i64 {other}")

    def fmin(self, a: Operand, b: Operand, bits: int) -> Value:
        return self._extreme(a, b, bits, least=True)

    def fmax(self, a: Operand, b: Operand, bits: int) -> Value:
        return self._extreme(a, b, bits, least=False)

    fminm, fmaxm = fmin, fmax
    fclass = f_to_int_modular = fround = Emitter.unsupported

    # ---- conversions

    def f_to_int(self, a: Operand, bits: int, rm: Operand, width: int, *, signed: bool) -> Operand:
        """Only what fits however it is rounded; the rest is a step. The host's two conversions raise the same flags."""
        code, t = self.code, _TYPE[bits]
        value = self.to_host(a, bits)
        top = 1 << (width - 1 if signed or width == 64 else width)
        low, high = (-top if signed else 0), top - (top >> (24 if bits == 32 else 53) or 1)
        fits = "true"
        for how, bound in (("oge", float(low)), ("ole", float(high))):
            inside = code.let(
                f"call i1 @llvm.experimental.constrained.fcmp.f{bits}({t} {value}, {t} {_literal(bound)}, "
                f'metadata !"{how}", {STRICT})'
            )
            fits = code.let(f"and i1 {fits}, {inside}")
        self.step_if(code.let(f"xor i1 {fits}, true"))
        result = self._convert(value, bits, rm)
        return result if width == 64 else self.sx(result, 32)

    def _convert(self, value: str, bits: int, rm: Operand) -> Value:
        """To 64 bits: towards zero, or as MXCSR says."""
        code, t = self.code, _TYPE[bits]
        if isinstance(rm, Value):
            zero = code.let(f"icmp eq i64 {rm.name}, {RTZ}")
            self.rounding(code.value(f"select i1 {zero}, i64 {DYN}, i64 {rm.name}"))
        elif rm != RTZ:
            self.rounding(rm)
        truncated = code.value(f"call i64 @llvm.experimental.constrained.fptosi.i64.f{bits}({t} {value}, {STRICT})")
        if isinstance(rm, int) and rm == RTZ:
            return truncated
        lanes = 4 if bits == 32 else 2
        vector = code.let(f"insertelement <{lanes} x {t}> zeroinitializer, {t} {value}, i32 0")
        name = "llvm.x86.sse.cvtss2si64" if bits == 32 else "llvm.x86.sse2.cvtsd2si64"
        rounded = code.value(f"call i64 @{name}(<{lanes} x {t}> {vector})")
        return code.value(f"select i1 {zero}, i64 {truncated.name}, i64 {rounded.name}") if isinstance(rm, Value) else rounded

    def int_to_f(self, value: Operand, bits: int, rm: Operand, width: int, *, signed: bool) -> Value:
        if width == 32:
            value = self.sx(value, 32) if signed else self.zx(value, 32)
        elif not signed:
            self.step_if(self.code.let(f"icmp slt i64 {text(value)}, 0"))
        if width == 64 or bits == 32:
            self.rounding(rm)
        elif isinstance(rm, Value) or rm not in (0, 1, 2, 3, 4, DYN):
            self.rounding(rm)  # exact, but a reserved mode must trap
        t = _TYPE[bits]
        name = self.code.let(
            f"call {t} @llvm.experimental.constrained.sitofp.f{bits}.i64(i64 {text(value)}, {DYNAMIC}, {STRICT})"
        )
        return self.from_host(name, bits)

    def f_to_f(self, a: Operand, bits: int, to: int, rm: Operand) -> Value:
        value = self.to_host(a, bits)
        if to == 64:
            if isinstance(rm, Value) or rm not in (0, 1, 2, 3, 4, DYN):
                self.rounding(rm)
            name = self.code.let(f"call double @llvm.experimental.constrained.fpext.f64.f32(float {value}, {STRICT})")
        else:
            self.rounding(rm)
            name = self.code.let(
                f"call float @llvm.experimental.constrained.fptrunc.f32.f64(double {value}, {DYNAMIC}, {STRICT})"
            )
        return self._canonical(name, to)


def _literal(value: float) -> str:
    """A number as LLVM writes it exactly."""
    return f"0x{int.from_bytes(struct.pack('<d', value), 'little'):016X}"
