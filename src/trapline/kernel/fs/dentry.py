"""Dentry: one name in one directory, as the path walk remembers it; a negative dentry remembers that there is none.

`children` holds what may be answered without asking the file system. `kept` holds dentries that must be asked for
each time (`Inode.volatile`), so that the same file keeps the same dentry.

Invariants:
- `parent.children[name]` (or `kept`) is this dentry, or it was dropped or deleted;
- the root of a file system is its own parent.
"""

from __future__ import annotations

import sys
from trapline.typed import TYPE_CHECKING

from trapline.kernel.fs.inode import REVALIDATE

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode


MAX_KEPT = 8192  #: in one directory


class Dentry:
    """`mounts` counts the mounts on top of it; `inode` is None while there is no such file."""

    __slots__ = ("__weakref__", "children", "deleted", "inode", "kept", "mounts", "name", "parent")

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name = name
        self.parent: Dentry = parent if parent is not None else self
        self.inode = inode
        self.children: dict[bytes, Dentry] = {}
        self.kept: dict[bytes, Dentry] | None = None
        self.mounts = 0
        self.deleted = False

    def add(self, name: bytes, inode: Inode) -> Dentry:
        """The dentry of an entry that was just made."""
        assert self.inode is not None
        if self.inode.volatile:
            child = Dentry(name, self, inode)
            if self.inode.volatile == REVALIDATE:
                self.keep(child)
            return child
        known = self.children.get(name)
        if known is None:
            known = self.children[name] = Dentry(name, self, inode)
        else:
            known.inode = inode
        return known

    def keep(self, child: Dentry) -> None:
        """Remember a dentry that must be asked for each time."""
        kept = self.kept
        if kept is None or len(kept) >= MAX_KEPT:
            kept = self.kept = {}
        kept[child.name] = child

    def drop(self, name: bytes) -> None:
        """The entry is gone."""
        child = self.children.pop(name, None)
        if child is not None:
            child.deleted = child.inode is not None
        if self.kept is not None:
            child = self.kept.pop(name, None)
            if child is not None:
                child.deleted = True

    def _forget(self, child: Dentry) -> None:
        for cache in (self.children, self.kept):
            if cache is not None and cache.get(child.name) is child:
                del cache[child.name]

    def _attach(self, child: Dentry, name: bytes) -> None:
        child.name = name
        child.parent = self
        assert self.inode is not None
        if not self.inode.volatile:
            self.children[name] = child
        elif self.kept is not None:
            self.kept[name] = child

    def move(self, child: Dentry, to: Dentry, name: bytes) -> None:
        """Entry `child` was renamed to `name` in directory `to`; what was there is gone."""
        to.drop(name)
        self._forget(child)
        to._attach(child, name)

    def exchange(self, child: Dentry, to: Dentry, other: Dentry) -> None:
        """Entry `child` and entry `other` of directory `to` changed places."""
        name, other_name = child.name, other.name
        self._forget(child)
        to._forget(other)
        to._attach(child, other_name)
        self._attach(other, name)

    def is_below(self, inode: Inode) -> bool:
        """`inode` is this directory's or one of its ancestors' in the same file system."""
        dentry = self
        while dentry.inode is not inode:
            if dentry.parent is dentry:
                return False
            dentry = dentry.parent
        return True


def shrink(root: Dentry) -> int:
    """Forget negative and unused dentries below `root`; how many are left."""
    order = [root]  # parents before children
    for dentry in order:
        order += [child for child in dentry.children.values() if child.children]
        dentry.kept = None
    left = 0
    while order:
        children = order.pop().children
        for name in [name for name, child in children.items() if child.inode is None or _refs(child) <= _unused_refs]:
            del children[name]
        left += len(children)
    return left


def forget(root: Dentry) -> None:
    """Drop everything cached below `root`, whose file system is no longer in the tree."""
    order = [root]
    while order:
        dentry = order.pop()
        order += dentry.children.values()
        dentry.children.clear()
        dentry.kept = None


def _refs(child: Dentry) -> int:
    """References to a dentry without children or mounts; many for one that has them."""
    return 1 << 30 if child.children or child.mounts else sys.getrefcount(child)


def _calibrate() -> int:
    """What `_refs` says of a dentry that only its parent's dict refers to, called as `shrink` calls it."""
    children = {b"": Dentry(b"", None, None)}
    children[b""].parent = None  # type: ignore[assignment]
    return [_refs(child) for name, child in children.items() if name is not None][0]  # noqa: RUF015 - as in `shrink`


_unused_refs = _calibrate()
