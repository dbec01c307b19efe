"""A hart that runs while others do, on a thread of the host's; and the tiers of such a machine, a set for each hart.

In a nutshell: the hart holds the machine's lock except in native code, which runs without Python's as well. Native code shares
nothing between harts but guest memory: code pages, baseline code and regions are each hart's own, so nobody changes code that
another executes, and fence.i is the hart's own affair as the manual has it.

What other threads write of a hart's words is LINES, its interrupt lines, and KICK: leave native code and look around. They
hold the lock; native code reads both, and KICK is cleared only where interrupts are looked at next.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import partial
from trapline.typed import TYPE_CHECKING, Any, Protocol

from trapline.machine.riscv import layout
from trapline.machine.riscv import status as st
from trapline.machine.riscv.harts import PER_TICK
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.baseline import BASELINE_BYTES
from trapline.machine.riscv.jit.cache import Cache
from trapline.machine.riscv.jit.compiler import Compiler
from trapline.machine.riscv.jit.native import NativeHart
from trapline.machine.riscv.jit.tiers import LADDER, Tiers
from trapline.machine.riscv.jit.turnlock import TurnLock

if TYPE_CHECKING:
    from trapline.machine.ram import Ram

BASELINE_TOGETHER = 2 * BASELINE_BYTES  #: room for baseline code that the harts share out
SHORT = 2000  #: instructions of the reference tier before others may have the lock
_NEVER = 0
_libc = ctypes.CDLL(None)
_clock, _yield = (ctypes.cast(each, ctypes.c_void_p).value or 0 for each in (_libc.clock_gettime, _libc.sched_yield))


class Crew(Protocol):
    """All harts of a machine."""

    lock: TurnLock

    def tell(self) -> None:
        """Interrupt lines may have risen: wake the harts that do not know."""


class ThreadedHart(NativeHart):
    """One of a `crew`."""

    __slots__ = ("_crew", "_known", "_swap", "bell")

    posts_stores = False  #: somebody else may use the device at any time

    def __init__(self, *args: Any, crew: Crew, tiers: Tiers, swap: dict[int, Callable[..., int]], **kwargs: Any) -> None:
        super().__init__(*args, tiers=tiers, **kwargs)
        self._crew = crew
        self._swap = swap
        self._known = 0  # of its interrupt lines, those it has been told of
        self.bell = threading.Lock()  #: waited for by the sleeping hart
        self.bell.acquire()
        self.cpu[at.CLOCK_WORD] = _clock
        self.cpu[at.YIELD_WORD] = _yield
        self._native = self._beside = partial(_without, crew.lock, self._beside)

    # ---- what others do to it, with the lock held

    def kick(self) -> None:
        """Let it look around."""
        self.cpu[at.KICK_WORD] = 1
        if self.bell.locked():
            self.bell.release()

    def told(self) -> None:
        """Kick it if interrupt lines have risen."""
        lines = self.cpu[layout.LINES]
        if lines & ~self._known:
            self.kick()
        self._known = lines

    # ---- interrupts and time

    def _interrupted(self) -> bool:
        self.cpu[at.KICK_WORD] = 0
        self.cpu[at.ALARM_WORD] = self.alarm_ns()
        return super()._interrupted()

    def alarm_ns(self) -> int:
        """When the next of its own timers fires, in ns of the machine's time; 0: none will, or all have."""
        cpu = self.cpu
        if not cpu[layout.MENVCFG] & st.STCE:
            return _NEVER
        now = self.now()
        ticks = [cpu[layout.STIMECMP]]
        if cpu[layout.HENVCFG] & st.STCE:
            ticks.append(cpu[layout.VSTIMECMP] - cpu[layout.HTIMEDELTA] & st.MASK)
        tick = min((each for each in ticks if now < each < st.MASK // PER_TICK), default=0)
        return tick * PER_TICK

    # ---- running

    def _execute(self) -> None:
        if self.watched or self.cpu[layout.LANDING] or self.debug is not None:
            beyond = self.budget - SHORT
            if beyond > 0:  # the reference tier executes: end the run soon
                self.budget -= beyond
                self.granted -= beyond
        try:
            super()._execute()
        finally:
            self._crew.tell()

    def _step(self, left: int) -> bool:
        try:
            return super()._step(left)
        finally:
            self._crew.tell()  # it may have been a device that raised somebody's line

    def exchange(self, pa: int, size: int, old: int, new: int) -> bool:
        mask = (1 << 8 * size) - 1
        where = self.tiers.ram_address + pa - self.bus.ram_base
        return self._swap[size](where, old & mask, new & mask) == old & mask


def _without(lock: TurnLock, native: Callable[[], None]) -> None:
    """Let others have the lock while native code runs."""
    lock.release()
    native()
    lock.acquire()


class ThreadTiers:
    """The tiers of all harts. `background`, `hot`, `warm`, `cache`: as of `Tiers`."""

    def __init__(
        self, ram: Ram, count: int, *, background: bool = True, hot: int = at.HOT, warm: int = at.WARM,
        cache: Cache | None = None,
    ) -> None:  # fmt: skip
        compiler = Compiler(cache, shared=True)
        room = min(BASELINE_BYTES, BASELINE_TOGETHER // count)
        make = partial(Tiers, ram, background=background, hot=hot, warm=warm, compiler=compiler, baseline_bytes=room)
        self.each = [make() for _ in range(count)]
        addresses = compiler.load(compiler.interpreter(), "swap_4", "swap_8")
        kinds = ctypes.c_uint32, ctypes.c_uint64
        self._swap: dict[int, Callable[..., int]] = {
            ctypes.sizeof(kind): ctypes.PYFUNCTYPE(kind, ctypes.c_void_p, kind, kind)(address)
            for kind, address in zip(kinds, addresses, strict=True)
        }
        self._word = ctypes.c_uint32()

    def make(self, *args: Any, hartid: int, crew: Crew, **kwargs: Any) -> ThreadedHart:
        """A hart of a crew; each number once."""
        return ThreadedHart(*args, hartid=hartid, crew=crew, tiers=self.each[hartid], swap=self._swap, **kwargs)

    def fence(self) -> None:
        """Order what this thread has stored before what it loads from now on."""
        self._swap[4](ctypes.addressof(self._word), 0, 0)

    def summary(self) -> str:
        """What was made of warm and hot code, in words."""
        return "; ".join(f"hart {n}: {each.summary()}" for n, each in enumerate(self.each))

    def account(self) -> str:
        """Why native code was left, and for which instructions, in words."""
        return "\n".join(f"hart {n}: {line}" for n, each in enumerate(self.each) for line in each.account().splitlines())

    def close(self) -> None:
        """End the compilers' threads. Idempotent."""
        for each in self.each:
            each.close()


def thread_tiers(ram: Ram, count: int, tier: str = "native") -> ThreadTiers:
    """Up to `tier`, a name of tiers.LADDER."""
    hot, warm = LADDER[tier]
    return ThreadTiers(ram, count, hot=hot, warm=warm)
