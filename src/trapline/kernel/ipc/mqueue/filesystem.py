"""The mqueue file system: one directory of queues. mq_open(3) finds them without it being mounted; /dev/mqueue shows them."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import ipc
from trapline.abi.capability import CAP_SYS_RESOURCE
from trapline.abi.errno import EACCES, EEXIST, EINVAL, EMFILE, ENAMETOOLONG, ENOENT, ENOSPC, EOVERFLOW
from trapline.abi.fcntl import O_ACCMODE, O_CREAT, O_EXCL
from trapline.abi.mount import MQUEUE_MAGIC
from trapline.abi.resource import RLIMIT_MSGQUEUE
from trapline.abi.stat import S_IFDIR, S_IFMT, S_IFREG
from trapline.kernel.fs import namei
from trapline.kernel.fs.dentry import Dentry
from trapline.kernel.fs.file import DirectoryFile
from trapline.kernel.fs.inode import REVALIDATE, Entry, Inode
from trapline.kernel.fs.mount import Mount, Path
from trapline.kernel.fs.path import Place
from trapline.kernel.fs.permission import MAY_READ, MAY_WRITE, may
from trapline.kernel.fs.superblock import SuperBlock
from trapline.kernel.ipc.mqueue.queue import Queue, QueueFile, cost

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.vfs import Vfs
    from trapline.kernel.ipc.sysv.namespace import IpcNamespace

_WANTS = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE)


class MqueueFs(SuperBlock):
    """`paid` is what each user's queues cost, by uid."""

    __slots__ = ("namespace", "paid", "top")

    def __init__(self, vfs: Vfs, namespace: IpcNamespace) -> None:
        super().__init__(vfs, b"mqueue", MQUEUE_MAGIC)
        self.namespace = namespace
        self.paid: dict[int, int] = {}
        self.root = QueueDir(self)
        mount = Mount(self, Dentry(b"", None, self.root))
        self.top = Path(mount, mount.root)  #: where mq_open(3) looks

    def pay(self, uid: int, change: int) -> None:
        self.paid[uid] = self.paid.get(uid, 0) + change
        if not self.paid[uid]:
            del self.paid[uid]


class QueueDir(Inode):
    """The directory. Its names are asked for each time: mq_unlink(2) removes them behind the back of a mount."""

    __slots__ = ("queues",)
    volatile = REVALIDATE
    sb: MqueueFs

    def __init__(self, sb: MqueueFs) -> None:
        super().__init__(sb, S_IFDIR | 0o1777)
        self.nlink = 2
        self.queues: dict[bytes, Queue] = {}

    def open(self, path: Path, flags: int, task: Any) -> File:
        return DirectoryFile(self, flags, path)

    def lookup(self, name: bytes) -> Inode:
        queue = self.queues.get(name)
        if queue is None:
            raise ENOENT
        return queue

    def entries(self) -> list[Entry]:
        return [(name, each.ino, each.mode >> 12) for name, each in self.queues.items()]

    def create(self, name: bytes, mode: int, creds: Any, rdev: int = 0) -> Inode:
        """A file made here is a queue of the usual size."""
        if mode & S_IFMT != S_IFREG:
            raise EACCES
        space = self.sb.namespace
        return self.make(
            name, mode, creds, min(space.mq_msg_default, space.mq_msg_max), min(space.mq_msgsize_default, space.mq_msgsize_max)
        )

    def make(self, name: bytes, mode: int, creds: Any, maxmsg: int, msgsize: int) -> Queue:
        """A new queue. Raises ENOSPC, EMFILE."""
        space = self.sb.namespace
        if len(self.queues) >= space.mq_queues_max and not creds.has_cap(CAP_SYS_RESOURCE):
            raise ENOSPC("queues_max")
        task = space.kernel.current
        price = cost(maxmsg, msgsize)
        if task is not None and self.sb.paid.get(creds.uid, 0) + price > task.group.rlimits[RLIMIT_MSGQUEUE][0]:
            raise EMFILE("RLIMIT_MSGQUEUE")
        self.sb.pay(creds.uid, price)
        queue = self.queues[name] = Queue(self.sb, name, mode, creds, maxmsg, msgsize)
        self._changed()
        return queue

    def unlink(self, name: bytes, inode: Inode) -> None:
        queue = self.queues.pop(name)
        queue.nlink -= 1
        queue.path.dentry.deleted = True
        self._changed()

    def _changed(self) -> None:
        self.mtime_ns = self.ctime_ns = self.sb.now()


def filesystem(space: IpcNamespace) -> MqueueFs:
    """The one instance of a kernel, made when first asked for."""
    if space.mqueues is None:
        space.mqueues = MqueueFs(space.kernel.vfs, space)
    sb: MqueueFs = space.mqueues
    return sb


def check_attributes(space: IpcNamespace, creds: Any, maxmsg: int, msgsize: int) -> None:
    """What mq_open(3) may ask for. Raises EINVAL, EOVERFLOW."""
    if maxmsg <= 0 or msgsize <= 0:
        raise EINVAL
    top, size = space.mq_msg_max, space.mq_msgsize_max
    if creds.has_cap(CAP_SYS_RESOURCE):
        top, size = ipc.MQ_HARD_MSG_MAX, ipc.MQ_HARD_MSGSIZE_MAX
    if maxmsg > top or msgsize > size:
        raise EINVAL
    if cost(maxmsg, msgsize) >= 1 << 64:
        raise EOVERFLOW


def _named(name: bytes) -> bytes:
    """A name as the kernel takes it: one component."""
    if not name:
        raise ENOENT
    if b"/" in name or name in (b".", b".."):
        raise EACCES
    if len(name) > ipc.MQ_NAME_MAX:
        raise ENAMETOOLONG
    return name


def open_queue(space: IpcNamespace, task: Any, name: bytes, oflag: int, mode: int, attr: tuple[int, int] | None) -> QueueFile:
    """mq_open(3): the open queue, made if need be. `attr` is (maxmsg, msgsize), None: the usual."""
    directory = filesystem(space).root
    assert isinstance(directory, QueueDir)
    queue = directory.queues.get(_named(name))
    if queue is None:
        if not oflag & O_CREAT:
            raise ENOENT
        may(directory, task.creds, MAY_WRITE)
        mode &= 0o7777 & ~task.fs.umask
        if attr is not None:
            check_attributes(space, task.creds, *attr)
            queue = directory.make(name, mode, task.creds, *attr)
        else:
            made = directory.create(name, S_IFREG | mode, task.creds)
            assert isinstance(made, Queue)
            queue = made
    else:
        if oflag & O_CREAT and oflag & O_EXCL:
            raise EEXIST
        if oflag & O_ACCMODE == O_ACCMODE:
            raise EINVAL
        may(queue, task.creds, _WANTS[oflag & O_ACCMODE])
    return QueueFile(queue, oflag, queue.path)


def unlink_queue(space: IpcNamespace, task: Any, name: bytes) -> None:
    """mq_unlink(3)."""
    sb = filesystem(space)
    namei.unlink(space.kernel.vfs, Place(sb.top, _named(name), False), task.creds)
