"""Plic: the platform-level interrupt controller (RISC-V Platform-Level Interrupt Controller Specification).

    0x000000 + 4 s        priority of source s            0x002000 + 0x80 c + 4 w   enables of context c, 32 sources a word
    0x001000 + 4 w        pending, 32 sources a word      0x200000 + 0x1000 c       threshold; + 4: claim and complete

Context 2 n is hart n's M-mode, 2 n + 1 its S-mode. Sources are level-triggered: `raise_line` and `lower_line` are the wires. A
gateway forwards one request at a time: a source that is claimed is not pending again before it is completed.
"""

from __future__ import annotations

from trapline.machine.riscv import layout as at
from trapline.machine.riscv.devices.registers import words
from trapline.machine.riscv.devices.saved import Kind, State, pack, unpack, whole, wholes
from trapline.machine.riscv.harts import Harts
from trapline.machine.riscv.trap import MEI, SEI

SOURCES = 96  #: 1 to 95; 0 means none
PRIORITIES = 7
_PENDING, _ENABLE, _CONTEXT = 0x1000, 0x2000, 0x20_0000


class Plic:
    """Drives the external-interrupt lines of `harts`."""

    quiet = True
    size = 0x60_0000

    def __init__(self, harts: Harts) -> None:
        self._harts = harts
        self._contexts = 2 * len(harts.each)
        self._lines = 0  #: sources whose wire is high
        self.reset()

    def reset(self) -> None:
        """Nothing is enabled, pending or claimed; the wires are as they are."""
        self._priority = [0] * SOURCES
        self._pending = self._claimed = 0
        self._enabled = [0] * self._contexts
        self._threshold = [0] * self._contexts
        self._forward()

    def state(self) -> State:
        return pack(self, self._saved())

    def load(self, state: State) -> None:
        unpack(self, self._saved(), state)

    def _saved(self) -> dict[str, Kind]:
        sources = (1 << SOURCES) - 1
        return {
            "_lines": whole(sources), "_pending": whole(sources), "_claimed": whole(sources),
            "_priority": wholes(SOURCES, PRIORITIES), "_enabled": wholes(self._contexts, sources),
            "_threshold": wholes(self._contexts, PRIORITIES),
        }  # fmt: skip

    # ---- the wires

    def raise_line(self, source: int) -> None:
        if not self._lines >> source & 1:  # else it is pending or claimed
            self._lines |= 1 << source
            self._forward()

    def lower_line(self, source: int) -> None:
        self._lines &= ~(1 << source)

    def _forward(self) -> None:
        self._pending |= self._lines & ~self._claimed
        self._update()

    def _best(self, context: int) -> int:
        """The source that a claim would get: the highest priority above the threshold, the lowest number of equal ones."""
        ready = self._pending & self._enabled[context]
        if not ready:
            return 0
        best, level = 0, self._threshold[context]
        while ready:
            source = (ready & -ready).bit_length() - 1
            ready &= ready - 1
            if self._priority[source] > level:
                best, level = source, self._priority[source]
        return best

    def _update(self) -> None:
        for n, hart in enumerate(self._harts.each):
            lines = hart.cpu[at.LINES] & ~(1 << MEI | 1 << SEI)
            lines |= (self._best(2 * n) != 0) << MEI | (self._best(2 * n + 1) != 0) << SEI
            hart.cpu[at.LINES] = lines

    # ---- the registers

    def read(self, offset: int, size: int) -> int:
        words(offset, size)
        if offset < 4 * SOURCES:
            return self._priority[offset >> 2]
        if _PENDING <= offset < _PENDING + SOURCES // 8:
            return self._pending >> 8 * (offset - _PENDING) & 0xFFFF_FFFF
        context, register = divmod(offset - _ENABLE, 0x80)
        if offset >= _ENABLE and context < self._contexts and register < SOURCES // 8:
            return self._enabled[context] >> 8 * register & 0xFFFF_FFFF
        context, register = divmod(offset - _CONTEXT, 0x1000)
        if offset >= _CONTEXT and context < self._contexts:
            if register == 0:
                return self._threshold[context]
            if register == 4:
                return self._claim(context)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        words(offset, size)
        if 0 < offset < 4 * SOURCES:
            self._priority[offset >> 2] = value & PRIORITIES
        context, register = divmod(offset - _ENABLE, 0x80)
        if offset >= _ENABLE and context < self._contexts and register < SOURCES // 8:
            keep = self._enabled[context] & ~(0xFFFF_FFFF << 8 * register)
            self._enabled[context] = (keep | value << 8 * register) & ~1
        context, register = divmod(offset - _CONTEXT, 0x1000)
        if offset >= _CONTEXT and context < self._contexts:
            if register == 0:
                self._threshold[context] = value & PRIORITIES
            elif register == 4 and 0 < value < SOURCES and self._enabled[context] >> value & 1:
                self._claimed &= ~(1 << value)
                self._pending |= self._lines & 1 << value
        self._update()

    def _claim(self, context: int) -> int:
        source = self._best(context)
        if source:
            self._pending &= ~(1 << source)
            self._claimed |= 1 << source
            self._update()
        return source
