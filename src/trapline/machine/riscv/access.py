"""The vocabulary's loads, stores and atomics on RAM: the innermost arrays first, then the slow path.

Hot: a load that hits costs 0.5 µs. Misaligned loads and stores are done in parts (not atomically), each translated before
any is written; misaligned atomics trap, and so do misaligned accesses to devices.

Invariant: a reservation never survives the hart's run: whoever switches harts, or leaves to the kernel, drops it. So where
harts take turns, no other one writes between lr and sc, and sc need only know that nothing of the kind has happened. Where
they do not, `exchange` sees whether memory still has what was read.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Attention, BusError
from trapline.machine.riscv.integers import M64, signed
from trapline.machine.riscv.mmu import Mmu
from trapline.machine.riscv.trap import ACCESS, CAUSES, MISALIGNED, Trap

if TYPE_CHECKING:
    from collections.abc import Callable

_KEEP = tuple(M64 & ~0xFFF | max(0, size - 1) for size in range(9))
_SLOT_MASK = 2 * (at.FAST_ENTRIES - 1)
_ONES = tuple((1 << 8 * size) - 1 for size in range(9))
_LOG2 = (0, 0, 1, 0, 2, 0, 0, 0, 3)

_AMO: dict[str, Callable[[int, int], int]] = {
    "swap": lambda old, new: new,
    "add": lambda old, new: old + new,
    "xor": lambda old, new: old ^ new,
    "and": lambda old, new: old & new,
    "or": lambda old, new: old | new,
    "min": lambda old, new: min(signed(old), signed(new)),
    "max": lambda old, new: max(signed(old), signed(new)),
    "minu": lambda old, new: min(old & M64, new & M64),
    "maxu": lambda old, new: max(old & M64, new & M64),
}


class Access(Mmu):
    """Part of the hart."""

    __slots__ = ()

    views: tuple[memoryview | None, ...]  #: RAM by size, plus 16 if signed
    stores: tuple[memoryview | None, ...]  #: RAM by size

    def load(self, address: int, size: int, *, signed: bool = False) -> int:
        address &= M64
        slot = address >> 11 & _SLOT_MASK
        tlb = self.tlb_read
        if tlb[slot] == address & _KEEP[size]:
            value: int = self.views[size | signed << 4][(address + tlb[slot + 1] & M64) >> _LOG2[size]]  # type: ignore[index]
            return value
        value = self.load_slowly(address, size)
        return self.sx(value, 8 * size) if signed else value

    def store(self, address: int, size: int, value: int) -> None:
        address &= M64
        slot = address >> 11 & _SLOT_MASK
        tlb = self.tlb_write
        if tlb[slot] == address & _KEEP[size]:
            view = self.stores[size]
            view[(address + tlb[slot + 1] & M64) >> _LOG2[size]] = value & _ONES[size]  # type: ignore[index]
            return
        self.store_slowly(address, size, value)

    # ---- the slow path: a miss, a device, a misaligned access, a watched page

    def load_slowly(self, address: int, size: int) -> int:
        if self.kept_out:
            self.watch_access(address, size, READ)
        if (address & 4095) + size > 4096:
            return self._load_across(address, size)
        pa = self.find_device(address, READ, size)
        try:
            return self.bus.read(pa, size)
        except BusError:
            raise Trap(CAUSES[READ, MISALIGNED if pa % size else ACCESS], address) from None

    def _load_across(self, address: int, size: int) -> int:
        here = -address & 4095
        low = self.load_part(address, here)
        return low | self.load_part(address + here & M64, size - here) << 8 * here

    def load_part(self, address: int, size: int) -> int:
        pa = self.translate(address, READ, size)
        if not self.bus.in_ram(pa, size):
            raise Trap(CAUSES[READ, ACCESS], address)
        return self.bus.read(pa, size)

    def store_slowly(self, address: int, size: int, value: int) -> None:
        if self.kept_out:
            self.watch_access(address, size, WRITE)
        if (address & 4095) + size > 4096:
            self._store_across(address, size, value)
            return
        pa = self.find_device(address, WRITE, size)
        lines = self.cpu[at.LINES]
        try:
            moved = self.bus.write(pa, size, value)
        except BusError:
            raise Trap(CAUSES[WRITE, MISALIGNED if pa % size else ACCESS], address) from None
        if moved or self.cpu[at.LINES] != lines:
            raise Attention

    def _store_across(self, address: int, size: int, value: int) -> None:
        here = -address & 4095
        beyond = address + here & M64
        parts = (self.translate(address, WRITE, here), here), (self.translate(beyond, WRITE, size - here), size - here)
        for (pa, length), start in zip(parts, (address, beyond), strict=True):
            if not self.bus.in_ram(pa, length):
                raise Trap(CAUSES[WRITE, ACCESS], start)
        for pa, length in parts:
            self.bus.write(pa, length, value)
            value = (value & M64) >> 8 * length

    def watch_access(self, address: int, size: int, access: int) -> None:
        """Some page is watched, by a trigger or a debugger: ask whether this access is one they wait for."""
        raise NotImplementedError

    # ---- atomics

    def _atomic(self, address: int, size: int, access: int) -> int:
        """The physical address of an atomic access: naturally aligned, in RAM."""
        if address % size:
            raise Trap(CAUSES[WRITE if access & WRITE else READ, MISALIGNED], address)
        if self.kept_out:
            self.watch_access(address, size, access)
        pa = self.translate(address, WRITE if access & WRITE else READ, size)
        if not self.bus.in_ram(pa, size):
            raise Trap(CAUSES[WRITE if access & WRITE else READ, ACCESS], address)
        return pa

    def lr(self, address: int, size: int) -> int:
        address &= M64
        pa = self._atomic(address, size, READ)
        cpu = self.cpu
        cpu[at.RESERVED], cpu[at.RESERVATION], cpu[at.RESERVATION_SIZE] = 1, pa, size
        value = self.sx(self.bus.read(pa, size), 8 * size)
        cpu[at.RESERVED_VALUE] = value & M64
        return value

    def sc(self, address: int, size: int, value: int) -> int:
        address &= M64
        cpu = self.cpu
        pa = self._atomic(address, size, WRITE)
        held = cpu[at.RESERVED] and cpu[at.RESERVATION] == pa and cpu[at.RESERVATION_SIZE] == size
        cpu[at.RESERVED] = 0
        return 0 if held and self.exchange(pa, size, cpu[at.RESERVED_VALUE], value) else 1

    def exchange(self, pa: int, size: int, old: int, new: int) -> bool:
        """Store `new` in RAM if it holds `old`, which nobody else can have changed here."""
        self.bus.write(pa, size, new)
        return True

    def amo(self, name: str, address: int, size: int, value: int) -> int:
        address &= M64
        pa = self._atomic(address, size, READ | WRITE)
        value = self.sx(value, 8 * size)
        while True:
            old = self.sx(self.bus.read(pa, size), 8 * size)
            if self.exchange(pa, size, old, _AMO[name](old, value)):
                return old

    def fence(self, pred: int, succ: int, fm: int) -> None:
        """Every access is in order already."""
