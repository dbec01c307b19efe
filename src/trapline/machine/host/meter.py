"""How long stays in user mode take, by the time-stamp counter, which the stub reads when it leaves and enters user code.

What the stub writes, user code can write as well: stamps that make no sense are no stamps, and none is ever more than a number.
A stay includes what the host's kernel does between user code and the stub: delivering a signal, and returning from it.
"""

from __future__ import annotations

import time
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import Stay
from trapline.machine.host import _ring

if TYPE_CHECKING:
    from trapline.machine.host.contexts import Slot

CALIBRATION_NS = 3_000_000


def ticks_per_ns() -> float:
    """The rate of the time-stamp counter against CLOCK_MONOTONIC. Takes CALIBRATION_NS."""
    ticks, start_ns = _ring.rdtsc(), time.monotonic_ns()
    while (now_ns := time.monotonic_ns()) < start_ns + CALIBRATION_NS:
        pass
    return (_ring.rdtsc() - ticks) / (now_ns - start_ns)


def stay(slot: Slot, rate: float) -> Stay | None:
    """What the slot's stamps say; they are taken."""
    left, entered = slot.stamps
    slot.stamps[1] = 0
    now = _ring.rdtsc()
    if not 0 < entered <= left or left > now + rate * 1000:
        return None
    return Stay(max(int((now - left) / rate), 0), int((left - entered) / rate), -1, left - entered)
