"""Physical memory protection: sixteen regions that say what each mode may do where, with Smepmp.

Source: volume II, "Physical Memory Protection", and the chapter "Smepmp". The registers are in the CPU struct; this is what
they mean, worked out once per change.

Invariant: `regions` is in order of priority; the first that touches an access decides it, and must cover it whole.
"""

from __future__ import annotations

from itertools import pairwise
from trapline.typed import NamedTuple

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st

R, W, X, LOCK = 1, 2, 4, 1 << 7  #: bits of a pmpcfg byte
MODE, OFF, TOR, NA4, NAPOT = 3 << 3, 0, 1 << 3, 2 << 3, 3 << 3
WRITABLE = R | W | X | MODE | LOCK
ADDRESS_MASK = (1 << 54) - 1
ALL = READ | WRITE | EXEC
_PAGE = 1 << 12


class Region(NamedTuple):
    start: int
    end: int
    machine: int  #: what M-mode may do: READ | WRITE | EXEC
    user: int  #: what S- and U-mode may do


def region(cpu: memoryview, n: int) -> tuple[int, int]:
    """[start, end) of entry n, whose mode is not OFF."""
    address, mode = cpu[at.PMPADDR + n], cpu[at.PMPCFG + n] & MODE
    if mode == TOR:
        return (cpu[at.PMPADDR + n - 1] << 2 if n else 0), address << 2
    if mode == NA4:
        return address << 2, (address << 2) + 4
    ones = (address ^ (address + 1)) & ADDRESS_MASK  # the trailing ones and the zero above them
    start = (address & ~ones) << 2
    return start, start + ((ones + 1) << 2)


def rights(config: int, mml: bool) -> tuple[int, int]:
    """(machine, user) of one pmpcfg byte (Smepmp's truth table when mml)."""
    allowed = (READ if config & R else 0) | (WRITE if config & W else 0) | (EXEC if config & X else 0)
    locked = bool(config & LOCK)
    if not mml:
        return (allowed if locked else ALL), allowed
    if config & W and not config & R:  # shared regions
        if not locked:
            return READ | WRITE, (READ | WRITE if config & X else READ)
        return (EXEC | READ if config & X else EXEC), EXEC
    if locked and allowed == ALL:
        return READ, READ  # shared, read-only
    return (allowed, 0) if locked else (0, allowed)


class Pmp:
    """The protection in force on one hart."""

    def __init__(self, cpu: memoryview) -> None:
        self._cpu = cpu
        self._pages: dict[tuple[int, bool], int] = {}
        self.closed = False  #: no windows: every miss of the innermost arrays is the reference tier's
        self.update()

    def update(self) -> None:
        """The registers changed."""
        cpu = self._cpu
        secure = cpu[at.MSECCFG]
        self._mml, self._whitelist = bool(secure & st.MML), bool(secure & st.MMWP)
        self.regions: list[Region] = []
        for n in range(at.PMP_ENTRIES):
            config = cpu[at.PMPCFG + n]
            if config & MODE:
                start, end = region(cpu, n)
                if start < end:
                    self.regions.append(Region(start, end, *rights(config, self._mml)))
        self._pages.clear()
        for word, machine in ((at.USER_WINDOW, False), (at.MACHINE_WINDOW, True)):
            cpu[word], cpu[word + 1] = (0, 0) if self.closed else self._window(machine)

    def _window(self, machine: bool) -> tuple[int, int]:
        """The longest [start, end) of RAM, in whole pages, where everything is permitted: for code that does not ask twice."""
        start, end = self._cpu[at.RAM_BASE], self._cpu[at.RAM_BASE] + self._cpu[at.RAM_SIZE]
        cuts = {bound & -_PAGE for each in self.regions for bound in (each.start, each.start + _PAGE - 1)}
        cuts |= {bound & -_PAGE for each in self.regions for bound in (each.end, each.end + _PAGE - 1)}
        bounds = [start, *sorted(cut for cut in cuts if start < cut < end), end]
        best, here = (0, 0), start
        for low, high in pairwise(bounds):
            if self._page(low, machine) != ALL:
                here = high
            elif high - here > best[1] - best[0]:
                best = here, high
        return best

    def _default(self, machine: bool) -> int:
        """What is allowed where no region matches."""
        if not machine or self._whitelist:
            return 0
        return READ | WRITE if self._mml else ALL

    def allows(self, pa: int, size: int, access: int, priv: int) -> bool:
        machine = priv == st.M
        for each in self.regions:
            if pa < each.end and pa + size > each.start:
                if not (each.start <= pa and pa + size <= each.end):
                    return False
                return not access & ~(each.machine if machine else each.user)
        return not access & ~self._default(machine)

    def page(self, pa: int, priv: int) -> int:
        """What may be done with every byte of the page at `pa` alike; 0 if its bytes differ."""
        key = (pa >> 12, priv == st.M)
        found = self._pages.get(key)
        if found is None:
            if len(self._pages) > 4096:
                self._pages.clear()
            found = self._pages[key] = self._page(pa & -_PAGE, priv == st.M)
        return found

    def _page(self, pa: int, machine: bool) -> int:
        for each in self.regions:
            if pa < each.end and pa + _PAGE > each.start:
                if not (each.start <= pa and pa + _PAGE <= each.end):
                    return 0
                return each.machine if machine else each.user
        return self._default(machine)
