"""mount(2) and its kin, limits of a mount, read-only mounts."""

from __future__ import annotations

from typing import Any

import fs_world
import pytest
from fs_world import BUF, World, call, names, open_, read, write

from trapline.abi.errno import (
    EBUSY,
    EEXIST,
    EINVAL,
    ELOOP,
    ENODEV,
    ENOSPC,
    ENOTDIR,
    EPERM,
    EROFS,
    EXDEV,
)
from trapline.abi.fcntl import (
    O_CREAT,
    O_RDONLY,
    O_WRONLY,
    W_OK,
)
from trapline.kernel.fs.ramfs import make_ramfs
from trapline.kernel.fs.tmpfs import TmpFs
from trapline.kernel.syscalls.dir import sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import (
    sys_link,
    sys_rename,
    sys_unlink,
)
from trapline.kernel.syscalls.mount import sys_mount, sys_pivot_root, sys_umount2
from trapline.kernel.syscalls.perm import sys_chmod
from trapline.kernel.syscalls.stat import sys_access
from trapline.kernel.syscalls.statfs import sys_statfs
from trapline.kernel.syscalls.truncate import sys_truncate
from trapline.kernel.syscalls.xattr import sys_setxattr

world, task = fs_world.world, fs_world.task  # fixtures


@pytest.mark.parametrize(("kind", "options", "stays"), [(b"tmpfs", b"noswap", True), (b"tmpfs", b"size=1m", False), (b"ramfs", b"", True)])
def test_files_that_do_not_go_to_swap(world: World, task: Any, kind: bytes, options: bytes, stays: bool) -> None:
    world.vfs.register_filesystem(b"ramfs", make_ramfs)
    call(sys_mkdir, task, b"/m", 0o755)
    call(sys_mount, task, b"none", b"/m", kind, 0, options)
    write(task, b"/m/f", b"x")
    inode = world.vfs.walk(task, -100, b"/m/f").inode
    assert inode.page_cache is not None and inode.page_cache.stays == stays
    if kind == b"tmpfs":
        assert (b"noswap" in inode.sb.options) == stays
        with pytest.raises(EINVAL):
            call(sys_mount, task, b"none", b"/m", b"", 0x20, b"size=1m" if stays else b"noswap")  # MS_REMOUNT


def test_read_only_mounts(world: World, task: Any) -> None:
    call(sys_mkdir, task, b"/m", 0o755)
    call(sys_mount, task, b"none", b"/m", b"tmpfs", 0, b"size=1m")
    write(task, b"/m/f", b"x")
    call(sys_mount, task, b"none", b"/m", b"", 0x20 | 0x1, 0)  # MS_REMOUNT | MS_RDONLY
    for attempt in (
        lambda: open_(task, b"/m/f", O_WRONLY),
        lambda: open_(task, b"/m/g", O_WRONLY | O_CREAT),
        lambda: call(sys_unlink, task, b"/m/f"),
        lambda: call(sys_chmod, task, b"/m/f", 0o600),
        lambda: call(sys_access, task, b"/m/f", W_OK),
        lambda: call(sys_setxattr, task, b"/m/f", b"user.x", b"1", 1, 0),
    ):
        with pytest.raises(EROFS):
            attempt()
    with pytest.raises(EEXIST):
        call(sys_mkdir, task, b"/m/f", 0o755)  # existence comes first
    assert read(task, b"/m/f") == b"x"


def test_the_size_limit_is_enospc_and_a_short_write_before(world: World, task: Any) -> None:
    call(sys_mkdir, task, b"/m", 0o755)
    call(sys_mount, task, b"none", b"/m", b"tmpfs", 0, b"size=16k,nr_inodes=4,mode=700")
    fd = open_(task, b"/m/f", O_WRONLY | O_CREAT)
    file = task.files.get(fd)
    assert file.try_write(b"x" * 20000) == 16384
    with pytest.raises(ENOSPC):
        file.try_write(b"x")
    assert file.try_pwrite(b"y" * 16384, 0) == 16384  # what is there can be changed
    call(sys_statfs, task, b"/m", BUF)
    call(sys_truncate, task, b"/m/f", 0)
    assert file.try_pwrite(b"z" * 8192, 0) == 8192
    write(task, b"/m/2")
    write(task, b"/m/3")
    with pytest.raises(ENOSPC):
        write(task, b"/m/4")
    call(sys_unlink, task, b"/m/3")
    write(task, b"/m/4")


def test_unmounting_gives_the_frames_back(world: World, task: Any) -> None:
    call(sys_mkdir, task, b"/m", 0o755)
    before = world.ram.frames.used_pages
    call(sys_mount, task, b"none", b"/m", b"tmpfs", 0, 0)
    call(sys_mkdir, task, b"/m/d", 0o755)
    write(task, b"/m/d/f", b"x" * 100_000)
    fd = open_(task, b"/m/d/f", O_RDONLY)
    with pytest.raises(EBUSY):
        call(sys_umount2, task, b"/m", 0)
    task.files.close(fd)
    call(sys_umount2, task, b"/m", 0)
    assert world.ram.frames.used_pages == before


def test_links_do_not_cross_mounts(world: World, task: Any) -> None:
    call(sys_mkdir, task, b"/m", 0o755)
    world.vfs.mount(world.vfs.new_mount(TmpFs(world.vfs)), world.vfs.at_root(b"/m"))
    write(task, b"/f")
    with pytest.raises(EXDEV):
        call(sys_link, task, b"/f", b"/m/f")
    with pytest.raises(EXDEV):
        call(sys_rename, task, b"/f", b"/m/f")
    with pytest.raises(EBUSY):
        call(sys_rmdir, task, b"/m")
    with pytest.raises(EBUSY):
        call(sys_rename, task, b"/m", b"/n")




def tree(task: Any) -> None:
    for name in (b"/a", b"/a/in", b"/b", b"/new"):
        call(sys_mkdir, task, name, 0o755)
    write(task, b"/a/in/f", b"f")


MS_BIND, MS_MOVE, MS_REC = 0x1000, 0x2000, 0x4000


def test_bind_mounts_show_a_part_of_the_tree_twice(world: World, task: Any) -> None:
    tree(task)
    call(sys_mount, task, b"none", b"/a/in", b"tmpfs", 0, 0)
    write(task, b"/a/in/g", b"g")
    call(sys_mount, task, b"/a", b"/b", b"", MS_BIND, 0)
    assert names(task, b"/b/in") == [b"f"]  # what is mounted in it comes along only with MS_REC
    call(sys_mount, task, b"/a", b"/b", b"", MS_BIND | MS_REC, 0)
    assert names(task, b"/b/in") == [b"g"]
    write(task, b"/b/in/h", b"h")
    assert read(task, b"/a/in/h") == b"h"
    assert world.vfs.at_root(b"/b/in/h").display() == b"/b/in/h"
    call(sys_umount2, task, b"/b", 2)  # MNT_DETACH
    assert names(task, b"/b/in") == [b"f"]
    with pytest.raises(EINVAL):
        call(sys_umount2, task, b"/b/in", 0)


def test_a_mount_can_be_moved(world: World, task: Any) -> None:
    tree(task)
    call(sys_mount, task, b"none", b"/a", b"tmpfs", 0, 0)
    write(task, b"/a/x", b"x")
    call(sys_mount, task, b"/a", b"/b", b"", MS_MOVE, 0)
    assert names(task, b"/a") == [b"in"] and read(task, b"/b/x") == b"x"
    with pytest.raises(ELOOP):
        call(sys_mount, task, b"/b", b"/b", b"", MS_MOVE, 0)


def test_pivot_root(world: World, task: Any) -> None:
    tree(task)
    call(sys_mount, task, b"none", b"/new", b"tmpfs", 0, 0)
    call(sys_mkdir, task, b"/new/old", 0o755)
    write(task, b"/new/mark", b"m")
    call(sys_pivot_root, task, b"/new", b"/new/old")
    assert read(task, b"/mark") == b"m" and read(task, b"/old/a/in/f") == b"f"
    assert world.vfs.at_root(b"/old/a").display() == b"/old/a"
    call(sys_umount2, task, b"/old", 2)
    assert names(task, b"/old") == []
    with pytest.raises(EBUSY):
        call(sys_pivot_root, task, b"/", b"/old")


def test_mount_needs_a_capability_and_known_types(world: World, task: Any) -> None:
    tree(task)
    user = world.task(1000, 1000)
    with pytest.raises(EPERM):
        call(sys_mount, user, b"none", b"/a", b"tmpfs", 0, 0)
    with pytest.raises(EPERM):
        call(sys_umount2, user, b"/", 0)
    for kind, options, error in ((b"ext4", b"", ENODEV), (b"tmpfs", b"size=lots", EINVAL), (b"tmpfs", b"what=1", EINVAL)):
        with pytest.raises(error):
            call(sys_mount, task, b"none", b"/a", kind, 0, options)
    with pytest.raises(ENOTDIR):
        call(sys_mount, task, b"none", b"/a/in/f", b"tmpfs", 0, 0)


def test_very_many_mounts_on_one_place(world: World, task: Any) -> None:
    tree(task)
    call(sys_mount, task, b"none", b"/a", b"tmpfs", 0, 0)
    call(sys_mkdir, task, b"/a/m", 0o755)
    for _ in range(1500):
        call(sys_mount, task, b"/a", b"/a/m", b"", MS_BIND, 0)
    call(sys_umount2, task, b"/a", 2)
    assert len(world.vfs.mounts) == 1
