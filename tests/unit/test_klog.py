"""syslog(2): reading the kernel log as it grows, and as a whole since it was last cleared."""

from __future__ import annotations

import pytest
from little_world import BASE, WAITS, World, make_world

from trapline.abi import errno as e
from trapline.kernel.core import LOG_LINES
from trapline.kernel.syscalls import klog as k
from trapline.kernel.task.task import Task

ROOM = 4096


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


@pytest.fixture
def root(world: World) -> Task:
    return world.process(uid=0)


def read(world: World, task: Task, what: int, length: int = ROOM) -> str:
    count = world.call(task, "syslog", what, BASE, length)
    return task.mm.read(BASE, count).decode()


def lines(text: str) -> list[str]:
    return [each.partition("] ")[2] for each in text.splitlines()]


def test_all_lines_until_they_are_cleared(world: World, root: Task) -> None:
    world.kernel.log("one")
    world.kernel.log("two")
    assert lines(read(world, root, k.READ_ALL)) == ["one", "two"]
    assert lines(read(world, root, k.READ_CLEAR)) == ["one", "two"]
    world.kernel.log("three")
    assert lines(read(world, root, k.READ_ALL)) == ["three"]
    assert world.call(root, "syslog", k.CLEAR, 0, 0) == 0
    assert read(world, root, k.READ_ALL) == ""


def test_the_last_whole_lines_that_fit(world: World, root: Task) -> None:
    for each in ("one", "two", "three"):
        world.kernel.log(each)
    whole = read(world, root, k.READ_ALL)
    last = whole.splitlines(keepends=True)[-1]
    assert read(world, root, k.READ_ALL, len(last)) == last
    assert read(world, root, k.READ_ALL, len(last) + 5) == last
    assert read(world, root, k.READ_ALL, len(last) - 1) == ""


def test_reading_as_it_grows_waits_and_takes_parts_of_lines(world: World, root: Task) -> None:
    assert world.call(root, "syslog", k.READ, BASE, ROOM) == WAITS
    world.kernel.log("one")
    world.settle()
    assert lines(root.mm.read(BASE, world.results[root]).decode()) == ["one"]
    world.kernel.log("two")
    whole = read(world, root, k.READ_ALL).splitlines(keepends=True)[-1]
    assert world.call(root, "syslog", k.SIZE_UNREAD, 0, 0) == len(whole)
    assert read(world, root, k.READ, 4) == whole[:4]
    assert world.call(root, "syslog", k.SIZE_UNREAD, 0, 0) == len(whole) - 4
    assert read(world, root, k.READ, 2) + read(world, root, k.READ) == whole[4:]
    assert world.call(root, "syslog", k.SIZE_UNREAD, 0, 0) == 0


def test_lines_that_were_dropped_before_they_were_read(world: World, root: Task) -> None:
    world.kernel.log("lost")
    read(world, root, k.READ, 3)
    for number in range(LOG_LINES):
        world.kernel.log(f"line {number}")
    assert lines(read(world, root, k.READ, 40))[0] == "line 0"


def test_who_may(world: World, root: Task) -> None:
    world.kernel.log("one")
    user = world.process(uid=1000)
    assert lines(read(world, user, k.READ_ALL)) == ["one"]
    assert world.call(user, "syslog", k.SIZE_BUFFER, 0, 0) == k.BUFFER_SIZE
    for what in (k.READ, k.READ_CLEAR, k.CLEAR, k.SIZE_UNREAD):
        assert world.call(user, "syslog", what, BASE, ROOM) == -e.EPERM.number


@pytest.mark.parametrize(
    ("what", "address", "length"),
    [
        (k.READ, 0, 5), (k.READ_ALL, 0, 5), (k.READ_ALL, BASE, -1), (k.CONSOLE_LEVEL, 0, 0), (k.CONSOLE_LEVEL, 0, 9), (11, 0, 0),
        (-1, 0, 0),
    ],
)
def test_arguments_that_make_no_sense(world: World, root: Task, what: int, address: int, length: int) -> None:
    assert world.call(root, "syslog", what, address, length) == -e.EINVAL.number
