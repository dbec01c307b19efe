"""Aclint: machine timer and software interrupts of every hart (RISC-V ACLINT: MTIMER, MSWI), laid out as a CLINT.

    0x0000 + 4 n  msip of hart n          0x4000 + 8 n  mtimecmp of hart n          0xbff8  mtime
"""

from __future__ import annotations

from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import BusError
from trapline.machine.riscv.devices.registers import merged, part
from trapline.machine.riscv.devices.saved import Kind, State, pack, unpack, whole, wholes
from trapline.machine.riscv.harts import Harts
from trapline.machine.riscv.trap import MSI, MTI

MSIP, MTIMECMP, MTIME = 0x0, 0x4000, 0xBFF8
NEVER = (1 << 64) - 1


class Aclint:
    """Of `harts`, whose clock mtime is. Setting mtime moves it relative to that clock."""

    size = 0xC000

    def __init__(self, harts: Harts) -> None:
        self._harts = harts
        self._compare = [NEVER] * len(harts.each)
        self._offset = 0  #: mtime less the harts' clock
        harts.deadlines.append(self._deadline)
        harts.advance.append(self.update)

    def reset(self) -> None:
        """No timer is set, no software interrupt pending, and mtime starts from zero."""
        self._compare = [NEVER] * len(self._harts.each)
        self._offset = -self._harts.now()
        for hart in self._harts.each:
            hart.cpu[at.LINES] &= ~(1 << MSI)
        self.update()

    def state(self) -> State:
        return pack(self, self._saved())

    def load(self, state: State) -> None:
        unpack(self, self._saved(), state)

    def _saved(self) -> dict[str, Kind]:
        return {"_compare": wholes(len(self._compare)), "_offset": whole(1 << 70, -1 << 70)}

    def _mtime(self) -> int:
        return self._harts.now() + self._offset & NEVER

    def _deadline(self) -> int | None:
        """The next tick of the harts' clock at which some timer fires."""
        now = self._mtime()
        ahead = [each - now for each in self._compare if now < each < NEVER]
        return self._harts.now() + min(ahead) if ahead else None

    def update(self) -> None:
        """Set or clear every timer's line."""
        now = self._mtime()
        for hart, compare in zip(self._harts.each, self._compare, strict=True):
            lines = hart.cpu[at.LINES] & ~(1 << MTI)
            hart.cpu[at.LINES] = lines | (now >= compare) << MTI

    def read(self, offset: int, size: int) -> int:
        count = len(self._compare)
        if offset < 4 * count and size == 4:
            return self._harts.each[offset >> 2].cpu[at.LINES] >> MSI & 1
        if MTIMECMP <= offset < MTIMECMP + 8 * count:
            return part(self._compare[offset - MTIMECMP >> 3], offset & 7, size)
        if MTIME <= offset < MTIME + 8:
            return part(self._mtime(), offset & 7, size)
        return self._absent(offset)

    def write(self, offset: int, size: int, value: int) -> None:
        count = len(self._compare)
        if offset < 4 * count and size == 4:
            cpu = self._harts.each[offset >> 2].cpu
            cpu[at.LINES] = cpu[at.LINES] & ~(1 << MSI) | (value & 1) << MSI
        elif MTIMECMP <= offset < MTIMECMP + 8 * count:
            n = offset - MTIMECMP >> 3
            self._compare[n] = merged(self._compare[n], offset & 7, size, value)
            self.update()
        elif MTIME <= offset < MTIME + 8:
            wanted = merged(self._mtime(), offset & 7, size, value)
            self._offset = wanted - self._harts.now()
            self.update()
        else:
            self._absent(offset)

    def _absent(self, offset: int) -> int:
        """Places of harts that are not there read as zero and ignore writes; the rest of the range does not exist."""
        if offset >= MTIME + 8:
            raise BusError(f"no register at offset {offset:#x}")
        return 0
