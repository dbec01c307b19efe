"""What is done to all leaves of a range at once: zap, protect, move, write-protect, and the copy that fork makes.

Whole stretches of a table are handled as one list or one big number, since entry by entry Python is slow.

Nothing here flushes or frees: callers first make the machine forget the range, then put the frames they are handed.
"""

from __future__ import annotations

from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, LANES, ONES, ZEROS, PageTables, Run
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.ram import BLOCK_PAGES, Frames


def zap(tables: PageTables, start: int, end: int, runs: list[Run]) -> tuple[int, int]:
    """Unmap [start, end). Frames to put are appended to `runs`; how many pages of files, and of other kinds, there were."""
    files = others = 0
    words, fmt = tables.words, tables.fmt
    for va, word, pages in tables.pieces(start, end):
        if word < 0:
            runs.append((fmt.pfn(words[~word]), BLOCK_PAGES))
            words[~word] = 0
            del tables.blocks[va >> BLOCK_SHIFT]
            others += BLOCK_PAGES
            continue
        present = [each for each in words[word : word + pages].tolist() if each]
        if present:
            words[word : word + pages] = ZEROS[:pages]
            of_files = _collect(tables, present, runs)
            files += of_files
            others += len(present) - of_files
        if pages == LANES:  # the table is empty: a large leaf may take its place
            tables.unhook(va >> BLOCK_SHIFT, runs)
    return files, others


def zap_files(tables: PageTables, start: int, end: int, runs: list[Run]) -> int:
    """Unmap the pages in [start, end) that belong to a page cache; how many there were."""
    files = 0
    soft_file = tables.fmt.soft_file
    for _, word, pages in tables.pieces(start, end):
        if word < 0:
            continue
        for i, entry in enumerate(tables.words[word : word + pages].tolist(), word):
            if entry & soft_file:
                tables.words[i] = 0
                runs.append((tables.fmt.pfn(entry), 1))
                files += 1
    return files


def _collect(tables: PageTables, present: list[int], runs: list[Run]) -> int:
    """Append the frames of leaves as runs of consecutive ones; how many belong to a page cache."""
    fmt = tables.fmt
    mask, shift, soft_file = fmt.pfn_mask, fmt.pfn_shift, fmt.soft_file
    files = 0
    first = follows = -1
    for entry in present:
        pfn = (entry & mask) >> shift
        if entry & soft_file:
            files += 1
        if pfn == follows:
            follows += 1
            continue
        if first >= 0:
            runs.append((first, follows - first))
        first, follows = pfn, pfn + 1
    runs.append((first, follows - first))
    return files


def put_runs(frames: Frames, runs: list[Run]) -> None:
    """Put the frames that zapping collected; the range has been flushed."""
    put, put_run = frames.put, frames.put_run
    for pfn, pages in runs:
        if pages == 1:
            put(pfn)
        else:
            put_run(pfn, pages)


def protect(tables: PageTables, start: int, end: int, prot: int, may_write: bool) -> bool:
    """Give the leaves of [start, end) the permissions of PROT_* `prot`; whether any was present.

    What is shared until written (soft_cow) stays read-only. `may_write`: the area is private, or its writes need not be
    noticed; otherwise its leaves become writable one by one, by faults.
    """
    found = False
    for _, word, pages in tables.pieces(start, end):
        if word < 0:
            word, pages = ~word, 1
        lanes = tables.lanes(word, pages)
        if lanes:
            found = True
            tables.set_lanes(word, pages, _retag(tables, lanes, prot, may_write))
    return found


def _retag(tables: PageTables, lanes: int, prot: int, may_write: bool) -> int:
    fmt = tables.fmt
    present = lanes & ONES
    permissions = fmt.write | fmt.user | fmt.no_execute | fmt.execute | fmt.read
    lanes = lanes & ~(present * permissions) | present * tables.ro[prot]
    if prot & 2 and may_write:
        exclusive = present & ~(lanes >> (fmt.soft_cow.bit_length() - 1))
        lanes |= exclusive * (fmt.write | fmt.dirty)
    return lanes


def write_protect(tables: PageTables, start: int, end: int) -> bool:
    """Take write permission from the leaves of [start, end); whether any had it."""
    found = False
    write = ONES * tables.fmt.write
    for _, word, pages in tables.pieces(start, end):
        if word < 0:
            word, pages = ~word, 1
        lanes = tables.lanes(word, pages)
        if lanes & write:
            found = True
            tables.set_lanes(word, pages, lanes & ~write)
    return found


def move(tables: PageTables, old: int, new: int, length: int) -> None:
    """Move the leaves of [old, old + length) to `new`, where nothing is mapped. Raises OutOfFrames before it starts."""
    delta = new - old
    for va, word, pages in tables.pieces(old, old + length):
        if word < 0 and not delta & (BLOCK_SIZE - 1):
            tables.slot((va + delta) >> BLOCK_SHIFT)
            continue
        if word < 0:
            tables.split(va >> BLOCK_SHIFT)
        for block in range((va + delta) >> BLOCK_SHIFT, ((va + delta + (pages << PAGE_SHIFT) - 1) >> BLOCK_SHIFT) + 1):
            if block not in tables.blocks:
                tables.make(block)
    for va, word, pages in tables.pieces(old, old + length):
        if word < 0:
            _move_large(tables, va, va + delta)
        else:
            _move_piece(tables, va + delta, word, pages)


def _move_large(tables: PageTables, old: int, new: int) -> None:
    word = ~tables.blocks.pop(old >> BLOCK_SHIFT)
    slot = tables.slot(new >> BLOCK_SHIFT)
    tables.words[slot] = tables.words[word]
    tables.words[word] = 0
    tables.blocks[new >> BLOCK_SHIFT] = ~slot


def _move_piece(tables: PageTables, to: int, word: int, pages: int) -> None:
    words = tables.words
    while pages:
        lane = to >> PAGE_SHIFT & (LANES - 1)
        count = min(pages, LANES - lane)
        target = tables.blocks[to >> BLOCK_SHIFT] + lane
        words[target : target + count] = words[word : word + count]
        words[word : word + count] = ZEROS[:count]
        to, word, pages = to + (count << PAGE_SHIFT), word + count, pages - count


def copy(tables: PageTables, child: PageTables, start: int, end: int, private: bool) -> tuple[int, int, list[Run]]:
    """Give `child` the leaves of [start, end); what is private becomes read-only, shared until written, in both.

    How many pages of files and of other kinds were copied, and the (address, lanes) of what lost write permission.
    """
    fmt, words = tables.fmt, tables.words
    files = others = 0
    soft_cow = fmt.soft_cow.bit_length() - 1
    soft_file = ONES * fmt.soft_file
    lost: list[Run] = []
    for block in tables.in_range(start, end):
        base = tables.blocks[block]
        va = block << BLOCK_SHIFT
        if base < 0 and (va < start or va + (LANES << PAGE_SHIFT) > end):
            base = tables.split(block)
        if base < 0:
            _copy_large(tables, child, block, private, lost)
            others += LANES
            continue
        low = max(va, start)
        pages = (min(va + (LANES << PAGE_SHIFT), end) - low) >> PAGE_SHIFT
        lane = low >> PAGE_SHIFT & (LANES - 1)
        lanes = tables.lanes(base + lane, pages)
        if not lanes:
            continue
        target = child.blocks.get(block)
        target = lane + (child.make(block) if target is None else target)
        count = _count(tables, words[base + lane : base + lane + pages].tolist())
        if private:
            present = lanes & ONES
            writable = lanes & present * fmt.write
            shared = lanes ^ writable | present << soft_cow
            if writable:
                lost.append((low, writable))
            if shared != lanes:
                lanes = shared
                tables.set_lanes(base + lane, pages, lanes)
        of_files = (lanes & soft_file).bit_count()
        files += of_files
        others += count - of_files
        child.set_lanes(target, pages, lanes)
    return files, others, lost


def _count(tables: PageTables, entries: list[int]) -> int:
    """One more reference to the frame of each present leaf; how many there are."""
    counts, mask, shift = tables.counts, tables.fmt.pfn_mask, tables.fmt.pfn_shift
    found = 0
    for entry in entries:
        if entry:
            counts[(entry & mask) >> shift] += 1
            found += 1
    return found


def _copy_large(tables: PageTables, child: PageTables, block: int, private: bool, lost: list[Run]) -> None:
    fmt, word = tables.fmt, ~tables.blocks[block]
    entry = tables.words[word]
    slot = child.slot(block)
    if private:
        if entry & fmt.write:
            lost.append((block << BLOCK_SHIFT, entry & fmt.write))
        entry = entry & ~fmt.write | fmt.soft_cow
        tables.words[word] = entry
    tables.frames.get_run(fmt.pfn(entry), BLOCK_PAGES)
    child.words[slot] = entry
    child.blocks[block] = ~slot
