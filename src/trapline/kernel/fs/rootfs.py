"""The root file system: what a program finds when it looks around.

`build_root` puts an overlay over one of four lower trees, so that everything can be written and nothing of it reaches
the host:

- by default, the host's system trees: /usr /bin /sbin /lib* /etc /opt /nix, /var/lib and /var/cache, and the current
  directory at its own name. One rule keeps secrets out of the system trees: a file that others may not read, or a
  directory that others may not list and enter, does not exist (so there is no /etc/shadow, no host keys, no ssl/private).
  /root and /home are empty directories; /tmp, /run, /var/tmp and /var/log are fresh; /dev, /proc, /sys and /mnt are places
  to mount on;
- "/": the whole host tree, except that /dev, /proc and /sys are empty places to mount on;
- another directory; or a tar archive, unpacked into memory.

The rule does not apply to trees that the user names: the current directory, --root, binds. The current directory is left
out if it is the root, a home directory or above one: it would show every secret in it.

Nothing is read from the host before a program asks for it, but for a handful of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import EACCES, ENOENT, ENOTDIR, Errno
from trapline.abi.mount import MS_NODEV, MS_NOSUID, MS_RDONLY, MS_RELATIME, TMPFS_MAGIC
from trapline.abi.stat import S_IFDIR, S_IFMT
from trapline.kernel.drivers.hostfs import Descriptors, HostFs, host_homes, is_directory
from trapline.kernel.fs.file import DirectoryFile
from trapline.kernel.fs.inode import Entry, Inode
from trapline.kernel.fs.namei import mknod
from trapline.kernel.fs.overlay import OverlayFs
from trapline.kernel.fs.superblock import SuperBlock
from trapline.kernel.fs.synthetic import SynthDir, SynthLink
from trapline.kernel.fs.tmpfs import OPTIONS, TmpFs, make_tmpfs

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.vfs import Vfs

SYSTEM_TREES = (b"usr", b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32", b"etc", b"opt", b"nix", b"gnu")
VAR_TREES = (b"lib", b"cache")
MOUNT_POINTS = (b"dev", b"proc", b"sys")
NO_CURRENT = (b"dev", b"proc", b"sys")  #: a current directory below these is not shown


class Root(NamedTuple):
    """What `build_root` made: the overlay (for `save_overlay`), the guest's current directory, the host descriptors in use."""

    overlay: OverlayFs
    cwd: bytes
    descriptors: Descriptors


class Bind(NamedTuple):
    source: bytes
    target: bytes
    read_only: bool


class MergedDir(Inode):
    """Lower directory `base` with some of its names replaced, or added."""

    __slots__ = ("base", "names")

    def __init__(self, sb: SuperBlock, base: Inode, names: Mapping[bytes, Inode]) -> None:
        super().__init__(sb, base.mode, base.uid, base.gid)
        self.base = base
        self.names = dict(names)
        self.mtime_ns, self.ctime_ns = base.mtime_ns, base.ctime_ns

    def lookup(self, name: bytes) -> Inode:
        return self.names[name] if name in self.names else self.base.lookup(name)

    def entries(self) -> list[Entry]:
        below = [each for each in self.base.entries() if each[0] not in self.names]
        return below + [(name, each.ino, each.mode >> 12) for name, each in self.names.items()]

    def open(self, path: Path, flags: int, task: Any) -> File:
        return DirectoryFile(self, flags, path)


def _make_ramfs(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> SuperBlock:
    from trapline.kernel.fs.ramfs import make_ramfs

    return make_ramfs(vfs, source, options, task)


def build_root(
    kernel: Kernel,
    *,
    root: str | None = None,
    binds: Iterable[str] = (),
    rw: Iterable[str] = (),
    cwd: str | None = None,
) -> Root:
    """Mount the root tree and the binds on `kernel.vfs`. Raises Errno, ValueError for a malformed bind, BadArchiveError.

    `root`: None, "/", a directory, or a tar archive. `binds`: "SRC:DST", "SRC:DST:ro" or "SRC:DST:rw" (ro is the default).
    `rw`: directories bound read-write to their own names. `cwd`: the host's current directory, an absolute path.
    """
    vfs = kernel.vfs
    fds = Descriptors()
    vfs.register_filesystem(b"tmpfs", make_tmpfs, OPTIONS)
    vfs.register_filesystem(b"ramfs", _make_ramfs, None)
    synth = SuperBlock(vfs, b"lower", TMPFS_MAGIC, read_only=True)
    here = b"/"
    if root is None:
        lower, here = _default_lower(vfs, synth, fds, cwd, kernel.log)
    elif is_directory(root):
        lower = _directory_lower(vfs, synth, fds, root.encode(errors="surrogateescape"))
    else:
        lower = _archive_lower(vfs, root, kernel.log)
    overlay = OverlayFs(vfs, lower)
    vfs.mount_root(overlay, b"overlay", MS_RELATIME)
    for each in [parse_bind(text) for text in binds] + [_self_bind(path) for path in rw]:
        bind_host(vfs, each, fds)
        if cwd is not None and _is_within(_bytes(cwd), each.target):
            here = _bytes(cwd)
    return Root(overlay, here, fds)


def parse_bind(text: str) -> Bind:
    """SRC:DST[:ro|rw]; both absolute. Raises ValueError."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise ValueError(f"{text!r}: expected SRC:DST, SRC:DST:ro or SRC:DST:rw")
    if not parts[1].startswith("/") or not parts[0].startswith("/"):
        raise ValueError(f"{text!r}: both paths must be absolute")
    return Bind(_bytes(parts[0]), _bytes(parts[1]), len(parts) == 2 or parts[2] == "ro")


def _self_bind(path: str) -> Bind:
    if not path.startswith("/"):
        raise ValueError(f"{path!r}: the path must be absolute")
    return Bind(_bytes(path), _bytes(path), False)


def bind_host(vfs: Vfs, bind: Bind, fds: Descriptors) -> None:
    """Mount a host directory or file over `bind.target`, which is made if it does not exist."""
    sb = HostFs(vfs, bind.source, fds, read_only=bind.read_only)
    if sb.root.mode & S_IFMT == S_IFDIR:
        at = vfs.makedirs(bind.target)
    else:
        at = _make_file(vfs, bind.target)
    flags = MS_NOSUID | MS_NODEV | MS_RELATIME | (MS_RDONLY if bind.read_only else 0)
    vfs.mount(vfs.new_mount(sb, bind.source, flags), vfs.crossed(at))


def _make_file(vfs: Vfs, name: bytes) -> Path:
    vfs.makedirs(name.rpartition(b"/")[0] or b"/")
    try:
        return vfs.at_root(name)
    except ENOENT:
        mknod(vfs, vfs.place(name), 0o100644, 0, None)
        return vfs.at_root(name)


# ---- lower trees


def _default_lower(
    vfs: Vfs, synth: SuperBlock, fds: Descriptors, cwd: str | None, log: Callable[[str], None]
) -> tuple[Inode, bytes]:
    host = HostFs(vfs, b"/", fds, public=True)
    top = SynthDir(synth, mode=0o755)
    for name in SYSTEM_TREES:
        top.children[name] = _from(host.root, name)
    var = SynthDir(synth, {name: _from(host.root, b"var", name) for name in VAR_TREES}, 0o755)
    var.children[b"log"] = SynthDir(synth, mode=0o755)
    var.children[b"tmp"] = SynthDir(synth, mode=0o1777)
    var.children[b"run"] = SynthLink(synth, b"/run")
    top.children[b"var"] = var
    for name in (*MOUNT_POINTS, b"home", b"mnt", b"run"):
        top.children[name] = SynthDir(synth, mode=0o755)
    top.children[b"root"] = SynthDir(synth, mode=0o700)
    top.children[b"tmp"] = SynthDir(synth, mode=0o1777)
    if cwd is None:
        return top, b"/"
    return top, _add_current(vfs, synth, top, _bytes(cwd), fds, log)


def _from(base: Inode, *names: bytes) -> Callable[[], Inode]:
    """The host's inode at `names`, when somebody asks."""

    def find() -> Inode:
        inode = base
        for name in names:
            inode = inode.lookup(name)
        return inode

    return find


def _add_current(
    vfs: Vfs, synth: SuperBlock, top: SynthDir, cwd: bytes, fds: Descriptors, log: Callable[[str], None]
) -> bytes:
    """Put the host's current directory into the default root; the guest's current directory."""
    parts = [each for each in cwd.split(b"/") if each]
    if not parts or b".." in parts or parts[0] in NO_CURRENT or _holds_home(cwd):
        return _not_shown(cwd, "root or home", log)
    directory = top
    for depth, name in enumerate(parts):
        child = directory.children.get(name)
        if parts in ([b"var"], [b"run"]):  # they stay what they are: a system tree, and fresh
            break
        if depth == len(parts) - 1 and (child is None or isinstance(child, SynthDir)):
            try:
                directory.children[name] = HostFs(vfs, cwd, fds).root
            except EACCES:
                return _not_shown(cwd, "you may not read it", log)
        elif child is None:
            child = directory.children[name] = SynthDir(synth, mode=0o755)
        elif not isinstance(child, SynthDir):
            return _if_visible(top, parts)
        if isinstance(child, SynthDir):
            directory = child
    return b"/" + b"/".join(parts)


def _not_shown(cwd: bytes, why: str, log: Callable[[str], None]) -> bytes:
    """The program starts in / instead."""
    log(f"the current directory {cwd.decode(errors='replace')} is not shown to the program ({why}): use --bind to show it")
    return b"/"


def _if_visible(top: Inode, parts: list[bytes]) -> bytes:
    """A current directory inside a system tree is what that tree shows of it."""
    inode = top
    try:
        for name in parts:
            inode = inode.lookup(name)
        if inode.mode & S_IFMT != S_IFDIR:
            raise ENOTDIR
    except Errno:
        return b"/"
    return b"/" + b"/".join(parts)


def _holds_home(cwd: bytes) -> bool:
    """`cwd` is a home directory, or above one."""
    for home in host_homes():
        if _is_within(home, cwd):
            return True
    parts = [each for each in cwd.split(b"/") if each]
    return parts[0] == b"home" and len(parts) <= 2


def _directory_lower(vfs: Vfs, synth: SuperBlock, fds: Descriptors, path: bytes) -> Inode:
    host = HostFs(vfs, path, fds)
    names: dict[bytes, Inode] = {}
    for name in MOUNT_POINTS:
        if host.path == b"/" or not _has_directory(host.root, name):
            names[name] = SynthDir(synth, mode=0o755)
    if not _has_directory(host.root, b"tmp"):
        names[b"tmp"] = SynthDir(synth, mode=0o1777)
    return MergedDir(synth, host.root, names) if names else host.root


def _has_directory(base: Inode, name: bytes) -> bool:
    try:
        return base.lookup(name).mode & S_IFMT == S_IFDIR
    except Errno:
        return False


def _archive_lower(vfs: Vfs, archive: str, log: Callable[[str], None]) -> Inode:
    from trapline.kernel.drivers.hostfs_tar import unpack

    sb = TmpFs(vfs, mode=0o755, max_pages=0, max_inodes=0)
    unpack(vfs, sb, archive, log)
    root = sb.root
    names: dict[bytes, Inode] = {
        name: SynthDir(sb, mode=0o1777 if name == b"tmp" else 0o755)
        for name in (*MOUNT_POINTS, b"tmp")
        if not _has_directory(root, name)
    }
    return MergedDir(sb, root, names) if names else root


def _bytes(path: str) -> bytes:
    return path.encode(errors="surrogateescape")


def _is_within(path: bytes, directory: bytes) -> bool:
    """`path` is `directory` or below it."""
    directory = directory.rstrip(b"/")
    return path.rstrip(b"/") == directory or path.startswith(directory + b"/")
