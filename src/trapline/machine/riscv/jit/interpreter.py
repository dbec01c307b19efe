"""The interpreter: one small function per instruction, each ending in a jump to the next one's (*tail threading*).

In a nutshell: `%ip` is the address of the record being executed (see state.py), `%budget` how many instructions may still run,
`%ram` the host address of guest RAM, `%delta` what turns %ip into the pc. They live in registers from one function to the next.
An instruction's operands come from its record, its meaning from its definition.

Invariants:
- every handler takes one instruction off the budget before anything else, and leaves if there is none left;
- what the tier does not do itself (most system instructions, misses, odd floating point) leaves with STEP, nothing changed.
"""

from __future__ import annotations

from trapline.machine.riscv import layout
from trapline.machine.riscv import status as st
from trapline.machine.riscv.isa.declare import OPS, Op
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.decoder import decoder
from trapline.machine.riscv.jit.emit import context
from trapline.machine.riscv.jit.floats import DECLARATIONS, FloatEmitter, unit
from trapline.machine.riscv.jit.refill import refill
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
from trapline.machine.riscv.trap import ECALL_U

_HOT = "@hot@"  #: stands for the number of jumps that make a place hot, until the module is put together


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


class Interpreted(FloatEmitter):
    """Lowers one op to its handler."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.op = op
        self._pc: Value | None = None
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
            self._pc = _pc(self.code, "%ip")
        return self._pc

    def step(self) -> None:
        tail(self.code, "@leave_step")

    def miss(self, address: Operand, *, write: bool) -> None:
        self.code.line(f"store i64 {text(address)}, ptr {self.cpu(at.MISSED)}{OWN}")
        tail(self.code, "@refill_write" if write else "@refill_read")

    def csr(self, number: Operand, how: str, value: Operand, *, read: bool, write: bool) -> Value:
        """What trap handlers use all the time: scratch, epc, cause and tval, and reading status. Any other is a step."""
        if any(each.name == "imm" for each in self.op.fields):
            raise Unsupported
        code = self.code
        needed = self.srl(number, 8) & 3
        self.step_if(code.let(f"icmp ult i64 {self._word(at.PRIV).name}, {needed.name}"))
        machine = code.let(f"icmp ne i64 {code.binary('and', number, 0x200).name}, 0")
        word, status, done = code.label(), code.label(), code.label()
        plain = code.let(f"icmp eq i64 {code.binary('and', number, 0xDFC).name}, {0x140}")
        code.line(f"br i1 {plain}, label %{word}, label %{status}{LIKELY}")
        code.place(status)
        reads = "false"
        if how == "s":  # to set no bits
            known = code.let(f"icmp eq i64 {code.binary('and', number, 0xDFF).name}, {0x100}")
            reads = code.let(f"and i1 {known}, {code.let(f'icmp eq i64 {text(value)}, 0')}")
        self.step_if(code.let(f"xor i1 {reads}, true"))
        status_read = self._read_status(machine)
        code.line(f"br label %{status}.end")
        code.place(f"{status}.end")
        code.line(f"br label %{done}")
        code.place(word)
        base = code.value(f"select i1 {machine}, i64 {8 * layout.MSCRATCH}, i64 {8 * layout.SSCRATCH}")
        offset = base + code.binary("shl", code.binary("and", number, 3), 3)
        pointer = code.let(f"getelementptr i8, ptr %cpu, i64 {offset.name}")
        old = code.value(f"load i64, ptr {pointer}{OWN}")
        new = value if how == "w" else old | value if how == "s" else old & ~value
        epc = code.let(f"icmp eq i64 {code.binary('and', number, 3).name}, 1")
        mask = code.value(f"select i1 {epc}, i64 -2, i64 -1")
        code.line(f"store i64 {code.binary('and', new, mask).name}, ptr {pointer}{OWN}")
        code.line(f"br label %{done}")
        code.place(done)
        return code.value(f"phi i64 [ {status_read.name}, %{status}.end ], [ {old.name}, %{word} ]")

    def _read_status(self, machine: str) -> Value:
        """mstatus (the i1 `machine` set) or sstatus."""
        code = self.code
        stored = self._word(at.MSTATUS)
        dirty = code.let(f"icmp eq i64 {(stored & st.FS).name}, {st.FS}")
        whole = code.value(f"select i1 {dirty}, i64 {(stored | st.SD).name}, i64 {stored.name}")
        return code.value(f"select i1 {machine}, i64 {whole.name}, i64 {(whole & st.SSTATUS).name}")

    def finish(self) -> None:
        """What comes after the instruction."""
        code = self.code
        if self.target is None:
            self._next()
            return
        if self.taken:
            yes, no = code.label(), code.label()
            code.line(f"br i1 {self.taken}, label %{yes}, label %{no}")
            code.place(no)
            self._next()
            code.place(yes)
        _transfer(code, self.target, self.pc(), "%left")

    def _next(self) -> None:
        following = self.code.binary("add", Value(self.code, "%ip"), self.op.length // 2 * at.RECORD)
        dispatch(self.code, following.name, "%left")


def _pc(code: Code, ip: str) -> Value:
    return code.value(f"add i64 {code.let(f'lshr i64 {ip}, 3')}, %delta")


def _transfer(code: Code, target: Operand, pc: Operand, budget: str) -> None:
    """Jump to `target`: within the page at once, else through `goto`."""
    crossed = code.binary("lshr", code.binary("xor", target, pc), 12)
    near, far = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp eq i64 {crossed.name}, 0')}, label %{near}, label %{far}{LIKELY}")
    code.place(far)
    tail(code, "@goto", text(target), budget)
    code.place(near)
    ip = code.binary("shl", code.binary("sub", target, Value(code, "%delta")), 3)
    _arrive(code, ip, budget, "%delta")


def _arrive(code: Code, ip: Value, budget: str, delta: str) -> None:
    """Execute the record at `ip`, which a jump led to; leave when that has become hot."""
    offset = code.binary("and", code.binary("lshr", ip, 2), 0x1FFC)
    page = code.binary("and", ip, -at.PAGE_BYTES)
    counter = code.pointer(code.binary("add", code.binary("add", page, offset), at.COUNTERS))
    count = code.let(f"add i32 {code.let(f'load i32, ptr {counter}{OWN}')}, 1")
    code.line(f"store i32 {count}, ptr {counter}{OWN}")
    hot, go = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp eq i32 {count}, {_HOT}')}, label %{hot}, label %{go}{UNLIKELY}")
    code.place(hot)
    tail(code, "@leave_hot", ip.name, budget, delta)
    code.place(go)
    dispatch(code, ip.name, budget, delta)


def handler(op: Op) -> str:
    """The function of one op."""
    name = f"@op_{OPS.index(op)}"
    if not op.system or op.extension == "Zicsr":
        m = Interpreted(op)
        try:
            op.body(m, Fields(m, op))  # type: ignore[arg-type]  # its operands are values
            m.finish()
        except Unsupported:
            pass
        else:
            return m.code.function(f"{HANDLER} {name}({PARAMETERS}) {ATTRIBUTES}")
    code = Code()
    tail(code, "@leave_ecall" if op.name == "ecall" else "@leave_step")
    return code.function(f"{HANDLER} {name}({PARAMETERS}) {ATTRIBUTES}")


def _leave(name: str, reason: int, *, pc_given: bool = False) -> str:
    """A function that stores where the program is and returns to whoever called `run`."""
    code = Code()
    pc = Value(code, "%ip") if pc_given else _pc(code, "%ip")
    for offset, value in ((at.PC, pc.name), (at.BUDGET_LEFT, "%budget"), (at.REASON, str(reason))):
        code.line(f"store i64 {value}, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {offset}')}{OWN}")
    code.line("ret void")
    return code.function(f"{HANDLER} @{name}({PARAMETERS}) {ATTRIBUTES} noinline cold")


def _ecall() -> str:
    """A call from user mode leaves by itself, described; any other, and one with no budget left, as everything does."""
    code = Code()
    priv = code.let(f"load i64, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {at.PRIV}')}{OWN}")
    user, other, call, spent = (code.label() for _ in range(4))
    code.line(f"br i1 {code.let(f'icmp eq i64 {priv}, 0')}, label %{user}, label %{other}{LIKELY}")
    code.place(other)
    tail(code, "@leave_step")
    code.place(user)
    code.line(f"br i1 {code.let('icmp sgt i64 %budget, 0')}, label %{call}, label %{spent}{LIKELY}")
    code.place(spent)
    tail(code, "@leave_budget")
    code.place(call)
    for offset, value in ((at.TRAP_CAUSE, ECALL_U), (at.TRAP_VALUE, 0), (at.RESERVED, 0)):
        code.line(f"store i64 {value}, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {offset}')}{OWN}")
    tail(code, "@leave_call")
    return code.function(f"{HANDLER} @leave_ecall({PARAMETERS}) {ATTRIBUTES} noinline cold")


def _goto(name: str, *, jump: bool) -> str:
    """Execute from the virtual address in %ip on, whatever page it is in; jump: it was a jump that led there."""
    code = Code()
    pc = Value(code, "%ip")
    page = code.binary("and", pc, -4096)
    index = code.binary("and", code.binary("lshr", pc, 8), (at.TLB_PAGES - 1) << 4)
    entry = code.let(f"getelementptr i8, ptr {context(code)}, i64 {code.binary('add', index, at.CODE).name}")
    tag = code.let(f"load i64, ptr {entry}{OWN}")
    hit, miss = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp eq i64 {tag}, {page.name}')}, label %{hit}, label %{miss}{LIKELY}")
    code.place(miss)
    tail(code, "@leave_fetch")
    code.place(hit)
    half = code.let(f"getelementptr i8, ptr {entry}, i64 8")
    base = code.value(f"load i64, ptr {half}{OWN}")
    delta = code.binary("sub", page, code.binary("lshr", base, 3))
    ip = code.binary("add", base, code.binary("shl", code.binary("and", pc, 4095), 3))
    if jump:
        _arrive(code, ip, "%budget", delta.name)
    else:
        dispatch(code, ip.name, "%budget", delta.name)
    return code.function(f"{HANDLER} @{name}({PARAMETERS}) {ATTRIBUTES}")


def _page_end() -> str:
    """The record beyond a page: go on in the next one."""
    code = Code()
    tail(code, "@enter", _pc(code, "%ip").name)
    return code.function(f"{HANDLER} @page_end({PARAMETERS}) {ATTRIBUTES}")


def _undecoded() -> str:
    """Decode the instruction at this record, then execute it. One that continues in the next page is a step for ever."""
    code = Code()
    page = code.binary("and", Value(code, "%ip"), -at.PAGE_BYTES)
    source = code.value(f"load i64, ptr {code.pointer(code.binary('add', page, at.SOURCE))}{OWN}")
    offset = code.binary("and", code.binary("lshr", Value(code, "%ip"), 3), 4095)
    pointer = code.pointer(source + offset)
    low = code.value(f"zext i16 {code.let(f'load i16, ptr {pointer}, align 2')} to i64")
    long = code.let(f"icmp eq i64 {code.binary('and', low, 3).name}, 3")
    last = code.let(f"icmp eq i64 {offset.name}, 4094")
    split, check, wide, known = (code.label() for _ in range(4))
    code.line(f"br i1 {long}, label %{check}, label %{known}")
    code.place(check)
    code.line(f"br i1 {last}, label %{split}, label %{wide}{UNLIKELY}")
    code.place(split)
    tail(code, "@leave_step")
    code.place(wide)
    raw32 = code.let(f"zext i32 {code.let(f'load i32, ptr {pointer}, align 2')} to i64")
    code.line(f"br label %{known}")
    code.place(known)
    raw = code.let(f"phi i64 [ {low.name}, %entry ], [ {raw32}, %{wide} ]")
    code.line(f"call void @decode(i64 {raw}, ptr {code.pointer(Value(code, '%ip'))})")
    dispatch(code, "%ip", "%budget")
    code.lines.insert(0, "entry:")
    return code.function(f"{HANDLER} @undecoded({PARAMETERS}) {ATTRIBUTES}")


RUN = """\
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse.stmxcsr(ptr)
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
    return [f"op_{i}" for i in range(len(OPS))] + ["leave_step", "goto", "leave_budget", "leave_hot", "undecoded", "page_end"]


def module(hot: int = at.HOT) -> str:
    """The whole interpreter. `hot`: how many jumps make a place hot."""
    table = "\n".join(
        f"  %p{i} = getelementptr ptr, ptr %out, i64 {i}\n  store ptr @{name}, ptr %p{i}"
        for i, name in enumerate(handler_names())
    )
    run = RUN.format(mxcsr=at.MXCSR, pc=at.PC, budget=at.BUDGET_LEFT, ram=at.RAM_HOST, table=table)
    parts = [DECLARATIONS, unit(), run]
    parts += [
        _leave("leave_step", at.STEP), _leave("leave_budget", at.BUDGET), _leave("leave_hot", at.HOT_SPOT),
        _leave("leave_call", at.ECALL), _ecall(), _leave("leave_fetch", at.FETCH, pc_given=True),
        _goto("goto", jump=True), _goto("enter", jump=False), _page_end(), _undecoded(), decoder(),
        refill(write=False), refill(write=True),
    ]  # fmt: skip
    parts += [handler(op) for op in OPS]
    return join(parts).replace(_HOT, str(hot))
