"""The interpreter: one small function per instruction, each ending in a jump to the next one's (*tail threading*).

In a nutshell: `%ip` is the address of the record being executed (see state.py), `%budget` how many instructions may still run,
`%ram` the host address of guest RAM, `%delta` what turns %ip into the pc. They live in registers from one function to the next.
An instruction's operands come from its record, its meaning from its definition.

Invariants:
- every handler takes one instruction off the budget before anything else, and leaves if there is none left;
- what the tier does not do itself (devices, rare registers, odd floating point) leaves with STEP, nothing changed.
"""

from __future__ import annotations

from trapline.machine.riscv import layout, transitions
from trapline.machine.riscv import status as st
from trapline.machine.riscv.isa.declare import OPS, Op
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit import system, together
from trapline.machine.riscv.jit.context import routines
from trapline.machine.riscv.jit.decoder import decoder
from trapline.machine.riscv.jit.fetching import handlers_of_fetching, pc_of, transfer
from trapline.machine.riscv.jit.floats import DECLARATIONS, FloatEmitter, unit
from trapline.machine.riscv.jit.refill import refill, translate, trap
from trapline.machine.riscv.jit.stitcher import handlers, stitcher
from trapline.machine.riscv.jit.text import (
    ATTRIBUTES,
    HANDLER,
    LIKELY,
    OWN,
    PARAMETERS,
    UNLIKELY,
    Code,
    Operand,
    Unsupported,
    Value,
    dispatch,
    join,
    tail,
    text,
)
from trapline.machine.riscv.jit.window import reset, window
from trapline.machine.riscv.privileged import BLOCK
from trapline.machine.riscv.trap import BREAKPOINT, ECALL_U

HELPERS = ["window_read", "window_write", "windows_reset"]  #: functions that regions call


class Fields:
    """An instruction whose operands are read from its record when it runs; what its encoding implies is known."""

    def __init__(self, m: Interpreted, op: Op) -> None:
        self._m, self.op, self.length = m, op, op.length
        self._known = dict.fromkeys(("rd", "rs1", "rs2", "rs3", "rm", "imm", "fm", "pred", "succ", "aq", "rl"), 0)
        for each in op.fields:
            self._known.pop(each.name, None)
        self._known.update(op.implied)

    def __getattr__(self, name: str) -> Operand:
        known: dict[str, int] = self.__dict__["_known"]
        if name in known:
            return known[name]
        if name in ("aq", "rl", "fm", "pred", "succ"):
            return 0  # of no consequence to a body that this tier runs
        value = self._m.field(name)
        self.__dict__[name] = value
        return value


class Interpreted(FloatEmitter, system.System):
    """Lowers one op to its handler."""

    def __init__(self, op: Op, *, shared: bool = False) -> None:
        super().__init__(shared=shared)
        self.op = op
        self._pc: Value | None = None
        self._written: Value | None = None  #: what came of writing a register: DONE, or what must be done before going on
        self._refetch = False  #: what comes after the instruction must be looked up again
        self._ended = False  #: the instruction does not go on to the next one by itself
        self.left = Value(self.code, "%left")
        code = self.code
        code.lines.append("entry:")
        code.line("%left = sub i64 %budget, 1")
        out, go = code.label(), code.label()
        code.line(f"br i1 {code.let('icmp slt i64 %left, 0')}, label %{out}, label %{go}{UNLIKELY}")
        code.place(out)
        tail(code, "@leave_budget")
        code.place(go)
        if op.fp:
            ready = code.let(f"load i64, ptr {self.cpu(at.FP_READY)}{OWN}")
            self.step_if(code.let(f"icmp eq i64 {ready}, 0"))

    def field(self, name: str) -> Value:
        """An operand, from the record."""
        code = self.code
        offset, kind, how = {
            "imm": (8, "i32", "sext"), "csr": (8, "i32", "zext"), "rd": (12, "i8", "zext"), "rs1": (13, "i8", "zext"),
            "rs2": (14, "i8", "zext"), "rs3": (15, "i8", "zext"), "rm": (15, "i8", "zext"),
        }[name]  # fmt: skip
        if name == "imm" and any(each.name == "csr" for each in self.op.fields):
            offset, kind, how = 13, "i8", "zext"
        pointer = code.pointer(code.binary("add", Value(code, "%ip"), offset))
        value = code.value(f"{how} {kind} {code.let(f'load {kind}, ptr {pointer}{OWN}')} to i64")
        if name == "rs3":
            return code.binary("and", value, 31)
        return code.binary("lshr", value, 5) if name == "rm" else value

    def _register(self, base: int, n: Operand) -> str:
        at_base = self.cpu(base)
        return self.code.let(f"getelementptr i64, ptr {at_base}, i64 {text(n)}")

    def x(self, n: Operand) -> Operand:
        if isinstance(n, int) and n == 0:
            return 0
        return self.code.value(f"load i64, ptr {self._register(at.X, n)}{OWN}")

    def w(self, n: Operand, value: Operand) -> None:
        if not (isinstance(n, int) and n == 0):
            self.code.line(f"store i64 {text(value)}, ptr {self._register(at.X, n)}{OWN}")

    def freg(self, n: Operand) -> Value:
        return self.code.value(f"load i64, ptr {self._register(at.F, n)}{OWN}")

    def set_freg(self, n: Operand, value: Value) -> None:
        self.code.line(f"store i64 {value.name}, ptr {self._register(at.F, n)}{OWN}")

    def pc(self) -> Operand:
        if self._pc is None:
            self._pc = pc_of(self.code, "%ip")
        return self._pc

    def step(self) -> None:
        tail(self.code, "@leave_step")

    def miss(self, address: Operand, *, write: bool) -> None:
        self.code.line(f"store i64 {text(address)}, ptr {self.cpu(at.MISSED)}{OWN}")
        to = "@refill_atomic" if self.op.extension == "A" else "@refill_write" if write else "@refill_read"
        tail(self.code, to)

    # ---- the hart's own business

    def csr(self, number: Operand, how: str, value: Operand, *, read: bool, write: bool) -> Value:
        """`read` and `write` are not known here: whether the operand is x0, or 0, is seen when the instruction runs."""
        code = self.code
        self.step_if(code.bit(self.ltu(self._word(at.PRIV), self.srl(number, 8) & 3)))
        writes: Operand = 1
        if how != "w":
            immediate = any(each.name == "imm" for each in self.op.fields)
            writes = self.ne(self.field("imm" if immediate else "rs1"), 0)
            self.step_if(code.bit(self.geu(number, 0xC00) & writes))
        else:
            self.step_if(code.bit(self.geu(number, 0xC00)))
        old, base = system.read(self, number)
        before, do, done = code.label(), code.label(), code.label()
        code.line(f"br label %{before}")
        code.place(before)
        code.line(f"br i1 {code.bit(writes)}, label %{do}, label %{done}")
        code.place(do)
        new = value if how == "w" else base | value if how == "s" else base & ~value
        result = system.write(self, number, new)
        after = code.label()
        code.line(f"br label %{after}")
        code.place(after)
        code.line(f"br label %{done}")
        code.place(done)
        self._written = code.value(f"phi i64 [ {system.DONE}, %{before} ], [ {result.name}, %{after} ]")
        return old

    def _require(self, priv: int, forbidden: int = 0) -> None:
        """Step unless in this mode or above; and in S-mode, with this bit of mstatus clear."""
        here = self._word(at.PRIV)
        bad = self.ltu(here, priv)
        if forbidden:
            bad = bad | (self.eq(here, st.S) & self.ne(self._word(at.MSTATUS) & forbidden, 0))
        self.step_if(self.code.bit(bad))

    def _trap(self, cause: Operand, value: Operand) -> None:
        trap(self.code, self.pc(), cause, value)
        self._ended = True

    def ecall(self) -> None:
        priv = self._word(at.PRIV)
        self._trap(priv + ECALL_U + (priv & self._word(8 * layout.VIRT)), 0)

    def ebreak(self) -> None:
        self._trap(BREAKPOINT, self.pc())

    def mret(self) -> None:
        self._require(st.M)
        self._leave_crossings(self._word(at.MSTATUS) & st.MPV)
        transitions.return_from_machine(self)

    def sret(self) -> None:
        self._require(st.S, st.TSR)
        hypervisors = self._word(8 * layout.HSTATUS)
        self._leave_crossings(self.select(self._word(8 * layout.VIRT), hypervisors & st.VTSR, hypervisors & st.SPV))
        transitions.return_from_supervisor(self)

    def _leave_crossings(self, crosses: Value) -> None:
        """Step where this is not 0: a virtual mode is entered, or may not return. And with control-flow integrity."""
        self.step_if(self.code.bit(self.ne(self._word(8 * layout.CAREFUL) & layout.WITH_CFI | crosses, 0)))

    def arrive(self, pc: Value, priv: Operand) -> None:
        code = self.code
        self._set_word(at.PRIV, priv)
        code.line("call void @select(ptr %cpu)")
        due = code.value("call i64 @due(ptr %cpu, i64 %left)")
        system.leave_if(code, code.bit(due), "@leave_look_at", pc.name, "%left")
        tail(code, "@goto", pc.name, "%left")
        self._ended = True

    def wfi(self) -> None:
        """Nothing, if what it would wait for is there already; else the reference tier waits."""
        self._require(st.S, st.TW)
        self.step_if(self.code.bit(self._word(8 * layout.VIRT)))
        self.step_if(self.code.bit(self.eq(self.interrupts() & self.word(layout.MIE), 0)))
        self._written = self.code.value("call i64 @due(ptr %cpu, i64 %left)") + system.DONE

    def cbo(self, name: str, address: Value) -> None:
        """Zeroing, where it is allowed and no guest's; kernels clear every page with it."""
        if name != "zero":
            raise Unsupported
        priv = self._word(at.PRIV)
        below = self.select(self.eq(priv, st.U), self._word(8 * layout.SENVCFG), -1)
        allowed = self.eq(priv, st.M) | self.ne(self._word(8 * layout.MENVCFG) & below & st.CBZE, 0)
        self.step_if(self.code.bit(self.eq(allowed, 0) | self._word(8 * layout.VIRT)))
        _, offset = self.host(address, 1, write=True)
        start = offset & -BLOCK
        for each in range(0, BLOCK, 8):
            self._store(self.code.let(f"getelementptr i8, ptr %ram, i64 {(start + each).name}"), 8, 0)

    def fence_i(self) -> None:
        self.code.line("call void @forget_all(ptr %cpu)")
        self._refetch = True

    def sfence_vma(self, address: Operand, asid: Operand, *, any_address: bool, any_asid: bool) -> None:
        """Which of the two is x0 is seen when the instruction runs."""
        self._require(st.S, st.TVM)
        self.step_if(self.code.bit(self._word(8 * layout.VIRT)))
        one_page, one_space = (self.ne(self.field(name), 0) for name in ("rs1", "rs2"))
        page, how = address & -4096, one_page | self.sll(one_space, 1)
        space = text(asid & st.ASID_MASK)
        self.code.line(f"call void @forget(ptr %cpu, i64 {text(page)}, i64 {space}, i64 {how.name})")
        self._refetch = True

    def sinval(self, address: Operand, asid: Operand, *, any_address: bool, any_asid: bool) -> None:
        self.sfence_vma(address, asid, any_address=any_address, any_asid=any_asid)

    def sfence_order(self) -> None:
        self._require(st.S)

    def finish(self) -> None:
        """What comes after the instruction."""
        code = self.code
        if self._ended:
            return
        if self.target is None:
            self._next()
            return
        if self.taken:
            yes, no = code.label(), code.label()
            code.line(f"br i1 {self.taken}, label %{yes}, label %{no}")
            code.place(no)
            self._next()
            code.place(yes)
        transfer(code, self.target, self.pc(), "%left")

    def _next(self) -> None:
        code = self.code
        if self._refetch:
            tail(code, "@enter", (self.pc() + self.op.length).name, "%left")  # type: ignore[union-attr]
            return
        following = code.binary("add", Value(code, "%ip"), self.op.length // 2 * at.RECORD)
        if self._written is not None:
            self._after_write(self._written, following)
        dispatch(code, following.name, "%left")

    def _after_write(self, result: Value, following: Value) -> None:
        """Go on only if a register was written without further consequence."""
        code = self.code
        labels = {each: code.label() for each in (system.DONE, system.LOOK, system.ATTENTION, system.MOVED)}
        other = code.label()
        code.line(f"br i1 {self.eq(result, system.DONE).bit}, label %{labels[system.DONE]}, label %{other}{LIKELY}")
        code.place(other)
        cases = " ".join(f"i64 {each}, label %{label}" for each, label in labels.items())
        code.line(f"switch i64 {result.name}, label %{labels[system.LOOK]} [ {cases} ]")
        code.place(labels[system.LOOK])
        tail(code, "@leave_look", following.name, "%left")
        code.place(labels[system.ATTENTION])
        tail(code, "@leave_attention", following.name, "%left")
        code.place(labels[system.MOVED])
        tail(code, "@enter", pc_of(code, following.name).name, "%left")
        code.place(labels[system.DONE])


def handler(op: Op, *, shared: bool = False) -> str:
    """The function of one op."""
    name = f"@op_{OPS.index(op)}"
    m = Interpreted(op, shared=shared)
    try:
        op.body(m, Fields(m, op))  # type: ignore[arg-type]  # its operands are values
        m.finish()
    except Unsupported:
        m.code = Code()
        m.step()
    return m.code.function(f"{HANDLER} {name}({PARAMETERS}) {ATTRIBUTES}")


def _leave(name: str, reason: int, *, pc_given: bool = False) -> str:
    """A function that stores where the program is and returns to whoever called `run`."""
    code = Code()
    pc = Value(code, "%ip") if pc_given else pc_of(code, "%ip")
    for offset, value in ((at.PC, pc.name), (at.BUDGET_LEFT, "%budget"), (at.REASON, str(reason))):
        code.line(f"store i64 {value}, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {offset}')}{OWN}")
    code.line("ret void")
    return code.function(f"{HANDLER} @{name}({PARAMETERS}) {ATTRIBUTES} noinline cold")


RUN = """\
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse.stmxcsr(ptr)
define internal void @keep_unit(ptr %cpu) nounwind strictfp noinline {{
  %mxcsr = getelementptr i8, ptr %cpu, i64 {mxcsr}
  call void @llvm.x86.sse.stmxcsr(ptr %mxcsr)
  call void @save_unit(ptr %cpu)
  ret void
}}
define internal void @use_unit(ptr %cpu) nounwind strictfp noinline {{
  %mxcsr = getelementptr i8, ptr %cpu, i64 {mxcsr}
  call void @load_unit(ptr %cpu)
  call void @llvm.x86.sse.ldmxcsr(ptr %mxcsr)
  ret void
}}
define void @run(ptr %cpu) nounwind strictfp {{
  %mxcsr = getelementptr i8, ptr %cpu, i64 {mxcsr}
  %host = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %host)
  call void @load_unit(ptr %cpu)
  call void @llvm.x86.sse.ldmxcsr(ptr %mxcsr)
  %pcp = getelementptr i8, ptr %cpu, i64 {pc}
  %pc = load i64, ptr %pcp
  %bp = getelementptr i8, ptr %cpu, i64 {budget}
  %b = load i64, ptr %bp
  %rp = getelementptr i8, ptr %cpu, i64 {ram}
  %ram = load ptr, ptr %rp
  call preserve_nonecc void @enter(ptr %cpu, i64 %pc, i64 %b, ptr %ram, i64 0)
  call void @llvm.x86.sse.stmxcsr(ptr %mxcsr)
  call void @llvm.x86.sse.ldmxcsr(ptr %host)
  call void @save_unit(ptr %cpu)
  ret void
}}
define void @handlers(ptr %out) nounwind {{
{table}
  ret void
}}
"""


def handler_names() -> list[str]:
    """The functions whose addresses the table of handlers holds, in its order."""
    names = [f"op_{i}" for i in range(len(OPS))]
    return [*names, "leave_step", "goto", "leave_budget", "leave_hot", "undecoded", "page_end", "plain", *HELPERS]


def module(*, shared: bool = False) -> str:
    """The whole interpreter. `shared`: for harts that run at the same time."""
    table = "\n".join(
        f"  %p{i} = getelementptr ptr, ptr %out, i64 {i}\n  store ptr @{name}, ptr %p{i}"
        for i, name in enumerate(handler_names())
    )
    run = RUN.format(mxcsr=at.MXCSR, pc=at.PC, budget=at.BUDGET_LEFT, ram=at.RAM_HOST, table=table)
    parts = [DECLARATIONS, unit(), run]
    parts += [
        _leave("leave_step", at.STEP), _leave("leave_budget", at.BUDGET), _leave("leave_hot", at.HOT_SPOT),
        _leave("leave_look", at.LOOK), _leave("leave_attention", at.ATTENTION),
        _leave("leave_trap", at.TRAP, pc_given=True), _leave("leave_fetch", at.FETCH, pc_given=True),
        _leave("leave_budget_at", at.BUDGET, pc_given=True), _leave("leave_look_at", at.LOOK, pc_given=True),
        *handlers_of_fetching(), decoder(), routines(),
        window(write=False), window(write=True), reset(),
        translate(shared=shared), refill("refill_read", write=False), refill("refill_write", write=True, posts=not shared),
        refill("refill_atomic", write=True, atomic=True), system.registers(shared=shared), system.due(shared=shared),
        system.trap(), stitcher(), handlers(),
    ]  # fmt: skip
    parts += [handler(op, shared=shared) for op in OPS]
    if shared:
        parts.append(together.routines())
    return join(parts)
