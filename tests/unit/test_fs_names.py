"""Making, linking, renaming and removing names, and who may do so."""

from __future__ import annotations

from typing import Any

import fs_world
import pytest
from fs_world import BUF, World, call, names, open_, read, renameat2, stat, write

from trapline.abi.errno import (
    EACCES,
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
)
from trapline.abi.fcntl import (
    AT_FDCWD,
    AT_REMOVEDIR,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    R_OK,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    W_OK,
    X_OK,
)
from trapline.abi.stat import S_IFCHR
from trapline.kernel.syscalls.dir import sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import (
    sys_link,
    sys_rename,
    sys_symlink,
    sys_unlink,
    sys_unlinkat,
)
from trapline.kernel.syscalls.perm import sys_chmod, sys_chown, sys_fchmod, sys_umask
from trapline.kernel.syscalls.stat import sys_access, sys_readlink

world, task = fs_world.world, fs_world.task  # fixtures


def test_mkdir_rmdir_and_their_errors(task: Any) -> None:
    call(sys_mkdir, task, b"/d/", 0o777)
    call(sys_mkdir, task, b"/d/sub", 0o700)
    assert stat(task, b"/d")["mode"] == 0o040755 and stat(task, b"/d")["nlink"] == 3
    for name, error in ((b"/d", EEXIST), (b"/", EEXIST), (b"/d/.", EEXIST), (b"/x/y", ENOENT)):
        with pytest.raises(error):
            call(sys_mkdir, task, name, 0o755)
    for name, error in (
        (b"/d", ENOTEMPTY),
        (b"/d/sub/.", EINVAL),
        (b"/d/sub/..", ENOTEMPTY),
        (b"/", EBUSY),
        (b"/none", ENOENT),
    ):
        with pytest.raises(error):
            call(sys_rmdir, task, name)
    call(sys_rmdir, task, b"/d/sub/")
    assert stat(task, b"/d")["nlink"] == 2
    write(task, b"/d/f")
    with pytest.raises(ENOTDIR):
        call(sys_rmdir, task, b"/d/f")
    with pytest.raises(EISDIR):
        call(sys_unlink, task, b"/d")
    with pytest.raises(ENOTDIR):
        call(sys_unlink, task, b"/d/f/")
    with pytest.raises(ENOTDIR):
        call(sys_unlinkat, task, AT_FDCWD, b"/d/f", AT_REMOVEDIR)
    call(sys_unlinkat, task, AT_FDCWD, b"/d/f", 0)
    call(sys_rmdir, task, b"/d")


def test_an_unlinked_file_lives_while_it_is_open(world: World, task: Any) -> None:
    write(task, b"/f", b"x" * 8192)
    used = world.sb.used_pages
    fd = open_(task, b"/f", O_RDWR)
    call(sys_unlink, task, b"/f")
    file = task.files.get(fd)
    assert file.try_pread(3, 0) == b"xxx" and file.display_path() == b"/f (deleted)"
    frames = world.ram.frames.used_pages
    task.files.close(fd)
    assert world.sb.used_pages == used - 2
    assert world.ram.frames.used_pages == frames - 2


def test_hard_links(task: Any) -> None:
    write(task, b"/f", b"1")
    call(sys_mkdir, task, b"/d", 0o755)
    call(sys_link, task, b"/f", b"/d/g")
    assert stat(task, b"/d/g")["ino"] == stat(task, b"/f")["ino"] and stat(task, b"/f")["nlink"] == 2
    write(task, b"/d/g", b"2")
    assert read(task, b"/f") == b"2"
    call(sys_unlink, task, b"/f")
    assert stat(task, b"/d/g")["nlink"] == 1
    for old, new, error in ((b"/d", b"/e", EPERM), (b"/none", b"/e", ENOENT), (b"/d/g", b"/d/g", EEXIST)):
        with pytest.raises(error):
            call(sys_link, task, old, new)


def test_readlink_truncates_silently(task: Any) -> None:
    call(sys_symlink, task, b"0123456789", b"/l")
    assert call(sys_readlink, task, b"/l", BUF, 4) == 4
    assert task.mm.read(BUF, 4) == b"0123"
    with pytest.raises(EINVAL):
        call(sys_readlink, task, b"/", BUF, 4)


# ---- rename


def test_rename_replaces_and_moves(task: Any) -> None:
    for name in (b"/a", b"/b", b"/a/sub"):
        call(sys_mkdir, task, name, 0o755)
    write(task, b"/a/f", b"f")
    write(task, b"/b/g", b"g")
    call(sys_rename, task, b"/a/f", b"/b/g")
    assert read(task, b"/b/g") == b"f" and names(task, b"/a") == [b"sub"]
    call(sys_rename, task, b"/a/sub", b"/b/sub")
    assert stat(task, b"/a")["nlink"] == 2 and stat(task, b"/b")["nlink"] == 3
    call(sys_mkdir, task, b"/a/empty", 0o755)
    call(sys_rename, task, b"/b/sub", b"/a/empty")
    assert names(task, b"/b") == [b"g"]


def test_rename_errors(task: Any) -> None:
    for name in (b"/a", b"/a/b", b"/full", b"/full/x"):
        call(sys_mkdir, task, name, 0o755)
    write(task, b"/f")
    for old, new, error in (
        (b"/none", b"/x", ENOENT),
        (b"/a", b"/a/b/c", EINVAL),
        (b"/a/b", b"/a", ENOTEMPTY),
        (b"/a", b"/full", ENOTEMPTY),
        (b"/a", b"/f", ENOTDIR),
        (b"/f", b"/a", EISDIR),
        (b"/f", b"/g/", ENOTDIR),
        (b"/f/", b"/g", ENOTDIR),
        (b"/a/.", b"/g", EBUSY),
        (b"/f", b"/..", EBUSY),
    ):
        with pytest.raises(error):
            call(sys_rename, task, old, new)
    call(sys_link, task, b"/f", b"/same")
    call(sys_rename, task, b"/f", b"/same")
    assert stat(task, b"/f")["nlink"] == 2  # two names of one file: nothing happens


def test_renameat2(task: Any) -> None:
    call(sys_mkdir, task, b"/d", 0o755)
    write(task, b"/d/in", b"d")
    write(task, b"/f", b"f")
    with pytest.raises(EEXIST):
        renameat2(task, b"/f", b"/d", RENAME_NOREPLACE)
    renameat2(task, b"/f", b"/d", RENAME_EXCHANGE)
    assert read(task, b"/d") == b"f" and read(task, b"/f/in") == b"d"
    renameat2(task, b"/d", b"/g", RENAME_WHITEOUT)
    assert stat(task, b"/d")["mode"] & 0o170000 == S_IFCHR and stat(task, b"/d")["rdev"] == 0
    with pytest.raises(EINVAL):
        renameat2(task, b"/g", b"/h", RENAME_EXCHANGE | RENAME_NOREPLACE)


# ---- permissions


def test_permission_to_create_delete_and_the_sticky_bit(world: World, task: Any) -> None:
    call(sys_umask, task, 0)
    call(sys_mkdir, task, b"/tmp", 0o1777)
    call(sys_mkdir, task, b"/private", 0o755)
    alice, bob = world.task(1000, 1000), world.task(1001, 1001)
    write(alice, b"/tmp/a")
    with pytest.raises(EACCES):
        write(alice, b"/private/x")
    with pytest.raises(EPERM):
        call(sys_unlink, bob, b"/tmp/a")
    with pytest.raises(EPERM):
        call(sys_rename, bob, b"/tmp/a", b"/tmp/b")
    with pytest.raises(EACCES):
        open_(bob, b"/tmp/a", O_WRONLY)
    assert open_(bob, b"/tmp/a", O_RDONLY) == 0
    call(sys_unlink, alice, b"/tmp/a")


def test_access_asks_for_the_real_user(world: World, task: Any) -> None:
    write(task, b"/f", mode=0o640)
    for mode in (R_OK, W_OK):
        call(sys_access, task, b"/f", mode)
    with pytest.raises(EACCES):
        call(sys_access, task, b"/f", X_OK)  # even root needs one x bit
    setuid = world.task(1000, 1000)
    setuid.creds.fsuid = setuid.creds.euid = 0
    setuid.creds.effective = (1 << 41) - 1
    open_(setuid, b"/f", O_RDONLY)
    with pytest.raises(EACCES):
        call(sys_access, setuid, b"/f", R_OK)


def test_chmod_chown_rules(world: World, task: Any) -> None:
    user = world.task(1000, 1000, groups=(50,))
    write(user, b"/f")
    call(sys_chown, user, b"/f", -1, 50)
    with pytest.raises(EPERM):
        call(sys_chown, user, b"/f", -1, 60)
    with pytest.raises(EPERM):
        call(sys_chown, user, b"/f", 0, -1)
    call(sys_chmod, user, b"/f", 0o4755)
    call(sys_chown, task, b"/f", 0, 60)
    assert stat(task, b"/f")["mode"] == 0o100755  # the set-user-id bit went with the owner
    with pytest.raises(EPERM):
        call(sys_chmod, user, b"/f", 0o777)
    fd = open_(task, b"/f", O_RDONLY)
    call(sys_fchmod, task, fd, 0o600)
    assert stat(task, b"/f")["mode"] == 0o100600


def test_set_group_id_directories_pass_their_group_on(world: World, task: Any) -> None:
    call(sys_mkdir, task, b"/g", 0o777)
    call(sys_chown, task, b"/g", 0, 77)
    call(sys_chmod, task, b"/g", 0o2777)
    user = world.task(1000, 1000)
    write(user, b"/g/f")
    call(sys_mkdir, user, b"/g/d", 0o755)
    assert stat(task, b"/g/f")["gid"] == 77
    assert stat(task, b"/g/d")["mode"] == 0o042755
