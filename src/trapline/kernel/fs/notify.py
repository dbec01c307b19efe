"""Telling whoever watches an inode (inotify(7)) what happened to it. Nobody watching costs one attribute test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode

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
IN_ISDIR = 0x40000000


def event(inode: Inode, mask: int, name: bytes = b"", cookie: int = 0) -> None:
    """Something happened to `inode`, or to entry `name` of it."""
    if inode.watches is not None:
        inode.watches.notify(mask, name, cookie)


def file_event(file: File, mask: int) -> None:
    """Something happened through an open file: its inode's watchers learn it, and its directory's."""
    event(file.inode, mask)
    path = file.path
    if path is not None:
        parent = path.dentry.parent.inode
        if parent is not None and parent.watches is not None:
            parent.watches.notify(mask, path.dentry.name, 0)
