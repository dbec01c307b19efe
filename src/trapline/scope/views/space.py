"""An address space as data, from both sides: what the kernel planned (areas) and what the machine walks (page tables).

In a nutshell: `look(kernel, pid)` takes a picture of one process: plain values, all copied at that moment, which text, JSON,
notebooks and pages then show in their own ways. Nothing here writes, and nothing keeps a reference to the kernel's objects.
Walks are `walks.py`, who shares a frame `sharing.py`, what a machine has cached `cached.py`.

Names come from programs: whoever draws them escapes them for its medium (`printable` for terminals).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import mman as m
from trapline.kernel.fs.proc.taskmm import Users, count
from trapline.machine.paging.entry import PAGE_SHIFT, Format
from trapline.machine.paging.walk import leaves
from trapline.scope.views.pagetables import flag_letters

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area as Vma
    from trapline.kernel.task.task import ThreadGroup

#: What an area is for, from its name and place.
PROGRAM, HEAP, STACK, LIBRARY, VDSO = "program", "heap", "stack", "library", "vdso"
FILE, SHARED, ANON = "file", "shared", "anon"
_SPECIAL = {b"[heap]": HEAP, b"[stack]": STACK, b"[vdso]": VDSO, b"[vvar]": VDSO}
_HUGE = ("AnonHugePages", "Shared_Hugetlb", "Private_Hugetlb")


class Area(NamedTuple):
    """One line of /proc/PID/maps, and what the page tables hold of it. All amounts are bytes."""

    start: int
    end: int
    rights: str  #: as in maps: r, w, x, p or s
    offset: int
    inode: int
    name: str
    kind: str
    rss: int
    pss: int  #: its part of what it shares: a frame that n spaces map counts 1/n
    shared: int  #: in frames that others map too
    private: int
    anonymous: int
    accessed: int  #: by the entries' A bits
    dirty: int  #: by the entries' D bits
    copy_on_write: int  #: pages that a write would copy
    huge: int  #: mapped by leaves of 2 MiB
    swap: int  #: what is in swap: see `--swap`, swapon(2)

    @property
    def size(self) -> int:
        return self.end - self.start


class Mapping(NamedTuple):
    """Consecutive pages on consecutive frames, mapped by leaves of one level with the same bits."""

    start: int
    end: int
    physical: int
    leaf: int  #: bytes that each leaf maps
    flags: str  #: as `pagetables.flag_letters` has them
    entry: int  #: the first leaf

    @property
    def dirty(self) -> bool:
        return "D" in self.flags


class Level(NamedTuple):
    """The tables of one level. Level 0 has the entries of single pages."""

    level: int
    name: str  #: as the manual has it
    covers: int  #: bytes that one entry covers
    tables: int
    bytes: int
    entries: int  #: in these tables
    used: int  #: present ones
    leaves: int  #: of these, those that map memory; the others lead to tables


class Space(NamedTuple):
    """One process's memory at one moment."""

    pid: int
    command: str
    threads: int
    users: int  #: tasks that use this space: more than `threads` if processes share it (vfork(2), CLONE_VM)
    machine: str  #: name of the architecture
    paging: str  #: name of the format of its page tables
    root: int  #: frame of the top-level table
    task_size: int  #: user space ends here
    areas: tuple[Area, ...]
    levels: tuple[Level, ...]  #: from the top one down
    brk: tuple[int, int]  #: the heap: where it starts, where it ends
    entry: dict[str, int]  #: where exec(2) put things: code, data, heap, stack, mmap, vdso
    faults: tuple[int, int]  #: minor, major

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import space

        return space(self)

    @property
    def table_bytes(self) -> int:
        return sum(each.bytes for each in self.levels)

    def total(self, field: str) -> int:
        """The sum of a field of all areas."""
        return sum(getattr(each, field) for each in self.areas)


def look(kernel: Kernel, pid: int) -> Space:
    """Process `pid` as it is now. Raises KeyError: no such process, or its memory is gone."""
    mm, group = memory_of(kernel, pid), kernel.groups[pid]
    users = Users()
    areas = tuple(_area(mm, each, users) for each in mm.areas())
    return Space(
        group.pid, group.leader.comm.decode(errors="replace"), max(1, len(group.tasks)), mm.users, mm.machine.arch.name,
        mm.tables.fmt.name, mm.tables.root, mm.task_size, areas, tuple(levels(mm)), (mm.start_brk, mm.brk), _places(mm),
        (max(mm.minflt, group.minflt), max(mm.majflt, group.majflt)),
    )  # fmt: skip


def memory_of(kernel: Kernel, pid: int) -> AddressSpace:
    """The address space of process `pid`. Raises KeyError, which says what is wrong."""
    group = kernel.groups.get(pid)
    if group is None:
        raise KeyError(f"no process has the number {pid}")
    mm = memory_in(group)
    if mm is None:
        raise KeyError(f"process {pid} has no memory")
    return mm


def memory_in(group: ThreadGroup) -> AddressSpace | None:
    """A process's memory; its first thread may have ended before the others."""
    return next((task.mm for task in group.tasks if task.mm is not None), None)


def _places(mm: AddressSpace) -> dict[str, int]:
    return {
        "code": mm.start_code, "data": mm.start_data, "heap": mm.start_brk, "stack": mm.start_stack, "mmap": mm.mmap_base,
        "vdso": mm.vdso,
    }  # fmt: skip


def _area(mm: AddressSpace, area: Vma, users: Users) -> Area:
    letters = "".join(letter if area.prot & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
    found = count(mm, area, users)
    accessed, dirty, cow = _bits(mm, area)
    name = area.file.display_path() if area.file is not None else mm.area_name(area)
    return Area(
        area.start, area.end, letters + ("s" if area.flags & m.VM_SHARED else "p"),
        area.offset if area.cache is not None else 0, area.file.inode.ino if area.file is not None else 0,
        name.decode(errors="replace"), kind_of(mm, area, name),
        (found["Rss"] + found["Shared_Hugetlb"] + found["Private_Hugetlb"]) << 10, found["Pss"] << 10,
        (found["Shared_Clean"] + found["Shared_Dirty"] + found["Shared_Hugetlb"]) << 10,
        (found["Private_Clean"] + found["Private_Dirty"] + found["Private_Hugetlb"]) << 10, found["Anonymous"] << 10,
        accessed, dirty, cow, sum(found[each] for each in _HUGE) << 10, found["Swap"] << 10,
    )  # fmt: skip


def _bits(mm: AddressSpace, area: Vma) -> tuple[int, int, int]:
    """Bytes whose leaves have the accessed bit, the dirty bit, and the mark for copy-on-write."""
    fmt = mm.tables.fmt
    accessed = dirty = cow = 0
    for va, step in leaves(mm.ram.words, mm.tables.root, area.start, area.end, fmt):
        size = 1 << (PAGE_SHIFT + fmt.index_bits * step.level)
        size = min(va + size, area.end) - max(va, area.start)
        accessed += size if step.entry & fmt.accessed else 0
        dirty += size if step.entry & fmt.dirty else 0
        cow += size if step.entry & fmt.soft_cow else 0
    return accessed, dirty, cow


def kind_of(mm: AddressSpace, area: Vma, name: bytes) -> str:
    """One of the kinds above."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    if area.file is not None and mm.exe_file is not None and area.file.inode is mm.exe_file.inode:
        return PROGRAM
    if area.flags & m.VM_SHARED:
        return SHARED
    if area.file is None:
        return ANON
    return LIBRARY if b".so" in name.rpartition(b"/")[2] else FILE


# ---- page tables


def level_name(fmt: Format, level: int) -> str:
    """What the manual calls a table of this level."""
    return ("PT", "PD", "PDPT", "PML4", "PML5")[level] if fmt.name.startswith("x86") else f"level {level}"


def levels(mm: AddressSpace) -> list[Level]:
    """Count the tables, and what is in them, from the root down, as a machine would find them."""
    fmt, words = mm.tables.fmt, mm.ram.words
    size = 1 << fmt.index_bits
    found: list[Level] = []
    tables = [mm.tables.root]
    for level in range(fmt.levels - 1, -1, -1):
        below: list[int] = []
        used = leaf = 0
        for table in tables:
            word = table << PAGE_SHIFT >> 3
            for entry in words[word : word + size].tolist():
                if entry & fmt.present:
                    used += 1
                    if fmt.is_leaf(entry, level):
                        leaf += 1
                    else:
                        below.append(fmt.pfn(entry))
        count_ = len(tables)
        found.append(
            Level(level, level_name(fmt, level), 1 << (PAGE_SHIFT + fmt.index_bits * level), count_, count_ << PAGE_SHIFT,
                  count_ * size, used, leaf)
        )  # fmt: skip
        tables = below
    return found


def mappings(kernel: Kernel, pid: int) -> list[Mapping]:
    """Everything that the page tables of process `pid` map, in order. Raises KeyError."""
    mm = memory_of(kernel, pid)
    fmt = mm.tables.fmt
    keep = ~(fmt.pfn_mask | fmt.large)
    found: list[Mapping] = []
    for va, step in leaves(mm.ram.words, mm.tables.root, 0, mm.task_size, fmt):
        size = 1 << (PAGE_SHIFT + fmt.index_bits * step.level)
        physical = fmt.pfn(step.entry) << PAGE_SHIFT & -size
        last = found[-1] if found else None
        if (
            last is not None
            and (va, physical, size) == (last.end, last.physical + last.end - last.start, last.leaf)
            and step.entry & keep == last.entry & keep
        ):
            found[-1] = last._replace(end=va + size)
        else:
            found.append(Mapping(va, va + size, physical, size, flag_letters(step.entry, fmt), step.entry))
    return found


# ---- for whoever shows it


def plain(value: Any) -> Any:
    """Any of the objects of these views as what JSON has: dictionaries by field, lists, numbers, text."""
    if hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def amount(size: int) -> str:
    """Bytes for people: 4K, 1.5M, 128T; exact where it is a round number, else to three digits."""
    for unit in ("", "K", "M", "G", "T"):
        if size < 1024 or unit == "T":
            break
        size /= 1024  # type: ignore[assignment]
    text = f"{size:.1f}" if size < 100 and size != int(size) else f"{size:.0f}"
    return text + unit
