"""AddressSpace: the memory of one process ("mm"): its areas, its page tables, and what the machine caches of them.

Each verb lives in a module of its own; the methods here are their names. All raise errno classes and, when no frame is left,
OutOfMemory (an ENOMEM).

Invariants:
- a page is present only inside an area, with permissions the area grants;
- whatever lowers a permission or replaces a frame first flushes the machine and forgets what `uaccess` remembers, then
  lets go of frames;
- `users` counts the tasks; the last `put` ends the space.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EFAULT, EINVAL, ENOMEM
from trapline.abi.mman import (
    MAX_MAP_COUNT,
    MMAP_MIN_ADDR,
    PROT_EXEC,
    PROT_WRITE,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_SHARED,
)
from trapline.kernel.mm import advice, brk, fork, image, lock, mapping, protect, remap, stack
from trapline.kernel.mm import policy as policies
from trapline.kernel.mm.area import Area, AreaList, Mappable, spans
from trapline.kernel.mm.errors import OutOfFrames, OutOfMemory
from trapline.kernel.mm.fault import SEGV_ACCERR, SEGV_MAPERR, SIGSEGV, repair
from trapline.kernel.mm.leaves import put_runs, write_protect, zap, zap_files
from trapline.kernel.mm.mould import Cast, Mould
from trapline.kernel.mm.page_cache import PageCache
from trapline.kernel.mm.policy import MmLimits, Policy
from trapline.kernel.mm.populate import prefault_kin
from trapline.kernel.mm.reclaim import EVICT_PAGES, evict, reclaimer
from trapline.kernel.mm.tables import PageTables, Run
from trapline.kernel.mm.uaccess import UserAccess
from trapline.kernel.sync.budget import Budgets
from trapline.machine.contract import READ
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.machine.contract import Machine

MMAP_RND_BITS = 28  #: pages of randomness in where mappings start, as vm.mmap_rnd_bits on x86-64
STACK_RND = 16 << 30  #: at most this much of user space's end is randomness of the stack
MIN_GAP, STACK_SLACK = 128 << 20, 1 << 20
AREAS = Budgets(1, 1 << 19)  #: areas of all spaces on a machine
AREAS_AT_ONCE = 64  #: are taken from that
SMALL_PAGES = 512  #: a space with no more pages of its own may keep them for a while after its end

NAMED = b"[anon:"  #: how the names begin that programs give to areas, with PR_SET_VMA_ANON_NAME

#: what exec sets and fork copies
_LAYOUT = (
    "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack", "arg_start", "arg_end",
    "env_start", "env_end", "saved_auxv", "mmap_base", "bottom_up", "membarrier", "stack_top", "vdso",
)  # fmt: skip


class AddressSpace(UserAccess):
    """One address space. `exe_file`, if set, is a reference of its own, put when the space ends."""

    __slots__ = (
        "_gap_from", "_gap_largest", "_hiwater", "admitted", "arg_end", "arg_start", "aslr", "bottom_up", "brk", "cast",
        "cow_pages", "data_pages", "default_flags", "end_code", "end_data", "env_end", "env_start", "exe_file", "exec_pages",
        "hiwater_vm_pages", "huge_pages", "limits", "locked_pages", "machine", "majflt", "map", "membarrier", "minflt",
        "mmap_base", "mould", "policy", "rng", "rss_anon", "rss_file", "saved_auxv", "shared_pages", "space", "stack_pages",
        "stack_top", "start_brk", "start_code", "start_data", "start_stack", "total_vm_pages", "users", "vdso",
    )  # fmt: skip

    def __init__(
        self,
        machine: Machine,
        limits: MmLimits | None = None,
        *,
        aslr: bool = True,
        bottom_up: bool = False,
        rng: Callable[[int], int] | None = None,
        policy: Policy | None = None,
        like: AddressSpace | None = None,
    ) -> None:
        """`rng(n)` gives n random bits. `bottom_up`: mappings grow up from a third of user space, as of old. `like`: take the
        layout of another space instead of choosing one."""
        try:
            tables = PageTables(machine.ram, machine.arch.paging)
        except OutOfFrames:
            raise OutOfMemory from None
        super().__init__(machine.ram, tables, machine.arch.task_size)
        self.machine = machine
        self.limits = limits or MmLimits()
        self.policy = policy or (policies.TOGETHER if machine.prefers_runs else policies.DEFAULT)
        self.aslr = aslr and rng is not None
        self.rng = rng
        self.users = 1
        self.admitted = 0  #: areas that were taken from the budget for this space
        self.map = AreaList()
        self.mould: Mould | None = None  #: how the last fork copied it
        self.cast: Cast | None = None  #: how it was copied from its parent
        self.default_flags = 0  #: VM_* of every new area: mlockall(MCL_FUTURE)
        self.exe_file: Any = None
        self.total_vm_pages = self.data_pages = self.exec_pages = self.stack_pages = 0
        self.shared_pages = self.locked_pages = self.hiwater_vm_pages = self.huge_pages = 0
        self.rss_anon = self.rss_file = self._hiwater = 0
        self.minflt = self.majflt = self.cow_pages = 0
        if like is not None:
            for field in _LAYOUT:
                setattr(self, field, getattr(like, field))
        else:
            self.start_code = self.end_code = self.start_data = self.end_data = self.start_brk = self.brk = 0
            self.start_stack = self.arg_start = self.arg_end = self.env_start = self.env_end = 0
            self.saved_auxv = b""
            self.membarrier = 0
            self.stack_top = 0
            self.vdso = 0  #: where exec mapped it; 0: nowhere
            self.bottom_up = bottom_up
            self.mmap_base = self._choose_mmap_base()
        self._gap_from = self.mmap_base
        self._gap_largest = 0  #: no gap in [_gap_from, mmap_base) is larger
        try:
            self.space = machine.new_space(tables.root)
        except BaseException:
            machine.ram.frames.put(tables.root)
            raise

    # ---- layout

    def random_bits(self, bits: int) -> int:
        """So many random bits; 0 without ASLR."""
        return self.rng(bits) if self.aslr and self.rng is not None else 0

    @property
    def mmap_random_bits(self) -> int:
        """Pages of randomness that leave most of user space in one piece."""
        return min(MMAP_RND_BITS, self.task_size.bit_length() - 6 - PAGE_SHIFT)

    def _choose_mmap_base(self) -> int:
        """Where mappings grow down from: below the stack's limit and its randomness (mmap_base in arch/x86/mm/mmap.c)."""
        if self.bottom_up:
            return (self.task_size // 3 + (self.random_bits(self.mmap_random_bits) << PAGE_SHIFT)) & -PAGE_SIZE
        gap = self.limits.stack + STACK_SLACK + (STACK_RND if self.aslr else 0)
        gap = min(max(gap, MIN_GAP), self.task_size // 6 * 5)
        return (self.task_size - gap - (self.random_bits(self.mmap_random_bits) << PAGE_SHIFT)) & -PAGE_SIZE

    def cached_gap(self, length: int, align: int) -> int | None:
        """`find_gap` below mmap_base; what is known to have no gap so large is not searched again. Or a gap above it."""
        if self.bottom_up:
            return mapping.lowest_gap(self, length, self.mmap_base, self.task_size, align)
        if length > self._gap_largest:
            high, known = self._gap_from, self._gap_largest
        else:
            high, known = self.mmap_base, 0
        found, largest = mapping.find_gap(self, length, MMAP_MIN_ADDR, high, align)
        if found is not None:
            self._gap_from = found
            self._gap_largest = max(known, largest)
        return found

    def forget_gaps(self, end: int) -> None:
        """Something below `end` was unmapped: above `_gap_from`, gaps may be larger than `_gap_largest` now."""
        if end > self._gap_from:
            self._gap_from = self.mmap_base
            self._gap_largest = 0

    # ---- life

    def get(self) -> AddressSpace:
        self.users += 1
        return self

    def put(self, later: Callable[[Callable[[], None]], object] | None = None) -> None:
        """One user less; the last one ends the space: none of its contexts runs any more.

        `later`: where to leave what remains to be done, so that others need not wait for it; the frames of a small space,
        which nobody can tell from free ones, wait even longer (`Reclaimer.ends`).
        """
        self.users -= 1
        if self.users:
            return
        self.space.close()
        if later is None or self._end_is_counted():
            self._end()
        elif self.rss_anon > SMALL_PAGES or self._writes_for_others():
            later(self._end)
        else:
            later(self._let_go)
            reclaimer(self.ram).ends.append(self._free)

    def _end_is_counted(self) -> bool:
        """Others see by a number that the space has ended: huge pages that are free again, attachments of shmat(2)."""
        if self.huge_pages:
            return True
        return bool(self.shared_pages) and any(
            each.flags & VM_SHARED and getattr(each.file, "counts_areas", False) for each in self.map.areas
        )

    def _end(self) -> None:
        """Let go of everything: no user is left."""
        self._free()
        self._let_go()

    def _free(self) -> None:
        """Free the frames. The areas stay as they are."""
        self.forget()
        if self._writes_for_others():
            self.space.settle()  # others may rely on that being over
        runs: list[Run] = []
        if self.cast is not None and self.cast.holds(self.tables):
            runs += (self.tables.root, 1), self.cast.run()
            self.tables.close([])
        else:
            for start, end in spans(self.map.areas):
                zap(self.tables, start, end, runs)
            self.tables.close(runs)
        put_runs(self.ram.frames, runs)
        if self.ram.frames.swap is not None:
            self.ram.frames.swap.holders.pop(self, None)

    def _writes_for_others(self) -> bool:
        """It may have written what others map too."""
        return self.shared_pages > 0 and any(each.flags & VM_SHARED and each.flags & VM_MAYWRITE for each in self.map.areas)

    def _let_go(self) -> None:
        """Let go of what others know of: files."""
        AREAS.of(self.machine).give(self.admitted)
        for area in self.map.areas:
            area.close()
        if self.exe_file is not None:
            self.exe_file.put()
            self.exe_file = None

    def admit(self, count: int = 1) -> None:
        """There are going to be `count` areas more. Raises ENOMEM."""
        wanted = len(self.map.areas) + count
        if wanted > MAX_MAP_COUNT:
            raise ENOMEM("too many areas")
        if wanted > self.admitted:
            more = max(wanted - self.admitted, AREAS_AT_ONCE)
            if not AREAS.of(self.machine).take(more):
                raise ENOMEM("too many areas in all processes")
            self.admitted += more

    def fork(self) -> AddressSpace:
        """A copy-on-write copy. Raises ENOMEM. (Nobody relies on a page's place in a call that begins with this.)"""
        try:
            return fork.fork(self)
        except OutOfMemory:
            if self.ram.frames.swap is None or not evict(self.ram, EVICT_PAGES + 2 * self.tables.table_pages):
                raise
        return fork.fork(self)

    # ---- faults

    def fault(self, addr: int, access: int) -> tuple[int, int, int] | None:
        """None: repaired, the access may be tried again. Else (signo, si_code, si_addr). Raises OutOfMemory."""
        area = self.map.find(addr)
        if area is not None and not area.known and area.file is not None and not area.flags & VM_SHARED:
            if area.prot & access or (access == READ and area.prot):
                prefault_kin(self, area)
        repair = self.repair if self.ram.frames.swap is None else self._repair_frugally
        try:
            return repair(addr, access)
        except OutOfMemory:
            if not evict(self.ram, EVICT_PAGES):
                raise
        return repair(addr, access)

    def _repair_frugally(self, addr: int, access: int) -> tuple[int, int, int] | None:
        """`repair` for user code, which can wait or die: the last frames are left to the kernel's own accesses."""
        frames = self.ram.frames
        frames.kept = frames.swap.reserve
        try:
            return self.repair(addr, access)
        finally:
            frames.kept = 0

    def repair(self, addr: int, access: int) -> tuple[int, int, int] | None:
        """`fault`, without taking mapped pages of files from anybody."""
        area = self.map.find(addr)
        if area is None:
            area = stack.expand(self, addr)
            if area is None:
                return SIGSEGV, SEGV_MAPERR, addr
        if not (area.prot if access == READ else area.prot & access):
            return SIGSEGV, SEGV_ACCERR, addr
        try:
            return repair(self, area, addr, access)
        except OutOfFrames:
            raise OutOfMemory from None

    def zap(self, start: int, end: int, *, copies: bool) -> None:
        """Unmap the pages of [start, end) but keep the areas; `copies`: private pages too, not only those of files."""
        runs: list[Run] = []
        if copies:
            files, others = zap(self.tables, start, end, runs)
        else:
            files, others = zap_files(self.tables, start, end), 0
        self.unmapped(files, others)
        if files or runs:
            self.forget()
            self.space.flush(start, end)
            put_runs(self.ram.frames, runs)

    def write_protect(self, start: int, end: int) -> None:
        """The next write to each page of [start, end) is to fault."""
        if write_protect(self.tables, start, end):
            self.forget()
            self.space.flush(start, end, downgrade=True)

    # ---- the verbs

    def mmap(
        self, addr: int, length: int, prot: int, flags: int, file: Mappable | None = None, offset: int = 0
    ) -> int:
        """mmap(2); `file` is None for MAP_ANONYMOUS; `offset` is a multiple of the page size."""
        return mapping.mmap(self, addr, length, prot, flags, file, offset)

    def munmap(self, addr: int, length: int) -> None:
        mapping.munmap(self, addr, length)

    def mprotect(self, addr: int, length: int, prot: int, implied: int = 0) -> None:
        protect.mprotect(self, addr, length, prot, implied)

    def mremap(self, old: int, old_length: int, new_length: int, flags: int, new: int = 0) -> int:
        return remap.mremap(self, old, old_length, new_length, flags, new)

    def remap_file_pages(self, addr: int, length: int, prot: int, page: int, flags: int) -> int:
        return mapping.remap_file_pages(self, addr, length, prot, page, flags)

    def set_brk(self, addr: int, implied: int = 0) -> int:
        """brk(2) as the kernel has it: the new break, or the old one if that cannot be."""
        return brk.set_brk(self, addr, implied)

    def madvise(self, addr: int, length: int, behaviour: int) -> None:
        advice.madvise(self, addr, length, behaviour)

    def msync(self, addr: int, length: int, flags: int) -> None:
        advice.msync(self, addr, length, flags)

    def mincore(self, addr: int, length: int) -> bytes:
        return advice.mincore(self, addr, length)

    def mlock(self, addr: int, length: int, flags: int = 0) -> None:
        lock.mlock(self, addr, length, flags)

    def munlock(self, addr: int, length: int) -> None:
        lock.munlock(self, addr, length)

    def mlockall(self, flags: int) -> None:
        lock.mlockall(self, flags)

    def munlockall(self) -> None:
        lock.munlockall(self)

    def map_image(
        self,
        addr: int,
        length: int,
        prot: int,
        source: Mappable | PageCache | None,
        offset: int,
        file_bytes: int,
        name: bytes = b"",
        flags: int = 0,
    ) -> int:
        """A segment of a program at exactly `addr`: `file_bytes` of `source`, then zeros up to `length`."""
        return image.map_image(self, addr, length, prot, source, offset, file_bytes, name, flags)

    def map_special(self, addr: int | None, pages: list[int], prot: int, name: bytes) -> int:
        """Map frames that the kernel owns; where."""
        return image.map_special(self, addr, pages, prot, name)

    def set_stack(self, top: int = 0, size_limit: int | None = None, *, executable: bool = False) -> int:
        """Make the stack, ending at `top` (0: choose); its end. `size_limit` replaces RLIMIT_STACK."""
        return stack.set_stack(self, top, size_limit, executable)

    # ---- what is there

    def areas(self) -> Iterable[Area]:
        return tuple(self.map.areas)

    def area_name(self, area: Area) -> bytes:
        """What /proc/PID/maps shows for an area without a file: b"[heap]", b"[stack]", a special name, or nothing."""
        if area.name and area.name[:6] != NAMED:
            return area.name
        if area.cache is not None:
            return b"/dev/zero (deleted)" if area.file is None else b""
        if area.start <= self.brk and area.end >= self.start_brk and self.brk > self.start_brk:
            return b"[heap]"
        if area.start <= self.start_stack < area.end or area.start < self.stack_top == area.end:
            return b"[stack]"
        return area.name

    def futex_key(self, addr: int, shared: bool) -> Hashable:
        """What a futex at `addr` is known by: in a shared area the place in its cache, else the place in this space."""
        if not 0 <= addr < self.task_size:
            raise EFAULT
        if addr & 3:
            raise EINVAL("not aligned")
        if shared:
            area = self.map.find(addr)
            if area is None or not area.prot:
                raise EFAULT
            if area.flags & VM_SHARED:
                return area.cache, addr - area.start + area.offset
        return self, addr

    @property
    def rss_pages(self) -> int:
        return self.rss_anon + self.rss_file

    @property
    def hiwater_rss_pages(self) -> int:
        return max(self._hiwater, self.rss_anon + self.rss_file)

    def unmapped(self, files: int, others: int) -> None:
        """So many pages of page caches, and of other kinds, were unmapped."""
        rss = self.rss_anon + self.rss_file
        if rss > self._hiwater:
            self._hiwater = rss
        self.rss_file -= files
        self.rss_anon -= others

    def account(self, area: Area, pages: int) -> None:
        """`pages` more (or less) of what kind of memory `area` is."""
        self.total_vm_pages += pages
        if self.total_vm_pages > self.hiwater_vm_pages:
            self.hiwater_vm_pages = self.total_vm_pages
        prot, flags = area.prot, area.flags
        if flags & VM_LOCKED:
            self.locked_pages += pages
        if flags & VM_HUGETLB:
            self.huge_pages += pages
        if flags & VM_GROWSDOWN:
            self.stack_pages += pages
        elif prot & PROT_WRITE and not flags & VM_SHARED:
            self.data_pages += pages
        elif prot & PROT_EXEC and not prot & PROT_WRITE:
            self.exec_pages += pages
        if flags & VM_SHARED:
            self.shared_pages += pages
