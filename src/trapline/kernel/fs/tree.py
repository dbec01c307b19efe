"""Trees of mounts: copying, attaching, removing and changing a mount together with what hangs on it.

A tree that is not attached (open_tree(2), fsmount(2)) is listed in `Vfs.detached` by its top; it holds its file systems, and
goes with the descriptor that stands for it, unless move_mount(2) attached it before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.abi.errno import EBUSY, EINVAL, ENOSPC
from trapline.kernel.fs.mount import Path

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.vfs import Vfs

MAX_MOUNTS = 4096  #: in all trees; beyond, ENOSPC: /proc/sys/fs/mount-max


def top_of(mount: Mount) -> Mount:
    """The mount that `mount` hangs on, directly or through others, and that hangs on nothing."""
    while mount.parent is not None:
        mount = mount.parent
    return mount


def in_tree(vfs: Vfs, mount: Mount) -> None:
    """Raise EINVAL for a mount that is not (or no longer) in the tree."""
    if top_of(mount) is not vfs.root.mount:
        raise EINVAL("not in the tree")


def is_inside(mount: Mount, path: Path) -> bool:
    """`mount` hangs, directly or through others, below `path`."""
    while mount.parent is not None and mount.mountpoint is not None:
        dentry = mount.mountpoint
        if mount.parent is path.mount:
            while dentry is not path.dentry:
                if dentry.parent is dentry:
                    return False
                dentry = dentry.parent
            return True
        mount = mount.parent
    return False


def room_for(vfs: Vfs, count: int) -> None:
    if vfs.count_mounts() + count > MAX_MOUNTS:
        raise ENOSPC("too many mounts")


def copy(vfs: Vfs, source: Path, recursive: bool) -> Mount:
    """A detached copy of the tree at `source`: what a bind mount shows. EINVAL, ENOSPC."""
    if source.mount.unbindable:
        raise EINVAL("unbindable")
    below = [each for each in vfs.below(source.mount)[1:] if recursive and is_inside(each, source)]
    room_for(vfs, 1 + len(below))
    top = vfs.new_mount(source.mount.sb, source.mount.source, source.mount.flags, source.dentry)
    copies = {source.mount: top}
    for each in below:
        if each.unbindable or each.parent not in copies:
            continue
        assert each.parent is not None and each.mountpoint is not None
        copies[each] = vfs.new_mount(each.sb, each.source, each.flags, each.root)
        vfs.hang(copies[each], Path(copies[each.parent], each.mountpoint))
    vfs.detached[top] = None
    return top


def attach(vfs: Vfs, mount: Mount, at: Path) -> None:
    """Put a detached tree over the place `at`. ENOTDIR, ENOENT, EINVAL, ENOSPC."""
    in_tree(vfs, at.mount)
    tree = vfs.below(mount)
    room_for(vfs, len(tree))
    vfs.mount(mount, at)
    vfs.mounts += tree[1:]
    vfs.detached.pop(mount, None)


def move(vfs: Vfs, mount: Mount, to: Path) -> None:
    """Take an attached mount to another place. EINVAL for the root or for a place inside itself."""
    in_tree(vfs, mount)
    in_tree(vfs, to.mount)
    vfs.check_place(mount, to)
    vfs.detach(mount)
    vfs.hang(mount, to)


def dissolve(vfs: Vfs, mount: Mount) -> None:
    """Nobody will attach a detached tree any more."""
    if mount in vfs.detached:
        vfs.umount(mount, lazy=True)


def with_below(vfs: Vfs, mount: Mount, recursive: bool) -> list[Mount]:
    return vfs.below(mount) if recursive else [mount]


def check_writers(mounts: list[Mount], writing: set[Mount]) -> None:
    """EBUSY if a file that may be written is open on a mount that becomes read-only."""
    if any(each in writing for each in mounts):
        raise EBUSY("open for writing")
