"""Regions: a hot piece of the program as one LLVM function, its registers in SSA form.

In a nutshell: registers that the region uses are loaded once when it is entered, live in the host's registers, and are stored
when it is left. It is entered from a record of the interpreter (same parameters) and leaves by jumping to a handler of the
interpreter, through the table in the CPU struct; so a region knows nobody's address but those of its code pages, which are data
(`@bases`): its code is the same wherever they are, and can be kept for the next run.

Invariants:
- instructions are taken off the budget before they are executed, many at once (prepaid.py), and where they are not covered, the
  region is left: the interpreter uses up what is left, so a run ends at an exact instruction whatever tier it is in;
- leaving gives back what was not executed;
- the region is valid at one virtual address, with the code pages that it was made from: both are checked on entry;
- it may be entered at several of its blocks, each from the record of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trapline.machine.riscv.isa.declare import OPS, Instruction, Op
from trapline.machine.riscv.jit import access, groups, loops, prepaid
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.access import Windowed
from trapline.machine.riscv.jit.emit import context
from trapline.machine.riscv.jit.floats import DECLARATIONS
from trapline.machine.riscv.jit.interpreter import handler_names
from trapline.machine.riscv.jit.loops import Loop
from trapline.machine.riscv.jit.shape import Block, Shape, is_return, successors
from trapline.machine.riscv.jit.text import (
    ATTRIBUTES,
    CALL,
    HANDLER,
    OWN,
    PARAMETERS,
    UNLIKELY,
    Operand,
    Unsupported,
    Value,
    join,
    tail,
    text,
)

_TSO = 8  #: fm of fence.tso
MAX_TARGETS = 64  #: blocks that an indirect jump may lead to within the region
_INDEX = {name: index for index, name in enumerate(handler_names())}
_GOTO, _UNDECODED = _INDEX["goto"], _INDEX["undecoded"]
_OP_INDEX: dict[int, int] = {id(op): index for index, op in enumerate(OPS)}


class Region(Windowed):
    """Lowers the blocks of one shape. `entries`: blocks that it is entered at."""

    def __init__(self, shape: Shape, entries: Sequence[int], *, shared: bool = False) -> None:
        super().__init__(shared=shared)
        self._shape = shape
        self._entries = entries
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._pc = 0
        self._op: Op | None = None
        self._loops = loops.find(shape.blocks)
        targets = [*entries, *shape.returns, *shape.computed, *(loop.header for loop in self._loops)]
        self._plan = prepaid.plan(shape.blocks, targets)
        self._credit = 0  #: instructions that were taken off the budget and have not been executed
        self._loop: Loop | None = None  #: whose chunk is being lowered
        self._headers = {loop.header: loop for loop in self._loops}
        self.needs_fp = any(i.op.fp for block in shape.blocks.values() for _, i in block.body)

    # ---- registers

    def x(self, n: int) -> Operand:
        if n == 0:
            return 0
        self._read.add(f"x{n}")
        return self.code.value(f"load i64, ptr %x{n}")

    def w(self, n: int, value: Operand) -> None:
        if n:
            self._written.add(f"x{n}")
            self.code.line(f"store i64 {text(value)}, ptr %x{n}")

    def freg(self, n: int) -> Value:
        self._read.add(f"f{n}")
        return self.code.value(f"load i64, ptr %f{n}")

    def set_freg(self, n: int, value: Value) -> None:
        self._written.add(f"f{n}")
        self.code.line(f"store i64 {value.name}, ptr %f{n}")

    def pc(self) -> Operand:
        return self._pc

    def fence(self, pred: Operand, succ: Operand, fm: Operand) -> None:
        """Only stores and output (W, O) before loads and input (R, I) need the host's; a fence.tso has none of those."""
        assert isinstance(pred, int) and isinstance(succ, int)
        if pred & 0b0101 and succ & 0b1010 and fm != _TSO:
            super().fence(pred, succ, fm)

    def arrays(self) -> str:
        return "%arrays"  # the context cannot change within a region: what changes it leaves

    # ---- leaving

    def _leave(self, handler: int, ip: Operand, budget: Operand, delta: Operand = 0) -> None:
        """End the block: go on in the interpreter's `handler`."""
        for name, value in (("handler", handler), ("ip", ip), ("left", budget), ("delta", delta)):
            self.code.line(f"store i64 {text(value)}, ptr %out.{name}")
        self.code.line("br label %leave")

    def _leave_at(self, pc: int, op: Op, budget: Operand) -> None:
        """Let the interpreter execute the instruction at `pc`."""
        page = pc & -4096
        base = self._base(page)
        self._leave(_OP_INDEX[id(op)], base + (pc & 4095) * 8, budget, page - self.code.binary("lshr", base, 3))

    def _base(self, page: int) -> Value:
        """The address of the code page that the region was made from."""
        place = self.code.let(f"getelementptr i64, ptr @bases, i64 {self._shape.pages.index(page)}")
        return self.code.value(f"load i64, ptr {place}{OWN}")

    def _leave_to(self, target: Operand, budget: Operand) -> None:
        self._leave(_GOTO, target, budget)

    def _budget(self) -> Value:
        """What is left of the budget, before the present instruction or behind the last one of a block."""
        now = self.code.value("load i64, ptr %budget.now")
        if self._loop is not None:
            now = now + self.code.value("load i64, ptr %budget.chunk")
        return now + self._credit if self._credit else now

    def _settle(self, variable: str, due: int) -> None:
        """Give back what was taken off and is not `due` where the program goes on."""
        if self._credit != due:
            now = self.code.value(f"load i64, ptr {variable}")
            self.code.line(f"store i64 {(now + (self._credit - due)).name}, ptr {variable}")

    def step(self) -> None:
        assert self._op is not None
        self._leave_at(self._pc, self._op, self._budget())

    # ---- blocks

    def _label(self, pc: int) -> str:
        return f"b{pc:x}"

    def _chunk_label(self, pc: int) -> str:
        return f"c{pc:x}"

    def _go(self, pc: int) -> None:
        """End the block: go on at the known address `pc`."""
        loop = self._loop
        if loop is not None and pc in loop.blocks:
            self._settle("%budget.chunk", self._chunk_plan.due(pc))
            self.code.line(f"br label %{self._chunk_label(pc)}")
        elif pc in self._shape.blocks:
            if loop is None:
                self._settle("%budget.now", self._plan.due(pc))
            else:
                self.code.line(f"store i64 {(self._budget() - self._plan.due(pc)).name}, ptr %budget.now")
            back = self._headers.get(pc)
            again = loop is None and back is not None and self._start in back.blocks
            self.code.line(f"br label %{'p' if again else ''}{self._label(pc)}")
        else:
            self._leave_to(pc, self._budget())

    def _block(self, block: Block) -> None:
        code = self.code
        self._start = block.start
        if self._loop is not None:
            self._block_of_chunk(block)
            return
        code.place(self._label(block.start))
        needed = self._plan.needs[block.start]
        if block.start in self._plan.checkpoints:
            self._checkpoint(block, needed)
        self._body(block, needed)

    def _checkpoint(self, block: Block, needed: int) -> None:
        """Take off what the longest way from here costs; leave if that is not covered."""
        code = self.code
        before = code.value("load i64, ptr %budget.now")
        left = code.binary("sub", before, needed)
        short, go = code.label(), code.label()
        code.line(f"br i1 {code.let(f'icmp slt i64 {left.name}, 0')}, label %{short}, label %{go}{UNLIKELY}")
        code.place(short)
        self._leave_at(block.start, block.body[0][1].op, before)
        code.place(go)
        code.line(f"store i64 {left.name}, ptr %budget.now")

    def _block_of_chunk(self, block: Block) -> None:
        """A block of a chunk; the header leaves for its other form when the chunk's budget is used up."""
        code = self.code
        code.place(self._chunk_label(block.start))
        needed = self._chunk_plan.needs[block.start]
        if block.start not in self._chunk_plan.checkpoints:
            self._body(block, needed)
            return
        before = code.value("load i64, ptr %budget.chunk")
        left = code.binary("sub", before, needed)
        short, go = code.label(), code.label()
        code.line(f"br i1 {code.let(f'icmp slt i64 {left.name}, 0')}, label %{short}, label %{go}{UNLIKELY}")
        code.place(short)
        self._credit = 0
        code.line(f"store i64 {self._budget().name}, ptr %budget.now")
        code.line(f"br label %{self._label(block.start)}")
        code.place(go)
        code.line(f"store i64 {left.name}, ptr %budget.chunk")
        self._body(block, needed)

    def _chunk(self, loop: Loop) -> None:
        """The second form of a loop, and before it, what decides whether it may be entered."""
        code = self.code
        header = self._label(loop.header)
        code.place("p" + header)
        self._chunk_plan = prepaid.plan(loop.blocks, [loop.header])
        size = loop.rounds * loop.shortest + self._chunk_plan.needs[loop.header] - loop.shortest
        left = code.binary("sub", code.value("load i64, ptr %budget.now"), size)
        go = code.label()
        ways_out = {to for block in loop.blocks.values() for to in successors(block)} & {*self._shape.blocks} - {*loop.blocks}
        least = max((self._plan.due(to) for to in ways_out), default=0)
        code.line(f"br i1 {code.let(f'icmp slt i64 {left.name}, {least}')}, label %{header}, label %{go}{UNLIKELY}")
        code.place(go)
        self._hosts = self.reaches(loop.reaches, loop.rounds, header)
        code.line(f"store i64 {left.name}, ptr %budget.now")
        code.line(f"store i64 {size}, ptr %budget.chunk")
        code.line(f"br label %{self._chunk_label(loop.header)}")
        self._loop = loop
        for block in loop.blocks.values():
            self._block(block)
        self._loop = None

    def _body(self, block: Block, credit: int) -> None:
        """credit: what has been taken off the budget for this block and what follows."""
        loop = self._loop
        accesses = groups.find(block.body)
        for position, (pc, i) in enumerate(block.body):
            self.access = accesses.get(position)
            sure = None if loop is None else loop.accesses.get(pc)
            self.sure = "" if sure is None else self._hosts[sure]
            self._pc, self._op, self._credit = pc, i.op, credit - position
            self.target, self.taken = None, ""
            if not self._lower(i):
                return
        self._credit = credit - len(block.body)
        self._end(block)

    def _lower(self, i: Instruction) -> bool:
        """One instruction; False if the block ends here because it cannot be lowered."""
        mark, read, written = len(self.code.lines), set(self._read), set(self._written)
        try:
            i.body(self, i)
        except Unsupported:
            del self.code.lines[mark:]
            self._read, self._written = read, written
            self.step()
            return False
        return True

    def _end(self, block: Block) -> None:
        """Where the last instruction leads."""
        code = self.code
        if self.target is None:
            assert block.after is not None
            self._go(block.after)
        elif self.taken:
            assert isinstance(self.target, int) and block.after is not None
            yes, no = code.label(), code.label()
            code.line(f"br i1 {self.taken}, label %{yes}, label %{no}")
            code.place(yes)
            self._go(self.target & (1 << 64) - 1)
            code.place(no)
            self._go(block.after)
        elif isinstance(self.target, int):
            self._go(self.target & (1 << 64) - 1)
        else:
            other = code.label()
            self._settle("%budget.now", 0)
            self._credit = 0
            known = self._shape.returns if is_return(block.body[-1][1]) else self._shape.computed
            self._jump_to(self.target, known[:MAX_TARGETS], other)
            code.place(other)
            self._leave_to(self.target, self._budget())

    def _jump_to(self, target: Value, known: Sequence[int], other: str) -> None:
        """Go to the block at `target`, which is even; to the label `other` if it is none of those that are known."""
        start = min(known, default=0)
        distance = self.code.binary("lshr", target - start, 1)
        self._switch(distance.name, other, {pc - start >> 1: self._label(pc) for pc in known})

    # ---- the function

    def function(self) -> str:
        for block in self._shape.blocks.values():
            self._block(block)
        for loop in self._loops:
            self._chunk(loop)
        blocks = self.code.lines
        self.code.lines = []
        self._entry()
        self.code.lines += blocks
        self._exit()
        return self.code.function(f"{HANDLER} @region({PARAMETERS}) {ATTRIBUTES}")

    def _entry(self) -> None:
        """Check that the code is what it was made from, then load the registers."""
        code, entries = self.code, self._entries
        code.lines.append("entry:")
        names = sorted(self._read | self._written)
        for name in [*names, "budget.now", "budget.chunk", "out.handler", "out.ip", "out.left", "out.delta"]:
            code.line(f"%{name} = alloca i64")
        self.declare_variables()
        code.line(f"%arrays = getelementptr i8, ptr {context(code)}, i64 0")
        pc = code.value(f"add i64 {code.let('lshr i64 %ip, 3')}, %delta")
        wrong = "false"
        within = {entry & -4096 for entry in entries}
        for page in self._shape.pages:
            if within == {page}:
                continue  # it is being executed from
            word = at.CODE + (page >> 12) % at.TLB_PAGES * 16
            for offset, expected in ((0, page), (8, self._base(page))):
                place = code.let(f"getelementptr i8, ptr %arrays, i64 {word + offset}")
                found = code.let(f"load i64, ptr {place}{OWN}")
                wrong = code.let(f"or i1 {wrong}, {code.let(f'icmp ne i64 {found}, {text(expected)}')}")
        if self.needs_fp:
            ready = code.let(f"load i64, ptr {self.cpu(at.FP_READY)}{OWN}")
            wrong = code.let(f"or i1 {wrong}, {code.let(f'icmp eq i64 {ready}, 0')}")
        go = code.label()
        code.line(f"br i1 {wrong}, label %other, label %{go}{UNLIKELY}")
        code.place(go)
        for name in names:
            code.line(f"store i64 {code.let(f'load i64, ptr {self._home(name)}{OWN}')}, ptr %{name}")
        self.refresh_windows()
        code.line("store i64 %budget, ptr %budget.now")
        self._switch(pc.name, "other", {entry: self._label(entry) for entry in entries})
        self._refuse()

    def _switch(self, value: str, other: str, labels: Mapping[int, str]) -> None:
        cases = " ".join(f"i64 {text(number)}, label %{label}" for number, label in labels.items())
        self.code.line(f"switch i64 {value}, label %{other} [ {cases} ]")

    def _refuse(self) -> None:
        """The region is not valid now: the interpreter executes the instruction at %ip."""
        code = self.code
        code.place("other")
        tail(code, self._handler(str(_INDEX["plain"])))

    def _exit(self) -> None:
        code = self.code
        code.place("leave")
        for name in sorted(self._written):
            code.line(f"store i64 {code.let(f'load i64, ptr %{name}')}, ptr {self._home(name)}{OWN}")
        out = {name: code.let(f"load i64, ptr %out.{name}") for name in ("handler", "ip", "left", "delta")}
        handler = self._handler(self._decoded(out["handler"], out["ip"]))
        code.line(f"{CALL} {handler}(ptr %cpu, i64 {out['ip']}, i64 {out['left']}, ptr %ram, i64 {out['delta']})")
        code.line("ret void")

    def _decoded(self, index: str, ip: str) -> str:
        """The handler to go on in: one that decodes, if the record has never been executed (the region is an earlier run's)."""
        code = self.code
        record, known = code.label(), code.label()
        code.line(f"br label %{record}.from")
        code.place(f"{record}.from")
        code.line(f"br i1 {code.let(f'icmp eq i64 {index}, {_GOTO}')}, label %{known}, label %{record}")
        code.place(record)
        found = code.let(f"load ptr, ptr {code.let(f'inttoptr i64 {ip} to ptr')}{OWN}")
        fresh = code.let(f"icmp eq ptr {found}, {self._handler(str(_UNDECODED))}")
        own = code.let(f"select i1 {fresh}, i64 {_UNDECODED}, i64 {index}")
        code.line(f"br label %{known}")
        code.place(known)
        return code.let(f"phi i64 [ {index}, %{record}.from ], [ {own}, %{record} ]")

    def _home(self, name: str) -> str:
        """Where a register is in the CPU struct."""
        return self.cpu((at.X if name[0] == "x" else at.F) + 8 * int(name[1:]))

    def helper(self, name: str) -> str:
        return self._handler(str(_INDEX[name]))

    def _handler(self, index: str) -> str:
        table = self.code.let(f"load ptr, ptr {self.cpu(at.HANDLERS)}{OWN}")
        entry = self.code.let(f"getelementptr ptr, ptr {table}, i64 {index}")
        return self.code.let(f"load ptr, ptr {entry}{OWN}")


def module(shape: Shape, entries: Sequence[int], *, shared: bool = False) -> str:
    """A module with the one function `region`, and `bases`, where its loader puts the addresses of its code pages, in order."""
    unknown = ", ".join("i64 -1" for _ in shape.pages)
    bases = f"@bases = internal global [{len(shape.pages)} x i64] [{unknown}]\n"
    return join([DECLARATIONS, access.DECLARATIONS, bases, Region(shape, entries, shared=shared).function()])
