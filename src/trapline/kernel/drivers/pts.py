"""/dev/pts: which pseudo-terminals a kernel has, and the file system that shows them; pts(4).

Invariant: an index is in `Ptys.ttys` while its terminal exists; its slave device exists as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trapline.abi.errno import ENOENT, ENOSPC
from trapline.abi.stat import S_IFCHR, makedev
from trapline.kernel.fs.inode import REVALIDATE, Entry, Inode
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

_ptys: WeakKeyDictionary[Any, Ptys] = WeakKeyDictionary()


class Ptys:
    """The pseudo-terminals of one kernel; index 0 may be its console."""

    def __init__(self) -> None:
        self.ttys: dict[int, Tty] = {}
        self.inodes: dict[int, Inode] = {}
        self.sb: SuperBlock | None = None

    def allocate(self, kernel: Any, creds: Any) -> Pty:
        """A new pair; its slave belongs to `creds`."""
        from trapline.kernel.drivers.pty import Pty

        index = next(n for n in range(MAX_PTYS + 1) if n not in self.ttys)
        if index == MAX_PTYS:
            raise ENOSPC
        tty = Pty(kernel, index)
        self.add(index, tty, kernel.vfs, creds.fsuid if creds is not None else 0)
        return tty

    def add(self, index: int, tty: Tty, vfs: Vfs, uid: int) -> None:
        self.ttys[index] = tty
        if self.sb is None:
            self.sb = DevPts(vfs, self)
        self.inodes[index] = SynthNode(self.sb, S_IFCHR | 0o620, uid, TTY_GROUP, rdev=makedev(SLAVE_MAJOR, index))

    def inode(self, index: int) -> Inode:
        inode = self.inodes.get(index)
        if inode is None:
            raise ENOENT
        return inode

    def remove(self, tty: Pty) -> None:
        del self.ttys[tty.index]
        self.inodes.pop(tty.index).nlink = 0


class DevPts(SuperBlock):
    """The file system of type devpts: one instance per kernel."""

    __slots__ = ()

    def __init__(self, vfs: Vfs, ptys: Ptys) -> None:
        super().__init__(vfs, b"devpts", DEVPTS_MAGIC)
        self.options = b",gid=5,mode=620,ptmxmode=666"
        self.root = PtsDirectory(self, ptys)


class PtsDirectory(SynthDir):
    """/dev/pts: a device for every pair, and ptmx."""

    __slots__ = ("ptys",)

    volatile = REVALIDATE

    def __init__(self, sb: SuperBlock, ptys: Ptys) -> None:
        super().__init__(sb, {b"ptmx": SynthNode(sb, S_IFCHR | 0o666, rdev=makedev(5, 2))}, 0o755)
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


def devpts(kernel: Any, vfs: Vfs) -> SuperBlock:
    """The devpts instance of `kernel`."""
    ptys = ptys_of(kernel)
    if ptys.sb is None:
        ptys.sb = DevPts(vfs, ptys)
    return ptys.sb
