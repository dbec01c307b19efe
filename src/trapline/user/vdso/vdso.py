"""The vDSO's kernel side: its image, its data page, and the line through the time-stamp counter.

The image and the data page are frames of the kernel's own, mapped read-only into every program: first [vvar], then
[vdso]. The page says "ask the kernel" until the counter's rate is known, which takes a few milliseconds and nobody waits for;
afterwards CLOCK_MONOTONIC is base + (counter - start) * rate, re-measured about once a second.

Invariants:
- what user code reads never goes back: a line that turns out to be ahead of the clock is slowed down, never set back;
- `seq` is odd while the page changes;
- a machine without `rdtsc`, a virtual clock, or an unsteady counter leave the page at "ask the kernel".
"""

from __future__ import annotations

import os
import struct
from trapline.typed import TYPE_CHECKING

from trapline.abi.mman import PROT_EXEC, PROT_READ
from trapline.abi.time import (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE,
    CLOCK_TAI,
)
from trapline.kernel.mm import mapping
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.core import Kernel
    from trapline.kernel.mm.address_space import AddressSpace

RATE_SHIFT = 64  #: as in vdso.c
NSEC = 10**9
#: pauses between measurements: each makes the rate precise enough for the next, longer one
INTERVALS_NS = (5_000_000, 10_000_000, 50_000_000, 200_000_000, 1_000_000_000)
RETRY_NS = 1_000_000
WIDEST_SAMPLE_NS = 2_000  #: a reading of clock and counter that took longer was interrupted
WORST_ERROR_NS = 1_000_000  #: a line that is off by more is given up
OFFSET_NOISE_NS = 1_000  #: smaller differences between two clocks are noise of measuring
# words of the data page (struct vvar in vdso.c)
HEAD, COUNTER, RATE, BASES = range(4)
CLOCKS = 12
VERSION = 1
#: the note (elf(5)) of an image that was compiled for this page: version, size in bytes, clocks, offset of the first
FITS = struct.pack("<3I12s4I", 9, 16, 1, b"Trapline", VERSION, 8 * (BASES + 2 * CLOCKS + 1), CLOCKS, 8 * BASES)

_MONOTONIC_KIN = (CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE)


class Line:
    """CLOCK_MONOTONIC as a line through the counter; `sample` points are (counter, ns)."""

    __slots__ = ("base_ns", "counter", "last", "rate")

    def __init__(self, sample: tuple[int, int]) -> None:
        self.last = sample
        self.counter, self.base_ns = sample
        self.rate = 0  #: ns per tick << RATE_SHIFT, less than 64 bits: the counter runs faster than 1 GHz; 0: not known yet

    def at(self, counter: int) -> int:
        return self.base_ns + ((counter - self.counter) * self.rate >> RATE_SHIFT)

    def add(self, sample: tuple[int, int], next_ns: int) -> bool:
        """Bend the line to a new sample, so that it meets the clock `next_ns` later; False if it is not steady."""
        counter, ns = sample
        ticks, elapsed = counter - self.last[0], ns - self.last[1]
        if ticks <= 0 or elapsed <= 0:
            return False
        measured = (elapsed << RATE_SHIFT) // ticks
        ahead = self.at(counter) - ns if self.rate else 0
        if abs(ahead) > WORST_ERROR_NS or measured >> 64:
            return False
        if ahead >= 0 and self.rate:
            self.base_ns = self.at(counter) + 1
            self.rate = measured - measured * min(ahead, next_ns // 2) // next_ns
        else:
            self.base_ns, self.rate = ns, measured
        self.counter = counter
        self.last = sample
        return True


class Vdso:
    """The vDSO of one kernel."""

    def __init__(self, kernel: Kernel, image: bytes | None = None) -> None:
        self.kernel = kernel
        self.sigreturn = 0  #: where in the image signal handlers return to, on an architecture without sa_restorer
        ram = kernel.ram
        if image is None:
            image, self.sigreturn = load_image(kernel.machine.arch.name)
        self.vvar = ram.frames.alloc()
        self.pages: list[int] = []
        for start in range(0, len(image), PAGE_SIZE):
            pfn = ram.frames.alloc()
            part = image[start : start + PAGE_SIZE]
            ram.mem[pfn << PAGE_SHIFT : (pfn << PAGE_SHIFT) + len(part)] = part
            self.pages.append(pfn)
        self._words = ram.words[self.vvar * 512 : (self.vvar + 1) * 512]
        self._seq = 0
        self._round = 0
        self._offsets: dict[int, int] = {}
        self._line: Line | None = None
        self._rdtsc: Callable[[], int] | None = getattr(kernel.machine, "rdtsc", None)
        if self._rdtsc is not None and not kernel.clock.virtual:
            self._start()

    def close(self) -> None:
        """Let go of RAM. The kernel has stopped its timers."""
        self._words.release()

    # ---- mapping

    def map(self, mm: AddressSpace) -> int:
        """Map the data page and the image into `mm`; the image's address, for AT_SYSINFO_EHDR."""
        start = mapping.choose(mm, 0, (1 + len(self.pages)) * PAGE_SIZE, 0)
        mm.map_special(start, [self.vvar], PROT_READ, b"[vvar]")
        return mm.map_special(start + PAGE_SIZE, self.pages, PROT_READ | PROT_EXEC, b"[vdso]")

    # ---- time

    def _start(self) -> None:
        self._line = Line(self._sample()[:2])
        self._round = 0
        self._later(INTERVALS_NS[0])

    def _later(self, delay_ns: int) -> None:
        self.kernel.timers.add(self.kernel.clock.monotonic_ns() + delay_ns, self.update)

    def _sample(self) -> tuple[int, int, int]:
        """The narrowest of a few readings: (counter, ns, ticks the reading took)."""
        rdtsc, now = self._rdtsc, self.kernel.clock.monotonic_ns
        assert rdtsc is not None
        best = (0, 0, 1 << 62)
        for _ in range(5):
            before = rdtsc()
            ns = now()
            width = rdtsc() - before
            if width < best[2]:
                best = (before + width // 2, ns, width)
        return best

    def update(self) -> None:
        """Measure again, publish the line, and come back later. A timer calls this."""
        line = self._line
        if line is None:
            return
        if not self._round and not self.kernel.clock.counter_is_steady():
            self._line = None
            return
        counter, ns, width = self._sample()
        if line.rate and width * line.rate >> RATE_SHIFT > WIDEST_SAMPLE_NS:
            self._later(RETRY_NS)
            return
        self._round = min(self._round + 1, len(INTERVALS_NS) - 1)
        if not line.add((counter, ns), INTERVALS_NS[self._round]):
            self.kernel.log_once("vdso", "vdso: the time-stamp counter is unsteady; measuring again")
            self._publish(None)
            self._start()
            return
        self._measure_offsets()
        self._publish(line)
        self._later(INTERVALS_NS[self._round])

    def clock_was_set(self) -> None:
        """The real-time clock jumped: publish what it shows now."""
        if self._line is not None and self._line.rate:
            self._measure_offsets()
            self._publish(self._line)

    def set_timezone(self, minutes_west: int, dst: int) -> None:
        """What gettimeofday(2) says of the time zone."""
        self._words[BASES + 2 * CLOCKS] = (minutes_west & 0xFFFFFFFF) | (dst & 0xFFFFFFFF) << 32

    def _measure_offsets(self) -> None:
        clocks = self.kernel.clock.by_id()
        now = self.kernel.clock.monotonic_ns
        for clock in (CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_BOOTTIME, CLOCK_TAI):
            before = now()
            other = clocks[clock]()
            offset = other - (before + now()) // 2
            if clock not in self._offsets or abs(offset - self._offsets[clock]) > OFFSET_NOISE_NS:
                self._offsets[clock] = offset
        self._offsets[CLOCK_REALTIME_COARSE] = self._offsets[CLOCK_REALTIME]

    def _publish(self, line: Line | None) -> None:
        words = self._words
        self._seq = self._seq + 1 & 0xFFFFFFFF
        words[HEAD] = self._seq  # odd: readers ask the kernel meanwhile
        clocks = 0
        if line is not None:
            words[COUNTER], words[RATE] = line.counter, line.rate
            for clock in (*_MONOTONIC_KIN, *self._offsets):
                sec, nsec = divmod(line.base_ns + self._offsets.get(clock, 0), NSEC)
                words[BASES + 2 * clock], words[BASES + 2 * clock + 1] = sec & (1 << 64) - 1, nsec
                clocks |= 1 << clock
        self._seq = self._seq + 1 & 0xFFFFFFFF
        words[HEAD] = clocks << 32 | self._seq


def load_image(arch: str) -> tuple[bytes, int]:
    """(the vDSO's ELF image, where in it handlers return to or 0).

    FileNotFoundError: the package was built without it. NoMachine: it was compiled from another version of its source.
    """
    if arch == "riscv64":
        from trapline.user.vdso.riscv64 import SIGRETURN, build

        built, symbols = build()
        return built, symbols[SIGRETURN]
    with open(os.path.join(os.path.dirname(__file__), f"vdso-{arch}.so"), "rb") as file:
        image = file.read()
    if FITS not in image:
        from trapline.machine.host.errors import stale
        from trapline.machine.select import NoMachine

        raise NoMachine(f"machine host: {stale('the vDSO')}")
    return image, 0
