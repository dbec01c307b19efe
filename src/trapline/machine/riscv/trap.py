"""Traps: their causes, the exception that carries one through the reference tier, and how a hart takes one.

Source: volume II, "Machine Cause (mcause) Register", "Trap ... Delegation Registers", "Machine Trap-Vector Base-Address";
"Hypervisor Extension": "Trap Cause Codes", "Trap Entry".
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import transitions

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

# Synchronous causes.
FETCH_MISALIGNED, FETCH_ACCESS, ILLEGAL, BREAKPOINT, LOAD_MISALIGNED, LOAD_ACCESS = 0, 1, 2, 3, 4, 5
STORE_MISALIGNED, STORE_ACCESS, ECALL_U, ECALL_S, ECALL_VS, ECALL_M = 6, 7, 8, 9, 10, 11
FETCH_PAGE, LOAD_PAGE, STORE_PAGE, SOFTWARE_CHECK = 12, 13, 15, 18
FETCH_GUEST_PAGE, LOAD_GUEST_PAGE, VIRTUAL, STORE_GUEST_PAGE = 20, 21, 22, 23

# Interrupts (mip bits); a cause has INTERRUPT set.
INTERRUPT = 1 << 63
SSI, MSI, STI, MTI, SEI, MEI = 1, 3, 5, 7, 9, 11
VSSI, VSTI, VSEI, SGEI = 2, 6, 10, 12
#: Of simultaneous interrupts, the first first.
PRIORITY = (MEI, MSI, MTI, SEI, SSI, STI, SGEI, VSEI, VSSI, VSTI)

#: How a failed access is reported: (access, failure) -> cause.
PAGE, ACCESS, MISALIGNED = 0, 1, 2
CAUSES: dict[tuple[int, int], int] = {
    (READ, PAGE): LOAD_PAGE, (READ, ACCESS): LOAD_ACCESS, (READ, MISALIGNED): LOAD_MISALIGNED,
    (WRITE, PAGE): STORE_PAGE, (WRITE, ACCESS): STORE_ACCESS, (WRITE, MISALIGNED): STORE_MISALIGNED,
    (EXEC, PAGE): FETCH_PAGE, (EXEC, ACCESS): FETCH_ACCESS, (EXEC, MISALIGNED): FETCH_MISALIGNED,
}  # fmt: skip
GUEST_CAUSES: dict[int, int] = {READ: LOAD_GUEST_PAGE, WRITE: STORE_GUEST_PAGE, EXEC: FETCH_GUEST_PAGE}  #: by access
ACCESS_OF: dict[int, int] = {FETCH_PAGE: EXEC, LOAD_PAGE: READ, STORE_PAGE: WRITE}  #: of the page-fault causes


class Guest(NamedTuple):
    """What a trap says of a guest's address, beyond the trap value."""

    virtual: bool = False  #: the trap value is an address of the guest's (GVA)
    physical: int = 0  #: the guest physical address that could not be translated
    pseudo: int = 0  #: of an access that a page walk made: the pseudoinstruction that stands for it


NO_GUEST = Guest()
LANDING_FAULT, SHADOW_FAULT = 2, 3  #: trap values of a software check
READ_PSEUDO, WRITE_PSEUDO = 0x3000, 0x3020  #: a walk's read of an entry of 64 bits, its writing of one


#: The causes of a shadow stack's loads: all its accesses are reported as stores.
AS_STORES = {LOAD_PAGE: STORE_PAGE, LOAD_ACCESS: STORE_ACCESS, LOAD_GUEST_PAGE: STORE_GUEST_PAGE}


class Trap(Exception):
    """The instruction being executed traps: `cause` and the trap value."""

    def __init__(self, cause: int, value: int = 0, guest: Guest = NO_GUEST) -> None:
        super().__init__(cause, value)
        self.cause = cause
        self.value = value
        self.guest = guest


def pending(hart: Hart) -> int:
    """The interrupt that the hart must take now, as a bit number, or -1.

    Volume II, "Machine Interrupt (mip and mie) Registers".
    """
    cpu = hart.cpu
    ready = hart.interrupts() & cpu[at.MIE]
    if not ready or (cpu[at.PRIV] == st.S and not (ready & ~cpu[at.MIDELEG] or cpu[at.MSTATUS] & st.SIE or cpu[at.VIRT])):
        return -1  # the common cases of what `enabled` says
    enabled = transitions.enabled(hart)
    return next((bit for bit in PRIORITY if enabled >> bit & 1), -1) if enabled else -1


def take(hart: Hart, cause: int, value: int, pc: int, guest: Guest = NO_GUEST) -> None:
    """Enter the handler of a trap whose instruction is at `pc`: `hart.next` is where."""
    cpu = hart.cpu
    expected, cpu[at.ELP] = cpu[at.ELP], 0
    _take(hart, cause, value, pc, guest)
    if expected:
        cpu[at.MSTATUS] |= st.MPELP if cpu[at.PRIV] == st.M else st.SPELP


def _take(hart: Hart, cause: int, value: int, pc: int, guest: Guest) -> None:
    cpu = hart.cpu
    interrupt, number, virtual, priv = bool(cause & INTERRUPT), cause & 63, cpu[at.VIRT], cpu[at.PRIV]
    if not virtual and guest is NO_GUEST:
        transitions.take(hart, number, value, pc, interrupt=interrupt)
        return
    if is_the_guests(hart, cause):
        transitions.take_in_guest(hart, number - 1 if interrupt else number, value, pc, interrupt=interrupt)
        return
    if virtual and number in _WITH_ADDRESS and not interrupt:
        guest = guest._replace(virtual=True)
    instruction = 0 if interrupt else _instruction(hart, number, value, guest)
    if virtual:
        hart.cross(0)
    transitions.take(hart, number, value, pc, interrupt=interrupt)
    _tell(hart, guest, instruction, virtual, priv)


#: Exceptions whose trap value is an address.
_WITH_ADDRESS = frozenset(range(8)) - {ILLEGAL} | {FETCH_PAGE, LOAD_PAGE, STORE_PAGE} | set(GUEST_CAUSES.values())


def is_the_guests(hart: Hart, cause: int) -> bool:
    """Whether a trap is one of the virtual modes' and delegated twice, and so taken in VS-mode."""
    cpu = hart.cpu
    if not cpu[at.VIRT]:
        return False
    twice = cpu[at.MIDELEG] & cpu[at.HIDELEG] if cause & INTERRUPT else cpu[at.MEDELEG] & cpu[at.HEDELEG]
    return bool(twice >> (cause & 63) & 1)


def _instruction(hart: Hart, number: int, value: int, guest: Guest) -> int:
    """What htinst or mtinst says of an exception."""
    explicit = number in (LOAD_GUEST_PAGE, STORE_GUEST_PAGE) and not guest.pseudo
    return hart.transformed(value) if explicit else guest.pseudo


def tell(hart: Hart, raised: Trap) -> None:
    """Describe a trap to a kernel or a hypervisor outside the machine."""
    cpu = hart.cpu
    cpu[at.PC], cpu[at.RESERVED] = hart.at, 0
    cpu[at.TRAP_CAUSE], cpu[at.TRAP_VALUE] = raised.cause, raised.value & st.MASK
    if raised.cause in GUEST_CAUSES.values():
        cpu[at.HTVAL] = raised.guest.physical >> 2
        cpu[at.HTINST] = _instruction(hart, raised.cause, raised.value, raised.guest)


def _tell(hart: Hart, guest: Guest, instruction: int, virtual: int, priv: int) -> None:
    """What the handler of a trap is told of a guest: the mode it came from, and the address that could not be translated."""
    cpu = hart.cpu
    if cpu[at.PRIV] == st.M:
        cpu[at.MSTATUS] |= (st.MPV if virtual else 0) | (st.GVA if guest.virtual else 0)
        cpu[at.MTVAL2], cpu[at.MTINST] = guest.physical >> 2, instruction
        return
    status = cpu[at.HSTATUS] | (st.H_GVA if guest.virtual else 0)
    if virtual:
        status = status & ~st.SPVP | st.SPV | (st.SPVP if priv else 0)
    cpu[at.HSTATUS], cpu[at.HTVAL], cpu[at.HTINST] = status, guest.physical >> 2, instruction
