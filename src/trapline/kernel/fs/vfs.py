"""Vfs: the one tree of a kernel: its mounts, its known file systems, and the ways to find a file in it.

The work on names (create, remove, rename) is in `namei`, opening in `opening`; the walk itself in `path`.

Invariants:
- `_mounted[(mount, dentry)]` is what covers that place, and `dentry.mounts` counts such entries;
- a mountpoint and all directories above it stay in the dentry cache.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakSet

from trapline.abi.errno import EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOTDIR
from trapline.abi.fcntl import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_CREAT, O_WRONLY
from trapline.abi.mman import MFD_HUGETLB, MFD_NOEXEC_SEAL
from trapline.abi.mount import ANON_INODE_MAGIC, PIPEFS_MAGIC, SOCKFS_MAGIC
from trapline.abi.poll import POLLERR, POLLPRI
from trapline.abi.stat import S_IFDIR, S_IFMT, makedev
from trapline.kernel.fs import notify
from trapline.kernel.fs import path as walking
from trapline.kernel.fs.dentry import Dentry, forget, shrink
from trapline.kernel.fs.file import File
from trapline.kernel.fs.mount import Mount, Path
from trapline.kernel.fs.path import FOLLOW, Place
from trapline.kernel.fs.superblock import SuperBlock
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.permission import Creds
    from trapline.kernel.fs.propagation import PeerGroup
    from trapline.machine.ram import Ram

#: Makes an instance of a file system for mount(2): (vfs, source, options, task), where options are {b"size": b"1m", ...}.
Factory = Callable[["Vfs", bytes, dict[bytes, bytes], Any], SuperBlock]

MAX_DENTRIES = 100_000


class Vfs:
    """`ram` is where page caches get their frames; `now()` is the real time in ns."""

    root: Path  #: the top of the tree, once `mount_root` was called

    def __init__(self, ram: Ram, now: Callable[[], int]) -> None:
        self.ram = ram
        self.now = now
        self.mounts: dict[Mount, None] = {}  #: in the order they were mounted; the root first
        self.changes = 0  #: how often the tree of mounts has changed
        self.changed = WaitQueue()  #: woken when it does
        self.detached: dict[Mount, None] = {}  #: the tops of trees that are not attached: see `tree`
        self.peer_groups: dict[int, PeerGroup] = {}  #: by number: see `propagation`
        self.next_peer_group = 1  #: no number below is free
        self._mounted: dict[tuple[Mount, Dentry], Mount] = {}
        self._factories: dict[bytes, Factory] = {}
        self._options: dict[bytes, frozenset[bytes] | None] = {}
        self._devs = count(2).__next__
        self._mount_ids = count(21).__next__
        self._cookies = count(1).__next__
        self._dentries = 0
        self._superblocks: WeakSet[SuperBlock] = WeakSet()
        self._dentry_limit = MAX_DENTRIES
        self.shm_sb: SuperBlock | None = None  #: where memfd_create(2) makes its files, once it was called
        self.anon_sb = SuperBlock(self, b"anon_inodefs", ANON_INODE_MAGIC)
        self.pipe_sb = SuperBlock(self, b"pipefs", PIPEFS_MAGIC)
        self.sock_sb = SuperBlock(self, b"sockfs", SOCKFS_MAGIC)

    def alloc_dev(self) -> int:
        """A device number for a file system without a device."""
        return makedev(0, self._devs())

    def add_superblock(self, sb: SuperBlock) -> None:
        """Tell an instance of a file system what time it is, now and whenever the clock is set."""
        self._superblocks.add(sb)
        sb.now = self.now

    def use_clock(self, now: Callable[[], int]) -> None:
        """The real-time clock was set."""
        self.now = now
        for sb in self._superblocks:
            sb.now = now

    def cookie(self) -> int:
        """Ties the two halves of a rename together for inotify(7)."""
        return self._cookies()

    # ---- file systems and mounts

    def register_filesystem(self, fstype: bytes, factory: Factory, options: frozenset[bytes] | None = frozenset()) -> None:
        """`factory` makes instances of `fstype`, which takes mount options of these names. None: it ignores unknown ones."""
        self._factories[fstype] = factory
        self._options[fstype] = options

    def filesystems(self) -> list[bytes]:
        return list(self._factories)

    def make_superblock(self, fstype: bytes, source: bytes, options: dict[bytes, bytes], task: Any = None) -> SuperBlock:
        """A new instance of a registered file system; raises ENODEV, EINVAL."""
        factory = self._factories.get(fstype)
        if factory is None:
            raise ENODEV
        for name in options:
            self.check_option(fstype, name)
        return factory(self, source, options, task)

    def check_option(self, fstype: bytes, name: bytes) -> None:
        """Raise EINVAL for a mount option that the type does not have."""
        known = self._options.get(fstype, ())
        if known is not None and name not in known:
            raise EINVAL(f"Unknown parameter '{name.decode(errors='replace')}'")

    def new_mount(self, sb: SuperBlock, source: bytes = b"none", flags: int = 0, root: Dentry | None = None) -> Mount:
        """A mount that is not in the tree yet."""
        return Mount(sb, root or Dentry(b"", None, sb.root), source, flags, self._mount_ids())

    def mount_root(self, sb: SuperBlock, source: bytes = b"none", flags: int = 0) -> Mount:
        """Make `sb` the top of the tree."""
        mount = self.new_mount(sb, source, flags)
        self.mounts = {mount: None, **self.mounts}
        self.root = Path(mount, mount.root)
        return mount

    def mount(self, mount: Mount, at: Path) -> Mount:
        """Put `mount` over the place `at`."""
        self.check_place(mount, at)
        self.hang(mount, at)
        self.mounts[mount] = None
        return mount

    def check_place(self, mount: Mount, at: Path) -> None:
        """Raise ENOTDIR or ENOENT where `mount` cannot be put."""
        assert mount.root.inode is not None
        self.check_place_of(mount.root.inode, at)

    def check_place_of(self, inode: Inode, at: Path) -> None:
        if (at.inode.mode & S_IFMT == S_IFDIR) != (inode.mode & S_IFMT == S_IFDIR):
            raise ENOTDIR
        if at.dentry.deleted:
            raise ENOENT

    def hang(self, mount: Mount, at: Path) -> None:
        """Make `mount` cover the place `at`, whatever tree that is in."""
        mount.parent = at.mount
        mount.mountpoint = at.dentry
        at.mount.below[mount] = None
        mount.sb.hung += 1
        self._mounted[at.mount, at.dentry] = mount
        at.dentry.mounts += 1
        self._note_change()
        dentry = at.dentry
        while dentry.parent is not dentry:
            dentry.parent.children[dentry.name] = dentry
            dentry = dentry.parent

    def detach(self, mount: Mount) -> None:
        """Take `mount` from the place it covers, with what is mounted on it."""
        if mount.parent is None or mount.mountpoint is None:
            raise EINVAL
        dentry = mount.mountpoint
        del self._mounted[mount.parent, dentry]
        del mount.parent.below[mount]
        mount.sb.hung -= 1
        dentry.mounts -= 1
        self._note_change()
        while dentry.parent is not dentry and not dentry.mounts and not dentry.children:
            if dentry.parent.inode is not None and dentry.parent.inode.volatile:
                dentry.parent.children.pop(dentry.name, None)
            dentry = dentry.parent

    def _note_change(self) -> None:
        self.changes += 1
        self.changed.wake_all(POLLERR | POLLPRI)

    def umount(self, mount: Mount, *, lazy: bool = False) -> None:
        """Remove a mount from the tree; raises EBUSY if something is mounted on it, unless lazy. Propagates."""
        tree = self.below(mount)
        if len(tree) > 1 and not lazy:
            raise EBUSY
        if self.peer_groups:
            from trapline.kernel.fs import propagation

            tree = propagation.unmounted_with(self, tree)
            propagation.keep_what_covers(self, tree)
            for each in tree:
                propagation.let_go(self, each)
        for each in reversed(tree):
            if each.parent is not None:
                self.detach(each)
                each.parent = each.mountpoint = None
        self.detached.pop(mount, None)
        seen = {self.root.mount.sb, *(top.sb for top in self.detached)}
        for each in tree:
            self.mounts.pop(each, None)
            if not each.sb.hung and each.sb not in seen:
                seen.add(each.sb)
                forget(each.root)
                for inode in tuple(each.sb.watched):
                    notify.event(inode, notify.IN_UNMOUNT)
                each.sb.unmounted()
                if not lazy:
                    each.root.inode = None  # nobody uses it: its frames are free now, not at the next collection

    def below(self, mount: Mount) -> list[Mount]:
        """`mount` and what hangs below it, each after what it hangs on."""
        tree = [mount]
        for each in tree:
            tree += each.below
        return tree

    def sync(self) -> None:
        """Write every file system back."""
        for sb in {each.sb for each in self.mounts}:
            sb.sync()

    def pivot(self, mount: Mount, put_old: Path) -> None:
        """Make `mount` the top of the tree, and hang the old top over `put_old`."""
        old = self.root.mount
        self.detach(mount)
        mount.parent = mount.mountpoint = None
        self.hang(old, put_old)
        self.root = Path(mount, mount.root)
        self.mounts = {mount: None, **self.mounts}

    def cross(self, mount: Mount, dentry: Dentry) -> tuple[Mount, Dentry]:
        """The top of what is mounted on a place (the place itself if nothing is)."""
        covering = self._mounted.get((mount, dentry))
        while covering is not None:
            covering.visits += 1
            mount, dentry = covering, covering.root
            covering = self._mounted.get((mount, dentry)) if dentry.mounts else None
        return mount, dentry

    def covering(self, path: Path) -> Mount | None:
        """What is mounted at exactly that place."""
        return self._mounted.get((path.mount, path.dentry))

    def crossed(self, path: Path) -> Path:
        if not path.dentry.mounts:
            return path
        return Path(*self.cross(path.mount, path.dentry))

    def count_mounts(self) -> int:
        """How many mounts there are, in the tree and in those that are detached."""
        return 1 + len(self._mounted) + len(self.detached)

    def is_mountpoint(self, path: Path) -> bool:
        return path.dentry is path.mount.root

    # ---- names, for a task

    def start(self, task: Any, dirfd: int) -> Path:
        """Where a relative name begins; raises EBADF, or ENOTDIR for a file that is no place in the tree."""
        if dirfd == AT_FDCWD:
            cwd: Path = task.fs.cwd
            return cwd
        path: Path | None = task.files.get_any(dirfd).path
        if path is None:
            raise ENOTDIR
        return path

    def walk(self, task: Any, dirfd: int, name: bytes, follow: bool = True, flags: int = 0) -> Path:
        """The existing file `name` from directory `dirfd`. `flags`: RESOLVE_* of openat2(2)."""
        fs = task.fs
        if dirfd == AT_FDCWD or (name[:1] == b"/" and not flags):
            start = fs.cwd
        else:
            start = self.start(task, dirfd)
        return walking.walk(self, start, fs.root, name, task.creds, task, flags | FOLLOW if follow else flags)

    def walk_parent(self, task: Any, dirfd: int, name: bytes, flags: int = 0) -> Place:
        """The directory that holds (or would hold) the last component of `name`."""
        fs = task.fs
        start = fs.cwd if name[:1] == b"/" and not flags else self.start(task, dirfd)
        return walking.walk_parent(self, start, fs.root, name, task.creds, task, flags)

    def inode_at(self, task: Any, dirfd: int, name: bytes, at_flags: int = 0) -> Inode:
        """The inode of (dirfd, name) under AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH."""
        if not name and at_flags & AT_EMPTY_PATH:
            if dirfd == AT_FDCWD:
                inode: Inode = task.fs.cwd.inode
            else:
                inode = task.files.get_any(dirfd).inode
            return inode
        return self.walk(task, dirfd, name, not at_flags & AT_SYMLINK_NOFOLLOW).inode

    def path_at(self, task: Any, dirfd: int, name: bytes, at_flags: int = 0) -> Path:
        """As `inode_at`, with the place."""
        if not name and at_flags & AT_EMPTY_PATH:
            if dirfd == AT_FDCWD:
                cwd: Path = task.fs.cwd
                return cwd
            return self.path_of(task.files.get_any(dirfd))
        return self.walk(task, dirfd, name, not at_flags & AT_SYMLINK_NOFOLLOW)

    def path_of(self, file: File) -> Path:
        """The place of an open file: its own, or one in no tree for files without a name."""
        if file.path is not None:
            return file.path
        mount = Mount(file.inode.sb, Dentry(b"", None, file.inode))
        return Path(mount, Dentry(file.display_path(), None, file.inode))

    def open(self, task: Any, dirfd: int, name: bytes, flags: int, mode: int = 0) -> Any:
        """open(2): a File, or a coroutine that will return one."""
        from trapline.kernel.fs.opening import open_at

        return open_at(self, task, dirfd, name, flags, mode)

    def create_memfd(self, name: bytes, flags: int, creds: Creds) -> File:
        """The file behind memfd_create(2): an open file in no directory."""
        if flags & MFD_HUGETLB:
            from trapline.kernel.fs import hugetlbfs, tmpfs

            inode = hugetlbfs.unnamed(self, creds, 0o666 if flags & MFD_NOEXEC_SEAL else 0o777)
            inode.seals = tmpfs.first_seals(flags)
            return hugetlbfs.open_unnamed(inode, b"/memfd:" + name)
        from trapline.kernel.fs.tmpfs import create_memfd

        return create_memfd(self, name, flags, creds)

    # ---- names, for the kernel itself

    def resolve(
        self, start: Path, root: Path, name: bytes, creds: Creds | None = None, *, follow: bool = True, task: Any = None
    ) -> Path:
        """The existing file `name`; `creds` None: as the kernel."""
        return walking.walk(self, start, root, name, creds, task, FOLLOW if follow else 0)

    def at_root(self, name: bytes) -> Path:
        """The existing file of absolute name `name`."""
        return self.resolve(self.root, self.root, name)

    def place(self, name: bytes) -> Place:
        return walking.walk_parent(self, self.root, self.root, name, None)

    def open_path(self, path: Path, flags: int) -> File:
        """Open what is at `path`, as the kernel; never waits."""
        file = path.inode.open(path, flags, None)
        assert isinstance(file, File)
        return file

    def read_file(self, name: bytes, limit: int = 1 << 24) -> bytes:
        """Up to `limit` bytes of a regular file."""
        file = self.open_path(self.at_root(name), 0)
        try:
            return file.try_pread(limit, 0) or b""
        finally:
            file.put()

    def add_file(self, name: bytes, data: bytes, mode: int = 0o644) -> Inode:
        """Write a regular file, made if need be."""
        from trapline.kernel.fs.opening import open_in

        file = open_in(self, self.root, self.root, name, O_WRONLY | O_CREAT, mode, None)
        try:
            file.inode.setattr(size=0)
            file.try_pwrite(data, 0)
            return file.inode
        finally:
            file.put()

    def makedirs(self, name: bytes, mode: int = 0o755) -> Path:
        """The directory `name`, made with those above it if need be."""
        from trapline.kernel.fs.namei import mkdir

        made = b""
        for part in name.split(b"/"):
            if not part:
                continue
            made += b"/" + part
            with suppress(EEXIST):
                mkdir(self, self.place(made), mode, None)
        return self.at_root(name)

    # ---- the dentry cache

    def count_dentry(self) -> None:
        """One more dentry is about to be cached; beyond a limit the unused ones are forgotten."""
        self._dentries += 1
        if self._dentries > self._dentry_limit:
            self._dentries = sum(shrink(root) for root in {each.root for each in self.mounts})
            self._dentry_limit = max(MAX_DENTRIES, 2 * self._dentries)
