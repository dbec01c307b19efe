"""Mount and Path: file systems put together to one tree, and a place in it.

Invariants:
- a mount's `mountpoint` is a dentry of `parent`'s file system, whose `mounts` counts it; `parent.below` has it;
- only the root of a tree has no parent.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.mount import MS_RDONLY

if TYPE_CHECKING:
    from trapline.kernel.fs.dentry import Dentry
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.propagation import PeerGroup
    from trapline.kernel.fs.superblock import SuperBlock


class Mount:
    """`sb` seen from `root` on; `flags` are MS_* of this mount alone; `visits` counts the walks
    into it, and `expiring` is that count when MNT_EXPIRE of umount2(2) marked it."""

    __slots__ = (
        "__weakref__", "below", "expiring", "flags", "ident", "master", "mountpoint", "parent", "peers", "root", "sb", "source",
        "unbindable", "visits",
    )  # fmt: skip

    def __init__(self, sb: SuperBlock, root: Dentry, source: bytes = b"none", flags: int = 0, ident: int = 0) -> None:
        self.sb = sb
        self.root = root
        self.source = source
        self.flags = flags
        self.ident = ident
        self.visits = 0
        self.expiring = -1
        self.unbindable = False
        self.peers: PeerGroup | None = None  #: whom it passes changes on to, and hears of theirs
        self.master: PeerGroup | None = None  #: of whose changes it hears besides
        self.parent: Mount | None = None
        self.mountpoint: Dentry | None = None
        self.below: dict[Mount, None] = {}  #: what hangs on it directly, in the order in which it came

    def read_only(self) -> bool:
        return bool(self.flags & MS_RDONLY) or self.sb.read_only


class Path:
    """A dentry seen through a mount."""

    __slots__ = ("dentry", "mount")

    def __init__(self, mount: Mount, dentry: Dentry) -> None:
        self.mount = mount
        self.dentry = dentry

    @property
    def inode(self) -> Inode:
        """The inode; a Path is never handed out for a negative dentry."""
        inode = self.dentry.inode
        assert inode is not None
        return inode

    def same(self, other: Path) -> bool:
        return self.dentry is other.dentry and self.mount is other.mount

    def parent(self) -> Path:
        """The directory above, across mounts; the top of the tree is its own parent."""
        mount, dentry = self.mount, self.dentry
        while dentry is mount.root:
            below = mount.mountpoint
            if mount.parent is None or below is None:
                break
            mount, dentry = mount.parent, below
        return Path(mount, dentry if dentry is mount.root else dentry.parent)

    def parent_inode(self) -> Inode:
        return self.parent().inode

    def display(self, root: Path | None = None) -> bytes:
        """The absolute name, seen from `root`; " (deleted)" follows if it is gone, "(unreachable)" precedes if outside."""
        text, outside = self.text(root)
        if self.dentry.deleted:
            text += b" (deleted)"
        return b"(unreachable)" + text if outside else text

    def text(self, root: Path | None = None) -> tuple[bytes, bool]:
        """(absolute name, whether it lies outside `root`)."""
        names: list[bytes] = []
        mount, dentry = self.mount, self.dentry
        outside = False
        while root is None or dentry is not root.dentry or mount is not root.mount:
            if dentry is mount.root:
                below = mount.mountpoint
                if mount.parent is None or below is None:
                    outside = root is not None
                    break
                mount, dentry = mount.parent, below
            elif dentry.parent is dentry:  # in no tree: the name says it all
                return dentry.name, False
            else:
                names.append(dentry.name)
                dentry = dentry.parent
        names.append(b"")
        names.reverse()
        return b"/".join(names) or b"/", outside

    def __repr__(self) -> str:
        return f"<Path {self.display().decode(errors='replace')}>"
