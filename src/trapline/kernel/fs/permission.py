"""Who may do what to an inode: path_resolution(7), "Permissions". `creds` None stands for the kernel itself: everything.

Each check raises its errno, or returns.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Protocol

from trapline.abi.capability import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
)
from trapline.abi.errno import EACCES, EPERM, EROFS
from trapline.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_ISVTX, S_IXGRP
from trapline.kernel.fs.acl import permits

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

MAY_EXEC = 1
MAY_WRITE = 2
MAY_READ = 4


class Creds(Protocol):
    """What the checks need of `task.creds`."""

    @property
    def fsuid(self) -> int: ...
    @property
    def fsgid(self) -> int: ...
    @property
    def groups(self) -> tuple[int, ...]: ...
    def has_cap(self, cap: int) -> bool: ...


def in_group(creds: Creds, gid: int) -> bool:
    return gid == creds.fsgid or gid in creds.groups


def may(inode: Inode, creds: Creds | None, mask: int) -> None:
    """Raise EACCES unless `creds` may do all of `mask` (MAY_*) to `inode`."""
    if creds is None:
        return
    mode = inode.mode
    if creds.fsuid == inode.uid:
        bits = mode >> 6
    elif inode.acl is not None and mode & 0o070:
        bits = mask if permits(inode, inode.acl, creds, mask) else 0
    elif in_group(creds, inode.gid):
        bits = mode >> 3
    else:
        bits = mode
    if bits & mask == mask:
        return
    if mode & S_IFMT == S_IFDIR:
        if not mask & MAY_WRITE and creds.has_cap(CAP_DAC_READ_SEARCH):
            return
        if creds.has_cap(CAP_DAC_OVERRIDE):
            return
    else:
        if mask == MAY_READ and creds.has_cap(CAP_DAC_READ_SEARCH):
            return
        if (not mask & MAY_EXEC or mode & 0o111) and creds.has_cap(CAP_DAC_OVERRIDE):
            return
    raise EACCES


def may_access(path: Path, creds: Creds | None, mask: int) -> None:
    """`may`, and EROFS for writing a file, directory or link on a read-only mount."""
    inode = path.inode
    if mask & MAY_WRITE and inode.mode & S_IFMT in (S_IFREG, S_IFDIR, S_IFLNK):
        writable(path)
    may(inode, creds, mask)


def writable(path: Path) -> None:
    """Raise EROFS on a read-only mount."""
    if path.mount.flags & 1 or path.mount.sb.read_only:
        raise EROFS


def owner_or(inode: Inode, creds: Creds | None, cap: int = CAP_FOWNER) -> bool:
    """`creds` owns the inode, or has the capability."""
    return creds is None or creds.fsuid == inode.uid or creds.has_cap(cap)


def may_delete(directory: Inode, victim: Inode, creds: Creds | None) -> None:
    """Removing or renaming an entry: write permission, and the sticky bit's rule (unlink(2))."""
    may(directory, creds, MAY_WRITE | MAY_EXEC)
    if directory.mode & S_ISVTX and creds is not None:
        if creds.fsuid not in (victim.uid, directory.uid) and not creds.has_cap(CAP_FOWNER):
            raise EPERM("sticky directory")


def may_chown(inode: Inode, creds: Creds | None, uid: int, gid: int) -> None:
    """chown(2): -1 leaves an id as it is. Only a privileged process gives files away; owners choose among their groups."""
    if creds is None or creds.has_cap(CAP_CHOWN):
        return
    if uid != -1 and (creds.fsuid != inode.uid or uid != inode.uid):
        raise EPERM
    if gid != -1 and (creds.fsuid != inode.uid or not (gid == inode.gid or in_group(creds, gid))):
        raise EPERM


def mode_after_write(inode: Inode, creds: Creds | None) -> int:
    """Permission bits once a file was written or given away: the set-id bits go (write(2), chown(2))."""
    mode = inode.mode
    if mode & S_IFMT == S_IFDIR or (creds is not None and creds.has_cap(CAP_FSETID)):
        return mode & 0o7777
    mode &= ~S_ISUID
    if mode & S_IXGRP:
        mode &= ~S_ISGID
    return mode & 0o7777


def mode_for_chmod(inode: Inode, creds: Creds | None, mode: int) -> int:
    """chmod(2): the set-group-id bit is dropped for a group the caller is not in."""
    if mode & S_ISGID and creds is not None and not in_group(creds, inode.gid) and not creds.has_cap(CAP_FSETID):
        mode &= ~S_ISGID
    return mode & 0o7777
