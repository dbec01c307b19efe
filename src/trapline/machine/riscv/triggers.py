"""Triggers (Sdtrig): four address matches of type mcontrol6 that raise a breakpoint exception before the access they name.

Supported: equality with an address, on execution, loads and stores, in each mode; action 0. A trigger fires in M-mode
only while tcontrol.mte is set, which a trap into M-mode clears (volume "RISC-V Debug Support", "Native Triggers"). Pages
with an enabled trigger are kept out of the innermost arrays, and while there are any, the hart looks before each
instruction.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.code import step
from trapline.machine.riscv.integrity import Integrity
from trapline.machine.riscv.trap import BREAKPOINT, Trap

if TYPE_CHECKING:
    from trapline.machine.riscv.debug import Debug
    from trapline.machine.riscv.hart import Hart

MCONTROL6, DISABLED = 6 << 60, 15 << 60
LOAD, STORE, EXECUTE, IN_U, IN_S, IN_M, IN_VU, IN_VS = 1, 2, 4, 8, 16, 64, 1 << 23, 1 << 24
_IN_ANY = IN_U | IN_S | IN_M | IN_VU | IN_VS
_ENABLED = LOAD | STORE | EXECUTE | _IN_ANY
#: By privilege mode and V.
_MODES = {(st.U, 0): IN_U, (st.S, 0): IN_S, (st.M, 0): IN_M, (st.U, 1): IN_VU, (st.S, 1): IN_VS}
_KINDS = {READ: LOAD, WRITE: STORE, EXEC: EXECUTE}


class Triggers(Integrity):
    """Part of the hart."""

    __slots__ = ("debug", "kept_out", "watched")

    watched: frozenset[int]
    debug: Debug | None  #: who looks from outside (debug.py)

    def set_trigger(self, value: int) -> None:
        """Write tdata1 of the selected trigger."""
        kind = value >> 60
        legal = MCONTROL6 | value & _ENABLED if kind == 6 else DISABLED
        self.cpu[at.TDATA1 + self.cpu[at.TSELECT]] = legal
        self.update_watched()

    def set_trigger_address(self, value: int) -> None:
        self.cpu[at.TDATA2 + self.cpu[at.TSELECT]] = value
        self.update_watched()

    def _active(self, n: int) -> bool:
        control = self.cpu[at.TDATA1 + n]
        return control >> 60 == 6 and bool(control & (LOAD | STORE | EXECUTE) and control & _IN_ANY)

    def update_watched(self) -> None:
        """Work out the pages that must not be in the innermost arrays."""
        addresses = [self.cpu[at.TDATA2 + n] for n in range(at.TRIGGERS) if self._active(n)]
        self.watched = frozenset(address & -4096 for address in addresses)
        self.kept_out = self.watched | self.debug.pages if self.debug is not None else self.watched
        self.forget_pages()

    def observe(self, debug: Debug | None) -> None:
        """Let somebody outside look at what is executed and accessed; None: nobody."""
        self.debug = debug
        self.update_watched()

    def watch_access(self, address: int, size: int, access: int) -> None:
        """Raise the breakpoint if a trigger matches a byte of this access (of an instruction: its first)."""
        if self.debug is not None:
            self.debug.access(address, size, access)
        if not self.watched:
            return
        cpu = self.cpu
        priv = cpu[at.PRIV]
        if priv == st.M and not cpu[at.TCONTROL] & st.MTE:
            return
        mode = _MODES[priv, cpu[at.VIRT]]
        kinds = sum(bit for kind, bit in _KINDS.items() if access & kind)
        for n in range(at.TRIGGERS):
            control, where = cpu[at.TDATA1 + n], cpu[at.TDATA2 + n]
            if self._active(n) and control & kinds and control & mode and address <= where < address + size:
                raise Trap(BREAKPOINT, address)

    def execute_watched(self) -> None:
        """Execute one instruction, if no trigger fires on it."""
        hart: Hart = self  # type: ignore[assignment]  # the parts make up one
        self.at = self.next
        if self.watched:
            self.watch_access(self.at, 1, EXEC)
        step(hart)
