"""A page walk, step by step, with the meaning of every bit of every entry it reads.

Sources: AMD64 Architecture Programmer's Manual, volume 2, "Long-Mode Page Translation" and "Page-Translation-Table Entry
Fields"; The RISC-V Instruction Set Manual, volume II, "Sv39", "Virtual Address Translation Process", "Svnapot", "Svpbmt".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trapline.abi.mman import VM_GROWSDOWN, VM_SHARED
from trapline.machine.paging.entry import PAGE_SHIFT, Format
from trapline.machine.paging.walk import Step as Reference
from trapline.machine.paging.walk import steps
from trapline.scope.views.space import kind_of, level_name, memory_of

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.area import Area


class Bit(NamedTuple):
    """One field of an entry."""

    low: int  #: number of its lowest bit
    high: int  #: and of its highest
    name: str  #: as the manual has it
    value: int
    meaning: str  #: of this value, here


class Step(NamedTuple):
    """One memory reference of a walk."""

    level: int
    table: str  #: the manual's name of the table
    slot: int  #: which of its entries
    address: int  #: physical, of the entry
    entry: int
    summary: str
    bits: tuple[Bit, ...]


class Walk(NamedTuple):
    """What became of one address."""

    pid: int
    address: int
    paging: str
    parts: tuple[tuple[str, int], ...]  #: how the address is cut: the index for each table, from the top, then the offset
    steps: tuple[Step, ...]
    mapped: bool
    physical: int  #: -1: nowhere
    frame: int  #: -1: none
    references: int  #: to the frame, from page tables and caches
    size: int  #: bytes that the leaf maps
    rights: str  #: what user mode may do: r, w, x
    area: str  #: the area's name and rights, "" outside of all
    outcome: str  #: in one sentence
    touch: str  #: what happens when user mode touches it: read and write

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import walk

        return walk(self)


def explain(kernel: Kernel, pid: int, address: int) -> Walk:
    """The walk for an address of process `pid`. Raises KeyError, and ValueError for what is no 64-bit address."""
    mm = memory_of(kernel, pid)
    if not 0 <= address < 1 << 64:
        raise ValueError(f"{address:#x}: not a 64-bit address")
    return _walk(mm, pid, address)


def _walk(mm: AddressSpace, pid: int, address: int) -> Walk:
    fmt = mm.tables.fmt
    width = PAGE_SHIFT + fmt.index_bits * fmt.levels
    mask = (1 << fmt.index_bits) - 1
    parts = [
        (level_name(fmt, level), address >> (PAGE_SHIFT + fmt.index_bits * level) & mask)
        for level in range(fmt.levels - 1, -1, -1)
    ]
    if address >> (width - 1) not in (0, (1 << (65 - width)) - 1):
        why = f"not canonical: bits {width - 1} to 63 of an address must be equal; the machine refuses it before any walk"
        whole = (*parts, ("offset", address & 0xFFF))
        return Walk(pid, address, fmt.name, whole, (), False, -1, -1, 0, 0, "", "", why, "SIGSEGV, SEGV_MAPERR")
    references = list(steps(mm.ram.words, mm.tables.root, address, fmt))
    found = tuple(_step(fmt, address, each) for each in references)
    last = references[-1]
    area = mm.map.find(address)
    label = _label(mm, area) if area is not None else ""
    if not last.entry & fmt.present:
        cut = (*parts, ("offset", address & 0xFFF))
        outcome = f"not present at {level_name(fmt, last.level)}: page fault"
        return Walk(pid, address, fmt.name, cut, found, False, -1, -1, 0, 0, "", label, outcome, _absent(mm, area, address))
    size = 1 << (PAGE_SHIFT + fmt.index_bits * last.level)
    physical = (fmt.pfn(last.entry) << PAGE_SHIFT & -size) + (address & (size - 1))
    frame = physical >> PAGE_SHIFT
    cut = (*parts[: len(found)], ("offset", address & (size - 1)))
    rights = _rights(fmt, references)
    outcome = f"physical address {physical:#x}: byte {physical & 0xFFF:#x} of frame {frame:#x}"
    return Walk(
        pid, address, fmt.name, cut, found, True, physical, frame, mm.ram.frames.counts[frame], size, rights, label, outcome,
        _present(fmt, area, last.entry, rights),
    )  # fmt: skip


def _label(mm: AddressSpace, area: Area) -> str:
    name = area.file.display_path() if area.file is not None else mm.area_name(area)
    letters = "".join(letter if area.prot & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
    shown = name.decode(errors="replace") or f"[{kind_of(mm, area, name)}]"
    return f"{area.start:x}-{area.end:x} {letters}{'s' if area.flags & VM_SHARED else 'p'} {shown}"


def _rights(fmt: Format, references: list[Reference]) -> str:
    """x86-64 asks every entry of the walk; RISC-V the leaf alone."""
    asked = [each.entry for each in references] if not fmt.leaf_any else [references[-1].entry]
    if not all(each & fmt.user for each in asked):
        return "---"
    read = all(each & fmt.read for each in asked) if fmt.read else True
    write = all(each & fmt.write for each in asked)
    execute = all(fmt.can_execute(each) for each in asked)
    return ("r" if read else "-") + ("w" if write else "-") + ("x" if execute else "-")


def _absent(mm: AddressSpace, area: Area | None, address: int) -> str:
    """What the kernel makes of a fault at a page that is not present."""
    if area is None:
        above = mm.map.areas[mm.map.index_from(address) :]
        if above and above[0].flags & VM_GROWSDOWN:
            return "no area is here, but the stack above may grow down to it, as far as its limit and what lies between permit"
        return "no area is here: SIGSEGV, SEGV_MAPERR"
    if not area.prot:
        return "the area permits nothing (PROT_NONE): SIGSEGV, SEGV_ACCERR"
    if area.cache is None:
        what = "a zeroed frame is mapped (demand-zero)"
    else:
        what = f"the page at byte {address - area.start + area.offset & -4096:#x} of its file is mapped, read first if need be"
    write = "" if area.prot & 2 else "; a write: SIGSEGV, SEGV_ACCERR"
    return f"the kernel's fault handler repairs it: {what}{write}"


def _present(fmt: Format, area: Area | None, entry: int, rights: str) -> str:
    if rights == "---":
        return "user mode may not touch it (PROT_NONE keeps the frame): SIGSEGV, SEGV_ACCERR"
    if "w" in rights:
        return "reads and writes need no kernel"
    if area is not None and area.prot & 2:
        if entry & fmt.soft_cow or not area.flags & VM_SHARED:
            return "reads need no kernel; a write faults, and the kernel copies the frame, unless nobody else has it"
        return "reads need no kernel; the first write faults, so that the kernel knows that the file's page is dirty"
    return "reads need no kernel; a write: SIGSEGV, SEGV_ACCERR"


# ---- entries


def _step(fmt: Format, address: int, reference: Reference) -> Step:
    level, entry = reference.level, reference.entry
    index = address >> (PAGE_SHIFT + fmt.index_bits * level) & ((1 << fmt.index_bits) - 1)
    if not entry & fmt.present:
        summary = "not present"
    elif fmt.is_leaf(entry, level):
        size = {0: "4 KiB page", 1: "2 MiB page", 2: "1 GiB page"}.get(level, "page")
        summary = f"leaf: {size} in frame {fmt.pfn(entry):#x}"
    else:
        summary = f"table in frame {fmt.pfn(entry):#x}"
    bits = bits_of(fmt, entry, level)
    return Step(level, level_name(fmt, level), index, reference.word << 3, entry, summary, bits)


def bits_of(fmt: Format, entry: int, level: int) -> tuple[Bit, ...]:
    """Every field of an entry, from bit 0 up."""
    if not entry & fmt.present:
        name = "V" if fmt.leaf_any else "P"
        rest = "the others are software's" if entry >> 1 else "so are all others"
        return (Bit(0, 0, name, 0, f"not present, a walk faults; {rest}"),)
    table = (_SV_LEAF if fmt.is_leaf(entry, level) else _SV_POINTER) if fmt.leaf_any else (
        _X86_LEAF if fmt.is_leaf(entry, level) else _X86_POINTER
    )  # fmt: skip
    found = []
    for low, high, name, off, on in table:
        value = entry >> low & ((1 << (high - low + 1)) - 1)
        meaning = on.format(value=value) if value else off
        if name == "PS" and level == 0:  # at the lowest level the bit is something else
            name, meaning = "PAT", "memory type: bit 2 of the page-attribute index" if value else "memory type: write-back"
        found.append(Bit(low, high, name, value, meaning))
    return tuple(found)


_X86_COMMON = (
    (0, 0, "P", "", "present"),
    (1, 1, "R/W", "no writes through this entry", "writes permitted"),
    (2, 2, "U/S", "supervisor mode only", "user mode permitted"),
    (3, 3, "PWT", "write-back", "write-through"),
    (4, 4, "PCD", "cached", "not cached"),
    (5, 5, "A", "not accessed", "accessed: a walk has used it"),
)
_X86_POINTER = (
    *_X86_COMMON,
    (6, 6, "-", "ignored in an entry that leads to a table", "ignored"),
    (7, 7, "PS", "leads to a table", "page size: maps memory itself"),
    (8, 8, "-", "ignored", "ignored"),
    (9, 11, "AVL", "free for software: unused", "free for software"),
    (12, 51, "frame", "frame 0", "the next table is frame {value:#x}"),
    (52, 62, "AVL", "free for software: unused", "free for software"),
    (63, 63, "NX", "execution permitted below", "no execution of anything below"),
)
_X86_LEAF = (
    *_X86_COMMON,
    (6, 6, "D", "clean: not written through this entry", "dirty: may have been written"),
    (7, 7, "PS", "", "page size: maps memory itself"),
    (8, 8, "G", "not global", "global: stays over changes of CR3"),
    (9, 9, "AVL", "software: a write need not copy", "software: copy on write"),
    (10, 10, "AVL", "software: the frame is the process's own", "software: the frame belongs to a page cache"),
    (11, 11, "AVL", "software: unused", "software"),
    (12, 51, "frame", "frame 0", "maps frame {value:#x}"),
    (52, 58, "AVL", "free for software: unused", "free for software"),
    (59, 62, "key", "no protection key", "protection key {value}"),
    (63, 63, "NX", "execution permitted", "no execution"),
)
_SV_LEAF = (
    (0, 0, "V", "", "valid"),
    (1, 1, "R", "no reads", "reads permitted"),
    (2, 2, "W", "no writes", "writes permitted"),
    (3, 3, "X", "no execution", "execution permitted"),
    (4, 4, "U", "supervisor mode only", "user mode permitted"),
    (5, 5, "G", "not global", "global: in all address spaces"),
    (6, 6, "A", "not accessed", "accessed"),
    (7, 7, "D", "clean: not written through this entry", "dirty: may have been written"),
    (8, 8, "RSW", "software: a write need not copy", "software: copy on write"),
    (9, 9, "RSW", "software: the frame is the process's own", "software: the frame belongs to a page cache"),
    (10, 53, "PPN", "frame 0", "maps frame {value:#x}"),
    (54, 60, "-", "reserved: 0", "reserved: must be 0"),
    (61, 62, "PBMT", "memory type: as the physical memory's", "memory type {value}"),
    (63, 63, "N", "one page", "part of a naturally aligned range (Svnapot)"),
)
_SV_POINTER = (
    (0, 0, "V", "", "valid"),
    (1, 3, "RWX", "all 0: leads to a table", "a leaf"),
    (4, 4, "U", "0 in a pointer", "reserved here"),
    (5, 5, "G", "not global", "global: all below is"),
    (6, 6, "A", "0 in a pointer", "reserved here"),
    (7, 7, "D", "0 in a pointer", "reserved here"),
    (8, 9, "RSW", "software: unused", "software"),
    (10, 53, "PPN", "frame 0", "the next table is frame {value:#x}"),
    (54, 60, "-", "reserved: 0", "reserved: must be 0"),
    (61, 62, "PBMT", "0 in a pointer", "reserved here"),
    (63, 63, "N", "0 in a pointer", "reserved here"),
)
