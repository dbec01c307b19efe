"""Mount propagation, mount_namespaces(7): what is mounted under one mount appears under its peers and slaves, and goes again.

A *peer group* is the mounts that pass changes on to each other; a *slave* takes the changes of its master group and passes
none back. A mount may be both. A copy of a mount is in the same groups as the mount.

Invariants:
- `mount.peers` is the group that lists it in `members`, `mount.master` the one that lists it in `slaves`, or None;
- the members of a group have the same master; a group has a member;
- members and slaves are in the order in which Linux keeps them, as it decides what covers what where two copies meet: a copy
  comes after its model, a new slave first.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL
from trapline.abi.mount import MS_SHARED, MS_SLAVE, MS_UNBINDABLE
from trapline.kernel.fs.mount import Path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trapline.kernel.fs.dentry import Dentry
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.vfs import Vfs


class PeerGroup:
    """`ident` is what mountinfo shows: the smallest number that is free."""

    __slots__ = ("ident", "members", "slaves")

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.members: list[Mount] = []
        self.slaves: list[Mount] = []


# ---- types


def set_type(vfs: Vfs, mount: Mount, kind: int) -> None:
    """Make a mount MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE."""
    if kind == MS_SHARED:
        share(vfs, mount)
        return
    group = mount.peers
    if group is not None:
        alone = len(group.members) == 1
        _leave(vfs, mount)
        if not alone:
            _follow(mount, group)
    if kind != MS_SLAVE:
        _follow(mount, None)
        mount.unbindable = kind == MS_UNBINDABLE


def share(vfs: Vfs, mount: Mount) -> None:
    """Put a mount that has no peers in a new group."""
    mount.unbindable = False
    if mount.peers is None:
        while vfs.next_peer_group in vfs.peer_groups:
            vfs.next_peer_group += 1
        group = vfs.peer_groups[vfs.next_peer_group] = PeerGroup(vfs.next_peer_group)
        _join(mount, group)


def _join(mount: Mount, group: PeerGroup) -> None:
    mount.peers = group
    group.members.append(mount)


def _follow(mount: Mount, group: PeerGroup | None) -> None:
    if mount.master is not None:
        mount.master.slaves.remove(mount)
    mount.master = group
    if group is not None:
        group.slaves.insert(0, mount)


def _leave(vfs: Vfs, mount: Mount) -> None:
    """Out of its peers; the slaves of a group without members have the master that it had."""
    group, mount.peers = mount.peers, None
    assert group is not None
    group.members.remove(mount)
    if not group.members:
        for each in tuple(group.slaves):
            _follow(each, mount.master)
        del vfs.peer_groups[group.ident]
        vfs.next_peer_group = min(vfs.next_peer_group, group.ident)


def let_go(vfs: Vfs, mount: Mount) -> None:
    """The mount is in no tree any more."""
    if mount.peers is not None:
        _leave(vfs, mount)
    _follow(mount, None)


def same_type(mount: Mount, like: Mount) -> None:
    """A new copy of `like` is in its groups."""
    if like.peers is not None:
        mount.peers = like.peers
        like.peers.members.insert(like.peers.members.index(like) + 1, mount)
    if like.master is not None:
        mount.master = like.master
        like.master.slaves.insert(like.master.slaves.index(like) + 1, mount)


def set_group(mount: Mount, source: Mount) -> None:
    """MOVE_MOUNT_SET_GROUP: a private mount gets the type of another of the same file system. EINVAL."""
    if mount.sb is not source.sb or not _holds(source, mount.root):
        raise EINVAL("shows what the other does not")
    if mount.peers is not None or mount.master is not None or (source.peers is None and source.master is None):
        raise EINVAL("only a private mount gets the groups of another that has some")
    same_type(mount, source)


# ---- who hears of a change


def _holds(mount: Mount, dentry: Dentry) -> bool:
    """`dentry` is in what the mount shows."""
    while dentry is not mount.root:
        if dentry.parent is dentry:
            return False
        dentry = dentry.parent
    return True


def receivers(mount: Mount) -> list[Mount]:
    """The mounts that changes under `mount` are passed on to."""
    if mount.peers is None:
        return []
    found = {each: None for each in mount.peers.members if each is not mount}
    groups = [mount.peers]
    for group in groups:
        for slave in group.slaves:
            found[slave] = None
            if slave.peers is not None and slave.peers not in groups:
                groups.append(slave.peers)
    return list(found)


# ---- mounting


def spread(vfs: Vfs, tree: list[Mount], at: Path, new: bool) -> list[tuple[Mount, Mount]]:
    """`tree` is about to hang at the place `at`, of a shared mount: all of it becomes shared. `new`: it hears of nothing yet.

    (copy, mount that it is to hang on) of what the receivers get; the copies are hung by `hang`.
    """
    unheard = {each for each in tree if each.peers is None}  # they become shared by this, which they do not hear of as such
    for each in tree:
        share(vfs, each)
    found: list[tuple[Mount, Mount]] = []
    assert at.mount.peers is not None
    served = {at.mount, *tree} if new else {at.mount}
    _Spread(vfs, at.dentry, served, unheard, found).to_group(at.mount, at.mount.peers, tree[0])
    return found


class _Spread:
    """One mount on its way to all receivers. `served`: who has a copy, or is part of one."""

    __slots__ = ("dentry", "found", "served", "unheard", "vfs")

    def __init__(
        self, vfs: Vfs, dentry: Dentry, served: set[Mount], unheard: set[Mount], found: list[tuple[Mount, Mount]]
    ) -> None:
        self.vfs = vfs
        self.dentry = dentry
        self.served = served
        self.unheard = unheard
        self.found = found

    def wants(self, mount: Mount) -> bool:
        return mount not in self.served and _holds(mount, self.dentry)

    def to_group(self, first: Mount, group: PeerGroup, top: Mount) -> None:
        """Copies of the tree `top`, which hangs on `first` of `group`, for the others and for slaves. One may be in `group`."""
        at = group.members.index(first)
        for each in group.members[at + 1 :] + group.members[:at]:
            if self.wants(each):
                self.give(each, top, None)
        self.to_slaves(group, top)

    def to_slaves(self, group: PeerGroup, top: Mount) -> None:
        done: set[PeerGroup] = set()
        for each in tuple(group.slaves):
            if each.peers is None or each in self.unheard:
                if self.wants(each):
                    self.give(each, top, False)
            elif each.peers not in done:
                done.add(each.peers)
                first = next((one for one in each.peers.members if self.wants(one)), None)
                if first is None:
                    self.to_slaves(each.peers, top)
                else:
                    self.to_group(first, each.peers, self.give(first, top, True))

    def give(self, mount: Mount, top: Mount, slave_shares: bool | None) -> Mount:
        """A copy of a tree: as peers (None), or as slaves that are shared among themselves or not."""
        copies: dict[Mount, Mount] = {}
        for each in self.vfs.below(top):
            if each is not top and (each.unbindable or each.parent not in copies):
                continue
            copy = copies[each] = self.vfs.new_mount(each.sb, each.source, each.flags, each.root)
            if slave_shares is None:
                same_type(copy, each)
            else:
                _follow(copy, each.peers)
                if slave_shares:
                    share(self.vfs, copy)
            if each is not top:
                assert each.parent is not None and each.mountpoint is not None
                self.vfs.hang(copy, Path(copies[each.parent], each.mountpoint))
        self.served.update((mount, *copies.values()))
        self.found.append((copies[top], mount))
        return copies[top]


def hang(vfs: Vfs, copies: Iterable[tuple[Mount, Mount]], dentry: Dentry) -> None:
    """Put the copies that `spread` made at their places, beneath what is mounted there."""
    for copy, mount in copies:
        hang_beneath(vfs, copy, Path(mount, dentry))


def hang_beneath(vfs: Vfs, mount: Mount, at: Path) -> None:
    """Hang a tree at a place; what covers that place covers the top of the tree now."""
    over = vfs.covering(at)
    if over is not None:
        vfs.detach(over)
    vfs.hang(mount, at)
    if over is not None:
        vfs.hang(over, Path(*vfs.cross(mount, mount.root)))


# ---- unmounting


def unmounted_with(vfs: Vfs, tree: list[Mount]) -> list[Mount]:
    """What goes when `tree` does: it, and what the receivers of each change have in the same place, unless something that
    stays is mounted within that. What covers it wholly may stay: it can take its place."""
    doomed = dict.fromkeys(tree)
    for each in tree:
        if each.parent is not None and each.mountpoint is not None:
            found = (vfs.covering(Path(mount, each.mountpoint)) for mount in receivers(each.parent))
            doomed |= dict.fromkeys(child for child in found if child is not None)
    kept = True
    while kept:
        kept = False
        for each in list(doomed)[len(tree) :]:
            inside = (child for child in each.below if child.mountpoint is not each.root)
            if any(_stays(vfs, child, doomed) for child in inside):
                del doomed[each]
                kept = True
    return list(doomed)


def _stays(vfs: Vfs, mount: Mount, doomed: dict[Mount, None]) -> bool:
    """The mount, or one of those that cover it, does not go."""
    over: Mount | None = mount
    while over is not None and over in doomed:
        over = vfs.covering(Path(over, over.root))
    return over is not None


def would_go(vfs: Vfs, mount: Mount) -> list[Mount]:
    """The mounts besides `mount` that umount2(2) of it alone would remove, and that must not be in use."""
    return unmounted_with(vfs, [mount])[1:]


def keep_what_covers(vfs: Vfs, doomed: list[Mount]) -> None:
    """What covers a mount that goes, and does not go itself, comes to hang where that was."""
    gone = set(doomed)
    for each in doomed:
        over = vfs.covering(Path(each, each.root))
        while over in gone and over is not None:
            over = vfs.covering(Path(over, over.root))
        if over is not None and each.parent is not None and each.mountpoint is not None:
            at = Path(each.parent, each.mountpoint)
            vfs.detach(over)
            vfs.detach(each)
            each.parent = each.mountpoint = None
            vfs.hang(over, at)


# ---- beneath


def check_beneath(vfs: Vfs, mount: Mount, over: Mount) -> Path:
    """MOVE_MOUNT_BENEATH: the place where `mount` comes to hang, under `over`. EINVAL."""
    if over.parent is None or over.mountpoint is None:
        raise EINVAL("nothing is beneath the root")
    if over.parent is vfs.root.mount or vfs.covering(Path(mount, mount.root)) is not None:
        raise EINVAL("it would be covered")
    if over in (mount, *_above(mount)):
        raise EINVAL("it hangs on what it is to be beneath")
    heard = receivers(over.parent)
    if any(each in heard and each.root is over.mountpoint for each in (over, mount)):
        raise EINVAL("it would be passed on to what it is to be beneath")
    return Path(over.parent, over.mountpoint)


def _above(mount: Mount) -> list[Mount]:
    found = []
    while mount.parent is not None:
        mount = mount.parent
        found.append(mount)
    return found
