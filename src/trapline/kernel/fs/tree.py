"""Trees of mounts: copying, attaching, removing and changing a mount together with what hangs on it.

A tree that is not attached (open_tree(2), fsmount(2)) is listed in `Vfs.detached` by its top; it holds its file systems, and
goes with the descriptor that stands for it, unless move_mount(2) attached it before.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EBUSY, EINVAL, ENOSPC
from trapline.kernel.fs import propagation
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
    propagation.same_type(top, source.mount)
    copies = {source.mount: top}
    for each in below:
        if each.unbindable or each.parent not in copies:
            continue
        assert each.parent is not None and each.mountpoint is not None
        copies[each] = vfs.new_mount(each.sb, each.source, each.flags, each.root)
        propagation.same_type(copies[each], each)
        vfs.hang(copies[each], Path(copies[each.parent], each.mountpoint))
    vfs.detached[top] = None
    return top


def attach(vfs: Vfs, mount: Mount, at: Path) -> None:
    """Put a detached tree over the place `at`, or beneath what covers that. ENOTDIR, ENOENT, EINVAL, ENOSPC."""
    in_tree(vfs, at.mount)
    tree = vfs.below(mount)
    room_for(vfs, len(tree) * (1 + len(propagation.receivers(at.mount))))
    vfs.check_place(mount, at)
    copies = _spread(vfs, tree, at, True)
    propagation.hang_beneath(vfs, mount, at)
    vfs.mounts.update(dict.fromkeys(tree))
    _hang_copies(vfs, copies, at)
    vfs.detached.pop(mount, None)


def move(vfs: Vfs, mount: Mount, to: Path) -> None:
    """Take an attached mount to another place, or beneath what covers that. EINVAL, ENOTDIR, ENOENT, ENOSPC."""
    in_tree(vfs, mount)
    in_tree(vfs, to.mount)
    vfs.check_place(mount, to)
    tree = vfs.below(mount)
    room_for(vfs, len(tree) * len(propagation.receivers(to.mount)))
    copies = _spread(vfs, tree, to, False)
    vfs.detach(mount)
    propagation.hang_beneath(vfs, mount, to)
    _hang_copies(vfs, copies, to)


def check_bindable(tree: list[Mount], at: Path) -> None:
    """EINVAL for an unbindable mount that would be copied, as it comes under a shared one."""
    if at.mount.peers is not None and any(each.unbindable for each in tree):
        raise EINVAL("unbindable, onto a shared mount")


def _spread(vfs: Vfs, tree: list[Mount], at: Path, new: bool) -> list[tuple[Mount, Mount]]:
    """Who else gets a tree that hangs at `at`: see `propagation.spread`. EINVAL for what cannot be copied."""
    if at.mount.peers is None:
        return []
    check_bindable(tree, at)
    return propagation.spread(vfs, tree, at, new)


def _hang_copies(vfs: Vfs, copies: list[tuple[Mount, Mount]], at: Path) -> None:
    propagation.hang(vfs, copies, at.dentry)
    for copy, _ in copies:
        if top_of(copy) is vfs.root.mount:
            vfs.mounts.update(dict.fromkeys(vfs.below(copy)))


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
