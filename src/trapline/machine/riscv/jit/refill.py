"""A miss in the arrays of readable and writable pages, served natively: the Sv39 walk of user mode, as straight code.

In a nutshell: where native code may walk (state.WALKER), follow the tables from satp; a leaf that permits the access, with its
accessed (and, for a store, dirty) bit set, fills the array's entry, and the instruction is executed again. Everything else
(faults, bits to set, gigapages, reserved fields, misaligned accesses) leaves to the reference tier, whose walk is the
specification.
"""

from __future__ import annotations

from trapline.machine.paging.entry import SV39
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.emit import context
from trapline.machine.riscv.jit.text import (
    ATTRIBUTES,
    GUEST,
    HANDLER,
    OWN,
    PARAMETERS,
    Code,
    Value,
    dispatch,
    tail,
)

_V, _R, _W, _X, _U, _A, _D = 1, SV39.read, SV39.write, SV39.execute, SV39.user, SV39.accessed, SV39.dirty
_SV39_SATP = 8


def refill(*, write: bool) -> str:
    """The handler that serves a miss of a load (write: of a store) and executes the instruction again."""
    return _Refill(write).function()


class _Refill:
    def __init__(self, write: bool) -> None:
        self._code = Code()
        self._write = write
        self._address = self._load(at.MISSED)

    def _load(self, offset: int) -> Value:
        pointer = self._code.let(f"getelementptr i8, ptr %cpu, i64 {offset}")
        return self._code.value(f"load i64, ptr {pointer}{OWN}")

    def _need(self, bit: str) -> None:
        """Go on only where `bit` (an i1) is set."""
        go = self._code.label()
        self._code.line(f"br i1 {bit}, label %{go}, label %give_up")
        self._code.place(go)

    def _equal(self, a: Value, b: Value | int) -> str:
        return self._code.let(f"icmp eq i64 {a.name}, {b.name if isinstance(b, Value) else b}")

    def function(self) -> str:
        code, va = self._code, self._address
        array = at.WRITE if self._write else at.READ
        slot = ((self._shift(va, 8) & (at.TLB_PAGES - 1) << 4) + array).name
        tag = code.let(f"getelementptr i8, ptr {context(code)}, i64 {slot}")
        page = va & -4096
        have = code.value(f"load i64, ptr {tag}{OWN}")
        self._need(code.let(f"icmp ne i64 {have.name}, {page.name}"))  # else it is misaligned
        self._need(code.let(f"icmp ne i64 {self._load(at.WALKER).name}, 0"))
        satp = self._load(at.SATP)
        self._need(self._equal(self._load(at.PRIV) | (self._shift(satp, 60) ^ _SV39_SATP), 0))
        self._need(self._equal(self._shift(va, 38), 0))
        root = code.binary("shl", satp & (1 << 44) - 1, 12)
        entry = self._entry(root, self._shift(va, 30))
        self._need(self._equal(entry & (_R | _W | _X), 0))
        entry = self._entry(self._table(entry), self._shift(va, 21))
        large, small, found = code.label(), code.label(), code.label()
        is_leaf = code.let(f"icmp ne i64 {(entry & (_R | _W | _X)).name}, 0")
        code.line(f"br i1 {is_leaf}, label %{large}, label %{small}")
        code.place(large)
        self._need(self._equal(self._table(entry) & (1 << 21) - 1, 0))
        large_pa = self._table(entry) | (va & (1 << 21) - 4096)
        from_large = code.label()
        code.line(f"br label %{from_large}")
        code.place(from_large)
        code.line(f"br label %{found}")
        code.place(small)
        last = self._entry(self._table(entry), self._shift(va, 12))
        small_pa = self._table(last)
        from_small = code.label()
        code.line(f"br label %{from_small}")
        code.place(from_small)
        code.line(f"br label %{found}")
        code.place(found)
        leaf = code.value(f"phi i64 [ {entry.name}, %{from_large} ], [ {last.name}, %{from_small} ]")
        pa = code.value(f"phi i64 [ {large_pa.name}, %{from_large} ], [ {small_pa.name}, %{from_small} ]")
        wanted = _U | _A | _R | (_W | _D if self._write else 0)
        self._need(self._equal(leaf & wanted, wanted))
        offset = self._in_ram(pa)
        half = code.let(f"getelementptr i8, ptr {tag}, i64 8")
        code.line(f"store i64 {page.name}, ptr {tag}{OWN}")
        code.line(f"store i64 {(offset - page).name}, ptr {half}{OWN}")
        dispatch(code, "%ip", "%budget")
        code.place("give_up")
        tail(code, "@leave_step")
        name = "refill_write" if self._write else "refill_read"
        return code.function(f"{HANDLER} @{name}({PARAMETERS}) {ATTRIBUTES} noinline cold")

    def _shift(self, value: Value, count: int) -> Value:
        return self._code.binary("lshr", value, count)

    def _table(self, entry: Value) -> Value:
        """The physical address in an entry."""
        return self._code.binary("shl", self._shift(entry, 10) & (1 << 44) - 1, 12)

    def _in_ram(self, pa: Value) -> Value:
        """The offset in RAM of the page at `pa`."""
        offset = pa - self._load(at.RAM_BASE)
        self._need(self._code.let(f"icmp ult i64 {offset.name}, {self._load(at.RAM_SIZE).name}"))
        return offset

    def _entry(self, table: Value, index: Value) -> Value:
        """A valid entry, without reserved or extension bits, of the table at a physical address."""
        code = self._code
        offset = self._in_ram(table) + code.binary("shl", index & 511, 3)
        pointer = code.let(f"getelementptr i8, ptr %ram, i64 {offset.name}")
        entry = code.value(f"load i64, ptr {pointer}{GUEST}")
        walks = code.let(f"getelementptr i8, ptr %cpu, i64 {at.WALKS}")
        code.line(f"store i64 {(self._load(at.WALKS) + 1).name}, ptr {walks}{OWN}")
        self._need(self._equal(entry & _V, _V))
        self._need(self._equal(self._shift(entry, 54), 0))
        return entry
