"""Access times: mount(8), "relatime", "noatime", "strictatime"."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.mount import MS_NOATIME, MS_NODIRATIME, MS_RDONLY, MS_STRICTATIME
from trapline.abi.stat import S_IFDIR, S_IFMT

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path

DAY_NS = 86_400_000_000_000


def accessed(path: Path) -> None:
    """The file, directory or link at `path` was read. Under relatime its access time moves if it is no later than the last
    change, or a day old."""
    mount, inode = path.mount, path.inode
    if mount.flags & (MS_NOATIME | MS_RDONLY) or mount.sb.read_only:
        return
    if mount.flags & MS_NODIRATIME and inode.mode & S_IFMT == S_IFDIR:
        return
    atime, now = inode.atime_ns, inode.sb.now()
    if mount.flags & MS_STRICTATIME or atime <= inode.mtime_ns or atime <= inode.ctime_ns or now - atime >= DAY_NS:
        inode.atime_ns = now
