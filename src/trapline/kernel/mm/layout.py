"""What a program says of its own memory: where its code, heap and arguments are (PR_SET_MM), and names of areas (PR_SET_VMA).

Both change what /proc/PID shows; of the addresses, `brk` and `start_brk` are what brk(2) goes by, too.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EBADF, EINVAL, ENOMEM
from trapline.abi.mman import MMAP_MIN_ADDR, RLIM_INFINITY, VM_HUGETLB
from trapline.abi.prctl import MM_MAP_FIELDS
from trapline.kernel.mm import mapping, seams
from trapline.kernel.mm.address_space import NAMED
from trapline.machine.paging.entry import PAGE_MASK

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

MAX_AUXV = 48 * 8  #: bytes of an auxiliary vector
MAX_NAME = 80
_NOT_IN_NAMES = b"\\`$[]"
_PAIRS = (("start_data", "end_data"), ("start_brk", "brk"), ("arg_start", "arg_end"), ("env_start", "env_end"))


def fields_of(mm: AddressSpace) -> dict[str, int]:
    """The addresses, by Linux's names for them."""
    return {name: getattr(mm, name) for name in MM_MAP_FIELDS}


def set_fields(mm: AddressSpace, fields: dict[str, int]) -> None:
    """Take over what `check_fields` let pass."""
    for name in MM_MAP_FIELDS:
        setattr(mm, name, fields[name])


def check_fields(mm: AddressSpace, fields: dict[str, int]) -> None:
    """Raise EINVAL for addresses that are none, that are in the wrong order, or that exceed RLIMIT_DATA."""
    if any(not MMAP_MIN_ADDR <= each < mm.task_size for each in fields.values()):
        raise EINVAL("an address outside of user space")
    if fields["start_code"] >= fields["end_code"] or any(fields[low] > fields[high] for low, high in _PAIRS):
        raise EINVAL("a range that ends before it begins")
    limit = mm.limits.data
    data = fields["brk"] - fields["start_brk"] + fields["end_data"] - fields["start_data"]
    if limit != RLIM_INFINITY and data > limit:
        raise EINVAL("RLIMIT_DATA")


def vector(raw: bytes) -> bytes:
    """An auxiliary vector from user memory, as far as its end; one that has none ends where the kernel's room does."""
    whole = raw.ljust(MAX_AUXV, b"\0")[: MAX_AUXV - 16] + bytes(16)
    for at in range(0, MAX_AUXV, 16):
        if not any(whole[at : at + 8]):
            return whole[: at + 16]
    return whole


def name_areas(mm: AddressSpace, start: int, length: int, name: bytes | None) -> None:
    """PR_SET_VMA_ANON_NAME. EINVAL; EBADF: a file's area; ENOMEM: not all of it is mapped, and the rest has its name."""
    if name is not None and any(not 0x20 <= each < 0x7F or each in _NOT_IN_NAMES for each in name):
        raise EINVAL("a character that names may not have")
    end = start + mapping.page_align(length)
    if start & PAGE_MASK or end >= 1 << 64:
        raise EINVAL
    if end == start:
        return
    shown = b"%b%b]" % (NAMED, name) if name is not None else b""
    reached, gap = start, False
    try:
        for area in mm.map.overlapping(start, min(end, mm.task_size)):
            gap |= area.start > reached
            low, reached = max(area.start, start), min(area.end, end)
            if area.cache is not None or area.flags & VM_HUGETLB or (area.name and not area.name.startswith(NAMED)):
                raise EBADF("only anonymous memory has a name")
            if area.name != shown:
                for part in seams.isolate(mm, low, reached):
                    part.name = shown
    finally:
        seams.merge_range(mm, start, reached)
    if gap or reached < end:
        raise ENOMEM("not mapped")
