"""The vocabulary of the instruction definitions, lowered to LLVM: what the interpreter and the regions have in common.

In a nutshell: integer operations are one LLVM instruction each; a memory access looks the page up in the CPU struct's arrays
and, where that fails, leaves to the reference tier. Floating point is in floats.py.

Invariants:
- a *step* (leaving, so that the reference tier executes this one instruction) happens before the instruction has changed
  anything;
- code that is *shared*, for harts that run at the same time, accesses guest memory once for each access of the program's, in
  its order and as wide, atomics with the host's; other code knows that nobody else is running.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.machine.riscv import layout
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.text import (
    GUEST,
    LIKELY,
    OWN,
    UNLIKELY,
    Code,
    Operand,
    Unsupported,
    Value,
    text,
)

#: Declarations that every module needs.
INTEGER_DECLARATIONS = """\
declare i64 @llvm.ctlz.i64(i64, i1)
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.bswap.i64(i64)
"""


def context(code: Code) -> str:
    """A pointer to the translation arrays in force."""
    word = code.let(f"getelementptr i8, ptr %cpu, i64 {at.TLB}")
    return code.let(f"getelementptr i8, ptr %cpu, i64 {code.let(f'load i64, ptr {word}{OWN}')}")


class Emitter:
    """`m`, for one instruction after the other. A tier says where registers live and what leaving means. `shared`: as above."""

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self.code = Code()
        self.target: Operand | None = None  #: where the instruction jumps, if it does
        self.taken: str = ""  #: the i1 of a branch; "" if the jump is unconditional

    # ---- what a tier says

    def x(self, n: int) -> Operand:
        raise NotImplementedError

    def w(self, n: int, value: Operand) -> None:
        raise NotImplementedError

    def freg(self, n: int) -> Value:
        """All of floating-point register n."""
        raise NotImplementedError

    def set_freg(self, n: int, value: Value) -> None:
        raise NotImplementedError

    def pc(self) -> Operand:
        raise NotImplementedError

    def step(self) -> None:
        """End the current block: the reference tier executes this instruction."""
        raise NotImplementedError

    def arrays(self) -> str:
        """A pointer to the context in force."""
        return context(self.code)

    # ---- leaving

    def miss(self, address: Operand, *, write: bool) -> None:
        """End the current block: `address` is not in the array of readable (writable) pages, or misaligned."""
        self.step()

    def step_if(self, bit: str) -> None:
        """Step where `bit` (an i1) is set."""
        code = self.code
        cold, go = code.label(), code.label()
        code.line(f"br i1 {bit}, label %{cold}, label %{go}{UNLIKELY}")
        code.place(cold)
        self.step()
        code.place(go)

    def unsupported(self, *_: Any, **__: Any) -> Any:
        raise Unsupported

    ecall = ebreak = mret = sret = wfi = wait_reservation = unsupported
    fence_i = sfence_vma = sinval = sfence_order = cbo = unsupported
    guest_load = guest_store = hfence_vvma = hfence_gvma = shadow_swap = unsupported

    def csr(self, number: Operand, how: str, value: Operand, *, read: bool, write: bool) -> Value:
        raise Unsupported

    # ---- control-flow integrity

    def land(self, label: Operand) -> None:
        """Code that needs landing pads does not get here."""

    def shadow_push(self, link: Operand) -> None:
        self._step_if_shadowed()

    def shadow_check(self, link: Operand) -> None:
        self._step_if_shadowed()

    def shadow_pointer(self) -> Operand:
        self._step_if_shadowed()
        return 0

    def _step_if_shadowed(self) -> None:
        self.step_if(self.code.bit(self._word(8 * layout.SHADOW)))

    # ---- integers

    def sx(self, value: Operand, width: int) -> Operand:
        if width == 64:
            return value
        narrow = self.code.let(f"trunc i64 {text(value)} to i{width}")
        return self.code.value(f"sext i{width} {narrow} to i64")

    def zx(self, value: Operand, width: int) -> Value:
        return self.code.binary("and", value, (1 << width) - 1)

    def _shift(self, op: str, value: Operand, count: Operand) -> Value:
        return self.code.binary(op, value, self.code.binary("and", count, 63))

    def sll(self, value: Operand, count: Operand) -> Value:
        return self._shift("shl", value, count)

    def srl(self, value: Operand, count: Operand) -> Value:
        return self._shift("lshr", value, count)

    def sra(self, value: Operand, count: Operand) -> Value:
        return self._shift("ashr", value, count)

    def _high(self, a: Operand, b: Operand, how_a: str, how_b: str) -> Value:
        code = self.code
        wide_a, wide_b = (code.let(f"{how} i64 {text(each)} to i128") for how, each in ((how_a, a), (how_b, b)))
        high = code.let(f"lshr i128 {code.let(f'mul i128 {wide_a}, {wide_b}')}, 64")
        return code.value(f"trunc i128 {high} to i64")

    def mulh(self, a: Operand, b: Operand) -> Value:
        return self._high(a, b, "sext", "sext")

    def mulhu(self, a: Operand, b: Operand) -> Value:
        return self._high(a, b, "zext", "zext")

    def mulhsu(self, a: Operand, b: Operand) -> Value:
        return self._high(a, b, "sext", "zext")

    def _divide(self, op: str, a: Operand, b: Operand, by_zero: Operand, overflow: Operand | None) -> Value:
        """`op` with the operands that the host would trap on replaced, and their results put in place."""
        code = self.code
        zero = code.let(f"icmp eq i64 {text(b)}, 0")
        bad, wrapped = zero, ""
        if overflow is not None:
            least = code.let(f"icmp eq i64 {text(a)}, {text(1 << 63)}")
            wrapped = code.let(f"and i1 {least}, {code.let(f'icmp eq i64 {text(b)}, -1')}")
            bad = code.let(f"or i1 {zero}, {wrapped}")
        divisor = code.let(f"select i1 {bad}, i64 1, i64 {text(b)}")
        result = code.let(f"{op} i64 {text(a)}, {divisor}")
        if overflow is not None:
            result = code.let(f"select i1 {wrapped}, i64 {text(overflow)}, i64 {result}")
        return code.value(f"select i1 {zero}, i64 {text(by_zero)}, i64 {result}")

    def div(self, a: Operand, b: Operand) -> Value:
        return self._divide("sdiv", a, b, -1, 1 << 63)

    def divu(self, a: Operand, b: Operand) -> Value:
        return self._divide("udiv", a, b, -1, None)

    def rem(self, a: Operand, b: Operand) -> Value:
        return self._divide("srem", a, b, a, 0)

    def remu(self, a: Operand, b: Operand) -> Value:
        return self._divide("urem", a, b, a, None)

    def clz(self, value: Operand) -> Value:
        return self.code.value(f"call i64 @llvm.ctlz.i64(i64 {text(value)}, i1 false)")

    def ctz(self, value: Operand) -> Value:
        return self.code.value(f"call i64 @llvm.cttz.i64(i64 {text(value)}, i1 false)")

    def cpop(self, value: Operand) -> Value:
        return self.code.value(f"call i64 @llvm.ctpop.i64(i64 {text(value)})")

    def bswap(self, value: Operand) -> Value:
        return self.code.value(f"call i64 @llvm.bswap.i64(i64 {text(value)})")

    # ---- conditions

    def _compare(self, how: str, a: Operand, b: Operand) -> Value:
        return self.code.condition(self.code.let(f"icmp {how} i64 {text(a)}, {text(b)}"))

    def eq(self, a: Operand, b: Operand) -> Value:
        return self._compare("eq", a, b)

    def ne(self, a: Operand, b: Operand) -> Value:
        return self._compare("ne", a, b)

    def lt(self, a: Operand, b: Operand) -> Value:
        return self._compare("slt", a, b)

    def ltu(self, a: Operand, b: Operand) -> Value:
        return self._compare("ult", a, b)

    def ge(self, a: Operand, b: Operand) -> Value:
        return self._compare("sge", a, b)

    def geu(self, a: Operand, b: Operand) -> Value:
        return self._compare("uge", a, b)

    def select(self, condition: Operand, yes: Operand, no: Operand) -> Value:
        return self.code.value(f"select i1 {self.code.bit(condition)}, i64 {text(yes)}, i64 {text(no)}")

    # ---- control

    def jump(self, target: Operand) -> None:
        self.target = target

    def branch(self, condition: Operand, target: Operand) -> None:
        self.taken = self.code.bit(condition)
        self.target = target

    def fence(self, pred: Operand, succ: Operand, fm: Operand) -> None:
        """The host keeps all orders but that of a store before a load (total store order). Where one thread runs all harts in
        turn, memory is in order."""
        if self.shared:
            self.code.line("fence seq_cst")

    # ---- memory

    def host(self, address: Operand, size: int, *, write: bool) -> tuple[str, Value]:
        """A pointer to the guest's byte at `address`, and its offset in RAM; a step on a miss or a misaligned access."""
        code = self.code
        offset = code.binary("and", code.binary("lshr", address, 8), (at.TLB_PAGES - 1) << 4)
        array = at.WRITE if write else at.READ
        entry = code.let(f"getelementptr i8, ptr {self.arrays()}, i64 {(offset + array).name}")
        tag = code.let(f"load i64, ptr {entry}{OWN}")
        wanted = code.binary("and", address, ~0xFFF | (size - 1))
        hit, miss = code.label(), code.label()
        code.line(f"br i1 {code.let(f'icmp eq i64 {tag}, {wanted.name}')}, label %{hit}, label %{miss}{LIKELY}")
        code.place(miss)
        self.miss(address, write=write)
        code.place(hit)
        half = code.let(f"getelementptr i8, ptr {entry}, i64 8")
        offset = code.value(f"load i64, ptr {half}{OWN}") + address
        return code.let(f"getelementptr i8, ptr %ram, i64 {offset.name}"), offset

    def _load(self, pointer: str, size: int, how: str) -> Value:
        code = self.code
        raw = code.let(f"load {self.once}i{size * 8}, ptr {pointer}, align 1{GUEST}")
        return Value(code, raw) if size == 8 else code.value(f"{how} i{size * 8} {raw} to i64")

    def _store(self, pointer: str, size: int, value: Operand) -> None:
        code = self.code
        narrow = text(value) if size == 8 else code.let(f"trunc i64 {text(value)} to i{size * 8}")
        code.line(f"store {self.once}i{size * 8} {narrow}, ptr {pointer}, align 1{GUEST}")

    @property
    def once(self) -> str:
        """What keeps the compiler from leaving out, repeating, joining or moving accesses that others can see."""
        return "volatile " if self.shared else ""

    def load(self, address: Operand, size: int, *, signed: bool = False) -> Value:
        return self._load(self.host(address, size, write=False)[0], size, "sext" if signed else "zext")

    def store(self, address: Operand, size: int, value: Operand) -> None:
        self._store(self.host(address, size, write=True)[0], size, value)

    def cpu(self, offset: int) -> str:
        """A pointer into the CPU struct."""
        return self.code.let(f"getelementptr i8, ptr %cpu, i64 {offset}")

    def _word(self, offset: int) -> Value:
        return self.code.value(f"load i64, ptr {self.cpu(offset)}{OWN}")

    def _set_word(self, offset: int, value: Operand) -> None:
        self.code.line(f"store i64 {text(value)}, ptr {self.cpu(offset)}{OWN}")

    def lr(self, address: Operand, size: int) -> Value:
        """Through the array of writable pages: whoever reserves means to store."""
        pointer, offset = self.host(address, size, write=True)
        value = self._load(pointer, size, "sext")
        self._set_word(at.RESERVED, 1)
        self._set_word(at.RESERVATION, offset + self._word(at.RAM_BASE))
        self._set_word(at.RESERVATION_SIZE, size)
        if self.shared:
            self._set_word(at.RESERVED_VALUE, value)
        return value

    def sc(self, address: Operand, size: int, value: Operand) -> Value:
        code = self.code
        pointer, offset = self.host(address, size, write=True)
        wrong = code.binary("xor", self._word(at.RESERVATION), offset + self._word(at.RAM_BASE))
        wrong = wrong | (self._word(at.RESERVED) ^ 1) | (self._word(at.RESERVATION_SIZE) ^ size)
        held = code.let(f"icmp eq i64 {wrong.name}, 0")
        self._set_word(at.RESERVED, 0)
        if self.shared:
            return self._exchange_if(held, pointer, size, value)
        do, done = code.label(), code.label()
        code.line(f"br i1 {held}, label %{do}, label %{done}{LIKELY}")
        code.place(do)
        self._store(pointer, size, value)
        code.line(f"br label %{done}")
        code.place(done)
        return code.condition(code.let(f"xor i1 {held}, true"))

    def _exchange_if(self, held: str, pointer: str, size: int, value: Operand) -> Value:
        """sc among others: store if memory still has what lr read. Who stored something else, and then that, is not seen."""
        code, kind = self.code, f"i{8 * size}"
        expected, new = self._word(at.RESERVED_VALUE).name, text(value)
        if size < 8:
            expected, new = (code.let(f"trunc i64 {each} to {kind}") for each in (expected, new))
        before, do, done = code.label(), code.label(), code.label()
        code.line(f"br label %{before}")
        code.place(before)
        code.line(f"br i1 {held}, label %{do}, label %{done}{LIKELY}")
        code.place(do)
        pair = code.let(f"cmpxchg ptr {pointer}, {kind} {expected}, {kind} {new} seq_cst seq_cst, align {size}")
        stored = code.let(f"extractvalue {{ {kind}, i1 }} {pair}, 1")
        code.line(f"br label %{done}")
        code.place(done)
        success = code.let(f"phi i1 [ false, %{before} ], [ {stored}, %{do} ]")
        return code.condition(code.let(f"xor i1 {success}, true"))

    def _exchange(self, name: str, pointer: str, size: int, value: Operand) -> Value:
        """An atomic operation among others."""
        code, kind = self.code, f"i{8 * size}"
        how = {"swap": "xchg", "minu": "umin", "maxu": "umax"}.get(name, name)
        operand = text(value) if size == 8 else code.let(f"trunc i64 {text(value)} to {kind}")
        old = code.let(f"atomicrmw {how} ptr {pointer}, {kind} {operand} seq_cst, align {size}")
        return Value(code, old) if size == 8 else code.value(f"sext {kind} {old} to i64")

    def amo(self, name: str, address: Operand, size: int, value: Operand) -> Value:
        code = self.code
        pointer, _ = self.host(address, size, write=True)
        if self.shared:
            return self._exchange(name, pointer, size, value)
        old = self._load(pointer, size, "sext")
        new = self.sx(value, 32) if size == 4 else value
        if name.startswith("m"):
            how = {"min": "slt", "max": "sgt", "minu": "ult", "maxu": "ugt"}[name]
            new = self.select(self._compare(how, old, new), old, new)
        elif name != "swap":
            new = code.binary(name, old, new)
        self._store(pointer, size, new)
        return old
