"""Opening: open(2), openat(2), openat2(2) and O_TMPFILE, from flags to a File.

Order: decode the flags, find (or make) the inode, check it against the flags, truncate, let the inode open itself.
"""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EACCES, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, EPERM, ETXTBSY
from trapline.abi.fcntl import (
    O_ACCMODE,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOATIME,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_TMPFILE,
    O_TMPFILE_BIT,
    O_TRUNC,
    RESOLVE_NO_SYMLINKS,
)
from trapline.abi.mount import MS_NODEV
from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs import notify
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.file import PathFile
from trapline.kernel.fs.inode import Inode
from trapline.kernel.fs.mount import Path
from trapline.kernel.fs.namei import LINKABLE, find, may_create, strip_setgid
from trapline.kernel.fs.path import FOLLOW, MAX_LINKS, RESTRICTED, walk, walk_parent
from trapline.kernel.fs.permission import MAY_READ, MAY_WRITE, may_access, mode_after_write, owner_or

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.path import Place
    from trapline.kernel.fs.permission import Creds
    from trapline.kernel.fs.vfs import Vfs

_RAW = 16  #: so far up in `mode` are the permissions as they were before the umask, for a directory with a default list
_ONCE = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC  #: flags that act at opening only
_MASKS = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)  #: by O_ACCMODE


def open_at(
    vfs: Vfs, task: Any, dirfd: int, name: bytes, flags: int, mode: int = 0, resolve: int = 0
) -> File | Coroutine[Any, Any, File]:
    """open(2) for a task: applies its umask. `resolve`: RESOLVE_* of openat2(2)."""
    fs = task.fs
    start = fs.cwd if name[:1] == b"/" and not resolve else vfs.start(task, dirfd)
    if flags & (O_CREAT | O_TMPFILE_BIT):
        mode = mode & ~fs.umask | mode << _RAW
    root = start if resolve & RESTRICTED else fs.root
    return _open(vfs, start, root, name, flags, mode, task.creds, task, resolve)


def open_in(vfs: Vfs, start: Path, root: Path, name: bytes, flags: int, mode: int, creds: Creds | None) -> File:
    """Open for the kernel itself; never waits."""
    file = _open(vfs, start, root, name, flags, mode, creds, None, 0)
    assert not isinstance(file, Coroutine)
    return file


def _open(
    vfs: Vfs, start: Path, root: Path, name: bytes, flags: int, mode: int, creds: Creds | None, task: Any, resolve: int
) -> File | Coroutine[Any, Any, File]:
    if flags & O_PATH:
        return _open_path(vfs, start, root, name, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW), creds, task, resolve)
    flags |= O_LARGEFILE
    if flags & O_TMPFILE_BIT:
        return _open_tmpfile(vfs, start, root, name, flags, mode, creds, task, resolve)
    if flags & O_CREAT:
        if flags & O_DIRECTORY:
            raise EINVAL
        path, made = _create(vfs, start, root, name, flags, mode, creds, task, resolve)
        if made:
            return _finish(path, flags, task)
    else:
        path = walk(vfs, start, root, name, creds, task, resolve if flags & O_NOFOLLOW else resolve | FOLLOW)
    return _open_existing(path, flags, creds, task)


def open_inode(mount: Mount, inode: Inode, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
    """Open a file that was found without a name: open_by_handle_at(2)."""
    path = Path(mount, Dentry(b"/", None, inode))
    if flags & O_PATH:
        return PathFile(inode, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW), path)
    return _open_existing(path, flags | O_LARGEFILE, task.creds, task)


def _open_path(
    vfs: Vfs, start: Path, root: Path, name: bytes, flags: int, creds: Creds | None, task: Any, resolve: int
) -> File:
    path = walk(vfs, start, root, name, creds, task, resolve if flags & O_NOFOLLOW else resolve | FOLLOW)
    inode = path.inode
    if flags & O_DIRECTORY and inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    return PathFile(inode, flags, path)


def _open_existing(path: Path, flags: int, creds: Creds | None, task: Any) -> File | Coroutine[Any, Any, File]:
    """Check an existing file against the flags, and open it."""
    inode = path.inode
    kind = inode.mode & S_IFMT
    mask = _MASKS[flags & O_ACCMODE]
    if flags & O_TRUNC:
        mask |= MAY_WRITE
    if kind == S_IFDIR:
        if mask & MAY_WRITE:
            raise EISDIR
    elif kind == S_IFLNK:
        raise ENOTDIR if flags & O_DIRECTORY else ELOOP
    elif flags & O_DIRECTORY:
        raise ENOTDIR
    elif kind in (S_IFCHR, S_IFBLK) and path.mount.flags & MS_NODEV:
        raise EACCES
    may_access(path, creds, mask)
    if flags & O_NOATIME and not owner_or(inode, creds):
        raise EPERM
    if inode.locks is not None and inode.locks.leases and task is not None:
        from trapline.kernel.fs import leases

        if leases.must_wait(task, inode, flags):
            return _open_unleased(path, flags, creds, task)
    if kind == S_IFREG and mask & MAY_WRITE:
        if inode.writers < 0:
            raise ETXTBSY
        if flags & O_TRUNC:
            mode = mode_after_write(inode, creds)
            inode.setattr(size=0, mode=mode if mode != inode.mode & 0o7777 else None)
            notify.path_event(path, notify.IN_MODIFY)
    return _finish(path, flags, task)


async def _open_unleased(path: Path, flags: int, creds: Creds | None, task: Any) -> File:
    """Wait for leases to be given up, then look at the file again."""
    from trapline.kernel.fs import leases

    await leases.wait(task, path.inode, flags)
    found = _open_existing(path, flags, creds, task)
    return await found if isinstance(found, Coroutine) else found


def _finish(path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
    inode = path.inode
    if inode.mode & S_IFMT == S_IFCHR:  # a terminal must know of O_NOCTTY; nobody else does
        file = inode.open(path, flags & ~_ONCE | flags & O_NOCTTY, task)
        if not isinstance(file, Coroutine):
            file.flags &= ~O_NOCTTY
    else:
        file = inode.open(path, flags & ~_ONCE, task)
    notify.path_event(path, notify.IN_OPEN)
    return file


def _create(
    vfs: Vfs, start: Path, root: Path, name: bytes, flags: int, mode: int, creds: Creds | None, task: Any, resolve: int
) -> tuple[Path, bool]:
    """What O_CREAT finds or makes, and whether it was made."""
    for _ in range(MAX_LINKS + 1):
        place = walk_parent(vfs, start, root, name, creds, task, resolve)
        if place.slash or place.name in (b"", b".", b".."):
            raise EISDIR
        child = find(vfs, place)
        inode = child.inode
        if inode is None:
            return _make(place, child, flags, mode, creds), True
        if flags & O_EXCL:
            raise EEXIST
        if inode.mode & S_IFMT != S_IFLNK:
            break
        if flags & O_NOFOLLOW or resolve & RESOLVE_NO_SYMLINKS:
            raise ELOOP
        start = place.parent
        if inode.follow is not None:  # magic: it exists, so the ordinary walk finds it
            return walk(vfs, start, root, place.name, creds, task, resolve | FOLLOW), False
        name = inode.readlink()
        if not name:
            raise ENOENT
    else:
        raise ELOOP
    path = walk(vfs, place.parent, root, place.name, creds, task, resolve)
    if path.inode.mode & S_IFMT == S_IFDIR:
        raise EISDIR
    return path, False


def _make(place: Place, child: Dentry, flags: int, mode: int, creds: Creds | None) -> Path:
    directory = may_create(place.parent, creds)
    if type(directory).create is Inode.create:
        raise EACCES("a file system that makes no files")
    mode = strip_setgid(directory, S_IFREG | _asked(directory, mode), creds)
    inode = directory.create(place.name, mode, creds)
    notify.event(directory, notify.IN_CREATE, place.name)
    return Path(place.parent.mount, place.parent.dentry.add(place.name, inode))


def _asked(directory: Inode, mode: int) -> int:
    """The permissions for a new file, after the umask, or before it where a default list takes its place."""
    return (mode >> _RAW if directory.default_acl is not None and mode >> _RAW else mode) & 0o7777


def _open_tmpfile(
    vfs: Vfs, start: Path, root: Path, name: bytes, flags: int, mode: int, creds: Creds | None, task: Any, resolve: int
) -> File | Coroutine[Any, Any, File]:
    """O_TMPFILE: a file without a name in directory `name`; without O_EXCL, linkat(2) may give it one."""
    if flags & O_TMPFILE != O_TMPFILE or flags & O_ACCMODE == O_RDONLY or flags & O_CREAT:
        raise EINVAL
    parent = walk(vfs, start, root, name, creds, task, resolve if flags & O_NOFOLLOW else resolve | FOLLOW)
    if parent.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    directory = may_create(parent, creds)
    inode = directory.tmpfile(strip_setgid(directory, S_IFREG | _asked(directory, mode), creds), creds)
    inode.nlink = 0
    if not flags & O_EXCL:
        inode.seals = LINKABLE
    dentry = Dentry(b"#%d" % inode.ino, parent.dentry, inode)
    dentry.deleted = True
    return _finish(Path(parent.mount, dentry), flags & ~O_TMPFILE_BIT | O_TMPFILE, task)

