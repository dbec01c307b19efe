"""GoldfishRtc: a clock of nanoseconds since 1970 with an alarm, as the Android emulator's, which QEMU's `virt` has too.

    0x00, 0x04  time, low and high (reading low keeps high until it is read; writing low sets both)
    0x08, 0x0c  alarm, low and high (writing low arms it)           0x10  interrupt enable
    0x14        disarm          0x18  whether it is armed           0x1c  acknowledge the interrupt
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.machine.riscv.bus import BusError
from trapline.machine.riscv.devices.registers import words
from trapline.machine.riscv.devices.saved import State, flag, pack, unpack, whole
from trapline.machine.riscv.harts import Harts

TIME_LOW, TIME_HIGH, ALARM_LOW, ALARM_HIGH, IRQ_ENABLED, CLEAR_ALARM, ALARM_STATUS, CLEAR_INTERRUPT = range(0, 32, 4)
TICK_NS = 100  #: a tick of the harts' clock
_SAVED = {
    "_start_ns": whole(1 << 80, -1 << 80), "_kept_high": whole(0xFFFF_FFFF), "_time_high": whole(0xFFFF_FFFF),
    "_alarm": whole(), "_alarm_high": whole(0xFFFF_FFFF), "_armed": flag, "_enabled": flag, "_pending": flag,
}  # fmt: skip
_LOW, _MASK = 0xFFFF_FFFF, (1 << 64) - 1


class GoldfishRtc:
    """`now_ns`: the time when the harts' clock stands at zero. `line(bool)` is the interrupt wire."""

    size = 0x1000

    def __init__(self, harts: Harts, now_ns: int, line: Callable[[bool], None]) -> None:
        self._harts = harts
        self._start_ns = now_ns
        self._line = line
        harts.deadlines.append(self._deadline)
        harts.advance.append(self.update)
        self.reset()

    def reset(self) -> None:
        """The time goes on; the alarm is off."""
        self._kept_high = self._time_high = 0
        self._alarm = self._alarm_high = 0
        self._armed = self._enabled = self._pending = False
        self._line(False)

    def state(self) -> State:
        return pack(self, _SAVED)

    def load(self, state: State) -> None:
        unpack(self, _SAVED, state)

    def _now_ns(self) -> int:
        return self._start_ns + self._harts.now() * TICK_NS & _MASK

    def _deadline(self) -> int | None:
        """The tick of the harts' clock at which the alarm goes off."""
        if not self._armed:
            return None
        ahead = self._alarm - self._now_ns()
        return self._harts.now() + max(1, -(-ahead // TICK_NS))

    def update(self) -> None:
        """Look whether the alarm has gone off."""
        if self._armed and self._now_ns() >= self._alarm:
            self._armed, self._pending = False, True
            self._drive()

    def _drive(self) -> None:
        self._line(self._pending and self._enabled)

    def read(self, offset: int, size: int) -> int:
        words(offset, size)
        if offset == TIME_LOW:
            now = self._now_ns()
            self._kept_high = now >> 32
            return now & _LOW
        if offset == TIME_HIGH:
            return self._kept_high
        if offset == ALARM_LOW:
            return self._alarm & _LOW
        if offset == ALARM_HIGH:
            return self._alarm >> 32
        if offset == IRQ_ENABLED:
            return int(self._enabled)
        if offset == ALARM_STATUS:
            return int(self._armed)
        return self._absent(offset)

    def write(self, offset: int, size: int, value: int) -> None:
        words(offset, size)
        if offset == TIME_LOW:
            self._start_ns = (self._time_high << 32 | value) - self._harts.now() * TICK_NS
            self.update()
        elif offset == TIME_HIGH:
            self._time_high = value
        elif offset == ALARM_LOW:
            self._alarm, self._armed = self._alarm_high << 32 | value, True
            self.update()
        elif offset == ALARM_HIGH:
            self._alarm_high = value
        elif offset == IRQ_ENABLED:
            self._enabled = bool(value & 1)
            self._drive()
        elif offset == CLEAR_ALARM:
            self._armed = False
        elif offset == CLEAR_INTERRUPT:
            self._pending = False
            self._drive()
        elif offset != ALARM_STATUS:
            self._absent(offset)

    @staticmethod
    def _absent(offset: int) -> int:
        if offset > CLEAR_INTERRUPT:
            raise BusError(f"no register at offset {offset:#x}: the clock has eight")
        return 0
