"""Who shares a frame: every process, area and file that has the frames of one address space, found in all page tables.

A frame is known by its number. What is counted is what the tables say, so a frame that a fork(2) left to two processes, a
library's page, and shared memory look alike; the copy-on-write bit tells the first from the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.paging.walk import leaves
from trapline.scope.views.space import kind_of, memory_in, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trapline.kernel.core import Kernel
    from trapline.kernel.mm.address_space import AddressSpace


class Sharer(NamedTuple):
    """One mapping of the first of the frames."""

    pid: int
    command: str
    address: int
    area: str  #: its name
    rights: str


class Shared(NamedTuple):
    """Consecutive pages of the process whose consecutive frames have the same sharers."""

    start: int
    end: int
    frame: int  #: of the first page
    references: int  #: to that frame: page tables, page caches
    copy_on_write: bool
    file: str  #: whose page cache has them, "" if none
    offset: int  #: in bytes, in the file
    sharers: tuple[Sharer, ...]  #: others, and other places in the same process


class _Leaf(NamedTuple):
    mm: Any
    va: int
    entry: int


def sharing(kernel: Kernel, pid: int, start: int = 0, end: int = 0) -> list[Shared]:
    """What of [start, end) of process `pid` (all by default) others have too, or a page cache. Raises KeyError."""
    mm = memory_of(kernel, pid)
    mine = {frame: leaf for frame, leaf in _frames(mm, start, end or mm.task_size) if _is_shared(mm, frame, leaf.entry)}
    users: dict[int, list[_Leaf]] = {frame: [] for frame in mine}
    for each in _spaces(kernel):
        for frame, leaf in _frames(each, 0, each.task_size):
            if frame in users and (each is not mm or leaf.va != mine[frame].va):
                users[frame].append(leaf)
    owners = _owners(kernel)
    found: list[Shared] = []
    for frame, leaf in sorted(mine.items(), key=lambda item: item[1].va):
        one = _describe(mm, frame, leaf, users[frame], owners)
        if found and _continues(found[-1], one):
            found[-1] = found[-1]._replace(end=one.end)
        else:
            found.append(one)
    return found


def _is_shared(mm: AddressSpace, frame: int, entry: int) -> bool:
    return bool(entry & mm.tables.fmt.soft_file) or mm.ram.frames.counts[frame] > 1


def _frames(mm: AddressSpace, start: int, end: int) -> Iterator[tuple[int, _Leaf]]:
    """Every frame that is mapped in a range, page by page."""
    fmt = mm.tables.fmt
    for va, step in leaves(mm.ram.words, mm.tables.root, start, end, fmt):
        first = fmt.pfn(step.entry)
        for page in range(1 << fmt.index_bits * step.level):
            at = va + (page << PAGE_SHIFT)
            if start <= at < end:
                yield first + page, _Leaf(mm, at, step.entry)


def _spaces(kernel: Kernel) -> list[AddressSpace]:
    """Each address space once."""
    found: dict[int, AddressSpace] = {}
    for group in kernel.groups.values():
        mm = memory_in(group)
        if mm is not None:
            found.setdefault(id(mm), mm)
    return list(found.values())


def _owners(kernel: Kernel) -> dict[int, list[Any]]:
    """The processes of each space, by its identity: several after vfork(2)."""
    found: dict[int, list[Any]] = {}
    for group in kernel.groups.values():
        mm = memory_in(group)
        if mm is not None:
            found.setdefault(id(mm), []).append(group)
    return found


def _describe(mm: AddressSpace, frame: int, leaf: _Leaf, others: list[_Leaf], owners: dict[int, list[Any]]) -> Shared:
    fmt = mm.tables.fmt
    area = mm.map.find(leaf.va)
    file, offset = "", 0
    if area is not None and leaf.entry & fmt.soft_file:
        name = area.file.display_path() if area.file is not None else mm.area_name(area)
        file, offset = name.decode(errors="replace"), leaf.va - area.start + area.offset
    sharers = [
        Sharer(group.pid, group.leader.comm.decode(errors="replace"), each.va, *_of_area(each))
        for each in others
        for group in owners[id(each.mm)]
    ]
    counts = mm.ram.frames.counts
    cow = bool(leaf.entry & fmt.soft_cow)
    return Shared(leaf.va, leaf.va + (1 << PAGE_SHIFT), frame, counts[frame], cow, file, offset, tuple(sharers))


def _of_area(leaf: _Leaf) -> tuple[str, str]:
    """The name of the area around a leaf, and what the area permits."""
    area = leaf.mm.map.find(leaf.va)
    if area is None:
        return "", "---"
    name = area.file.display_path() if area.file is not None else leaf.mm.area_name(area)
    letters = "".join(letter if area.prot & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
    return name.decode(errors="replace") or f"[{kind_of(leaf.mm, area, name)}]", letters


def _continues(before: Shared, after: Shared) -> bool:
    """`after` is the next page, frame, byte of the file, and the next page for every sharer."""
    size = before.end - before.start
    return (
        before.end == after.start
        and before.frame + (size >> PAGE_SHIFT) == after.frame
        and (before.references, before.copy_on_write, before.file) == (after.references, after.copy_on_write, after.file)
        and (not before.file or before.offset + size == after.offset)
        and tuple(each._replace(address=each.address + size) for each in before.sharers) == after.sharers
    )
