"""nsfs: what the links in /proc/PID/ns lead to, namespaces(7). There is one namespace of each kind, the first one.

The inode numbers are those of Linux's first namespaces, so that programs which compare them find what they expect.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from trapline.abi.errno import EINVAL, ENOTTY, EPERM
from trapline.abi.ioctl import NS_GET_NSTYPE, NS_GET_OWNER_UID, NS_GET_PARENT, NS_GET_USERNS
from trapline.abi.mount import NSFS_MAGIC
from trapline.abi.stat import S_IFREG
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.file import File
from trapline.kernel.fs.inode import Inode
from trapline.kernel.fs.mount import Mount, Path
from trapline.kernel.fs.superblock import SuperBlock

if TYPE_CHECKING:
    from trapline.kernel.fs.vfs import Vfs


class Kind(NamedTuple):
    """`flag` is CLONE_NEW*; `parents`: namespaces of the kind have parents."""

    name: bytes
    ino: int
    flag: int
    parents: bool = False


_KINDS = (
    Kind(b"cgroup", 0xEFFFFFFB, 0x02000000), Kind(b"ipc", 0xEFFFFFFF, 0x08000000), Kind(b"mnt", 0xEFFFFFF8, 0x00020000),
    Kind(b"net", 0xEFFFFFF9, 0x40000000), Kind(b"pid", 0xEFFFFFFC, 0x20000000, True), Kind(b"time", 0xEFFFFFFA, 0x80),
    Kind(b"user", 0xEFFFFFFD, 0x10000000, True), Kind(b"uts", 0xEFFFFFFE, 0x04000000),
)  # fmt: skip
_BY_NAME = {each.name: each for each in _KINDS}
#: The names in /proc/PID/ns, and what they show: children will be in the same ones.
LINKS = {each.name: each for each in _KINDS} | {
    b"pid_for_children": _BY_NAME[b"pid"], b"time_for_children": _BY_NAME[b"time"],
}  # fmt: skip

_instances: WeakKeyDictionary[Vfs, NsFs] = WeakKeyDictionary()


class NsFs(SuperBlock):
    """The one instance of a kernel; mounted nowhere."""

    __slots__ = ("paths",)

    def __init__(self, vfs: Vfs) -> None:
        super().__init__(vfs, b"nsfs", NSFS_MAGIC)
        self.root = Inode(self, S_IFREG | 0o444)
        mount = Mount(self, Dentry(b"", None, self.root))
        self.paths = {each.name: Path(mount, Dentry(text(each), None, NsInode(self, each))) for each in _KINDS}


def text(kind: Kind) -> bytes:
    """How a namespace reads: mnt:[4026531832]."""
    return b"%b:[%d]" % (kind.name, kind.ino)


def path_of(vfs: Vfs, kind: Kind) -> Path:
    found = _instances.get(vfs)
    if found is None:
        found = _instances[vfs] = NsFs(vfs)
    return found.paths[kind.name]


class NsInode(Inode):
    """A namespace as a file."""

    __slots__ = ("kind",)

    def __init__(self, sb: NsFs, kind: Kind) -> None:
        super().__init__(sb, S_IFREG | 0o444, ino=kind.ino)
        self.kind = kind

    def open(self, path: Path, flags: int, task: Any) -> File:
        return NsFile(self, flags, path)


class NsFile(File):
    """An open namespace: ioctl_ns(2)."""

    __slots__ = ()

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        inode = self.inode
        assert isinstance(inode, NsInode)
        kind = inode.kind
        if cmd == NS_GET_NSTYPE:
            return kind.flag
        if cmd == NS_GET_USERNS:
            if kind.name == b"user":
                raise EPERM("the first one has no owner")
            path = path_of(task.kernel.vfs, _BY_NAME[b"user"])
            return int(task.files.install(path.inode.open(path, 0, task), True))
        if cmd == NS_GET_PARENT:
            raise EPERM("the first one has no parent") if kind.parents else EINVAL
        if cmd == NS_GET_OWNER_UID:
            if kind.name != b"user":
                raise EINVAL
            task.mm.write_u32(arg, 0)
            return 0
        raise ENOTTY
