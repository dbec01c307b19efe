"""A TLB miss: walk our own tables, check the access, set A and D, and find the run of pages worth mapping at once.

What hardware does and what we do: A is set on every page that becomes reachable (the manuals let a CPU set it early); D is
exact: a writable page that is not dirty is mapped read-only until somebody writes to it.

Invariant: a page is mapped writable only if its leaf permits writing and is dirty; nothing above `STUB` is ever mapped.
"""

from __future__ import annotations

from trapline.machine.contract import EXEC, WRITE
from trapline.machine.host.layout import PROT_EXEC, PROT_READ, PROT_WRITE, STUB
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.paging.entry import X86_64 as FMT
from trapline.machine.paging.walk import Step, leaves

_P, _W, _U, _A, _D, _NX = FMT.present, FMT.write, FMT.user, FMT.accessed, FMT.dirty, FMT.no_execute
_PFN, _LARGE = FMT.pfn_mask, FMT.large
_FLAGS = _P | _W | _U | _NX  #: must be equal along a run
Mapping = tuple[int, int, int, int]  #: start, end, pa, prot


def prot_of(entry: int) -> int:
    prot = PROT_READ if entry & _NX else PROT_READ | PROT_EXEC
    return prot | PROT_WRITE if entry & _W and entry & _D else prot


def permitted(entry: int, access: int) -> bool:
    if not entry & _U or (access & WRITE and not entry & _W):
        return False
    return not (access & EXEC and entry & _NX)


def fill(words: memoryview, root: int, va: int, access: int, around: int) -> Mapping | None:
    """What to map so that `access` to `va` succeeds, A and D already set; None if the tables do not permit it.

    around: how many pages to look at on either side.
    """
    if va >= STUB:
        return None
    word, level = _leaf(words, root, va)
    old = words[word] if word >= 0 else 0
    if not old & _P or not permitted(old, access):
        return None
    entry = old | _A | (_D if access & WRITE else 0)
    if entry != old:
        words[word] = entry
    if level:
        size = PAGE_SIZE << FMT.index_bits * level
        start = va & -size
        return start, min(start + size, STUB), FMT.pfn(entry) << PAGE_SHIFT & -size, prot_of(entry)
    return _run(words, word, entry, va & -PAGE_SIZE, around)


def _leaf(words: memoryview, root: int, va: int) -> tuple[int, int]:
    """Where the leaf entry of `va` is, and its level: paging.walk, written out because every miss pays for it."""
    entry = words[(root << 9) + (va >> 39)]
    if entry & _P:
        word = ((entry & _PFN) >> 3) + (va >> 30 & 511)
        entry = words[word]
        if entry & _LARGE:
            return word, 2
        if entry & _P:
            word = ((entry & _PFN) >> 3) + (va >> 21 & 511)
            entry = words[word]
            if entry & _LARGE:
                return word, 1
            if entry & _P:
                return ((entry & _PFN) >> 3) + (va >> 12 & 511), 0
    return -1, 0


def _run(words: memoryview, word: int, entry: int, va: int, around: int) -> Mapping:
    """The run of pages around a leaf, within its table, that continue its frames with its rights."""
    index = word & 511
    care = _FLAGS | FMT.pfn_mask | (_D if entry & _W and entry & _D else 0)
    ahead = min(around, 511 - index)
    behind = min(around, index)
    after = _length(words, word + 1, ahead, 1, entry, care)
    before = _length(words, word - 1, behind, -1, entry, care)
    start, end = va - (before << PAGE_SHIFT), va + ((after + 1) << PAGE_SHIFT)
    end = min(end, STUB)
    return start, end, (FMT.pfn(entry) - before) << PAGE_SHIFT, prot_of(entry)


def _length(words: memoryview, word: int, limit: int, sign: int, entry: int, care: int) -> int:
    """How many leaves from `word` on, in direction `sign`, go on with `entry`'s run. Sets their A."""
    wanted = entry & care
    step = sign << PAGE_SHIFT
    for count in range(limit):
        wanted += step
        at = word + count * sign
        each = words[at]
        if each & care != wanted:
            return count
        if not each & _A:
            words[at] = each | _A
    return limit


def present_runs(words: memoryview, root: int, start: int, end: int) -> list[Mapping]:
    """All that [start, end) maps for user mode, for a prefetch. Sets A."""
    found: list[Mapping] = []
    for va, step in leaves(words, root, start, min(end, STUB), FMT):
        if not step.entry & _U:
            continue
        mapping = _whole(words, va, step)
        if found and _continues(found[-1], mapping):
            found[-1] = (found[-1][0], mapping[1], found[-1][2], mapping[3])
        else:
            found.append(mapping)
    return [(max(start, lo), min(hi, end), pa + max(0, start - lo), prot) for lo, hi, pa, prot in found]


def _whole(words: memoryview, va: int, step: Step) -> Mapping:
    if not step.entry & _A:
        words[step.word] = step.entry | _A
    size = PAGE_SIZE << FMT.index_bits * step.level
    return va, min(va + size, STUB), FMT.pfn(step.entry) << PAGE_SHIFT & -size, prot_of(step.entry)


def _continues(one: Mapping, other: Mapping) -> bool:
    return one[1] == other[0] and one[3] == other[3] and one[2] + (one[1] - one[0]) == other[2]
