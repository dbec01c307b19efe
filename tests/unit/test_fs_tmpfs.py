"""tmpfs through the system calls: making, linking, renaming, removing, opening, permissions, limits, attributes."""

from __future__ import annotations

from typing import Any

import pytest
from fs_world import World, call, names, read, write

from trapline.abi.errno import (
    EACCES,
    EBADF,
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    EMFILE,
    ENODATA,
    ENOENT,
    ENOSPC,
    ENOTDIR,
    ENOTEMPTY,
    ENOTSUP,
    ENXIO,
    EPERM,
    ERANGE,
    EROFS,
    EXDEV,
    Errno,
)
from trapline.abi.fcntl import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MFD_ALLOW_SEALING,
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
    R_OK,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    W_OK,
    X_OK,
)
from trapline.abi.stat import DIRENT64_HEAD, S_IFCHR, S_IFIFO, S_IFSOCK, STAT, STATX, UTIME_NOW, UTIME_OMIT
from trapline.kernel.fs.tmpfs import TmpFs
from trapline.kernel.syscalls.dir import sys_getdents64, sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import (
    sys_link,
    sys_linkat,
    sys_mknod,
    sys_rename,
    sys_renameat2,
    sys_symlink,
    sys_unlink,
    sys_unlinkat,
)
from trapline.kernel.syscalls.mount import sys_mount, sys_umount2
from trapline.kernel.syscalls.open import sys_openat
from trapline.kernel.syscalls.perm import sys_chmod, sys_chown, sys_fchmod, sys_umask, sys_utimensat
from trapline.kernel.syscalls.stat import sys_access, sys_newfstatat, sys_readlink, sys_stat, sys_statx
from trapline.kernel.syscalls.statfs import sys_statfs
from trapline.kernel.syscalls.truncate import sys_fallocate, sys_ftruncate, sys_lseek, sys_truncate
from trapline.kernel.syscalls.xattr import sys_getxattr, sys_listxattr, sys_removexattr, sys_setxattr

BUF = 1 << 16


@pytest.fixture
def world() -> World:
    return World(0o777)


@pytest.fixture
def task(world: World) -> Any:
    return world.task()


def stat(task: Any, name: bytes) -> dict[str, int]:
    call(sys_stat, task, name, BUF)
    fields = "dev ino nlink mode uid gid rdev size blksize blocks atime atime_ns mtime mtime_ns ctime ctime_ns".split()
    return dict(zip(fields, STAT.unpack(task.mm.read(BUF, STAT.size)), strict=True))


def open_(task: Any, name: bytes, flags: int, mode: int = 0o644) -> int:
    fd: int = call(sys_openat, task, AT_FDCWD, name, flags, mode)
    return fd


def renameat2(task: Any, old: bytes, new: bytes, flags: int) -> None:
    call(sys_renameat2, task, AT_FDCWD, old, AT_FDCWD, new, flags)


# ---- opening


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


# ---- making and removing


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


def test_writing_takes_the_set_user_id_bit_away(task: Any) -> None:
    write(task, b"/f", b"1", 0o755)
    call(sys_chmod, task, b"/f", 0o6755)
    write(task, b"/f", b"2")
    assert stat(task, b"/f")["mode"] == 0o100755


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
    for name, error in ((b"user.", EINVAL), (b"nothing", ENOTSUP), (b"system.posix_acl_access", ENOTSUP)):
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
    """Odd names must never reach a Python exception."""
    write(task, b"/f")
    for name in (b"/", b".", b"..", b"/f", b"/f/", b"//", b"/..", b"\xff\xfe", b"/.wh.x"):
        for handler, args in (
            (sys_mkdir, (0o755,)), (sys_rmdir, ()), (sys_unlink, ()), (sys_truncate, (0,)), (sys_readlink, (BUF, 10)),
        ):  # fmt: skip
            try:
                call(handler, task, name, *args)
            except Errno:
                pass
            write(task, b"/f")
