"""System calls on the caller's own mappings, and memory without a name: mmap(2) and its family."""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi.capability import CAP_IPC_LOCK
from trapline.abi.errno import EINVAL, ENODEV, ENOMEM, ENOSPC, ENOSYS
from trapline.abi.mman import (
    HUGE_SHIFT,
    MADV_COLD,
    MADV_PAGEOUT,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_HUGE_MASK,
    MAP_HUGE_SHIFT,
    MAP_HUGETLB,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MFD_EXEC,
    MFD_HUGETLB,
    MFD_NAME_MAX,
    MFD_NOEXEC_SEAL,
    MLOCK_ONFAULT,
    PROT_EXEC,
    PROT_READ,
)
from trapline.abi.mount import MS_NOEXEC
from trapline.abi.personality import READ_IMPLIES_EXEC
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.sync.park import breathe
from trapline.kernel.syscalls.declare import Arg, Fd, Hex, Int, Result, Size, Str, UserPtr, refuse, syscall
from trapline.kernel.task.task import WORK_EXIT
from trapline.machine.paging.entry import PAGE_MASK

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.task import Task

Prot = Annotated[int, Arg(64, "flags:prot")]
MapFlags = Annotated[int, Arg(64, "flags:mmap")]
MCORE_PIECE = 4096 << 12  #: bytes that one piece of a mincore(2) answer speaks of
ADVICE_PIECE = 16 << 20  #: bytes whose pages go to swap, or come back, at once
MOVES = (MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT)  #: advice that means swap
_MFD_FLAGS = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC
_MFD_HUGE = _MFD_FLAGS | MFD_HUGETLB | MAP_HUGE_MASK << MAP_HUGE_SHIFT
HUGE_SIZES = (0, HUGE_SHIFT)  #: log2 of what MAP_HUGETLB and MFD_HUGETLB may ask for; 0: the default
GIB_SHIFT = 30


def _locker(task: Task) -> AddressSpace:
    """The caller's address space, told whether CAP_IPC_LOCK frees it of RLIMIT_MEMLOCK."""
    mm = task.mm
    mm.limits.lock_freely = task.creds.has_cap(CAP_IPC_LOCK)
    return mm


@syscall("mmap", returns="ptr")
def sys_mmap(
    task: Task, addr: UserPtr, length: Size, prot: Prot, flags: MapFlags, fd: Fd, offset: Hex
) -> int:
    """mmap(2): map a file or fresh memory.

    Partial: huge pages are 2 MiB large: there is none of 1 GiB to be had (ENOMEM); MAP_SYNC is not supported; nobody may map
    below mmap_min_addr, CAP_SYS_RAWIO or not.
    """
    if offset & PAGE_MASK:
        raise EINVAL("offset not aligned")
    if flags & MAP_ANONYMOUS:
        if flags & MAP_HUGETLB:
            return _huge(task, addr, length, prot, flags)
        return _locker(task).mmap(addr, length, _implied(task, prot, None), flags, None, offset)
    file = task.files.get(fd)
    if flags & MAP_HUGETLB and not getattr(file, "maps_huge", False):
        raise EINVAL("not a file of huge pages")
    return _locker(task).mmap(addr, length, _implied(task, prot, file), flags, file, offset)


def _implied(task: Task, prot: int, file: File | None) -> int:
    """What may be read may be executed, if personality(2) says so and the file system permits it."""
    if not task.personality & READ_IMPLIES_EXEC or not prot & PROT_READ:
        return prot
    return prot if file is not None and file.path is not None and file.path.mount.flags & MS_NOEXEC else prot | PROT_EXEC


def _huge(task: Task, addr: int, length: int, prot: int, flags: int) -> int:
    """MAP_ANONYMOUS | MAP_HUGETLB: a mapping of a file of its own, that nothing else refers to."""
    from trapline.kernel.fs import hugetlbfs  # few programs want it

    size = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK
    if size == GIB_SHIFT:
        raise ENOMEM("no huge pages of 1 GiB")
    if size not in HUGE_SIZES:
        raise EINVAL("no huge pages of that size")
    if not length:
        raise EINVAL("length 0")
    file = hugetlbfs.open_unnamed(hugetlbfs.unnamed(task.kernel.vfs, task.creds), b"/anon_hugepage")
    try:
        return _locker(task).mmap(addr, length, prot, flags & ~MAP_ANONYMOUS, file, 0)
    finally:
        file.put()


@syscall("munmap")
def sys_munmap(task: Task, addr: UserPtr, length: Size) -> int:
    """munmap(2): remove mappings."""
    task.mm.munmap(addr, length)
    return 0


@syscall("mprotect")
def sys_mprotect(task: Task, addr: UserPtr, length: Size, prot: Prot) -> int:
    """mprotect(2): change what may be done to mapped memory."""
    task.mm.mprotect(addr, length, prot, implied=_implied(task, prot, None) & ~prot)
    return 0


@syscall("pkey_mprotect")
def sys_pkey_mprotect(task: Task, addr: UserPtr, length: Size, prot: Prot, pkey: Int) -> int:
    """pkey_mprotect(2): mprotect(2) with a protection key.

    Partial: there are no protection keys, as on a CPU without them: only pkey -1 is accepted.
    """
    if pkey != -1:
        raise EINVAL("no such protection key")
    task.mm.mprotect(addr, length, prot, implied=_implied(task, prot, None) & ~prot)
    return 0


@syscall("pkey_alloc")
def sys_pkey_alloc(task: Task, flags: Hex, rights: Hex) -> int:
    """pkey_alloc(2): allocate a protection key.

    Partial: there are none: ENOSPC, as on a CPU without them.
    """
    if flags or rights & ~3:
        raise EINVAL
    raise ENOSPC("no protection keys")


@syscall("pkey_free")
def sys_pkey_free(task: Task, pkey: Int) -> int:
    """pkey_free(2): free a protection key.

    Partial: no key is ever allocated: EINVAL.
    """
    raise EINVAL("no such protection key")


@syscall("mremap", returns="ptr")
def sys_mremap(
    task: Task,
    old: UserPtr,
    old_size: Size,
    new_size: Size,
    flags: Annotated[int, Arg(64, "flags:mremap")],
    new: UserPtr,
) -> int:
    """mremap(2): grow, shrink or move a mapping."""
    return _locker(task).mremap(old, old_size, new_size, flags, new)


@syscall("brk", returns="ptr")
def sys_brk(task: Task, addr: UserPtr) -> int:
    """brk(2): move the end of the data segment; the break, moved or not."""
    return _locker(task).set_brk(addr, PROT_EXEC if task.personality & READ_IMPLIES_EXEC else 0)


@syscall("madvise")
def sys_madvise(
    task: Task, addr: UserPtr, length: Size, advice: Annotated[int, Arg(-32, "enum:madvise")]
) -> Result:
    """madvise(2): say how memory will be used.

    Partial: MADV_COLLAPSE knows private anonymous memory only (else EINVAL); MADV_COLD and MADV_PAGEOUT do nothing to pages of
    files, nor to any while nothing is swapped to; nothing is merged (MADV_MERGEABLE, as while ksmd does not run), and nobody
    may poison memory (MADV_HWPOISON, EPERM).
    """
    mm = task.mm
    if length > ADVICE_PIECE and advice in MOVES and mm.ram.frames.swap is not None:
        if not addr & PAGE_MASK and addr + length + PAGE_MASK < 1 << 64:
            return _advise(task, addr, addr + length, advice)
    mm.madvise(addr, length, advice)
    return 0


async def _advise(task: Task, addr: int, end: int, advice: int) -> int:
    """Advice that moves pages to swap or back, in pieces: others have their turns in between. Gaps are ENOMEM in the end."""
    gap = False
    while addr < end and not task.work & WORK_EXIT:
        mm = task.mm
        areas, i = mm.map.areas, mm.map.index_from(addr)
        following = min(areas[i].start, end) if i < len(areas) else end
        gap |= following > addr
        addr = max(addr, following)
        piece = min(ADVICE_PIECE, end - addr)
        try:
            mm.madvise(addr, piece, advice)
        except ENOMEM:
            gap = True
        addr += piece
        await breathe()
    if gap:
        raise ENOMEM("not mapped")
    return 0


@syscall("msync")
def sys_msync(
    task: Task, addr: UserPtr, length: Size, flags: Annotated[int, Arg(-32, "flags:msync")]
) -> int:
    """msync(2): write a shared mapping back to its file."""
    task.mm.msync(addr, length, flags)
    return 0


@syscall("mincore")
def sys_mincore(task: Task, addr: UserPtr, length: Size, vector: UserPtr) -> int | Coroutine[Any, Any, int]:
    """mincore(2): which pages are present."""
    mm = task.mm
    if addr & PAGE_MASK:
        raise EINVAL
    if length > mm.task_size:
        raise ENOMEM
    if length > MCORE_PIECE:
        return _mincore(task, addr, addr + length, vector)
    mm.write(vector, mm.mincore(addr, length))
    return 0


async def _mincore(task: Task, addr: int, end: int, vector: int) -> int:
    """In pieces, as the length is the caller's word; others have their turns in between."""
    while addr < end and not task.work & WORK_EXIT:
        piece = min(MCORE_PIECE, end - addr)
        answer = task.mm.mincore(addr, piece)
        task.mm.write(vector, answer)
        addr += piece
        vector += len(answer)
        await breathe()
    return 0


@syscall("mlock")
def sys_mlock(task: Task, addr: UserPtr, length: Size) -> int:
    """mlock(2): make memory present and keep it so."""
    _locker(task).mlock(addr, length)
    return 0


@syscall("mlock2")
def sys_mlock2(
    task: Task, addr: UserPtr, length: Size, flags: Annotated[int, Arg(-32, "flags:mlock")]
) -> int:
    """mlock2(2): mlock(2) with MLOCK_ONFAULT."""
    if flags & ~MLOCK_ONFAULT:
        raise EINVAL
    _locker(task).mlock(addr, length, flags)
    return 0


@syscall("munlock")
def sys_munlock(task: Task, addr: UserPtr, length: Size) -> int:
    """munlock(2): memory need not stay present any more."""
    task.mm.munlock(addr, length)
    return 0


@syscall("mlockall")
def sys_mlockall(task: Task, flags: Annotated[int, Arg(-32, "flags:mlockall")]) -> int:
    """mlockall(2): lock all of the caller's memory, now or from now on."""
    _locker(task).mlockall(flags)
    return 0


@syscall("munlockall")
def sys_munlockall(task: Task) -> int:
    """munlockall(2): undo mlockall(2)."""
    task.mm.munlockall()
    return 0


@syscall("memfd_create", returns="fd")
def sys_memfd_create(task: Task, name: Str, flags: Annotated[int, Arg(32, "flags:memfd")]) -> int:
    """memfd_create(2): a file that lives in memory only.

    Partial: huge pages (MFD_HUGETLB) are 2 MiB large; other sizes fail with ENODEV.
    """
    if flags & ~(_MFD_HUGE if flags & MFD_HUGETLB else _MFD_FLAGS):
        raise EINVAL
    if flags & (MFD_EXEC | MFD_NOEXEC_SEAL) == MFD_EXEC | MFD_NOEXEC_SEAL:
        raise EINVAL
    text = task.mm.read_cstr(name, MFD_NAME_MAX + 1)
    if text is None:
        raise EINVAL("name too long")
    if flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK not in HUGE_SIZES:
        raise ENODEV("no huge pages of that size")
    task.files.reserve()
    try:
        file = task.kernel.vfs.create_memfd(text, flags, task.creds)
    except OutOfFrames:
        raise ENOMEM from None
    return task.files.install(file, bool(flags & MFD_CLOEXEC))


@syscall("remap_file_pages")
def sys_remap_file_pages(
    task: Task, addr: UserPtr, size: Size, prot: Prot, page: Size, flags: MapFlags
) -> int:
    """remap_file_pages(2): map other pages of a file in part of a shared mapping.

    As Linux since 4.0 does, a mapping of its own replaces the part.
    """
    return task.mm.remap_file_pages(addr, size, prot, page, flags)


refuse(ENOSYS, "there is one memory node, and no policy to set", "mbind", "set_mempolicy", "get_mempolicy")
refuse(ENOSYS, "there is one memory node", "migrate_pages", "move_pages", "set_mempolicy_home_node")
refuse(ENOSYS, "page faults are not handed to user space", "userfaultfd")
refuse(ENOSYS, "memory is never hidden from the kernel", "memfd_secret")
