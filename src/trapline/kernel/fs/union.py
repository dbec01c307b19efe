"""mount(2) of type overlay: directories of other file systems as one, overlayfs.rst of the kernel.

What a program changes goes to the upper directory, where it stays when the overlay is gone: copies of what is changed,
whiteouts (character devices 0:0) for what is removed, and the attribute trusted.overlay.opaque of directories that hide
what is beneath. Unlike the overlay of the root (`overlay`), which keeps its upper layer to itself.

Invariants:
- `layers` of an inode are the places that it shows, the upper one first; only directories have more than one;
- an inode is `upper` if its first layer is in the upper directory; then so is that of the directory it is in;
- the layers change through the overlay only; what else changes them is seen or not, as on Linux.
"""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from trapline.abi.errno import (
    EINVAL,
    ELOOP,
    ENODATA,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    ENOTSUP,
    EROFS,
    ESTALE,
    EXDEV,
    Errno,
)
from trapline.abi.fcntl import AT_FDCWD, O_ACCMODE, O_RDONLY, RENAME_EXCHANGE, RENAME_WHITEOUT
from trapline.abi.mount import OVERLAYFS_MAGIC
from trapline.abi.stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from trapline.kernel.fs import namei
from trapline.kernel.fs.devices import open_special
from trapline.kernel.fs.file import DirectoryFile, File, open_regular
from trapline.kernel.fs.holes import data_runs
from trapline.kernel.fs.inode import Entry, Inode, inherit
from trapline.kernel.fs.path import Place
from trapline.kernel.fs.superblock import StatFs, SuperBlock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.fs.dentry import Dentry
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.vfs import Vfs
    from trapline.kernel.mm.page_cache import PageCache

#: The options of mount(2); those with a value here are taken with that value only.
OPTIONS: dict[bytes, bytes | None] = {
    b"lowerdir": None, b"upperdir": None, b"workdir": None, b"redirect_dir": b"off", b"index": b"off", b"xino": b"off",
    b"metacopy": b"off", b"nfs_export": b"off", b"default_permissions": b"",
}  # fmt: skip
PRIVATE = b"trusted.overlay."  #: attributes of the overlay's own, which its users do not see
OPAQUE = PRIVATE + b"opaque"
_COPY_BYTES = 1 << 20


class UnionFs(SuperBlock):
    """`upper` is None for an overlay that is only read."""

    __slots__ = ("by_place", "nodes", "upper")

    def __init__(self, vfs: Vfs, lowers: list[Path], upper: Path | None) -> None:
        super().__init__(vfs, b"overlay", OVERLAYFS_MAGIC, read_only=upper is None)
        self.upper = upper
        self.by_place: WeakValueDictionary[Inode | Dentry, UnionInode] = WeakValueDictionary()
        self.nodes: set[UnionInode] = set()  #: FIFOs and sockets, which something may be bound to
        self.root = UnionDir(self, [upper, *lowers] if upper is not None else lowers, None, b"")

    @property
    def tree(self) -> Vfs:
        assert self.vfs is not None
        return self.vfs

    def wrap(self, layers: list[Path], parent: UnionDir, name: bytes, upper: bool) -> UnionInode:
        """The inode that shows `layers`, which `parent` has as `name`. In the upper layer, hard links are one inode."""
        key = layers[0].inode if upper else layers[0].dentry
        found = self.by_place.get(key)
        if found is None:
            kind = layers[0].inode.mode & S_IFMT
            found = self.by_place[key] = _CLASSES.get(kind, UnionNode)(self, layers, parent, name)
            found.upper = upper
        return found

    def statfs(self) -> StatFs:
        assert isinstance(self.root, UnionInode)
        return self.root.real.sb.statfs()._replace(magic=OVERLAYFS_MAGIC)

    def reconfigure(self, options: dict[bytes, bytes]) -> None:
        if options:
            raise EINVAL("the layers of an overlay do not change")

    def sync(self) -> None:
        if self.upper is not None:
            self.upper.inode.sb.sync()

    def unmounted(self) -> None:
        del self.root
        self.nodes.clear()


class UnionInode(Inode):
    """What all types have in common. `parent` and `name`: where it was found, and is copied to."""

    __slots__ = ("acl", "default_acl", "layers", "name", "parent", "upper")

    sb: UnionFs
    live = True

    def __init__(self, sb: UnionFs, layers: list[Path], parent: UnionDir | None, name: bytes) -> None:
        real = layers[0].inode
        super().__init__(sb, real.mode, real.uid, real.gid, rdev=real.rdev)
        self.layers = layers
        self.parent = parent
        self.name = name
        self.upper = parent is None and sb.upper is not None
        self.refresh()

    @property
    def real(self) -> Inode:
        return self.layers[0].inode

    def refresh(self) -> None:
        real = self.real
        if real.live:
            real.refresh()
        self.mode, self.uid, self.gid, self.nlink = real.mode, real.uid, real.gid, real.nlink
        self.acl, self.default_acl = real.acl, real.default_acl
        cache = real.page_cache
        self.size = real.size if cache is None else cache.size
        self.atime_ns, self.mtime_ns, self.ctime_ns, self.btime_ns = real.atime_ns, real.mtime_ns, real.ctime_ns, real.btime_ns

    def copy_up(self) -> None:
        """Let the inode be upper. EROFS, and what the upper file system raises; then nothing has changed."""
        if self.upper:
            return
        parent, sb = self.parent, self.sb
        if parent is None or sb.upper is None:
            raise EROFS
        parent.copy_up()
        place = Place(parent.layers[0], self.name, False)
        made = self._copy_to(place)
        path = type(place.parent)(place.parent.mount, made)
        self.layers = [path, *self.layers] if self.mode & S_IFMT == S_IFDIR else [path]
        self.upper = True
        sb.by_place[path.inode] = self

    def _copy_to(self, place: Place) -> Dentry:
        """Make a copy at `place`, with all attributes."""
        vfs, real = self.sb.tree, self.real
        remove = namei.rmdir if self.mode & S_IFMT == S_IFDIR else namei.unlink
        self._make(place)
        made = namei.find(vfs, place)
        assert made.inode is not None
        try:
            self._copy_data(made.inode)
            made.inode.setattr(uid=real.uid, gid=real.gid)
            if real.mode & S_IFMT != S_IFLNK:
                made.inode.setattr(mode=real.mode & 0o7777)
            with suppress(ENOTSUP):
                for name in real.listxattr():
                    if not name.startswith(PRIVATE):
                        made.inode.setxattr(name, real.getxattr(name), 0)
            made.inode.setattr(atime_ns=real.atime_ns, mtime_ns=real.mtime_ns)
        except Errno:
            remove(vfs, place, None)
            raise
        return made

    def _make(self, place: Place) -> None:
        namei.mknod(self.sb.tree, place, self.real.mode & S_IFMT | 0o600, self.real.rdev, None)

    def _copy_data(self, to: Inode) -> None:
        """The content of a regular file."""

    def setattr(self, **changes: int | None) -> None:
        self.copy_up()
        self.real.setattr(**changes)
        self.refresh()

    def getxattr(self, name: bytes) -> bytes:
        if name.startswith(PRIVATE):
            raise ENODATA
        return self.real.getxattr(name)

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        if name.startswith(PRIVATE):
            raise ENOTSUP
        self.copy_up()
        self.real.setxattr(name, value, flags)
        self.refresh()

    def removexattr(self, name: bytes) -> None:
        self.getxattr(name)
        self.copy_up()
        self.real.removexattr(name)
        self.refresh()

    def listxattr(self) -> list[bytes]:
        return [each for each in self.real.listxattr() if not each.startswith(PRIVATE)]

    def fsync(self) -> None:
        if self.upper:
            self.real.fsync()

    def blocks(self) -> int:
        return self.real.blocks()

    def evict(self) -> None:
        self.sb.nodes.discard(self)
        if self.upper and self.real.nlink == 0 and self.real.opens == 0:
            self.real.evict()


class UnionFile(UnionInode):
    """A regular file: its data is the real file's."""

    __slots__ = ()

    def open(self, path: Path, flags: int, task: Any) -> File:
        if flags & O_ACCMODE != O_RDONLY:
            self.copy_up()
        if self.cache() is None:
            raise ESTALE
        return open_regular(self, flags, path)

    def cache(self) -> PageCache | None:
        self.page_cache = self.real.cache()
        return self.page_cache

    def copy_up(self) -> None:
        if not self.upper:
            super().copy_up()
            self.cache()

    def _copy_data(self, to: Inode) -> None:
        source = self.real.cache()
        if source is None:
            raise ESTALE
        for start, end in data_runs(self.real, source, 0, source.size):
            while start < end:
                start += to.store(start, source.read(start, min(_COPY_BYTES, end - start)))
        to.truncate(source.size)

    def store(self, offset: int, data: bytes | memoryview) -> int:
        done = self.real.store(offset, data)
        self.real.mtime_ns = self.real.ctime_ns = self.sb.now()
        return done

    def truncate(self, size: int) -> None:
        self.copy_up()
        self.real.truncate(size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        self.copy_up()
        self.real.allocate(mode, offset, length)

    def load(self, offset: int, into: memoryview) -> None:
        self.real.load(offset, into)

    def seek_behind(self, offset: int, hole: bool) -> int | None:
        return self.real.seek_behind(offset, hole)

    def has_extents(self) -> bool:
        return self.real.has_extents()


class UnionLink(UnionInode):
    """A symbolic link."""

    __slots__ = ()

    def readlink(self) -> bytes:
        return self.real.readlink()

    def _make(self, place: Place) -> None:
        namei.symlink(self.sb.tree, place, self.real.readlink(), None)


class UnionNode(UnionInode):
    """A FIFO, socket or device node."""

    __slots__ = ()

    def __init__(self, sb: UnionFs, layers: list[Path], parent: UnionDir | None, name: bytes) -> None:
        super().__init__(sb, layers, parent, name)
        sb.nodes.add(self)

    def open(self, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
        return open_special(self, path, flags, task)


class UnionDir(UnionInode):
    """A directory, merged from its layers."""

    __slots__ = ()

    def refresh(self) -> None:
        super().refresh()
        self.nlink = 1 if len(self.layers) > 1 and self.nlink else self.nlink

    def open(self, path: Path, flags: int, task: Any) -> File:
        return DirectoryFile(self, flags, path)

    def _make(self, place: Place) -> None:
        namei.mkdir(self.sb.tree, place, 0o700, None)

    # ---- looking

    def _find(self, name: bytes, layers: list[Path]) -> tuple[list[Path], int]:
        """The places that `name` shows through `layers`, and the number of the first layer that has it."""
        vfs = self.sb.tree
        found: list[Path] = []
        first = 0
        for number, layer in enumerate(layers):
            dentry = namei.find(vfs, Place(layer, name, False))
            if dentry.inode is None:
                continue
            if _is_whiteout(dentry.inode) or (found and dentry.inode.mode & S_IFMT != S_IFDIR):
                break
            if not found:
                first = number
            found.append(type(layer)(layer.mount, dentry))
            if dentry.inode.mode & S_IFMT != S_IFDIR or _is_opaque(dentry.inode):
                break
        return found, first

    def lookup(self, name: bytes) -> UnionInode:
        found, first = self._find(name, self.layers)
        if not found:
            raise ENOENT
        return self.sb.wrap(found, self, name, self.upper and first == 0)

    def _beneath(self, name: bytes) -> bool:
        """A layer below the upper one has the name."""
        return bool(self._find(name, self.layers[1:])[0])

    def entries(self) -> list[Entry]:
        names: dict[bytes, None] = {}
        hidden: set[bytes] = set()
        for layer in self.layers:
            here = layer.inode.entries()
            for name, _, kind in here:
                if name in hidden or name in names:
                    continue
                if kind == S_IFCHR >> 12 and _is_whiteout(layer.inode.lookup(name)):
                    hidden.add(name)
                else:
                    names[name] = None
        found: list[Entry] = []
        for name in names:
            with suppress(ENOENT):
                inode = self.lookup(name)
                found.append((name, inode.ino, inode.mode >> 12))
        return found

    # ---- changing

    def _place(self, name: bytes) -> Place:
        """Where an entry is changed in the upper layer."""
        self.copy_up()
        return Place(self.layers[0], name, False)

    def _clear(self, place: Place) -> bool:
        """Remove a whiteout, so that something can be made there; whether a layer beneath has the name."""
        vfs = self.sb.tree
        if namei.find(vfs, place).inode is not None:
            namei.unlink(vfs, place, None)
        return self._beneath(place.name)

    def _made(self, place: Place, mode: int, creds: Any) -> UnionInode:
        """What was just made in the upper layer, given its mode and to its owner."""
        mode, uid, gid = inherit(self, mode, creds)
        path = type(place.parent)(place.parent.mount, namei.find(self.sb.tree, place))
        path.inode.setattr(uid=uid, gid=gid)
        if mode & S_IFMT != S_IFLNK:
            path.inode.setattr(mode=mode & 0o7777)
        self.refresh()
        return self.sb.wrap([path], self, place.name, True)

    def create(self, name: bytes, mode: int, creds: Any, rdev: int = 0) -> UnionInode:
        place = self._place(name)
        self._clear(place)
        namei.mknod(self.sb.tree, place, mode, rdev, None)
        return self._made(place, mode, creds)

    def tmpfile(self, mode: int, creds: Any) -> Inode:
        raise ENOTSUP

    def mkdir(self, name: bytes, mode: int, creds: Any) -> UnionInode:
        place = self._place(name)
        hides = self._clear(place)
        made = namei.mkdir(self.sb.tree, place, mode, None)
        if hides:
            made.setxattr(OPAQUE, b"y", 0)
        return self._made(place, S_IFDIR | mode, creds)

    def symlink(self, name: bytes, target: bytes, creds: Any) -> UnionInode:
        place = self._place(name)
        self._clear(place)
        namei.symlink(self.sb.tree, place, target, None)
        return self._made(place, S_IFLNK, creds)

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, UnionInode)
        inode.copy_up()
        place = self._place(name)
        self._clear(place)
        namei.link(self.sb.tree, inode.layers[0], place, None)
        inode.refresh()
        self.refresh()

    def unlink(self, name: bytes, inode: Inode) -> None:
        self._remove(name, inode, namei.unlink)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, UnionDir)
        if not inode.empty():
            raise ENOTEMPTY
        self._remove(name, inode, namei.rmdir)

    def _remove(self, name: bytes, inode: Inode, remove: Any) -> None:
        assert isinstance(inode, UnionInode)
        place, vfs = self._place(name), self.sb.tree
        if inode.upper:
            if isinstance(inode, UnionDir):
                inode.drop_whiteouts()
            real = inode.real
            real.opens += inode.opens  # an open file must not lose its data
            try:
                remove(vfs, place, None)
            finally:
                real.opens -= inode.opens
            inode.nlink = real.nlink
        else:
            inode.nlink = 0
        if self._beneath(name):
            namei.mknod(vfs, place, S_IFCHR, 0, None)
        self.refresh()

    def drop_whiteouts(self) -> None:
        """The directory is empty but for whiteouts: let its upper layer be really empty."""
        upper = self.layers[0]
        for name, _, _ in upper.inode.entries():
            namei.unlink(self.sb.tree, Place(upper, name, False), None)

    def rename(self, name: bytes, to: Inode, to_name: bytes, flags: int, creds: Any) -> None:
        """EXDEV for a directory with layers beneath, as without redirect_dir; programs copy it then."""
        assert isinstance(to, UnionDir)
        inode, vfs = self.lookup(name), self.sb.tree
        if flags & RENAME_WHITEOUT:
            raise EINVAL
        other = _or_none(to, to_name)
        for each in (inode, other) if flags & RENAME_EXCHANGE else (inode,):
            if isinstance(each, UnionDir) and (len(each.layers) > 1 or not each.upper):
                raise EXDEV("a directory of several layers")
        if isinstance(other, UnionDir) and not flags & RENAME_EXCHANGE and not other.empty():
            raise ENOTEMPTY
        inode.copy_up()
        source, target = self._place(name), to._place(to_name)
        if flags & RENAME_EXCHANGE and other is not None:
            other.copy_up()
            namei.rename(vfs, source, target, RENAME_EXCHANGE, None)
            other.parent, other.name = self, name
        else:
            if isinstance(other, UnionDir) and other.upper:
                other.drop_whiteouts()
            stale = namei.find(vfs, target).inode
            if stale is not None and (inode.mode & S_IFMT == S_IFDIR) != (stale.mode & S_IFMT == S_IFDIR):
                namei.unlink(vfs, target, None)  # a whiteout
            namei.rename(vfs, source, target, 0, None)
            if other is not None:
                other.nlink = other.real.nlink if other.upper else 0
            if self._beneath(name):
                namei.mknod(vfs, source, S_IFCHR, 0, None)
        if isinstance(inode, UnionDir) and to._beneath(to_name):
            inode.real.setxattr(OPAQUE, b"y", 0)
        inode.parent, inode.name = to, to_name
        for each in (self, to, inode):
            each.refresh()


_CLASSES: dict[int, type[UnionInode]] = {S_IFDIR: UnionDir, S_IFREG: UnionFile, S_IFLNK: UnionLink}


def _or_none(directory: UnionDir, name: bytes) -> UnionInode | None:
    try:
        return directory.lookup(name)
    except ENOENT:
        return None


def _is_whiteout(inode: Inode) -> bool:
    return inode.mode & S_IFMT == S_IFCHR and inode.rdev == 0


def _is_opaque(inode: Inode) -> bool:
    try:
        return inode.getxattr(OPAQUE) == b"y"
    except Errno:
        return False


# ---- mount(2)


def make_overlay(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> UnionFs:
    """lowerdir=A:B..., upperdir=, workdir=. EINVAL, ENOENT, ENOTDIR, ELOOP for layers within one another."""
    for name, value in options.items():
        only = OPTIONS[name]
        if only is not None and value != only:
            raise EINVAL(f"{name.decode()} is off, and cannot be changed")
    if not options.get(b"lowerdir"):
        raise EINVAL("no lowerdir")
    lowers = [_directory(vfs, task, each) for each in options[b"lowerdir"].split(b":")]
    upper = None
    if b"upperdir" in options:
        upper = _upper(vfs, task, options)
        if any(_within(upper, each) or _within(each, upper) for each in lowers):
            raise ELOOP("upperdir and lowerdir overlap")
    elif len(lowers) < 2:
        raise EINVAL("without upperdir, two lowerdirs are needed")
    sb = UnionFs(vfs, lowers, upper)
    shown = (b"lowerdir", b"upperdir", b"workdir") if upper is not None else (b"lowerdir",)
    sb.options = b"".join(b",%b=%b" % (name, options[name].replace(b" ", b"\\040")) for name in shown)
    return sb


def _directory(vfs: Vfs, task: Any, name: bytes) -> Path:
    path = vfs.walk(task, AT_FDCWD, name)
    if path.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    return path


def _upper(vfs: Vfs, task: Any, options: dict[bytes, bytes]) -> Path:
    """The upper directory; it and workdir are apart, on one mount that can be written."""
    if b"workdir" not in options:
        raise EINVAL("upperdir needs a workdir")
    upper, work = _directory(vfs, task, options[b"upperdir"]), _directory(vfs, task, options[b"workdir"])
    if upper.mount is not work.mount or _within(upper, work) or _within(work, upper):
        raise EINVAL("upperdir and workdir must be different directories of one mount")
    if upper.mount.read_only():
        raise EINVAL("upperdir cannot be written")
    return upper


def _within(path: Path, other: Path) -> bool:
    return path.dentry.is_below(other.inode)
