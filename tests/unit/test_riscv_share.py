"""A shared directory: 9P2000.L messages against a directory of the host's, what must be refused, and messages that make no sense."""

from __future__ import annotations

import os
import random
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from riscv_virtio import DATA, Driver

from trapline.cli.options import UsageError
from trapline.cli.share import Directory, share
from trapline.machine.riscv.devices.virtio import transport as at
from trapline.machine.riscv.devices.virtio.ninep import MAX_FIDS, NineP, Server

O_CREAT, O_RDWR, O_TRUNC = 0o100, 2, 0o1000
ENOENT, EIO, EBADF, EACCES, EEXIST, EINVAL, EROFS, ELOOP, EOPNOTSUPP, EPERM, ENOTDIR, ENOTEMPTY = 2, 5, 9, 13, 17, 22, 30, 40, 95, 1, 20, 39
(STATFS, LOPEN, LCREATE, SYMLINK, MKNOD, RENAME, READLINK, GETATTR, SETATTR, READDIR, LINK, MKDIR, RENAMEAT, UNLINKAT, VERSION, ATTACH,
 WALK, READ, WRITE, CLUNK, REMOVE) = (8, 12, 14, 16, 18, 20, 22, 24, 26, 40, 70, 72, 74, 76, 100, 104, 110, 116, 118, 120, 122)  # fmt: skip


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<H", len(data)) + data


class Client:
    """Fid 0 is the root."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.directory = Directory(str(root), read_only=read_only)
        self.server = Server(self.directory)
        self.call(VERSION, struct.pack("<I", 1 << 20) + text("9P2000.L"))
        self.call(ATTACH, struct.pack("<II", 0, 0xFFFFFFFF) + text("user") + text("") + struct.pack("<I", 0))

    def send(self, kind: int, body: bytes) -> tuple[int, bytes]:
        reply = self.server.handle(struct.pack("<IBH", 7 + len(body), kind, 5) + body)
        size, answer, tag = struct.unpack_from("<IBH", reply)
        assert size == len(reply) and tag == 5
        return answer, reply[7:]

    def call(self, kind: int, body: bytes) -> bytes:
        answer, reply = self.send(kind, body)
        assert answer == kind + 1, (answer, reply)
        return reply

    def error(self, kind: int, body: bytes) -> int:
        answer, reply = self.send(kind, body)
        assert answer == 7, answer
        return int(struct.unpack("<I", reply)[0])

    def walk(self, new: int, *names: str | bytes, fid: int = 0) -> tuple[int, bytes]:
        return self.send(WALK, struct.pack("<IIH", fid, new, len(names)) + b"".join(map(text, names)))

    def read(self, fid: int, offset: int = 0, count: int = 100) -> bytes:
        return self.call(READ, struct.pack("<IQI", fid, offset, count))[4:]

    def names(self, fid: int) -> list[bytes]:
        found, offset = [], 0
        while data := self.call(READDIR, struct.pack("<IQI", fid, offset, 60))[4:]:
            while data:
                offset, _, length = struct.unpack_from("<QBH", data, 13)
                found.append(data[24 : 24 + length])
                data = data[24 + length :]
        return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "shared"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_text("contents")
    (root / "sub" / "deep").write_text("deeper")
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "secret").write_text("not for the guest")
    return root


@pytest.fixture
def client(tree: Path) -> Iterator[Client]:
    made = Client(tree)
    yield made
    made.server.reset()
    made.directory.close()


def test_reads_files_and_directories(client: Client) -> None:
    assert client.walk(1, "sub", "deep")[0] == WALK + 1
    client.call(LOPEN, struct.pack("<II", 1, 0))
    assert client.read(1) == b"deeper" and client.read(1, 2, 3) == b"epe" and client.read(1, 99) == b""
    client.walk(2)
    client.call(LOPEN, struct.pack("<II", 2, 0))
    assert client.names(2) == [b".", b"..", b"file", b"out", b"sub"]
    attributes = client.call(GETATTR, struct.pack("<IQ", 1, 0x7FF))
    mode, uid, _, _, _, size = struct.unpack_from("<IIIQQQ", attributes, 21)
    assert (mode & 0o170000, uid, size) == (0o100000, os.geteuid(), 6)
    assert struct.unpack_from("<I", client.call(STATFS, struct.pack("<I", 0)))[0] == 0x01021997


def test_writes_and_changes(client: Client, tree: Path) -> None:
    client.walk(1)
    client.call(LCREATE, struct.pack("<I", 1) + text("new") + struct.pack("<III", O_RDWR | O_CREAT, 0o4644, 0))
    assert client.call(WRITE, struct.pack("<IQI", 1, 3, 5) + b"bytes") == struct.pack("<I", 5)
    assert (tree / "new").read_bytes() == b"\0\0\0bytes" and (tree / "new").stat().st_mode & 0o7777 == 0o644
    client.call(SETATTR, struct.pack("<IIIIIQQQQQ", 1, 1 | 8 | 32 | 256, 0o6750, 0, 0, 4, 0, 0, 77, 5))
    found = (tree / "new").stat()
    assert (found.st_size, found.st_mode & 0o7777, found.st_mtime_ns) == (4, 0o750, 77_000_000_005)
    client.call(MKDIR, struct.pack("<I", 0) + text("made") + struct.pack("<II", 0o700, 0))
    client.call(SYMLINK, struct.pack("<I", 0) + text("link") + text("file") + struct.pack("<I", 0))
    client.walk(2, "link")
    assert client.call(READLINK, struct.pack("<I", 2)) == text("file") and os.readlink(tree / "link") == "file"
    client.walk(3, "file")
    client.call(LINK, struct.pack("<II", 0, 3) + text("hard"))
    assert (tree / "hard").stat().st_nlink == 2
    client.call(UNLINKAT, struct.pack("<I", 0) + text("hard") + struct.pack("<I", 0))
    client.call(UNLINKAT, struct.pack("<I", 0) + text("made") + struct.pack("<I", 0x200))
    client.call(REMOVE, struct.pack("<I", 2))
    assert sorted(os.listdir(tree)) == ["file", "new", "out", "sub"]


def test_renaming_moves_what_is_below(client: Client, tree: Path) -> None:
    client.walk(1, "sub", "deep")
    client.call(RENAMEAT, struct.pack("<I", 0) + text("sub") + struct.pack("<I", 0) + text("moved"))
    client.call(LOPEN, struct.pack("<II", 1, 0))
    assert client.read(1) == b"deeper" and (tree / "moved" / "deep").exists()
    client.walk(2, "file")
    client.call(RENAME, struct.pack("<II", 2, 0) + text("other"))
    client.call(LOPEN, struct.pack("<II", 2, 0))
    assert client.read(2) == b"contents" and (tree / "other").exists()


def test_open_file_outlives_its_name(client: Client, tree: Path) -> None:
    client.walk(1, "file")
    client.call(LOPEN, struct.pack("<II", 1, 0))
    (tree / "file").unlink()
    assert client.read(1) == b"contents" and struct.unpack_from("<Q", client.call(GETATTR, struct.pack("<IQ", 1, 0x7FF)), 33)[0] == 0


class TestRefused:
    def test_no_way_out(self, client: Client) -> None:
        """Not by dots, not by slashes, not through a symbolic link."""
        assert client.walk(1, "..", "secret") == (WALK + 1, client.walk(8, "..")[1])  # above the root is the root, and no further
        assert client.send(CLUNK, struct.pack("<I", 1))[1] == struct.pack("<I", EBADF)  # it was not made
        for names in (("../secret",), ("/etc/passwd",), ("sub/deep",), ("a\0b",), ("",), ("x" * 300,)):
            assert client.walk(2, *names)[0] == 7, names
        assert client.walk(3, "out", "secret")[1][:2] == struct.pack("<H", 1)
        client.walk(4, "out")
        assert client.error(LOPEN, struct.pack("<II", 4, 0)) == ELOOP
        assert client.error(READDIR, struct.pack("<IQI", 4, 0, 100)) in (ELOOP, ENOTDIR)
        create = struct.pack("<III", O_CREAT | O_RDWR, 0o644, 0)
        assert client.error(LCREATE, struct.pack("<I", 4) + text("planted") + create) in (ELOOP, ENOTDIR)
        for name in (".", "..", "a/b", ""):
            assert client.error(MKDIR, struct.pack("<I", 0) + text(name) + struct.pack("<II", 0o755, 0)) == EINVAL

    def test_link_that_appears_meanwhile(self, client: Client, tree: Path, tmp_path: Path) -> None:
        client.walk(1, "sub", "deep")
        (tree / "sub" / "deep").unlink()
        (tree / "sub").rmdir()
        (tree / "sub").symlink_to(tmp_path)
        (tmp_path / "deep").write_text("planted")
        assert client.error(LOPEN, struct.pack("<II", 1, 0)) in (ELOOP, ENOTDIR)
        assert client.error(SETATTR, struct.pack("<IIIIIQQQQQ", 1, 8, 0, 0, 0, 0, 0, 0, 0, 0)) in (ELOOP, ENOTDIR)
        assert (tmp_path / "deep").read_text() == "planted"

    def test_races_against_a_directory_that_becomes_a_link(self, client: Client, tree: Path, tmp_path: Path) -> None:
        """Somebody puts a link to a directory outside in a directory's place, and takes it away again, while the guest tries."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "deep").write_text("secret")
        (tree / "link").symlink_to(outside)
        before = {each: os.lstat(outside / each) for each in os.listdir(outside)}
        stop = threading.Event()

        def flip() -> None:
            while not stop.is_set():
                for first, second in (("sub", "aside"), ("link", "sub"), ("sub", "link"), ("aside", "sub")):
                    os.rename(tree / first, tree / second)

        thread = threading.Thread(target=flip)
        thread.start()
        seen: list[bytes] = []
        wins = 0
        try:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                client.send(CLUNK, struct.pack("<I", 1))
                client.send(CLUNK, struct.pack("<I", 2))
                client.walk(1, "sub", "deep")
                answer, _ = client.send(LOPEN, struct.pack("<II", 1, 0))
                if answer == LOPEN + 1:
                    seen.append(client.read(1))
                    wins += 1
                client.walk(2, "sub")
                for kind, body in (
                    (LCREATE, struct.pack("<I", 2) + text("planted") + struct.pack("<III", O_CREAT | O_RDWR, 0o644, 0)),
                    (MKDIR, struct.pack("<I", 2) + text("made") + struct.pack("<II", 0o755, 0)),
                    (SYMLINK, struct.pack("<I", 2) + text("linked") + text("y") + struct.pack("<I", 0)),
                    (UNLINKAT, struct.pack("<I", 2) + text("deep") + struct.pack("<I", 0x200)),  # a directory it is not
                    (SETATTR, struct.pack("<IIIIIQQQQQ", 1, 1, 0o777, 0, 0, 0, 0, 0, 0, 0)),
                ):
                    client.send(kind, body)
        finally:
            stop.set()
            thread.join()
        assert set(seen) <= {b"deeper"} and wins
        after = {each: os.lstat(outside / each) for each in os.listdir(outside)}
        assert after.keys() == before.keys() and after["deep"].st_mode == before["deep"].st_mode

    def test_devices_and_pipes(self, client: Client, tree: Path) -> None:
        os.mkfifo(tree / "pipe")
        client.walk(1, "pipe")
        assert client.error(LOPEN, struct.pack("<II", 1, 0)) == EPERM
        assert client.error(MKNOD, struct.pack("<I", 0) + text("null") + struct.pack("<IIII", 0o20666, 1, 3, 0)) == EPERM
        assert not (tree / "null").exists()

    def test_read_only(self, tree: Path) -> None:
        client = Client(tree, read_only=True)
        before = sorted(os.listdir(tree))
        client.walk(1, "file")
        for kind, body in (
            (LOPEN, struct.pack("<II", 1, O_RDWR)), (LOPEN, struct.pack("<II", 1, O_TRUNC)),
            (LCREATE, struct.pack("<I", 0) + text("x") + struct.pack("<III", O_CREAT, 0o644, 0)),
            (MKDIR, struct.pack("<I", 0) + text("x") + struct.pack("<II", 0o755, 0)),
            (SYMLINK, struct.pack("<I", 0) + text("x") + text("y") + struct.pack("<I", 0)),
            (LINK, struct.pack("<II", 0, 1) + text("x")), (UNLINKAT, struct.pack("<I", 0) + text("file") + struct.pack("<I", 0)),
            (RENAMEAT, struct.pack("<I", 0) + text("file") + struct.pack("<I", 0) + text("x")), (RENAME, struct.pack("<II", 1, 0) + text("x")),
            (SETATTR, struct.pack("<IIIIIQQQQQ", 1, 8, 0, 0, 0, 0, 0, 0, 0, 0)), (REMOVE, struct.pack("<I", 1)),
        ):  # fmt: skip
            assert client.error(kind, body) == EROFS, kind
        assert sorted(os.listdir(tree)) == before and (tree / "file").read_text() == "contents"
        client.directory.close()

    def test_fids(self, client: Client) -> None:
        assert client.error(READ, struct.pack("<IQI", 55, 0, 1)) == EBADF
        assert client.error(READ, struct.pack("<IQI", 0, 0, 1)) == EBADF  # not open
        assert client.walk(0, "sub", fid=0)[0] == WALK + 1 and client.walk(0, "..", fid=0)[0] == WALK + 1
        for number in range(1, MAX_FIDS + 10):
            answer, _ = client.walk(number)
            if answer == 7:
                break
        assert number == MAX_FIDS

    def test_errors_are_the_hosts(self, client: Client) -> None:
        assert client.walk(1, "missing") == (7, struct.pack("<I", ENOENT))
        assert client.error(MKDIR, struct.pack("<I", 0) + text("sub") + struct.pack("<II", 0o755, 0)) == EEXIST
        assert client.error(UNLINKAT, struct.pack("<I", 0) + text("sub") + struct.pack("<I", 0x200)) == ENOTEMPTY
        assert client.error(30, struct.pack("<II", 0, 1) + text("security.selinux")) == EOPNOTSUPP

    @pytest.mark.parametrize("seed", range(4))
    def test_senseless_messages_get_an_answer(self, tree: Path, tmp_path: Path, seed: int) -> None:
        rng = random.Random(seed)
        client = Client(tree)
        kinds = [*client.server._actions, 7, 18, 30, 255]
        outside = sorted(os.listdir(tmp_path))
        for _ in range(3000):
            body = b"".join(
                rng.choice((struct.pack("<I", rng.choice((0, 1, 2, 3, 0xFFFFFFFF))), text(rng.choice(("sub", "file", "..", "out", f"n{rng.randrange(4)}", "a/b"))),
                            struct.pack("<Q", rng.choice((0, 5, 1 << 63))), rng.randbytes(rng.randrange(5))))
                for _ in range(rng.randrange(8))
            )  # fmt: skip
            kind = rng.choice(kinds)
            if kind == VERSION and rng.random() < 0.9:
                continue
            size = 7 + len(body) + rng.choice((0, 0, 0, -1, 1, 1 << 20))
            reply = client.server.handle(struct.pack("<IBH", max(0, size), kind, 9) + body)
            assert reply[4] in (kind + 1, 7) and int.from_bytes(reply[:4], "little") == len(reply)
            client.walk(0)
        assert client.server.handle(b"short") == b""
        assert sorted(os.listdir(tmp_path)) == outside
        client.server.reset()
        client.directory.close()


def test_device_has_its_tag_and_answers(tree: Path) -> None:
    directory = Directory(str(tree), read_only=True)
    driver = Driver(NineP(directory, "host"))
    assert bytes(driver.device.read(at.CONFIG + n, 1) for n in range(6)) == b"\4\0host"
    message = struct.pack("<IBHI", 21, VERSION, 0xFFFF, 8192) + text("9P2000.L")
    driver.put(DATA, message)
    _, place = driver.chain(0, [len(message)], [64])
    assert driver.look(place, 21) == struct.pack("<IBHI", 21, VERSION + 1, 0xFFFF, 8192) + text("9P2000.L")
    _, place = driver.chain(0, [len(message)], [11])  # no room for that answer, but for an error
    assert driver.look(place, 11) == struct.pack("<IBHI", 11, 7, 0xFFFF, EIO)
    directory.close()


@pytest.mark.parametrize(("given", "said"), [("/tmp", "write --share"), ("/tmp:x:rx", "write --share"), ("/no/such:x", "No such file"), ("/etc/passwd:x", "Not a dir")])
def test_wrong_options(given: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        share(given)
