#!/usr/bin/env python3
"""Devices of the board under Linux, beside qemu-system-riscv64 on the same image: seconds a job.

    python3 bench/riscv/devices.py [--cpu] [--rounds 3] [--kinds disk,serial,virtio,network,user] [--kernel Image]

    disk      write, read: 64 MB, 1 MB at a time, past the page cache      fill, scan: 64 MB through it, with fsync
              poke, pick: 2000 pieces of 4 KiB from everywhere, past it    (the image is a file in $TMPDIR)
    serial    text: 256 KiB to the serial port                virtio    the same to the virtio console
    network   two machines of a kind, wired: send, receive: 16 MB of TCP from one to the other; trips: 1000 bytes there and back
    user      the same between a machine and a program of the host's, over user-mode networking

The least of the rounds counts; --cpu: CPU time of all threads (of both machines), for a computer that others use too.
`tools/build-linux` builds the kernel.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from kernel import LINUX, archive

from run import CC, HERE, ROOT

TTY = {"serial": "ttyS0", "virtio": "hvc0"}
SKIPPED = ("boot", "forget", "listen")  #: jobs that are not the devices'
KINDS = ("disk", "serial", "virtio", "network", "user")
STREAM, TRIPS = 16 << 20, 1000  #: as devices.c has them
QEMU = (
    "qemu-system-riscv64 -machine virt -m 128 -display none -nodefaults -global virtio-mmio.force-legacy=false "
    "-kernel {kernel} -initrd {initrd}"
)


class Bench:
    """`where`: a directory for everything that is made."""

    def __init__(self, where: Path, kernel: Path, *, cpu: bool) -> None:
        self.where = where
        self._cpu = cpu
        self._files = {"kernel": str(kernel), "initrd": str(where / "initrd")}
        program = where / "init"
        subprocess.run([CC, "-O2", "-static", "-o", str(program), str(HERE / "devices.c")], check=True)
        (where / "initrd").write_bytes(archive(program.read_bytes()))

    def start(self, system: str, append: str, extra: str, console: str = "serial") -> subprocess.Popen[bytes]:
        """One machine, with words of its own."""
        if system == "qemu":
            words = QEMU.format(**self._files).split()
            words += ["-serial", "stdio"] if console == "serial" else []
        else:
            words = [sys.executable, "-m", "trapline", "boot", "--kernel", self._files["kernel"]]
            words += ["--initrd", self._files["initrd"], "--console", console]
        words += ["--append" if system == "ours" else "-append", f"console={TTY[console]} quiet {append}", *extra.split()]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)

    def disk(self, system: str) -> dict[str, float]:
        image = self.where / "disk.img"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        extra = f"--drive {image}"
        if system == "qemu":
            extra = f"-drive if=none,id=disk,format=raw,file={image} -device virtio-blk-device,drive=disk"
        return self.follow(self.start(system, "job=disk", extra))

    def serial(self, system: str) -> dict[str, float]:
        return self.follow(self.start(system, "job=console device=/dev/ttyS0", ""))

    def virtio(self, system: str) -> dict[str, float]:
        extra = "-device virtio-serial-device -chardev stdio,id=out -device virtconsole,chardev=out" if system == "qemu" else ""
        return self.follow(self.start(system, "job=console device=/dev/hvc0", extra, "virtio"))

    def network(self, system: str) -> dict[str, float]:
        wire = self.where / "wire"
        wire.unlink(missing_ok=True)
        extra = ["--net listen:{}", "--net connect:{}"]
        if system == "qemu":
            card = " -device virtio-net-device,netdev=net -netdev stream,id=net,addr.type=unix,addr.path={},server="
            extra = [card + "on", card + "off"]
        with self.start(system, "job=serve", extra[0].format(wire)) as server:
            try:
                while not wire.exists():
                    time.sleep(0.01)
                return self.follow(self.start(system, "job=talk own=10.0.0.2", extra[1].format(wire)), server.pid)
            finally:
                server.kill()


    def user(self, system: str) -> dict[str, float]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=serve, args=[server], daemon=True).start()
            port = server.getsockname()[1]
            extra = f"--net user,allow=127.0.0.1:{port}"
            if system == "qemu":
                extra = "-device virtio-net-device,netdev=net -netdev user,id=net"
            return self.follow(self.start(system, f"job=talk own=10.0.2.15 peer=10.0.2.2 port={port}", extra))

    def follow(self, process: subprocess.Popen[bytes], *others: int) -> dict[str, float]:
        """Seconds for each job of one run, in which other processes may help."""
        spent: dict[str, float] = {}
        with process:
            before = self._now(process.pid, *others)
            assert process.stdout is not None
            for line in process.stdout:
                found = line.split()
                if len(found) == 2 and found[0] == b"done":
                    now = self._now(process.pid, *others)
                    spent[found[1].decode()], before = now - before, now
        if len(spent) < 2:
            raise SystemExit(f"{process.args!r}: the guest did not do its jobs: {', '.join(spent) or 'none'}")
        return {job: seconds for job, seconds in spent.items() if job not in SKIPPED}

    def _now(self, *pids: int) -> float:
        return sum(map(used, pids)) if self._cpu else time.perf_counter()


def serve(server: socket.socket) -> None:
    """What job=serve does in a guest."""
    peer, _ = server.accept()
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for received, sent in ((1, 1), (STREAM, 1), (1, STREAM), *[(1, 1)] * TRIPS):
            while received:
                received -= len(peer.recv(min(received, 1 << 20)))
            peer.sendall(bytes(sent))
        with suppress(ConnectionResetError):  # the machine is switched off
            peer.recv(1)


def used(pid: int) -> float:
    """CPU seconds of a process's threads."""
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--kernel", type=Path, default=LINUX)
    options = parser.parse_args()
    if not options.kernel.exists():
        raise SystemExit(f"no {options.kernel}: run tools/build-linux, or give --kernel")
    print(f"{'job':16} {'ours, s':>8} {'QEMU, s':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), options.kernel, cpu=options.cpu)
        for kind in options.kinds.split(","):
            rounds = [{system: getattr(bench, kind)(system) for system in ("ours", "qemu")} for _ in range(options.rounds)]
            for job in rounds[0]["ours"]:
                ours, theirs = (min(each[system][job] for each in rounds) for system in ("ours", "qemu"))
                print(f"{kind + ' ' + job:16} {ours:8.3f} {theirs:8.3f} {theirs / ours:6.2f}", flush=True)


if __name__ == "__main__":
    main()
