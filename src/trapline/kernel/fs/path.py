"""The path walk: from a name to a place in the tree; path_resolution(7), openat2(2).

Measured budget: 0.5 µs of Python per component that is cached.

`walk` takes one component after the other. For each it needs search permission on a directory, steps to the child (asking
the file system only when the name is not cached), crosses mounts, and replaces a symbolic link by its text. Hostile input is
bounded by PATH_MAX, NAME_MAX and 40 links.

Invariant: the walk never leaves `root` upwards, whatever the text of the links.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import EACCES, EAGAIN, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EXDEV
from trapline.abi.fcntl import (
    RESOLVE_ALL,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from trapline.abi.mount import MS_NOSYMFOLLOW
from trapline.abi.stat import S_IFDIR, S_IFLNK, S_IFMT
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.inode import REVALIDATE
from trapline.kernel.fs.mount import Path
from trapline.kernel.fs.permission import MAY_EXEC, may

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.permission import Creds
    from trapline.kernel.fs.vfs import Vfs

MAX_LINKS = 40  #: path_resolution(7): more links in one walk are ELOOP
_DIR_ALL_MAY_SEARCH = S_IFDIR | 0o111
_DIR_SEARCH_MASK = S_IFMT | 0o111
RESTRICTED = RESOLVE_BENEATH | RESOLVE_IN_ROOT  #: the caller passes the directory it starts from as `root`



def mind_lists() -> None:
    """Some directory has an access list, so permission bits alone do not say any more that everybody may search it."""
    global _DIR_ALL_MAY_SEARCH
    _DIR_ALL_MAY_SEARCH = -1


FOLLOW = 0x100  #: follow a symbolic link in the last component
PARENT = 0x200  #: stop at the directory of the last component


class Place(NamedTuple):
    """Where the last component of a name would be: in directory `parent`, as `name`.

    `name` is b"", b"." or b".." when there is no such component: the root, or a name that ends in dots. `slash`: the name
    ended in one, so it must be a directory.
    """

    parent: Path
    name: bytes
    slash: bool


def walk(
    vfs: Vfs, start: Path, root: Path, name: bytes, creds: Creds | None, task: Any = None, flags: int = FOLLOW
) -> Path:
    """The existing file `name`, from `start`. `flags`: FOLLOW, RESOLVE_*."""
    if not flags & RESOLVE_ALL and len(name) < 4096:  # the common case: plain directories, all cached
        if name[:1] == b"/":
            mount, dentry = root.mount, root.dentry
            parts = name[1:].split(b"/")
        else:
            mount, dentry = start.mount, start.dentry
            parts = name.split(b"/")
        for part in parts:
            inode = dentry.inode
            if inode is None or inode.mode & _DIR_SEARCH_MASK != _DIR_ALL_MAY_SEARCH:
                break
            child = dentry.children.get(part)
            if child is None:
                break
            dentry = child
            if dentry.mounts:
                mount, dentry = vfs.cross(mount, dentry)
        else:
            inode = dentry.inode
            if inode is not None and (not flags or inode.mode & S_IFMT != S_IFLNK):
                return Path(mount, dentry)
    mount, dentry, _, slash = _walk(vfs, start, root, name, creds, task, flags)
    inode = dentry.inode
    if inode is None:
        raise ENOENT
    if slash and inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    return Path(mount, dentry)


def walk_parent(
    vfs: Vfs, start: Path, root: Path, name: bytes, creds: Creds | None, task: Any = None, flags: int = 0
) -> Place:
    """The directory of the last component of `name`, which need not exist."""
    mount, dentry, last, slash = _walk(vfs, start, root, name, creds, task, flags & ~FOLLOW | PARENT)
    inode = dentry.inode
    if inode is None:
        raise ENOENT
    if inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    return Place(Path(mount, dentry), last, slash)


def _walk(
    vfs: Vfs, start: Path, root: Path, name: bytes, creds: Creds | None, task: Any, flags: int
) -> tuple[Mount, Dentry, bytes, bool]:
    if not name:
        raise ENOENT
    if len(name) > 4095:
        raise ENAMETOOLONG
    slash = name[-1] == 47
    todo = name.rstrip(b"/").split(b"/") if slash else name.split(b"/")
    links = 0
    if name[0] == 47:
        if flags & RESOLVE_BENEATH:
            raise EXDEV
        if flags & RESOLVE_NO_XDEV and root.mount is not start.mount:
            raise EXDEV
        start = root
    mount, dentry = start.mount, start.dentry
    parent_only = flags & PARENT
    todo.reverse()
    while todo:
        part = todo.pop()
        inode = dentry.inode
        if inode.mode & _DIR_SEARCH_MASK != _DIR_ALL_MAY_SEARCH:  # type: ignore[union-attr]
            _search(dentry, creds)
        if not part or part == b".":
            if not todo and parent_only:
                return mount, dentry, part, slash
            continue
        if part == b"..":
            if not todo and parent_only:
                return mount, dentry, part, slash
            mount, dentry = _up(mount, dentry, root, flags)
            continue
        if not todo and parent_only:
            if len(part) > 255:
                raise ENAMETOOLONG
            return mount, dentry, part, slash
        child = dentry.children.get(part)
        if child is None:
            child = lookup(vfs, dentry, part, flags)
        inode = child.inode
        if inode is None:
            raise ENOENT
        if child.mounts:
            here = mount
            mount, child = vfs.cross(mount, child)
            if here is not mount and flags & RESOLVE_NO_XDEV:
                raise EXDEV
            inode = child.inode
        if inode.mode & S_IFMT == S_IFLNK and (todo or slash or flags & FOLLOW):  # type: ignore[union-attr]
            links += 1
            if links > MAX_LINKS or flags & RESOLVE_NO_SYMLINKS or mount.flags & MS_NOSYMFOLLOW:
                raise ELOOP
            if inode.follow is not None:  # type: ignore[union-attr]
                mount, dentry = _magic(inode, mount, task, flags)
                continue
            text = _text(inode)
            if text[0] == 47:
                if flags & RESOLVE_BENEATH or (flags & RESOLVE_NO_XDEV and mount is not root.mount):
                    raise EXDEV
                mount, dentry = root.mount, root.dentry
            if not todo and text[-1] == 47:
                slash = True
            pieces = text.rstrip(b"/").split(b"/")
            pieces.reverse()
            todo += pieces
            continue
        dentry = child
    return mount, dentry, b"", slash


def _text(inode: Any) -> bytes:
    text: bytes = inode.readlink()
    if not text:
        raise ENOENT("an empty symbolic link")
    if len(text) > 4095:
        raise ENAMETOOLONG
    return text


def _search(dentry: Dentry, creds: Creds | None) -> None:
    """The directory `dentry` is to be searched: ENOTDIR, EACCES."""
    inode = dentry.inode
    assert inode is not None
    if inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    may(inode, creds, MAY_EXEC)


def _up(mount: Mount, dentry: Dentry, root: Path, flags: int) -> tuple[Mount, Dentry]:
    """The step "..", which stays at `root`."""
    if dentry is root.dentry and mount is root.mount:
        if flags & RESOLVE_BENEATH:
            raise EXDEV
        return mount, dentry
    while dentry is mount.root:
        below = mount.mountpoint
        if mount.parent is None or below is None:
            return mount, dentry
        if flags & RESOLVE_NO_XDEV:
            raise EXDEV
        mount, dentry = mount.parent, below
        if dentry is root.dentry and mount is root.mount:
            return mount, dentry
    return mount, dentry.parent


def _magic(inode: Any, mount: Mount, task: Any, flags: int) -> tuple[Mount, Dentry]:
    """Follow a magic link of proc."""
    if flags & RESOLVE_NO_MAGICLINKS:
        raise ELOOP
    if flags & RESTRICTED:
        raise EXDEV
    if task is None:
        raise EACCES("a magic link needs a task to follow it")
    target: Path = inode.follow(task)
    if flags & RESOLVE_NO_XDEV and target.mount is not mount:
        raise EXDEV
    return target.mount, target.dentry


def lookup(vfs: Vfs, directory: Dentry, name: bytes, flags: int = 0) -> Dentry:
    """The dentry of an entry that is not cached; negative if there is none."""
    inode = directory.inode
    assert inode is not None
    if len(name) > 255:
        raise ENAMETOOLONG
    if flags & RESOLVE_CACHED:
        raise EAGAIN
    if inode.volatile:
        return _lookup_again(directory, name)
    if directory.deleted:
        raise ENOENT
    vfs.count_dentry()
    try:
        found = inode.lookup(name)
    except ENOENT:
        child = Dentry(name, directory, None)
    else:
        child = Dentry(name, directory, found)
    directory.children[name] = child
    return child


def _lookup_again(directory: Dentry, name: bytes) -> Dentry:
    """An entry of a directory whose names must be asked for each time."""
    inode = directory.inode
    assert inode is not None
    kept = directory.kept
    try:
        found = inode.lookup(name)
    except ENOENT:
        if inode.volatile != REVALIDATE:
            raise
        if kept is not None:
            kept.pop(name, None)
        return Dentry(name, directory, None)
    if inode.volatile != REVALIDATE:
        return Dentry(name, directory, found)
    child = kept.get(name) if kept is not None else None
    if child is None or child.inode is not found:
        child = Dentry(name, directory, found)
        directory.keep(child)
    return child
