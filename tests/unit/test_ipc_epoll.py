"""epoll, poll and select."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import ipc_world
from ipc_world import SECOND, WAITS, IpcWorld, errno

from trapline.abi import fcntl as f
from trapline.abi.poll import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLL_EVENT,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLONESHOT,
    POLLERR,
    POLLFD,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
)
from trapline.abi.signal import SIGUSR1
from trapline.abi.time import TIMESPEC, TIMEVAL
from trapline.kernel.ipc.epoll import Epoll
from trapline.kernel.task.signals.send import SigInfo, send_to_task

world, task = ipc_world.world, ipc_world.task  # fixtures

MS = 1_000_000


class Poller:
    """An epoll instance with short names."""

    def __init__(self, world: IpcWorld, task: Any) -> None:
        self.world = world
        self.task = task
        self.fd = world.call(task, "epoll_create1", 0)
        self.buffer = task.mm.alloc(12 * 64)

    def ctl(self, op: int, fd: int, events: int = 0, data: int | None = None) -> Any:
        event = self.task.mm.put(EPOLL_EVENT.pack(events, fd if data is None else data))
        return self.world.call(self.task, "epoll_ctl", self.fd, op, fd, event)

    def add(self, fd: int, events: int = POLLIN) -> None:
        assert self.ctl(EPOLL_CTL_ADD, fd, events) == 0

    def wait(self, timeout: int = 0, most: int = 64, task: Any = None) -> Any:
        result = self.world.call(task or self.task, "epoll_wait", self.fd, self.buffer, most, timeout)
        return result if result == WAITS or result < 0 else self.events(result)

    def events(self, count: int) -> list[tuple[int, int]]:
        raw = self.task.mm.read(self.buffer, 12 * count)
        return [(data, events) for events, data in EPOLL_EVENT.iter_unpack(raw)]


def test_level_triggered_repeats_edge_does_not(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    level, edge = Poller(world, task), Poller(world, task)
    level.add(r)
    edge.add(r, POLLIN | EPOLLET)
    assert (level.wait(), edge.wait()) == ([], [])
    world.write(task, w, b"x")
    assert level.wait() == level.wait() == [(r, POLLIN)]
    assert edge.wait() == [(r, POLLIN)]
    assert edge.wait() == []
    world.write(task, w, b"y")
    assert edge.wait() == [(r, POLLIN)]
    world.read(task, r)
    assert level.wait() == []


def test_one_shot(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    poller = Poller(world, task)
    poller.add(r, POLLIN | EPOLLONESHOT)
    world.write(task, w, b"x")
    assert poller.wait() == [(r, POLLIN)]
    world.write(task, w, b"y")
    assert poller.wait() == []
    assert poller.ctl(EPOLL_CTL_MOD, r, POLLIN | EPOLLONESHOT) == 0
    assert poller.wait() == [(r, POLLIN)]


def test_waiting_is_ended_by_readiness_or_time(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    poller = Poller(world, task)
    poller.add(r)
    assert poller.wait(-1) == WAITS
    other = world.thread(task.group, task.mm)
    world.write(other, w, b"x")
    world.settle()
    assert poller.events(world.results[task]) == [(r, POLLIN)]
    world.read(task, r)
    assert poller.wait(50) == WAITS
    world.pass_time(49 * MS)
    assert task.coro is not None
    world.pass_time(2 * MS)
    assert world.results[task] == 0


def test_signal_ends_the_wait_for_good(world: IpcWorld, task: Any) -> None:
    poller = Poller(world, task)
    assert poller.wait(-1) == WAITS
    handler = task.group.actions.table[SIGUSR1]._replace(handler=0x1000, flags=0x10000000)
    task.group.actions.table[SIGUSR1] = handler
    send_to_task(task, SigInfo(SIGUSR1))
    world.dispatcher.step(task)
    assert world.result(task) == errno("EINTR")
    assert task.restart == 0


def test_two_sleepers_are_woken_for_two_events(world: IpcWorld, task: Any) -> None:
    pairs = [world.pipe(task) for _ in range(2)]
    poller = Poller(world, task)
    for r, _ in pairs:
        poller.add(r, POLLIN | EPOLLET)
    other = world.thread(task.group, task.mm)
    third = world.thread(task.group, task.mm)
    assert poller.wait(-1, most=1) == WAITS
    assert poller.wait(-1, most=1, task=other) == WAITS
    for _, w in pairs:
        world.write(third, w, b"x")
    world.settle()
    assert (world.results[task], world.results[other]) == (1, 1)


def test_closing_removes_and_errors(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    poller = Poller(world, task)
    poller.add(r)
    assert poller.ctl(EPOLL_CTL_ADD, r, POLLIN) == errno("EEXIST")
    assert poller.ctl(EPOLL_CTL_MOD, w, POLLIN) == errno("ENOENT")
    assert poller.ctl(EPOLL_CTL_DEL, w) == errno("ENOENT")
    assert poller.ctl(EPOLL_CTL_ADD, 99, POLLIN) == errno("EBADF")
    assert poller.ctl(EPOLL_CTL_ADD, poller.fd, POLLIN) == errno("EINVAL")
    assert poller.ctl(77, r) == errno("EINVAL")
    regular = world.open(task, b"/f", f.O_RDWR | f.O_CREAT)
    assert poller.ctl(EPOLL_CTL_ADD, regular, POLLIN) == errno("EPERM")
    world.write(task, w, b"x")
    copy = world.call(task, "dup", r)
    world.call(task, "close", r)
    assert poller.wait() == [(r, POLLIN)]  # the open file is still there
    world.call(task, "close", copy)
    assert poller.wait() == []
    assert not task.files.get(poller.fd).interests


def test_exclusive_is_checked(world: IpcWorld, task: Any) -> None:
    r, _ = world.pipe(task)
    poller = Poller(world, task)
    assert poller.ctl(EPOLL_CTL_ADD, r, POLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE) == errno("EINVAL")
    poller.add(r, POLLIN | EPOLLEXCLUSIVE)
    assert poller.ctl(EPOLL_CTL_MOD, r, POLLIN) == errno("EINVAL")
    assert poller.ctl(EPOLL_CTL_DEL, r) == 0


def test_nested(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    inner, outer = Poller(world, task), Poller(world, task)
    inner.add(r)
    outer.add(inner.fd)
    assert inner.ctl(EPOLL_CTL_ADD, outer.fd, POLLIN) == errno("ELOOP")
    assert outer.wait(-1) == WAITS
    other = world.thread(task.group, task.mm)
    world.write(other, w, b"x")
    world.settle()
    assert outer.events(world.results[task]) == [(inner.fd, POLLIN)]
    world.read(task, r)
    assert outer.wait() == []
    chain = [Poller(world, task) for _ in range(6)]
    for below, above in pairwise(chain[:5]):
        above.add(below.fd)
    assert chain[5].ctl(EPOLL_CTL_ADD, chain[4].fd, POLLIN) == errno("ELOOP")


def test_bad_buffer_keeps_the_event(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    poller = Poller(world, task)
    poller.add(r, POLLIN | EPOLLET)
    world.write(task, w, b"x")
    assert world.call(task, "epoll_wait", poller.fd, 16, 4, 0) == errno("EFAULT")
    assert poller.wait() == [(r, POLLIN)]
    assert poller.wait(most=0) == errno("EINVAL")
    assert world.call(task, "epoll_wait", r, poller.buffer, 4, 0) == errno("EINVAL")


def test_hang_up_and_error_need_no_asking(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    poller = Poller(world, task)
    poller.add(r, 0)
    poller.add(w, 0)
    world.call(task, "close", w)
    assert poller.wait() == [(r, POLLHUP)]
    r, w = world.pipe(task)
    poller.add(w, 0)
    world.call(task, "close", r)
    assert (w, POLLERR) in poller.wait()


# ---- poll and select


def pollfds(task: Any, *entries: tuple[int, int]) -> int:
    return int(task.mm.put(b"".join(POLLFD.pack(fd, events, 0) for fd, events in entries)))


def revents(task: Any, address: int, count: int) -> list[int]:
    return [each[2] for each in POLLFD.iter_unpack(task.mm.read(address, 8 * count))]


def test_poll(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    fds = pollfds(task, (r, POLLIN), (w, POLLOUT), (-5, POLLIN), (99, POLLIN))
    assert world.call(task, "poll", fds, 4, 1000) == 2
    assert revents(task, fds, 4) == [0, POLLOUT, 0, POLLNVAL]
    fds = pollfds(task, (r, POLLIN))
    assert world.call(task, "poll", fds, 1, 1000) == WAITS
    other = world.thread(task.group, task.mm)
    world.write(other, w, b"x")
    world.settle()
    assert (world.results[task], revents(task, fds, 1)) == (1, [POLLIN])
    world.read(task, r)
    assert world.call(task, "poll", fds, 1, 10) == WAITS
    world.pass_time(11 * MS)
    assert (world.results[task], revents(task, fds, 1)) == (0, [0])
    assert world.call(task, "poll", 0, 0, 10) == WAITS
    world.pass_time(11 * MS)
    assert world.call(task, "poll", fds, 100_000, 0) == errno("EINVAL")


def test_ppoll_stores_the_time_that_is_left(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    fds = pollfds(task, (r, POLLIN))
    spec = task.mm.put(TIMESPEC.pack(2, 0))
    assert world.call(task, "ppoll", fds, 1, spec, 0, 8) == WAITS
    world.pass_time(SECOND // 2)
    other = world.thread(task.group, task.mm)
    world.write(other, w, b"x")
    world.settle()
    assert world.results[task] == 1
    assert TIMESPEC.unpack(task.mm.read(spec, 16)) == (1, SECOND // 2)
    assert world.call(task, "ppoll", fds, 1, spec, spec, 4) == errno("EINVAL")


def test_select(world: IpcWorld, task: Any) -> None:
    r, w = world.pipe(task)
    reading, writing = task.mm.put((1 << r).to_bytes(8, "little")), task.mm.put((1 << w).to_bytes(8, "little"))
    assert world.call(task, "select", w + 1, reading, writing, 0, 0) == 1
    assert (task.mm.read_u64(reading), task.mm.read_u64(writing)) == (0, 1 << w)
    task.mm.write_u64(reading, 1 << r)
    timeval = task.mm.put(TIMEVAL.pack(3, 0))
    assert world.call(task, "select", r + 1, reading, 0, 0, timeval) == WAITS
    world.pass_time(SECOND)
    other = world.thread(task.group, task.mm)
    world.write(other, w, b"x")
    world.settle()
    assert (world.results[task], task.mm.read_u64(reading)) == (1, 1 << r)
    assert TIMEVAL.unpack(task.mm.read(timeval, 16)) == (2, 0)
    task.mm.write_u64(reading, 1 << 50)
    assert world.call(task, "select", 51, reading, 0, 0, timeval) == errno("EBADF")
    assert world.call(task, "select", -1, reading, 0, 0, timeval) == errno("EINVAL")
    task.mm.write(timeval, TIMEVAL.pack(0, -1))
    assert world.call(task, "select", 0, 0, 0, 0, timeval) == errno("EINVAL")


def test_select_as_sleep(world: IpcWorld, task: Any) -> None:
    timeval = task.mm.put(TIMEVAL.pack(0, 1_500_000))
    assert world.call(task, "select", 0, 0, 0, 0, timeval) == WAITS
    world.pass_time(2 * SECOND)
    assert world.results[task] == 0
    assert TIMEVAL.unpack(task.mm.read(timeval, 16)) == (0, 0)


def test_a_file_that_many_interests_watch_is_let_go_at_once(world: IpcWorld, task: Any) -> None:
    """Forgetting one interest must not cost a look at all the others: a program could make the kernel hang for minutes."""
    reader = task.files.get(world.pipe(task)[0])
    (queue,) = reader.poll_queues()
    epolls = [Epoll(world.kernel) for _ in range(40)]
    for epoll in epolls:
        for fd in range(1000):
            epoll.add(reader, fd, POLLIN, 0, None)
    assert len(reader.on_release) == 1 and len(queue.listeners) == 40_000
    epolls[0].release()
    assert len(queue.listeners) == 39_000
    reader.put()
    assert not queue.listeners and not any(each.interests for each in epolls)
