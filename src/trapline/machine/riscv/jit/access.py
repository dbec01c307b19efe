"""A region's loads and stores: through windows (window.py), one check for each group of accesses (groups.py), and none for
those of a loop's chunk (loops.py).

Invariant: what leads from a group's addresses to the host's is known from its first access to the end of the block.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.machine.riscv.jit import window
from trapline.machine.riscv.jit.floats import FloatEmitter
from trapline.machine.riscv.jit.groups import Access, Group
from trapline.machine.riscv.jit.loops import MAX_STEP, Reach
from trapline.machine.riscv.jit.text import LIKELY, OWN, UNLIKELY, Operand, Value, text

DECLARATIONS = "declare i64 @llvm.usub.sat.i64(i64, i64)"


class Windowed(FloatEmitter):
    """The part of a region that accesses memory."""

    def __init__(self, *, shared: bool = False) -> None:
        super().__init__(shared=shared)
        self.access: Access | None = None  #: what the block's plan says of the present instruction
        self.sure = ""  #: or, in a chunk: the variable that holds what leads from its addresses to the host's
        self.windowed = False  #: whether the region uses any
        self._variables = 0  #: that chunks use

    def helper(self, name: str) -> str:
        """A pointer to a function of the interpreter's."""
        raise NotImplementedError

    def load(self, address: Operand, size: int, *, signed: bool = False) -> Value:
        return self._load(self._pointer(address), size, "sext" if signed else "zext")

    def store(self, address: Operand, size: int, value: Operand) -> None:
        self._store(self._pointer(address), size, value)

    def _pointer(self, address: Operand) -> str:
        """The host's address of an access; the first one of a group checks its whole span."""
        if self.sure:
            host = self.code.let(f"load ptr, ptr {self.sure}")
            return self.code.let(f"getelementptr i8, ptr {host}, i64 {text(address)}")
        assert self.access is not None
        group, offset = self.access
        if not group.host:
            group.host = self._reach(group, self.code.binary("add", address, group.low - offset))
        return self.code.let(f"getelementptr i8, ptr {group.host}, i64 {text(address)}")

    def _reach(self, group: Group, lowest: Value) -> str:
        """What to add to the addresses of a group whose span begins at `lowest`. A miss if nobody knows."""
        code = self.code
        size = group.high - group.low
        near, far, miss, hit, done = (code.label() for _ in range(5))
        code.line(f"br i1 {self._inside(group.window, lowest, max(0, size - 8))}, label %{near}, label %{far}{LIKELY}")
        code.place(near)
        host_near = self._window("ptr", window.HOST, group.window)
        code.line(f"br label %{done}")
        code.place(far)
        function = self.helper("window_write" if group.write else "window_read")
        arguments = f"ptr %arrays, ptr %ram, i64 {lowest.name}, i64 {size}, i64 {group.window}"
        found = code.let(f"{window.CALL} i64 {function}({arguments})")
        code.line(f"br i1 {code.let(f'icmp eq i64 {found}, {window.NONE}')}, label %{miss}, label %{hit}{UNLIKELY}")
        code.place(miss)
        self.miss(lowest, write=group.write)
        code.place(hit)
        host_far = code.let(f"inttoptr i64 {found} to ptr")
        code.line(f"br label %{done}")
        code.place(done)
        return code.let(f"phi ptr [ {host_near}, %{near} ], [ {host_far}, %{hit} ]")

    def _inside(self, index: int, lowest: Value, more: Operand) -> str:
        """An i1: whether eight bytes and `more` from `lowest` on are in a window."""
        code = self.code
        self.windowed = True
        low, length = (Value(code, self._window("i64", field, index)) for field in (window.LOW, window.LENGTH))
        if isinstance(more, Value) or more:
            length = code.value(f"call i64 @llvm.usub.sat.i64(i64 {length.name}, i64 {text(more)})")
        return code.let(f"icmp ult i64 {(lowest - low).name}, {length.name}")

    def reaches(self, reaches: Sequence[Reach], rounds: int, otherwise: str) -> list[str]:
        """Go on if `rounds` rounds of a loop stay within their windows, else at `otherwise`. The variables that hold what
        leads from the addresses of each reach to the host's."""
        code = self.code
        found = []
        for each in reaches:
            span = each.high - each.low
            more: Operand = max(0, span - 8 + abs(each.step) * rounds)
            fits = "true"
            if each.by:
                step = self.x(each.by)
                fits = code.let(f"icmp ult i64 {text(step)}, {MAX_STEP}")
                more = code.binary("add", code.binary("mul", step, rounds), span)
            lowest = code.binary("add", self.x(each.register), each.low + min(0, each.step) * rounds)
            go = code.label()
            both = code.let(f"and i1 {fits}, {self._inside(each.window, lowest, more)}")
            code.line(f"br i1 {both}, label %{go}, label %{otherwise}{LIKELY}")
            code.place(go)
            place = f"%chunk.host{self._variables}"
            self._variables += 1
            code.line(f"store ptr {self._window('ptr', window.HOST, each.window)}, ptr {place}")
            found.append(place)
        return found

    def _window(self, kind: str, field: int, index: int) -> str:
        """What a window has in a field."""
        place = self.code.let(f"getelementptr i8, ptr %arrays, i64 {field + 8 * index}")
        return self.code.let(f"load {kind}, ptr {place}{OWN}")

    def declare_variables(self) -> None:
        for n in range(self._variables):
            self.code.line(f"%chunk.host{n} = alloca ptr")

    def refresh_windows(self) -> None:
        """Empty all windows if they are of no use any more."""
        if not self.windowed:
            return
        code = self.code
        known = code.let(f"load i64, ptr {code.let(f'getelementptr i8, ptr %arrays, i64 {window.KNOWN}')}{OWN}")
        stale, go = code.label(), code.label()
        code.line(f"br i1 {code.let(f'icmp eq i64 {known}, 0')}, label %{stale}, label %{go}{UNLIKELY}")
        code.place(stale)
        code.line(f"{window.CALL} void {self.helper('windows_reset')}(ptr %arrays)")
        code.line(f"br label %{go}")
        code.place(go)
