"""hugetlbfs: files whose pages are huge pages; also what is behind MAP_HUGETLB, MFD_HUGETLB and SHM_HUGETLB.

Files are read with read(2), but written only through mappings; their sizes are multiples of 2 MiB. A mount with size= has
a quota of pages, which count from when they are promised.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trapline.abi.errno import EINVAL, ENOSPC, ENOTSUP
from trapline.abi.fcntl import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, O_LARGEFILE, O_RDWR
from trapline.abi.mount import HUGETLBFS_MAGIC
from trapline.abi.stat import S_IFDIR, S_IFMT, S_IFREG
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.file import MAX_FILE_SIZE, File, RegularFile
from trapline.kernel.fs.inode import inherit
from trapline.kernel.fs.memdir import MemDir
from trapline.kernel.fs.memory import MemFile, MemInode, MemNode, MemorySuperBlock
from trapline.kernel.fs.mount import Mount, Path
from trapline.kernel.fs.superblock import StatFs
from trapline.kernel.fs.tmpfs import parse_size
from trapline.kernel.mm.hugetlb import BLOCK_MASK, HugeCache, Quota, align_up
from trapline.kernel.mm.tables import BLOCK_SHIFT, BLOCK_SIZE

if TYPE_CHECKING:
    from trapline.kernel.fs.vfs import Vfs


class HugetlbFs(MemorySuperBlock):
    """An instance. `quota`: how many huge pages its files may have; None: as many as there are."""

    __slots__ = ("quota",)

    def __init__(
        self, vfs: Vfs, *, mode: int = 0o755, uid: int = 0, gid: int = 0, max_huge: int | None = None, max_inodes: int = 0
    ) -> None:
        super().__init__(vfs, b"hugetlbfs", HUGETLBFS_MAGIC, 0, max_inodes)
        self.block_size = BLOCK_SIZE
        self.quota = Quota(max_huge) if max_huge is not None else None
        self.charge_inode()
        self.root = HugeDir(self, S_IFDIR | mode, uid, gid)

    def statfs(self) -> StatFs:
        blocks = free = 0
        if self.quota is not None:
            blocks, free = self.quota.limit, self.quota.limit - self.quota.used
        inodes = max(self.max_inodes - self.used_inodes, 0)
        return StatFs(self.magic, BLOCK_SIZE, blocks, free, self.max_inodes, inodes)


class HugeDir(MemDir):
    """A directory of an instance."""

    __slots__ = ()

    sb: HugetlbFs

    def make(self, mode: int, creds: Any, rdev: int = 0) -> MemInode:
        mode, uid, gid = inherit(self, mode, creds)
        self.sb.charge_inode()
        kind = mode & S_IFMT
        if kind == S_IFREG:
            return HugeFile(self.sb, mode, uid, gid)
        if kind == S_IFDIR:
            return HugeDir(self.sb, mode, uid, gid)
        return MemNode(self.sb, mode, uid, gid, rdev=rdev)


class HugeFile(MemFile):
    """A regular file."""

    __slots__ = ()

    def __init__(self, sb: HugetlbFs, mode: int, uid: int, gid: int) -> None:
        super().__init__(sb, mode, uid, gid, cached=False)
        self.page_cache = HugeCache(sb.ram, 0, sb.quota)

    @property
    def huge_cache(self) -> HugeCache:
        assert isinstance(self.page_cache, HugeCache)
        return self.page_cache

    def open(self, path: Path, flags: int, task: Any) -> File:
        return HugeOpenFile(self, flags, path)

    def store(self, offset: int, data: bytes | memoryview) -> int:
        raise EINVAL("only mappings write to hugetlbfs")

    def truncate(self, size: int) -> None:
        if size & BLOCK_MASK:
            raise EINVAL("part of a huge page")
        super().truncate(size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """fallocate(2): whole huge pages; a punched hole may zero parts of them."""
        if mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE):
            raise ENOTSUP
        if mode & FALLOC_FL_PUNCH_HOLE:
            super().allocate(mode, offset, length)
            return
        cache = self.huge_cache
        end = min(align_up(offset + length), MAX_FILE_SIZE & ~BLOCK_MASK)
        if end > cache.size and not mode & FALLOC_FL_KEEP_SIZE:
            self.truncate(end)
        try:
            for index in range(offset >> BLOCK_SHIFT, end >> BLOCK_SHIFT):
                if cache.huge_frame(index) is None:
                    raise ENOSPC("no huge page is left")
        finally:
            self._account()


class HugeOpenFile(RegularFile):
    """An open file. `maps_huge` tells mmap(2)."""

    __slots__ = ()

    maps_huge = True

    def _store(self, data: bytes | memoryview, offset: int) -> int:
        raise EINVAL("only mappings write to hugetlbfs")


# ---- instances


def make_hugetlbfs(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> HugetlbFs:
    """mount(2) of type hugetlbfs: options size=, nr_inodes=, mode=, uid=, gid=, pagesize=. EINVAL, ENOMEM."""
    numbers: dict[str, int] = {}
    total = vfs.ram.frames.limit_pages << 12
    for name, value in options.items():
        if name == b"size":
            numbers["max_huge"] = parse_size(value, total) >> BLOCK_SHIFT
        elif name == b"pagesize":
            if parse_size(value, total) != BLOCK_SIZE:
                raise EINVAL("there are huge pages of 2M only")
        elif name == b"nr_inodes":
            numbers["max_inodes"] = parse_size(value, total)
        elif not value.isdigit() or len(value) > 10:
            raise EINVAL
        else:
            numbers[name.decode()] = int(value, 8) & 0o1777 if name == b"mode" else int(value)
    return HugetlbFs(vfs, **numbers)


_instances: WeakKeyDictionary[Vfs, HugetlbFs] = WeakKeyDictionary()


def unnamed(vfs: Vfs, creds: Any, mode: int = 0o777) -> HugeFile:
    """A file without a name, of the instance that is mounted nowhere."""
    sb = _instances.get(vfs)
    if sb is None:
        sb = _instances[vfs] = HugetlbFs(vfs)
    sb.charge_inode()
    inode = HugeFile(sb, S_IFREG | mode, creds.fsuid, creds.fsgid)
    inode.nlink = 0
    return inode


def path_of(inode: HugeFile, name: bytes) -> Path:
    """How /proc shows it: `name`, and that it is deleted."""
    dentry = Dentry(name, None, inode)
    dentry.deleted = True
    return Path(Mount(inode.sb, Dentry(b"", None, inode.sb.root)), dentry)


def open_unnamed(inode: HugeFile, name: bytes) -> HugeOpenFile:
    return HugeOpenFile(inode, O_RDWR | O_LARGEFILE, path_of(inode, name))
