"""What is done to all leaves of a range at once: zap, protect, move, write-protect, and the copy that fork makes.

Entry by entry, Python is slow: stretches of a table are handled as bytes or as one big number, and only where frames have to
be found is there a loop.

Nothing here flushes or frees: callers first make the machine forget the range, then put the frames they are handed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, SLOT_SHIFT, ZEROS, PageTables, Run
from trapline.machine.paging.entry import PAGE_SHIFT
from trapline.machine.paging.lanes import LANES, ONES, first_set, last_set
from trapline.machine.ram import BLOCK_PAGES, Frames


def zap(tables: PageTables, start: int, end: int, runs: list[Run]) -> tuple[int, int]:
    """Unmap [start, end). Frames to put are appended to `runs`; how many pages of files, and of other kinds, there were."""
    files = others = 0
    words, fmt = tables.words, tables.fmt
    for va, word, pages in tables.pieces(start, end):
        if word < 0:
            entry = words[~word]
            words[~word] = 0
            del tables.blocks[va >> BLOCK_SHIFT]
            if entry & fmt.soft_file:  # of the pool of huge pages: a private leaf holds its first frame, a shared one nothing
                runs.append((fmt.pfn(entry), 1 if entry & fmt.soft_cow else 0))
                continue
            runs.append((fmt.pfn(entry), BLOCK_PAGES))
            others += BLOCK_PAGES
            continue
        data = tables.mem[word << 3 : (word + pages) << 3].tobytes()
        if data != bytes(len(data)):
            words[word : word + pages] = ZEROS[:pages]
            if tables.swapped:
                data = _without_swapped(tables, data, gone=True)
            of_files, of_others = _each_frame(tables, data, runs.append)
            files += of_files
            others += of_others
        if pages == LANES:  # the table is empty: a large leaf may take its place
            tables.unhook(va >> BLOCK_SHIFT, runs)
    return files, others


def census(tables: PageTables, data: bytes) -> tuple[int, int, int, int]:
    """Of the leaves in `data`: how many are a file's; how many are not; the lane of the first of these, and after the last."""
    lanes = int.from_bytes(data, "little")
    present = lanes & ONES
    of_files = lanes >> (tables.fmt.soft_file.bit_length() - 1) & present
    others = present ^ of_files
    if not others:
        return of_files.bit_count(), 0, 0, 0
    return of_files.bit_count(), others.bit_count(), first_set(others), last_set(others) + 1


def _each_frame(tables: PageTables, data: bytes, found: Callable[[Run], object]) -> tuple[int, int]:
    """Tell of the frames of all leaves in `data` that are not a file's, as runs; how many pages of files, and others."""
    files, others, first, last = census(tables, data)
    if not others:
        return files, 0
    fmt = tables.fmt
    mask, shift, soft_file, step = fmt.pfn_mask, fmt.pfn_shift, fmt.soft_file, tables.step
    start, follows = 0, -1
    for entry in array("Q", data[first << 3 : last << 3]):
        at = entry & mask
        if entry & soft_file or not entry:
            at = 0
        elif at == follows:
            follows += step
            continue
        if start:
            found((start >> shift, (follows - start) >> shift))
        start, follows = at, at + step if at else -1
    if start:
        found((start >> shift, (follows - start) >> shift))
    return files, others


def zap_files(tables: PageTables, start: int, end: int) -> int:
    """Unmap the pages in [start, end) that belong to a page cache; how many there were."""
    files = 0
    soft_file = tables.fmt.soft_file
    for _, word, pages in tables.pieces(start, end):
        if word < 0:
            continue
        for i, entry in enumerate(tables.words[word : word + pages].tolist(), word):
            if entry & soft_file:
                tables.words[i] = 0
                files += 1
    return files


def put_runs(frames: Frames, runs: list[Run]) -> None:
    """Put the frames that zapping collected; the range has been flushed. Neighbours, as fork makes them, go together."""
    runs.sort()
    start = end = 0
    for pfn, pages in runs:
        if pfn == end and end - start + pages <= BLOCK_PAGES:
            end += pages
            continue
        if start < end:
            frames.put_run(start, end - start)
        start, end = pfn, pfn + pages
    if start < end:
        frames.put_run(start, end - start)


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


def mapped(tables: PageTables, start: int, end: int) -> list[int]:
    """The addresses in [start, end) where a page of a file is mapped."""
    soft_file = tables.fmt.soft_file
    found = []
    for va, word, pages in tables.pieces(start, end):
        if word >= 0:
            for i, entry in enumerate(tables.words[word : word + pages].tolist()):
                if entry & soft_file:
                    found.append(va + (i << PAGE_SHIFT))
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

    How many pages of files and of other kinds were copied, and the (address, entries) of what lost write permission, with
    only the permission left in the entries.
    """
    files = others = 0
    lost: list[Run] = []
    mem, get_run = tables.mem, tables.frames.get_run
    for block in tables.in_range(start, end):
        base = tables.blocks[block]
        va = block << BLOCK_SHIFT
        if base < 0 and (va < start or va + BLOCK_SIZE > end):
            base = tables.split(block)
        if base < 0:
            _copy_large(tables, child, block, private, lost)
            others += LANES
            continue
        first = (max(va, start) - va) >> PAGE_SHIFT
        last = (min(va + BLOCK_SIZE, end) - va) >> PAGE_SHIFT
        data = mem[(base + first) << 3 : (base + last) << 3].tobytes()
        trimmed = data.rstrip(b"\0")
        if not trimmed:
            continue
        target = child.blocks.get(block)
        if target is None:
            target = child.make(block)
        last = first + ((len(trimmed) + 7) >> 3)
        skipped = (len(data) - len(data.lstrip(b"\0"))) >> 3
        data = data[skipped << 3 : (last - first) << 3]
        first += skipped
        present = data
        if tables.swapped:
            present = _without_swapped(tables, data)
            child.swapped += _share_swapped(tables, data)
        of_files, of_others = _each_frame(tables, present, lambda run: get_run(*run))
        files += of_files
        others += of_others
        if private and of_others:  # what is a file's is read-only and marked already
            lanes = int.from_bytes(data, "little")
            shared, writable = _share(tables, lanes)
            if writable:
                lost.append((va + (first << PAGE_SHIFT), writable))
            data = shared.to_bytes(len(data), "little")
            mem[(base + first) << 3 : (base + last) << 3] = data
        mem[(target + first) << 3 : (target + last) << 3] = data
    return files, others, lost


def _without_swapped(tables: PageTables, data: bytes, *, gone: bool = False) -> bytes:
    """`data` without the entries of pages in swap; `gone`: these let go of their places."""
    entries = array("Q", data)
    for i, entry in enumerate(entries):
        if entry and not entry & 1:
            entries[i] = 0
            if gone:
                tables.swapped -= 1
                tables.frames.swap.put(entry >> SLOT_SHIFT)
    return entries.tobytes()


def _share_swapped(tables: PageTables, data: bytes) -> int:
    """The entries of pages in swap are copied: one more reference to each place. How many there are."""
    found = [entry >> SLOT_SHIFT for entry in array("Q", data) if entry and not entry & 1]
    for slot in found:
        tables.frames.swap.get(slot)
    return len(found)


def _share(tables: PageTables, lanes: int) -> tuple[int, int]:
    """Entries made read-only and shared until written; and the write permissions they lost."""
    fmt = tables.fmt
    present = lanes & ONES
    writable = lanes & present * fmt.write
    return lanes ^ writable | present * fmt.soft_cow, writable


def _copy_large(tables: PageTables, child: PageTables, block: int, private: bool, lost: list[Run]) -> None:
    slot = child.slot(block)
    word = ~tables.blocks[block]
    entry = tables.words[word]
    if private:
        entry, writable = _share(tables, entry)
        if writable:
            lost.append((block << BLOCK_SHIFT, writable))
        tables.words[word] = entry
    tables.frames.get_run(tables.fmt.pfn(entry), BLOCK_PAGES)
    child.words[slot] = entry
    child.blocks[block] = ~slot
