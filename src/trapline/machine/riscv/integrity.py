"""Control-flow integrity: landing pads at the targets of indirect jumps (Zicfilp), shadow stacks for returns (Zicfiss).

In a nutshell: `settle` works out, whenever the mode or an enable changes, what is in force. Where landing pads are (`LANDING`),
`execute_guarded` takes the place of the run loop: it looks at each instruction behind an indirect jump. The instructions of the
shadow stack look at `SHADOW`, and its pages (W without R or X) at who accesses them, in twostage.py's `refusal`.

Source: volume I and volume II, "Control-flow Integrity (CFI)".

Invariants: with no enable set in any register nothing of this is looked at but one word by mode changes (`CAREFUL`); with
one set, native tiers leave traps and returns to the reference tier, and code that needs landing pads altogether.
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.code import place, raw_at
from trapline.machine.riscv.isa.declare import Instruction
from trapline.machine.riscv.isa.i import jalr
from trapline.machine.riscv.privileged import Privileged
from trapline.machine.riscv.trap import (
    AS_STORES,
    LANDING_FAULT,
    SHADOW_FAULT,
    SOFTWARE_CHECK,
    STORE_ACCESS,
    Trap,
)

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

_GUARDED = frozenset({1, 5, 7})  #: registers that indirect jumps may go through without a landing pad
_LPAD, _LPAD_MASK = 0x17, 0xFFF
_LABEL = 7  #: the register that holds the label that is expected


class Integrity(Privileged):
    """Part of the hart."""

    __slots__ = ()

    def settle(self) -> None:
        cpu = self.cpu
        priv, virtual = cpu[at.PRIV], cpu[at.VIRT]
        own, guests, users = cpu[at.MENVCFG], cpu[at.HENVCFG], cpu[at.SENVCFG]
        if priv == st.M:
            landing, shadow = bool(cpu[at.MSECCFG] & st.MLPE), False
        else:
            supervisors = guests if virtual else own
            landing = bool((users if priv == st.U else supervisors) & st.LPE)
            shadow = bool(own & supervisors & (users if priv == st.U else st.SSE) & st.SSE)
        cpu[at.LANDING], cpu[at.SHADOW] = landing, shadow
        enabled = (own | guests | users) & (st.LPE | st.SSE) or cpu[at.MSECCFG] & st.MLPE
        cpu[at.CAREFUL] = (at.IN_GUEST if virtual else 0) | (at.WITH_CFI if enabled else 0)
        if not landing:
            cpu[at.ELP] = 0

    # ---- landing pads

    def execute_guarded(self, ticks: Iterator[int]) -> None:
        """As the run loop, where indirect jumps need landing pads."""
        hart: Hart = self  # type: ignore[assignment]  # the parts make up one
        cpu = self.cpu
        for _ in ticks:
            pc = self.at = self.next & st.MASK
            if self.watched:
                self.watch_access(pc, 1, EXEC)
            raw = raw_at(hart, pc)
            if cpu[at.ELP] and raw & _LPAD_MASK != _LPAD:
                raise Trap(SOFTWARE_CHECK, LANDING_FAULT)
            run, i, size = place(raw)
            self.next = pc + size & st.MASK
            if run(hart, i):
                return
            if i.__class__ is Instruction and i.body is jalr and i.rs1 not in _GUARDED:
                cpu[at.ELP] = 1
            if self.debug is not None:  # it looks before the next one
                return

    def land(self, label: int) -> None:
        """lpad. label: of 20 bits, in place; 0 fits any."""
        cpu = self.cpu
        if not cpu[at.ELP]:
            return
        if self.at & 3 or (label and (label ^ self.xs[_LABEL]) & 0xFFFF_F000):
            raise Trap(SOFTWARE_CHECK, LANDING_FAULT)
        cpu[at.ELP] = 0

    # ---- the shadow stack

    def shadow_push(self, link: int) -> None:
        """sspush of register x1 or x5."""
        cpu = self.cpu
        if cpu[at.SHADOW]:
            top = cpu[at.SSP] - 8 & st.MASK
            pa = self._shadow_place(top, 8, WRITE)
            self.bus.write(pa, 8, self.xs[link])
            cpu[at.SSP] = top

    def shadow_check(self, link: int) -> None:
        """sspopchk of register x1 or x5."""
        cpu = self.cpu
        if cpu[at.SHADOW]:
            pa = self._shadow_place(cpu[at.SSP], 8, READ)
            if self.bus.read(pa, 8) != self.xs[link]:
                raise Trap(SOFTWARE_CHECK, SHADOW_FAULT)
            cpu[at.SSP] = cpu[at.SSP] + 8 & st.MASK

    def shadow_pointer(self) -> int:
        """ssrdp."""
        return self.cpu[at.SSP] if self.cpu[at.SHADOW] else 0

    def shadow_swap(self, address: int, size: int, value: int) -> int:
        self._require_shadow()
        pa = self._shadow_place(address & st.MASK, size, WRITE)
        while True:
            old = self.sx(self.bus.read(pa, size), 8 * size)
            if self.exchange(pa, size, old, value):
                return old

    def _require_shadow(self) -> None:
        """The enables of menvcfg; then senvcfg's for U-mode, henvcfg's for VS-mode, both for VU-mode."""
        cpu, priv = self.cpu, self.cpu[at.PRIV]
        if priv == st.M or cpu[at.SHADOW]:
            return
        raise self.refused() if cpu[at.MENVCFG] & st.SSE else self.illegal()

    def _shadow_place(self, va: int, size: int, access: int) -> int:
        """The physical address of a shadow stack's access: aligned, translated, to its own kind of page, in RAM."""
        guest = self.is_guests(access)
        satp = self.cpu[at.VSATP if guest and not self.cpu[at.VIRT] else at.SATP]
        priv = self.mode_of(access)
        if va % size or priv == st.M or not satp >> st.MODE_SHIFT:
            raise Trap(STORE_ACCESS, va)
        if self.kept_out:
            self.watch_access(va, size, access)
        self.shadow = True
        try:
            pa = self.translate(va, access, size)
        except Trap as trap:
            raise Trap(AS_STORES.get(trap.cause, trap.cause), trap.value, trap.guest) from None
        finally:
            self.shadow = False
        if not self.bus.in_ram(pa, size) or not self.pmp.allows(pa, size, READ | WRITE, priv):
            raise Trap(STORE_ACCESS, va)
        return pa
