"""Misses of the translation arrays, served natively: the page walk, its permissions, the accessed and dirty bits.

In a nutshell: `translate` follows the tables from satp (Sv39, Sv48 or Sv57; or none). A leaf that permits the access fills
the array's entry, and the instruction is executed again; what the manual calls a page fault is one, and its trap is taken;
everything else (guests, bits of Svnapot and Svpbmt, shadow stacks, devices, protected memory, mstatus.MPRV, misaligned
accesses) is left to the reference tier, whose walk is the specification. But for bytes behind the first one that are stored to
one register of a device, if that has said that it only gathers them (posted stores: registers.py).
"""

from __future__ import annotations

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.paging.entry import SV39
from trapline.machine.riscv import layout
from trapline.machine.riscv import status as st
from trapline.machine.riscv.isa import i as base
from trapline.machine.riscv.isa.declare import OPS
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.emit import Emitter, context
from trapline.machine.riscv.jit.text import (
    ATTRIBUTES,
    GUEST,
    HANDLER,
    OWN,
    PARAMETERS,
    UNLIKELY,
    Code,
    Operand,
    Value,
    dispatch,
    tail,
    text,
)
from trapline.machine.riscv.trap import CAUSES, PAGE

_V, _R, _W, _X, _U, _A, _D = 1, SV39.read, SV39.write, SV39.execute, SV39.user, SV39.accessed, SV39.dirty
#: What `translate` found.
GIVE_UP, FAULT, FOUND = 0, 1, 2
_FOUND = "{ i64, i64, i64 }"
_STORE_BYTE = next(n for n, op in enumerate(OPS) if op.body is base.sb)
_RS2 = 14  #: its place in a record
KEEP = 16  #: added to an access: give up rather than set a bit of the leaf


class _Translate(Emitter):
    """Lowers `translate(cpu, ram, va, access)`: (FOUND, offset in RAM of the page, log2 of what its leaf maps), or why not."""

    def step(self) -> None:
        self._return(GIVE_UP, 0, 0)

    def _return(self, found: int, offset: Operand, shift: Operand) -> None:
        code = self.code
        last = f"{_FOUND} undef"
        for n, value in enumerate((found, offset, shift)):
            last = f"{_FOUND} {code.let(f'insertvalue {last}, i64 {text(value)}, {n}')}"
        code.line(f"ret {last}")

    def _fault_if(self, condition: Value) -> None:
        code = self.code
        bad, go = code.label(), code.label()
        code.line(f"br i1 {code.bit(condition)}, label %{bad}, label %{go}{UNLIKELY}")
        code.place(bad)
        self._return(FAULT, 0, 0)
        code.place(go)

    def _give_up_if(self, condition: Value) -> None:
        self.step_if(self.code.bit(condition))

    def function(self) -> str:
        code = self.code
        code.lines.append("entry:")
        va, access = Value(code, "%va"), Value(code, "%access") & (KEEP - 1)
        status, priv, satp = (self._word(offset) for offset in (at.MSTATUS, at.PRIV, at.SATP))
        self._give_up_if(self.ne(status & st.MPRV, 0) | self._word(8 * layout.VIRT))
        bare = self.eq(priv, st.M) | self.eq(self.srl(satp, st.MODE_SHIFT), st.BARE)
        direct, tables = code.label(), code.label()
        code.line(f"br i1 {code.bit(self.ne(bare, 0))}, label %{direct}, label %{tables}")
        code.place(direct)
        machine = self.eq(priv, st.M)
        low, high = (
            self.select(machine, self._word(8 * (layout.MACHINE_WINDOW + n)), self._word(8 * (layout.USER_WINDOW + n)))
            for n in (0, 1)
        )
        page = va & -4096
        self._give_up_if(self.ltu(page, low) | self.geu(page, high))
        self._return(FOUND, page - self._word(at.RAM_BASE), 12)
        code.place(tables)
        self._walk(va, access, status, priv, satp)
        return code.function(f"define internal {_FOUND} @translate(ptr %cpu, ptr %ram, i64 %va, i64 %access) nounwind noinline")

    def _walk(self, va: Value, access: Value, status: Value, priv: Value, satp: Value) -> None:
        code = self.code
        self._set_word(at.MISSES, self._word(at.MISSES) + 1)
        levels = self.srl(satp, st.MODE_SHIFT) - (st.SV39_MODE - 3)
        width = levels * 9 + 12
        above = self.sra(va, width - 1)
        self._fault_if(self.ne(above, 0) & self.ne(above, -1))
        root = self.sll(satp & st.PPN_MASK, 12)
        top = width - 9
        start, loop = code.label(), code.label()
        code.line(f"br label %{start}")
        code.place(start)
        code.line(f"br label %{loop}")
        code.place(loop)
        table, shift, next_table, next_shift, descend = (code.fresh() for _ in range(5))
        code.line(f"{table} = phi i64 [ {root.name}, %{start} ], [ {next_table}, %{descend[1:]} ]")
        code.line(f"{shift} = phi i64 [ {top.name}, %{start} ], [ {next_shift}, %{descend[1:]} ]")
        at_, entry = self._entry(Value(code, table), self.srl(va, Value(code, shift)))
        leaf, pointer = code.label(), code.label()
        is_leaf = self.ne(entry & (_R | _W | _X), 0)
        code.line(f"br i1 {is_leaf.bit}, label %{leaf}, label %{pointer}")
        code.place(pointer)
        self._fault_if(self.ne(entry & (_A | _D | _U), 0) | self.eq(Value(code, shift), 12))
        code.line(f"{next_table} = add i64 {self._address(entry).name}, 0")
        code.line(f"{next_shift} = sub i64 {shift}, 9")
        code.line(f"br label %{descend[1:]}")
        code.place(descend[1:])
        code.line(f"br label %{loop}")
        code.place(leaf)
        self._leaf(va, access, status, priv, at_, entry, Value(code, shift))

    def _entry(self, table: Value, index: Value) -> tuple[Value, Value]:
        """The offset in RAM of an entry of the table at a physical address, and the entry: valid, without extensions' bits."""
        code = self.code
        self._permitted(table)
        offset = table - self._word(at.RAM_BASE) + self.sll(index & 511, 3)
        pointer = code.let(f"getelementptr i8, ptr %ram, i64 {offset.name}")
        entry = code.value(f"load {self.once}i64, ptr {pointer}{GUEST}")
        self._set_word(at.WALKS, self._word(at.WALKS) + 1)
        alone = self.eq(entry & (_R | _W), _W)
        self._fault_if(self.eq(entry & _V, 0) | (alone & self.eq(self._word(8 * layout.MENVCFG) & st.SSE, 0)))
        self._give_up_if(alone)  # the page of a shadow stack, perhaps
        self._give_up_if(self.ne(self.srl(entry, 54), 0))
        return offset, entry

    def _permitted(self, pa: Value) -> None:
        """Give up unless protection leaves the page at `pa` to S- and U-mode."""
        low, high = (self._word(8 * (layout.USER_WINDOW + n)) for n in (0, 1))
        self._give_up_if(self.ltu(pa, low) | self.geu(pa, high))

    def _address(self, entry: Value) -> Value:
        """The physical address in an entry."""
        return self.sll(self.srl(entry, 10) & (1 << 44) - 1, 12)

    def _leaf(
        self, va: Value, access: Value, status: Value, priv: Value, at_: Value, entry: Value, shift: Value
    ) -> None:
        code = self.code
        within = self.sll(1, shift) - 1
        start = self._address(entry)
        self._fault_if(self.ne(start & within, 0))
        user = self.ne(entry & _U, 0)
        to_supervisor = self.eq(user, 0) | (self.ne(status & st.SUM, 0) & self.ne(access, EXEC))
        mode = self.select(self.eq(priv, st.U), user, to_supervisor)
        readable = self.ne(entry & _R, 0) | (self.ne(status & st.MXR, 0) & self.ne(entry & _X, 0))
        permission = self.select(self.eq(access, WRITE), self.ne(entry & _W, 0), readable)
        permission = self.select(self.eq(access, EXEC), self.ne(entry & _X, 0), permission)
        self._fault_if(self.eq(mode & permission, 0))
        pa = start | va & within & -4096
        self._permitted(pa)
        wanted = self.select(self.eq(access, WRITE), _A | _D, _A)
        set_, done = code.label(), code.label()
        missing = self.ne(entry & wanted, wanted)
        code.line(f"br i1 {missing.bit}, label %{set_}, label %{done}{UNLIKELY}")
        code.place(set_)
        self._give_up_if(self.ne(Value(code, "%access") & KEEP, 0))
        self._fault_if(self.eq(self._word(8 * layout.MENVCFG) & st.ADUE, 0))
        pointer = code.let(f"getelementptr i8, ptr %ram, i64 {at_.name}")
        if self.shared:  # somebody may have changed it since: then the reference tier walks again
            new = f"i64 {entry.name}, i64 {(entry | wanted).name}"
            pair = code.let(f"cmpxchg ptr {pointer}, {new} seq_cst seq_cst, align 8")
            self.step_if(code.let(f"xor i1 {code.let(f'extractvalue {{ i64, i1 }} {pair}, 1')}, true"))
        else:
            code.line(f"store i64 {(entry | wanted).name}, ptr {pointer}{GUEST}")
        code.line(f"br label %{done}")
        code.place(done)
        self._return(FOUND, pa - self._word(at.RAM_BASE), shift)


def translate(*, shared: bool = False) -> str:
    """The function `translate`."""
    return _Translate(shared=shared).function()


def ask(code: Code, va: Operand, access: int) -> tuple[Value, Value, Value]:
    """Call it."""
    found = code.let(f"call {_FOUND} @translate(ptr %cpu, ptr %ram, i64 {text(va)}, i64 {access})")
    first, second, third = (code.value(f"extractvalue {_FOUND} {found}, {n}") for n in range(3))
    return first, second, third


def choose(code: Code, found: Value) -> tuple[str, str, str]:
    """Branch on what was found: the labels of (found, fault, give up)."""
    here, fault, give_up = code.label(), code.label(), code.label()
    cases = f"i64 {FOUND}, label %{here} i64 {FAULT}, label %{fault}"
    code.line(f"switch i64 {found.name}, label %{give_up} [ {cases} ]")
    return here, fault, give_up


def trap(code: Code, pc: Operand, cause: Operand, value: Operand, budget: str = "%budget") -> None:
    """End the function: the instruction at `pc`, not yet taken off the budget, traps."""
    for offset, word in ((at.TRAP_CAUSE, cause), (at.TRAP_VALUE, value)):
        code.line(f"store i64 {text(word)}, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {offset}')}{OWN}")
    tail(code, "@trap", text(pc), budget)


def _post(m: Emitter, va: Value) -> None:
    """Execute a store that is posted, and go on with the instruction behind it."""
    code = m.code
    ask_, post, go = (code.label() for _ in range(3))
    count = m._word(at.POSTED_COUNT)
    may = m.eq(va, m._word(at.POSTED_AT)) & m.ltu(count, m._word(at.POSTED_ROOM))
    code.line(f"br i1 {code.bit(may)}, label %{ask_}, label %{go}")
    code.place(ask_)
    ip = Value(code, "%ip")
    plain = (ip & -at.PAGE_BYTES) + m.srl(ip & at.PAGE_BYTES - 1, 1) + at.PLAIN  # translated code may have taken its place
    store, handler, before = (
        code.value(f"load i64, ptr {code.pointer(place)}{OWN}")
        for place in (m._word(at.HANDLERS) + 8 * _STORE_BYTE, ip, plain)
    )
    same = m.eq(handler, store) | m.eq(before, store)
    for now, then in ((at.PRIV, at.POSTED_PRIV), (at.MSTATUS, at.POSTED_STATUS), (at.SATP, at.POSTED_SATP)):
        same = same & m.eq(m._word(now), m._word(then))
    same = same & m.eq(m._word(at.STALE) | m._word(8 * layout.VIRT), 0)
    code.line(f"br i1 {code.bit(same)}, label %{post}, label %{go}")
    code.place(post)
    field = code.pointer(ip + _RS2)
    register = code.let(f"zext i8 {code.let(f'load i8, ptr {field}{OWN}')} to i64")
    registers = code.let(f"getelementptr i8, ptr %cpu, i64 {at.X}")
    value = code.let(f"load i64, ptr {code.let(f'getelementptr i64, ptr {registers}, i64 {register}')}{OWN}")
    place = code.let(f"getelementptr i8, ptr %cpu, i64 {(count + at.POSTED).name}")
    code.line(f"store i8 {code.let(f'trunc i64 {value} to i8')}, ptr {place}{OWN}")
    m._set_word(at.POSTED_COUNT, count + 1)
    following = code.let(f"add i64 %ip, {2 * at.RECORD}")
    dispatch(code, following, code.let("sub i64 %budget, 1"))
    code.place(go)


def refill(name: str, *, write: bool, atomic: bool = False, posts: bool = False) -> str:
    """The handler that serves a miss of a load (write: of a store) and executes the instruction again.

    atomic: of lr, sc or amo, which all look for a writable page: what lr does not need is left to the reference tier.
    posts: it executes posted stores.
    """
    m = Emitter()
    code = m.code
    code.lines.append("entry:")
    va = m._word(at.MISSED)
    if posts:
        _post(m, va)
    page = va & -4096
    array = at.WRITE if write else at.READ
    slot = (m.srl(va, 8) & (at.TLB_PAGES - 1) << 4) + array
    tag = code.value(f"load i64, ptr {code.let(f'getelementptr i8, ptr {context(code)}, i64 {slot.name}')}{OWN}")
    walk, leave = code.label(), code.label()
    code.line(f"br i1 {m.eq(tag, page).bit}, label %{leave}, label %{walk}{UNLIKELY}")  # it is there: the access is misaligned
    code.place(walk)
    found, offset, shift = ask(code, va, (WRITE if write else READ) | (KEEP if atomic else 0))
    here, fault, give_up = choose(code, found)
    code.place(here)
    code.line(
        f"call void @fill(ptr %cpu, i64 {array}, i64 {page.name}, i64 {(offset - page).name}, i64 {shift.name})"
    )
    dispatch(code, "%ip", "%budget")
    code.place(fault)
    if not atomic:
        pc = code.value(f"add i64 {code.let('lshr i64 %ip, 3')}, %delta")
        trap(code, pc, CAUSES[WRITE if write else READ, PAGE], va)
    else:
        code.line(f"br label %{leave}")
    code.place(give_up)
    code.line(f"br label %{leave}")
    code.place(leave)
    tail(code, "@leave_step")
    return code.function(f"{HANDLER} @{name}({PARAMETERS}) {ATTRIBUTES} noinline cold")
