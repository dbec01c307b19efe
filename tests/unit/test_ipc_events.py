"""eventfd, timerfd, signalfd and inotify."""

from __future__ import annotations

from typing import Any

import ipc_world
from ipc_world import SECOND, WAITS, IpcWorld, errno

from trapline.abi import event as e
from trapline.abi import fcntl as f
from trapline.abi.poll import POLLFD, POLLIN, POLLOUT
from trapline.abi.signal import SIGUSR1
from trapline.kernel.ipc.timerfd import clock_was_set
from trapline.kernel.task.signals.send import SigInfo, send_to_group

world, task = ipc_world.world, ipc_world.task  # fixtures

NONBLOCK = 0o4000


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def test_eventfd_counts(world: IpcWorld, task: Any) -> None:
    fd = world.call(task, "eventfd2", 3, NONBLOCK)
    assert world.read(task, fd, 8) == u64(3)
    assert world.read(task, fd, 8) == errno("EAGAIN")
    assert world.read(task, fd, 4) == errno("EINVAL")
    assert world.write(task, fd, u64((1 << 64) - 1)) == errno("EINVAL")
    assert world.write(task, fd, u64((1 << 64) - 2)) == 8
    assert world.write(task, fd, u64(1)) == errno("EAGAIN")
    assert world.write(task, fd, u64(0) + b"more") == 8
    assert world.read(task, fd, 100) == u64((1 << 64) - 2)


def test_eventfd_semaphore_blocks(world: IpcWorld, task: Any) -> None:
    fd = world.call(task, "eventfd2", 2, e.EFD_SEMAPHORE)
    assert world.read(task, fd, 8) == world.read(task, fd, 8) == u64(1)
    assert world.read(task, fd, 8) == WAITS
    other = world.thread(task.group, task.mm)
    assert world.write(other, fd, u64(5)) == 8
    world.settle()
    assert world.got(task) == u64(1)
    assert task.files.get(fd).display_path() == b"anon_inode:[eventfd]"
    assert world.call(task, "eventfd2", 0, 2) == errno("EINVAL")


def spec(value: float, interval: float = 0) -> bytes:
    return e.ITIMERSPEC.pack(
        int(interval), int(interval % 1 * SECOND), int(value), int(value % 1 * SECOND)
    )


def settime(world: IpcWorld, task: Any, fd: int, raw: bytes, flags: int = 0) -> Any:
    return world.call(task, "timerfd_settime", fd, flags, task.mm.put(raw), 0)


def test_timerfd_once_and_interval(world: IpcWorld, task: Any) -> None:
    fd = world.call(task, "timerfd_create", 1, NONBLOCK)
    assert settime(world, task, fd, spec(1)) == 0
    assert world.read(task, fd, 8) == errno("EAGAIN")
    world.pass_time(SECOND + 1)
    assert world.read(task, fd, 8) == u64(1)
    assert settime(world, task, fd, spec(1, 0.5)) == 0
    world.pass_time(3 * SECOND)
    assert world.read(task, fd, 8) == u64(5)
    at = task.mm.alloc(32)
    assert world.call(task, "timerfd_gettime", fd, at) == 0
    interval_s, interval_ns, value_s, value_ns = e.ITIMERSPEC.unpack(task.mm.read(at, 32))
    assert (interval_s, interval_ns, value_s) == (0, SECOND // 2, 0)
    assert 0 < value_ns <= SECOND // 2
    assert settime(world, task, fd, spec(0)) == 0
    world.pass_time(10 * SECOND)
    assert world.read(task, fd, 8) == errno("EAGAIN")


def test_timerfd_absolute_waits(world: IpcWorld, task: Any) -> None:
    fd = world.call(task, "timerfd_create", 1, 0)
    now = world.clock.monotonic_ns()
    raw = e.ITIMERSPEC.pack(0, 0, *divmod(now + 2 * SECOND, SECOND))
    assert settime(world, task, fd, raw, e.TFD_TIMER_ABSTIME) == 0
    assert world.read(task, fd, 8) == WAITS
    world.pass_time(2 * SECOND + 1)
    assert world.got(task) == u64(1)
    assert settime(world, task, fd, e.ITIMERSPEC.pack(0, 0, 0, 1), e.TFD_TIMER_ABSTIME) == 0  # long past
    world.pass_time(1)
    assert world.read(task, fd, 8) == u64(1)
    assert settime(world, task, fd, e.ITIMERSPEC.pack(0, 0, 0, SECOND)) == errno("EINVAL")
    assert world.call(task, "timerfd_create", 2, 0) == errno("EINVAL")
    assert settime(world, task, world.pipe(task)[0], spec(1)) == errno("EINVAL")


def test_timerfd_is_cancelled_when_the_clock_is_set(world: IpcWorld, task: Any) -> None:
    fd = world.call(task, "timerfd_create", 0, NONBLOCK)
    far = e.ITIMERSPEC.pack(0, 0, 1 << 33, 0)
    assert settime(world, task, fd, far, e.TFD_TIMER_ABSTIME | e.TFD_TIMER_CANCEL_ON_SET) == 0
    clock_was_set(world.kernel)
    assert world.read(task, fd, 8) == errno("ECANCELED")
    assert world.read(task, fd, 8) == errno("EAGAIN")


def test_signalfd(world: IpcWorld, task: Any) -> None:
    bit = 1 << SIGUSR1 - 1
    task.blocked = bit
    mask = task.mm.put(u64(bit))
    fd = world.call(task, "signalfd4", -1, mask, 8, 0)
    assert world.read(task, fd, 100) == errno("EINVAL")
    assert world.read(task, fd, 128) == WAITS
    send_to_group(task.group, SigInfo(SIGUSR1, 0, pid=77, uid=5))
    world.settle()
    info = e.SIGNALFD_SIGINFO.unpack(world.got(task))
    assert (info[0], info[3], info[4]) == (SIGUSR1, 77, 5)
    fds = task.mm.put(POLLFD.pack(fd, POLLIN, 0))
    assert world.call(task, "poll", fds, 1, 0) == 0
    send_to_group(task.group, SigInfo(SIGUSR1, 0))
    assert world.call(task, "poll", fds, 1, 0) == 1
    assert len(world.read(task, fd, 1000)) == 128
    assert world.call(task, "signalfd4", fd, task.mm.put(u64(0)), 8, 0) == fd
    assert world.call(task, "signalfd4", -1, mask, 4, 0) == errno("EINVAL")
    assert world.call(task, "signalfd4", world.pipe(task)[0], mask, 8, 0) == errno("EINVAL")


def events(raw: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while raw:
        wd, mask, cookie, size = e.INOTIFY_EVENT.unpack_from(raw)
        found.append((wd, mask, cookie, raw[16 : 16 + size].rstrip(b"\0")))
        raw = raw[16 + size :]
    return found


def test_inotify(world: IpcWorld, task: Any) -> None:
    world.kernel.vfs.makedirs(b"/dir")
    fd = world.call(task, "inotify_init1", NONBLOCK)
    wd = world.call(task, "inotify_add_watch", fd, task.mm.put(b"/dir"), e.IN_CREATE | e.IN_DELETE | e.IN_DELETE_SELF)
    assert wd == 1
    assert world.read(task, fd) == errno("EAGAIN")
    opened = world.open(task, b"/dir/name", f.O_RDWR | f.O_CREAT)
    world.call(task, "unlink", task.mm.put(b"/dir/name"))
    assert events(world.read(task, fd)) == [(1, e.IN_CREATE, 0, b"name"), (1, e.IN_DELETE, 0, b"name")]
    assert world.call(task, "inotify_rm_watch", fd, wd) == 0
    assert events(world.read(task, fd)) == [(1, e.IN_IGNORED, 0, b"")]
    assert world.call(task, "inotify_rm_watch", fd, wd) == errno("EINVAL")
    world.call(task, "close", opened)


def test_inotify_small_buffer_and_missing(world: IpcWorld, task: Any) -> None:
    world.kernel.vfs.makedirs(b"/dir")
    fd = world.call(task, "inotify_init1", NONBLOCK)
    name = task.mm.put(b"/dir")
    assert world.call(task, "inotify_add_watch", fd, name, e.IN_CREATE) == 1
    assert world.call(task, "inotify_add_watch", fd, name, e.IN_CREATE | e.IN_MASK_CREATE) == errno("EEXIST")
    assert world.call(task, "inotify_add_watch", fd, task.mm.put(b"/none"), e.IN_CREATE) == errno("ENOENT")
    assert world.call(task, "inotify_add_watch", fd, name, 0) == errno("EINVAL")
    world.open(task, b"/dir/name", f.O_RDWR | f.O_CREAT)
    assert world.read(task, fd, 20) == errno("EINVAL")
    assert len(world.read(task, fd, 32)) == 32
    assert world.call(task, "close", fd) == 0
    assert world.kernel.vfs.at_root(b"/dir").inode.watches is None


def test_eventfd_is_pollable_for_writing(world: IpcWorld, task: Any) -> None:
    fd = world.call(task, "eventfd", 0)
    fds = task.mm.put(POLLFD.pack(fd, POLLIN | POLLOUT, 0))
    assert world.call(task, "poll", fds, 1, 0) == 1
