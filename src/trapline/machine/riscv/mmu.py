"""From virtual to physical addresses: TLB, walk, permissions, the accessed and dirty bits, physical protection.

`translate` is the slow path of every access: it fills the innermost arrays when the whole page is plain RAM. Failures leave
as the trap that the table (access, failure) -> cause names.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import EXEC, WRITE
from trapline.machine.paging.entry import SV39
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.tlb import GLOBAL
from trapline.machine.riscv.trap import ACCESS, CAUSES, PAGE, Trap
from trapline.machine.riscv.twostage import FORMATS, GRANTED, TwoStage, refusal
from trapline.machine.riscv.walk import Leaf, walk

if TYPE_CHECKING:
    from trapline.machine.riscv.debug import Debug

_A, _D = SV39.accessed, SV39.dirty
_DEVICE_PAGES = 256  #: translations of devices' pages that are remembered, at most
M64 = (1 << 64) - 1


class Mmu(TwoStage):
    """Part of the hart."""

    __slots__ = ()

    watched: frozenset[int]  #: pages with triggers
    debug: Debug | None
    kept_out: frozenset[int]  #: pages where a trigger or a debugger looks at accesses: never in the innermost arrays

    def mode_of(self, access: int) -> int:
        """The privilege mode that an access is checked against: mstatus.MPRV lends M-mode another one for its data."""
        priv, status = self.cpu[at.PRIV], self.cpu[at.MSTATUS]
        if status & st.MPRV and access != EXEC:
            return (status & st.MPP) >> st.MPP_SHIFT
        return priv

    def translate(self, va: int, access: int, size: int = 1) -> int:
        """The physical address of an access that stays within a page. Raises Trap."""
        if self.is_guests(access):
            return self.translate_guest(va, access, size)
        priv = self.mode_of(access)
        satp = self.cpu[at.SATP]
        dirty = True
        if priv == st.M or not satp >> st.MODE_SHIFT:
            pa, self.leaf_shift = va, 12
        else:
            leaf = self._leaf(va, access, priv, satp)
            shift = self.leaf_shift = leaf.shift
            pa = leaf.pa | va & ((1 << shift) - 1)
            dirty = bool(leaf.entry & _D)
        if access & ~self.pmp.page(pa, priv):  # not all of the page is permitted: these bytes may be
            if not self.pmp.allows(pa, size, access, priv):
                raise Trap(CAUSES[access, ACCESS], va)
        elif dirty or not access & WRITE:
            self.remember(va, pa, access)
        return pa

    def _leaf(self, va: int, access: int, priv: int, satp: int) -> Leaf:
        asid = satp >> st.ASID_SHIFT & st.ASID_MASK
        leaf = self.tlb.lookup(va, asid)
        if leaf is None:
            leaf = self._walk(va, access, satp)
            self.tlb.insert(va, GLOBAL if leaf.entry & SV39.global_ else asid, leaf)
        failure = refusal(leaf.entry, access, priv, self.cpu[at.MSTATUS], shadow=self.shadow)
        if failure != GRANTED:
            raise Trap(CAUSES[access, failure], va)
        wanted = _A | _D if access & WRITE else _A
        if leaf.entry & wanted != wanted:
            leaf = self._set_bits(va, access, satp, wanted, priv)
            self.tlb.insert(va, GLOBAL if leaf.entry & SV39.global_ else asid, leaf)
        return leaf

    def _walk(self, va: int, access: int, satp: int) -> Leaf:
        fmt = FORMATS[satp >> st.MODE_SHIFT]
        root = (satp & st.PPN_MASK) << 12
        config = self.cpu[at.MENVCFG]
        found, count = walk(
            self.read_entry, root, va, fmt, pbmt=bool(config & st.PBMTE), shadow=bool(config & st.SSE)
        )
        self.tlb.walk_steps += count
        if isinstance(found, int):
            raise Trap(CAUSES[access, found], va)
        return found

    def _set_bits(self, va: int, access: int, satp: int, wanted: int, priv: int) -> Leaf:
        """Step 7: A or D must be set. Svadu does it, in the entry as it is now; without it that is a page fault."""
        while True:
            leaf = self._walk(va, access, satp)
            failure = refusal(leaf.entry, access, priv, self.cpu[at.MSTATUS], shadow=self.shadow)
            if failure != GRANTED:
                raise Trap(CAUSES[access, failure], va)
            if leaf.entry & wanted == wanted:
                return leaf
            if not self.cpu[at.MENVCFG] & st.ADUE:
                raise Trap(CAUSES[access, PAGE], va)
            if not self.pmp.allows(leaf.at, 8, WRITE, st.S):
                raise Trap(CAUSES[access, ACCESS], va)
            entry = leaf.entry | wanted
            if self.exchange(leaf.at, 8, leaf.entry, entry):
                return leaf._replace(entry=entry)

    def find_device(self, va: int, access: int, size: int) -> int:
        """The physical address of an access that is probably a device's: as `translate` says, which it asks once for a page."""
        if self.is_guests(access):
            return self.translate(va, access, size)
        cpu = self.cpu
        key = va >> 12, access, cpu[at.PRIV], cpu[at.MSTATUS], cpu[at.SATP]
        page = self.device_pages.get(key)
        if page is not None:
            return page | va & 4095
        pa = self.translate(va, access, size)
        if not self.bus.in_ram(pa & -4096, 4096) and not access & ~self.pmp.page(pa, self.mode_of(access)):
            if len(self.device_pages) >= _DEVICE_PAGES:
                self.device_pages.clear()
            self.device_pages[key] = pa & -4096
        return pa

    def remember(self, va: int, pa: int, access: int) -> None:
        """Put a permitted page into the innermost array of its kind of access, if it is plain RAM and has one."""
        bus, page = self.bus, va & -4096
        if self.shadow:
            return
        if access != EXEC and bus.in_ram(pa & -4096, 4096) and page not in self.kept_out:
            self.enter_page(at.WRITE if access & WRITE else at.READ, page, pa - bus.ram_base - va, self.leaf_shift)

    def shoot_down(self, va: int | None, asid: int | None) -> None:
        """sfence.vma: forget translations of an address, of an address space, of both, or all."""
        self.tlb.flush(va, asid)
        if va is None:
            self.forget_space(asid)
        else:
            self.forget_page(va, asid)
