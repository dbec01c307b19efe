"""The path walk: links, dots, mounts, limits, permissions, and openat2(2)'s rules."""

from __future__ import annotations

from typing import Any

import pytest
from fs_world import World, call, write

from trapline.abi.errno import (
    EACCES,
    EINVAL,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    EXDEV,
)
from trapline.abi.fcntl import (
    AT_FDCWD,
    O_DIRECTORY,
    O_PATH,
    OPEN_HOW,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from trapline.kernel.fs.dentry import shrink
from trapline.kernel.fs.inode import VOLATILE
from trapline.kernel.fs.mount import Path
from trapline.kernel.fs.superblock import SuperBlock
from trapline.kernel.fs.synthetic import SynthDir, SynthFile, SynthLink
from trapline.kernel.fs.tmpfs import TmpFs
from trapline.kernel.syscalls.dir import sys_chdir, sys_chroot, sys_getcwd, sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import sys_rename, sys_symlink
from trapline.kernel.syscalls.open import sys_openat, sys_openat2


@pytest.fixture
def world() -> World:
    world = World()
    task = world.task()
    for name in (b"/a", b"/a/b", b"/a/b/c", b"/home"):
        call(sys_mkdir, task, name, 0o755)
    write(task, b"/a/b/c/file", b"hello")
    return world


def walk(world: World, name: bytes, task: Any = None, follow: bool = True, flags: int = 0) -> Path:
    return world.vfs.walk(task or world.task(), AT_FDCWD, name, follow, flags)


@pytest.mark.parametrize(
    "name", [b"/a/b/c/file", b"a/b/c/file", b"//a///b/./c/../c/file", b"/../../a/b/c/file", b"./a/b/../b/c/file"]
)
def test_the_same_file_under_many_names(world: World, name: bytes) -> None:
    assert walk(world, name).display() == b"/a/b/c/file"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (b"", ENOENT),
        (b"/nothing", ENOENT),
        (b"/nothing/more", ENOENT),
        (b"/a/b/c/file/", ENOTDIR),
        (b"/a/b/c/file/.", ENOTDIR),
        (b"/a/b/c/file/..", ENOTDIR),
        (b"/a/b/c/file/more", ENOTDIR),
        (b"/" + b"n" * 256, ENAMETOOLONG),
        (b"/a" * 2048, ENAMETOOLONG),
    ],
)
def test_errors_of_a_walk(world: World, name: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        walk(world, name)


def test_a_name_of_255_bytes_and_a_path_of_4095_are_legal(world: World) -> None:
    with pytest.raises(ENOENT):
        walk(world, b"/" + b"n" * 255)
    assert walk(world, b"/" * 4094 + b"a").display() == b"/a"


def test_symbolic_links_relative_absolute_and_with_slashes(world: World) -> None:
    task = world.task()
    call(sys_symlink, task, b"../b/c", b"/a/b/rel")
    call(sys_symlink, task, b"/a/b", b"/abs")
    call(sys_symlink, task, b"/a/b/", b"/slash")
    assert walk(world, b"/a/b/rel/file").display() == b"/a/b/c/file"
    assert walk(world, b"/abs/c/file").display() == b"/a/b/c/file"
    assert walk(world, b"/slash").display() == b"/a/b"
    assert walk(world, b"/abs", follow=False).display() == b"/abs"
    assert walk(world, b"/abs/", follow=False).display() == b"/a/b"


def test_forty_links_are_followed_and_the_next_is_eloop(world: World) -> None:
    task = world.task()
    call(sys_symlink, task, b"/a", b"/l0")
    for number in range(1, 41):
        call(sys_symlink, task, b"/l%d" % (number - 1), b"/l%d" % number)
    assert walk(world, b"/l39").display() == b"/a"
    with pytest.raises(ELOOP):
        walk(world, b"/l40")
    call(sys_symlink, task, b"self", b"/self")
    with pytest.raises(ELOOP):
        walk(world, b"/self/x")


def test_search_permission_is_needed_on_every_directory(world: World) -> None:
    user = world.task(1000, 1000)
    world.vfs.at_root(b"/a/b").inode.setattr(mode=0o700)
    with pytest.raises(EACCES):
        walk(world, b"/a/b/c/file", user)
    world.vfs.at_root(b"/a/b").inode.setattr(uid=1000)
    assert walk(world, b"/a/b/c/file", user)
    world.vfs.at_root(b"/a/b").inode.setattr(mode=0o077)  # the owner's bits count, not the others'
    with pytest.raises(EACCES):
        walk(world, b"/a/b/c/file", user)


def test_dot_dot_stops_at_the_root_of_a_chroot(world: World) -> None:
    task = world.task()
    call(sys_chroot, task, b"/a/b")
    call(sys_chdir, task, b"/")
    assert walk(world, b"../../..", task).display() == b"/a/b"
    call(sys_symlink, task, b"/../../a", b"/out")
    with pytest.raises(ENOENT):
        walk(world, b"/out", task)
    call(sys_getcwd, task, 4096, 100)
    assert task.mm.read_cstr(4096, 100) == b"/"


def test_getcwd_follows_a_rename_and_knows_a_removal(world: World) -> None:
    task = world.task()
    call(sys_mkdir, task, b"/a/b/c/d", 0o755)
    call(sys_chdir, task, b"/a/b/c/d")
    call(sys_rename, task, b"/a/b", b"/moved")
    assert call(sys_getcwd, task, 4096, 100) == len(b"/moved/c/d") + 1
    assert task.mm.read_cstr(4096, 100) == b"/moved/c/d"
    call(sys_rmdir, task, b"/moved/c/d")
    with pytest.raises(ENOENT):
        call(sys_getcwd, task, 4096, 100)
    with pytest.raises(ENOENT):
        call(sys_mkdir, task, b"here", 0o755)


def test_mounts_are_crossed_both_ways(world: World) -> None:
    task = world.task()
    sb = TmpFs(world.vfs)
    world.vfs.mount(world.vfs.new_mount(sb), world.vfs.at_root(b"/home"))
    write(task, b"/home/x", b"1")
    assert walk(world, b"/home").inode is sb.root
    assert walk(world, b"/home/../a").display() == b"/a"
    assert walk(world, b"/home/x").display() == b"/home/x"
    with pytest.raises(EXDEV):
        walk(world, b"/home/x", flags=RESOLVE_NO_XDEV)
    world.vfs.umount(walk(world, b"/home").mount)
    with pytest.raises(ENOENT):
        walk(world, b"/home/x")


def test_a_mount_on_a_mount_hides_it(world: World) -> None:
    first, second = TmpFs(world.vfs), TmpFs(world.vfs)
    for sb in (first, second):
        world.vfs.mount(world.vfs.new_mount(sb), world.vfs.at_root(b"/home"))
    assert walk(world, b"/home").inode is second.root
    assert walk(world, b"/home/..").display() == b"/"
    world.vfs.umount(walk(world, b"/home").mount)
    assert walk(world, b"/home").inode is first.root


class Magic(SynthLink):
    __slots__ = ("to",)

    def follow(self, task: Any) -> Path:  # type: ignore[override]
        return self.to  # type: ignore[no-any-return]


def test_magic_links_jump(world: World) -> None:
    sb = SuperBlock(world.vfs, b"proc")
    link = Magic(sb, b"whatever")
    link.to = world.vfs.at_root(b"/a/b")
    sb.root = SynthDir(sb, {b"cwd": link})
    world.vfs.mount(world.vfs.new_mount(sb), world.vfs.at_root(b"/home"))
    assert walk(world, b"/home/cwd/c/file").display() == b"/a/b/c/file"
    assert walk(world, b"/home/cwd", follow=False).inode.readlink() == b"whatever"
    with pytest.raises(ELOOP):
        walk(world, b"/home/cwd/c", flags=RESOLVE_NO_MAGICLINKS)


class Changing(SynthDir):
    volatile = VOLATILE
    __slots__ = ()


def test_names_of_a_volatile_directory_are_asked_for_each_time(world: World) -> None:
    sb = SuperBlock(world.vfs, b"proc")
    sb.root = directory = Changing(sb)
    world.vfs.mount(world.vfs.new_mount(sb), world.vfs.at_root(b"/home"))
    with pytest.raises(ENOENT):
        walk(world, b"/home/1")
    directory.children[b"1"] = SynthFile(sb, lambda: b"one")
    assert world.vfs.read_file(b"/home/1") == b"one"
    del directory.children[b"1"]
    with pytest.raises(ENOENT):
        walk(world, b"/home/1")


def open2(task: Any, name: bytes, resolve: int, flags: int = 0, dirfd: int = AT_FDCWD) -> int:
    result: int = call(sys_openat2, task, dirfd, name, OPEN_HOW.pack(flags, 0, resolve), OPEN_HOW.size)
    return result


def test_openat2_beneath_and_in_root(world: World) -> None:
    task = world.task()
    call(sys_symlink, task, b"/a/b/c", b"/a/b/absolute")
    call(sys_symlink, task, b"../..", b"/a/b/up")
    call(sys_symlink, task, b"/c/file", b"/a/b/inside")
    fd = call(sys_openat, task, AT_FDCWD, b"/a/b", O_PATH | O_DIRECTORY, 0)
    assert open2(task, b"c/../c/file", RESOLVE_BENEATH, dirfd=fd) > fd
    for name in (b"../b", b"/a", b"absolute", b"up", b"c/../.."):
        with pytest.raises(EXDEV):
            open2(task, name, RESOLVE_BENEATH, dirfd=fd)
    assert open2(task, b"inside", RESOLVE_IN_ROOT, dirfd=fd) > fd
    assert open2(task, b"/c/file", RESOLVE_IN_ROOT, dirfd=fd) > fd
    assert open2(task, b"../../../c/file", RESOLVE_IN_ROOT, dirfd=fd) > fd
    assert open2(task, b"up/c/file", RESOLVE_IN_ROOT, dirfd=fd) > fd
    with pytest.raises(ENOENT):
        open2(task, b"absolute", RESOLVE_IN_ROOT, dirfd=fd)
    with pytest.raises(ELOOP):
        open2(task, b"up", RESOLVE_NO_SYMLINKS, dirfd=fd)


def test_openat2_checks_its_structure(world: World) -> None:
    task = world.task()
    for how in ((1 << 40, 0, 0), (0, 0o644, 0), (0, 0, 1 << 20), (0, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT)):
        with pytest.raises(EINVAL):
            call(sys_openat2, task, AT_FDCWD, b"/a", OPEN_HOW.pack(*how), OPEN_HOW.size)
    with pytest.raises(EINVAL):
        call(sys_openat2, task, AT_FDCWD, b"/a", OPEN_HOW.pack(0, 0, 0), 8)


def test_the_dentry_cache_forgets_what_nobody_uses(world: World) -> None:
    held = walk(world, b"/a/b")
    root = world.vfs.root.dentry
    with pytest.raises(ENOENT):
        walk(world, b"/a/none")
    walk(world, b"/a/b/c/file")
    assert shrink(root) >= 2
    shrink(root)
    assert walk(world, b"/a/b").dentry is held.dentry
    assert b"none" not in held.dentry.parent.children
    assert walk(world, b"/a/b/c/file").display() == b"/a/b/c/file"


def test_negative_dentries_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trapline.kernel.fs.vfs.MAX_DENTRIES", 1000)
    world.vfs._dentry_limit = 1000
    task = world.task()
    for number in range(5000):
        with pytest.raises(ENOENT):
            walk(world, b"/a/%d" % number, task)
    assert len(world.vfs.at_root(b"/a").dentry.children) <= 1001
