"""A hypervisor's loads and stores that are made as if by its guest: hlv, hlvx, hsv (volume II, "Hypervisor Virtual-Machine Load
and Store Instructions").

They are the slow path of every other access, with the translation lent by the guest (twostage.py): hstatus.SPVP says which
of its modes. Nothing of them goes into the innermost arrays.
"""

from __future__ import annotations

from trapline.machine.riscv.access import Access
from trapline.machine.riscv.twostage import LENT, LENT_EXECUTABLE, OWN


class Lending(Access):
    """Part of the hart."""

    __slots__ = ()

    def lent_load(self, address: int, size: int, *, executable: bool) -> int:
        """executable: the page must be, instead of readable (hlvx)."""
        self.lent = LENT_EXECUTABLE if executable else LENT
        try:
            return self.load_slowly(address, size)
        finally:
            self.lent = OWN

    def lent_store(self, address: int, size: int, value: int) -> None:
        self.lent = LENT
        try:
            self.store_slowly(address, size, value)
        finally:
            self.lent = OWN
