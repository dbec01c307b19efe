"""What a program changed in its file system, in a form that can be compared: path -> what is there now."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from trapline.abi.stat import S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs.layer import OPAQUE, WHITEOUT, changes, content
from trapline.kernel.fs.overlay import OverlayDir

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.fs.inode import Inode


class Changed(NamedTuple):
    """A file that was made or changed. `mode` is 0 for one that was removed; `digest` is of its content or its target."""

    mode: int
    uid: int
    gid: int
    size: int
    digest: str


REMOVED = Changed(0, 0, 0, 0, "")


def changed(system: System) -> dict[bytes, Changed]:
    """Every path, absolute, at which the guest's root differs from what lies below it. Times are left out."""
    found: dict[bytes, Changed] = {}
    for each in changes(system.root.overlay):
        path = b"/" + each.path
        if each.what == WHITEOUT:
            found[path] = REMOVED
        elif each.inode is not None and each.what != OPAQUE and not _is_as_below(each.inode):
            found[path] = _changed(each.inode)
    return found


def since(system: System, before: dict[bytes, Changed]) -> dict[bytes, Changed]:
    """What differs from what `changed` said `before`."""
    now = changed(system)
    gone = {path: REMOVED for path in before if path not in now}
    return gone | {path: each for path, each in now.items() if before.get(path) != each}


def _is_as_below(inode: Inode) -> bool:
    """A directory that is there for what is in it, and itself as it was."""
    if not isinstance(inode, OverlayDir) or inode.lower is None:
        return False
    lower = inode.lower
    return (inode.mode, inode.uid, inode.gid) == (lower.mode, lower.uid, lower.gid)


def _changed(inode: Inode) -> Changed:
    kind, size, digest = inode.mode & S_IFMT, 0, sha256()
    if kind == S_IFLNK:
        digest.update(inode.readlink())
    elif kind == S_IFREG:
        for data in content(inode):
            digest.update(data)
            size += len(data)
    return Changed(inode.mode, inode.uid, inode.gid, size, digest.hexdigest())
