"""What devices have in common: registers of 32 and 64 bits, accessed whole or by halves.

A device says what a register holds; this file says which accesses reach it. An access that is wider than a device's
registers, or narrower than four bytes where it has no byte registers, is refused: the hart gets an access fault.
"""

from __future__ import annotations

from trapline.machine.riscv.bus import BusError

LOW = 0xFFFF_FFFF


def words(offset: int, size: int) -> None:
    """Only accesses of one 32-bit word. Raises BusError."""
    if size != 4 or offset & 3:
        raise BusError(f"{size} bytes at offset {offset:#x}: this device has registers of four bytes")


def part(value: int, offset: int, size: int) -> int:
    """What an access of 4 or 8 bytes at `offset` into a 64-bit register reads. Raises BusError."""
    if size not in (4, 8):
        raise BusError(f"{size} bytes: this register takes four or eight")
    return value >> 8 * offset & (LOW if size == 4 else (1 << 64) - 1)


def merged(old: int, offset: int, size: int, value: int) -> int:
    """A 64-bit register after such an access wrote to it. Raises BusError."""
    if size not in (4, 8):
        raise BusError(f"{size} bytes: this register takes four or eight")
    mask = (LOW if size == 4 else (1 << 64) - 1) << 8 * offset
    return old & ~mask | value << 8 * offset & mask
