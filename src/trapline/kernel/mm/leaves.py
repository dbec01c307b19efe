"""What is done to all leaves of a range at once: zap, protect, move, write-protect, and the copy that fork makes.

Entry by entry, Python is slow: stretches of a table are handled as bytes, as one big number, or in chunks of 16 pages, which
mostly hold 16 consecutive frames, as faults make them.

Nothing here flushes or frees: callers first make the machine forget the range, then put the frames they are handed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from struct import Struct

from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE, ZEROS, PageTables, Run
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.paging.lanes import LANES, ONES
from trapline.machine.ram import BLOCK_PAGES, Frames

CHUNK = 16
_CHUNK_BYTES = CHUNK * 8
_ENTRY = Struct("<Q")
_NOTHING = bytes(_CHUNK_BYTES)


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
            of_files, of_others = _each_frame(tables, data, runs.append)
            files += of_files
            others += of_others
        if pages == LANES:  # the table is empty: a large leaf may take its place
            tables.unhook(va >> BLOCK_SHIFT, runs)
    return files, others


def _each_frame(tables: PageTables, data: bytes, found: Callable[[Run], object]) -> tuple[int, int]:
    """Tell of the frames of all leaves in `data` that are not a file's, as runs; how many pages of files, and others."""
    fmt = tables.fmt
    mask, shift, soft_file = fmt.pfn_mask, fmt.pfn_shift, fmt.soft_file
    files = others = 0
    for at in range(len(data) - len(data.lstrip(b"\0")) & -_CHUNK_BYTES, len(data.rstrip(b"\0")), _CHUNK_BYTES):
        chunk = data[at : at + _CHUNK_BYTES]
        if chunk == _NOTHING[: len(chunk)]:
            continue
        entry = int.from_bytes(chunk[:8], "little")
        if entry and chunk == tables.consecutive(entry, len(chunk) >> 3):
            if entry & soft_file:
                files += len(chunk) >> 3
            else:
                others += len(chunk) >> 3
                found(((entry & mask) >> shift, len(chunk) >> 3))
            continue
        first = pages = 0
        for (entry,) in _ENTRY.iter_unpack(chunk):
            if entry & soft_file:
                files += 1
            elif entry:
                others += 1
                pfn = (entry & mask) >> shift
                if pfn == first + pages:
                    pages += 1
                    continue
                if pages:
                    found((first, pages))
                first, pages = pfn, 1
        if pages:
            found((first, pages))
    return files, others


def _ignore(_: Run) -> None:
    pass


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
        of_files, of_others = _each_frame(tables, data, lambda run: get_run(*run))
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


def duplicate(
    tables: PageTables, child: PageTables, start: int, end: int, pfn: int, limit: int
) -> tuple[int, int, list[Run]]:
    """`copy` of private memory that shares nothing: the pages go to frames from `pfn` on, before `limit`, in order.

    No leaf is large, and `child` has the tables. How many pages of files and of other kinds were copied, and the
    (address, end) of the latter.
    """
    files = others = 0
    ranges: list[Run] = []
    for va, word, pages in tables.pieces(start, end):
        data = tables.mem[word << 3 : (word + pages) << 3].tobytes()
        trimmed = data.rstrip(b"\0")
        if not trimmed:
            continue
        skipped = len(data) - len(data.lstrip(b"\0")) & -_CHUNK_BYTES
        target = child.blocks[va >> BLOCK_SHIFT] + (word & LANES - 1)
        copied: list[bytes] = []
        for at in range(skipped, len(trimmed), _CHUNK_BYTES):
            chunk, of_files, of_others = _duplicate_chunk(tables, data[at : at + _CHUNK_BYTES], pfn + others, limit)
            copied.append(chunk)
            files += of_files
            if of_others:
                others += of_others
                low, high = va + (at << PAGE_SHIFT - 3), va + (at + len(chunk) << PAGE_SHIFT - 3)
                if ranges and ranges[-1][1] == low:
                    low = ranges.pop()[0]
                ranges.append((low, high))
        written = b"".join(copied)
        tables.mem[(target << 3) + skipped : (target << 3) + skipped + len(written)] = written
    return files, others, ranges


def _duplicate_chunk(tables: PageTables, chunk: bytes, pfn: int, limit: int) -> tuple[bytes, int, int]:
    """The chunk with what is not a file's copied to frames from `pfn` on; how many pages of files, and of other kinds."""
    fmt = tables.fmt
    pages = len(chunk) >> 3
    if chunk == _NOTHING[: len(chunk)]:
        return chunk, 0, 0
    entry = int.from_bytes(chunk[:8], "little")
    whole = entry and chunk == tables.consecutive(entry, pages)
    if whole and entry & fmt.soft_file:
        return chunk, pages, 0
    keep = ~(fmt.pfn_mask | fmt.soft_cow)
    if pfn + pages > limit and pfn + _each_frame(tables, chunk, _ignore)[1] > limit:
        raise AssertionError("more private pages are mapped than were counted")
    if whole:
        source, at, size = fmt.pfn(entry) << PAGE_SHIFT, pfn << PAGE_SHIFT, pages << PAGE_SHIFT
        tables.mem[at : at + size] = tables.mem[source : source + size]
        return tables.consecutive(entry & keep | pfn << fmt.pfn_shift, pages), 0, pages
    mem, mask, shift, soft_file = tables.mem, fmt.pfn_mask, fmt.pfn_shift, fmt.soft_file
    files, to = 0, pfn
    entries = array("Q", chunk)
    for i, entry in enumerate(entries):
        if entry & soft_file:
            files += 1
        elif entry:
            source, at = (entry & mask) >> shift << PAGE_SHIFT, to << PAGE_SHIFT
            mem[at : at + PAGE_SIZE] = mem[source : source + PAGE_SIZE]
            entries[i] = entry & keep | to << shift
            to += 1
    return entries.tobytes(), files, to - pfn


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
