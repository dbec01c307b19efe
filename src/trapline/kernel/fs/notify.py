"""Telling whoever watches an inode (inotify(7)) what happened to it. Nobody watching costs one attribute test."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.stat import S_IFDIR, S_IFMT

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

INSTANCES = [0]  #: how many inotify instances there are: reads tell nobody while it is 0

IN_ACCESS = 0x1
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_CLOSE_NOWRITE = 0x10
IN_OPEN = 0x20
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_ISDIR = 0x40000000


def event(inode: Inode, mask: int, name: bytes = b"", cookie: int = 0) -> None:
    """Something happened to `inode`, or to entry `name` of it."""
    if inode.watches is not None:
        inode.watches.notify(mask, name, cookie)


def path_event(path: Path, mask: int) -> None:
    """Something happened to the file at `path`: its watchers learn it, and its directory's."""
    dentry = path.dentry
    inode, parent = dentry.inode, dentry.parent.inode
    if inode is None:
        return
    if inode.watches is not None:
        inode.watches.notify(mask, b"", 0)
    if parent is not None and parent.watches is not None and parent is not inode:
        if inode.mode & S_IFMT == S_IFDIR:
            mask |= IN_ISDIR
        parent.watches.notify(mask, dentry.name, 0, dentry.deleted)


def file_event(file: File, mask: int) -> None:
    """Something happened through an open file."""
    if file.path is not None:
        path_event(file.path, mask)
    else:
        event(file.inode, mask)
