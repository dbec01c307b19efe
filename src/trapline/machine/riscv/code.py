"""Decoded code: what the hart remembers of the pages that it executes.

A physical page of code is a list of 2048 places, one for each half-word, filled as execution reaches them with (function,
instruction, length). RISC-V lets a hart execute what it has decoded until its next fence.i: then, and whenever the page is
translated anew, the page's bytes are compared with those it was decoded from. So nobody has to watch stores.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.machine.contract import EXEC
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.isa.decode import decode, length
from trapline.machine.riscv.trap import ACCESS, CAUSES, ILLEGAL, Trap

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart
    from trapline.machine.riscv.isa.declare import Instruction

#: One decoded place: the function returns True if the hart must look around before it goes on.
Place = tuple[Callable[[Any, Any], Any], Any, int]
KEEP_PAGES, KEEP_PLACES = 2048, 1 << 18  #: remembered by all harts together, at most: some 100 MB of objects


class Page:
    """One physical page of code, as it was when it was last looked at."""

    __slots__ = ("data", "places", "start")

    def __init__(self, data: bytes, start: int = -1) -> None:
        self.data = data
        self.start = start  #: its offset in RAM; -1: it is not there
        self.places: list[Place | None] = [None] * 2048

    def half(self, pc: int) -> int:
        """The half-word at `pc`."""
        offset = pc & 4094
        return self.data[offset] | self.data[offset + 1] << 8


class Code:
    """The decoded pages of a machine."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pages: dict[int, Page] = {}
        self._places = 0

    def page(self, pa: int) -> Page:
        """The RAM page that holds `pa`, as it is now."""
        start = pa - self._bus.ram_base & -4096
        data = self._bus.ram.mem[start : start + 4096].tobytes()
        page = self._pages.get(start)
        if page is None or page.data != data:
            if len(self._pages) >= KEEP_PAGES:
                self._forget()
            page = self._pages[start] = Page(data, start)
        return page

    def remember(self, page: Page, pc: int, found: Place) -> None:
        """What was decoded at `pc` in a page."""
        self._places += 1
        if self._places > KEEP_PLACES:
            self._forget()
        page.places[pc >> 1 & 2047] = found

    def _forget(self) -> None:
        """Harts may be using these pages: they are emptied, not replaced."""
        for page in self._pages.values():
            page.places[:] = [None] * 2048
        self._pages.clear()
        self._places = 0


def _illegal(hart: Hart, raw: int) -> None:
    raise Trap(ILLEGAL, raw)


def _floating(hart: Hart, i: Instruction) -> None:
    """With mstatus.FS off, floating-point instructions are illegal; those of a guest, with either FS off."""
    cpu = hart.cpu
    if not cpu[at.MSTATUS] & st.FS:
        raise Trap(ILLEGAL, i.raw)
    if cpu[at.VIRT]:
        if not cpu[at.VSSTATUS] & st.FS:
            raise Trap(ILLEGAL, i.raw)
        cpu[at.VSSTATUS] |= st.FS
    i.body(hart, i)


def _system(hart: Hart, i: Instruction) -> bool:
    """It may change all that the run loop knows."""
    i.body(hart, i)
    return True


def place(raw: int) -> Place:
    """How the reference tier executes these bits."""
    i = decode(raw)
    if i is None:
        return _illegal, raw, length(raw)
    return _floating if i.op.fp else _system if i.op.system else i.body, i, i.length


def fetch(hart: Hart, pc: int) -> Page:
    """The page of code that holds `pc`. Raises Trap where it cannot be executed from."""
    page = hart.pages.get(pc >> 12)
    if page is None:
        pa = hart.translate(pc, EXEC, 2)
        if not hart.bus.in_ram(pa & -4096, 4096):
            data = hart.bus.code_page(pa & -4096)
            if data is None:
                raise Trap(CAUSES[EXEC, ACCESS], pc)
            return Page(data)  # read-only memory: executed one instruction at a time, and not remembered
        page = hart.code.page(pa)
        if hart.pmp.page(pa, hart.cpu[at.PRIV]) & EXEC:  # else only some of its bytes may be executed: ask again each time
            hart.pages[pc >> 12] = page
    return page


def decode_at(hart: Hart, pc: int, page: Page) -> Place:
    """Decode the instruction at `pc`, in `page`, and remember it unless it goes on in the next page."""
    low = page.half(pc)
    if low & 3 == 3 and pc & 4095 == 4094:
        return place(raw_at(hart, pc))
    found = place(low if low & 3 != 3 else low | page.half(pc + 2) << 16)
    hart.code.remember(page, pc, found)
    return found


def raw_at(hart: Hart, pc: int) -> int:
    """The bits of the instruction at `pc`, each half fetched by itself."""
    low = fetch(hart, pc).half(pc)
    beyond = pc + 2 & st.MASK
    return low if low & 3 != 3 else low | fetch(hart, beyond).half(beyond) << 16


def step(hart: Hart) -> bool:
    """Execute the instruction at `hart.next`, remembering nothing; True if the run loop must look around."""
    pc = hart.at = hart.next & st.MASK
    run, i, size = place(raw_at(hart, pc))
    hart.next = pc + size & st.MASK
    return bool(run(hart, i))
