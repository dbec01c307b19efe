"""The vocabulary of the instruction definitions: all that a body may ask of the abstract machine `m`.

A **value** is a number modulo 2**64. What stands for it is the tier's choice: a Python int in the reference tier, an SSA
name in a compiler. Python's own ints are values too, in every tier.

- `+ - * & | ^ ~` on values are ring operations: their low 64 bits depend on nothing but the operands' low 64 bits, so a tier
  may leave the bits above 64 as they fall. Everything below that takes a value looks at its low 64 bits only.
- A **condition** is a value that is 0 or 1. Comparisons return one; `select` and `branch` take one.
- There is no other operator, and no Python `if`, on a value. The fields of the instruction (`i.rd`, `i.imm`) are plain ints.

A body reads operands, may trap (loads, stores, rounding modes), and writes registers last: nothing of an instruction that
trapped is visible. In the reference tier a trap is an exception; in a compiler a side exit with the pc of this instruction.
"""

from __future__ import annotations

from trapline.typed import Any, Protocol, TypeAlias

Value: TypeAlias = Any


class Vocabulary(Protocol):
    """`m`. Sizes are in bytes, widths in bits; `bits` of floating-point operations is 32 or 64."""

    # ---- registers

    def x(self, n: int) -> Value:
        """Integer register n; x(0) is zero."""

    def w(self, n: int, value: Value) -> None:
        """Write integer register n; nothing if n is 0."""

    def f(self, n: int, bits: int) -> Value:
        """Floating-point register n. bits=32: the low half if it is NaN-boxed, else the canonical NaN. 64: all of it."""

    def wf(self, n: int, value: Value, bits: int) -> None:
        """Write floating-point register n, NaN-boxing 32 bits; mstatus.FS becomes dirty."""

    # ---- integers

    def sx(self, value: Value, width: int) -> Value:
        """The low `width` bits, sign-extended."""

    def zx(self, value: Value, width: int) -> Value:
        """The low `width` bits, zero-extended."""

    def sll(self, value: Value, count: Value) -> Value:
        """Shift left by count modulo 64."""

    def srl(self, value: Value, count: Value) -> Value: ...

    def sra(self, value: Value, count: Value) -> Value: ...

    def mulh(self, a: Value, b: Value) -> Value:
        """The high 64 bits of the product, both operands signed."""

    def mulhu(self, a: Value, b: Value) -> Value: ...

    def mulhsu(self, a: Value, b: Value) -> Value: ...

    def div(self, a: Value, b: Value) -> Value:
        """Signed, towards zero; by zero: -1; -2**63 / -1: -2**63."""

    def divu(self, a: Value, b: Value) -> Value: ...

    def rem(self, a: Value, b: Value) -> Value:
        """Signed, with the sign of a; by zero: a; -2**63 % -1: 0."""

    def remu(self, a: Value, b: Value) -> Value: ...

    def clz(self, value: Value) -> Value:
        """Leading zeros of 64 bits; 64 for 0."""

    def ctz(self, value: Value) -> Value: ...

    def cpop(self, value: Value) -> Value: ...

    def bswap(self, value: Value) -> Value:
        """The eight bytes in reverse."""

    # ---- conditions

    def eq(self, a: Value, b: Value) -> Value: ...

    def ne(self, a: Value, b: Value) -> Value: ...

    def lt(self, a: Value, b: Value) -> Value:
        """Signed a < b."""

    def ltu(self, a: Value, b: Value) -> Value: ...

    def ge(self, a: Value, b: Value) -> Value: ...

    def geu(self, a: Value, b: Value) -> Value: ...

    def select(self, condition: Value, yes: Value, no: Value) -> Value: ...

    # ---- control

    def pc(self) -> Value:
        """The address of this instruction; the next one follows at pc() + i.length."""

    def jump(self, target: Value) -> None:
        """Go on at `target` (even: the body has seen to it) instead of the next instruction."""

    def branch(self, condition: Value, target: Value) -> None: ...

    # ---- memory: virtual addresses; these trap

    def load(self, address: Value, size: int, *, signed: bool = False) -> Value: ...

    def store(self, address: Value, size: int, value: Value) -> None: ...

    def lr(self, address: Value, size: int) -> Value:
        """Load, sign-extended, and reserve."""

    def sc(self, address: Value, size: int, value: Value) -> Value:
        """Store if reserved: 0, or 1 if it failed."""

    def amo(self, name: str, address: Value, size: int, value: Value) -> Value:
        """Atomically replace memory by `name`(memory, value); the old memory, sign-extended.

        name: swap add xor and or min max minu maxu.
        """

    def fence(self, pred: int, succ: int, fm: int) -> None: ...

    # ---- floating point: values are bit patterns. `rm` is the instruction's field, 7 standing for frm; a reserved mode is an
    # illegal instruction. Flags accumulate in fflags. NaN results are canonical.

    def fadd(self, a: Value, b: Value, bits: int, rm: int) -> Value: ...

    def fsub(self, a: Value, b: Value, bits: int, rm: int) -> Value: ...

    def fmul(self, a: Value, b: Value, bits: int, rm: int) -> Value: ...

    def fdiv(self, a: Value, b: Value, bits: int, rm: int) -> Value: ...

    def fsqrt(self, a: Value, bits: int, rm: int) -> Value: ...

    def fma(self, a: Value, b: Value, c: Value, bits: int, rm: int) -> Value:
        """a * b + c, rounded once."""

    def fmin(self, a: Value, b: Value, bits: int) -> Value:
        """IEEE 754-2019 minimumNumber: the other operand if one is a NaN."""

    def fmax(self, a: Value, b: Value, bits: int) -> Value: ...

    def fminm(self, a: Value, b: Value, bits: int) -> Value:
        """IEEE 754-2019 minimum: NaN if one operand is."""

    def fmaxm(self, a: Value, b: Value, bits: int) -> Value: ...

    def feq(self, a: Value, b: Value, bits: int) -> Value:
        """Quiet: invalid only for signalling NaNs."""

    def flt(self, a: Value, b: Value, bits: int) -> Value:
        """Signalling: invalid for any NaN."""

    def fle(self, a: Value, b: Value, bits: int) -> Value: ...

    def fltq(self, a: Value, b: Value, bits: int) -> Value:
        """Quiet."""

    def fleq(self, a: Value, b: Value, bits: int) -> Value: ...

    def fclass(self, a: Value, bits: int) -> Value:
        """A one-hot mask of ten classes, from -infinity (bit 0) to quiet NaN (bit 9)."""

    def f_to_int(self, a: Value, bits: int, rm: int, width: int, *, signed: bool) -> Value:
        """Saturating; a 32-bit result is sign-extended, even an unsigned one."""

    def f_to_int_modular(self, a: Value, rm: int) -> Value:
        """fcvtmod.w.d: truncated, modulo 2**32, sign-extended; the flags of fcvt.w.d."""

    def int_to_f(self, value: Value, bits: int, rm: int, width: int, *, signed: bool) -> Value: ...

    def f_to_f(self, a: Value, bits: int, to: int, rm: int) -> Value: ...

    def fround(self, a: Value, bits: int, rm: int, *, exact: bool) -> Value:
        """To an integral value; exact: raise inexact where it differs."""

    # ---- the hart's own business. Bodies that use these are `system` ops: a tier may leave them all to the reference tier.

    def csr(self, number: int, how: str, value: Value, *, read: bool, write: bool) -> Value:
        """Read and then replace ("w"), set bits of ("s") or clear bits of ("c") a CSR: what was there."""

    def ecall(self) -> None: ...

    def ebreak(self) -> None: ...

    def mret(self) -> None: ...

    def sret(self) -> None: ...

    def wfi(self) -> None: ...

    def wait_reservation(self, *, short: bool) -> None:
        """wrs.nto and wrs.sto: stall while the reservation holds."""

    def fence_i(self) -> None: ...

    def sfence_vma(self, address: Value, asid: Value, *, any_address: bool, any_asid: bool) -> None: ...

    def sinval(self, address: Value, asid: Value, *, any_address: bool, any_asid: bool) -> None: ...

    def sfence_order(self) -> None:
        """sfence.w.inval and sfence.inval.ir."""

    def cbo(self, name: str, address: Value) -> None:
        """Cache-block management: inval clean flush zero."""

    # ---- a hypervisor's: accesses as if by its guest, and fences of the guest's translation

    def guest_load(self, address: Value, size: int, *, signed: bool = False, executable: bool = False) -> Value:
        """executable: of memory that the guest may execute, instead of read."""

    def guest_store(self, address: Value, size: int, value: Value) -> None: ...

    def hfence_vvma(self, address: Value, asid: Value, *, any_address: bool, any_asid: bool) -> None: ...

    def hfence_gvma(self, address: Value, vmid: Value, *, any_address: bool, any_vmid: bool) -> None:
        """address: a guest physical one, shifted right by two."""

    # ---- control-flow integrity, where it is enforced; elsewhere nothing, and 0. `link`: the number of the link register

    def land(self, label: int) -> None:
        """The landing pad that an indirect jump needs."""

    def shadow_push(self, link: int) -> None: ...

    def shadow_check(self, link: int) -> None:
        """Pop, and trap unless it is what the link register holds."""

    def shadow_pointer(self) -> Value: ...

    def shadow_swap(self, address: Value, size: int, value: Value) -> Value:
        """Swap a word of a shadow stack, atomically."""
