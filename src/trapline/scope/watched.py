"""Copies and page faults, watched: while somebody listens, the address spaces of a kernel are of the class `Watched`.

A space becomes one when a task of its comes into the kernel, and is none of it any more when nobody listens: the methods of
`kernel.mm.uaccess` themselves know nothing of it. Of copies within copies, and of faults within faults, the outermost is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.errors import OutOfMemory

if TYPE_CHECKING:
    from trapline.machine.contract import Machine

Signal = tuple[int, int, int]
_Bytes = bytes | bytearray | memoryview


class Watch:
    """Who is told of the spaces on one machine. `copied(address, size, out, since_ns)`; `faulted` likewise."""

    def __init__(
        self, now_ns: Callable[[], int], copied: Callable[..., None], faulted: Callable[..., None]
    ) -> None:
        self.now_ns, self.copied, self.faulted = now_ns, copied, faulted
        self.copying = self.repairing = False
        self.observing = False  #: it is somebody who watches that reads, not the kernel


_watches: dict[Machine, Watch] = {}


def watch(machine: Machine, by: Watch | None) -> None:
    """Whom to tell of the spaces of `machine`; None: nobody."""
    if by is None:
        _watches.pop(machine, None)
    else:
        _watches[machine] = by


def observe(mm: AddressSpace, read: Callable[[int, int], bytes], address: int, count: int) -> bytes:
    """`read`, a method of `mm`, for somebody who watches: that is no copy of the kernel's, and no fault if nothing is there."""
    by = _watches.get(mm.machine) if mm.__class__ is Watched else None
    if by is None:
        return read(address, count)
    before, by.observing = by.observing, True
    try:
        return read(address, count)
    finally:
        by.observing = before


class Watched(AddressSpace):
    """Tells the machine's `Watch`."""

    __slots__ = ()

    def _copy(self, copy: Callable[..., Any], size: int, out: bool, address: int, *args: Any) -> Any:
        """`copy(self, address, *args)`; how much it was is `size`, or if that is negative, what it says."""
        by = _watches.get(self.machine)
        if by is None or by.copying or by.observing:
            return copy(self, address, *args)
        since_ns = by.now_ns()
        by.copying = True
        done: Any = None
        try:
            done = copy(self, address, *args)
        finally:
            by.copying = False
            if done is None and size < 0:
                size = 0  # it failed
            elif size < 0:
                size = done if isinstance(done, int) else len(done)
            by.copied(address, size, out, since_ns)
        return done

    def read(self, addr: int, n: int) -> bytes:
        data: bytes = self._copy(AddressSpace.read, -1, False, addr, n)
        return data

    def read_partial(self, addr: int, n: int) -> bytes:
        data: bytes = self._copy(AddressSpace.read_partial, -1, False, addr, n)
        return data

    def read_cstr(self, addr: int, limit: int) -> bytes | None:
        data: bytes | None = self._copy(AddressSpace.read_cstr, -1, False, addr, limit)
        return data

    def read_u32(self, addr: int) -> int:
        value: int = self._copy(AddressSpace.read_u32, 4, False, addr)
        return value

    def read_u64(self, addr: int) -> int:
        value: int = self._copy(AddressSpace.read_u64, 8, False, addr)
        return value

    def write(self, addr: int, data: _Bytes) -> None:
        self._copy(AddressSpace.write, len(data), True, addr, data)

    def write_partial(self, addr: int, data: _Bytes) -> int:
        done: int = self._copy(AddressSpace.write_partial, -1, True, addr, data)
        return done

    def fill_zeros(self, addr: int, n: int) -> None:
        self._copy(AddressSpace.fill_zeros, n, True, addr, n)

    def write_u32(self, addr: int, value: int) -> None:
        self._copy(AddressSpace.write_u32, 4, True, addr, value)

    def write_u64(self, addr: int, value: int) -> None:
        self._copy(AddressSpace.write_u64, 8, True, addr, value)

    def compare_exchange_u32(self, addr: int, old: int, new: int) -> int:
        found: int = self._copy(AddressSpace.compare_exchange_u32, 4, True, addr, old, new)
        return found

    def fault(self, addr: int, access: int) -> Signal | None:
        return self._repair(AddressSpace.fault, addr, access)

    def repair(self, addr: int, access: int) -> Signal | None:
        return self._repair(AddressSpace.repair, addr, access)

    def _repair(self, repair: Callable[[AddressSpace, int, int], Signal | None], addr: int, access: int) -> Signal | None:
        by = _watches.get(self.machine)
        if by is None or by.repairing:
            return repair(self, addr, access)
        since_ns = by.now_ns()
        before = self.majflt, self.cow_pages, self.rss_anon, self.rss_file, self.minflt
        by.repairing = True
        kind, pages = "memory", 0
        try:
            bad = repair(self, addr, access)
            kind, pages = self._kind(before, bad)
        except OutOfMemory:
            raise
        finally:
            by.repairing = False
            if pages or not by.observing:
                by.faulted(addr, access, kind, pages, since_ns)
        return bad

    def _kind(self, before: tuple[int, ...], bad: Signal | None) -> tuple[str, int]:
        """What a fault was, by what it has changed: (kind, pages that it made present)."""
        if bad is not None:
            return "invalid", 0
        major, cow, anon, file, minor = before
        if self.majflt > major:
            return "major", max(self.rss_file - file, 0) + max(self.rss_anon - anon, 0)
        if self.cow_pages > cow:
            return "cow", self.cow_pages - cow
        if self.rss_anon > anon:
            return "zero", self.rss_anon - anon
        if self.rss_file > file:
            return "file", self.rss_file - file
        return ("write", 1) if self.minflt > minor else ("spurious", 0)
