"""The board: harts, RAM and devices put together, laid out as QEMU's `virt`, and what it starts from.

At reset every hart is in M-mode at the ROM's first instruction, which `firmware.py` explains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from trapline.typed import TYPE_CHECKING, Any, Protocol

from trapline.machine.ram import Ram
from trapline.machine.riscv import devicetree, tree
from trapline.machine.riscv.addresses import (
    ACLINT,
    FINISHER,
    FLASH,
    FLASH_BANKS,
    FLASH_BYTES,
    PLIC,
    RAM_BASE,
    ROM,
    RTC,
    RTC_SOURCE,
    UART,
    UART_SOURCE,
    VIRTIO,
    VIRTIO_SLOTS,
    VIRTIO_SOURCE,
    VIRTIO_STEP,
)
from trapline.machine.riscv.bus import Bus, Device
from trapline.machine.riscv.devices.aclint import Aclint
from trapline.machine.riscv.devices.finisher import Finisher
from trapline.machine.riscv.devices.flash import Flash
from trapline.machine.riscv.devices.goldfish import GoldfishRtc
from trapline.machine.riscv.devices.plic import Plic
from trapline.machine.riscv.devices.rom import Rom
from trapline.machine.riscv.devices.saved import Saveable
from trapline.machine.riscv.devices.storage import Storage, StorageError
from trapline.machine.riscv.devices.uart import Uart
from trapline.machine.riscv.devices.virtio.transport import Function, Transport
from trapline.machine.riscv.firmware import BadImage, Files, Plan, Program, plan, reset_code, tree_address
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.harts import Harts

if TYPE_CHECKING:
    from trapline.machine.riscv.jit.threaded import ThreadTiers
    from trapline.machine.riscv.jit.tiers import Tiers

ROM_BYTES = 0xF000
QUANTUM = 50_000  #: instructions of a hart's turn, the same in every tier, so that every tier gives the same run
ALONE = 1_000_000  #: and of one that has nobody to take turns with
EPOCH_NS = 1_767_225_600 * 10**9  #: what the clock says at power-on if nobody says otherwise: 1 January 2026


class Resettable(Device, Saveable, Protocol):
    def reset(self) -> None:
        """As at power-on."""


class Board:
    """`send(bytes)` gets what the serial port transmits. `native`: use the native tiers (needs llvmlite). `now_ns`: what the
    clock says at first. `seed`: of the random numbers that the device tree hands out; the same seed, the same run."""

    def __init__(
        self, memory_bytes: int, harts: int = 1, *, send: Callable[[bytes], object], native: bool = True, tier: str = "native",
        now_ns: int = EPOCH_NS, seed: bytes = b"", threads: bool = False,
    ) -> None:  # fmt: skip
        self.ram = Ram(memory_bytes)
        self.bus = Bus(self.ram, RAM_BASE)
        self.tiers: Tiers | ThreadTiers | None = None
        self.harts = self._on_threads(harts, tier) if threads else self._in_turns(harts, tier if native else "")
        self.plic = Plic(self.harts)
        self.uart = Uart(send, self.wire(UART_SOURCE))
        self.harts.flush.append(self.uart.flush)
        self.seed = seed
        self._resettable: dict[int, Resettable] = {}  # by address
        self._virtio: list[int] = []
        self.flash: list[Flash] = []
        self.storages: list[Storage] = []  #: of flash; whoever adds disks adds theirs
        self.pieces: list[tuple[int, bytes, int]] = []  #: what memory holds after a reset: (address, bytes, length in memory)
        self._rom = Rom(b"", ROM_BYTES)
        self.bus.attach(ROM, self._rom)
        self.bus.attach(FINISHER, Finisher())
        for base, device in (
            (ACLINT, Aclint(self.harts)), (PLIC, self.plic), (UART, self.uart),
            (RTC, GoldfishRtc(self.harts, now_ns, self.wire(RTC_SOURCE))),
        ):  # fmt: skip
            self._attach(base, device)

    def _in_turns(self, count: int, tier: str) -> Harts:
        make: Callable[..., Hart] = self.reference_hart
        if tier:
            from trapline.machine.riscv.jit.native import native_harts

            self.tiers, make = native_harts(self.ram, tier)
        return Harts(self.bus, count, make=make, quantum=QUANTUM if count > 1 else ALONE)

    def reference_hart(self, *arguments: Any, **options: Any) -> Hart:
        """A hart where no native tier is wanted; boards of other harts make their own."""
        return Hart(*arguments, **options)

    def _on_threads(self, count: int, tier: str) -> Harts:
        from trapline.machine.riscv.jit.threaded import thread_tiers
        from trapline.machine.riscv.jit.threads import ThreadedHarts

        self.tiers = tiers = thread_tiers(self.ram, count, tier)
        return ThreadedHarts(self.bus, count, tiers)

    def _attach(self, base: int, device: Resettable) -> None:
        self.bus.attach(base, device)
        self._resettable[base] = device

    def add(self, function: Function) -> Transport:
        """A virtio device in the next free slot. Raises ValueError if there is none."""
        slot = len(self._virtio)
        if slot == VIRTIO_SLOTS:
            raise ValueError(f"the board has {VIRTIO_SLOTS} slots for virtio devices")
        transport = Transport(self.bus, self.harts, function, self.wire(VIRTIO_SOURCE + slot))
        self._attach(VIRTIO + slot * VIRTIO_STEP, transport)
        self._virtio.append(slot)
        return transport

    def add_flash(self, storage: Storage) -> None:
        """Flash memory in the next bank; the harts start in the first one if there is nothing else. Raises ValueError."""
        if len(self.flash) == FLASH_BANKS:
            raise ValueError(f"the board has {FLASH_BANKS} banks of flash")
        bank = Flash(storage)
        self._attach(FLASH + len(self.flash) * FLASH_BYTES, bank)
        self.flash.append(bank)
        self.storages.append(storage)

    def wire(self, source: int) -> Callable[[bool], None]:
        """An interrupt line to the PLIC."""

        def drive(high: bool) -> None:
            (self.plic.raise_line if high else self.plic.lower_line)(source)

        return drive

    def saveable(self) -> Iterator[tuple[str, Saveable]]:
        """All that has state besides harts and RAM, by name."""
        yield "rom", self._rom
        for base, device in self._resettable.items():
            yield f"{type(device).__name__.lower()}@{base:x}", device

    # ---- the device tree, and starting

    def virtio_slots(self) -> Iterator[tuple[int, int]]:
        """(number, address) of those in use."""
        return ((n, VIRTIO + n * VIRTIO_STEP) for n in self._virtio)

    def device_tree(self, files: Files | None = None) -> bytes:
        """The blob that a system started from `files` is given. Raises BadImage."""
        files = files or Files()
        return self._tree(files, self._plan(files) if files.bios or files.kernel else None)

    def _plan(self, files: Files) -> Plan:
        return plan(files, RAM_BASE, self.ram.size, FLASH if self.flash else 0)

    def _tree(self, files: Files, places: Plan | None) -> bytes:
        try:
            made = devicetree.parse(files.tree) if files.tree else tree.board_tree(self)
        except devicetree.BadTree as error:
            raise BadImage(f"--dtb: {error}") from None
        seed = b"" if files.tree else hashlib.sha256(b"rng-seed" + self.seed).digest()
        tree.choose(made, bootargs=files.append, initrd=places.initrd if places else None, seed=seed)
        return devicetree.flatten(made)

    def boot(self, files: Files) -> None:
        """Put what is to be started into RAM and reset the board. Raises BadImage if something does not fit."""
        places = self._plan(files)
        self._start(places.programs, places.start, places.next, self._tree(files, places))

    def load(self, program: Program, files: Files | None = None) -> None:
        """Put a bare-metal program into RAM and reset the board, to enter it. Raises BadImage if it does not fit.

        Of `files` only the device tree and the command line count.
        """
        self._start([program], program.entry, 0, self._tree(files or Files(), None))

    def _start(self, programs: list[Program], start: int, following: int, blob: bytes) -> None:
        at = tree_address(len(blob), RAM_BASE, self.ram.size)
        pieces = [piece for program in programs for piece in program.pieces]
        pieces.append((at, blob, len(blob)))
        _check(pieces, RAM_BASE + self.ram.size)
        self.pieces = pieces
        self._rom.data = reset_code(start, at, following)
        self.reset()

    def reset(self) -> None:
        """Power-on: memory holds what was loaded and nothing else, devices and harts are as they start."""
        self.ram.discard(0, self.ram.size)
        for paddr, data, _ in self.pieces:
            self.ram.mem[paddr - RAM_BASE : paddr - RAM_BASE + len(data)] = data
        for device in self._resettable.values():
            device.reset()
        self.harts.abandon()
        for hart in self.harts.each:
            hart.reset(ROM)
        self.harts.halt = None

    def flush_disks(self) -> None:
        """What the guest has written is in the files."""
        for storage in self.storages:
            with suppress(StorageError):  # the guest hears of it when it flushes
                storage.flush()

    def close(self) -> None:
        """Let memory and threads go. Idempotent."""
        self.harts.close()
        if self.tiers is not None:
            self.tiers.close()


def _check(pieces: list[tuple[int, bytes, int]], end: int) -> None:
    """Raises BadImage for what is outside RAM, or where something else is."""
    for paddr, _, length in pieces:
        if paddr < RAM_BASE or paddr + length > end:
            raise BadImage(
                f"a segment at [{paddr:#x}, {paddr + length:#x}) is outside RAM, [{RAM_BASE:#x}, {end:#x}): "
                "link it elsewhere, or give the board more memory"
            )
    ordered = sorted((paddr, paddr + length) for paddr, _, length in pieces)
    for (_, before), (start, stop) in pairwise(ordered):
        if start < before:
            raise BadImage(f"something else is where [{start:#x}, {stop:#x}) should be loaded: give the board more memory")
