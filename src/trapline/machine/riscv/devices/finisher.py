"""Finisher: a word to write to when the program is done (as SiFive's test device): pass, fail with a code, or reset."""

from __future__ import annotations

from trapline.machine.riscv.bus import Halt
from trapline.machine.riscv.devices.registers import words

PASS, FAIL, RESET = 0x5555, 0x3333, 0x7777
REBOOT = 1 << 16  #: Halt.status of a reset; otherwise it is the exit status


class Finisher:
    """Ends the machine."""

    size = 0x1000

    def read(self, offset: int, size: int) -> int:
        words(offset, size)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if (offset, size) != (0, 2):  # firmware writes half-words, too
            words(offset, size)
        if offset:
            return
        kind, code = value & 0xFFFF, value >> 16
        if kind == PASS:
            raise Halt(0)
        if kind == FAIL:
            raise Halt(code & 0xFF or 1)
        if kind == RESET:
            raise Halt(REBOOT)
