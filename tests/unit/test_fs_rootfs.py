"""The root file system: the default tree and its rule, directories, archives, binds, and saving the upper layer."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path as HostPath
from types import SimpleNamespace
from typing import Any

import pytest
from fs_world import World, call, names, read, write

from trapline.abi.arch import ABIS
from trapline.abi.errno import ENOENT, EROFS
from trapline.abi.stat import S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK
from trapline.kernel.drivers.hostfs_save import save_overlay
from trapline.kernel.drivers.hostfs_tar import BadArchiveError
from trapline.kernel.fs.rootfs import Root, build_root, parse_bind
from trapline.kernel.fs.vfs import Vfs
from trapline.kernel.syscalls.dir import sys_mkdir, sys_rmdir
from trapline.kernel.syscalls.link import sys_link, sys_mknod, sys_rename, sys_symlink, sys_unlink
from trapline.kernel.syscalls.perm import sys_chmod
from trapline.kernel.syscalls.xattr import sys_setxattr


class Rooted(World):
    """A kernel's file system as `build_root` makes it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.vfs = Vfs(self.ram, self.now)
        self.kernel = SimpleNamespace(vfs=self.vfs, tasks={}, log=self.logged.append, ram=self.ram, abi=ABIS["x86_64"])
        self.made: Root = build_root(self.kernel, **options)

    def mode(self, name: bytes) -> int:
        return self.vfs.at_root(name).inode.mode


# ---- the default root


def test_the_default_root_has_the_system_trees_and_no_secrets() -> None:
    world = Rooted()
    task = world.task()
    assert read(task, b"/etc/passwd").startswith(b"root:")
    assert read(task, b"/usr/lib/os-release") == HostPath("/usr/lib/os-release").read_bytes()
    assert read(task, b"/bin/sh")[:4] == b"\x7fELF"
    for name in (b"/etc/shadow", b"/etc/gshadow", b"/etc/ssl/private"):
        with pytest.raises(ENOENT):
            world.vfs.at_root(name)
    assert not {b"shadow", b"gshadow"} & set(names(task, b"/etc"))
    for name in (b"/root", b"/home", b"/tmp", b"/run", b"/dev", b"/proc", b"/sys", b"/mnt", b"/var/tmp", b"/var/log"):
        assert names(task, name) == []
    assert (world.mode(b"/tmp"), world.mode(b"/var/tmp"), world.mode(b"/root")) == (0o41777, 0o41777, 0o40700)
    assert world.vfs.at_root(b"/var/run").display() == b"/run"
    if os.path.islink("/bin"):
        assert world.vfs.resolve(world.vfs.root, world.vfs.root, b"/bin", follow=False).inode.readlink() == b"usr/bin"


def test_everything_listed_can_be_looked_up() -> None:
    world = Rooted()
    task = world.task()
    for name in (b"/", b"/etc", b"/usr", b"/usr/bin", b"/var"):
        for each in names(task, name):
            world.vfs.resolve(world.vfs.at_root(name), world.vfs.root, each, follow=False)


def test_nothing_that_others_may_not_read_is_visible() -> None:
    world = Rooted()
    todo = [(b"/etc", world.vfs.at_root(b"/etc").inode)]
    seen = 0
    while todo and seen < 5000:
        name, directory = todo.pop()
        for each, _, _ in directory.entries():
            inode, path = directory.lookup(each), name + b"/" + each
            seen += 1
            mode = os.lstat(path).st_mode
            assert mode & S_IFMT == inode.mode & S_IFMT
            if inode.mode & S_IFMT == 0o040000:
                assert mode & 5 == 5
                todo.append((path, inode))
            elif inode.mode & S_IFMT != 0o120000:
                assert mode & 4, path
    assert seen > 10


def test_everything_can_be_written_and_the_host_stays_as_it_was() -> None:
    world = Rooted()
    task = world.task()
    before = os.lstat("/etc/passwd")
    write(task, b"/etc/passwd", b"mine")
    write(task, b"/usr/bin/new", b"#!/bin/sh\n", 0o755)
    call(sys_unlink, task, b"/etc/hosts")
    write(task, b"/tmp/x", b"1")
    assert read(task, b"/etc/passwd")[:4] == b"mine"
    assert os.lstat("/etc/passwd") == before and not os.path.exists("/usr/bin/new") and os.path.exists("/etc/hosts")


def test_building_the_default_root_is_cheap(tmp_path: HostPath) -> None:
    calls: list[str] = []
    real = os.lstat

    def counting(*args: Any, **kwargs: Any) -> os.stat_result:
        calls.append("lstat")
        return real(*args, **kwargs)

    os.lstat = counting  # type: ignore[assignment]
    try:
        Rooted(cwd=str(tmp_path))
    finally:
        os.lstat = real
    assert len(calls) < 30


# ---- the current directory


def test_the_current_directory_is_at_its_own_name(tmp_path: HostPath) -> None:
    work = tmp_path / "some" / "work"
    work.mkdir(parents=True)
    (work / "file").write_text("content")
    (work.parent / "sibling").write_text("not shown")
    world = Rooted(cwd=str(work))
    task = world.task()
    here = str(work).encode()
    assert world.made.cwd == here
    assert read(task, here + b"/file") == b"content"
    assert names(task, os.path.dirname(here)) == [b"work"]
    write(task, here + b"/file", b"CHANGED")
    write(task, here + b"/new", b"")
    assert (work / "file").read_text() == "content" and not (work / "new").exists()


@pytest.mark.parametrize("cwd", ["/", "/root", "/home", "/home/someone", "/proc/self", "/dev/shm"])
def test_homes_and_the_root_are_not_shown_as_current_directory(cwd: str) -> None:
    world = Rooted(cwd=cwd)
    assert world.made.cwd == b"/"
    assert "--bind" in world.logged[0]
    assert names(world.task(), b"/home") == [] and names(world.task(), b"/root") == []


def test_a_home_named_by_the_environment_is_not_shown(tmp_path: HostPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me" / "project").mkdir(parents=True)
    assert Rooted(cwd=str(tmp_path)).made.cwd == b"/"
    assert Rooted(cwd=str(tmp_path / "me")).made.cwd == b"/"
    assert Rooted(cwd=str(tmp_path / "me" / "project")).made.cwd == bytes(tmp_path / "me" / "project")


def test_a_current_directory_inside_a_system_tree_is_what_that_shows() -> None:
    assert Rooted(cwd="/usr/lib").made.cwd == b"/usr/lib"
    assert Rooted(cwd="/usr/no/such").made.cwd == b"/"


# ---- other roots


def test_the_whole_host_tree_as_root() -> None:
    world = Rooted(root="/")
    task = world.task()
    assert names(task, b"/proc") == names(task, b"/dev") == names(task, b"/sys") == []
    assert set(names(task, b"/")) == {each.encode() for each in os.listdir("/")} | {b"proc", b"dev", b"sys"}
    write(task, b"/trapline-test-file", b"")
    assert not os.path.exists("/trapline-test-file")


def test_a_directory_as_root(tmp_path: HostPath) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").write_text("sh")
    (tmp_path / "etc").symlink_to("/usr/etc")
    (tmp_path / "private").write_text("k")
    (tmp_path / "private").chmod(0o600)
    world = Rooted(root=str(tmp_path))
    task = world.task()
    assert names(task, b"/") == [b"bin", b"dev", b"etc", b"private", b"proc", b"sys", b"tmp"]
    assert read(task, b"/bin/sh") == b"sh" and read(task, b"/private") == b"k"
    with pytest.raises(ENOENT):
        read(task, b"/etc/passwd")
    write(task, b"/bin/sh", b"other")
    assert (tmp_path / "bin" / "sh").read_text() == "sh"


def archive(path: HostPath, members: list[tuple[str, bytes, str]]) -> str:
    """A tar of (name, type, content or target)."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755
            info.mtime = 1_000_000
            data = content.encode()
            if kind == tarfile.REGTYPE:
                info.size = len(data)
            else:
                info.linkname = content
            tar.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.mark.parametrize("suffix", ["root.tar", "root.tar.gz"])
def test_an_archive_as_root(tmp_path: HostPath, suffix: str) -> None:
    world = Rooted(
        root=archive(
            tmp_path / suffix,
            [
                ("./", tarfile.DIRTYPE, ""),
                ("./usr/bin", tarfile.DIRTYPE, ""),
                ("bin", tarfile.SYMTYPE, "usr/bin"),
                ("bin/sh", tarfile.REGTYPE, "x" * 5000),
                ("usr/bin/again", tarfile.LNKTYPE, "bin/sh"),
                ("dev/null", tarfile.CHRTYPE, ""),
                ("a/b/c", tarfile.REGTYPE, "deep"),
            ],
        )
    )
    task = world.task()
    assert read(task, b"/usr/bin/sh") == read(task, b"/bin/again") == b"x" * 5000
    inode = world.vfs.at_root(b"/usr/bin/sh").inode
    assert inode.nlink == 2 and inode.mtime_ns == 1_000_000 * 10**9 and inode.mode == 0o100755
    assert read(task, b"/a/b/c") == b"deep"
    assert names(task, b"/proc") == []


def test_a_hostile_archive_stays_inside(tmp_path: HostPath) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    world = Rooted(
        root=archive(
            tmp_path / "evil.tar",
            [
                ("../escaped", tarfile.REGTYPE, "x"),
                ("out", tarfile.SYMTYPE, str(victim)),
                ("out/planted", tarfile.REGTYPE, "x"),
                ("up", tarfile.SYMTYPE, "../../../../../.."),
                ("up/planted2", tarfile.REGTYPE, "y"),
                ("passwd", tarfile.LNKTYPE, "/etc/passwd"),
                ("absolute", tarfile.LNKTYPE, "../../etc/passwd"),
                ("/rooted", tarfile.REGTYPE, "r"),
                ("loop", tarfile.SYMTYPE, "loop"),
                ("loop/x", tarfile.REGTYPE, "x"),
            ],
        )
    )
    assert list(victim.iterdir()) == [] and not (tmp_path / "escaped").exists()
    task = world.task()
    assert read(task, b"/planted2") == b"y" and read(task, b"/rooted") == b"r"
    with pytest.raises(ENOENT):
        read(task, b"/passwd")
    assert len(world.logged) >= 3


def test_a_file_that_is_no_archive(tmp_path: HostPath) -> None:
    (tmp_path / "x").write_text("not a tar")
    with pytest.raises(BadArchiveError):
        Rooted(root=str(tmp_path / "x"))


# ---- binds


def test_binds(tmp_path: HostPath) -> None:
    (tmp_path / "f").write_text("one")
    (tmp_path / "sub").mkdir()
    world = Rooted(binds=[f"{tmp_path}:/data", f"{tmp_path}/f:/etc/one", f"{tmp_path}/f:/top", f"{tmp_path}/sub:/out:rw"])
    task = world.task()
    assert read(task, b"/data/f") == read(task, b"/etc/one") == read(task, b"/top") == b"one"
    with pytest.raises(EROFS):
        write(task, b"/data/f", b"x")
    write(task, b"/out/made", b"by the guest")
    assert (tmp_path / "sub" / "made").read_text() == "by the guest"


def test_rw_binds_a_directory_to_its_own_name(tmp_path: HostPath) -> None:
    world = Rooted(rw=[str(tmp_path)], cwd=str(tmp_path))
    write(world.task(), bytes(tmp_path) + b"/new", b"1")
    assert (tmp_path / "new").read_text() == "1"
    assert world.made.cwd == bytes(tmp_path)


@pytest.mark.parametrize("text", ["", "/a", "/a:b", "a:/b", "/a:/b:wr", "/a:/b:ro:x", ":/b"])
def test_malformed_binds(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|absolute"):
        parse_bind(text)


# ---- saving the upper layer


@pytest.fixture
def changed(tmp_path: HostPath) -> Rooted:
    lower = tmp_path / "lower"
    (lower / "etc" / "keep").mkdir(parents=True)
    (lower / "etc" / "gone").write_text("gone")
    (lower / "etc" / "conf").write_text("old")
    (lower / "opaque").mkdir()
    (lower / "opaque" / "below").write_text("hidden")
    (lower / "tree").mkdir()
    (lower / "tree" / "leaf").write_text("leaf")
    world = Rooted(root=str(lower))
    task = world.task()
    call(sys_unlink, task, b"/etc/gone")
    write(task, b"/etc/conf", b"new")
    call(sys_unlink, task, b"/opaque/below")
    call(sys_rmdir, task, b"/opaque")
    call(sys_mkdir, task, b"/opaque", 0o700)
    call(sys_rename, task, b"/tree", b"/moved")
    write(task, b"/prog", b"x" * 100, 0o755)
    call(sys_chmod, task, b"/prog", 0o4755)
    call(sys_link, task, b"/prog", b"/prog2")
    call(sys_symlink, task, b"/anywhere", b"/l")
    call(sys_mknod, task, b"/fifo", S_IFIFO | 0o600, 0)
    call(sys_mknod, task, b"/dev0", S_IFCHR | 0o600, 0x501)
    call(sys_mknod, task, b"/sock", S_IFSOCK | 0o600, 0)
    write(task, b"/.wh.fake", b"")
    call(sys_setxattr, task, b"/prog", b"user.note", b"hi", 2, 0)
    return world


def test_saving_to_a_directory(changed: Rooted, tmp_path: HostPath) -> None:
    out = tmp_path / "saved"
    log: list[str] = []
    assert save_overlay(changed.made.overlay, str(out), log.append) > 10
    found = {str(each.relative_to(out)) for each in out.rglob("*")}
    assert found == {
        "etc", "etc/.wh.gone", "etc/conf", "opaque", "opaque/.wh..wh..opq", "moved", "moved/leaf", ".wh.tree",
        "prog", "prog2", "l",
    }  # fmt: skip
    assert (out / "etc" / "conf").read_text() == "new" and (out / "moved" / "leaf").read_text() == "leaf"
    assert os.stat(out / "prog").st_mode & 0o7777 == 0o755  # without the set-user-id bit
    assert os.stat(out / "prog").st_ino == os.stat(out / "prog2").st_ino
    assert os.readlink(out / "l") == "/anywhere" and os.stat(out / "opaque").st_mode & 0o777 == 0o700
    assert len(log) == 4
    with pytest.raises(FileExistsError):
        save_overlay(changed.made.overlay, str(out), log.append)


@pytest.mark.parametrize("name", ["saved.tar", "saved.tar.gz", "saved.tar.xz"])
def test_saving_to_an_archive(changed: Rooted, tmp_path: HostPath, name: str) -> None:
    out = tmp_path / name
    save_overlay(changed.made.overlay, str(out), lambda text: None)
    with tarfile.open(out) as tar:
        members = {each.name: each for each in tar}
        data = tar.extractfile("etc/conf")
        assert data is not None and data.read() == b"new"
    assert members["prog"].mode == 0o4755 and members["prog2"].islnk() and members["fifo"].isfifo()
    assert (members["dev0"].devmajor, members["dev0"].devminor) == (5, 1)
    assert members["prog"].pax_headers["SCHILY.xattr.user.note"] == "hi"
    assert {"etc/.wh.gone", "opaque/.wh..wh..opq", ".wh.tree"} <= set(members) and "sock" not in members


def test_the_default_root_is_one_mount_until_the_kernel_adds_its_own(tmp_path: HostPath) -> None:
    world = World()
    vfs = Vfs(world.ram, world.now)
    build_root(SimpleNamespace(vfs=vfs, log=print), cwd=str(tmp_path))  # type: ignore[arg-type]
    assert len(vfs.mounts) == 1
