"""Mounting by descriptor: configuring a file system, detached trees, attributes; what holds a file system, and when it goes."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from fs_world import World, call, names, read, write

from trapline.abi import mount as m
from trapline.abi.errno import EBUSY, EINVAL, ELOOP, ENODATA, ENOSPC, EPERM, EROFS
from trapline.abi.fcntl import AT_EMPTY_PATH, AT_FDCWD
from trapline.kernel.fs import tree
from trapline.kernel.syscalls.dir import sys_mkdir
from trapline.kernel.syscalls.fd import sys_close
from trapline.kernel.syscalls.mount import sys_mount, sys_umount2
from trapline.kernel.syscalls.mount_fd import (
    sys_fsconfig,
    sys_fsmount,
    sys_fsopen,
    sys_fspick,
    sys_mount_setattr,
    sys_move_mount,
    sys_open_tree,
)


@pytest.fixture
def world() -> World:
    world = World(0o777)
    for name in (b"/a", b"/b"):
        call(sys_mkdir, world.task(), name, 0o755)
    return world


@pytest.fixture
def task(world: World) -> Any:
    return world.task()


def config(task: Any, fd: int, command: int, key: bytes | int = 0, value: bytes | int = 0, aux: int = 0) -> Any:
    return call(sys_fsconfig, task, fd, command, key, value, aux)


def configured(task: Any, **options: bytes) -> Any:
    fd = call(sys_fsopen, task, b"tmpfs", 0)
    for name, value in options.items():
        config(task, fd, m.FSCONFIG_SET_STRING, name.encode(), value)
    config(task, fd, m.FSCONFIG_CMD_CREATE)
    return fd


def attach(task: Any, fd: int, name: bytes) -> Any:
    return call(sys_move_mount, task, fd, b"", AT_FDCWD, name, m.MOVE_MOUNT_F_EMPTY_PATH)


def setattr_(task: Any, name: bytes, flags: int, *words: int) -> Any:
    raw = struct.pack("<4Q", *words, *[0] * (4 - len(words)))
    return call(sys_mount_setattr, task, AT_FDCWD, name, flags, task.mm.put(raw), len(raw))


def test_a_configured_file_system_is_mounted(world: World, task: Any) -> None:
    mount = call(sys_fsmount, task, configured(task, size=b"1m", mode=b"700"), 0, m.MOUNT_ATTR_NOSUID)
    assert list(world.vfs.detached) and len(world.vfs.mounts) == 1
    attach(task, mount, b"/a")
    at = world.vfs.at_root(b"/a")
    assert at.inode.mode & 0o7777 == 0o700 and at.mount.sb.statfs().blocks == 256
    assert at.mount.flags == m.MS_NOSUID | m.MS_RELATIME and not world.vfs.detached
    call(sys_close, task, mount)
    write(task, b"/a/f", b"x")
    assert read(task, b"/a/f") == b"x"


def test_messages_say_what_was_wrong(world: World, task: Any) -> None:
    fd = call(sys_fsopen, task, b"tmpfs", 0)
    file = task.files.get(fd)
    with pytest.raises(EINVAL):
        config(task, fd, m.FSCONFIG_SET_STRING, b"colour", b"red")
    assert file.try_read(100) == b"e tmpfs: Unknown parameter 'colour'\n"
    config(task, fd, m.FSCONFIG_SET_STRING, b"size", b"huge")
    with pytest.raises(EINVAL):
        config(task, fd, m.FSCONFIG_CMD_CREATE)
    assert file.try_read(100).startswith(b"e tmpfs: ")
    with pytest.raises(ENODATA):
        file.try_read(100)
    with pytest.raises(EBUSY):  # it failed for good
        config(task, fd, m.FSCONFIG_SET_STRING, b"size", b"1m")


def test_what_nobody_attached_goes_with_its_descriptor(world: World, task: Any) -> None:
    inodes = world.sb.used_inodes
    mount = call(sys_fsmount, task, configured(task), 0, 0)
    sb = task.files.get_any(mount).path.mount.sb
    call(sys_close, task, mount)
    assert not world.vfs.detached and not hasattr(sb, "root") and world.sb.used_inodes == inodes
    never = configured(task)
    sb = task.files.get(never).sb
    call(sys_close, task, never)
    assert not hasattr(sb, "root")


def test_a_copied_tree_holds_its_file_systems(world: World, task: Any) -> None:
    call(sys_mount, task, b"none", b"/a", b"tmpfs", 0, 0)
    call(sys_mkdir, task, b"/a/in", 0o755)
    call(sys_mount, task, b"none", b"/a/in", b"tmpfs", 0, 0)
    write(task, b"/a/in/f", b"deep")
    alone = call(sys_open_tree, task, AT_FDCWD, b"/a", m.OPEN_TREE_CLONE)
    both = call(sys_open_tree, task, AT_FDCWD, b"/a", m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
    call(sys_umount2, task, b"/a", m.MNT_DETACH)
    assert names(task, b"/a") == []
    attach(task, both, b"/b")
    assert read(task, b"/b/in/f") == b"deep"
    attach(task, alone, b"/a")
    assert names(task, b"/a/in") == []
    with pytest.raises(ELOOP):
        call(sys_move_mount, task, AT_FDCWD, b"/b", AT_FDCWD, b"/b/in", 0)


def test_attributes_of_a_tree_of_mounts(world: World, task: Any) -> None:
    call(sys_mount, task, b"none", b"/a", b"tmpfs", 0, 0)
    call(sys_mkdir, task, b"/a/in", 0o755)
    call(sys_mount, task, b"none", b"/a/in", b"tmpfs", 0, 0)
    setattr_(task, b"/a", m.AT_RECURSIVE, m.MOUNT_ATTR_RDONLY)
    for name in (b"/a/f", b"/a/in/f"):
        with pytest.raises(EROFS):
            write(task, name, b"")
    setattr_(task, b"/a", 0, m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_ATIME)
    write(task, b"/a/f", b"")
    assert world.vfs.at_root(b"/a").mount.flags == m.MS_NOATIME
    for words in ((m.MOUNT_ATTR_NOATIME,), (0, m.MOUNT_ATTR_NOATIME), (1 << 40,), (0, 0, m.MS_SHARED | m.MS_SLAVE)):
        with pytest.raises(EINVAL):
            setattr_(task, b"/a", 0, *words)
    with pytest.raises(EINVAL):
        setattr_(task, b"/b", 0, m.MOUNT_ATTR_RDONLY)


def test_an_instance_in_use_is_changed(world: World, task: Any) -> None:
    call(sys_mount, task, b"none", b"/a", b"tmpfs", 0, b"size=16k")
    write(task, b"/a/f", b"x" * 16384)
    pick = call(sys_fspick, task, AT_FDCWD, b"/a", 0)
    config(task, pick, m.FSCONFIG_SET_STRING, b"size", b"8k")
    with pytest.raises(EINVAL):
        config(task, pick, m.FSCONFIG_CMD_RECONFIGURE)
    config(task, pick, m.FSCONFIG_SET_STRING, b"size", b"32k")
    config(task, pick, m.FSCONFIG_SET_FLAG, b"ro")
    config(task, pick, m.FSCONFIG_CMD_RECONFIGURE)
    assert world.vfs.at_root(b"/a").mount.sb.statfs().blocks == 8
    with pytest.raises(EROFS):
        write(task, b"/a/g", b"")


def test_mounts_are_counted_wherever_they_are(world: World, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_MOUNTS", 3)
    call(sys_mount, task, b"none", b"/a", b"tmpfs", 0, 0)
    call(sys_open_tree, task, AT_FDCWD, b"/a", m.OPEN_TREE_CLONE)
    with pytest.raises(ENOSPC):
        call(sys_open_tree, task, AT_FDCWD, b"/a", m.OPEN_TREE_CLONE)
    with pytest.raises(ENOSPC):
        call(sys_mount, task, b"none", b"/b", b"tmpfs", 0, 0)


def test_only_the_privileged_may(world: World) -> None:
    task = world.task(1000, 1000)
    for attempt in (
        lambda: call(sys_fsopen, task, b"tmpfs", 0),
        lambda: call(sys_fspick, task, AT_FDCWD, b"/", 0),
        lambda: call(sys_open_tree, task, AT_FDCWD, b"/a", m.OPEN_TREE_CLONE),
        lambda: call(sys_move_mount, task, AT_FDCWD, b"/a", AT_FDCWD, b"/b", 0),
        lambda: setattr_(task, b"/a", 0, m.MOUNT_ATTR_RDONLY),
    ):
        with pytest.raises(EPERM):
            attempt()
    assert call(sys_open_tree, task, AT_FDCWD, b"/a", AT_EMPTY_PATH) >= 0
