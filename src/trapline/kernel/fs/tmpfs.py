"""tmpfs(5): a file system in memory, with limits on pages and inodes. memfd_create(2) uses an instance of its own."""

from __future__ import annotations

from struct import pack
from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from trapline.abi.errno import EINVAL
from trapline.abi.fcntl import (
    F_SEAL_EXEC,
    F_SEAL_SEAL,
    MFD_ALLOW_SEALING,
    MFD_NOEXEC_SEAL,
    O_LARGEFILE,
    O_RDWR,
)
from trapline.abi.mount import TMPFS_MAGIC
from trapline.abi.stat import S_IFDIR, S_IFREG
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.file import RegularFile
from trapline.kernel.fs.memdir import MemDir
from trapline.kernel.fs.memory import MemFile, MemorySuperBlock
from trapline.kernel.fs.mount import Mount, Path

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.vfs import Vfs

HANDLE_TYPE = 1  #: inode number, generation, upper half of the number
OPTIONS = frozenset(b"size nr_blocks nr_inodes mode uid gid huge inode64 inode32 noswap".split())


class TmpFs(MemorySuperBlock):
    """An instance; by default half of the RAM and as many inodes as that has pages."""

    __slots__ = ("handles", "swaps")

    def __init__(
        self, vfs: Vfs, *, mode: int = 0o1777, uid: int = 0, gid: int = 0, max_pages: int = -1, max_inodes: int = -1
    ) -> None:
        half = vfs.ram.frames.limit_pages // 2
        super().__init__(
            vfs, b"tmpfs", TMPFS_MAGIC, half if max_pages < 0 else max_pages, half if max_inodes < 0 else max_inodes
        )
        self.charge_inode()
        self.swaps = True
        self.handles: WeakValueDictionary[bytes, Inode] = WeakValueDictionary()  #: what was exported
        self.root = MemDir(self, S_IFDIR | mode, uid, gid)

    def describe(self, options: dict[bytes, bytes]) -> None:
        """Show what was asked for in /proc/mounts."""
        if b"size" in options or b"nr_blocks" in options:
            self.options = b",size=%dk" % (self.max_pages << 2)
        if not self.swaps and not self.options.endswith(b",noswap"):
            self.options += b",noswap"

    def export(self, inode: Inode) -> tuple[int, bytes]:
        name = pack("<III", inode.ino & 0xFFFFFFFF, 0, inode.ino >> 32)
        self.handles[name] = inode
        return HANDLE_TYPE, name

    def find(self, kind: int, name: bytes) -> Inode | None:
        inode = self.handles.get(name) if kind == HANDLE_TYPE else None
        return inode if inode is not None and inode.nlink else None

    def reconfigure(self, options: dict[bytes, bytes]) -> None:
        """New limits. EINVAL for less than is in use, a limit where there was none, or another `noswap`; the owner stays."""
        if (b"noswap" in options) == self.swaps:
            raise EINVAL("whether it swaps stays as it is")
        numbers = _numbers(options, self.ram.frames.limit_pages << 12)
        pages = numbers.get("max_pages", self.max_pages)
        inodes = numbers.get("max_inodes", self.max_inodes)
        for new, old, used in ((pages, self.max_pages, self.used_pages), (inodes, self.max_inodes, self.used_inodes)):
            if new and new != old and (not old or new < used):
                raise EINVAL("too small for what is in use")
        self.max_pages, self.max_inodes = pages, inodes
        self.describe(options)


def make_tmpfs(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> TmpFs:
    """mount(2) of type tmpfs: options size=, nr_blocks=, nr_inodes=, mode=, uid=, gid=, noswap."""
    sb = TmpFs(vfs, **_numbers(options, vfs.ram.frames.limit_pages << 12))
    sb.swaps = b"noswap" not in options
    sb.describe(options)
    return sb


def _numbers(options: dict[bytes, bytes], total: int) -> dict[str, int]:
    """What TmpFs takes, of mount options. EINVAL for a bad value."""
    numbers: dict[str, int] = {}
    for name, value in options.items():
        if name == b"size":
            numbers["max_pages"] = (parse_size(value, total) + 4095) >> 12
        elif name == b"nr_blocks":
            numbers["max_pages"] = parse_size(value, total)
        elif name == b"nr_inodes":
            numbers["max_inodes"] = parse_size(value, total)
        elif name in (b"mode", b"uid", b"gid"):
            if not value.isdigit() or len(value) > 10:
                raise EINVAL
            try:
                numbers[name.decode()] = int(value, 8) & 0o7777 if name == b"mode" else int(value)
            except ValueError:
                raise EINVAL from None
    return numbers


def shm_superblock(vfs: Vfs) -> TmpFs:
    """The instance, mounted nowhere, that holds memfds and System V segments."""
    if vfs.shm_sb is None:
        vfs.shm_sb = TmpFs(vfs, max_pages=0, max_inodes=0)
    assert isinstance(vfs.shm_sb, TmpFs)
    return vfs.shm_sb


def create_memfd(vfs: Vfs, name: bytes, flags: int, creds: Any) -> RegularFile:
    """The file of memfd_create(2), in no directory. F_ADD_SEALS works on `file.inode.seals`."""
    sb = shm_superblock(vfs)
    sb.charge_inode()
    mode = 0o666 if flags & MFD_NOEXEC_SEAL else 0o777
    inode = MemFile(sb, S_IFREG | mode, creds.fsuid, creds.fsgid)
    inode.nlink = 0
    inode.seals = first_seals(flags)
    dentry = Dentry(b"/memfd:" + name, None, inode)
    dentry.deleted = True
    mount = Mount(sb, Dentry(b"", None, sb.root))
    return RegularFile(inode, O_RDWR | O_LARGEFILE, Path(mount, dentry))


def first_seals(flags: int) -> int:
    """The seals of a new memfd."""
    if flags & MFD_NOEXEC_SEAL:
        return F_SEAL_EXEC
    return 0 if flags & MFD_ALLOW_SEALING else F_SEAL_SEAL


def parse_size(text: bytes, total: int) -> int:
    """The value of a size option of mount(8): bytes, with k, m, g, or % of `total`; raises EINVAL."""
    units = {b"k": 10, b"m": 20, b"g": 30, b"t": 40}
    digits = text[:-1] if text[-1:].lower() in units or text[-1:] == b"%" else text
    if not digits.isdigit() or len(digits) > 18:
        raise EINVAL("a size was expected")
    value = int(digits)
    if text[-1:] == b"%":
        return total * value // 100
    return value << units.get(text[-1:].lower(), 0)
