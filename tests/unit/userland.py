"""Address spaces without a kernel: user code's loads and stores, by hand, through the real page tables.

`Files` is what mmap(2) needs of a file. The machine is the scripted one, whose TLB notices what is not flushed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scripted import ScriptedMachine

from trapline.abi.errno import EIO
from trapline.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.page_cache import PageCache
from trapline.kernel.mm.policy import MmLimits, Policy
from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.ram import Ram

PAGE = 4096
BLOCK = 2 << 20
RW = 3
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
SHARED = MAP_SHARED | MAP_ANONYMOUS
AT = MAP_FIXED | PRIVATE
BASE = 0x1000_0000


def new_machine(megabytes: int = 64) -> ScriptedMachine:
    return ScriptedMachine(Ram(megabytes << 20))


def new_space(machine: ScriptedMachine | None = None, policy: Policy | None = None, **limits: int) -> AddressSpace:
    return AddressSpace(machine or new_machine(), MmLimits(**limits), aslr=False, policy=policy)


class Signal(Exception):
    """(signo, si_code, si_addr)"""


def access(mm: AddressSpace, addr: int, kind: int) -> int:
    """The physical address that user code reaches at `addr`; raises Signal."""
    for _ in range(3):
        pa = mm.space.translate(addr, kind)  # type: ignore[attr-defined]
        if pa is not None:
            return int(pa)
        bad = mm.fault(addr, kind)
        if bad is not None:
            raise Signal(*bad)
    raise AssertionError("the fault was not repaired")


def load(mm: AddressSpace, addr: int) -> int:
    return int(mm.ram.mem[access(mm, addr, READ)])


def store(mm: AddressSpace, addr: int, value: int) -> None:
    mm.ram.mem[access(mm, addr, WRITE)] = value


def fetch(mm: AddressSpace, addr: int) -> int:
    return int(mm.ram.mem[access(mm, addr, EXEC)])


def maps(mm: AddressSpace) -> list[tuple[int, int, int]]:
    """(start, end, prot) of each area."""
    return [(each.start, each.end, each.prot) for each in mm.areas()]


@dataclass
class FakeInode:
    seals: int = -1
    punched: list[tuple[int, int]] = field(default_factory=list)


@dataclass(eq=False)
class FakeFile:
    """An open file over `data`; `stored` is what was written back."""

    page_cache: PageCache | None
    readable: bool = True
    writable: bool = True
    flags: int = 2
    refs: int = 1
    path: Any = None
    inode: Any = field(default_factory=FakeInode)

    def get(self) -> FakeFile:
        self.refs += 1
        return self

    def put(self) -> None:
        self.refs -= 1
        assert self.refs >= 0

    def display_path(self) -> bytes:
        return b"/file"


def backed_cache(ram: Ram, data: bytes) -> PageCache:
    """A cache with `data` behind it."""

    def fill(offset: int, into: memoryview) -> None:
        part = data[offset : offset + len(into)]
        into[: len(part)] = part
        into[len(part) :] = bytes(len(into) - len(part))

    return PageCache(ram, len(data), fill)


def stored_cache(ram: Ram, disk: bytearray) -> PageCache:
    """A cache whose changes are written back to `disk`."""

    def fill(offset: int, into: memoryview) -> None:
        part = disk[offset : offset + len(into)]
        into[: len(part)] = part
        into[len(part) :] = bytes(len(into) - len(part))

    def writeback(offset: int, part: bytes | memoryview) -> None:
        disk.extend(bytes(max(0, offset + len(part) - len(disk))))
        disk[offset : offset + len(part)] = part

    cache = PageCache(ram, len(disk), fill)
    cache.writeback = writeback
    return cache


def file_of(ram: Ram, data: bytes, **attributes: Any) -> FakeFile:
    return FakeFile(backed_cache(ram, data), **attributes)


def tmpfs_file(ram: Ram, data: bytes = b"") -> FakeFile:
    cache = PageCache(ram, 0)
    if data:
        cache.write(0, data)
    return FakeFile(cache)


class MemoryBacking:
    """Swap in the test's memory. `fails`: whether each transfer does."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.data = bytearray(pages * PAGE)
        self.fails = self.closed = False

    def read(self, page: int, views: Sequence[memoryview]) -> None:
        if self.fails:
            raise EIO
        for i, view in enumerate(views, page):
            view[:] = self.data[i * PAGE : (i + 1) * PAGE]

    def write(self, page: int, views: Sequence[memoryview]) -> None:
        if self.fails:
            raise EIO
        for i, view in enumerate(views, page):
            self.data[i * PAGE : (i + 1) * PAGE] = view

    def close(self) -> None:
        self.closed = True

    def end(self) -> None:
        pass
