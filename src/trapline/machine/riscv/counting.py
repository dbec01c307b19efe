"""A machine whose TLB is all there is: each load and store is looked up in it, so that its hits and misses are a real one's.

The other tiers keep what was used last in arrays in front of the TLB, which are faster, larger than any TLB, and count
nothing. Here these stay empty. Instructions are fetched from decoded pages as ever: the counts are those of a data TLB.
A program runs some thirty times slower than in the native tiers.
"""

from __future__ import annotations

from trapline.machine.ram import Ram
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.machine import RiscvMachine, host_ticks
from trapline.machine.riscv.tlb import Tlb


class CountingHart(Hart):
    """The reference hart, without innermost arrays for data."""

    __slots__ = ()

    counts_every_access = True

    def load(self, address: int, size: int, *, signed: bool = False) -> int:
        value = self.load_slowly(address & (1 << 64) - 1, size)
        return self.sx(value, 8 * size) if signed else value

    def store(self, address: int, size: int, value: int) -> None:
        self.store_slowly(address & (1 << 64) - 1, size, value)

    def remember(self, va: int, pa: int, access: int) -> None:
        """Nothing is: the next access asks the TLB again."""


class CountingMachine(RiscvMachine):
    """`sets` times `ways` entries for each hart."""

    def __init__(self, ram: Ram, cpus: int = 1, *, sets: int = 64, ways: int = 8) -> None:
        self._geometry = sets, ways
        super().__init__(ram, cpus)

    def make_hart(self, hartid: int) -> Hart:
        tlb = Tlb(*self._geometry)
        return CountingHart(self.bus, self.code, hartid=hartid, time=host_ticks, hosted=True, tlb=tlb)

    def tier(self) -> str:
        return f"reference tier, each load and store looked up in a TLB of {self._geometry[0]} sets of {self._geometry[1]}"


def geometry(text: str) -> tuple[int, int]:
    """SETSxWAYS. Raises ValueError, which says what is wrong."""
    sets, cross, ways = text.partition("x")
    if not (cross and sets.isascii() and sets.isdigit() and ways.isascii() and ways.isdigit()) or len(text) > 12:
        raise ValueError(f"{text}: write SETSxWAYS, for example 16x4")
    Tlb(int(sets), int(ways))
    return int(sets), int(ways)
