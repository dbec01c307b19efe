"""devtmpfs: the file system of /dev: a small tmpfs that comes with the nodes every program expects."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RELATIME
from trapline.abi.stat import S_IFCHR, makedev
from trapline.kernel.fs.tmpfs import TmpFs

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.fs.superblock import SuperBlock
    from trapline.kernel.fs.vfs import Vfs

#: name, permissions, major, minor
NODES = (
    (b"null", 0o666, 1, 3),
    (b"zero", 0o666, 1, 5),
    (b"full", 0o666, 1, 7),
    (b"random", 0o666, 1, 8),
    (b"urandom", 0o666, 1, 9),
    (b"kmsg", 0o644, 1, 11),
    (b"tty", 0o666, 5, 0),
    (b"console", 0o600, 5, 1),
    (b"ptmx", 0o666, 5, 2),
)
LINKS = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"core", b"/proc/kcore"),
)
MAX_PAGES = 1024
MAX_INODES = 4096


class DevFs(TmpFs):
    """An instance with its nodes."""

    __slots__ = ()

    def __init__(self, vfs: Vfs) -> None:
        super().__init__(vfs, mode=0o755, max_pages=MAX_PAGES, max_inodes=MAX_INODES)
        self.fstype = b"devtmpfs"
        root = self.root
        for name, mode, major, minor in NODES:
            root.create(name, S_IFCHR | mode, None, makedev(major, minor))
        for name, target in LINKS:
            root.symlink(name, target, None)
        for name in (b"pts", b"shm", b"mqueue"):
            root.mkdir(name, 0o755, None)


def make_devfs(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> DevFs:
    """mount(2) of type devtmpfs."""
    return DevFs(vfs)


def mount_dev(vfs: Vfs, at: Path, pts: SuperBlock) -> None:
    """Mount /dev at `at`, with the pseudo-terminals `pts` and a tmpfs for shm_open(3) in it."""
    dev = vfs.mount(vfs.new_mount(DevFs(vfs), b"devtmpfs", MS_NOSUID | MS_NOEXEC | MS_RELATIME), at)
    root = type(at)(dev, dev.root)
    vfs.mount(vfs.new_mount(pts, b"devpts", MS_NOSUID | MS_NOEXEC | MS_RELATIME), vfs.resolve(root, root, b"pts"))
    vfs.mount(vfs.new_mount(TmpFs(vfs), b"tmpfs", MS_NOSUID | MS_NODEV | MS_RELATIME), vfs.resolve(root, root, b"shm"))
