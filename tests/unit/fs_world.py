"""A small world for file-system tests: RAM, a Vfs with a tmpfs root, tasks whose user memory is a bytearray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trapline.abi.arch import ABIS
from trapline.abi.fcntl import AT_FDCWD, O_CREAT, O_RDONLY, O_WRONLY
from trapline.abi.stat import STAT
from trapline.kernel.fs.fdtable import FdTable
from trapline.kernel.fs.fscontext import FsContext
from trapline.kernel.fs.tmpfs import OPTIONS, TmpFs, make_tmpfs
from trapline.kernel.fs.vfs import Vfs
from trapline.kernel.syscalls.link import sys_renameat2
from trapline.kernel.syscalls.open import sys_openat
from trapline.kernel.syscalls.stat import sys_stat
from trapline.machine.ram import Ram

ALL_CAPS = (1 << 41) - 1
BUF = 1 << 16  #: where tests have handlers put their results


class Creds:
    def __init__(self, uid: int = 0, gid: int = 0, groups: tuple[int, ...] = (), caps: int | None = None) -> None:
        self.uid = self.euid = self.fsuid = uid
        self.gid = self.egid = self.fsgid = gid
        self.groups = groups
        self.effective = self.permitted = (ALL_CAPS if uid == 0 else 0) if caps is None else caps

    def has_cap(self, cap: int) -> bool:
        return bool(self.effective >> cap & 1)


class Memory:
    """User memory for handlers: strings are put in, results are read back."""

    def __init__(self) -> None:
        self.bytes = bytearray(1 << 20)
        self._next = 16

    def put(self, data: bytes) -> int:
        address, self._next = self._next, self._next + len(data) + 1 & ~7
        self._next += 8
        self.bytes[address : address + len(data) + 1] = data + b"\0"
        return address

    def read(self, address: int, count: int) -> bytes:
        return bytes(self.bytes[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        self.bytes[address : address + len(data)] = data

    def read_cstr(self, address: int, limit: int) -> bytes | None:
        end = self.bytes.find(0, address, address + limit)
        return None if end < 0 else bytes(self.bytes[address:end])

    def read_path(self, address: int) -> bytes:
        text = self.read_cstr(address, 1 << 16)
        assert text is not None
        return text


class World:
    def __init__(self, mode: int = 0o755, **limits: int) -> None:
        self.ram = Ram(32 << 20)
        self.time = 1_000
        self.vfs = Vfs(self.ram, self.now)
        self.vfs.register_filesystem(b"tmpfs", make_tmpfs, OPTIONS)
        self.sb = TmpFs(self.vfs, mode=mode, **limits)
        self.vfs.mount_root(self.sb)
        self.logged: list[str] = []
        self.kernel: Any = SimpleNamespace(vfs=self.vfs, tasks={}, log=self.logged.append, ram=self.ram, abi=ABIS["x86_64"])

    def now(self) -> int:
        self.time += 1
        return self.time

    def task(self, uid: int = 0, gid: int = 0, **creds: Any) -> Any:
        root = self.vfs.root
        task: Any = SimpleNamespace(
            kernel=self.kernel,
            fs=FsContext(root, root),
            files=FdTable(64),
            creds=Creds(uid, gid, **creds),
            mm=Memory(),
            group=SimpleNamespace(rlimits=[]),
        )
        self.kernel.tasks[len(self.kernel.tasks)] = task
        return task


def write(task: Any, name: bytes, data: bytes = b"", mode: int = 0o644) -> None:
    file = task.kernel.vfs.open(task, AT_FDCWD, name, O_WRONLY | O_CREAT, mode)
    file.try_write(data)
    file.put()


def read(task: Any, name: bytes) -> bytes:
    file = task.kernel.vfs.open(task, AT_FDCWD, name, O_RDONLY)
    try:
        return bytes(file.try_read(1 << 20))
    finally:
        file.put()


def names(task: Any, name: bytes) -> list[bytes]:
    return sorted(each[0] for each in task.kernel.vfs.walk(task, AT_FDCWD, name).inode.entries())


def call(handler: Any, task: Any, *args: Any) -> Any:
    """Call a handler, with bytes arguments put into user memory."""
    return handler(task, *[task.mm.put(each) if isinstance(each, bytes) else each for each in args])


def stat(task: Any, name: bytes) -> dict[str, int]:
    call(sys_stat, task, name, BUF)
    fields = "dev ino nlink mode uid gid rdev size blksize blocks atime atime_ns mtime mtime_ns ctime ctime_ns".split()
    return dict(zip(fields, STAT.unpack(task.mm.read(BUF, STAT.size)), strict=True))


def open_(task: Any, name: bytes, flags: int, mode: int = 0o644) -> int:
    fd: int = call(sys_openat, task, AT_FDCWD, name, flags, mode)
    return fd


def renameat2(task: Any, old: bytes, new: bytes, flags: int) -> None:
    call(sys_renameat2, task, AT_FDCWD, old, AT_FDCWD, new, flags)


@pytest.fixture
def world() -> World:
    return World(0o777)


@pytest.fixture
def task(world: World) -> Any:
    return world.task()
