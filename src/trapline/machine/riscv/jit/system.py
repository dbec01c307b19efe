"""The vocabulary of traps, returns and registers (transitions.py, csr.py), lowered to LLVM; and the functions made from them.

    trap                    the instruction at the address in %ip traps, as TRAP_CAUSE and TRAP_VALUE say
    csr_read(cpu, number, left)           (value, what setting and clearing bits starts from, 1), or 0 in the last place: a step
    csr_write(cpu, number, value, left)   a code: REFUSED (a step: nothing is changed), DONE, or what must come next
    due(cpu, left)          whether an interrupt must be taken now

`left` is the budget after the instruction, from which instret and time follow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from trapline.typed import Any

from trapline.machine.riscv import csr, layout, transitions
from trapline.machine.riscv import status as st
from trapline.machine.riscv.harts import PER_TICK
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.emit import Emitter
from trapline.machine.riscv.jit.text import (
    ATTRIBUTES,
    HANDLER,
    PARAMETERS,
    UNLIKELY,
    Code,
    Operand,
    Value,
    tail,
    text,
)

REFUSED, DONE, LOOK, ATTENTION, MOVED = 0, 1, 2, 3, 4  #: codes of csr_write; MOVED: code may be mapped otherwise now
READ = "{ i64, i64, i64 }"


class System(Emitter):
    """An emitter with the words of the hart. `left`: the budget after the instruction, if anything asks."""

    left: Value

    def word(self, n: int) -> Value:
        return self._word(8 * n)

    def set_word(self, n: int, value: Operand) -> None:
        self._set_word(8 * n, value)

    def either(self, condition: Value, yes: Callable[[], None], no: Callable[[], None]) -> None:
        code = self.code
        labels = code.label(), code.label()
        code.line(f"br i1 {code.bit(condition)}, label %{labels[0]}, label %{labels[1]}")
        for label, do in zip(labels, (yes, no), strict=True):
            code.place(label)
            do()

    def instret(self) -> Value:
        """Only under a kernel of the guest's: another one does not count so."""
        self.step_if(self.code.bit(self.word(layout.HOSTED)))
        return self.word(layout.INSTRET) + self.word(layout.GRANTED) - self.left - 1

    def now(self) -> Value:
        if self.shared:  # it is the host's clock
            return self.code.binary("udiv", self.code.value("call i64 @clock(ptr %cpu)"), PER_TICK)
        origin = self.word(layout.TIME_ORIGIN)
        self.step_if(self.code.bit(self.eq(origin, 0)))
        return self.code.binary("udiv", origin - self.left, PER_TICK)

    def interrupts(self) -> Value:
        """mip; the clock is looked at only where Sstc is on and it can matter."""
        code = self.code
        ready = self.word(layout.MIP) | self.word(layout.LINES)
        before, look, after, done = (code.label() for _ in range(4))
        code.line(f"br label %{before}")
        code.place(before)
        on = self.ne(self.word(layout.MENVCFG) & st.STCE, 0)
        code.line(f"br i1 {on.bit}, label %{look}, label %{done}")
        code.place(look)
        now = self.now()
        timer = self.select(self.geu(now, self.word(layout.STIMECMP)), ready | st.STIP, ready)
        lent = self.ne(self.word(layout.HENVCFG) & st.STCE, 0)
        guests = lent & self.geu(now + self.word(layout.HTIMEDELTA), self.word(layout.VSTIMECMP))
        timer = self.select(guests, timer | st.VSTIP, timer)
        code.line(f"br label %{after}")
        code.place(after)
        code.line(f"br label %{done}")
        code.place(done)
        return code.value(f"phi i64 [ {ready.name}, %{before} ], [ {timer.name}, %{after} ]")

    def status_changed(self, changed: Value) -> None:
        """The context may be another now, and floating point may have been turned on or off."""
        code = self.code
        forget, go = code.label(), code.label()
        code.line(f"br i1 {code.bit(changed & st.MXR)}, label %{forget}, label %{go}{UNLIKELY}")
        code.place(forget)
        code.line("call void @forget_all(ptr %cpu)")
        code.line(f"br label %{go}")
        code.place(go)
        on = self.eq(self.word(layout.MSTATUS) & st.FS, st.FS)
        self._set_word(at.FP_READY, on & self.ltu(self.word(layout.FRM), 4))  # the unit has frm's mode already
        code.line("call void @select(ptr %cpu)")

    def gather_flags(self) -> None:
        self.code.line("call void @keep_unit(ptr %cpu)")

    def floats_changed(self) -> None:
        self.code.line("call void @use_unit(ptr %cpu)")

    def step_unless_open(self, each: csr.Csr) -> None:
        """Step if a register may not be used now."""
        if each.gate is not None:
            self.step_if(self.code.bit(self.eq(each.gate(self), 0)))
        if each.guest is not None:
            code = self.code
            guests, go = code.label(), code.label()
            code.line(f"br i1 {code.bit(self.word(layout.VIRT))}, label %{guests}, label %{go}{UNLIKELY}")
            code.place(guests)
            self.step_if(code.bit(self.eq(each.guest(self), 0)))
            code.line(f"br label %{go}")
            code.place(go)

    def change_space(self, satp: Value) -> None:
        self.step_if(self.code.bit(self.word(layout.VIRT)))
        self.code.line(f"call void @change_space(ptr %cpu, i64 {satp.name})")


# ---- registers


class _Read(System):
    """Lowers the reading of one register."""

    def step(self) -> None:
        self.code.line(f"ret {READ} zeroinitializer")

    def lower(self, each: csr.Csr) -> None:
        self.left = Value(self.code, "%left")
        self.step_unless_open(each)
        value = each.read(self)
        base = value if each.base is None else each.base(self)
        last = f"{READ} undef"
        for n, part in enumerate((value, base, 1)):
            last = f"{READ} {self.code.let(f'insertvalue {last}, i64 {text(part)}, {n}')}"
        self.code.line(f"ret {last}")


class _Write(System):
    """Lowers the writing of one register; what it refuses, it refuses before it changes anything."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__(shared=shared)
        self._result = DONE

    def step(self) -> None:
        self.code.line(f"ret i64 {REFUSED}")

    def call_attention(self) -> None:
        self._result = ATTENTION

    def change_space(self, satp: Value) -> None:
        super().change_space(satp)
        self._result = MOVED

    def lower(self, each: csr.Csr) -> None:
        self.left = Value(self.code, "%left")
        self.step_unless_open(each)
        if each.write is not None:
            each.write(self, Value(self.code, "%value"))
        if each.quiet or each.write is None or self._result != DONE:
            self.code.line(f"ret i64 {self._result}")
        else:
            due = self.code.value("call i64 @due(ptr %cpu, i64 %left)")
            self.code.line(f"ret i64 {(due + DONE).name}")


def _table(make: Callable[[], Any], refuse: str) -> Code:
    """A function's body: one case for each register that the vocabulary suffices for."""
    code = Code()
    cases = []
    for number, each in csr.TABLE.items():
        if each.native:
            m = make()
            m.code = code
            label = code.label()
            code.place(label)
            m.lower(each)
            cases.append(f"i64 {number}, label %{label}")
    code.lines[:0] = ["entry:", f"  switch i64 %number, label %none [ {' '.join(cases)} ]", "none:", f"  ret {refuse}"]
    return code


def registers(*, shared: bool = False) -> str:
    """The functions `csr_read` and `csr_write`."""
    reads = _table(partial(_Read, shared=shared), f"{READ} zeroinitializer")
    writes = _table(partial(_Write, shared=shared), f"i64 {REFUSED}")
    header = "define internal {} @{}(ptr %cpu, i64 %number, {}i64 %left) nounwind noinline"
    return reads.function(header.format(READ, "csr_read", "")) + writes.function(
        header.format("i64", "csr_write", "i64 %value, ")
    )


class _Due(System):
    """Where the clock is not known, whoever knows must look."""

    def step(self) -> None:
        self.code.line("ret i64 1")

    def lower(self) -> str:
        self.left = Value(self.code, "%left")
        self.code.lines.append("entry:")
        some = self.ne(self.word(layout.MIE), 0)
        go, none = self.code.label(), self.code.label()
        self.code.line(f"br i1 {some.bit}, label %{go}, label %{none}")
        self.code.place(none)
        self.code.line("ret i64 0")
        self.code.place(go)
        self.code.line(f"ret i64 {self.ne(transitions.enabled(self), 0).name}")
        return self.code.function("define internal i64 @due(ptr %cpu, i64 %left) nounwind noinline")


def due(*, shared: bool = False) -> str:
    """The function `due`."""
    return _Due(shared=shared).lower()


# ---- traps


class _Trap(System):
    """Lowers `trap`."""

    def arrive(self, pc: Value, priv: int) -> None:
        """A trap shuts out interrupts of its own mode, and those of higher modes have been taken: nobody need look."""
        self.set_word(layout.PRIV, priv)
        self.code.line("call void @select(ptr %cpu)")
        tail(self.code, "@goto", pc.name, "%left")

    def lower(self) -> str:
        code = self.code
        code.lines.append("entry:")
        spent, go, look, within, out, take = (code.label() for _ in range(6))
        code.line(f"br i1 {code.let('icmp sgt i64 %budget, 0')}, label %{go}, label %{spent}")
        code.place(spent)
        tail(code, "@leave_budget_at")
        code.place(go)
        code.line("%left = sub i64 %budget, 1")
        leave = self.ne(self.word(layout.HOSTED) | self.word(layout.CAREFUL), 0)
        code.line(f"br i1 {code.bit(leave)}, label %{look}, label %{take}{UNLIKELY}")
        code.place(look)
        cause, value, pc = self.word(layout.TRAP_CAUSE), self.word(layout.TRAP_VALUE), Value(code, "%ip")
        twice = self.srl(self.word(layout.MEDELEG) & self.word(layout.HEDELEG), cause) & 1
        alone = self.eq(self.word(layout.HOSTED) | self.word(layout.CAREFUL) ^ layout.IN_GUEST, 0)
        code.line(f"br i1 {code.bit(twice & alone)}, label %{within}, label %{out}")
        code.place(within)
        self.set_word(layout.INSTRET, self.word(layout.INSTRET) - 1)
        transitions.take_in_guest(self, cause, value, pc)
        code.place(out)
        self.set_word(layout.RESERVED, 0)
        tail(code, "@leave_trap")
        code.place(take)
        self.set_word(layout.INSTRET, self.word(layout.INSTRET) - 1)  # it is counted, but does not retire
        transitions.take(self, self.word(layout.TRAP_CAUSE), self.word(layout.TRAP_VALUE), Value(code, "%ip"))
        return code.function(f"{HANDLER} @trap({PARAMETERS}) {ATTRIBUTES} noinline")


def trap() -> str:
    """The handler `trap`."""
    return _Trap().lower()


# ---- what handlers do with them


def read(m: Emitter, number: Operand) -> tuple[Value, Value]:
    """A register's value, and what changing bits of it starts from; a step if it must be."""
    code = m.code
    found = code.let(f"call {READ} @csr_read(ptr %cpu, i64 {text(number)}, i64 %left)")
    value, base, known = (code.value(f"extractvalue {READ} {found}, {n}") for n in range(3))
    m.step_if(code.bit(m.eq(known, 0)))
    return value, base


def write(m: Emitter, number: Operand, value: Operand) -> Value:
    """Write a register: what must come next; a step if it must be."""
    code = m.code
    done = code.value(f"call i64 @csr_write(ptr %cpu, i64 {text(number)}, i64 {text(value)}, i64 %left)")
    m.step_if(code.bit(m.eq(done, REFUSED)))
    return done


def leave_if(code: Code, condition: str, to: str, ip: str, budget: str) -> None:
    """Where `condition` (an i1) is set, end the function at the handler `to`."""
    out, go = code.label(), code.label()
    code.line(f"br i1 {condition}, label %{out}, label %{go}{UNLIKELY}")
    code.place(out)
    tail(code, to, ip, budget)
    code.place(go)
