"""Opening: flags, descriptors, O_PATH, O_TMPFILE, device nodes."""

from __future__ import annotations

from typing import Any

import fs_world
import pytest
from fs_world import BUF, World, call, names, open_, read, stat, write

from trapline.abi.errno import (
    EBADF,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    EMFILE,
    ENOENT,
    ENOTDIR,
    ENXIO,
)
from trapline.abi.fcntl import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
)
from trapline.abi.stat import S_IFCHR, S_IFIFO, S_IFSOCK, STAT
from trapline.kernel.fs.memory import MemFile
from trapline.kernel.syscalls.dir import sys_mkdir
from trapline.kernel.syscalls.link import (
    sys_linkat,
    sys_mknod,
    sys_symlink,
)
from trapline.kernel.syscalls.stat import sys_newfstatat

world, task = fs_world.world, fs_world.task  # fixtures


def test_open_create_exclusive_truncate_append(task: Any) -> None:
    fd = open_(task, b"/f", O_WRONLY | O_CREAT | O_EXCL, 0o666)
    assert task.files.get(fd).try_write(b"hello") == 5
    assert stat(task, b"/f")["mode"] == 0o100644
    with pytest.raises(EEXIST):
        open_(task, b"/f", O_WRONLY | O_CREAT | O_EXCL)
    fd = open_(task, b"/f", O_WRONLY | O_APPEND)
    task.files.get(fd).try_write(b" world")
    assert read(task, b"/f") == b"hello world"
    fd = open_(task, b"/f", O_RDWR | O_TRUNC)
    assert task.files.get(fd).try_read(10) == b""
    assert stat(task, b"/f")["size"] == 0


def test_open_errors(task: Any) -> None:
    call(sys_mkdir, task, b"/d", 0o755)
    call(sys_symlink, task, b"/nowhere", b"/dangling")
    write(task, b"/f")
    for name, flags, error in (
        (b"/none", O_RDONLY, ENOENT),
        (b"/d", O_WRONLY, EISDIR),
        (b"/d", O_RDONLY | O_CREAT, EISDIR),
        (b"/new/", O_WRONLY | O_CREAT, EISDIR),
        (b"/f", O_RDONLY | O_DIRECTORY, ENOTDIR),
        (b"/f/", O_RDONLY, ENOTDIR),
        (b"/dangling", O_RDONLY, ENOENT),
        (b"/dangling", O_RDONLY | O_NOFOLLOW, ELOOP),
        (b"/dangling", O_WRONLY | O_CREAT | O_EXCL, EEXIST),
        (b"/d", O_CREAT | O_DIRECTORY, EINVAL),
    ):
        with pytest.raises(error):
            open_(task, name, flags)


def test_creating_through_a_dangling_link_makes_its_target(task: Any) -> None:
    call(sys_symlink, task, b"made", b"/link")
    open_(task, b"/link", O_WRONLY | O_CREAT)
    assert stat(task, b"/made")["mode"] == 0o100644
    call(sys_symlink, task, b"loop", b"/loop")
    with pytest.raises(ELOOP):
        open_(task, b"/loop", O_WRONLY | O_CREAT)


def test_descriptors_are_the_lowest_free_and_bounded(task: Any) -> None:
    write(task, b"/f")
    assert [open_(task, b"/f", O_RDONLY) for _ in range(4)] == [0, 1, 2, 3]
    task.files.close(1)
    assert open_(task, b"/f", O_RDONLY | O_CLOEXEC) == 1
    assert task.files.get_cloexec(1) and not task.files.get_cloexec(2)
    child = task.files.fork()
    task.files.close_on_exec()
    assert task.files.fds() == [0, 2, 3] and child.fds() == [0, 1, 2, 3]
    for _ in range(61):
        open_(task, b"/f", O_RDONLY)
    with pytest.raises(EMFILE):
        open_(task, b"/g", O_WRONLY | O_CREAT)
    with pytest.raises(ENOENT):
        stat(task, b"/g")  # the failed call made nothing


def test_o_path_descriptors_stand_for_a_place_only(task: Any) -> None:
    write(task, b"/f")
    call(sys_symlink, task, b"f", b"/l")
    fd = open_(task, b"/l", O_PATH | O_NOFOLLOW)
    with pytest.raises(EBADF):
        task.files.get(fd)
    assert call(sys_newfstatat, task, fd, b"", BUF, AT_EMPTY_PATH) == 0
    assert STAT.unpack(task.mm.read(BUF, STAT.size))[3] == 0o120777


def test_tmpfile_can_be_linked_once(task: Any) -> None:
    call(sys_mkdir, task, b"/d", 0o755)
    fd = open_(task, b"/d", O_TMPFILE | O_RDWR)
    file = task.files.get(fd)
    file.try_write(b"x")
    assert names(task, b"/d") == [] and file.inode.nlink == 0
    call(sys_linkat, task, fd, b"", AT_FDCWD, b"/d/named", AT_EMPTY_PATH | AT_SYMLINK_FOLLOW)
    assert read(task, b"/d/named") == b"x"
    hidden = open_(task, b"/d", O_TMPFILE | O_RDWR | O_EXCL)
    with pytest.raises(ENOENT):
        call(sys_linkat, task, hidden, b"", AT_FDCWD, b"/d/other", AT_EMPTY_PATH)
    with pytest.raises(EINVAL):
        open_(task, b"/d", O_TMPFILE | O_RDONLY)


def test_special_nodes_without_a_driver_are_enxio(task: Any) -> None:
    call(sys_mknod, task, b"/s", S_IFSOCK | 0o600, 0)
    call(sys_mknod, task, b"/c", S_IFCHR | 0o600, 0x123)
    call(sys_mknod, task, b"/p", S_IFIFO | 0o600, 0)
    assert stat(task, b"/c")["rdev"] == 0x123
    for name in (b"/s", b"/c"):
        with pytest.raises(ENXIO):
            open_(task, name, O_RDONLY)


def test_truncating_what_keeps_its_mode_changes_no_mode(world: World, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of /proc/sys refuse every change of theirs: `echo 1 > /proc/sys/...` said EPERM."""
    write(task, b"/f", b"x")
    changes: list[dict[str, Any]] = []
    monkeypatch.setattr(MemFile, "setattr", lambda self, **given: changes.append(given))
    open_(task, b"/f", O_WRONLY | O_TRUNC)
    assert changes == [{"size": 0, "mode": None}]
