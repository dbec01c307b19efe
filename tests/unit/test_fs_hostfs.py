"""The host file system driver: it never leaves its directory, reads lazily, and writes through only where it may."""

from __future__ import annotations

import os
from pathlib import Path as HostPath
from typing import Any

import pytest
from fs_world import World, call, names, read, write

from trapline.abi.errno import EEXIST, ENODATA, ENOENT, ENOTEMPTY, ENOTSUP, ENXIO, EPERM, EROFS, ESTALE, Errno
from trapline.abi.fcntl import (
    AT_FDCWD,
    O_APPEND,
    O_CREAT,
    O_DSYNC,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_SYNC,
    O_TRUNC,
    O_WRONLY,
    SEEK_DATA,
    SEEK_HOLE,
)
from trapline.kernel.drivers.hostfs import Descriptors, HostFs
from trapline.kernel.fs import namei
from trapline.kernel.ipc import pipe  # noqa: F401 - opens FIFOs
from trapline.kernel.syscalls.dir import sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import sys_link, sys_mknod, sys_rename, sys_symlink, sys_unlink
from trapline.kernel.syscalls.perm import sys_chmod, sys_utimensat
from trapline.kernel.syscalls.stat import make_stat
from trapline.kernel.syscalls.truncate import sys_truncate


class Bound(World):
    """A host directory mounted at /h."""

    def __init__(self, path: HostPath, *, read_only: bool = True, public: bool = False, limit: int = 96) -> None:
        super().__init__()
        self.fds = Descriptors(limit)
        self.host = HostFs(self.vfs, bytes(path), self.fds, read_only=read_only, public=public)
        self.vfs.mount(self.vfs.new_mount(self.host), self.vfs.makedirs(b"/h"))


@pytest.fixture
def tree(tmp_path: HostPath) -> HostPath:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_text("content")
    (root / "big").write_bytes(bytes(range(256)) * 1000)
    return root


def test_reading_a_tree(tree: HostPath) -> None:
    world = Bound(tree)
    task = world.task()
    assert read(task, b"/h/a/b/file") == b"content"
    assert read(task, b"/h/big") == bytes(range(256)) * 1000
    assert names(task, b"/h") == [b"a", b"big"]
    st = os.stat(tree / "big")
    inode = world.vfs.at_root(b"/h/big").inode
    assert (inode.size, inode.mode, inode.mtime_ns, inode.ino) == (st.st_size, st.st_mode, st.st_mtime_ns, st.st_ino)


def test_host_links_are_resolved_inside_the_guest_tree(tree: HostPath) -> None:
    (tree / "abs").symlink_to("/outside/secret")
    (tree / "up").symlink_to("../outside/secret")
    (tree / "far").symlink_to("../../../../../../../../etc/passwd")
    (tree / "dir").symlink_to("../outside")
    world = Bound(tree)
    task = world.task()
    for name in (b"/h/abs", b"/h/up", b"/h/far", b"/h/dir/secret", b"/h/dir/../a/b/file"):
        with pytest.raises(ENOENT):
            read(task, name)
    world.vfs.makedirs(b"/outside")
    write(task, b"/outside/secret", b"the guest's own")
    assert read(task, b"/h/abs") == read(task, b"/h/up") == b"the guest's own"


@pytest.mark.parametrize("read_only", [True, False])
def test_a_directory_exchanged_for_a_link_leads_nowhere(tree: HostPath, read_only: bool) -> None:
    (tree / "a" / "b" / "secret").write_text("harmless")
    world = Bound(tree, read_only=read_only)
    task = world.task()
    inode = world.vfs.at_root(b"/h/a/b/secret").inode
    world.fds.close()
    (tree / "a" / "b").rename(tree / "moved")
    (tree / "a" / "b").symlink_to(tree.parent / "outside")
    with pytest.raises(Errno):
        inode.cache()
    with pytest.raises(Errno) as caught:
        read(task, b"/h/a/b/secret")
    assert caught.type is not EEXIST


def test_a_file_exchanged_for_a_link_or_another_file_is_estale(tree: HostPath) -> None:
    world = Bound(tree)
    task = world.task()
    world.vfs.at_root(b"/h/a/b/file")
    (tree / "a" / "b" / "other").write_text("other")  # now, so that it cannot get the inode number of the old one
    (tree / "a" / "b" / "file").unlink()
    (tree / "a" / "b" / "file").symlink_to(tree.parent / "outside" / "secret")
    with pytest.raises(Errno):
        read(task, b"/h/a/b/file")
    os.rename(tree / "a" / "b" / "other", tree / "a" / "b" / "file")
    with pytest.raises(ESTALE):
        read(task, b"/h/a/b/file")


def test_fifos_devices_and_sockets_of_the_host_cannot_be_opened(tree: HostPath) -> None:
    os.mkfifo(tree / "fifo")
    world = Bound(tree)
    task = world.task()
    assert world.vfs.at_root(b"/h/fifo").inode.mode & 0o170000 == 0o010000
    for flags in (O_RDONLY, O_RDWR):
        with pytest.raises((ENXIO, EROFS)):
            world.vfs.open(task, AT_FDCWD, b"/h/fifo", flags)


def test_a_read_only_tree_is_looked_at_once(tree: HostPath) -> None:
    world = Bound(tree)
    task = world.task()
    read(task, b"/h/a/b/file")
    names(task, b"/h/a")
    with pytest.raises(ENOENT):
        read(task, b"/h/late")
    (tree / "late").write_text("x")
    (tree / "a" / "late").write_text("x")
    with pytest.raises(ENOENT):
        read(task, b"/h/late")
    assert names(task, b"/h/a") == [b"b"]
    for attempt in (
        lambda: write(task, b"/h/new"),
        lambda: write(task, b"/h/big"),
        lambda: call(sys_unlink, task, b"/h/big"),
        lambda: call(sys_chmod, task, b"/h/big", 0o777),
        lambda: call(sys_mkdir, task, b"/h/d", 0o777),
        lambda: call(sys_rename, task, b"/h/big", b"/h/small"),
    ):
        with pytest.raises(EROFS):
            attempt()


def test_public_trees_hide_what_others_may_not_read(tree: HostPath) -> None:
    (tree / "key").write_text("k")
    (tree / "key").chmod(0o640)
    (tree / "closed").mkdir()
    (tree / "closed").chmod(0o711)
    (tree / "closed" / "inner").write_text("x")
    (tree / "keylink").symlink_to("key")
    for each in (tree, tree / "a", tree / "a" / "b"):
        each.chmod(0o755)
    (tree / "big").chmod(0o644)
    world = Bound(tree, public=True)
    task = world.task()
    assert names(task, b"/h") == [b"a", b"big", b"keylink"]
    for name in (b"/h/key", b"/h/closed", b"/h/closed/inner", b"/h/keylink"):
        with pytest.raises(ENOENT):
            read(task, name)


def test_few_host_descriptors_serve_many_files(tree: HostPath) -> None:
    for number in range(50):
        directory = tree / f"d{number}" / "x" / "y"
        directory.mkdir(parents=True)
        (directory / "f").write_text(str(number))
    world = Bound(tree, limit=8)
    task = world.task()
    before = len(os.listdir("/proc/self/fd"))
    held = [world.vfs.open(task, AT_FDCWD, b"/h/d%d/x/y/f" % number, O_RDONLY) for number in range(50)]
    assert [file.try_read(10) for file in held] == [b"%d" % number for number in range(50)]
    assert len(world.fds) <= 8 and len(os.listdir("/proc/self/fd")) <= before + 8
    world.fds.close()


def test_a_very_deep_tree_ends_with_an_errno(tree: HostPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trapline.kernel.drivers.hostfs.MAX_DEPTH", 20)
    world = Bound(tree, read_only=False)
    path = world.vfs.at_root(b"/h")
    with pytest.raises(Errno):
        for _ in range(30):
            path.inode.mkdir(b"d", 0o755, None)
            path = world.vfs.resolve(path, world.vfs.root, b"d")
    world.fds.close()


# ---- read-write


def test_holes_of_the_host_are_holes(tree: HostPath) -> None:
    with (tree / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(3 << 20)
        holes = os.lseek(file.fileno(), 0, os.SEEK_DATA) == 1 << 20
    if not holes:
        pytest.skip("the host's file system does not tell of holes")
    world = Bound(tree)
    file = world.vfs.open(world.task(), AT_FDCWD, b"/h/sparse", O_RDONLY)
    file.try_pread(4096, 0)  # what was read is no data for that
    assert [file.seek(at, SEEK_DATA) for at in (0, 1 << 20, (1 << 20) + 5)] == [1 << 20, 1 << 20, (1 << 20) + 5]
    assert [file.seek(at, SEEK_HOLE) for at in (0, 1 << 20)] == [0, (1 << 20) + 4096]
    with pytest.raises(ENXIO):
        file.seek(2 << 20, SEEK_DATA)


def _marked(path: HostPath) -> None:
    try:
        os.setxattr(path, b"user.mark", b"1")
    except OSError:
        pytest.skip("the host's file system has no user attributes here")


def test_user_attributes_of_the_host_are_seen_and_no_others(tree: HostPath) -> None:
    _marked(tree / "big")
    inode = Bound(tree).vfs.at_root(b"/h/big").inode
    assert inode.listxattr() == [b"user.mark"] and inode.getxattr(b"user.mark") == b"1"
    with pytest.raises(ENODATA):
        inode.getxattr(b"user.none")
    for name in (b"security.capability", b"trusted.x"):
        with pytest.raises(ENOTSUP):
            inode.getxattr(name)
    with pytest.raises(ENOTSUP):
        inode.setxattr(b"user.mark", b"2", 0)


@pytest.fixture
def rw(tree: HostPath) -> Bound:
    return Bound(tree, read_only=False)


def test_writes_reach_the_host_at_once(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    write(task, b"/h/new", b"data", 0o640)
    assert (tree / "new").read_bytes() == b"data"
    assert os.stat(tree / "new").st_mode & 0o777 == 0o640
    file = rw.vfs.open(task, AT_FDCWD, b"/h/new", O_RDWR | O_APPEND)
    file.try_write(b" more")
    assert (tree / "new").read_bytes() == b"data more"
    rw.vfs.open(task, AT_FDCWD, b"/h/new", O_WRONLY | O_TRUNC)
    assert (tree / "new").read_bytes() == b""
    call(sys_truncate, task, b"/h/big", 3)
    assert (tree / "big").read_bytes() == bytes(range(3))


def test_synchronous_writes_reach_the_disk(rw: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    task = rw.task()
    for flags, expected in ((0, []), (O_DSYNC, [4, 10]), (O_SYNC, [4, 10])):
        synced.clear()
        file = rw.vfs.open(task, AT_FDCWD, b"/h/new", O_WRONLY | O_CREAT | O_TRUNC | flags, 0o600)
        file.try_write(b"data")
        file.try_pwrite(b"data", 6)
        assert synced == expected


def test_user_attributes_reach_the_host(rw: Bound, tree: HostPath) -> None:
    _marked(tree / "big")
    inode = rw.vfs.at_root(b"/h/big").inode
    inode.setxattr(b"user.new", b"value", 0)
    assert os.getxattr(tree / "big", b"user.new") == b"value"
    inode.removexattr(b"user.mark")
    assert os.listxattr(tree / "big") == ["user.new"]
    with pytest.raises(ENOTSUP):
        inode.setxattr(b"security.capability", b"", 0)


def test_changes_of_the_host_are_seen(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    file = rw.vfs.open(task, AT_FDCWD, b"/h/a/b/file", O_RDONLY)
    assert file.try_pread(100, 0) == b"content"
    (tree / "a" / "b" / "file").write_text("a longer content")
    (tree / "a" / "fresh").write_text("new")
    make_stat(file.inode)
    assert file.try_pread(100, 0) == b"a longer content"
    assert read(task, b"/h/a/fresh") == b"new"
    (tree / "a" / "fresh").unlink()
    with pytest.raises(ENOENT):
        read(task, b"/h/a/fresh")


def test_names_on_the_host(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    call(sys_mkdir, task, b"/h/d", 0o750)
    assert os.stat(tree / "d").st_mode & 0o7777 == 0o750
    call(sys_symlink, task, b"../../etc/passwd", b"/h/d/l")
    assert os.readlink(tree / "d" / "l") == "../../etc/passwd"
    call(sys_link, task, b"/h/big", b"/h/d/big2")
    assert os.stat(tree / "big").st_nlink == 2
    call(sys_rename, task, b"/h/d", b"/h/a/e")
    assert (tree / "a" / "e" / "big2").exists() and read(task, b"/h/a/e/big2")[:2] == b"\0\1"
    with pytest.raises(ENOTEMPTY):
        call(sys_rmdir, task, b"/h/a/e")
    for name in (b"/h/a/e/l", b"/h/a/e/big2"):
        call(sys_unlink, task, name)
    call(sys_rmdir, task, b"/h/a/e")
    assert not (tree / "a" / "e").exists()


def test_a_link_made_by_the_guest_does_not_lead_it_out(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    rw.vfs.at_root(b"/h/a/b/file")
    call(sys_rename, task, b"/h/a/b", b"/h/away")
    call(sys_symlink, task, str(tree.parent / "outside").encode(), b"/h/a/b")
    with pytest.raises(ENOENT):
        read(task, b"/h/a/b/secret")
    with pytest.raises(ENOENT):
        write(task, b"/h/a/b/planted", b"x")
    assert not (tree.parent / "outside" / "planted").exists()
    assert read(task, b"/h/away/file") == b"content"


def test_an_unlinked_open_file_can_still_be_used(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    file = rw.vfs.open(task, AT_FDCWD, b"/h/tmp", O_RDWR | O_CREAT, 0o600)
    file.try_write(b"x" * 10)
    call(sys_unlink, task, b"/h/tmp")
    rw.fds.close()
    assert file.try_pwrite(b"y", 20_000) == 1 and file.try_pread(1, 20_000) == b"y"
    file.inode.setattr(size=5)
    assert file.inode.page_cache.size == 5
    assert rw.host.orphans == 1
    file.put()
    assert rw.host.orphans == 0


def test_linking_a_file_whose_known_name_is_gone(rw: Bound, tree: HostPath) -> None:
    """It has another name, under which nobody has looked for it since."""
    task = rw.task()
    write(task, b"/h/one", b"x")
    call(sys_link, task, b"/h/one", b"/h/two")
    file = rw.vfs.open(task, AT_FDCWD, b"/h/two", O_RDWR)
    call(sys_unlink, task, b"/h/two")
    rw.fds.close()
    namei.link(rw.vfs, file.path, rw.vfs.place(b"/h/three"), task.creds)
    assert file.try_write(b"y") == 1
    assert {each.read_text() for each in (tree / "one", tree / "three")} == {"y"}
    assert os.stat(tree / "one").st_nlink == 2


def test_files_with_another_name_give_their_descriptors_back(rw: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trapline.kernel.drivers.hostfs_rw.MAX_ORPHANS", 4)
    task = rw.task()
    kept = []
    for n in range(12):
        name = b"/h/%d" % n
        write(task, name, b"x")
        call(sys_link, task, name, name + b"b")
        file = rw.vfs.open(task, AT_FDCWD, name + b"b", O_RDWR)
        kept.append(file.inode)
        call(sys_unlink, task, name + b"b")
        file.put()
        assert rw.host.orphans <= 4


def test_linking_what_the_host_took_away(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    path = rw.vfs.at_root(b"/h/big")
    (tree / "big").unlink()
    with pytest.raises(ENOENT):
        namei.link(rw.vfs, path, rw.vfs.place(b"/h/again"), task.creds)


@pytest.mark.parametrize("how", ["write", "truncate", "map"])
def test_a_set_id_file_of_the_host_is_disarmed_before_it_changes(how: str, rw: Bound, tree: HostPath) -> None:
    (tree / "big").chmod(0o6755)
    task = rw.task()
    file = rw.vfs.open(task, AT_FDCWD, b"/h/big", O_RDWR)
    assert os.stat(tree / "big").st_mode & 0o7777 == 0o6755
    if how == "write":
        file.try_write(b"evil")
    elif how == "truncate":
        file.inode.truncate(10)
    else:
        file.inode.write_back(0, b"evil")
    assert os.stat(tree / "big").st_mode & 0o7777 == 0o755


def test_what_is_refused(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    for kind in (0o020000, 0o060000):
        with pytest.raises(EPERM):
            call(sys_mknod, task, b"/h/node", kind | 0o644, 0x103)
    write(task, b"/h/f", b"")
    for mode in (0o4755, 0o2755):
        with pytest.raises(EPERM):
            call(sys_chmod, task, b"/h/f", mode)
    assert os.stat(tree / "f").st_mode & 0o7000 == 0


def test_a_fifo_made_here_is_a_name_on_the_host_and_a_pipe_in_the_guest(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    call(sys_mknod, task, b"/h/fifo", 0o010640, 0)
    assert os.stat(tree / "fifo").st_mode == 0o010640
    reader, writer = (rw.vfs.open_path(rw.vfs.at_root(b"/h/fifo"), flags) for flags in (O_RDONLY | O_NONBLOCK, O_WRONLY))
    assert writer.try_write(b"through") == 7 and reader.try_read(10) == b"through"
    call(sys_unlink, task, b"/h/fifo")
    assert not (tree / "fifo").exists() and not rw.host.nodes
    os.mkfifo(tree / "fifo")
    with pytest.raises(ENXIO):  # the host's own
        rw.vfs.open(task, AT_FDCWD, b"/h/fifo", O_RDWR)


def test_times_on_the_host(rw: Bound, tree: HostPath) -> None:
    task = rw.task()
    times = task.mm.put(b"".join(number.to_bytes(8, "little") for number in (1, 2, 3, 4)))
    call(sys_utimensat, task, AT_FDCWD, b"/h/big", times, 0)
    st = os.stat(tree / "big")
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_002, 3_000_000_004)


def test_a_single_file_can_be_bound(tree: HostPath) -> None:
    world = World()
    host: Any = HostFs(world.vfs, bytes(tree / "a" / "b" / "file"), Descriptors())
    task = world.task()
    write(task, b"/f", b"hidden")
    world.vfs.mount(world.vfs.new_mount(host), world.vfs.at_root(b"/f"))
    assert read(task, b"/f") == b"content"
