"""A Linux guest on the user-mode network: an address, names, connections in both directions, and what it may not reach.

And two that are wired to each other, of which one may be a machine of QEMU's.
"""

from __future__ import annotations

import gzip
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import test_riscv_linux
from test_riscv_linux import BIOS, IMAGE

import support

pytestmark = [*test_riscv_linux.pytestmark, pytest.mark.skipif(bool(support.have("riscv64-linux-gnu-gcc")), reason="no compiler")]
SOURCE = Path(__file__).parent.parent / "linux/network.c"
BYTES = 2_000_000


def archive(init: bytes) -> bytes:
    """An initial RAM disk ("newc" cpio) of /init and /dev/console."""
    out = bytearray()
    files = [("dev", stat.S_IFDIR | 0o755, 0, b""), ("dev/console", stat.S_IFCHR | 0o600, 5, b""), ("init", stat.S_IFREG | 0o755, 0, init)]
    for n, (name, mode, major, data) in enumerate([*files, ("TRAILER!!!", 0, 0, b"")], 1):
        fields = (n, mode, 0, 0, 1, 0, len(data), 0, 0, major, 1, len(name) + 1, 0)
        for piece in (b"070701" + b"".join(b"%08X" % each for each in fields) + name.encode() + b"\0", data):
            out += piece + bytes(-len(piece) % 4)
    return gzip.compress(bytes(out))


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("network")
    program = where / "init"
    subprocess.run(["riscv64-linux-gnu-gcc", "-O1", "-static", "-Wall", "-o", str(program), str(SOURCE)], check=True)
    made = where / "initrd"
    made.write_bytes(archive(program.read_bytes()))
    return made


def background(work: Callable[[], object]) -> None:
    threading.Thread(target=work, daemon=True).start()


def echo_server() -> int:
    end = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        with end, end.accept()[0] as peer:
            peer.settimeout(60)
            while data := peer.recv(1 << 16):
                peer.sendall(data)

    background(work)
    return int(end.getsockname()[1])


def name_server() -> int:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind(("127.0.0.1", 0))

    def work() -> None:
        with end:
            data, peer = end.recvfrom(100)
            end.sendto(data + b" knows", peer)

    background(work)
    return int(end.getsockname()[1])


def test_a_guest_reaches_what_it_may_and_is_reached(initrd: Path) -> None:
    port, names, denied = echo_server(), name_server(), echo_server()
    with socket.create_server(("127.0.0.1", 0)) as free:
        inward = free.getsockname()[1]
    net = f"user,allow=127.0.0.1:{port},dns=127.0.0.1:{names},hostfwd=tcp:127.0.0.1:{inward}-:80"
    append = f"console=ttyS0 quiet port={port} denied={denied} bytes={BYTES} serves=1"
    words = [sys.executable, "-m", "trapline", "boot", "--timeout", "100", "--bios", str(BIOS), "--kernel", str(IMAGE)]
    words += ["--initrd", str(initrd), "--net", net, "--append", append]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        found = []
        for line in process.stdout:
            found.append(line.decode(errors="replace").strip())
            if found[-1] == "listening":
                with socket.create_connection(("127.0.0.1", inward), 20) as client:
                    client.sendall(b"hello guest")
                    assert client.recv(100) == b"hello from the guest" and client.recv(100) == b""
        errors = process.stderr.read()
    assert process.returncode == 0 and not errors, (found, errors)
    start = found.index("address 10.0.2.15, gateway 10.0.2.2")
    assert found[start + 1 : start + 6] == [
        "answer: who knows", f"echo: {BYTES} bytes, 0 wrong, end", "connection: Connection refused", "listening", "served: hello guest",
    ]  # fmt: skip


def test_restricted_guests_reach_nothing(initrd: Path) -> None:
    port = echo_server()
    append = f"console=ttyS0 quiet port={port} denied={port} bytes=1"
    got = test_riscv_linux.boot(
        "--timeout", "100", "--bios", str(BIOS), "--kernel", str(IMAGE), "--initrd", str(initrd), "--net", "user,restrict",
        "--append", append, timeout_s=110,
    )  # fmt: skip
    assert got.returncode == 0 and got.stdout.count(b"connection: Connection refused") == 2, got
    assert b"answer: \r" in got.stdout


@pytest.mark.parametrize("other", ["ours", pytest.param("qemu", marks=pytest.mark.skipif(bool(support.have("qemu-system-riscv64")), reason="no QEMU"))])
def test_segments_go_whole_or_cut_up_to_another_machine(initrd: Path, tmp_path: Path, other: str) -> None:
    """Every byte there and back, whatever the other end's card can do; TCP finds what is damaged on the way."""
    wire = tmp_path / "wire"
    words = [sys.executable, "-m", "trapline", "boot", "--timeout", "100", "--bios", str(BIOS), "--kernel", str(IMAGE), "--initrd", str(initrd)]
    serves = [*words, "--net", f"listen:{wire}", "--append", "console=ttyS0 quiet own=10.0.0.1 port=7"]
    if other == "qemu":
        serves = ["qemu-system-riscv64", "-machine", "virt", "-nographic", "-global", "virtio-mmio.force-legacy=false", "-bios", str(BIOS)]
        serves += ["-netdev", f"stream,id=n,server=on,addr.type=unix,addr.path={wire}", "-device", "virtio-net-device,netdev=n"]
        serves += ["-kernel", str(IMAGE), "-initrd", str(initrd), "-append", "console=ttyS0 quiet own=10.0.0.1 port=7"]
    talks = [*words, "--append", f"console=ttyS0 quiet own=10.0.0.2 peer=10.0.0.1 port=7 bytes={BYTES}", "--net", f"connect:{wire}"]
    with subprocess.Popen(serves, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None and any(line.strip() == b"listening" for line in server.stdout)
            said = subprocess.run(talks, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=110, check=True).stdout
        finally:
            server.kill()
    assert f"echo: {BYTES} bytes, 0 wrong, end".encode() in said, said
