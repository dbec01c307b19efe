"""overlay: what shows through, what is copied up, whiteouts, renames of merged directories, and the list of changes."""

from __future__ import annotations

from pathlib import Path as HostPath
from typing import Any

import pytest
from fs_world import World, call, names, read, write

from trapline.abi.errno import EEXIST, ENOENT, ENOTEMPTY
from trapline.abi.fcntl import (
    AT_FDCWD,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    O_CREAT,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
)
from trapline.kernel.drivers.hostfs import Descriptors, HostFs
from trapline.kernel.fs.layer import OPAQUE, PRESENT, WHITEOUT, changes
from trapline.kernel.fs.overlay import OverlayFs
from trapline.kernel.syscalls.dir import sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import sys_link, sys_rename, sys_unlink
from trapline.kernel.syscalls.perm import sys_chmod
from trapline.kernel.syscalls.truncate import sys_truncate
from trapline.kernel.syscalls.xattr import sys_getxattr, sys_setxattr


class Layers(World):
    """An overlay over a host directory, mounted as the root."""

    def __init__(self, lower: HostPath) -> None:
        super().__init__()
        self.fds = Descriptors()
        self.overlay = OverlayFs(self.vfs, HostFs(self.vfs, bytes(lower), self.fds).root)
        self.vfs.mounts.clear()
        self.vfs.mount_root(self.overlay)


@pytest.fixture
def lower(tmp_path: HostPath) -> HostPath:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(b"root:x:0:0\n" * 1000)
    (tmp_path / "etc" / "sub").mkdir()
    (tmp_path / "etc" / "sub" / "deep").write_bytes(b"deep")
    (tmp_path / "link").symlink_to("etc/passwd")
    (tmp_path / "hard1").write_bytes(b"hard")
    (tmp_path / "hard2").hardlink_to(tmp_path / "hard1")
    return tmp_path


@pytest.fixture
def world(lower: HostPath) -> Layers:
    return Layers(lower)


@pytest.fixture
def task(world: Layers) -> Any:
    return world.task()


def snapshot(root: HostPath) -> list[tuple[str, bytes]]:
    return [(str(each), each.read_bytes() if each.is_file() else b"") for each in sorted(root.rglob("*"))]


def ino(world: Layers, name: bytes) -> int:
    return world.vfs.at_root(name).inode.ino


def test_the_lower_tree_shows_through_and_shares_its_page_cache(world: Layers, task: Any) -> None:
    assert read(task, b"/etc/passwd") == read(task, b"/link") == b"root:x:0:0\n" * 1000
    inode: Any = world.vfs.at_root(b"/etc/passwd").inode
    assert inode.page_cache is inode.lower.page_cache and not inode.upper
    assert names(task, b"/etc") == [b"passwd", b"sub"]
    assert world.overlay.used_pages == 0 and world.overlay.used_inodes == 0


def test_writing_copies_up_and_never_touches_the_lower(world: Layers, task: Any, lower: HostPath) -> None:
    before = snapshot(lower)
    number = ino(world, b"/etc/passwd")
    reader = world.vfs.open(task, AT_FDCWD, b"/etc/passwd", O_RDONLY)
    file = world.vfs.open(task, AT_FDCWD, b"/etc/passwd", O_RDWR)
    assert file.try_pwrite(b"ROOT", 0) == 4
    assert read(task, b"/etc/passwd")[:22] == b"ROOT:x:0:0\nroot:x:0:0\n"
    assert reader.try_read(4) == b"ROOT"
    assert ino(world, b"/etc/passwd") == number
    call(sys_chmod, task, b"/etc/sub/deep", 0o600)
    call(sys_unlink, task, b"/hard1")
    call(sys_rename, task, b"/etc", b"/cfg")
    assert snapshot(lower) == before


def test_truncation_then_growth_shows_zeros_not_the_lower(world: Layers, task: Any) -> None:
    call(sys_truncate, task, b"/etc/passwd", 4)
    call(sys_truncate, task, b"/etc/passwd", 5000)
    assert read(task, b"/etc/passwd") == b"root" + bytes(4996)
    file = world.vfs.open(task, AT_FDCWD, b"/etc/sub/deep", O_WRONLY | O_TRUNC)
    file.try_pwrite(b"z", 10)
    assert read(task, b"/etc/sub/deep") == bytes(10) + b"z"


def test_a_hole_punched_into_a_lower_file_stays_a_hole(world: Layers, task: Any) -> None:
    inode = world.vfs.at_root(b"/etc/passwd").inode
    inode.allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 8092)
    data = read(task, b"/etc/passwd")
    assert data[:100] == (b"root:x:0:0\n" * 10)[:100] and data[100:8192] == bytes(8092) and data[8192:] != bytes(len(data) - 8192)


def test_whiteouts(world: Layers, task: Any) -> None:
    call(sys_unlink, task, b"/etc/passwd")
    with pytest.raises(ENOENT):
        read(task, b"/etc/passwd")
    assert names(task, b"/etc") == [b"sub"]
    with pytest.raises(ENOTEMPTY):
        call(sys_rmdir, task, b"/etc")
    call(sys_unlink, task, b"/etc/sub/deep")
    call(sys_rmdir, task, b"/etc/sub")
    call(sys_rmdir, task, b"/etc")
    call(sys_mkdir, task, b"/etc", 0o755)
    assert names(task, b"/etc") == []  # opaque: nothing of the old one comes back
    write(task, b"/etc/passwd", b"new")
    assert read(task, b"/link") == b"new"


def test_a_file_made_over_a_whiteout_and_removed_again(world: Layers, task: Any) -> None:
    for _ in range(2):
        call(sys_unlink, task, b"/hard1")
        write(task, b"/hard1", b"mine")
    call(sys_unlink, task, b"/hard1")
    with pytest.raises(ENOENT):
        read(task, b"/hard1")


def test_hard_links_of_the_lower_stay_together(world: Layers, task: Any) -> None:
    write(task, b"/hard2", b"HARD")
    assert read(task, b"/hard1") == b"HARD"
    call(sys_unlink, task, b"/hard2")
    assert read(task, b"/hard1") == b"HARD" and world.vfs.at_root(b"/hard1").inode.nlink == 1


def test_a_lower_directory_can_be_renamed_and_keeps_its_content(world: Layers, task: Any) -> None:
    write(task, b"/etc/new", b"n")
    call(sys_rename, task, b"/etc", b"/moved")
    assert names(task, b"/moved") == [b"new", b"passwd", b"sub"]
    assert read(task, b"/moved/sub/deep") == b"deep"
    with pytest.raises(ENOENT):
        names(task, b"/etc")
    call(sys_mkdir, task, b"/etc", 0o755)
    assert names(task, b"/etc") == []
    call(sys_rename, task, b"/moved/sub/deep", b"/etc/deep")
    assert read(task, b"/etc/deep") == b"deep" and names(task, b"/moved/sub") == []


def test_links_and_attributes(world: Layers, task: Any) -> None:
    call(sys_link, task, b"/etc/passwd", b"/copy")
    assert read(task, b"/copy") == read(task, b"/etc/passwd")
    write(task, b"/copy", b"!")
    assert read(task, b"/etc/passwd")[:2] == b"!o"
    call(sys_setxattr, task, b"/etc/sub", b"user.k", b"v", 1, 0)
    assert call(sys_getxattr, task, b"/etc/sub", b"user.k", 0, 0) == 1
    with pytest.raises(EEXIST):
        call(sys_mkdir, task, b"/etc/sub", 0o755)


def test_numbers_in_listings_are_those_of_stat(world: Layers, task: Any) -> None:
    write(task, b"/etc/own", b"")
    for name, number, _ in world.vfs.at_root(b"/etc").inode.entries():
        assert number == ino(world, b"/etc/" + name)


def test_forgotten_inodes_come_back_the_same(world: Layers, task: Any) -> None:
    from trapline.kernel.fs.dentry import shrink

    number = ino(world, b"/etc/sub/deep")
    write(task, b"/etc/passwd", b"changed")
    shrink(world.vfs.root.dentry)
    shrink(world.vfs.root.dentry)
    assert ino(world, b"/etc/sub/deep") == number
    assert read(task, b"/etc/passwd")[:7] == b"changed"


def test_the_upper_layer_as_a_list_of_changes(world: Layers, task: Any) -> None:
    write(task, b"/etc/passwd", b"1")
    call(sys_unlink, task, b"/hard1")
    call(sys_rename, task, b"/etc/sub", b"/sub")
    call(sys_unlink, task, b"/link")
    call(sys_mkdir, task, b"/link", 0o755)
    found = {(each.path, each.what) for each in changes(world.overlay)}
    assert found == {
        (b"", PRESENT), (b"etc", PRESENT), (b"etc/passwd", PRESENT), (b"hard1", WHITEOUT), (b"etc/sub", WHITEOUT),
        (b"sub", PRESENT), (b"sub/deep", PRESENT), (b"link", PRESENT),
    }  # fmt: skip
    call(sys_unlink, task, b"/sub/deep")
    call(sys_rmdir, task, b"/sub")
    call(sys_mkdir, task, b"/etc/sub", 0o755)
    found = {(each.path, each.what) for each in changes(world.overlay)}
    assert (b"etc/sub", OPAQUE) in found and (b"sub", PRESENT) not in found


def test_the_limit_counts_only_what_was_written(world: Layers, task: Any) -> None:
    world.overlay.max_pages = 3
    assert len(read(task, b"/etc/passwd")) == 11000
    file = world.vfs.open(task, AT_FDCWD, b"/new", O_RDWR | O_CREAT, 0o644)
    assert file.try_write(b"x" * 100_000) == 3 * 4096
