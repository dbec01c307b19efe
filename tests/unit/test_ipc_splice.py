"""splice, tee, vmsplice, sendfile and copy_file_range."""

from __future__ import annotations

from typing import Any

import ipc_world
from ipc_world import WAITS, IpcWorld, errno

from trapline.abi import fcntl as f

world, task = ipc_world.world, ipc_world.task  # fixtures

NONBLOCK = 2


def file(world: IpcWorld, task: Any, name: bytes, data: bytes = b"") -> int:
    fd: int = world.open(task, name, f.O_RDWR | f.O_CREAT)
    world.write(task, fd, data)
    world.call(task, "lseek", fd, 0, 0)
    return fd


def test_splice_between_file_and_pipe(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    fd = file(world, task, b"/a", b"0123456789")
    out = file(world, task, b"/b")
    assert world.call(task, "splice", fd, 0, w, 0, 4, 0) == 4
    at = task.mm.put((6).to_bytes(8, "little"))
    assert world.call(task, "splice", fd, at, w, 0, 100, 0) == 4
    assert task.mm.read_u64(at) == 10
    assert world.call(task, "splice", r, 0, out, 0, 100, 0) == 8
    world.call(task, "lseek", out, 0, 0)
    assert world.read(task, out) == b"01236789"
    assert world.call(task, "splice", r, 0, out, 0, 100, NONBLOCK) == errno("EAGAIN")
    assert world.call(task, "splice", fd, 0, out, 0, 1, 0) == errno("EINVAL")
    assert world.call(task, "splice", r, at, out, 0, 1, 0) == errno("ESPIPE")
    assert world.call(task, "splice", r, 0, w, 0, 1, 0) == errno("EINVAL")


def test_splice_waits(world: IpcWorld, task: Any) -> None:
    (r1, w1), (r2, w2) = world.pipe(task), world.pipe(task)
    assert world.call(task, "splice", r1, 0, w2, 0, 100, 0) == WAITS
    other = world.thread(task.group, task.mm)
    world.write(other, w1, b"through")
    world.settle()
    assert world.results[task] == 7
    assert world.read(task, r2) == b"through"


def test_tee_keeps_the_source(world: IpcWorld, task: Any) -> None:
    (r1, w1), (r2, w2) = world.pipe(task), world.pipe(task)
    world.write(task, w1, b"twice")
    assert world.call(task, "tee", r1, w2, 100, 0) == 5
    assert world.read(task, r1) == world.read(task, r2) == b"twice"


def test_vmsplice(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    assert world.call(task, "vmsplice", w, world.iov(task, b"user ", b"memory"), 2, 0) == 11
    into = world.iov(task, 20)
    assert world.call(task, "vmsplice", r, into, 1, 0) == 11
    assert task.mm.read(task.mm.read_u64(into), 11) == b"user memory"
    assert world.call(task, "vmsplice", file(world, task, b"/x"), into, 1, 0) == errno("EBADF")


def test_sendfile(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    data = bytes(range(256)) * 300
    fd = file(world, task, b"/a", data)
    assert world.call(task, "sendfile", w, fd, 0, 10) == 10
    assert world.read(task, r) == data[:10]
    at = task.mm.put((100).to_bytes(8, "little"))
    assert world.call(task, "sendfile", w, fd, at, 50) == 50
    assert task.mm.read_u64(at) == 150
    assert world.read(task, r) == data[100:150]
    assert world.call(task, "sendfile", w, fd, 0, len(data)) == 65536  # a full pipe ends the call
    assert world.call(task, "sendfile", w, fd, 0, 10) == WAITS
    other = world.thread(task.group, task.mm)
    assert world.read(other, r, 70000) == data[10 : 10 + 65536]
    world.settle()
    assert world.results[task] == 10
    assert world.call(task, "sendfile", w, r, 0, 10) == errno("EINVAL")
    out = file(world, task, b"/b")
    assert world.call(task, "sendfile", out, fd, at, 1 << 20) == len(data) - 150


def test_copy_file_range(world: IpcWorld, task: Any) -> None:
    fd, out = file(world, task, b"/a", b"0123456789"), file(world, task, b"/b")
    assert world.call(task, "copy_file_range", fd, 0, out, 0, 4, 0) == 4
    at = task.mm.put((8).to_bytes(8, "little"))
    assert world.call(task, "copy_file_range", fd, at, out, 0, 100, 0) == 2
    world.call(task, "lseek", out, 0, 0)
    assert world.read(task, out) == b"012389"
    assert world.call(task, "copy_file_range", fd, 0, out, 0, 4, 1) == errno("EINVAL")
    assert world.call(task, "copy_file_range", fd, 0, world.pipe(task)[1], 0, 4, 0) == errno("EINVAL")
    assert world.call(task, "copy_file_range", world.open(task, b"/", 0), 0, out, 0, 4, 0) == errno("EISDIR")
    start = task.mm.put((0).to_bytes(8, "little"))
    over = task.mm.put((2).to_bytes(8, "little"))
    assert world.call(task, "copy_file_range", fd, start, fd, over, 4, 0) == errno("EINVAL")


def test_long_copy_takes_turns(world: IpcWorld, task: Any) -> None:
    size = 5 << 18  # more than a chunk; twice, still less than the file system has room for
    fd, out = file(world, task, b"/a"), file(world, task, b"/b")
    assert world.write(task, fd, b"x" * size) == WAITS
    world.pass_time(1)
    assert world.results[task] == size
    world.call(task, "lseek", fd, 0, 0)
    assert world.call(task, "copy_file_range", fd, 0, out, 0, 1 << 22, 0) == WAITS
    for _ in range(3):
        world.pass_time(1)
    assert world.results[task] == size
