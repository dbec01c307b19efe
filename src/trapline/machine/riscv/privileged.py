"""The vocabulary's privileged operations: calls, returns from traps, waiting, translation fences, cache blocks (volume II).

Each begins with who may use it; whoever may not gets an illegal-instruction exception, or, in a virtual mode, a
virtual-instruction exception for what HS-mode could have executed (volume II, "Hypervisor Extension", "Trap Cause Codes").
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import READ, WRITE
from trapline.machine.riscv import csr, transitions
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.code import raw_at
from trapline.machine.riscv.lending import Lending
from trapline.machine.riscv.transformed import transform
from trapline.machine.riscv.trap import ACCESS, BREAKPOINT, CAUSES, ECALL_U, ILLEGAL, VIRTUAL, Trap

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

BLOCK = 64  #: bytes of a cache block, for cbo.*


class Privileged(Lending):
    """Part of the hart."""

    __slots__ = ("waiting",)

    waiting: bool  #: in wfi

    def interrupts(self) -> int:
        """mip as it is now: what software set, what devices assert, and the timers of S- and VS-mode (Sstc)."""
        cpu = self.cpu
        ready: int = cpu[at.MIP] | cpu[at.LINES]
        if cpu[at.MENVCFG] & st.STCE:
            now = self.now()
            if now >= cpu[at.STIMECMP]:
                ready |= st.STIP
            if cpu[at.HENVCFG] & st.STCE and now + cpu[at.HTIMEDELTA] & st.MASK >= cpu[at.VSTIMECMP]:
                ready |= st.VSTIP
        return ready

    def now(self) -> int:
        """The time CSR."""
        raise NotImplementedError

    def illegal(self) -> Trap:
        return Trap(ILLEGAL, self.raw())

    def refused(self) -> Trap:
        """What an instruction of supervisor mode or of a hypervisor raises where a virtual mode may not use it."""
        return Trap(VIRTUAL if self.cpu[at.VIRT] else ILLEGAL, self.raw())

    def raw(self) -> int:
        hart: Hart = self  # type: ignore[assignment]  # the parts make up one
        return raw_at(hart, self.at)

    def _require_supervisor(self, forbidden: int = 0, forbidden_guest: int = 0) -> None:
        """S-mode or M-mode; in HS-mode this bit of mstatus clear, in VS-mode that one of hstatus."""
        cpu, here = self.cpu, self.cpu[at.PRIV]
        barred = cpu[at.HSTATUS] & forbidden_guest if cpu[at.VIRT] else cpu[at.MSTATUS] & forbidden
        if here == st.U or (here == st.S and barred):
            raise self.refused()

    # ---- registers

    def csr(self, number: int, how: str, value: int, *, read: bool, write: bool) -> int:
        hart: Hart = self  # type: ignore[assignment]
        return csr.access(hart, number, how, value & st.MASK, read=read, write=write)

    def status_changed(self, changed: int) -> None:
        """These bits of mstatus have."""
        if changed & st.MXR:
            self.forget_pages()
        if changed & (st.MPRV | st.SUM | st.MPV) or self.cpu[at.MSTATUS] & st.MPRV:
            self.select_context()

    def gather_flags(self) -> None:
        """Put the exceptions that floating point raised where they can be read: they are there already."""

    def floats_changed(self) -> None:
        """Registers of floating point, or mstatus.FS, have changed."""

    # ---- calls and returns

    def ecall(self) -> None:
        cpu = self.cpu
        raise Trap(ECALL_U + cpu[at.PRIV] + (cpu[at.PRIV] & cpu[at.VIRT]))

    def ebreak(self) -> None:
        raise Trap(BREAKPOINT, self.at)

    def mret(self) -> None:
        status = self.cpu[at.MSTATUS]
        if self.cpu[at.PRIV] != st.M:
            raise self.illegal()
        transitions.return_from_machine(self)
        if status & st.MPV and self.cpu[at.PRIV] != st.M:
            self.cross(1)
        self.cpu[at.ELP] = bool(status & st.MPELP) & self.cpu[at.LANDING]

    def sret(self) -> None:
        self._require_supervisor(st.TSR, st.VTSR)
        cpu = self.cpu
        enters, expected = not cpu[at.VIRT] and cpu[at.HSTATUS] & st.SPV, bool(cpu[at.MSTATUS] & st.SPELP)
        transitions.return_from_supervisor(self)
        if enters:
            cpu[at.HSTATUS] &= ~st.SPV
            self.cross(1)
        cpu[at.ELP] = expected & cpu[at.LANDING]

    def cross(self, virt: int) -> None:
        """V becomes 1, or 0: exchange the supervisor registers, and use the translations that belong to them."""
        transitions.exchange(self)
        self.cpu[at.VIRT] = virt
        self.settle()
        self.change_space(self.cpu[at.SATP])

    def arrive(self, pc: int, priv: int) -> None:
        """Go on elsewhere, in another mode or the same."""
        self.next = pc & st.MASK
        self.cpu[at.PRIV] = priv
        if self.cpu[at.CAREFUL]:
            self.settle()
        self.select_context()

    def settle(self) -> None:
        """Work out which control-flow integrity is in force in this mode, and whether native tiers must be careful."""
        raise NotImplementedError

    def either(self, condition: int, yes: Callable[[], None], no: Callable[[], None]) -> None:
        (yes if condition else no)()

    # ---- waiting

    def wfi(self) -> None:
        """Wait until an interrupt is pending that mie has enabled, whether it would be taken or not."""
        cpu = self.cpu
        if cpu[at.VIRT] and cpu[at.MSTATUS] & st.TW:
            raise self.illegal()
        self._require_supervisor(st.TW, st.VTW)
        self.waiting = not self.interrupts() & self.cpu[at.MIE]

    def wait_reservation(self, *, short: bool) -> None:
        """A stall may end for any reason; ours ends at once, for no other hart writes while this one runs."""
        cpu = self.cpu
        if short or cpu[at.PRIV] == st.M or not cpu[at.RESERVED]:
            return
        if cpu[at.MSTATUS] & st.TW:
            raise self.illegal()
        if cpu[at.VIRT] and cpu[at.HSTATUS] & st.VTW:
            raise self.refused()

    # ---- fences

    def fence_i(self) -> None:
        self.forget_pages()

    def sfence_vma(self, address: int, asid: int, *, any_address: bool, any_asid: bool) -> None:
        self._require_supervisor(st.TVM, st.VTVM)
        va, space = None if any_address else address & st.MASK, None if any_asid else asid & st.ASID_MASK
        if self.cpu[at.VIRT]:
            self.shoot_down_guest(va, space)
        else:
            self.shoot_down(va, space)

    def sinval(self, address: int, asid: int, *, any_address: bool, any_asid: bool) -> None:
        self.sfence_vma(address, asid, any_address=any_address, any_asid=any_asid)

    def sfence_order(self) -> None:
        self._require_supervisor()

    def hfence_vvma(self, address: int, asid: int, *, any_address: bool, any_asid: bool) -> None:
        self._require_hypervisor()
        self.shoot_down_guest(None if any_address else address & st.MASK, None if any_asid else asid & st.ASID_MASK)

    def hfence_gvma(self, address: int, vmid: int, *, any_address: bool, any_vmid: bool) -> None:
        self._require_hypervisor(st.TVM)
        self.shoot_down_stage(None if any_vmid else vmid & st.VMID_MASK)

    def _require_hypervisor(self, forbidden: int = 0) -> None:
        """HS-mode, there with this bit of mstatus clear, or M-mode."""
        if self.cpu[at.VIRT]:
            raise self.refused()
        self._require_supervisor(forbidden)

    # ---- a hypervisor's accesses to its guest's memory (lending.py)

    def guest_load(self, address: int, size: int, *, signed: bool = False, executable: bool = False) -> int:
        self._require_lending()
        value = self.lent_load(address & st.MASK, size, executable=executable)
        return self.sx(value, 8 * size) if signed else value

    def guest_store(self, address: int, size: int, value: int) -> None:
        self._require_lending()
        self.lent_store(address & st.MASK, size, value)

    def transformed(self, address: int) -> int:
        """The instruction being executed, as a hypervisor is told it; `address` is the byte it could not reach."""
        return transform(self.raw(), self.x, address)

    def _require_lending(self) -> None:
        cpu = self.cpu
        if cpu[at.VIRT]:
            raise self.refused()
        if cpu[at.PRIV] == st.U and not cpu[at.HSTATUS] & st.HU:
            raise self.illegal()

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
            pa = self.translate(address, READ)
        except Trap:
            pa = self.translate(address, WRITE)
        self._require_block(pa, address)

    def _require_block(self, pa: int, address: int) -> None:
        """Only RAM has blocks: elsewhere the instruction is a store's access fault."""
        if not self.bus.in_ram(pa & -BLOCK, BLOCK):
            raise Trap(CAUSES[WRITE, ACCESS], address)

    def _require_cache(self, bits: int) -> None:
        """menvcfg lets S-mode, henvcfg too lets VS-mode, and senvcfg too lets U- and VU-mode, use an instruction."""
        cpu, priv = self.cpu, self.cpu[at.PRIV]
        if priv < st.M and not cpu[at.MENVCFG] & bits:
            raise self.illegal()
        if (cpu[at.VIRT] and not cpu[at.HENVCFG] & bits) or (priv < st.S and not cpu[at.SENVCFG] & bits):
            raise self.refused()

    def _zero(self, address: int) -> None:
        if self.kept_out:
            self.watch_access(address & -BLOCK, BLOCK, WRITE)
        pa = self.translate(address, WRITE, 1) & -BLOCK
        self._require_block(pa, address)
        start = pa - self.bus.ram_base
        self.bus.ram.mem[start : start + BLOCK] = bytes(BLOCK)
