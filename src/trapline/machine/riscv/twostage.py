"""Two-stage translation: a guest's addresses by its own tables, whose results, and places, are translated by the hypervisor's.

Source: volume II, "Hypervisor Extension", "Two-Stage Address Translation". The first stage is vsatp's (satp's while V is 1),
with the guest's SUM and MXR and henvcfg; the second is hgatp's: all of it is user memory, and only HS-mode's MXR counts.

The TLB remembers both: pairs by VMID and ASID, and what the second stage alone says of guest physical addresses, by VMID. A
failed access walks anew, and so finds out which stage it was that failed, and where.
"""

from __future__ import annotations

from collections.abc import Generator
from trapline.typed import NamedTuple

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.paging.entry import SV39, SV48, SV57, Format
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.contexts import Contexts
from trapline.machine.riscv.pmp import Pmp
from trapline.machine.riscv.tlb import GLOBAL, GUEST, SECOND_STAGE, Tlb
from trapline.machine.riscv.trap import (
    ACCESS,
    CAUSES,
    GUEST_CAUSES,
    PAGE,
    READ_PSEUDO,
    WRITE_PSEUDO,
    Guest,
    Trap,
)
from trapline.machine.riscv.walk import Leaf, Step, finish, steps

FORMATS: dict[int, Format] = {st.SV39_MODE: SV39, st.SV48_MODE: SV48, st.SV57_MODE: SV57}
_R, _W, _X, _U = SV39.read, SV39.write, SV39.execute, SV39.user
_A, _D = SV39.accessed, SV39.dirty
_ALL = _R | _W | _X | _U | _A | _D
OWN, LENT, LENT_EXECUTABLE = 0, 1, 2  #: whose translation an access uses: the hart's own, or a guest's (hlv, hsv; hlvx)
GRANTED = -1
_IN_GUEST = Guest(virtual=True)


class View(NamedTuple):
    """How an access looks at a guest's memory."""

    priv: int  #: in VU- or VS-mode
    status: int  #: the guest's SUM and MXR; HS-mode's MXR counts too
    machine_status: int  #: HS-mode's
    satp: int
    executable: bool  #: the page must be executable instead of readable


def refusal(
    entry: int, access: int, priv: int, status: int, *, executable: bool = False, shadow: bool = False
) -> int:
    """Step 5 of the translation process: how an access fails, PAGE or ACCESS, or GRANTED. shadow: it is a shadow stack's."""
    if priv == st.U:
        if not entry & _U:
            return PAGE
    elif entry & _U and (access == EXEC or not status & st.SUM):
        return PAGE
    rights = entry & (_R | _W | _X)
    if rights == _W:  # the page of a shadow stack: all may load from it, and only its own instructions store
        return GRANTED if shadow or (access == READ and not executable) else ACCESS
    if shadow:
        return PAGE if rights == _R else ACCESS
    return GRANTED if grants(entry, access, status, executable=executable) else PAGE


def grants(entry: int, access: int, status: int, *, executable: bool = False) -> bool:
    """Whether R, W and X allow an access."""
    if access == WRITE:
        return bool(entry & _W)
    if access == EXEC or executable:
        return bool(entry & _X)
    return bool(entry & _R or (status & st.MXR and entry & _X))


class Changed(Exception):
    """An entry is not any more what the walk has read: another hart has written it. Walk again."""


class TwoStage(Contexts):
    """Part of the hart."""

    __slots__ = ("leaf_shift", "lent", "shadow")

    leaf_shift: int  #: log2 of the bytes that the leaf of the last translation maps
    lent: int
    shadow: bool  #: the access is a shadow stack's

    bus: Bus
    tlb: Tlb
    pmp: Pmp

    def is_guests(self, access: int) -> bool:
        """Whether an access is translated in two stages: in a virtual mode, or lent by one."""
        cpu = self.cpu
        if cpu[at.VIRT] or self.lent:
            return True
        status = cpu[at.MSTATUS]
        return bool(status & st.MPRV and status & st.MPV and access != EXEC and status & st.MPP != st.MPP)

    def _view(self) -> View:
        cpu = self.cpu
        if cpu[at.VIRT]:
            return View(cpu[at.PRIV], cpu[at.MSTATUS] | cpu[at.VSSTATUS] & st.MXR, cpu[at.VSSTATUS], cpu[at.SATP], False)
        status = cpu[at.MSTATUS]
        if self.lent:
            priv = st.S if cpu[at.HSTATUS] & st.SPVP else st.U
        else:
            priv = (status & st.MPP) >> st.MPP_SHIFT
        both = cpu[at.VSSTATUS] | status & st.MXR
        return View(priv, both, status, cpu[at.VSATP], self.lent == LENT_EXECUTABLE)

    def translate_guest(self, va: int, access: int, size: int) -> int:
        """The physical address of a guest's access that stays within a page. Raises Trap."""
        view, pair = self._view(), None
        while pair is None:
            try:
                pair = self._pair(va, access, view)
            except Changed:
                continue
        self.leaf_shift = pair.shift
        pa = pair.pa | va & ((1 << pair.shift) - 1)
        wanted = access | EXEC if view.executable else access
        if wanted & ~self.pmp.page(pa, view.priv):
            if not self.pmp.allows(pa, size, wanted, view.priv):
                raise Trap(CAUSES[access, ACCESS], va, _IN_GUEST)
        elif not self.lent and (pair.entry & pair.second & _D or not access & WRITE):
            self.remember(va, pa, access)
        return pa

    def remember(self, va: int, pa: int, access: int) -> None:
        """Put a permitted page into the innermost arrays."""
        raise NotImplementedError

    def _pair(self, va: int, access: int, view: View) -> Leaf:
        vmid = self._vmid()
        name, shared = GUEST | vmid << 16 | view.satp >> st.ASID_SHIFT & st.ASID_MASK, _shared(vmid)
        known = self.tlb.lookup(va, name, shared)
        if known is not None and _suffices(known, access, view, shadow=self.shadow):
            return known
        pair, count = finish(self.walk_guest(va, access, view))
        self.tlb.walk_steps += count
        self.tlb.nested[count] = self.tlb.nested.get(count, 0) + 1
        self.tlb.insert(va, shared if pair.entry & SV39.global_ else name, pair)
        return pair

    def _vmid(self) -> int:
        return self.cpu[at.HGATP] >> st.VMID_SHIFT & st.VMID_MASK

    def walk_guest(self, va: int, access: int, view: View | None = None) -> Generator[Step, None, Leaf]:
        """Yield each step of both stages' walks; return what they lead to. Raises Trap."""
        if view is None:
            view = self._view()
        mode = view.satp >> st.MODE_SHIFT
        first = Leaf(_ALL, 0, 64, 0)
        if mode:
            first = yield from self._first(va, access, view, FORMATS[mode])
        gpa = first.pa | va & ((1 << first.shift) - 1)
        second = yield from self._second(gpa, access, view, va, access, 0)
        host = second.pa | gpa & ((1 << second.shift) - 1)
        shift = min(first.shift, second.shift)
        return Leaf(first.entry, first.at, shift, host & -(1 << shift), second.entry)

    def _first(self, va: int, access: int, view: View, fmt: Format) -> Generator[Step, None, Leaf]:
        """The first stage's leaf, permitted, with A and D as the access wants them."""
        config = self.cpu[at.HENVCFG] & self.cpu[at.MENVCFG]

        def reach(gpa: int) -> Generator[Step, None, int]:
            found = yield from self._second(gpa, READ, view, va, access, READ_PSEUDO)
            return found.pa | gpa & ((1 << found.shift) - 1)

        root = (view.satp & st.PPN_MASK) << 12
        pbmt, shadow = bool(config & st.PBMTE), bool(config & st.SSE)
        leaf = yield from steps(self.read_entry, root, va, fmt, pbmt=pbmt, shadow=shadow, reach=reach)
        if isinstance(leaf, int):
            raise Trap(CAUSES[access, leaf], va, _IN_GUEST)
        failure = refusal(
            leaf.entry, access, view.priv, view.status, executable=view.executable, shadow=self.shadow
        )
        if failure != GRANTED:
            raise Trap(CAUSES[access, failure], va, _IN_GUEST)
        wanted = _A | _D if access & WRITE else _A
        if leaf.entry & wanted == wanted:
            return leaf
        if not config & st.ADUE:
            raise Trap(CAUSES[access, PAGE], va, _IN_GUEST)
        found = yield from self._second(leaf.at, WRITE, view, va, access, WRITE_PSEUDO)
        place = found.pa | leaf.at & ((1 << found.shift) - 1)
        if not self._write_entry(place, leaf.entry, leaf.entry | wanted):
            raise Trap(CAUSES[access, ACCESS], va, _IN_GUEST)
        return leaf._replace(entry=leaf.entry | wanted)

    def _second(
        self, gpa: int, access: int, view: View, va: int, original: int, pseudo: int
    ) -> Generator[Step, None, Leaf]:
        """The second stage's leaf of a guest physical address, permitted, with A and D as the access wants them.

        va, original: the access that all this is for. pseudo: as Guest's.
        """
        cpu = self.cpu
        mode = cpu[at.HGATP] >> st.MODE_SHIFT
        if not mode:
            return Leaf(_ALL, 0, 12, gpa & -4096)
        executable = view.executable and not pseudo
        wanted = _A | _D if access & WRITE else _A
        name = SECOND_STAGE | self._vmid()
        leaf = self.tlb.lookup(gpa, name, name)
        if leaf is not None and _is_users(leaf.entry, access, view, executable) and leaf.entry & wanted == wanted:
            return leaf
        root = (cpu[at.HGATP] & st.PPN_MASK) << 12
        found = yield from steps(
            self.read_entry, root, gpa, FORMATS[mode], pbmt=bool(cpu[at.MENVCFG] & st.PBMTE), stage=2
        )
        missing = Trap(GUEST_CAUSES[original], va, Guest(True, gpa, pseudo))
        if isinstance(found, int):
            raise missing if found == PAGE else Trap(CAUSES[original, ACCESS], va, _IN_GUEST)
        if not _is_users(found.entry, access, view, executable):
            raise missing
        if found.entry & wanted != wanted:
            if not cpu[at.MENVCFG] & st.ADUE:
                raise missing
            if not self._write_entry(found.at, found.entry, found.entry | wanted):
                raise Trap(CAUSES[original, ACCESS], va, _IN_GUEST)
            found = found._replace(entry=found.entry | wanted)
        self.tlb.insert(gpa, name, found)
        return found

    # ---- tables

    def read_entry(self, pa: int) -> int | None:
        """A page-table entry: an S-mode read. None where that faults."""
        bus = self.bus
        if not self.pmp.page(pa, st.S) & READ and not self.pmp.allows(pa, 8, READ, st.S):
            return None
        return bus.ram.words[pa - bus.ram_base >> 3] if bus.in_ram(pa, 8) else None

    def _write_entry(self, pa: int, old: int, new: int) -> bool:
        """Write one: False where that faults. Raises Changed."""
        if not self.pmp.allows(pa, 8, WRITE, st.S) or not self.bus.in_ram(pa, 8):
            return False
        if not self.exchange(pa, 8, old, new):
            raise Changed
        return True

    def exchange(self, pa: int, size: int, old: int, new: int) -> bool:
        """Store `new` in RAM if it holds `old`; whether it did."""
        raise NotImplementedError

    # ---- forgetting

    def shoot_down_guest(self, va: int | None, asid: int | None) -> None:
        """Forget first-stage translations under hgatp's VMID: of an address, of an address space, of both, or all."""
        vmid = self._vmid()
        start, shared = GUEST | vmid << 16, _shared(vmid)
        if asid is None:
            self.tlb.flush_named(lambda name: name == shared or name >> 16 == start >> 16, va)
        else:
            self.tlb.flush_named(lambda name: name == start | asid, va)
        if va is None:
            self.forget_guests()
        else:
            self.forget_page(va, None)

    def shoot_down_stage(self, vmid: int | None) -> None:
        """Forget second-stage translations, and all that is made from them, under a VMID or any."""
        self.tlb.flush_named(lambda name: _belongs(name, vmid))
        self.forget_guests()


def _suffices(pair: Leaf, access: int, view: View, *, shadow: bool) -> bool:
    """Whether an access is permitted by both stages as the TLB has them, with nothing to be done to A or D."""
    wanted = _A | _D if access & WRITE else _A
    if pair.entry & pair.second & wanted != wanted:
        return False
    failure = refusal(pair.entry, access, view.priv, view.status, executable=view.executable, shadow=shadow)
    return failure == GRANTED and _is_users(pair.second, access, view, view.executable)


def _is_users(entry: int, access: int, view: View, executable: bool) -> bool:
    """Whether the second stage permits an access: all are made as if by user mode."""
    return bool(entry & _U) and grants(entry, access, view.machine_status, executable=executable)


def _shared(vmid: int) -> int:
    """The name of what all address spaces of a guest share."""
    return -2 - vmid


def _belongs(name: int, vmid: int | None) -> bool:
    """Whether an entry with this name is a guest's (of this VMID)."""
    if name < 0:
        return name != GLOBAL and (vmid is None or name == _shared(vmid))
    if name & SECOND_STAGE:
        return vmid is None or name & st.VMID_MASK == vmid
    return bool(name & GUEST) and (vmid is None or name >> 16 & st.VMID_MASK == vmid)
