"""Making, removing and renaming entries: the checks of mkdir(2), mknod(2), link(2), symlink(2), unlink(2), rmdir(2), rename(2).

Each function takes a `Place` (see `path`), checks everything, lets the file system act, then brings the dentry cache in
step. `creds` None stands for the kernel. Errors come in the order Linux gives them: existence before a read-only mount,
that before permissions.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.capability import CAP_FSETID, CAP_MKNOD
from trapline.abi.errno import (
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    EMLINK,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    EXDEV,
)
from trapline.abi.fcntl import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFMT, S_ISGID, S_IXGRP
from trapline.kernel.fs import notify
from trapline.kernel.fs.path import lookup
from trapline.kernel.fs.permission import MAY_EXEC, MAY_WRITE, in_group, may, may_delete, writable

if TYPE_CHECKING:
    from trapline.kernel.fs.dentry import Dentry
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.path import Place
    from trapline.kernel.fs.permission import Creds
    from trapline.kernel.fs.vfs import Vfs

MAX_LINKS = 65_000
_SPECIAL = (b"", b".", b"..")  #: last components that name no entry: the root, and the dots


def find(vfs: Vfs, place: Place) -> Dentry:
    """The dentry of a place's entry, negative if there is none."""
    directory = place.parent.dentry
    child = directory.children.get(place.name)
    return child if child is not None else lookup(vfs, directory, place.name)


def _new(vfs: Vfs, place: Place, creds: Creds | None, directory: bool) -> Inode:
    """The directory in which a new entry may be made."""
    if place.name in _SPECIAL or find(vfs, place).inode is not None:
        raise EEXIST
    if place.slash and not directory:
        raise ENOENT
    return may_create(place.parent, creds)


def may_create(parent: Path, creds: Creds | None) -> Inode:
    """A directory's inode, if entries may be made in it."""
    writable(parent)
    if parent.dentry.deleted:
        raise ENOENT
    inode = parent.inode
    may(inode, creds, MAY_WRITE | MAY_EXEC)
    return inode


def strip_setgid(directory: Inode, mode: int, creds: Creds | None) -> int:
    """A set-group-id program cannot be made for a group that its maker is not in."""
    both = S_ISGID | S_IXGRP
    if mode & both == both and directory.mode & S_ISGID and mode & S_IFMT != S_IFDIR and creds is not None:
        if not in_group(creds, directory.gid) and not creds.has_cap(CAP_FSETID):
            mode &= ~S_ISGID
    return mode


def mkdir(vfs: Vfs, place: Place, mode: int, creds: Creds | None) -> Inode:
    directory = _new(vfs, place, creds, True)
    if directory.nlink >= MAX_LINKS:
        raise EMLINK
    inode = directory.mkdir(place.name, mode, creds)
    place.parent.dentry.add(place.name, inode)
    notify.event(directory, notify.IN_CREATE | notify.IN_ISDIR, place.name)
    return inode


def mknod(vfs: Vfs, place: Place, mode: int, rdev: int, creds: Creds | None) -> Inode:
    """A regular file, FIFO, socket or device; devices need CAP_MKNOD."""
    directory = _new(vfs, place, creds, False)
    kind = mode & S_IFMT
    if (kind == S_IFBLK or (kind == S_IFCHR and rdev)) and creds is not None and not creds.has_cap(CAP_MKNOD):
        raise EPERM  # but for a whiteout, character device 0:0
    inode = directory.create(place.name, strip_setgid(directory, mode, creds), creds, rdev)
    place.parent.dentry.add(place.name, inode)
    notify.event(directory, notify.IN_CREATE, place.name)
    return inode


def symlink(vfs: Vfs, place: Place, target: bytes, creds: Creds | None) -> Inode:
    directory = _new(vfs, place, creds, False)
    inode = directory.symlink(place.name, target, creds)
    place.parent.dentry.add(place.name, inode)
    notify.event(directory, notify.IN_CREATE, place.name)
    return inode


def link(vfs: Vfs, source: Path, place: Place, creds: Creds | None) -> None:
    """One more name for the file at `source`."""
    if place.name in _SPECIAL or find(vfs, place).inode is not None:
        raise EEXIST
    if place.slash:
        raise ENOENT
    writable(place.parent)
    if source.mount is not place.parent.mount:
        raise EXDEV
    directory = may_create(place.parent, creds)
    inode = source.inode
    if inode.sb is not directory.sb:
        raise EXDEV
    if inode.mode & S_IFMT == S_IFDIR:
        raise EPERM
    if inode.nlink == 0 and inode.seals != LINKABLE:
        raise ENOENT
    if inode.nlink >= MAX_LINKS:
        raise EMLINK
    directory.link(place.name, inode)
    inode.seals = -1 if inode.seals == LINKABLE else inode.seals
    place.parent.dentry.add(place.name, inode)
    notify.event(inode, notify.IN_ATTRIB)
    notify.event(directory, notify.IN_CREATE, place.name)


LINKABLE = -2  #: `Inode.seals` of a file made with O_TMPFILE, which linkat(2) may still give a name


def unlink(vfs: Vfs, place: Place, creds: Creds | None) -> None:
    if place.name in _SPECIAL:
        raise EISDIR
    child = find(vfs, place)
    victim = child.inode
    if victim is None:
        raise ENOENT
    if place.slash:
        raise EISDIR if victim.mode & S_IFMT == S_IFDIR else ENOTDIR
    directory = _may_remove(place.parent, child, victim, creds)
    if victim.mode & S_IFMT == S_IFDIR:
        raise EISDIR
    if child.mounts:
        raise EBUSY
    directory.unlink(place.name, victim)
    place.parent.dentry.drop(place.name)
    _gone(victim)
    notify.event(directory, notify.IN_DELETE, place.name)


def rmdir(vfs: Vfs, place: Place, creds: Creds | None) -> None:
    if place.name in _SPECIAL:
        raise {b"": EBUSY, b".": EINVAL, b"..": ENOTEMPTY}[place.name]
    child = find(vfs, place)
    victim = child.inode
    if victim is None:
        raise ENOENT
    directory = _may_remove(place.parent, child, victim, creds)
    if victim.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    if child.mounts:
        raise EBUSY
    directory.rmdir(place.name, victim)
    place.parent.dentry.drop(place.name)
    child.deleted = True
    notify.event(victim, notify.IN_DELETE_SELF)
    notify.event(directory, notify.IN_DELETE | notify.IN_ISDIR, place.name)


def _may_remove(parent: Path, child: Dentry, victim: Inode, creds: Creds | None) -> Inode:
    writable(parent)
    directory = parent.inode
    may_delete(directory, victim, creds)
    return directory


def _gone(inode: Inode) -> None:
    """A name of `inode` was removed; with the last one it goes, or when it is closed."""
    notify.event(inode, notify.IN_ATTRIB)
    if inode.nlink == 0 and inode.opens == 0:
        notify.event(inode, notify.IN_DELETE_SELF)
        inode.evict()


def rename(vfs: Vfs, old: Place, new: Place, flags: int, creds: Creds | None) -> None:
    """rename(2) and renameat2(2)."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
        raise EINVAL
    if flags & RENAME_EXCHANGE and flags & (RENAME_NOREPLACE | RENAME_WHITEOUT):
        raise EINVAL
    if old.parent.mount is not new.parent.mount:
        raise EXDEV
    if old.name in _SPECIAL:
        raise EBUSY
    if new.name in _SPECIAL:
        raise EEXIST if flags & RENAME_NOREPLACE else EBUSY
    writable(old.parent)
    child, target = find(vfs, old), find(vfs, new)
    inode, replaced = child.inode, target.inode
    if inode is None:
        raise ENOENT
    _check_types(inode, replaced, old, new, flags)
    if new.parent.dentry.is_below(inode):
        raise EINVAL
    if replaced is not None and old.parent.dentry.is_below(replaced):
        raise EINVAL if flags & RENAME_EXCHANGE else ENOTEMPTY
    _rename_permissions(old, new, inode, replaced, flags, creds)
    if inode is replaced:  # two names of one file: rename(2) does nothing
        return
    if child.mounts or target.mounts:
        raise EBUSY
    _rename_commit(vfs, old, new, child, target, flags, creds)


def _check_types(inode: Inode, replaced: Inode | None, old: Place, new: Place, flags: int) -> None:
    is_dir = inode.mode & S_IFMT == S_IFDIR
    if flags & RENAME_NOREPLACE and replaced is not None:
        raise EEXIST
    if flags & RENAME_EXCHANGE:
        if replaced is None:
            raise ENOENT
        if new.slash and replaced.mode & S_IFMT != S_IFDIR:
            raise ENOTDIR
        if old.slash and not is_dir:
            raise ENOTDIR
        return
    if not is_dir and (old.slash or new.slash):
        raise ENOTDIR


def _rename_permissions(
    old: Place, new: Place, inode: Inode, replaced: Inode | None, flags: int, creds: Creds | None
) -> None:
    may_delete(old.parent.inode, inode, creds)
    is_dir = inode.mode & S_IFMT == S_IFDIR
    if replaced is None:
        may_create(new.parent, creds)
    else:
        may_delete(new.parent.inode, replaced, creds)
        if not flags & RENAME_EXCHANGE and inode is not replaced:
            if is_dir != (replaced.mode & S_IFMT == S_IFDIR):
                raise ENOTDIR if is_dir else EISDIR
    if old.parent.dentry is not new.parent.dentry:  # ".." of a directory changes
        if is_dir:
            may(inode, creds, MAY_WRITE)
        if flags & RENAME_EXCHANGE and replaced is not None and replaced.mode & S_IFMT == S_IFDIR:
            may(replaced, creds, MAY_WRITE)
    if flags & RENAME_WHITEOUT and creds is not None and not creds.has_cap(CAP_MKNOD):
        raise EPERM


def _rename_commit(
    vfs: Vfs, old: Place, new: Place, child: Dentry, target: Dentry, flags: int, creds: Creds | None
) -> None:
    inode, replaced = child.inode, target.inode
    assert inode is not None
    from_dir, to_dir = old.parent.inode, new.parent.inode
    from_dir.rename(old.name, to_dir, new.name, flags, creds)
    old_dentry, new_dentry = old.parent.dentry, new.parent.dentry
    if flags & RENAME_EXCHANGE:
        old_dentry.exchange(child, new_dentry, target)
    else:
        target.deleted = replaced is not None
        old_dentry.move(child, new_dentry, new.name)
        if replaced is not None:
            _gone(replaced)
    kind = notify.IN_ISDIR if inode.mode & S_IFMT == S_IFDIR else 0
    cookie = vfs.cookie()
    notify.event(from_dir, notify.IN_MOVED_FROM | kind, old.name, cookie)
    notify.event(to_dir, notify.IN_MOVED_TO | kind, new.name, cookie)
    notify.event(inode, notify.IN_MOVE_SELF)
