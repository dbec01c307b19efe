"""The memory of a halted board, by physical or virtual address, looked at without leaving a trace.

Only RAM and read-only memory are shown: reading a device's register may change the device. Virtual addresses go through the
page tables that are in force for the hart's data, whatever they permit, and nothing is remembered or marked as accessed. A
guest's own addresses (V=1) are not translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import READ
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.trap import PAGE
from trapline.machine.riscv.twostage import FORMATS
from trapline.machine.riscv.walk import Leaf, Step, steps

if TYPE_CHECKING:
    from trapline.machine.riscv.bus import Bus
    from trapline.machine.riscv.hart import Hart


def entry(bus: Bus, pa: int) -> int | None:
    return bus.ram.words[pa - bus.ram_base >> 3] if bus.in_ram(pa, 8) else None


def walk(hart: Hart, va: int) -> tuple[list[Step], Leaf | int | None]:
    """The references of a walk, and its leaf or failure (PAGE, ACCESS); None where nothing is translated."""
    satp = hart.cpu[at.SATP]
    if hart.cpu[at.VIRT]:
        return [], PAGE
    if hart.mode_of(READ) == st.M or not satp >> st.MODE_SHIFT:
        return [], None
    fmt = FORMATS[satp >> st.MODE_SHIFT]
    walking = steps(lambda pa: entry(hart.bus, pa), (satp & st.PPN_MASK) << 12, va, fmt)
    taken = []
    while True:
        try:
            taken.append(next(walking))
        except StopIteration as end:
            return taken, end.value


def physical(hart: Hart, va: int) -> int | None:
    """Where a virtual address leads; None for nowhere."""
    _, leaf = walk(hart, va)
    if leaf is None:
        return va
    return None if isinstance(leaf, int) else leaf.pa | va & ((1 << leaf.shift) - 1)


def _pieces(hart: Hart, address: int, length: int, direct: bool) -> Iterator[tuple[int | None, int]]:
    """(physical address, bytes) page by page."""
    while length:
        count = min(length, 4096 - (address & 4095))
        yield address if direct else physical(hart, address), count
        address, length = address + count & st.MASK, length - count


def look(hart: Hart, address: int, length: int, *, direct: bool = False) -> bytes:
    """As much as can be read. direct: `address` is physical."""
    bus, found = hart.bus, bytearray()
    for pa, count in _pieces(hart, address, length, direct):
        if pa is None:
            break
        if bus.in_ram(pa, count):
            start = pa - bus.ram_base
            found += bus.ram.mem[start : start + count]
            continue
        page = bus.code_page(pa & -4096)
        if page is None:
            break
        found += page[pa & 4095 : (pa & 4095) + count]
    return bytes(found)


def put(hart: Hart, address: int, data: bytes, *, direct: bool = False) -> bool:
    """Write RAM; False, and nothing is written, if it is not all RAM."""
    bus = hart.bus
    pieces = list(_pieces(hart, address, len(data), direct))
    if any(pa is None or not bus.in_ram(pa, count) for pa, count in pieces):
        return False
    for pa, count in pieces:
        assert pa is not None
        bus.ram.mem[pa - bus.ram_base : pa - bus.ram_base + count] = data[:count]
        data = data[count:]
    return True
