"""Pipes and FIFOs, and the read and write calls on them."""

from __future__ import annotations

from typing import Any

import ipc_world
from ipc_world import BASE, SIZE, WAITS, IpcWorld, errno

from trapline.abi import fcntl as f
from trapline.abi.ioctl import FIONREAD
from trapline.abi.signal import SIGPIPE, SIGUSR1, SIGXFSZ
from trapline.kernel.task.signals.send import SigInfo, send_to_task

world, task = ipc_world.world, ipc_world.task  # fixtures

K64 = 65536


def pending(task: Any, signo: int) -> bool:
    return bool((task.pending.mask | task.group.pending.mask) >> (signo - 1) & 1)


def block(task: Any, signo: int) -> None:
    task.blocked |= 1 << (signo - 1)


def test_bytes_come_out_in_order(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    assert world.write(task, w, b"one ") == 4
    assert world.write(task, w, b"two " * 200) == 800
    assert world.write(task, w, b"three") == 5
    assert world.read(task, r, 6) == b"one tw"
    assert world.read(task, r, 4096) == b"o " + b"two " * 199 + b"three"


def test_reader_waits_for_writer_and_end_of_file(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    assert world.read(task, r) == WAITS
    other = world.thread(task.group, task.mm)
    assert world.write(other, w, b"now") == 3
    world.settle()
    assert world.results[task] == 3
    assert world.got(task) == b"now"
    assert world.read(task, r) == WAITS
    assert world.call(other, "close", w) == 0
    world.settle()
    assert world.results[task] == 0


def test_full_pipe_blocks_and_large_write_completes(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    data = bytes(range(256)) * 1024  # 256 KiB
    assert world.write(task, w, data) == WAITS
    other = world.thread(task.group, task.mm)
    got = b""
    while len(got) < len(data):
        at = BASE + 64
        count = world.call(other, "read", r, at, 10_000)
        got += other.mm.read(at, count)
        world.settle()
    assert got == data
    assert world.results[task] == len(data)


def test_small_writes_are_atomic(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task, f.O_NONBLOCK)
    assert world.write(task, w, b"x" * (K64 - 100)) == K64 - 100
    assert world.write(task, w, b"y" * 200) == errno("EAGAIN")
    assert world.write(task, w, b"y" * 100) == 100
    assert world.write(task, w, b"z") == errno("EAGAIN")
    assert world.write(task, w, b"z" * 5000) == errno("EAGAIN")
    assert len(world.read(task, r, 2000)) == 2000
    assert world.write(task, w, b"z" * 5000) == 2000


def test_one_byte_writes_fill_exactly_the_capacity(world: IpcWorld, task: Any) -> None:
    _, w = world.pipe(task, f.O_NONBLOCK)
    file = task.files.get(w)
    count = 0
    while file.try_write(b"x") is not None:
        count += 1
    assert count == K64
    assert len(file.pipe.chunks) <= K64 // 4096 + 1


def test_packets_are_read_one_at_a_time(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task, f.O_DIRECT)
    world.write(task, w, b"first")
    world.write(task, w, b"second")
    assert world.read(task, r, 3) == b"fir"  # the rest of the packet is lost
    assert world.read(task, r, 100) == b"second"
    assert world.write(task, w, b"p" * 5000) == 5000
    assert len(world.read(task, r, 9000)) == 4096
    assert len(world.read(task, r, 9000)) == 904


def test_broken_pipe_raises_signal(world: IpcWorld, task: Any) -> None:
    block(task, SIGPIPE)
    r, w = world.pipe(task)
    world.call(task, "close", r)
    assert world.write(task, w, b"x") == errno("EPIPE")
    assert pending(task, SIGPIPE)


def test_read_is_interrupted_before_anything_and_restarted(world: IpcWorld, task: Any) -> None:
    r, _ = world.pipe(task)
    assert world.read(task, r) == WAITS
    task.group.actions.table[SIGUSR1] = task.group.actions.table[SIGUSR1]._replace(handler=1)
    send_to_task(task, SigInfo(SIGUSR1))  # ignored: nothing happens
    world.settle()
    assert task.coro is not None


def test_bad_address_leaves_the_bytes_in_the_pipe(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    world.write(task, w, b"keep me")
    assert world.call(task, "read", r, 16, 100) == errno("EFAULT")
    end = BASE + SIZE - 4
    assert world.call(task, "read", r, end, 100) == 4
    assert task.mm.read(end, 4) == b"keep"
    assert world.read(task, r) == b" me"
    assert world.call(task, "write", w, 16, 4) == errno("EFAULT")
    assert world.call(task, "write", w, end, 100) == 4
    assert world.read(task, r) == b"keep"


def test_vectors(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    assert world.call(task, "writev", w, world.iov(task, b"ab", b"", b"cde"), 3) == 5
    into = world.iov(task, 1, 10)
    assert world.call(task, "readv", r, into, 2) == 5
    first, second = (task.mm.read_u64(into), task.mm.read_u64(into + 16))
    assert (task.mm.read(first, 1), task.mm.read(second, 4)) == (b"a", b"bcde")
    assert world.call(task, "readv", r, into, 2000) == errno("EINVAL")


def test_wrong_ends_and_positions(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    assert world.read(task, w) == errno("EBADF")
    assert world.write(task, r, b"x") == errno("EBADF")
    assert world.read(task, 99) == errno("EBADF")
    assert world.call(task, "pread64", r, BASE, 1, 0) == errno("ESPIPE")
    assert world.call(task, "pwrite64", w, BASE, 1, 0) == errno("ESPIPE")
    assert world.call(task, "lseek", r, 0, 0) == errno("ESPIPE")
    assert world.call(task, "read", r, BASE, 0) == 0


def test_sizes(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    assert world.call(task, "fcntl", r, f.F_GETPIPE_SZ, 0) == K64
    assert world.call(task, "fcntl", w, f.F_SETPIPE_SZ, 5000) == 8192
    world.write(task, w, b"x" * 8000)
    assert world.call(task, "fcntl", w, f.F_SETPIPE_SZ, 4096) == errno("EBUSY")
    assert world.call(task, "fcntl", w, f.F_SETPIPE_SZ, 1 << 30) == errno("EPERM")
    at = task.mm.alloc(4)
    assert world.call(task, "ioctl", r, FIONREAD, at) == 0
    assert task.mm.read_u32(at) == 8000
    assert world.call(task, "fcntl", world.open(task, b"/dev/null"), f.F_GETPIPE_SZ, 0) == errno("EBADF")


def test_many_pipes_get_little_memory(world: IpcWorld, task: Any) -> None:
    from trapline.kernel.ipc.pipe import MAX_TOTAL, MIN_SIZE, Pipe

    pipes = [Pipe(world.kernel) for _ in range(MAX_TOTAL // K64)]
    assert {each.capacity for each in pipes} == {K64}
    assert Pipe(world.kernel).capacity == MIN_SIZE


def test_fifo_opens_wait_for_each_other(world: IpcWorld, task: Any) -> None:
    path = task.mm.put(b"/fifo")
    assert world.call(task, "mknod", path, 0o10644, 0) == 0
    assert world.open(task, b"/fifo", f.O_WRONLY | f.O_NONBLOCK) == errno("ENXIO")
    assert world.open(task, b"/fifo", f.O_RDONLY) == WAITS
    other = world.process()
    w = world.open(other, b"/fifo", f.O_WRONLY)
    assert w >= 0
    world.settle()
    r = world.results[task]
    assert world.write(other, w, b"hello") == 5
    assert world.read(task, r) == b"hello"
    world.call(other, "close", w)
    assert world.read(task, r) == b""
    nonblocking = world.open(task, b"/fifo", f.O_RDONLY | f.O_NONBLOCK)
    assert world.read(task, nonblocking) == b""
    both = world.open(task, b"/fifo", f.O_RDWR)
    assert world.write(task, both, b"me") == 2
    assert world.read(task, both) == b"me"


def test_size_limit(world: IpcWorld, task: Any) -> None:
    block(task, SIGXFSZ)
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    task.group.rlimits[1] = (10, 10)
    assert world.write(task, fd, b"x" * 8) == 8
    assert world.write(task, fd, b"x" * 8) == 2
    assert world.write(task, fd, b"x") == errno("EFBIG")
    assert pending(task, SIGXFSZ)


def test_regular_file_positions_and_append(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/file", f.O_RDWR | f.O_CREAT)
    assert world.write(task, fd, b"0123456789") == 10
    assert world.read(task, fd) == b""
    at = task.mm.alloc(16)
    assert world.call(task, "pread64", fd, at, 4, 3) == 4
    assert task.mm.read(at, 4) == b"3456"
    assert world.call(task, "pwrite64", fd, task.mm.put(b"AB"), 2, 1) == 2
    assert world.call(task, "lseek", fd, 0, 0) == 0
    assert world.read(task, fd, 4) == b"0AB3"
    again = world.open(task, b"/file", f.O_WRONLY | f.O_APPEND)
    assert world.write(task, again, b"end") == 3
    assert world.read(task, fd) == b"456789end"
    assert world.call(task, "pwritev2", fd, world.iov(task, b"!"), 1, 0, 0, 0x10) == 1
    assert world.read(task, fd) == b"!"
    assert world.call(task, "preadv2", fd, world.iov(task, 4), 1, 0, 0, 0x80) == errno("EOPNOTSUPP")
    assert world.call(task, "preadv2", fd, world.iov(task, 4), 1, -2, 0, 0) == errno("EINVAL")
    assert world.read(task, world.open(task, b"/", f.O_RDONLY)) == errno("EISDIR")


def test_huge_read_of_zeros_takes_turns(world: IpcWorld, task: Any) -> None:
    fd = world.open(task, b"/dev/zero")
    task.mm.data[:] = b"\1" * SIZE
    assert world.call(task, "read", fd, BASE, 3 << 20) == WAITS
    for _ in range(4):
        world.pass_time(1)
    assert world.results[task] == 3 << 20
    assert not any(task.mm.data[: 3 << 20])
    assert task.mm.data[3 << 20]
    assert world.call(task, "read", fd, BASE, 1 << 63) == errno("EFAULT")


def test_devices(world: IpcWorld, task: Any) -> None:
    null = world.open(task, b"/dev/null")
    assert (world.write(task, null, b"gone"), world.read(task, null)) == (4, b"")
    full = world.open(task, b"/dev/full")
    assert world.write(task, full, b"x") == errno("ENOSPC")
    assert world.read(task, full, 3) == b"\0\0\0"
    assert len(world.read(task, world.open(task, b"/dev/urandom", 0), 100)) == 100
    assert world.open(task, b"/dev/tty") == errno("ENXIO")


def test_nonblocking_wait_flag(world: IpcWorld, task: Any) -> None:
    r, _ = world.pipe(task)
    assert world.call(task, "preadv2", r, world.iov(task, 4), 1, -1, 0, 8) == errno("EAGAIN")
    assert world.call(task, "fcntl", r, f.F_SETFL, f.O_NONBLOCK) == 0
    assert world.read(task, r) == errno("EAGAIN")
