"""Page-table entry formats: where each architecture keeps its bits.

Every format describes the same few ideas (present, write, user, execute, accessed, dirty, global, leaf) so that
one walk serves all. Sources: AMD64 Architecture Programmer's Manual, volume 2, "Page-Translation-Table Entry
Fields"; The RISC-V Instruction Set Manual, volume II, "Sv39: Page-Based 39-bit Virtual-Memory System".
"""

from __future__ import annotations

from trapline.typed import NamedTuple

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = PAGE_SIZE - 1


class Format(NamedTuple):
    """One entry format. Masks are of the 64-bit entry; 0 means that the format has no such bit.

    `write`/`user`/`accessed`/`dirty` permit when set. Execution is permitted by `execute` when that is non-zero,
    otherwise forbidden by `no_execute`. A leaf above level 0 has `large` set, or, where `leaf_any` is
    non-zero, any of those bits.
    """

    name: str
    levels: int
    index_bits: int
    present: int
    write: int
    user: int
    accessed: int
    dirty: int
    global_: int
    large: int
    no_execute: int
    execute: int
    leaf_any: int
    read: int
    pfn_mask: int  #: of the frame number, in place
    pfn_shift: int
    soft_cow: int  #: software bit: the frame is shared until it is written
    soft_file: int  #: software bit: the frame belongs to a page cache

    def is_leaf(self, entry: int, level: int) -> bool:
        if level == 0:
            return True
        return bool(entry & (self.leaf_any or self.large))

    def pfn(self, entry: int) -> int:
        return (entry & self.pfn_mask) >> self.pfn_shift

    def table(self, pfn: int) -> int:
        """An entry that points to the next-level table in frame `pfn`."""
        flags = self.present | (0 if self.leaf_any else self.write | self.user)
        return pfn << self.pfn_shift | flags

    def leaf(self, pfn: int, *, read: bool, write: bool, execute: bool, user: bool = True) -> int:
        """A level-0 leaf for frame `pfn`, not yet accessed or dirty."""
        flags = self.present | (self.user if user else 0) | (self.read if read else 0)
        flags |= self.write if write else 0
        if self.execute:
            flags |= self.execute if execute else 0
        elif not execute:
            flags |= self.no_execute
        return pfn << self.pfn_shift | flags

    def can_execute(self, entry: int) -> bool:
        return bool(entry & self.execute) if self.execute else not entry & self.no_execute


X86_64 = Format(
    name="x86-64 four-level", levels=4, index_bits=9,
    present=1, write=1 << 1, user=1 << 2, accessed=1 << 5, dirty=1 << 6, large=1 << 7, global_=1 << 8,
    no_execute=1 << 63, execute=0, leaf_any=0, read=0,
    pfn_mask=0x000F_FFFF_FFFF_F000, pfn_shift=12, soft_cow=1 << 9, soft_file=1 << 10,
)  # fmt: skip


def _sv(name: str, levels: int) -> Format:
    return Format(
        name=name, levels=levels, index_bits=9,
        present=1, read=1 << 1, write=1 << 2, execute=1 << 3, user=1 << 4, global_=1 << 5,
        accessed=1 << 6, dirty=1 << 7, large=0, no_execute=0, leaf_any=0b1110,
        pfn_mask=0x003F_FFFF_FFFF_FC00, pfn_shift=10, soft_cow=1 << 8, soft_file=1 << 9,
    )  # fmt: skip


SV39 = _sv("Sv39", 3)
SV48 = _sv("Sv48", 4)
SV57 = _sv("Sv57", 5)
