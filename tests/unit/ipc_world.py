"""A little world (see `little_world`) with files: a tmpfs root, /dev, descriptors, and every call on descriptors."""

from __future__ import annotations

from typing import Any

import little_world
import pytest
from little_world import WAITS

from trapline.abi import errno as numbers
from trapline.abi.errno import EFAULT, EINVAL
from trapline.abi.fcntl import O_RDWR
from trapline.kernel.drivers import chardev, console, pts, pty
from trapline.kernel.fs.devfs import mount_dev
from trapline.kernel.fs.fdtable import FdTable
from trapline.kernel.fs.fscontext import FsContext
from trapline.kernel.fs.tmpfs import TmpFs
from trapline.kernel.fs.vfs import Vfs
from trapline.kernel.syscalls import (  # noqa: F401 - they register themselves
    epoll,
    eventfd,
    fd,
    inotify,
    ioctl,
    link,
    open,
    pipe,
    poll,
    rw,
    sendfile,
    socket,
    socket_options,
    socket_receive,
    socket_send,
    splice,
    stat,
    time,
    truncate,
)
from trapline.kernel.task.creds import Credentials
from trapline.kernel.task.task import Task, ThreadGroup

__all__ = ["BASE", "WAITS", "IpcWorld", "Memory", "chardev", "console", "errno", "pty"]

BASE = little_world.BASE
SIZE = 8 << 20
SECOND = 1_000_000_000


def errno(name: str) -> int:
    """The result of a call that fails."""
    return -getattr(numbers, name).number


class Memory(little_world.FlatMemory):
    """8 MiB at BASE; `alloc` hands out pieces of the first half."""

    def __init__(self, data: bytearray | None = None) -> None:
        super().__init__(data if data is not None else bytearray(SIZE))
        self._next = BASE + 16

    def _at(self, addr: int, n: int) -> int:
        if not BASE <= addr <= BASE + SIZE - n:
            raise EFAULT
        return addr - BASE

    def alloc(self, size: int) -> int:
        address = self._next
        self._next += size + 15 & ~15
        assert self._next < BASE + SIZE // 2
        return address

    def put(self, data: bytes) -> int:
        address = self.alloc(len(data) + 1)
        self.write(address, data + b"\0")
        return address

    def write_partial(self, addr: int, data: bytes) -> int:
        room = BASE + SIZE - addr
        if not addr >= BASE or room <= 0:
            raise EFAULT
        self.write(addr, data[:room])
        return min(len(data), room)

    def read_partial(self, addr: int, n: int) -> bytes:
        room = BASE + SIZE - addr
        if not addr >= BASE or room <= 0:
            raise EFAULT
        return self.read(addr, min(n, room))

    def read_i32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little", signed=True)

    def read_path(self, addr: int) -> bytes:
        return self.read(addr, 4096).partition(b"\0")[0]

    def read_iovec(self, addr: int, count: int) -> list[tuple[int, int]]:
        if count > 1024:
            raise EINVAL
        raw = self.read(addr, 16 * count)
        words = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
        return list(zip(words[::2], words[1::2], strict=True))


class IpcWorld(little_world.World):
    def __init__(self) -> None:
        super().__init__()
        kernel = self.kernel
        kernel.vfs = Vfs(self.machine.ram, self.clock.realtime_ns)
        kernel.vfs.mount_root(TmpFs(kernel.vfs))
        mount_dev(kernel.vfs, kernel.vfs.makedirs(b"/dev"), pts.devpts(kernel, kernel.vfs))
        self.watched: dict[int, int] = {}
        self.machine.watch = self.watched.__setitem__  # type: ignore[method-assign]

    def process(self, parent: ThreadGroup | None = None, uid: int = 0) -> Task:
        task = super().process(parent, uid)
        root = self.kernel.vfs.root
        task.mm = Memory()  # type: ignore[assignment]
        task.files = FdTable(256)
        task.fs = FsContext(root, root)
        task.creds = Credentials.of_user(uid, uid)
        return task

    def thread(self, group: ThreadGroup, memory: Any = None, uid: int = 0, tid: int = 0) -> Task:
        task = super().thread(group, memory, uid, tid)
        if len(group.tasks) > 1:
            first = group.tasks[0]
            task.files, task.fs, task.creds = first.files.share(), first.fs, first.creds
        return task

    def fork(self, task: Task) -> Task:
        """A child with copies of the descriptors, in the parent's group and session."""
        child = self.process(task.group)
        child.group.pgid, child.group.sid, child.group.tty = task.group.pgid, task.group.sid, task.group.tty
        child.files = task.files.fork()
        child.creds = task.creds
        return child

    # ---- calls with comfort

    def open(self, task: Task, name: bytes, flags: int = O_RDWR, mode: int = 0o644) -> Any:
        return self.call(task, "open", task.mm.put(name), flags, mode)  # type: ignore[attr-defined]

    def pipe(self, task: Task, flags: int = 0) -> tuple[int, int]:
        at = task.mm.alloc(8)  # type: ignore[attr-defined]
        assert self.call(task, "pipe2", at, flags) == 0
        return task.mm.read_u32(at), task.mm.read_u32(at + 4)

    def write(self, task: Task, number: int, data: bytes) -> Any:
        at = BASE + SIZE // 2
        task.mm.write(at, data)
        return self.call(task, "write", number, at, len(data))

    def read(self, task: Task, number: int, count: int = 4096) -> Any:
        """The bytes read, or the errno, or WAITS."""
        result = self.call(task, "read", number, BASE + SIZE // 2, count)
        return self.got(task) if result != WAITS and result >= 0 else result

    def got(self, task: Task) -> bytes:
        """What the last read of `task` brought, once it is over."""
        return task.mm.read(BASE + SIZE // 2, self.results[task])

    def iov(self, task: Task, *parts: bytes | int) -> int:
        """An iovec of buffers: filled with bytes, or empty with a size."""
        mm: Any = task.mm
        entries = b""
        for part in parts:
            at = mm.put(part) if isinstance(part, bytes) else mm.alloc(part)
            size = len(part) if isinstance(part, bytes) else part
            entries += at.to_bytes(8, "little") + size.to_bytes(8, "little")
        return int(mm.put(entries))


@pytest.fixture
def world() -> IpcWorld:
    return IpcWorld()


@pytest.fixture
def task(world: IpcWorld) -> Any:
    return world.process()
