"""fcntl(2) and flock(2) locks, and the other business of fcntl, dup and close."""

from __future__ import annotations

import random
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import ipc_world
import pytest
from ipc_world import BASE, WAITS, IpcWorld, errno

from trapline.abi import fcntl as f
from trapline.abi.errno import EAGAIN, ENOLCK
from trapline.abi.fcntl import FLOCK
from trapline.abi.signal import SIGIO
from trapline.kernel.fs import leases
from trapline.kernel.fs.locks import MAX_LOCKS, InodeLocks
from trapline.kernel.fs.ranges import END, RecordLock

world, task = ipc_world.world, ipc_world.task  # fixtures


def lock(
    world: IpcWorld, task: Any, fd: int, kind: int, start: int = 0, size: int = 0, cmd: int = f.F_SETLK, whence: int = 0
) -> Any:
    return world.call(task, "fcntl", fd, cmd, task.mm.put(FLOCK.pack(kind, whence, start, size, 0)))


def held(world: IpcWorld, task: Any, fd: int, kind: int, start: int = 0, size: int = 0, cmd: int = f.F_GETLK) -> Any:
    at = task.mm.put(FLOCK.pack(kind, 0, start, size, 0))
    assert world.call(task, "fcntl", fd, cmd, at) == 0
    return FLOCK.unpack(task.mm.read(at, FLOCK.size))


def two(world: IpcWorld, task: Any) -> tuple[Any, int]:
    """Another process with the same file open through its own description."""
    other = world.process()
    return other, world.open(other, b"/file", f.O_RDWR | f.O_CREAT)


def test_record_locks_conflict_between_processes(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    other, fd2 = two(world, task)
    assert lock(world, task, fd, f.F_WRLCK, 10, 10) == 0
    assert lock(world, other, fd2, f.F_RDLCK, 0, 10) == 0
    assert lock(world, other, fd2, f.F_RDLCK, 19, 1) == errno("EAGAIN")
    assert lock(world, other, fd2, f.F_RDLCK, 20, 0) == 0
    assert held(world, other, fd2, f.F_WRLCK, 0, 0)[:1] == (f.F_WRLCK,)
    kind, whence, start, size, pid = held(world, other, fd2, f.F_RDLCK)
    assert (kind, whence, start, size, pid) == (f.F_WRLCK, 0, 10, 10, task.group.pid)
    assert lock(world, task, fd, f.F_UNLCK) == 0
    assert held(world, other, fd2, f.F_WRLCK)[0] == f.F_UNLCK


class ByteLocks:
    """The same rules, byte by byte: who holds what of 64 bytes."""

    def __init__(self) -> None:
        self.held: dict[tuple[object, int], int] = {}

    def conflict(self, lock: RecordLock) -> bool:
        return any(
            owner is not lock.owner and lock.start <= byte <= lock.end and f.F_WRLCK in (kind, lock.kind)
            for (owner, byte), kind in self.held.items()
        )

    def apply(self, lock: RecordLock) -> None:
        for byte in range(lock.start, lock.end + 1):
            self.held.pop((lock.owner, byte), None)
            if lock.kind != f.F_UNLCK:
                self.held[lock.owner, byte] = lock.kind


@pytest.mark.parametrize("seed", range(20))
def test_record_locks_are_those_of_a_model_byte_by_byte(seed: int) -> None:
    choose, locks, model = random.Random(seed), InodeLocks(), ByteLocks()
    owners = [object() for _ in range(4)]
    for _ in range(300):
        start = choose.randrange(64)
        end = choose.randrange(start, min(64, start + choose.choice((1, 4, 64))))
        lock = RecordLock(choose.choice(owners), choose.choice((f.F_RDLCK, f.F_WRLCK, f.F_UNLCK)), start, end, 1)
        if lock.kind != f.F_UNLCK:
            found = locks.conflict(lock)
            assert (found is not None) == model.conflict(lock)
            if found is not None:
                continue
        if choose.random() < 0.02:
            locks.on_close(lock.owner, None)  # type: ignore[arg-type]
            model.held = {key: kind for key, kind in model.held.items() if key[0] is not lock.owner}
            continue
        locks.apply(lock)
        model.apply(lock)
        held = {(each.owner, byte): each.kind for each in locks.records for byte in range(each.start, each.end + 1)}
        assert held == model.held and locks.ranges.count == len(locks.records)
        for one, other in pairwise(sorted(locks.records, key=lambda each: (owners.index(each.owner), each.start))):
            assert one.owner is not other.owner or one.end + (one.kind == other.kind) < other.start


def test_no_more_record_locks_than_there_may_be() -> None:
    locks, me = InodeLocks(), object()
    for number in range(MAX_LOCKS):
        locks.apply(RecordLock(me, f.F_WRLCK, 2 * number, 2 * number, 1))
    with pytest.raises(ENOLCK):
        locks.apply(RecordLock(me, f.F_WRLCK, END, END, 1))
    locks.apply(RecordLock(me, f.F_WRLCK, 0, END, 1))
    assert len(locks.records) == 1


def test_record_locks_split_and_join() -> None:
    locks = InodeLocks()
    me = object()

    def ranges() -> list[tuple[int, int, int]]:
        return [(each.kind, each.start, each.end) for each in locks.records]

    locks.apply(RecordLock(me, f.F_WRLCK, 0, 99, 1))
    locks.apply(RecordLock(me, f.F_UNLCK, 40, 59, 1))
    assert ranges() == [(1, 0, 39), (1, 60, 99)]
    locks.apply(RecordLock(me, f.F_RDLCK, 30, 69, 1))
    assert ranges() == [(1, 0, 29), (0, 30, 69), (1, 70, 99)]
    locks.apply(RecordLock(me, f.F_WRLCK, 30, 69, 1))
    assert ranges() == [(1, 0, 99)]
    locks.apply(RecordLock(me, f.F_WRLCK, 100, END, 1))
    assert ranges() == [(1, 0, END)]
    locks.apply(RecordLock(me, f.F_UNLCK, 0, END, 1))
    assert ranges() == []


def test_waiting_for_a_lock_and_deadlock(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    other, fd2 = two(world, task)
    assert lock(world, task, fd, f.F_WRLCK, 0, 1) == 0
    assert lock(world, other, fd2, f.F_WRLCK, 1, 1) == 0
    assert lock(world, other, fd2, f.F_WRLCK, 0, 1, f.F_SETLKW) == WAITS
    assert lock(world, task, fd, f.F_WRLCK, 1, 1, f.F_SETLKW) == errno("EDEADLOCK")
    assert lock(world, task, fd, f.F_UNLCK, 0, 1) == 0
    world.settle()
    assert world.results[other] == 0
    assert lock(world, task, fd, f.F_RDLCK, 0, 1) == errno("EAGAIN")


def test_closing_any_descriptor_drops_the_process_locks(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    other, fd2 = two(world, task)
    extra = world.open(task, b"/file", f.O_RDONLY)
    assert lock(world, task, fd, f.F_WRLCK) == 0
    assert lock(world, other, fd2, f.F_WRLCK) == errno("EAGAIN")
    world.call(task, "close", extra)
    assert lock(world, other, fd2, f.F_WRLCK) == 0


def test_open_file_locks_belong_to_the_description(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    again = world.open(task, b"/file", f.O_RDWR)
    copy = world.call(task, "dup", fd)
    assert lock(world, task, fd, f.F_WRLCK, cmd=f.F_OFD_SETLK) == 0
    assert lock(world, task, copy, f.F_WRLCK, cmd=f.F_OFD_SETLK) == 0
    assert lock(world, task, again, f.F_RDLCK, cmd=f.F_OFD_SETLK) == errno("EAGAIN")
    assert held(world, task, again, f.F_RDLCK, cmd=f.F_OFD_GETLK)[4] == -1
    world.call(task, "close", fd)
    assert lock(world, task, again, f.F_RDLCK, cmd=f.F_OFD_SETLK) == errno("EAGAIN")
    world.call(task, "close", copy)
    assert lock(world, task, again, f.F_RDLCK, cmd=f.F_OFD_SETLK) == 0


def test_lock_arguments(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    world.write(task, fd, b"x" * 100)
    reader = world.open(task, b"/file", f.O_RDONLY)
    assert lock(world, task, reader, f.F_WRLCK) == errno("EBADF")
    assert lock(world, task, fd, 7) == errno("EINVAL")
    assert lock(world, task, fd, f.F_RDLCK, -5, 1) == errno("EINVAL")
    assert lock(world, task, fd, f.F_RDLCK, (1 << 63) - 2, 10) == errno("EOVERFLOW")
    assert lock(world, task, fd, f.F_WRLCK, 0, -10, whence=f.SEEK_END) == 0
    other, fd2 = two(world, task)
    assert held(world, other, fd2, f.F_RDLCK)[2:4] == (90, 10)
    assert world.call(task, "fcntl", fd, f.F_SETLK, 16) == errno("EFAULT")


def test_flock(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    again = world.open(task, b"/file", f.O_RDONLY)
    copy = world.call(task, "dup", fd)
    assert world.call(task, "flock", fd, f.LOCK_EX) == 0
    assert world.call(task, "flock", copy, f.LOCK_SH | f.LOCK_NB) == 0
    assert world.call(task, "flock", again, f.LOCK_SH | f.LOCK_NB) == 0
    assert world.call(task, "flock", fd, f.LOCK_EX | f.LOCK_NB) == errno("EAGAIN")
    assert world.call(task, "flock", fd, f.LOCK_EX) == WAITS
    other = world.thread(task.group, task.mm)
    assert world.call(other, "flock", again, f.LOCK_UN) == 0
    world.settle()
    assert world.results[task] == 0
    assert world.call(task, "flock", fd, 16) == errno("EINVAL")
    assert world.call(task, "flock", 99, f.LOCK_EX) == errno("EBADF")


# ---- descriptors


def test_dup_family(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    assert world.call(task, "dup2", r, r) == r
    assert world.call(task, "dup2", 99, 99) == errno("EBADF")
    assert world.call(task, "dup2", r, 20) == 20
    assert world.call(task, "dup3", r, r, 0) == errno("EINVAL")
    assert world.call(task, "dup3", r, 21, f.O_CLOEXEC) == 21
    assert world.call(task, "dup3", r, 21, 1) == errno("EINVAL")
    assert world.call(task, "dup2", r, 1 << 20) == errno("EBADF")
    assert world.call(task, "fcntl", 21, f.F_GETFD, 0) == 1
    assert world.call(task, "fcntl", r, f.F_DUPFD, 30) == 30
    assert world.call(task, "fcntl", r, f.F_DUPFD_CLOEXEC, 30) == 31
    assert world.call(task, "fcntl", r, f.F_DUPFD, -1) == errno("EINVAL")
    assert world.call(task, "fcntl", 31, f.F_SETFD, 0) == 0
    assert world.call(task, "fcntl", 31, f.F_GETFD, 0) == 0
    assert world.call(task, "close", 31) == 0
    assert world.call(task, "close", 31) == errno("EBADF")
    assert task.files.get(w).pipe.readers == 1


def test_status_flags(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT | f.O_APPEND | f.O_NOCTTY)
    flags = world.call(task, "fcntl", fd, f.F_GETFL, 0)
    assert flags & ~f.O_LARGEFILE == f.O_RDWR | f.O_APPEND
    assert world.call(task, "fcntl", fd, f.F_SETFL, f.O_NONBLOCK | f.O_WRONLY | f.O_CREAT) == 0
    flags = world.call(task, "fcntl", fd, f.F_GETFL, 0)
    assert flags & ~f.O_LARGEFILE == f.O_RDWR | f.O_NONBLOCK
    path = world.open(task, b"/file", f.O_PATH)
    assert world.call(task, "fcntl", path, f.F_SETFL, 0) == errno("EBADF")
    assert world.call(task, "fcntl", path, f.F_GETFD, 0) == 0
    assert world.call(task, "fcntl", fd, 9999, 0) == errno("EINVAL")


def test_close_range(world: IpcWorld, task: Any) -> None:
    fds = [world.open(task, b"/dev/null") for _ in range(6)]
    assert world.call(task, "close_range", fds[1], fds[2], 0) == 0
    assert task.files.fds() == [fds[0], *fds[3:]]
    assert world.call(task, "close_range", fds[3], 0xFFFFFFFF, 4) == 0
    assert [task.files.get_cloexec(each) for each in task.files.fds()] == [False, True, True, True]
    other = world.thread(task.group, task.mm)
    assert world.call(other, "close_range", 0, 0xFFFFFFFF, 2) == 0
    assert (len(other.files), len(task.files)) == (0, 4)
    assert world.call(task, "close_range", 5, 4, 0) == errno("EINVAL")
    assert world.call(task, "close_range", 0, 1, 8) == errno("EINVAL")


def test_seals(world: IpcWorld, task: Any) -> None:
    from trapline.kernel.fs.tmpfs import create_memfd

    fd = task.files.install(create_memfd(world.kernel.vfs, b"m", f.MFD_ALLOW_SEALING, task.creds))
    assert world.write(task, fd, b"sealed") == 6
    assert world.call(task, "fcntl", fd, f.F_GET_SEALS, 0) == 0
    assert world.call(task, "fcntl", fd, f.F_ADD_SEALS, f.F_SEAL_WRITE | f.F_SEAL_SEAL) == 0
    assert world.write(task, fd, b"x") == errno("EPERM")
    assert world.call(task, "fcntl", fd, f.F_ADD_SEALS, f.F_SEAL_GROW) == errno("EPERM")
    plain = world.open(task, b"/dev/null")
    assert world.call(task, "fcntl", plain, f.F_GET_SEALS, 0) == errno("EINVAL")


def test_signal_driven_input(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    task.blocked = 1 << SIGIO - 1
    assert world.call(task, "fcntl", r, f.F_SETOWN, task.group.pid) == 0
    assert world.call(task, "fcntl", r, f.F_GETOWN, 0) == task.group.pid
    assert world.call(task, "fcntl", r, f.F_SETOWN, 7777) == errno("ESRCH")
    assert world.call(task, "fcntl", r, f.F_SETFL, f.O_ASYNC) == 0
    world.write(task, w, b"x")
    assert task.group.pending.mask >> SIGIO - 1 & 1
    task.group.pending.clear()
    assert world.call(task, "fcntl", r, f.F_SETFL, 0) == 0
    world.write(task, w, b"x")
    assert not task.group.pending.mask


def test_generic_ioctls(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    world.write(task, fd, b"x" * 50)
    world.call(task, "lseek", fd, 20, 0)
    assert world.call(task, "ioctl", fd, 0x5451, 0) == 0
    assert task.files.get_cloexec(fd)
    assert world.call(task, "ioctl", fd, 0x541B, BASE) == 0
    assert task.mm.read_u32(BASE) == 30
    assert world.call(task, "ioctl", fd, 0x5421, task.mm.put(b"\1\0\0\0")) == 0
    assert task.files.get(fd).flags & f.O_NONBLOCK
    assert world.call(task, "ioctl", fd, 0x5401, BASE) == errno("ENOTTY")


# ---- leases


def test_holders_of_leases_are_given_their_time_and_no_more(world: IpcWorld, task: Any) -> None:
    clock = SimpleNamespace(now=0)
    kernel = SimpleNamespace(clock=SimpleNamespace(monotonic_ns=lambda: clock.now), lease_break_time_s=2)
    who: Any = SimpleNamespace(kernel=kernel, group=task.group, creds=task.creds)
    file = task.files.get(world.open(task, b"/leased", f.O_RDONLY | f.O_CREAT))
    told: list[int] = []
    assert leases.take(who, file, f.F_WRLCK, lambda: told.append(clock.now))
    assert leases.must_wait(who, file.inode, f.O_RDONLY) and told == [0] and leases.look(who, file) == f.F_RDLCK
    clock.now = 2_000_000_000
    assert not leases.must_wait(who, file.inode, f.O_RDONLY), "reduced for it"
    assert leases.must_wait(who, file.inode, f.O_WRONLY) and len(told) == 2
    clock.now = 3_999_999_999
    with pytest.raises(EAGAIN):
        leases.must_wait(who, file.inode, f.O_WRONLY | f.O_NONBLOCK)
    clock.now += 1
    assert not leases.must_wait(who, file.inode, f.O_WRONLY) and leases.look(who, file) == f.F_UNLCK
    kernel.lease_break_time_s = 0
    assert leases.take(who, file, f.F_RDLCK, lambda: None) and leases.must_wait(who, file.inode, f.O_RDWR)
    clock.now = 1 << 62
    assert leases.must_wait(who, file.inode, f.O_RDWR), "no limit"
    file.put()
    assert not file.inode.locks.leases
