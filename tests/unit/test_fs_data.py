"""Data, size, times and attributes of tmpfs files; memfd_create(2)."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import fs_world
import pytest
from fs_world import BUF, World, call, open_, read, stat, write

from trapline.abi.errno import (
    EACCES,
    EEXIST,
    EINVAL,
    EISDIR,
    ENODATA,
    ENOTSUP,
    ENXIO,
    EPERM,
    ERANGE,
    Errno,
)
from trapline.abi.fcntl import (
    AT_FDCWD,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MFD_ALLOW_SEALING,
    O_CREAT,
    O_DIRECTORY,
    O_RDONLY,
    O_RDWR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
)
from trapline.abi.stat import DIRENT64_HEAD, STATX, UTIME_NOW, UTIME_OMIT
from trapline.kernel.fs.holes import next_data, next_hole
from trapline.kernel.mm.page_cache import within
from trapline.kernel.syscalls.dir import sys_getdents64, sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import (
    sys_rename,
    sys_unlink,
)
from trapline.kernel.syscalls.perm import sys_chmod, sys_utimensat
from trapline.kernel.syscalls.stat import sys_readlink, sys_statx
from trapline.kernel.syscalls.truncate import sys_fallocate, sys_ftruncate, sys_lseek, sys_truncate
from trapline.kernel.syscalls.xattr import sys_getxattr, sys_listxattr, sys_removexattr, sys_setxattr

world, task = fs_world.world, fs_world.task  # fixtures


# ---- data


def test_write_and_truncate_change_size_times_and_blocks(task: Any) -> None:
    write(task, b"/f", b"x" * 5000)
    before = stat(task, b"/f")
    assert (before["size"], before["blocks"]) == (5000, 16)
    call(sys_truncate, task, b"/f", 10)
    assert stat(task, b"/f")["size"] == 10 and stat(task, b"/f")["mtime_ns"] > before["mtime_ns"]
    call(sys_truncate, task, b"/f", 20)
    assert read(task, b"/f") == b"x" * 10 + bytes(10)
    for length, name, error in ((-1, b"/f", EINVAL), (0, b"/", EISDIR)):
        with pytest.raises(error):
            call(sys_truncate, task, name, length)
    fd = open_(task, b"/f", O_RDONLY)
    with pytest.raises(EINVAL):
        call(sys_ftruncate, task, fd, 0)


def test_a_sparse_file_costs_nothing(world: World, task: Any) -> None:
    fd = open_(task, b"/f", O_RDWR | O_CREAT)
    call(sys_ftruncate, task, fd, 1 << 62)
    file = task.files.get(fd)
    assert file.try_pread(4, 1 << 61) == bytes(4)
    assert file.try_pwrite(b"end", (1 << 62) - 3) == 3
    assert stat(task, b"/f")["blocks"] == 8


def test_lseek(task: Any) -> None:
    fd = open_(task, b"/f", O_RDWR | O_CREAT)
    task.files.get(fd).try_write(b"0123456789")
    assert call(sys_lseek, task, fd, -4, SEEK_END) == 6
    assert task.files.get(fd).try_read(10) == b"6789"
    assert call(sys_lseek, task, fd, 3, SEEK_DATA) == 3
    assert call(sys_lseek, task, fd, 3, SEEK_HOLE) == 10
    for offset, whence in ((-1, 0), (0, 9), (-11, SEEK_END)):
        with pytest.raises(EINVAL):
            call(sys_lseek, task, fd, offset, whence)
    with pytest.raises(ENXIO):
        call(sys_lseek, task, fd, 10, SEEK_DATA)


class Pages:
    """A page cache as `holes` sees it, which counts how often all of its pages were looked at."""

    def __init__(self, pages: dict[int, int], dirty: set[int], backed: int, size: int) -> None:
        self.pages, self.dirty, self.backed, self.size, self.looks = pages, dirty, backed, size, 0

    def holds(self, index: int) -> bool:
        return index in self.pages

    def held(self) -> tuple[int, ...]:
        self.looks += 1
        return tuple(self.pages)


class Behind:
    """What is behind a cache: nothing but holes."""

    @staticmethod
    def seek_behind(offset: int, hole: bool) -> int | None:
        return offset if hole else None


def test_from_hole_to_hole_without_looking_at_all_pages_each_time() -> None:
    cache: Any = Pages(dict.fromkeys(range(0, 2000, 2), 0), set(), 0, 2000 << 12)
    behind: Any = Behind()
    at, found = 0, []
    with suppress(ENXIO):
        while True:
            at = next_data(behind, cache, at)
            found.append(at >> 12)
            at = next_hole(behind, cache, at)
    assert found == list(range(0, 2000, 2)) and cache.looks <= 1


@pytest.mark.parametrize("seed", range(20))
def test_the_next_data_of_any_cache(seed: int) -> None:
    chance = random.Random(seed)
    pages = dict.fromkeys(chance.sample(range(400), chance.randrange(1, 30)), 0)
    dirty = {each for each in pages if chance.random() < 0.5}
    backed = chance.randrange(400) << 12
    cache: Any = Pages(pages, dirty, backed, 400 << 12)
    behind: Any = Behind()
    here = sorted(each for each in pages if each in dirty or each << 12 >= backed)
    for index in range(400):
        expected = next((each << 12 for each in here if each >= index), None)
        try:
            got: int | None = next_data(behind, cache, index << 12)
        except ENXIO:
            got = None
        assert got == expected


def test_pages_within_a_range_are_found_by_the_fewer() -> None:
    """Many small calls on a large file must not each look at all of it."""

    class Counted(dict[int, int]):
        def __iter__(self) -> Any:
            raise AssertionError("looked at all pages")

    pages = Counted.fromkeys(range(0, 1000, 2), 0)
    assert within(pages, 10, 15) == [10, 12, 14] and within(pages, 2000, 2010) == []
    assert within({5: 0, 7: 0, 1 << 40: 0}, 6, 1 << 41) == [7, 1 << 40]


def test_fallocate(task: Any) -> None:
    fd = open_(task, b"/f", O_RDWR | O_CREAT)
    task.files.get(fd).try_write(b"x" * 12288)
    call(sys_fallocate, task, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096)
    assert read(task, b"/f") == b"x" * 4096 + bytes(4096) + b"x" * 4096
    assert stat(task, b"/f")["blocks"] == 16
    call(sys_fallocate, task, fd, 0, 0, 20000)
    assert stat(task, b"/f")["size"] == 20000
    for mode, offset, length, error in ((0, -1, 1, EINVAL), (0, 0, 0, EINVAL), (0x10, 0, 1, ENOTSUP), (1 << 20, 0, 1, EINVAL)):
        with pytest.raises(error):
            call(sys_fallocate, task, fd, mode, offset, length)


# ---- attributes


def test_stat_and_statx_agree(task: Any) -> None:
    write(task, b"/f", b"abc")
    fields = stat(task, b"/f")
    call(sys_statx, task, AT_FDCWD, b"/f", 0, 0x7FF, BUF)
    got = STATX.unpack(task.mm.read(BUF, STATX.size))
    assert got[3] == fields["nlink"] and got[6] == fields["mode"] and got[7] == fields["ino"] and got[8] == 3


def test_utimensat(world: World, task: Any) -> None:
    write(task, b"/f")
    times = task.mm.put((5).to_bytes(8, "little") + (6).to_bytes(8, "little") + bytes(8) + UTIME_OMIT.to_bytes(8, "little"))
    before = stat(task, b"/f")
    call(sys_utimensat, task, AT_FDCWD, b"/f", times, 0)
    after = stat(task, b"/f")
    assert (after["atime"], after["atime_ns"]) == (5, 6) and after["mtime_ns"] == before["mtime_ns"]
    other = world.task(1000, 1000)
    with pytest.raises(EPERM):
        call(sys_utimensat, other, AT_FDCWD, b"/f", other.mm.put(task.mm.read(times, 32)), 0)
    both_now = (bytes(8) + UTIME_NOW.to_bytes(8, "little")) * 2
    with pytest.raises(EACCES):
        call(sys_utimensat, other, AT_FDCWD, b"/f", other.mm.put(both_now), 0)
    call(sys_chmod, task, b"/f", 0o666)
    call(sys_utimensat, other, AT_FDCWD, b"/f", other.mm.put(both_now), 0)


def test_xattrs(world: World, task: Any) -> None:
    write(task, b"/f")
    call(sys_setxattr, task, b"/f", b"user.a", b"value", 5, 0)
    call(sys_setxattr, task, b"/f", b"trusted.b", b"", 0, 0)
    assert call(sys_getxattr, task, b"/f", b"user.a", 0, 0) == 5
    assert call(sys_getxattr, task, b"/f", b"user.a", BUF, 100) == 5 and task.mm.read(BUF, 5) == b"value"
    with pytest.raises(ERANGE):
        call(sys_getxattr, task, b"/f", b"user.a", BUF, 2)
    with pytest.raises(EEXIST):
        call(sys_setxattr, task, b"/f", b"user.a", b"2", 1, 1)
    with pytest.raises(ENODATA):
        call(sys_setxattr, task, b"/f", b"user.c", b"2", 1, 2)
    for name, error in ((b"user.", EINVAL), (b"nothing", ENOTSUP), (b"system.nosuch", ENOTSUP)):
        with pytest.raises(error):
            call(sys_getxattr, task, b"/f", name, BUF, 100)
    assert call(sys_listxattr, task, b"/f", BUF, 100) == len(b"user.a\0trusted.b\0")
    user = world.task(1000, 1000)
    assert call(sys_listxattr, user, b"/f", BUF, 100) == len(b"user.a\0")
    with pytest.raises(ENODATA):
        call(sys_getxattr, user, b"/f", b"trusted.b", BUF, 100)
    call(sys_removexattr, task, b"/f", b"user.a")
    with pytest.raises(ENODATA):
        call(sys_removexattr, task, b"/f", b"user.a")


def test_getdents_in_small_pieces(task: Any) -> None:
    call(sys_mkdir, task, b"/d", 0o755)
    for number in range(50):
        write(task, b"/d/file%02d" % number)
    fd = open_(task, b"/d", O_RDONLY | O_DIRECTORY)
    found: list[bytes] = []
    while count := call(sys_getdents64, task, fd, BUF, 100):
        data, at = task.mm.read(BUF, count), 0
        while at < count:
            _, _, length, _ = DIRENT64_HEAD.unpack_from(data, at)
            found.append(data[at + DIRENT64_HEAD.size : at + length].rstrip(b"\0"))
            at += length
    assert found[:2] == [b".", b".."] and len(set(found)) == 52
    task.files.get(fd).seek(0, 0)
    call(sys_unlink, task, b"/d/file00")
    assert len(task.files.get(fd).iterate()) == 51
    with pytest.raises(EINVAL):
        call(sys_getdents64, task, fd, BUF, 8)


# ---- inotify(7)


class Watcher:
    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []

    def notify(self, mask: int, name: bytes, cookie: int, unlinked: bool = False) -> None:
        self.seen.append((mask, name))


def test_a_directory_is_told_what_happens_in_it(world: World, task: Any) -> None:
    call(sys_mkdir, task, b"/d", 0o755)
    watcher = world.vfs.at_root(b"/d").inode.watches = Watcher()
    write(task, b"/d/f", b"1")
    call(sys_chmod, task, b"/d/f", 0o600)
    call(sys_rename, task, b"/d/f", b"/d/g")
    call(sys_unlink, task, b"/d/g")
    assert watcher.seen == [
        (0x100, b"f"), (0x20, b"f"), (0x2, b"f"), (0x8, b"f"), (0x4, b"f"), (0x40, b"f"), (0x80, b"g"), (0x200, b"g"),
    ]  # fmt: skip


# ---- memfd


def test_memfd_seals(world: World, task: Any) -> None:
    file = world.vfs.create_memfd(b"box", MFD_ALLOW_SEALING, task.creds)
    assert file.display_path() == b"/memfd:box (deleted)"
    assert file.try_write(b"hello") == 5
    file.inode.seals |= 0x4  # F_SEAL_GROW
    assert file.try_pwrite(b"HELLO!", 0) == 5
    with pytest.raises(EPERM):
        file.inode.setattr(size=10)
    file.inode.seals |= 0x8  # F_SEAL_WRITE
    with pytest.raises(EPERM):
        file.try_pwrite(b"x", 0)
    frames = world.ram.frames.used_pages
    file.put()
    assert world.ram.frames.used_pages == frames - 1


def test_every_failure_is_an_errno(task: Any) -> None:
    """Odd names must never reach a Python exception: anything but an Errno fails here."""
    write(task, b"/f")
    for name in (b"/", b".", b"..", b"/f", b"/f/", b"//", b"/..", b"\xff\xfe", b"/.wh.x"):
        for handler, args in (
            (sys_mkdir, (0o755,)), (sys_rmdir, ()), (sys_unlink, ()), (sys_truncate, (0,)), (sys_readlink, (BUF, 10)),
        ):  # fmt: skip
            with suppress(Errno):
                call(handler, task, name, *args)
            write(task, b"/f")
