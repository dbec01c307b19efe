"""The kernel log. syslog(2): as it grows, and as a whole since it was last cleared; /dev/kmsg: record by record."""

from __future__ import annotations

import pytest
from little_world import BASE, WAITS, World, make_world

from trapline.abi import errno as e
from trapline.abi.fcntl import O_RDWR, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_SET
from trapline.abi.poll import POLL_IN, POLLERR, POLLPRI
from trapline.kernel.core import LOG_LINES
from trapline.kernel.drivers.kmsg import KmsgFile
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


# ---- /dev/kmsg


class NoNode:
    mode = 0o20644


@pytest.fixture
def device(world: World) -> KmsgFile:
    return KmsgFile(world.kernel, NoNode(), O_RDWR, None)  # type: ignore[arg-type]


def text_of(record: bytes | None) -> tuple[int, int, bytes]:
    """(priority, number, text) of a record."""
    assert record is not None and record.endswith(b"\n")
    head, _, text = record.partition(b";")
    priority, number, _, flag = head.split(b",")
    assert flag == b"-"
    return int(priority), int(number), text[:-1]


def test_a_record_is_read_at_a_time_and_then_the_reader_waits(world: World, device: KmsgFile) -> None:
    assert device.try_read(ROOM) is None and device.poll() == 0
    world.kernel.log("one")
    world.kernel.log("tab\t, back\\slash, \N{LATIN SMALL LETTER A WITH DIAERESIS}")
    assert device.poll() == POLL_IN
    with pytest.raises(e.EINVAL):
        device.try_read(5)
    assert text_of(device.try_read(ROOM)) == (6, 0, b"one")
    assert text_of(device.try_read(ROOM)) == (6, 1, rb"tab\x09, back\x5cslash, \xc3\xa4")
    assert device.try_read(ROOM) is None


@pytest.mark.parametrize(
    ("written", "priority", "text"),
    [
        (b"hello\n", 12, b"hello"), (b"<3>three", 11, b"three"), (b"<30>daemon", 30, b"daemon"), (b"<>none", 8, b"none"),
        (b"<-1>no number", 12, b"<-1>no number"), (b"", 12, b""), (b"<" + b"9" * 1000 + b">x", 2047, b"x"), (b"<5", 12, b"<5"),
    ],
)  # fmt: skip
def test_what_is_written_is_never_the_kernels(device: KmsgFile, written: bytes, priority: int, text: bytes) -> None:
    assert device.try_write(written) == len(written)
    assert text_of(device.try_read(ROOM)) == (priority, 0, text)


def test_a_record_that_is_too_long(world: World, device: KmsgFile) -> None:
    with pytest.raises(e.EINVAL):
        device.try_write(b"x" * 1025)
    assert not world.kernel.log_lines


def test_a_reader_that_is_too_slow_is_told_so(world: World, device: KmsgFile) -> None:
    for number in range(LOG_LINES + 2):
        world.kernel.log(f"line {number}")
    assert device.poll() == POLL_IN | POLLERR | POLLPRI
    with pytest.raises(e.EPIPE):
        device.try_read(ROOM)
    assert text_of(device.try_read(ROOM)) == (6, 2, b"line 2")


def test_where_a_reader_can_go(world: World, root: Task, device: KmsgFile) -> None:
    world.kernel.log("one")
    world.call(root, "syslog", k.CLEAR, 0, 0)
    world.kernel.log("two")
    for whence, expected in ((SEEK_END, None), (SEEK_DATA, (6, 1, b"two")), (SEEK_SET, (6, 0, b"one"))):
        assert device.seek(0, whence) == 0
        record = device.try_read(ROOM)
        assert (record and text_of(record)) == expected
    with pytest.raises(e.EINVAL):
        device.seek(0, SEEK_CUR)
    with pytest.raises(e.ESPIPE):
        device.seek(1, SEEK_SET)
