"""/proc/PID/mounts, mountinfo and mountstats: the mounts a task sees from its root, proc(5)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import mount as m
from trapline.abi.poll import POLL_IN, POLLERR, POLLPRI
from trapline.abi.stat import major, minor
from trapline.kernel.fs.mount import Path
from trapline.kernel.fs.proc.base import TaskFile
from trapline.kernel.fs.synthetic import SynthOpenFile

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.propagation import PeerGroup
    from trapline.kernel.fs.vfs import Vfs
    from trapline.kernel.sync.park import WaitQueue

_FLAGS = (
    (m.MS_NOSUID, b",nosuid"), (m.MS_NODEV, b",nodev"), (m.MS_NOEXEC, b",noexec"), (m.MS_NOATIME, b",noatime"),
    (m.MS_NODIRATIME, b",nodiratime"), (m.MS_RELATIME, b",relatime"), (m.MS_NOSYMFOLLOW, b",nosymfollow"),
)  # fmt: skip


def escape(name: bytes) -> bytes:
    """Space, tab, newline and backslash as octal: getmntent(3)."""
    for byte in b"\\ \t\n#":
        name = name.replace(bytes((byte,)), b"\\%03o" % byte)
    return name


def _seen(task: Any) -> list[tuple[Mount, bytes]]:
    """(mount, its name from the root of `task`) of all that is not outside."""
    if task.fs is None:
        return []
    seen = []
    for mount in task.kernel.vfs.mounts:
        name, outside = Path(mount, mount.root).text(task.fs.root)
        if not outside:
            seen.append((mount, name))
    return seen


def _options(flags: int) -> bytes:
    return (b"ro" if flags & m.MS_RDONLY else b"rw") + b"".join(text for bit, text in _FLAGS if flags & bit)


class MountsInode(TaskFile):
    """mounts and mountinfo: poll(2) tells of changes."""

    __slots__ = ()

    def open(self, path: Path, flags: int, task: Any) -> File:
        return MountsFile(self, flags, path)


class MountsFile(SynthOpenFile):
    """proc(5), /proc/mounts: POLLERR and POLLPRI once after each change, seen from the time of opening."""

    __slots__ = ("seen", "vfs")

    def __init__(self, inode: MountsInode, flags: int, path: Path) -> None:
        super().__init__(inode, flags, path)
        self.vfs: Vfs = inode.task.kernel.vfs
        self.seen = self.vfs.changes

    def poll(self) -> int:
        if self.seen == self.vfs.changes:
            return POLL_IN
        self.seen = self.vfs.changes
        return POLL_IN | POLLERR | POLLPRI

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.vfs.changed,)


def mounts(task: Any) -> bytes:
    lines = []
    for mount, name in _seen(task):
        flags = mount.flags | (m.MS_RDONLY if mount.sb.read_only else 0)
        options = _options(flags) + mount.sb.options
        lines.append(b"%b %b %b %b 0 0\n" % (escape(mount.source), escape(name), mount.sb.fstype, options))
    return b"".join(lines)


def mountinfo(task: Any) -> bytes:
    lines = []
    for mount, name in _seen(task):
        sb = mount.sb
        parent = mount.parent.ident if mount.parent is not None else mount.ident - 1
        lines.append(
            b"%d %d %d:%d %b %b %b%b - %b %b %b%b\n"
            % (
                mount.ident, parent, major(sb.dev), minor(sb.dev), escape(_inner_root(mount)), escape(name),
                _options(mount.flags), _groups(mount, task), sb.fstype, escape(mount.source),
                b"ro" if sb.read_only else b"rw", sb.options,
            )
        )  # fmt: skip
    return b"".join(lines)


def _groups(mount: Mount, task: Any) -> bytes:
    """The optional fields: shared:N, master:N, propagate_from:N, unbindable."""
    text = b" shared:%d" % mount.peers.ident if mount.peers is not None else b""
    master = mount.master
    if master is not None:
        text += b" master:%d" % master.ident
        nearest: PeerGroup | None = master
        while nearest is not None and not any(_visible(each, task) for each in nearest.members):
            nearest = nearest.members[0].master
        if nearest is not None and nearest is not master:
            text += b" propagate_from:%d" % nearest.ident
    return text + b" unbindable" if mount.unbindable else text


def _visible(mount: Mount, task: Any) -> bool:
    return not Path(mount, mount.root).text(task.fs.root)[1]


def _inner_root(mount: Mount) -> bytes:
    """Which directory of its file system a mount shows: "/" but for binds."""
    names: list[bytes] = []
    dentry = mount.root
    while dentry.parent is not dentry:
        names.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(names))


def mountstats(task: Any) -> bytes:
    return b"".join(
        b"device %b mounted on %b with fstype %b\n" % (escape(mount.source), escape(name), mount.sb.fstype)
        for mount, name in _seen(task)
    )
