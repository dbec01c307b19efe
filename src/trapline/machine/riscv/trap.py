"""Traps: their causes, the exception that carries one through the reference tier, and how a hart takes one.

Source: volume II, "Machine Cause (mcause) Register", "Trap ... Delegation Registers", "Machine Trap-Vector Base-Address".
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import transitions

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

# Synchronous causes.
FETCH_MISALIGNED, FETCH_ACCESS, ILLEGAL, BREAKPOINT, LOAD_MISALIGNED, LOAD_ACCESS = 0, 1, 2, 3, 4, 5
STORE_MISALIGNED, STORE_ACCESS, ECALL_U, ECALL_S, ECALL_M = 6, 7, 8, 9, 11
FETCH_PAGE, LOAD_PAGE, STORE_PAGE, SOFTWARE_CHECK = 12, 13, 15, 18

# Interrupts (mip bits); a cause has INTERRUPT set.
INTERRUPT = 1 << 63
SSI, MSI, STI, MTI, SEI, MEI = 1, 3, 5, 7, 9, 11
PRIORITY = (MEI, MSI, MTI, SEI, SSI, STI)  #: of simultaneous interrupts, the first first

#: How a failed access is reported: (access, failure) -> cause.
PAGE, ACCESS, MISALIGNED = 0, 1, 2
CAUSES: dict[tuple[int, int], int] = {
    (READ, PAGE): LOAD_PAGE, (READ, ACCESS): LOAD_ACCESS, (READ, MISALIGNED): LOAD_MISALIGNED,
    (WRITE, PAGE): STORE_PAGE, (WRITE, ACCESS): STORE_ACCESS, (WRITE, MISALIGNED): STORE_MISALIGNED,
    (EXEC, PAGE): FETCH_PAGE, (EXEC, ACCESS): FETCH_ACCESS, (EXEC, MISALIGNED): FETCH_MISALIGNED,
}  # fmt: skip
ACCESS_OF: dict[int, int] = {FETCH_PAGE: EXEC, LOAD_PAGE: READ, STORE_PAGE: WRITE}  #: of the page-fault causes


class Trap(Exception):
    """The instruction being executed traps: `cause` and the trap value."""

    def __init__(self, cause: int, value: int = 0) -> None:
        super().__init__(cause, value)
        self.cause = cause
        self.value = value


def pending(hart: Hart) -> int:
    """The interrupt that the hart must take now, as a bit number, or -1.

    Volume II, "Machine Interrupt (mip and mie) Registers".
    """
    cpu = hart.cpu
    if not cpu[at.MIE]:
        return -1
    enabled = transitions.enabled(hart)
    return next((bit for bit in PRIORITY if enabled >> bit & 1), -1) if enabled else -1


def take(hart: Hart, cause: int, value: int, pc: int) -> None:
    """Enter the handler of a trap whose instruction is at `pc`: `hart.next` is where."""
    transitions.take(hart, cause & 63, value, pc, interrupt=bool(cause & INTERRUPT))
