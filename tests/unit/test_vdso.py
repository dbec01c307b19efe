"""The vDSO: its image as a loader sees it, its code against the host's clocks, and the line through the counter."""

from __future__ import annotations

import ctypes
import mmap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trapline.abi.time import CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME
from trapline.kernel.drivers.hostclock import Clock, VirtualClock
from trapline.kernel.sync.timers import Timers
from trapline.machine.ram import Ram
from trapline.machine.select import NoMachine
from trapline.user.vdso import vdso as module
from trapline.user.vdso.vdso import BASES, CLOCKS, COUNTER, INTERVALS_NS, RATE, RATE_SHIFT, Line, Vdso

IMAGE = Path(module.__file__).with_name("vdso-x86_64.so")
needs_image = pytest.mark.skipif(not IMAGE.exists(), reason="the native parts are not built")
NAMES = ("clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu")


def symbols(image: bytes) -> dict[str, int]:
    """The dynamic symbols of the image, by the tables its program headers lead to."""
    headers = [image[64 + 56 * i : 120 + 56 * i] for i in range(int.from_bytes(image[56:58], "little"))]
    dynamic = next(h for h in headers if h[:4] == b"\2\0\0\0")
    at = int.from_bytes(dynamic[8:16], "little")
    tags: dict[int, int] = {}
    while (tag := int.from_bytes(image[at : at + 8], "little")) != 0:
        tags[tag] = int.from_bytes(image[at + 8 : at + 16], "little")
        at += 16
    count = int.from_bytes(image[tags[4] + 4 : tags[4] + 8], "little")
    found = {}
    for i in range(1, count):
        symbol = image[tags[6] + 24 * i : tags[6] + 24 * i + 24]
        name = tags[5] + int.from_bytes(symbol[:4], "little")
        found[image[name : image.index(b"\0", name)].decode()] = int.from_bytes(symbol[8:16], "little")
    return found


class NativeVdso:
    """The image mapped as the kernel maps it: a data page, then the code."""

    def __init__(self, image: bytes) -> None:
        self.map = mmap.mmap(-1, 8192, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.map[4096 : 4096 + len(image)] = image
        self.words = memoryview(self.map).cast("Q")[:512]
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map)) + 4096
        self.symbols = symbols(image)

    def clock(self, clock_id: int) -> int:
        result = (ctypes.c_int64 * 2)()
        function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(self.base + self.symbols["__vdso_clock_gettime"])
        assert function(clock_id, ctypes.addressof(result)) == 0
        return result[0] * 10**9 + result[1]


def set_base(native: NativeVdso, clock: int, sec: int, nsec: int) -> None:
    native.words[BASES + 2 * clock], native.words[BASES + 2 * clock + 1] = sec, nsec


def fake_kernel(clock: Any, rdtsc: Any) -> Any:
    ram = Ram(8 << 20)
    machine = SimpleNamespace(rdtsc=rdtsc) if rdtsc else SimpleNamespace()
    return SimpleNamespace(ram=ram, machine=machine, clock=clock, timers=Timers(), log_once=lambda key, text: None)


@needs_image
def test_the_image_exports_the_names_of_the_manual_page() -> None:
    image = IMAGE.read_bytes()
    assert {f"__vdso_{name}" for name in NAMES} | set(NAMES) <= set(symbols(image))
    assert b"linux-vdso.so.1\0" in image and b"LINUX_2.6\0" in image
    assert len(image) <= 4096 and ctypes.CDLL(str(IMAGE)).__vdso_clock_getres


@needs_image
def test_an_image_compiled_from_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "vdso.py"))
    image = IMAGE.read_bytes()
    copy = tmp_path / IMAGE.name
    copy.write_bytes(image)
    assert module.load_image("x86_64") == (image, 0)
    at = image.index(module.FITS) + len(module.FITS)
    for word in range(at - 16, at, 4):
        copy.write_bytes(image[:word] + b"\xff" + image[word + 1 :])
        with pytest.raises(NoMachine, match=r"the vDSO on disk was compiled from another version; rebuild it"):
            module.load_image("x86_64")


@needs_image
def test_an_empty_page_asks_the_kernel() -> None:
    native = NativeVdso(IMAGE.read_bytes())
    for clock_id in (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, 2):
        before = time.clock_gettime_ns(clock_id)
        assert before <= native.clock(clock_id) <= time.clock_gettime_ns(clock_id)
    native.words[0] = 1 | 0xFFF << 32  # an update never ends: odd
    assert time.monotonic_ns() <= native.clock(1) <= time.monotonic_ns()


@needs_image
def test_the_page_is_a_line_through_the_counter() -> None:
    native = NativeVdso(IMAGE.read_bytes())
    native.words[COUNTER], native.words[RATE] = 1 << 63, 0
    set_base(native, CLOCK_MONOTONIC, 0, 1500)
    set_base(native, CLOCK_BOOTTIME, 7, 999_999_999)
    native.words[0] = 2 | (1 << 1 | 1 << 7) << 32
    assert native.clock(CLOCK_MONOTONIC) == 1500 and native.clock(CLOCK_BOOTTIME) == 7_999_999_999


@needs_image
@pytest.mark.parametrize("elapsed_ns", [0, 999_999_999, 10**9, 5 * 10**9 + 3])
def test_nanoseconds_carry_into_seconds(elapsed_ns: int) -> None:
    """However long the page was not renewed."""
    ring = pytest.importorskip("trapline.machine.host._ring")
    native = NativeVdso(IMAGE.read_bytes())
    native.words[COUNTER], native.words[RATE] = ring.rdtsc() - 2 * elapsed_ns, 1 << (RATE_SHIFT - 1)
    set_base(native, CLOCK_MONOTONIC, 3, 999_999_999)
    native.words[0] = 2 | 1 << 1 << 32
    passed = native.clock(CLOCK_MONOTONIC) - 3_999_999_999 - elapsed_ns
    assert 0 <= passed < 10**8


@needs_image
def test_measured_on_this_computer_it_agrees_with_the_host() -> None:
    ring = pytest.importorskip("trapline.machine.host._ring")
    if not hasattr(ring, "rdtsc") or not Clock().counter_is_steady():
        pytest.skip("no steady counter")
    kernel = fake_kernel(Clock(), ring.rdtsc)
    vdso = Vdso(kernel, IMAGE.read_bytes())
    native = NativeVdso(IMAGE.read_bytes())
    deadline = time.monotonic_ns() + 5 * 10**9
    while not kernel.ram.words[vdso.vvar * 512] >> 32 and time.monotonic_ns() < deadline:
        kernel.timers.run_due(time.monotonic_ns())
    native.words[:] = kernel.ram.words[vdso.vvar * 512 : (vdso.vvar + 1) * 512]
    assert native.words[0] >> 32, "published"
    errors = []
    for _ in range(50):
        before = time.monotonic_ns()
        here = native.clock(CLOCK_MONOTONIC)
        errors.append(max(before - here, here - time.monotonic_ns(), 0))
    assert sorted(errors)[25] < 10_000
    assert abs(native.clock(CLOCK_REALTIME) - time.time_ns()) < 10**8


def test_without_a_steady_counter_the_page_stays_empty() -> None:
    for clock, rdtsc in ((VirtualClock(), lambda: 1), (Clock(), None)):
        kernel = fake_kernel(clock, rdtsc)
        vdso = Vdso(kernel, b"image")
        vdso.update()
        assert not any(kernel.ram.words[vdso.vvar * 512 : vdso.vvar * 512 + 512])
        assert kernel.timers.next_deadline_ns() is None


def test_a_line_never_goes_back_and_meets_the_clock() -> None:
    """A counter of 2 GHz, and a clock that is slewed and read with some noise."""
    line = Line((1000, 0))
    ns, shown = 0, 0
    for i, interval in enumerate((*INTERVALS_NS, *[INTERVALS_NS[-1]] * 20)):
        ns += interval
        counter = 1000 + ns * 2
        noise = (-40, 60, 0, 90, -70)[i % 5]
        slewed = ns + ns // 100_000 + noise
        before = line.at(counter) if line.rate else 0
        assert line.add((counter, slewed), INTERVALS_NS[min(i + 1, 4)])
        assert line.at(counter) >= before >= shown
        shown = line.at(counter)
        assert abs(shown - slewed) < 10_000, (i, shown - slewed)


def test_a_line_gives_up_on_a_counter_that_jumps() -> None:
    line = Line((0, 0))
    assert line.add((10_000_000, 5_000_000), 10_000_000) and line.rate == 1 << (RATE_SHIFT - 1)
    assert not line.add((9_000_000, 6_000_000), 10_000_000), "backwards"
    assert not line.add((80_000_000, 6_000_000), 10_000_000), "too fast"


def test_an_unsteady_counter_empties_the_page_and_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    clock.virtual = False  # type: ignore[misc]
    monkeypatch.setattr(VirtualClock, "counter_is_steady", lambda self: True)
    ticks = {"offset": 0}
    kernel = fake_kernel(clock, lambda: clock.now_ns * 3 + ticks["offset"])
    vdso = Vdso(kernel, b"image")
    head = lambda: kernel.ram.words[vdso.vvar * 512]  # noqa: E731

    def pass_interval() -> None:
        clock.advance(kernel.timers.next_deadline_ns() - clock.now_ns)
        kernel.timers.run_due(clock.now_ns)

    pass_interval()
    assert head() >> 32 == 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 11 and not head() & 1
    ticks["offset"] = 10**12
    pass_interval()
    assert head() >> 32 == 0 and not head() & 1
    pass_interval()
    assert head() >> 32


def test_a_clock_that_is_set_is_published_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    clock.virtual = False  # type: ignore[misc]
    monkeypatch.setattr(VirtualClock, "counter_is_steady", lambda self: True)
    kernel = fake_kernel(clock, lambda: clock.now_ns * 3)
    vdso = Vdso(kernel, b"image")
    words = kernel.ram.words[vdso.vvar * 512 : (vdso.vvar + 1) * 512]
    vdso.clock_was_set()
    assert words[0] >> 32 == 0, "nothing is known yet of the counter's rate"
    clock.advance(kernel.timers.next_deadline_ns() - clock.now_ns)
    kernel.timers.run_due(clock.now_ns)
    real, steady = BASES + 2 * CLOCK_REALTIME, BASES + 2 * CLOCK_MONOTONIC
    before = words[real], words[steady], words[steady + 1]
    clock.step(-1000 * 10**9)
    vdso.clock_was_set()
    assert (words[real], words[steady], words[steady + 1]) == (before[0] - 1000, *before[1:]) and not words[0] & 1
    vdso.set_timezone(-60, 1)
    assert words[BASES + 2 * CLOCKS] == 0xFFFFFFC4 | 1 << 32
