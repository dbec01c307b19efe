"""/dev/pts: which pseudo-terminals a kernel has, and the file system that shows them; pts(4).

Invariant: an index is in `Ptys.ttys` while its terminal exists; its slave device exists as long.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from trapline.abi.errno import EINVAL, ENODEV, ENOENT, ENOSPC
from trapline.abi.stat import S_IFCHR, makedev
from trapline.kernel.fs.inode import REVALIDATE, Entry, Inode
from trapline.kernel.fs.mount import Path
from trapline.kernel.fs.superblock import SuperBlock
from trapline.kernel.fs.synthetic import SynthDir, SynthNode

if TYPE_CHECKING:
    from trapline.kernel.drivers.pty import Pty
    from trapline.kernel.drivers.tty import Tty
    from trapline.kernel.fs.vfs import Vfs

MAX_PTYS = 1024  #: /proc/sys/kernel/pty/max is 4096; each may hold 70 KiB of the kernel's memory
SLAVE_MAJOR = 136
TTY_GROUP = 5
DEVPTS_MAGIC = 0x1CD1

#: The options of mount(2).
OPTIONS = frozenset(b"uid gid mode ptmxmode max newinstance".split())

_ptys: WeakKeyDictionary[Any, Ptys] = WeakKeyDictionary()
_others: WeakKeyDictionary[Any, WeakSet[Ptys]] = WeakKeyDictionary()


class Owner(NamedTuple):
    """Whose the slaves of an instance are (None: who opens the master), with which permissions, and how many there may be."""

    uid: int | None = None
    gid: int | None = None
    mode: int = 0o600
    max: int = 1 << 20

    def shown(self, ptmx_mode: int) -> bytes:
        """The options as /proc/mounts has them."""
        text = b",uid=%d" % self.uid if self.uid is not None else b""
        text += b",gid=%d" % self.gid if self.gid is not None else b""
        text += b",mode=%03o,ptmxmode=%03o" % (self.mode, ptmx_mode)
        return text + (b",max=%d" % self.max if self.max < 1 << 20 else b"")


class Ptys:
    """The pseudo-terminals of one instance; index 0 of the kernel's first may be its console."""

    def __init__(self, owner: Owner | None = None) -> None:
        self.owner = owner or Owner(gid=TTY_GROUP, mode=0o620)
        self.ttys: dict[int, Tty] = {}
        self.inodes: dict[int, Inode] = {}
        self.sb: DevPts | None = None
        self.creator_gid = 0  #: of the pair that is being made

    def allocate(self, kernel: Any, creds: Any) -> Pty:
        """A new pair; its slave belongs to `creds`."""
        from trapline.kernel.drivers.pty import Pty

        most = min(MAX_PTYS, self.owner.max)
        index = next(n for n in range(most + 1) if n not in self.ttys)
        if index == most or sum(len(each.ttys) for each in instances_of(kernel)) >= MAX_PTYS:
            raise ENOSPC
        tty = Pty(kernel, index)
        self.creator_gid = creds.fsgid if creds is not None else 0
        self.add(index, tty, kernel.vfs, creds.fsuid if creds is not None else 0)
        return tty

    def add(self, index: int, tty: Tty, vfs: Vfs, uid: int) -> None:
        self.ttys[index] = tty
        if self.sb is None:
            self.sb = DevPts(vfs, self)
        owner = self.owner
        uid = owner.uid if owner.uid is not None else uid
        gid = owner.gid if owner.gid is not None else self.creator_gid
        self.inodes[index] = SynthNode(self.sb, S_IFCHR | owner.mode, uid, gid, rdev=makedev(SLAVE_MAJOR, index))

    def inode(self, index: int) -> Inode:
        inode = self.inodes.get(index)
        if inode is None:
            raise ENOENT
        return inode

    def remove(self, tty: Pty) -> None:
        del self.ttys[tty.index]
        self.inodes.pop(tty.index).nlink = 0


class DevPts(SuperBlock):
    """An instance of the file system of type devpts. Each mount(2) makes one, with pairs of its own."""

    __slots__ = ("ptys",)

    def __init__(self, vfs: Vfs, ptys: Ptys, ptmx_mode: int = 0o666) -> None:
        super().__init__(vfs, b"devpts", DEVPTS_MAGIC)
        self.ptys = ptys
        self.options = ptys.owner.shown(ptmx_mode)
        self.root = PtsDirectory(self, ptys, ptmx_mode)


class PtsDirectory(SynthDir):
    """/dev/pts: a device for every pair, and ptmx."""

    __slots__ = ("ptys",)

    volatile = REVALIDATE

    def __init__(self, sb: SuperBlock, ptys: Ptys, ptmx_mode: int) -> None:
        super().__init__(sb, {b"ptmx": SynthNode(sb, S_IFCHR | ptmx_mode, rdev=makedev(5, 2))}, 0o755)
        self.ptys = ptys

    def lookup(self, name: bytes) -> Inode:
        if name.isdigit() and len(name) < 10 and (name == b"0" or name[:1] != b"0"):
            return self.ptys.inode(int(name))
        return super().lookup(name)

    def entries(self) -> list[Entry]:
        slaves = [(b"%d" % index, inode.ino, inode.mode >> 12) for index, inode in sorted(self.ptys.inodes.items())]
        return super().entries() + slaves


def forget(kernel: Any) -> None:
    """`kernel` is closed: its terminals, which refer to it, keep it no longer."""
    _ptys.pop(kernel, None)


def ptys_of(kernel: Any) -> Ptys:
    ptys = _ptys.get(kernel)
    if ptys is None:
        ptys = _ptys[kernel] = Ptys()
    return ptys


def instances_of(kernel: Any) -> list[Ptys]:
    """The kernel's first instance, and all others that live."""
    return [ptys_of(kernel), *_others.get(kernel, ())]


def make_devpts(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> SuperBlock:
    """mount(2) of type devpts: an instance of its own. EINVAL for a bad value."""
    numbers: dict[str, int] = {}
    for name, value in options.items():
        base = 8 if name in (b"mode", b"ptmxmode") else 10
        if name == b"newinstance":
            continue  # every instance is new
        if not value.isdigit() or len(value) > 10 or (base == 8 and value.strip(b"01234567")):
            raise EINVAL(f"Bad value for '{name.decode()}'")
        numbers[name.decode()] = int(value, base)
    ptmx_mode = numbers.pop("ptmxmode", 0) & 0o777
    if "mode" in numbers:
        numbers["mode"] &= 0o777
    if numbers.get("max", 0) > 1 << 20:
        raise EINVAL("max")
    ptys = Ptys(Owner(**numbers))
    ptys.sb = DevPts(vfs, ptys, ptmx_mode)
    _others.setdefault(task.kernel, WeakSet()).add(ptys)
    return ptys.sb


def of_ptmx(kernel: Any, inode: Inode, path: Path | None) -> tuple[Ptys, Path | None]:
    """Which instance a ptmx stands for, and its top: its own, or what is mounted at `pts` beside it. ENOENT, ENODEV."""
    if path is None:
        return ptys_of(kernel), None
    if isinstance(inode.sb, DevPts):
        return inode.sb.ptys, Path(path.mount, path.mount.root)
    vfs, beside = kernel.vfs, path.parent()
    top = vfs.resolve(beside, beside, b"pts")
    if not isinstance(top.inode.sb, DevPts):
        raise ENODEV("no devpts beside it")
    return top.inode.sb.ptys, top


def of_slave(kernel: Any, inode: Inode) -> Ptys:
    """The instance that a slave's node is of."""
    return inode.sb.ptys if isinstance(inode.sb, DevPts) else ptys_of(kernel)


def devpts(kernel: Any, vfs: Vfs) -> SuperBlock:
    """The first devpts instance of `kernel`."""
    ptys = ptys_of(kernel)
    if ptys.sb is None:
        ptys.sb = DevPts(vfs, ptys)
    return ptys.sb
