"""System V shared memory, shmget(2) and shmat(2): memory that is known by an identifier and lives until it is removed.

A segment is a file of the kernel's own tmpfs; attaching it maps that file. Each attachment has an open file of its own whose
references are the areas that map it, so that `nattch` follows fork(2), munmap(2) and the end of a process by itself.

Invariant: a segment with SHM_DEST in its mode has no key, and goes with its last attachment.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import ipc
from trapline.abi.capability import CAP_IPC_LOCK
from trapline.abi.errno import EINVAL, ENOMEM, ENOSPC, EPERM
from trapline.abi.fcntl import O_RDONLY, O_RDWR
from trapline.abi.mman import (
    MAP_FIXED,
    MAP_HUGE_MASK,
    MAP_HUGE_SHIFT,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    RLIM_INFINITY,
)
from trapline.abi.personality import READ_IMPLIES_EXEC
from trapline.abi.stat import S_IFREG
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.file import MAX_FILE_SIZE, File
from trapline.kernel.fs.memory import MemFile
from trapline.kernel.fs.mount import Mount, Path
from trapline.kernel.fs.tmpfs import shm_superblock
from trapline.kernel.ipc.sysv.ids import Object, now_s
from trapline.kernel.mm.hugetlb import align_up
from trapline.kernel.mm.mapping import unmap
from trapline.kernel.mm.tables import BLOCK_SHIFT
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from trapline.kernel.ipc.sysv.namespace import IpcNamespace
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.mm.page_cache import PageCache


class Segment(Object):
    """`inode` is the file of its pages. Times are in seconds, 0: never."""

    __slots__ = ("atime", "cpid", "ctime", "dtime", "inode", "lpid", "namespace", "nattch", "path", "size")

    def __init__(self, namespace: IpcNamespace, task: Any, key: int, size: int, mode: int) -> None:
        super().__init__(key, mode, task.creds)
        self.namespace = namespace
        self.size = size
        self.nattch = 0
        self.atime = self.dtime = 0
        self.ctime = now_s(namespace.kernel)
        self.cpid, self.lpid = task.group.pid, 0
        name = b"/SYSV%08x" % (key & 0xFFFF_FFFF)
        self.inode = (_huge_inode if mode & ipc.SHM_HUGETLB else _inode)(namespace.kernel.vfs, task, size, mode)
        dentry = Dentry(name, None, self.inode)
        dentry.deleted = True
        self.path = Path(Mount(self.inode.sb, Dentry(b"", None, self.inode.sb.root)), dentry)
        namespace.shm_pages += self.pages

    @property
    def pages(self) -> int:
        return (self.size + PAGE_MASK) >> PAGE_SHIFT

    @property
    def resident_pages(self) -> int:
        cache = self.inode.page_cache
        return cache.pages_used if cache is not None else 0

    @property
    def swapped_pages(self) -> int:
        """How many of these are in swap."""
        return len(getattr(self.inode.page_cache, "swapped", ()))

    def attached(self) -> None:
        self.nattch += 1
        self.atime, self.lpid = now_s(self.namespace.kernel), self._pid()

    def detached(self) -> None:
        self.nattch -= 1
        self.dtime, self.lpid = now_s(self.namespace.kernel), self._pid()
        self.maybe_destroy()

    def _pid(self) -> int:
        current = self.namespace.kernel.current
        return current.group.pid if current is not None else 0

    def maybe_destroy(self) -> None:
        if self.mode & ipc.SHM_DEST and not self.nattch and not self.removed:
            self.namespace.shm.remove(self)
            self.namespace.shm_pages -= self.pages
            self.inode.evict()

    def pack(self) -> bytes:
        """struct shmid_ds."""
        return self.pack_perm() + ipc.SHMID_DS.pack(
            self.size, self.atime, self.dtime, self.ctime, self.cpid, self.lpid, self.nattch, 0, 0
        )


def _inode(vfs: Any, task: Any, size: int, flags: int) -> MemFile:
    """The file of a segment."""
    sb = shm_superblock(vfs)
    sb.charge_inode()
    inode = MemFile(sb, S_IFREG | 0o777, task.creds.fsuid, task.creds.fsgid)
    inode.nlink = 0
    inode.truncate(size)
    return inode


def _huge_inode(vfs: Any, task: Any, size: int, flags: int) -> MemFile:
    """The file of a segment of huge pages, which are promised now unless SHM_NORESERVE. ENOMEM."""
    from trapline.kernel.fs import hugetlbfs

    inode = hugetlbfs.unnamed(vfs, task.creds)
    inode.truncate(align_up(size))
    if not flags & ipc.SHM_NORESERVE and not inode.huge_cache.promise(0, align_up(size) >> BLOCK_SHIFT):
        raise ENOMEM("not so many huge pages are free")
    return inode


class Attachment(File):
    """The open file of one shmat(2). Its references are areas: each is one of the segment's attachments."""

    __slots__ = ("segment",)

    counts_areas = True  #: how many areas there are is shown, so the end of an address space may not be put off

    def __init__(self, segment: Segment, flags: int) -> None:
        super().__init__(segment.inode, flags, segment.path)
        self.refs = 0
        self.segment = segment

    @property
    def page_cache(self) -> PageCache | None:  # type: ignore[override]
        return self.inode.page_cache

    @property
    def maps_huge(self) -> bool:
        return self.inode.sb.fstype == b"hugetlbfs"

    def get(self) -> File:
        self.segment.attached()
        return super().get()

    def put(self) -> None:
        super().put()
        self.segment.detached()


# ---- the calls


def get(namespace: IpcNamespace, task: Any, key: int, size: int, flags: int) -> int:
    """shmget(2)."""

    def make() -> Segment:
        if not ipc.SHMMIN <= size <= min(namespace.shmmax, MAX_FILE_SIZE):
            raise EINVAL("size")
        pages = (size + PAGE_MASK) >> PAGE_SHIFT
        if namespace.shm_pages + pages > namespace.shmall:
            raise ENOSPC("shmall")
        namespace.shm.check_room()
        if flags & ipc.SHM_HUGETLB:
            if not task.creds.has_cap(CAP_IPC_LOCK):
                raise EPERM
            if flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK not in (0, BLOCK_SHIFT):
                raise EINVAL("no huge pages of that size")
        if pages > namespace.kernel.ram.frames.limit_pages and not flags & ipc.SHM_NORESERVE:
            raise ENOMEM("more than all memory")
        return Segment(namespace, task, key, size, flags)

    def fits(segment: Segment) -> None:
        if segment.size < size:
            raise EINVAL("the segment is smaller")

    ident = namespace.shm.get(task, key, flags, make, fits)
    namespace.shm.find(ident).inode.ino = ident
    return ident


def attach(namespace: IpcNamespace, task: Any, ident: int, addr: int, flags: int) -> int:
    """shmat(2); the address."""
    fixed = MAP_FIXED if addr else 0
    if addr & (ipc.SHMLBA - 1) and not flags & ipc.SHM_RND:
        raise EINVAL("address not aligned")
    addr &= -ipc.SHMLBA
    if not addr and flags & ipc.SHM_REMAP:
        raise EINVAL("SHM_REMAP needs an address")
    segment = namespace.shm.find(ident)
    wanted, prot, mode = ipc.SHM_R, PROT_READ, O_RDONLY
    if not flags & ipc.SHM_RDONLY:
        wanted, prot, mode = wanted | ipc.SHM_W, prot | PROT_WRITE, O_RDWR
    if flags & ipc.SHM_EXEC:
        wanted, prot = wanted | 0o100, prot | PROT_EXEC
    elif task.personality & READ_IMPLIES_EXEC:
        prot |= PROT_EXEC
    segment.check(task.creds, wanted)
    mm: AddressSpace = task.mm
    if addr and not flags & ipc.SHM_REMAP:
        if addr + segment.size > mm.task_size or mm.map.overlapping(addr, addr + segment.size):
            raise EINVAL("something is mapped there")
    segment.nattch += 1  # replacing its own last attachment must not end it
    try:
        where = mm.mmap(addr, segment.size, prot, MAP_SHARED | fixed, Attachment(segment, mode), 0)
    finally:
        segment.nattch -= 1
        segment.maybe_destroy()
    return where


def detach(task: Any, addr: int) -> None:
    """shmdt(2): unmap what is left of the attachment that began at `addr`."""
    mm: AddressSpace = task.mm
    if addr & PAGE_MASK:
        raise EINVAL("address not aligned")
    areas = [each for each in mm.map.areas if each.end > addr and isinstance(each.file, Attachment)]
    first = next((each for each in areas if each.start - addr == each.offset), None)
    if first is None:
        raise EINVAL("nothing is attached there")
    assert isinstance(first.file, Attachment)
    file, end = first.file, addr + first.file.segment.size
    for each in areas:
        if each.start < end and each.file is file and each.start - addr == each.offset:
            unmap(mm, each.start, each.end)


def remove(segment: Segment, creds: Any) -> None:
    """IPC_RMID: it goes now, or with its last attachment."""
    segment.check_owner(creds)
    if not segment.mode & ipc.SHM_DEST:
        segment.mode |= ipc.SHM_DEST
        segment.namespace.shm.hide_key(segment)
    segment.maybe_destroy()


def lock(segment: Segment, task: Any, on: bool) -> None:
    """SHM_LOCK, SHM_UNLOCK: whether pages of a segment may go to swap. What is there already comes back when it is used."""
    creds = task.creds
    if not creds.has_cap(CAP_IPC_LOCK):
        if creds.euid not in (segment.uid, segment.cuid):
            raise EPERM
        limit = task.mm.limits.memlock
        if on and not limit:
            raise EPERM("RLIMIT_MEMLOCK")
        if on and limit != RLIM_INFINITY and segment.pages << PAGE_SHIFT > limit:
            raise ENOMEM("RLIMIT_MEMLOCK")
    cache = segment.inode.page_cache
    if cache is not None:
        cache.stays = on
    segment.mode = segment.mode | ipc.SHM_LOCKED if on else segment.mode & ~ipc.SHM_LOCKED
