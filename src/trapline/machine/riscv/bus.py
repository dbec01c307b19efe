"""Physical memory as the harts see it: RAM at its base address, devices elsewhere, nothing in between.

A device is any object with a `size` and two methods, attached at an address. It sees offsets into its own range, and
naturally aligned accesses of 1, 2, 4 or 8 bytes; whatever it does not implement it says by raising BusError, an access
fault to the hart.

    class Led:
        size = 4
        def read(self, offset: int, size: int) -> int: return self.lit
        def write(self, offset: int, size: int, value: int) -> None: self.lit = value & 1

    bus.attach(0x1000_2000, Led())
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from trapline.typed import Protocol

from trapline.machine.ram import Ram


class BusError(Exception):
    """Nothing answers at this physical address, or not to this kind of access."""


class Halt(Exception):
    """A device ends the machine: raised by its `write`, it leaves `Hart.run`, with the store done and the pc behind it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Attention(Exception):
    """A store to a device is done, and moved interrupts, or may have moved deadlines: the hart's run ends behind it."""


class Held(Exception):
    """A debugger waits for the access that the present instruction is about to make: the hart's run ends before it."""


class Device(Protocol):
    """One that has no deadline may say so by an attribute `quiet`, not zero: then only a store that changes the hart's
    interrupt lines ends its run. Reading a register may lower a line, but not raise one.
    """

    @property
    def size(self) -> int:
        """Bytes of its address range."""

    def read(self, offset: int, size: int) -> int: ...

    def write(self, offset: int, size: int, value: int) -> None: ...


class Bus:
    """The physical address map."""

    def __init__(self, ram: Ram, ram_base: int = 0) -> None:
        self.ram = ram
        self.ram_base = ram_base
        self.ram_end = ram_base + ram.size
        self._whole = {1: ram.mem, 2: ram.mem.cast("H"), 4: ram.words32, 8: ram.words}  #: by size: accesses in one piece
        self.fence: Callable[[], object] = bool  #: orders what Python has stored before what it loads then, if others may look
        self._bases: list[int] = []
        self._devices: list[Device] = []
        self._pages: dict[int, tuple[int, Device] | None] = {}  # what `page` has found

    def attach(self, base: int, device: Device) -> None:
        """Let `device` answer at [base, base + device.size). Raises ValueError if something does already."""
        at = bisect_right(self._bases, base)
        end = base + device.size
        before = at and self._bases[at - 1] + self._devices[at - 1].size > base
        after = at < len(self._bases) and self._bases[at] < end
        if before or after or (base < self.ram_end and end > self.ram_base):
            raise ValueError(f"[{base:#x}, {end:#x}) is taken")
        self._bases.insert(at, base)
        self._devices.insert(at, device)
        self._pages.clear()

    def page(self, pa: int) -> tuple[int, Device] | None:
        """Who alone may answer in the 4 KiB at `pa`, a device, and the offset of `pa` in it, which may be behind its end."""
        if pa not in self._pages:
            at = bisect_right(self._bases, pa) - 1
            alone = at >= 0 and (at + 1 == len(self._bases) or self._bases[at + 1] >= pa + 4096)
            self._pages[pa] = (pa - self._bases[at], self._devices[at]) if alone else None
        return self._pages[pa]

    def code_page(self, pa: int) -> bytes | None:
        """The 4 KiB at `pa`, outside RAM, if instructions can be fetched there: a device with `code_page` decides."""
        at = bisect_right(self._bases, pa) - 1
        if at < 0 or pa + 4096 > self._bases[at] + self._devices[at].size:
            return None
        found = getattr(self._devices[at], "code_page", None)
        return None if found is None else found(pa - self._bases[at])

    def in_ram(self, pa: int, size: int) -> bool:
        return self.ram_base <= pa and pa + size <= self.ram_end

    def read(self, pa: int, size: int) -> int:
        """Raises BusError. RAM takes any alignment, devices only the natural one."""
        if self.ram_base <= pa and pa + size <= self.ram_end:
            at = pa - self.ram_base
            view = self._whole.get(size)
            if view is not None and not at % size:
                value: int = view[at // size]
                return value
            return int.from_bytes(self.ram.mem[at : at + size], "little")
        base, device = self._find(pa, size)
        return device.read(pa - base, size) & ((1 << 8 * size) - 1)

    def write(self, pa: int, size: int, value: int) -> bool:
        """Whether a deadline may have moved. Raises BusError."""
        value &= (1 << 8 * size) - 1
        if self.ram_base <= pa and pa + size <= self.ram_end:
            at = pa - self.ram_base
            view = self._whole.get(size)
            if view is not None and not at % size:
                view[at // size] = value
            else:
                self.ram.mem[at : at + size] = value.to_bytes(size, "little")
            return False
        base, device = self._find(pa, size)
        device.write(pa - base, size, value)
        return not getattr(device, "quiet", False)

    def _find(self, pa: int, size: int) -> tuple[int, Device]:
        at = bisect_right(self._bases, pa) - 1
        if at < 0 or pa + size > self._bases[at] + self._devices[at].size or pa % size:
            raise BusError(f"nothing at {pa:#x}")
        return self._bases[at], self._devices[at]
