"""What a machine has cached of an address space: the TLB's contents and counts (RISC-V), or the stub process's mappings (host).

On the host machine the mappings of the host's process *are* the TLB; on the RISC-V machine each hart has one, and before it
innermost arrays, which native code asks first and in which it counts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.paging.walk import runs
from trapline.scope.views.space import memory_of

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.mm.address_space import AddressSpace


class Entry(NamedTuple):
    """One translation: [start, end) to physical memory from `physical` on."""

    start: int
    end: int
    physical: int
    rights: str


class Hart(NamedTuple):
    """One hart's counts since the start, for all address spaces, and what its TLB holds of this one."""

    hart: int
    sets: int
    ways: int
    size: int  #: entries in use, of all address spaces
    hits: int
    misses: int  #: each is a walk
    walk_steps: int  #: entries of page tables that these walks read
    flushes: int
    retired: int  #: instructions
    counts_all: bool  #: every access was looked up and counted; else only those that the innermost arrays did not hold
    entries: tuple[Entry, ...]
    innermost: dict[str, int]  #: pages that the innermost arrays hold, by kind of access


class Cached(NamedTuple):
    """Everything that may be used without a new walk."""

    machine: str  #: "host" or "riscv"
    entries: tuple[Entry, ...]  #: the host process's mappings
    bytes: int  #: that these, or the TLBs' entries, cover
    tables_bytes: int  #: that the page tables map
    pid: int  #: the host's process, 0: none yet, or none in this machine
    harts: tuple[Hart, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import cached

        return cached(self)


def cached(kernel: Kernel, pid: int) -> Cached:
    """Of process `pid`. Raises KeyError."""
    mm = memory_of(kernel, pid)
    mapped = sum(run.end - run.start for run in runs(mm.ram.words, mm.tables.root, 0, mm.task_size, mm.tables.fmt))
    harts = getattr(mm.machine, "harts", None)
    if harts is not None:
        found = tuple(_hart(number, each, mm) for number, each in enumerate(harts))
        covered = {at for each in found for entry in each.entries for at in range(entry.start, entry.end, 1 << PAGE_SHIFT)}
        return Cached("riscv", (), len(covered) << PAGE_SHIFT, mapped, 0, found)
    return _host(mm, mapped)


def _host(mm: AddressSpace, mapped: int) -> Cached:
    space: Any = mm.space
    extents = space.mapped() if hasattr(space, "mapped") else []
    entries = tuple(Entry(start, end, pa, _rights(prot)) for start, end, pa, prot in extents)
    process = getattr(space, "process", None)
    size = sum(each.end - each.start for each in entries)
    return Cached("host", entries, size, mapped, process.pid if process is not None else 0, ())


def _rights(prot: int) -> str:
    return "".join(letter if prot & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))


def _hart(number: int, hart: Any, mm: AddressSpace) -> Hart:
    space: Any = mm.space
    tlb, fmt = hart.tlb, mm.tables.fmt
    entries = []
    for start, leaf in tlb.entries_of(space.asid):
        rights = "".join(
            letter if leaf.entry & bit else "-" for bit, letter in ((fmt.read, "r"), (fmt.write, "w"), (fmt.execute, "x"))
        )
        entries.append(Entry(start, start + (1 << leaf.shift), leaf.pa, rights))
    return Hart(
        number, tlb.sets, tlb.ways, len(tlb), tlb.hits, hart.tlb_misses(), hart.walk_steps(), tlb.flushes,
        hart.retired(), hart.counts_every_access, tuple(sorted(entries)), hart.innermost_pages(space.satp),
    )  # fmt: skip
