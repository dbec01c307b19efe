"""The driver's side of a virtio device, for tests: registers, a ring in RAM, requests."""

from __future__ import annotations

import struct

from trapline.machine.ram import Ram
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.devices.virtio import transport as at
from trapline.machine.riscv.devices.virtio.queue import NEXT, WRITE
from trapline.machine.riscv.devices.virtio.transport import Function, Transport
from trapline.machine.riscv.harts import PER_TICK, Harts

BASE = 0x8000_0000
DATA = BASE + 0x10_0000  #: buffers
READY = at.ACKNOWLEDGE | at.DRIVER | at.FEATURES_OK | at.DRIVER_OK


class Driver:
    """Queue n is at BASE + 0x10000 n: descriptors, at + 0x4000 the available ring, at + 0x8000 the used ring."""

    def __init__(self, function: Function, features: int = 0, size: int = 16) -> None:
        self.ram = Ram(4 << 20)
        bus = Bus(self.ram, BASE)
        self.harts = Harts(bus, 1)
        self.wire = False
        self.device = Transport(bus, self.harts, function, self._line)
        self.size = size
        self.start(features | function.features)

    def _line(self, high: bool) -> None:
        self.wire = high

    def set(self, offset: int, value: int) -> None:
        self.device.write(offset, 4, value)

    def get(self, offset: int) -> int:
        return self.device.read(offset, 4)

    def start(self, features: int, status: int = READY) -> None:
        """From reset to working, with the features that are offered."""
        self.set(at.STATUS, 0)
        self.ram.mem[: len(self.device.queues) << 16] = bytes(len(self.device.queues) << 16)
        for half in (0, 1):
            self.set(at.DRIVER_FEATURES_SEL, half)
            self.set(at.DRIVER_FEATURES, (features | at.F_VERSION_1) >> 32 * half & 0xFFFF_FFFF)
        self.set(at.STATUS, status & ~at.DRIVER_OK)
        for number in range(len(self.device.queues)):
            self.set(at.QUEUE_SEL, number)
            self.set(at.QUEUE_SIZE, self.size)
            for register, place in ((at.QUEUE_DESC, 0), (at.QUEUE_DRIVER, 0x4000), (at.QUEUE_DEVICE, 0x8000)):
                self.set(register, BASE + (number << 16) + place)
                self.set(register + 4, 0)
            self.set(at.QUEUE_READY, 1)
        self.set(at.STATUS, status)

    def put(self, address: int, data: bytes) -> None:
        self.ram.mem[address - BASE : address - BASE + len(data)] = data

    def look(self, address: int, length: int) -> bytes:
        return bytes(self.ram.mem[address - BASE : address - BASE + length])

    def describe(self, number: int, index: int, address: int, length: int, flags: int = 0, following: int = 0) -> None:
        self.put(BASE + (number << 16) + 16 * index, struct.pack("<QIHH", address, length, flags, following))

    def offer(self, number: int, head: int, *, notify: bool = True) -> None:
        ring = BASE + (number << 16) + 0x4000
        (idx,) = struct.unpack("<H", self.look(ring + 2, 2))
        self.put(ring + 4 + 2 * (idx % self.size), struct.pack("<H", head))
        self.put(ring + 2, struct.pack("<H", idx + 1 & 0xFFFF))
        if notify:
            self.set(at.QUEUE_NOTIFY, number)

    def chain(self, number: int, readable: list[int], writable: list[int], *, notify: bool = True) -> list[int]:
        """Offer one request with buffers of these lengths; their addresses."""
        lengths = [(each, 0) for each in readable] + [(each, WRITE) for each in writable]
        address, places = DATA, []
        for n, (length, flags) in enumerate(lengths):
            last = n + 1 == len(lengths)
            self.describe(number, n, address, length, flags | (0 if last else NEXT), n + 1)
            places.append(address)
            address += length + -length % 16
        self.offer(number, 0, notify=notify)
        return places

    def wait(self, ticks: int = 1000) -> None:
        """Time passes."""
        self.harts.let_pass(ticks * PER_TICK)

    def used(self, number: int) -> list[tuple[int, int]]:
        """What the device has given back: (head, length), the last `size` of them."""
        ring = BASE + (number << 16) + 0x8000
        (idx,) = struct.unpack("<H", self.look(ring + 2, 2))
        return [struct.unpack("<II", self.look(ring + 4 + 8 * (n % self.size), 8)) for n in range(max(0, idx - self.size), idx)]

    @property
    def stopped(self) -> bool:
        return bool(self.get(at.STATUS) & at.NEEDS_RESET)
