"""Stencils: each instruction compiled once, with its operands left as holes, to be copied and filled in by the baseline tier.

In a nutshell: an instruction's definition is lowered to a function like the interpreter's handlers, but what the interpreter
reads from a record is here the address of a symbol that nobody defines (`@h_rd`): where such an address would go, the object
file has a relocation, and that is the hole. A function ends by jumping to `@next`; where that jump comes last it is left out,
and the next instruction's code follows.

In baseline code %ip is the start of the code page (a multiple of its size), not a record's address; the rest is as in
interpreter.py. Memory holds all registers between two instructions; besides, %last is what the last instruction that had a
result wrote. Where the next one reads that register, it gets a variant of its stencil that takes %last, and need not wait for
memory.

Invariants:
- a stencil that cannot go on jumps to `@bail` before it has changed anything: the interpreter executes the instruction;
- a budget covers whole blocks: who leaves in the middle gives back `@h_rest`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from trapline.typed import NamedTuple

from trapline.machine.riscv.isa.declare import OPS, Op
from trapline.machine.riscv.jit import baseline as bl
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.floats import DECLARATIONS, DYN, RTZ, FloatEmitter
from trapline.machine.riscv.jit.shape import BRANCHES, JUMPS
from trapline.machine.riscv.jit.text import (
    CALL,
    HANDLER,
    LIKELY,
    OWN,
    UNLIKELY,
    Code,
    Operand,
    Unsupported,
    Value,
    join,
    text,
)

_ATTRIBUTES = 'nounwind strictfp optsize "no-jump-tables"="true"'
_REGISTERS = ("rd", "rs1", "rs2", "rs3")
LEADS = ("near", "far", "inside")  #: where a direct jump does: into the page, out of it, or further on in the same block
_PARAMETERS = "ptr %cpu, i64 %ip, i64 %budget, ptr %ram, i64 %delta, i64 %last"


def tail(code: Code, to: str, ip: str = "%ip", budget: str = "%budget", last: str = "%last") -> None:
    """Leave for another function. The interpreter's have no %last: an argument too many, in a register, is none to them."""
    code.line(f"{CALL} {to}(ptr %cpu, i64 {ip}, i64 {budget}, ptr %ram, i64 %delta, i64 {last})")
    code.line("ret void")


def dispatch(code: Code, ip: str, budget: str) -> None:
    """Execute the record at `ip`."""
    handler = code.let(f"load ptr, ptr {code.let(f'inttoptr i64 {ip} to ptr')}{OWN}")
    tail(code, handler, ip, budget)


class Kind(NamedTuple):
    """A stencil: its function, and its flags. Variants of one op follow one another: see `variants`."""

    name: str
    flags: int
    function: str


class Holes:
    """An instruction whose operands are holes; what its encoding implies is known."""

    def __init__(self, m: Stencil, op: Op, rm: int | None) -> None:
        self._m, self.op, self.length = m, op, op.length
        self._known = dict.fromkeys((*_REGISTERS, "rm", "imm", "fm", "pred", "succ", "aq", "rl"), 0)
        for each in op.fields:
            if each.name in bl.VALUES:
                self._known.pop(each.name, None)
        self._known.update(op.implied)
        if rm is not None:
            self._known["rm"] = rm

    def __getattr__(self, name: str) -> Operand:
        known: dict[str, int] = self.__dict__["_known"]
        if name in known:
            return known[name] * 8 if name in _REGISTERS else known[name]
        return self._m.hole(name)


class Stencil(FloatEmitter):
    """Lowers one op. `leads`: where a direct jump does, one of LEADS. `cached`: operands (rs1, rs2) that %last holds.

    Registers are named by 8 * their number.
    """

    def __init__(
        self, op: Op, *, leads: str = "near", rm: int | None = None, cached: frozenset[str] = frozenset(),
        shared: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(shared=shared)
        self.op = op
        self.bails = False
        self.used: set[str] = set()  #: of rs1 and rs2, those that are read and may be cached
        self.writes = False  #: an integer register
        self._cached = cached
        self._last = "%last"
        self._leads = leads
        self._direct = op.name in BRANCHES or op.name in JUMPS
        self.code.lines.append("entry:")
        op.body(self, Holes(self, op, rm))  # type: ignore[arg-type]  # its operands are values
        self._finish()

    def hole(self, name: str) -> Value:
        return Value(self.code, f"ptrtoint (ptr @h_{name} to i64)")

    def _register(self, base: int, n: Operand) -> str:
        return self.code.let(f"getelementptr i8, ptr {self.cpu(base)}, i64 {text(n)}")

    def x(self, n: Operand) -> Operand:
        if isinstance(n, int) and n == 0:
            return 0
        for name in ("rs1", "rs2"):
            if text(n) == (text(8 * self.op.implied[name]) if name in self.op.implied else self.hole(name).name):
                self.used.add(name)
                if name in self._cached:
                    return Value(self.code, "%last")
        return self.code.value(f"load i64, ptr {self._register(at.X, n)}{OWN}")

    def w(self, n: Operand, value: Operand) -> None:
        if not (isinstance(n, int) and n == 0):
            self.code.line(f"store i64 {text(value)}, ptr {self._register(at.X, n)}{OWN}")
            self.writes, self._last = True, text(value)

    def freg(self, n: Operand) -> Value:
        return self.code.value(f"load i64, ptr {self._register(at.F, n)}{OWN}")

    def set_freg(self, n: Operand, value: Value) -> None:
        self.code.line(f"store i64 {value.name}, ptr {self._register(at.F, n)}{OWN}")

    def pc(self) -> Operand:
        page = self.code.value(f"add i64 {self.code.let('lshr i64 %ip, 3')}, %delta")
        return page + self.hole("offset")

    def step(self) -> None:
        self.bails = True
        tail(self.code, "@bail")

    # ---- what comes after the instruction

    def _finish(self) -> None:
        code = self.code
        if self.target is None:
            tail(code, "@next", last=self._last)
            return
        if not self.taken:
            self._jump()
            return
        yes, no = code.label(), code.label()
        code.line(f"br i1 {self.taken}, label %{yes}, label %{no}{LIKELY}")  # so that `@next` comes last
        code.place(yes)
        self._jump()
        code.place(no)
        tail(code, "@next")

    def _jump(self) -> None:
        """Go on at the target; what the budget was charged for, and is not executed, is given back."""
        assert self.target is not None
        code, ip = self.code, Value(self.code, "%ip")
        left = self._given_back("skipped" if self._direct and self._leads == "inside" else "rest")
        if not self._direct or self._leads == "far":
            tail(code, "@goto", text(self.target), left)
        elif self._leads == "inside":
            tail(code, "@inside", budget=left)
        else:
            self._arrive(code.binary("add", ip, self.hole("target")), code.binary("add", ip, self.hole("counter")), left)

    def _given_back(self, name: str) -> str:
        return self.code.binary("add", Value(self.code, "%budget"), self.hole(name)).name

    def _arrive(self, ip: Value, counter: Value, budget: str) -> None:
        """Execute the record at `ip`, which a jump led to, and count that."""
        code = self.code
        pointer = code.pointer(counter)
        count = code.let(f"add i32 {code.let(f'load i32, ptr {pointer}{OWN}')}, 1")
        code.line(f"store i32 {count}, ptr {pointer}{OWN}")
        for word, where in ((at.WARM_JUMPS, "bake"), (at.HOT_JUMPS, "leave_hot")):
            reached, go = code.label(), code.label()
            threshold = code.let(f"load i32, ptr {self.cpu(word)}{OWN}")
            code.line(f"br i1 {code.let(f'icmp eq i32 {count}, {threshold}')}, label %{reached}, label %{go}{UNLIKELY}")
            code.place(reached)
            tail(code, f"@{where}", ip.name, budget)
            code.place(go)
        dispatch(code, ip.name, budget)


class _Frame(FloatEmitter):
    """The stencils that are no instruction."""

    def head(self, *, fp: bool) -> None:
        """A block's start, entered from its record (%ip is its address): pay for the whole block, or interpret."""
        code = self.code
        short, go = code.label(), code.label()
        left = code.value("sub i64 %budget, ptrtoint (ptr @h_count to i64)")
        refuse = code.let(f"icmp slt i64 {left.name}, 0")
        if fp:
            refuse = code.let(f"or i1 {refuse}, {code.let(f'icmp eq i64 {self._word(at.FP_READY).name}, 0')}")
        code.line(f"br i1 {refuse}, label %{short}, label %{go}{UNLIKELY}")
        code.place(short)
        tail(code, "@plain")
        code.place(go)
        tail(code, "@next", code.binary("and", Value(code, "%ip"), -at.PAGE_BYTES).name, left.name, "undef")

    def bail(self) -> None:
        """Give back what was not executed, and let the interpreter execute this instruction."""
        code = self.code
        ip = code.value("add i64 %ip, ptrtoint (ptr @h_target to i64)")
        budget = code.value("add i64 %budget, ptrtoint (ptr @h_rest to i64)")
        tail(code, "@plain", ip.name, budget.name)

    def end(self) -> None:
        """Go on at the record behind the block."""
        ip = self.code.value("add i64 %ip, ptrtoint (ptr @h_target to i64)")
        dispatch(self.code, ip.name, "%budget")

    def function(self, name: str) -> str:
        return self.code.function(f"{HANDLER} @{name}({_PARAMETERS}) {_ATTRIBUTES}")


def frames() -> list[Kind]:
    """head, head_fp, bail, end: stencils 0 to 3."""
    made = []
    for name in ("head", "head_fp", "bail", "end"):
        frame = _Frame()
        frame.code.lines.append("entry:")
        if name.startswith("head"):
            frame.head(fp=name == "head_fp")
        else:
            getattr(frame, name)()
        made.append(Kind(f"f_{name}", 0, frame.function(f"f_{name}")))
    return made


def variants(op: Op, *, shared: bool = False) -> Iterator[Kind]:
    """The stencils of one op, none if it is left to the interpreter.

    By LEADS, or for rm 7, 1 and any other; each for nothing cached, rs1, rs2, both, as far as it reads them.
    """
    rounds = any(each.name == "rm" for each in op.fields)
    direct = op.name in BRANCHES or op.name in JUMPS
    number = OPS.index(op)
    for variant in range(3 if direct or rounds else 1):
        rm = (DYN, RTZ, None)[variant] if rounds else None
        try:
            plain = Stencil(op, leads=LEADS[variant], rm=rm, shared=shared)
        except Unsupported:
            return
        flags = _flags(op, plain) | (bl.DIRECT if direct else 0) | (bl.ROUNDS if rounds else 0)
        for n, cached in enumerate(_subsets([each for each in ("rs1", "rs2") if each in plain.used])):
            stencil = Stencil(op, leads=LEADS[variant], rm=rm, cached=cached, shared=shared)
            name = f"s{number}_{variant}_{n}"
            yield Kind(name, flags, stencil.code.function(f"{HANDLER} @{name}({_PARAMETERS}) {_ATTRIBUTES}"))


def _subsets(names: list[str]) -> list[frozenset[str]]:
    return [frozenset(each for bit, each in enumerate(names) if chosen >> bit & 1) for chosen in range(1 << len(names))]


def _flags(op: Op, stencil: Stencil) -> int:
    flags = (bl.ENDS if stencil.target is not None and not stencil.taken else 0) | (bl.BAILS if stencil.bails else 0)
    flags |= (bl.FP if op.fp else 0) | (bl.SHORT if op.length == 2 else 0) | (bl.WRITES if stencil.writes else 0)
    flags |= (bl.USES_1 if "rs1" in stencil.used else 0) | (bl.USES_2 if "rs2" in stencil.used else 0)
    return flags | op.implied.get("rd", 0) << bl.IMPLIED_RD | op.implied.get("rs1", 0) << bl.IMPLIED_RS1


def tidy(assembly: str) -> str:
    """Let branches lead out of a stencil where they led to a jump out of it, and leave a last jump to `next` out."""
    lines = assembly.splitlines()
    out_of: dict[str, str] = {}
    for line, following in itertools.pairwise(lines):
        jump = following.split()
        if line.startswith(".L") and len(jump) == 2 and jump[0] == "jmp" and jump[1].endswith("@PLT"):
            out_of[line.rstrip(":")] = jump[1]
    made: list[str] = []
    skip = False
    for line in lines:
        words = line.split()
        if skip:
            skip = False
        elif line.rstrip(":") in out_of and made[-1].split()[0] in ("jmp", "jmpq"):
            skip = True
        elif len(words) == 2 and words[0].startswith("j") and words[1] in out_of:
            made.append(f"{words[0]} {out_of[words[1]]}")
        else:
            if line.startswith(".Lfunc_end") and made[-1].split() == ["jmp", "next@PLT"]:
                made.pop()
            made.append(line)
    return "\n".join(made)


def module(kinds: list[Kind]) -> str:
    """The text of all stencils."""
    holes = "".join(f"@h_{name} = external global i8, !absolute_symbol !9\n" for name in bl.VALUES)
    exits = "".join(f"declare preserve_nonecc void @{name}({_PARAMETERS})\n" for name in bl.EXITS)
    functions = [each.function for each in kinds]
    return join([DECLARATIONS, holes, exits, *functions, "!9 = !{i64 -2147483648, i64 2147483648}\n"])
