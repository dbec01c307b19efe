"""The native hart: the reference hart, with the interpreter and the regions doing the work.

In a nutshell: `_execute` calls native code, which runs until it must leave, and deals with the reason: a page of code to map,
one instruction for the reference tier, a hot place, a trap for the kernel, an interrupt, or the end of the budget.

Hot path, measured: an `ecall` costs 0.5 µs here, of which 0.2 µs are ctypes.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from trapline.typed import TYPE_CHECKING, Any

from trapline.machine.contract import EXEC
from trapline.machine.riscv import layout
from trapline.machine.riscv import status as st
from trapline.machine.riscv.code import Place, step
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.jit import registers
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.trap import ACCESS, CAUSES, Trap

if TYPE_CHECKING:
    from trapline.machine.ram import Ram
    from trapline.machine.riscv.debug import Debug
    from trapline.machine.riscv.jit.pages import CodePage
    from trapline.machine.riscv.jit.tiers import Tiers

_PC, _BUDGET, _INSTRET = layout.PC, layout.BUDGET, layout.INSTRET
_REASON, _TRAP = at.REASON_WORD, at.TRAP
_COUNT, _ROOM = at.POSTED_COUNT_WORD, at.POSTED_ROOM_WORD


class NativeHart(Hart):
    """`tiers` are the machine's: several harts share what was compiled."""

    __slots__ = ("_beside", "_entered", "_native", "_struct", "exits", "posting", "steps", "tiers")

    posts_stores = True
    posting: Callable[[bytes], object]  #: takes what was posted

    def __init__(self, *args: Any, tiers: Tiers, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tiers = tiers
        tiers.harts.append(self)
        self._struct = (ctypes.c_char * len(self.struct)).from_buffer(self.struct)
        self.cpu[layout.RAM_HOST] = tiers.ram_address
        self.cpu[at.HANDLERS_WORD] = tiers.handlers_address
        self.cpu[at.STITCHER_WORD] = tiers.baseline.address if tiers.baseline is not None else 0
        self.cpu[at.WARM_WORD], self.cpu[at.HOT_WORD] = tiers.warm, tiers.hot
        self._native: Callable[[], None] = partial(tiers.run, ctypes.addressof(self._struct))
        self._beside: Callable[[], None] = partial(tiers.run_beside, ctypes.addressof(self._struct))
        self._entered = False
        self.exits = [0] * len(at.REASONS)  #: from native code, by reason
        self.steps: defaultdict[str, int] = defaultdict(int)  #: instructions that the reference tier executed, by name
        self.cpu[at.CODE_TABLE_WORD] = tiers.arena.table_address

    def run(self, budget: int) -> int:
        """As the reference hart's; a trap for the kernel is answered at once."""
        if not self.hosted or self.watched or self.cpu[layout.CAREFUL]:
            self.cpu[_ROOM] = 0
            return super().run(budget)
        cpu = self.cpu
        cpu[_BUDGET] = budget
        (self._beside if self.tiers.compiling else self._native)()
        left = cpu[_BUDGET]
        cpu[_INSTRET] += budget - left
        if cpu[_REASON] == _TRAP:
            return TRAPPED
        self._entered = left > 0
        return super().run(left)

    def _execute(self) -> None:
        debug = self.debug
        if self.watched or self.cpu[layout.LANDING] or (debug is not None and debug.trace is not None):  # look at each
            super()._execute()
            return
        cpu = self.cpu
        left = cpu[layout.GRANTED] = self.budget
        cpu[_PC] = self.next & st.MASK
        while True:
            if self._entered:  # `run` was in native code already
                self._entered = False
            else:
                cpu[_BUDGET] = left
                (self._beside if self.tiers.compiling else self._native)()
                left = cpu[_BUDGET]
                if cpu[_COUNT]:
                    registers.take_posted(self)
            pc = self.next = cpu[_PC]
            reason = cpu[at.REASON_WORD]
            self.exits[reason] += 1
            if reason == at.HOT_SPOT:
                self.tiers.heat(self, pc)
                continue
            if cpu[layout.TLB] != self.adopted:
                self.adopt()
            if not left or reason >= at.TRAP:
                self._ticks = iter(range(left))
                self._leave(reason, pc, left)
                return
            if cpu[at.STALE_WORD]:
                self.catch_up()
            if reason == at.STEP or not self._map(pc, left):
                if debug is not None and debug.stops(self, pc):
                    self.stopping = True
                    self._ticks = iter(range(left))
                    return
                if self._step(left):
                    return
                left -= 1
                cpu[_PC] = self.next

    def _leave(self, reason: int, pc: int, left: int) -> None:
        """What the run loop must know of an exit that is not for an instruction. Raises Trap."""
        if reason == at.ATTENTION:
            self.attention = True
        elif reason == at.TRAP and left:
            self.at = pc
            self._ticks = iter(range(left - 1))
            raise Trap(self.cpu[layout.TRAP_CAUSE], self.cpu[layout.TRAP_VALUE])

    def catch_up(self) -> None:
        if self.cpu[at.STALE_WORD]:
            self.tlb.flush()
            self.device_pages.clear()
            self.cpu[at.STALE_WORD] = self.cpu[_ROOM] = 0

    def code_pages(self, n: int) -> list[tuple[int, int, bytes]]:
        place = layout.FIRST_CONTEXT + n * layout.CONTEXT_WORDS + layout.CODE
        entries = self.cpu[place : place + 2 * layout.FAST_ENTRIES].tolist()
        found = []
        for va, base in zip(entries[::2], entries[1::2], strict=True):
            page = self.tiers.arena.at(base) if va != layout.EMPTY else None
            if page is not None:
                found.append((va, page.ram_offset, page.data))
        return found

    def enter_code(self, n: int, va: int, offset: int, data: bytes) -> None:
        page = self.tiers.arena.page(offset, data)
        if page is None:
            return  # there is no room: it will be mapped again when it is executed
        slot = layout.FIRST_CONTEXT + n * layout.CONTEXT_WORDS + layout.CODE + 2 * ((va >> 12) % layout.FAST_ENTRIES)
        self.cpu[slot], self.cpu[slot + 1] = va, page.base
        if self.debug is not None:
            self.tiers.arena.stop_at(page, self.debug.records(va))

    def observe(self, debug: Debug | None) -> None:
        self.tiers.arena.stop_nowhere()
        self.pmp.closed = debug is not None
        self.pmp.update()
        super().observe(debug)

    def walk_steps(self) -> int:
        return super().walk_steps() + self.cpu[at.WALKS_WORD]

    def tlb_misses(self) -> int:
        return super().tlb_misses() + self.cpu[at.MISSES_WORD]

    def _step(self, left: int) -> bool:
        """One instruction in the reference tier; True if the run loop must look around."""
        pc = self.at = self.next
        self._ticks = iter(range(left - 1))
        self.cpu[_ROOM] = 0
        slot = (self.cpu[layout.TLB] >> 3) + layout.CODE + (pc >> 12) % layout.FAST_ENTRIES * 2
        page = self.tiers.arena.at(self.cpu[slot + 1]) if self.cpu[slot] == pc & -4096 else None
        if page is not None:
            what = page.plain.get(pc & 4095)
            if what is not None and registers.access(self, pc, what):
                return False
        self.pages.clear()  # what was fetched from then may be mapped otherwise now
        place = None if page is None else page.places.get(pc & 4095) or self._place(page, pc & 4095)
        if place is None:
            self.steps["in two pages"] += 1
            return step(self)
        run, i, length = place
        self.steps["illegal" if i.__class__ is int else i.op.name] += 1
        self.next = pc + length & st.MASK
        return bool(run(self, i))

    def _place(self, page: CodePage, offset: int) -> Place | None:
        """The instruction at an offset of a page; None if it goes on in the next one."""
        raw = int.from_bytes(page.data[offset : offset + 4], "little")
        if raw & 3 == 3 and offset > 4092:
            return None
        found = page.places[offset] = self.tiers.place(raw if raw & 3 == 3 else raw & 0xFFFF)
        page.plain[offset] = registers.plain(found)
        return found

    def _map(self, pc: int, left: int) -> bool:
        """Let native code execute from the page of `pc`; False if only part of it may be executed. Raises Trap."""
        self.at = pc
        self._ticks = iter(range(left - 1))  # a fetch that traps uses up an instruction
        pa = self.translate(pc, EXEC, 2)
        if not self.bus.in_ram(pa & -4096, 4096):
            if self.bus.code_page(pa & -4096) is not None:
                return False
            raise Trap(CAUSES[EXEC, ACCESS], pc)
        if not self.pmp.page(pa, self.cpu[layout.PRIV]) & EXEC:
            return False
        page = self.tiers.page(pa - self.bus.ram_base & -4096)
        if self.debug is not None:
            self.tiers.arena.stop_at(page, self.debug.records(pc & -4096))
        self.enter_page(layout.CODE, pc & -4096, page.base, self.leaf_shift)
        return True


def native_harts(ram: Ram, tier: str = "native") -> tuple[Tiers, Callable[..., NativeHart]]:
    """The tiers of a new machine, up to `tier` (a name of tiers.LADDER), and what makes its harts."""
    from trapline.machine.riscv.jit.tiers import LADDER, Tiers

    hot, warm = LADDER[tier]
    tiers = Tiers(ram, hot=hot, warm=warm)
    return tiers, partial(NativeHart, tiers=tiers)
