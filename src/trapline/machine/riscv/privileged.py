"""The vocabulary's privileged operations: calls, returns from traps, waiting, translation fences, cache blocks (volume II).

Each begins with who may use it; whoever may not gets an illegal-instruction exception.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import READ, WRITE
from trapline.machine.riscv import csr, transitions
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.access import Access
from trapline.machine.riscv.code import raw_at
from trapline.machine.riscv.trap import ACCESS, BREAKPOINT, CAUSES, ECALL_U, ILLEGAL, Trap

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

BLOCK = 64  #: bytes of a cache block, for cbo.*


class Privileged(Access):
    """Part of the hart."""

    __slots__ = ("waiting",)

    waiting: bool  #: in wfi

    def interrupts(self) -> int:
        """mip as it is now: what software set, what devices assert, and the supervisor timer (Sstc)."""
        cpu = self.cpu
        ready: int = cpu[at.MIP] | cpu[at.LINES]
        if cpu[at.MENVCFG] & st.STCE and self.now() >= cpu[at.STIMECMP]:
            ready |= st.STIP
        return ready

    def now(self) -> int:
        """The time CSR."""
        raise NotImplementedError

    def illegal(self) -> Trap:
        return Trap(ILLEGAL, self.raw())

    def raw(self) -> int:
        hart: Hart = self  # type: ignore[assignment]  # the parts make up one
        return raw_at(hart, self.at)

    def _require(self, priv: int, forbidden: int = 0) -> None:
        """At least this mode; and in S-mode this bit of mstatus clear."""
        here = self.cpu[at.PRIV]
        if here < priv or (here == st.S and self.cpu[at.MSTATUS] & forbidden):
            raise self.illegal()

    # ---- registers

    def csr(self, number: int, how: str, value: int, *, read: bool, write: bool) -> int:
        hart: Hart = self  # type: ignore[assignment]
        return csr.access(hart, number, how, value & st.MASK, read=read, write=write)

    def status_changed(self, changed: int) -> None:
        """These bits of mstatus have."""
        if changed & st.MXR:
            self.forget_pages()
        if changed & (st.MPRV | st.SUM) or self.cpu[at.MSTATUS] & st.MPRV:
            self.select_context()

    def gather_flags(self) -> None:
        """Put the exceptions that floating point raised where they can be read: they are there already."""

    def floats_changed(self) -> None:
        """Registers of floating point, or mstatus.FS, have changed."""

    # ---- calls and returns

    def ecall(self) -> None:
        raise Trap(ECALL_U + self.cpu[at.PRIV])

    def ebreak(self) -> None:
        raise Trap(BREAKPOINT, self.at)

    def mret(self) -> None:
        self._require(st.M)
        transitions.return_from_machine(self)

    def sret(self) -> None:
        self._require(st.S, st.TSR)
        transitions.return_from_supervisor(self)

    def arrive(self, pc: int, priv: int) -> None:
        """Go on elsewhere, in another mode or the same."""
        self.next = pc & st.MASK
        self.cpu[at.PRIV] = priv
        self.select_context()

    def either(self, condition: int, yes: Callable[[], None], no: Callable[[], None]) -> None:
        (yes if condition else no)()

    # ---- waiting

    def wfi(self) -> None:
        """Wait until an interrupt is pending that mie has enabled, whether it would be taken or not."""
        self._require(st.S, st.TW)
        self.waiting = not self.interrupts() & self.cpu[at.MIE]

    def wait_reservation(self, *, short: bool) -> None:
        """A stall may end for any reason; ours ends at once, for no other hart writes while this one runs."""
        if not short and self.cpu[at.PRIV] < st.M and self.cpu[at.MSTATUS] & st.TW and self.cpu[at.RESERVED]:
            raise self.illegal()

    # ---- fences

    def fence_i(self) -> None:
        self.forget_pages()

    def sfence_vma(self, address: int, asid: int, *, any_address: bool, any_asid: bool) -> None:
        self._require(st.S, st.TVM)
        self.shoot_down(None if any_address else address & st.MASK, None if any_asid else asid & st.ASID_MASK)

    def sinval(self, address: int, asid: int, *, any_address: bool, any_asid: bool) -> None:
        self.sfence_vma(address, asid, any_address=any_address, any_asid=any_asid)

    def sfence_order(self) -> None:
        self._require(st.S)

    # ---- cache blocks: there is no cache, so what remains is who may, and where

    def cbo(self, name: str, address: int) -> None:
        address &= st.MASK
        if name == "zero":
            self._require_cache(st.CBZE)
            self._zero(address)
            return
        enabled = st.CBIE if name == "inval" else st.CBCFE
        self._require_cache(enabled)
        try:
            self.translate(address, READ)
        except Trap:
            self.translate(address, WRITE)

    def _require_cache(self, bits: int) -> None:
        """menvcfg lets S-mode, and senvcfg too lets U-mode, use an instruction."""
        cpu, priv = self.cpu, self.cpu[at.PRIV]
        if (priv < st.M and not cpu[at.MENVCFG] & bits) or (priv < st.S and not cpu[at.SENVCFG] & bits):
            raise self.illegal()

    def _zero(self, address: int) -> None:
        pa = self.translate(address, WRITE, 1) & -BLOCK
        if not self.bus.in_ram(pa, BLOCK):
            raise Trap(CAUSES[WRITE, ACCESS], address)
        start = pa - self.bus.ram_base
        self.bus.ram.mem[start : start + BLOCK] = bytes(BLOCK)
