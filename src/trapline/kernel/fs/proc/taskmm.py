"""/proc/PID/{maps,smaps,smaps_rollup,pagemap,mem,auxv,cmdline,environ}: a task's memory as text and as bytes, proc(5).

What `smaps` and `pagemap` say is read from the page tables, not from counters.
"""

from __future__ import annotations

from collections import Counter
from struct import pack
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import mman as m
from trapline.abi.capability import CAP_SYS_ADMIN
from trapline.abi.errno import EFAULT, EINVAL, EIO, ESRCH
from trapline.abi.fcntl import SEEK_CUR, SEEK_SET
from trapline.abi.stat import major, minor
from trapline.kernel.fs.file import File
from trapline.kernel.fs.proc.base import TaskFile, check_inspect
from trapline.kernel.mm.page_cache import within
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE
from trapline.machine.paging.walk import leaves, spans

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path

VSYSCALL = b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
_VMFLAGS = (
    (m.VM_SHARED, b"sh"), (m.VM_MAYREAD, b"mr"), (m.VM_MAYWRITE, b"mw"), (m.VM_MAYEXEC, b"me"), (m.VM_MAYSHARE, b"ms"),
    (m.VM_GROWSDOWN, b"gd"), (m.VM_LOCKED, b"lo"), (m.VM_SEQ_READ, b"sr"), (m.VM_RAND_READ, b"rr"), (m.VM_DONTCOPY, b"dc"),
    (m.VM_DONTEXPAND, b"de"), (m.VM_ACCOUNT, b"ac"), (m.VM_NORESERVE, b"nr"), (m.VM_HUGETLB, b"ht"), (m.VM_WIPEONFORK, b"wf"),
    (m.VM_DONTDUMP, b"dd"), (m.VM_HUGEPAGE, b"hg"), (m.VM_NOHUGEPAGE, b"nh"), (m.VM_MERGEABLE, b"mg"),
)  # fmt: skip
_PROTS = ((1, b"rd"), (2, b"wr"), (4, b"ex"))
_PRESENT, _SWAPPED, _FILE, _EXCLUSIVE = 1 << 63, 1 << 62, 1 << 61, 1 << 56
MAX_STRING = 1 << 20
NUMBER_ENDS = 24  #: the column where the numbers of smaps end
PAGE_KB = PAGE_SIZE >> 10
#: The fields of smaps that are counted, in order.
COUNTED = (
    "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced", "Anonymous",
    "KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap",
    "SwapPss",
)  # fmt: skip


def _line(mm: Any, area: Any) -> bytes:
    letters = b"".join(letter if area.prot & bit else b"-" for bit, letter in ((1, b"r"), (2, b"w"), (4, b"x")))
    dev = ino = 0
    name: bytes = mm.area_name(area)
    if area.file is not None:
        inode = area.file.inode
        dev, ino = inode.sb.dev, inode.ino
        name = area.file.display_path().replace(b"\n", b"\\012")
    head = b"%08x-%08x %b%b %08x %02x:%02x %d " % (
        area.start, area.end, letters, b"s" if area.flags & m.VM_SHARED else b"p",
        area.offset if area.cache is not None else 0, major(dev), minor(dev), ino,
    )  # fmt: skip
    return head.ljust(73) + name + b"\n" if name else head + b"\n"


def maps(task: Any) -> bytes:
    mm = task.mm
    if mm is None:
        return b""
    return b"".join(_line(mm, area) for area in mm.areas()) + _gate(mm)


def smaps(task: Any) -> bytes:
    mm = task.mm
    if mm is None:
        return b""
    users = Users()
    out = [_line(mm, area) + _detail(area, count(mm, area, users)) for area in mm.areas()]
    gate = _gate(mm)
    if gate:
        gate += _rows(4, 4, dict.fromkeys(COUNTED, 0), 0) + b"VmFlags: ex \n"
    return b"".join(out) + gate


def _gate(mm: Any) -> bytes:
    """The line of the page that every x86-64 process has above user space."""
    return VSYSCALL if mm.machine.arch.name == "x86_64" else b""


def smaps_rollup(task: Any) -> bytes:
    mm = task.mm
    if mm is None:
        raise ESRCH
    total = dict.fromkeys(COUNTED, 0)
    locked = 0
    areas, users = list(mm.areas()), Users()
    for area in areas:
        found = count(mm, area, users)
        locked += found["Pss"] if area.flags & m.VM_LOCKED else 0
        for name in COUNTED:
            total[name] += found[name]
    low, high = (areas[0].start, areas[-1].end) if areas else (0, 0)
    head = (b"%08x-%08x ---p 00000000 00:00 0 " % (low, high)).ljust(73) + b"[rollup]\n"
    rows = [("Rss", total["Rss"]), ("Pss", total["Pss"]), ("Pss_Dirty", total["Pss_Dirty"])]
    anon = min(total["Pss"], total["Anonymous"])
    rows += [("Pss_Anon", anon), ("Pss_File", total["Pss"] - anon), ("Pss_Shmem", 0)]
    rows += [(name, total[name]) for name in COUNTED[3:]] + [("Locked", locked)]
    return head + b"".join(_row(name, kb) for name, kb in rows)


def count(mm: Any, area: Any, shared: Users) -> dict[str, int]:
    """What the page tables hold for `area`, in kB."""
    fmt = mm.tables.fmt
    found = dict.fromkeys(COUNTED, 0)
    pss = pss_dirty = 0.0
    for (bits, users), pages in _tally(mm, area, shared, found).items():
        kb = pages * PAGE_KB
        anonymous = not bits & fmt.soft_file
        dirty = bool(bits & fmt.dirty) or anonymous
        found["Rss"] += kb
        found[("Private" if users == 1 else "Shared") + ("_Dirty" if dirty else "_Clean")] += kb
        found["Referenced"] += kb if bits & fmt.accessed else 0
        found["Anonymous"] += kb if anonymous else 0
        pss += kb / users
        pss_dirty += kb / users if dirty else 0
    found["Pss"], found["Pss_Dirty"] = int(pss), int(pss_dirty)
    if mm.ram.frames.swap is not None:
        sharers = _in_swap(mm, area)
        found["Swap"], found["SwapPss"] = len(sharers) * PAGE_KB, int(sum(PAGE_KB / each for each in sharers))
    return found


def _in_swap(mm: Any, area: Any) -> list[int]:
    """For each page of the area that is in swap: how many have it."""
    from trapline.kernel.mm.swap.entries import swapped

    swap = mm.ram.frames.swap
    users = [max(1, swap.count(slot) - (slot in swap.cache)) for _, slot in swapped(mm.tables, area.start, area.end)]
    cache = area.cache
    if cache is not None and area.flags & m.VM_SHARED:
        first = area.offset >> PAGE_SHIFT
        out = within(getattr(cache, "swapped", {}), first, first + area.pages)
        users += [max(1, len(cache.mappers))] * len(out)
    return users


def _tally(mm: Any, area: Any, shared: Users, found: dict[str, int]) -> Counter[tuple[int, int]]:
    """How many pages of `area` have which (bits of the leaf that count, users). `found` gets the rows of large leaves."""
    fmt, counts = mm.tables.fmt, mm.ram.frames.counts
    present, cached, mask, shift = fmt.present, fmt.soft_file, fmt.pfn_mask, fmt.pfn_shift
    telling = cached | fmt.dirty | fmt.accessed
    users = shared.of(area) if area.cache is not None else Counter()
    kept = mm.ram.frames.swap.slots if mm.ram.frames.swap is not None else ()  # the swap cache has these frames too
    tally: Counter[tuple[int, int]] = Counter()
    for va, level, _, entries in spans(mm.ram.words, mm.tables.root, area.start, area.end, fmt):
        if level:
            entry = entries[0]
            size = 1 << (PAGE_SHIFT + fmt.index_bits * level)
            pages = (min(va + size, area.end) - max(va, area.start)) >> PAGE_SHIFT
            if entry & cached:
                found[_kind_of_huge(area, va, fmt.pfn(entry))] += pages * PAGE_KB
            else:
                found["AnonHugePages"] += pages * PAGE_KB
                tally[entry & telling, counts[fmt.pfn(entry)]] += pages
            continue
        at = va - area.start + area.offset
        for entry in entries:
            if entry & present:
                pfn = (entry & mask) >> shift
                tally[entry & telling, users[at] if entry & cached else counts[pfn] - (pfn in kept)] += 1
            at += PAGE_SIZE
    return tally


class Users:
    """How many leaves map each page of a file, by its offset in bytes: counted once for all areas of one space.
    (Leaves hold no references: see mm.tables.)"""

    __slots__ = ("_by_cache",)

    def __init__(self) -> None:
        self._by_cache: dict[Any, Counter[int]] = {}

    def of(self, area: Any) -> Counter[int]:
        """Those of the area's file, as far as the area's space maps it."""
        found = self._by_cache.get(area.cache)
        if found is None:
            mine = [each for each in area.cache.mappers if each.mm is area.mm]
            low = min(each.offset for each in mine)
            high = max(each.offset + each.end - each.start for each in mine)
            found = self._by_cache[area.cache] = _count_users(area.cache, low, high)
        return found


def _count_users(cache: Any, low: int, high: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for each in cache.mappers:
        shift = each.offset - each.start
        start, end = max(each.start, low - shift), min(each.end, high - shift)
        if start < end:
            tables = each.mm.tables
            is_cached = tables.fmt.soft_file
            for va, level, _, entries in spans(tables.words, tables.root, start, end, tables.fmt):
                if not level:
                    first = va + shift
                    found.update(first + i * PAGE_SIZE for i, entry in enumerate(entries) if entry & is_cached)
    return found


def _kind_of_huge(area: Any, va: int, pfn: int) -> str:
    """Whether one leaf maps a page of the pool, or more do."""
    fmt, users = area.mm.tables.fmt, 0
    for each in area.cache.mappers:
        at = va - area.start + area.offset - each.offset + each.start
        users += each.start <= at < each.end and fmt.pfn(each.mm.tables.entry(at)) == pfn
    return "Private_Hugetlb" if users <= 1 else "Shared_Hugetlb"


def _row(name: str, kb: int) -> bytes:
    return f"{name}:{kb:{NUMBER_ENDS - 1 - len(name)}d} kB\n".encode()


_ROWS = b"".join(
    f"{name}:%{NUMBER_ENDS - 1 - len(name)}d kB\n".encode()
    for name in ("Size", "KernelPageSize", "MMUPageSize", *COUNTED, "Locked")
)


def _rows(size_kb: int, page_kb: int, found: dict[str, int], locked: int) -> bytes:
    return _ROWS % (size_kb, page_kb, page_kb, *found.values(), locked) + b"THPeligible:           0\n"


def _detail(area: Any, found: dict[str, int]) -> bytes:
    letters = [text for bit, text in _PROTS if area.prot & bit] + [text for bit, text in _VMFLAGS if area.flags & bit]
    locked = found["Pss"] if area.flags & m.VM_LOCKED else 0
    page_kb = 2048 if area.flags & m.VM_HUGETLB else 4
    return _rows((area.end - area.start) >> 10, page_kb, found, locked) + b"VmFlags: " + b" ".join(letters) + b" \n"


def _strings(task: Any, start: int, end: int) -> bytes:
    """What lies between two addresses, as far as it is there."""
    if task.mm is None or end <= start:
        return b""
    try:
        return bytes(task.mm.read(start, min(end - start, MAX_STRING)))
    except EFAULT:
        return b""


def cmdline(task: Any) -> bytes:
    """The arguments; where the last NUL was overwritten (setproctitle(3)), the text runs on into the environment."""
    mm = task.mm
    if mm is None:
        return b""
    text = _strings(task, mm.arg_start, mm.arg_end)
    if text and text[-1]:
        longer = text + _strings(task, mm.arg_end, min(mm.env_end, mm.arg_end + PAGE_SIZE))
        text = longer.partition(b"\0")[0] + b"\0" if b"\0" not in text else text
    return text


def environ(task: Any) -> bytes:
    mm = task.mm
    return _strings(task, mm.env_start, mm.env_end) if mm is not None else b""


def auxv(task: Any) -> bytes:
    return bytes(task.mm.saved_auxv) if task.mm is not None else b""


def _mapcount(mm: Any, va: int) -> int:
    """How many leaves map the page of a file at `va`."""
    area = mm.map.find(va)
    return int(area.cache.mapcount((va - area.start + area.offset) >> PAGE_SHIFT))


class _MemoryInode(TaskFile):
    """Opening needs the right to inspect the task, and stays with its memory of that moment."""

    __slots__ = ()


class MemInode(_MemoryInode):
    """/proc/PID/mem: the memory itself."""

    __slots__ = ()

    def open(self, path: Path, flags: int, task: Any) -> File:
        check_inspect(self.sb.kernel, self.task)  # type: ignore[attr-defined]
        return MemFile(self, flags, path)


class MemFile(File):
    """Reads and writes at an offset are at that address. The space is held, not the task."""

    __slots__ = ("mm", "task")

    def __init__(self, inode: _MemoryInode, flags: int, path: Path) -> None:
        super().__init__(inode, flags, path)
        self.task = inode.task
        self.mm = inode.task.mm.get() if inode.task.mm is not None else None

    def release(self) -> None:
        if self.mm is not None:
            self.mm.put()
            self.mm = None

    def try_read(self, count: int) -> bytes:
        data = self.try_pread(count, self.pos)
        self.pos += len(data)
        return data

    def try_write(self, data: bytes | memoryview) -> int:
        done = self.try_pwrite(data, self.pos)
        self.pos += done
        return done

    def try_pread(self, count: int, offset: int) -> bytes:
        if self.mm is None or not count:
            return b""
        try:
            return bytes(self.mm.read_partial(offset, count))
        except EFAULT:
            raise EIO from None

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """Write permission is that of the mapping: unlike Linux, a read-only page is not written through."""
        if self.mm is None or not len(data):
            return 0
        try:
            return int(self.mm.write_partial(offset, data))
        except EFAULT:
            raise EIO from None

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise EINVAL
        self.pos = offset & (1 << 63) - 1
        return self.pos


class PagemapInode(_MemoryInode):
    """/proc/PID/pagemap: one 64-bit word per page."""

    __slots__ = ()

    def open(self, path: Path, flags: int, task: Any) -> File:
        check_inspect(self.sb.kernel, self.task)  # type: ignore[attr-defined]
        return PagemapFile(self, flags, path, task is None or task.creds.has_cap(CAP_SYS_ADMIN))


class PagemapFile(MemFile):
    """Frame numbers are shown to whoever opened it with CAP_SYS_ADMIN; to others they are zero."""

    __slots__ = ("shows_frames",)

    def __init__(self, inode: _MemoryInode, flags: int, path: Path, shows_frames: bool) -> None:
        super().__init__(inode, flags, path)
        self.shows_frames = shows_frames

    def try_pread(self, count: int, offset: int) -> bytes:
        if offset & 7 or count & 7:
            raise EINVAL
        mm = self.mm
        start = offset >> 3 << PAGE_SHIFT
        if mm is None or start >= mm.task_size:
            return b""
        end = min(start + (min(count, 1 << 16) >> 3 << PAGE_SHIFT), mm.task_size)
        words = [0] * ((end - start) >> PAGE_SHIFT)
        fmt, counts = mm.tables.fmt, mm.ram.frames.counts
        for va, step in leaves(mm.ram.words, mm.tables.root, start, end, fmt):
            size = 1 << (PAGE_SHIFT + fmt.index_bits * step.level)
            cached = step.entry & fmt.soft_file
            first = fmt.pfn(step.entry)
            for page in range(max(va, start), min(va + size, end), PAGE_SIZE):
                pfn = first + ((page - va) >> PAGE_SHIFT)
                alone = (_mapcount(mm, page) if cached else counts[pfn]) <= 1
                bits = _PRESENT | (_FILE if cached else 0) | (_EXCLUSIVE if alone else 0)
                words[(page - start) >> PAGE_SHIFT] = bits | (pfn if self.shows_frames else 0)
        if mm.tables.swapped:
            from trapline.kernel.mm.swap.entries import swapped

            for va, slot in swapped(mm.tables, start, end):
                words[(va - start) >> PAGE_SHIFT] = _SWAPPED | slot >> 40 | (slot & (1 << 40) - 1) << 5
        return pack(f"<{len(words)}Q", *words)

    def try_pwrite(self, data: bytes | memoryview, offset: int) -> int:
        raise EINVAL

