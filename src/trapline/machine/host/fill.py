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
from trapline.machine.paging.lanes import first_set, last_set, pattern

_P, _W, _U, _A, _D, _NX = FMT.present, FMT.write, FMT.user, FMT.accessed, FMT.dirty, FMT.no_execute
_PFN, _LARGE = FMT.pfn_mask, FMT.large
_CARE = _P | _W | _U | _NX | _PFN  #: must be equal along a run, but for the frame, which counts up
BLOCK_SHIFT = 21
BLOCK_MASK = (1 << BLOCK_SHIFT) - 1  #: what one leaf table maps
NEAR_PAGES = 24  #: how far on either side a run is looked for at first: most end sooner
FEW = 40  #: leaves that are looked at one by one in less time than all at once
Mapping = tuple[int, int, int, int]  #: start, end, pa, prot


def prot_of(entry: int) -> int:
    prot = PROT_READ if entry & _NX else PROT_READ | PROT_EXEC
    return prot | PROT_WRITE if entry & _W and entry & _D else prot


def pa_of(entry: int) -> int:
    return entry & _PFN


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
    near = min(around, NEAR_PAGES)
    before, after = _lengths(words, word, entry, near)
    if around > near and near in (before, after):
        before, after = _lengths(words, word, entry, around)
    start, end = va - (before << PAGE_SHIFT), va + ((after + 1) << PAGE_SHIFT)
    return start, min(end, STUB), (FMT.pfn(entry) - before) << PAGE_SHIFT, prot_of(entry)


def _lengths(words: memoryview, word: int, entry: int, around: int) -> tuple[int, int]:
    """How many leaves before and after `word`, at most `around` each, go on with `entry`'s run. Sets their A."""
    index = word & 511
    behind = min(around, index, FMT.pfn(entry))
    count = behind + 1 + min(around, 511 - index)
    base = word - behind
    ones, stairs = pattern(count)
    care = _CARE | _D if entry & _W and entry & _D else _CARE
    lanes = int.from_bytes(words[base : base + count].tobytes(), "little")
    wrong = lanes & ones * care ^ ones * ((entry & care) - (behind << PAGE_SHIFT)) + (stairs << PAGE_SHIFT)
    above = wrong >> (behind + 1 << 6)
    after = first_set(above) if above else count - behind - 1
    before = behind - 1 - last_set(wrong & (1 << (behind << 6)) - 1)
    run = before + 1 + after
    if ~(lanes >> (behind - before << 6)) & pattern(run)[0] * _A:
        for at in range(word - before, word + after + 1):
            words[at] |= _A
    return before, after


def present_runs(words: memoryview, root: int, start: int, end: int) -> list[Mapping]:
    """All that the pages [start, end) map for user mode, for a prefetch, as runs. Sets A."""
    found: list[Mapping] = []
    end = min(end, STUB)
    while start < end:
        word, level = _leaf(words, root, start)
        if word < 0:
            start = (start | BLOCK_MASK) + 1
            continue
        if level:
            runs, start = _large_run(words, word, level, start, end)
        else:
            count = min(512 - (word & 511), (end - start) >> PAGE_SHIFT)
            runs = (_runs_of_few if count <= FEW else _runs_of_table)(words, word, count, start)
            start += count << PAGE_SHIFT
        for each in runs:
            if found and _continues(found[-1], each):
                each = found[-1][0], each[1], found.pop()[2], each[3]
            found.append(each)
    return found


def same_leaves(words: memoryview, root: int, other: int, mappings: list[Mapping]) -> list[Mapping]:
    """Those of `mappings` whose pages both tables map by the same leaves, none of them large."""
    found: list[Mapping] = []
    block, here, there, small = -1, -1, -1, False
    for each in mappings:
        start, end, _, _ = each
        while start < end:
            if start >> BLOCK_SHIFT != block:
                block = start >> BLOCK_SHIFT
                here, level = _leaf(words, root, start & ~BLOCK_MASK)
                there, level_there = _leaf(words, other, start & ~BLOCK_MASK)
                small = here >= 0 and there >= 0 and not level | level_there
            first, last = start >> PAGE_SHIFT & 511, min((start | BLOCK_MASK) + 1, end) - 1 >> PAGE_SHIFT & 511
            mine, theirs = words[here + first : here + last + 1], words[there + first : there + last + 1]
            if not small or mine.tobytes() != theirs.tobytes():
                break
            start = (start | BLOCK_MASK) + 1
        else:
            found.append(each)
    return found


def _large_run(words: memoryview, word: int, level: int, start: int, end: int) -> tuple[list[Mapping], int]:
    """What a large leaf maps of [start, end), and where it ends."""
    size = PAGE_SIZE << FMT.index_bits * level
    entry = words[word]
    last = (start & -size) + size
    if not entry & _U:
        return [], last
    words[word] = entry | _A
    pa = (FMT.pfn(entry) << PAGE_SHIFT & -size) + (start & size - 1)
    return [(start, min(last, end), pa, prot_of(entry))], last


def _runs_of_table(words: memoryview, word: int, count: int, va: int) -> list[Mapping]:
    """The runs among `count` leaves from `word` on, the first of which maps `va`."""
    found: list[Mapping] = []
    lanes = int.from_bytes(words[word : word + count].tobytes(), "little")
    while lanes:
        skip = first_set(lanes)
        lanes >>= skip << 6
        word, va, count = word + skip, va + (skip << PAGE_SHIFT), count - skip
        entry = words[word]
        ones, stairs = pattern(count)
        care = _CARE | _D if entry & _W and entry & _D else _CARE
        wrong = lanes & ones * care ^ ones * (entry & care) + (stairs << PAGE_SHIFT)
        run = first_set(wrong) if wrong else count
        if entry & _P and entry & _U:
            found.append((va, va + (run << PAGE_SHIFT), FMT.pfn(entry) << PAGE_SHIFT, prot_of(entry)))
            if ~lanes & pattern(run)[0] * _A:
                for at in range(word, word + run):
                    words[at] |= _A
        lanes >>= run << 6
        word, va, count = word + run, va + (run << PAGE_SHIFT), count - run
    return found


def _runs_of_few(words: memoryview, word: int, count: int, va: int) -> list[Mapping]:
    """`_runs_of_table`, leaf by leaf."""
    found: list[Mapping] = []
    first = start = care = 0
    follows = -1
    for at, entry in enumerate(words[word : word + count].tolist(), word):
        if entry & care == follows:
            follows += PAGE_SIZE
        else:
            if first:
                found.append((start, va, FMT.pfn(first) << PAGE_SHIFT, prot_of(first)))
            if entry & _P and entry & _U:
                first, start = entry, va
                care = _CARE | _D if entry & _W and entry & _D else _CARE
                follows = (entry & care) + PAGE_SIZE
            else:
                first, care, follows = 0, 0, -1
        if first and not entry & _A:
            words[at] = entry | _A
        va += PAGE_SIZE
    if first:
        found.append((start, va, FMT.pfn(first) << PAGE_SHIFT, prot_of(first)))
    return found


def _continues(one: Mapping, other: Mapping) -> bool:
    return one[1] == other[0] and one[3] == other[3] and one[2] + (one[1] - one[0]) == other[2]
