"""What the upper layer of an overlay holds, as a list of changes to the lower tree, parents before children.

A directory that was renamed has no lower directory at its new place, so everything in it is listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import NamedTuple

from trapline.abi.errno import ENOENT
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.fs.inode import Inode
from trapline.kernel.fs.memdir import MemDir
from trapline.kernel.fs.overlay import OverlayDir, OverlayFs

CHUNK = 1 << 20  #: bytes of a piece
PRESENT, WHITEOUT, OPAQUE = 0, 1, 2
WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"


class Change(NamedTuple):
    """`what`: PRESENT: `inode` is at `path` now; WHITEOUT: nothing is; OPAQUE: nothing of the lower directory shows through."""

    path: bytes  #: relative to the root, b"" for the root itself
    what: int
    inode: Inode | None


def changes(overlay: OverlayFs) -> Iterator[Change]:
    """Every difference between the overlay and its lower tree."""
    todo: list[tuple[bytes, Inode, Inode | None]] = [(b"", overlay.root, overlay.lower)]  # path, directory, what it hides
    while todo:
        path, directory, hidden = todo.pop()
        yield Change(path, PRESENT, directory)
        merged = isinstance(directory, OverlayDir) and directory.lower is hidden
        if not merged and hidden is not None and hidden.mode & S_IFMT == S_IFDIR:
            yield Change(path, OPAQUE, directory)
        for name, inode in _children(directory, merged):
            below = path + b"/" + name if path else name
            if inode is None:
                yield Change(below, WHITEOUT, None)
            elif inode.mode & S_IFMT == S_IFDIR:
                todo.append((below, inode, _lookup(hidden, name)))
            else:
                yield Change(below, PRESENT, inode)


def content(inode: Inode) -> Iterator[bytes]:
    """What a regular file holds, in pieces."""
    cache = inode.cache()
    offset = 0
    while cache is not None and offset < cache.size:
        data = cache.read(offset, CHUNK)
        yield data
        offset += len(data)


def _children(directory: Inode, merged: bool) -> list[tuple[bytes, Inode | None]]:
    """What the layer must say of a directory's entries: the changed ones, or all."""
    assert isinstance(directory, MemDir)
    if merged or not isinstance(directory, OverlayDir):
        return list(directory.names.items())
    return [(name, directory.lookup(name)) for name, _, _ in directory.entries()]


def _lookup(directory: Inode | None, name: bytes) -> Inode | None:
    if directory is None or directory.mode & S_IFMT != S_IFDIR:
        return None
    try:
        return directory.lookup(name)
    except ENOENT:
        return None
