#!/usr/bin/env python3
"""Linux on the board, beside qemu-system-riscv64: seconds for booting, and for what a kernel does all day.

    python3 bench/riscv/kernel.py [--rounds 3] [--wall] [--kernel ~/.cache/trapline/linux/Image]

    boot      from the start of the emulator to init       faults    65 536 first touches of anonymous pages
    calls     300 000 getppid                              switches  15 000 bytes to another process and back
    forks     300 fork, exit and wait                      copies    19 MB written to a file in memory, and read
    execs     100 fork, execve, exit and wait

`tools/build-linux` builds the kernel. Times are CPU seconds of the emulator's busiest thread, which other work on the
machine disturbs little (--wall: as a clock shows them); the least of the rounds counts. Compiling in the background is
other threads' work.
"""

from __future__ import annotations

import argparse
import gzip
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import CC, HERE, ROOT

LINUX = Path.home() / ".cache/trapline/linux/Image"
APPEND = "console=ttyS0 quiet"
JOBS = ("boot", "calls", "forks", "execs", "faults", "switches", "copies")


def archive(init: bytes) -> bytes:
    """An initial RAM disk ("newc" cpio) of /init and /dev/console."""
    out = bytearray()
    console = (5, 1)
    entries = [
        ("dev", stat.S_IFDIR | 0o755, (0, 0), b""), ("dev/console", stat.S_IFCHR | 0o600, console, b""),
        ("init", stat.S_IFREG | 0o755, (0, 0), init), ("TRAILER!!!", 0, (0, 0), b""),
    ]  # fmt: skip
    for number, (name, mode, device, data) in enumerate(entries, 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        for piece in (b"070701" + b"".join(b"%08X" % each for each in fields) + name.encode() + b"\0", data):
            out += piece
            out += bytes(-len(out) % 4)
    return gzip.compress(bytes(out))


def busiest(pid: int) -> float:
    """CPU seconds of the thread of a process that has used most."""
    ticks = os.sysconf("SC_CLK_TCK")
    used = [0.0]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        fields = (thread / "stat").read_text().rsplit(")", 1)[1].split()
        used.append((int(fields[11]) + int(fields[12])) / ticks)
    return max(used)


def measure(words: list[str], *, wall: bool) -> dict[str, float]:
    """Seconds for each job of one run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    start = time.perf_counter()
    spent: dict[str, float] = {}
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as process:
        before = 0.0
        assert process.stdout is not None
        for line in process.stdout:
            found = line.split()
            if len(found) == 2 and found[0] == b"done":
                now = time.perf_counter() - start if wall else busiest(process.pid)
                spent[found[1].decode()], before = now - before, now
    if list(spent) != list(JOBS):
        raise SystemExit(f"{words[0]}: the guest did not do all its jobs: {', '.join(spent) or 'none'}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--kernel", type=Path, default=LINUX)
    options = parser.parse_args()
    if not options.kernel.exists():
        raise SystemExit(f"no {options.kernel}: run tools/build-linux, or give --kernel")
    with tempfile.TemporaryDirectory() as name:
        program, initrd = Path(name) / "init", Path(name) / "initrd"
        subprocess.run([CC, "-O2", "-static", "-o", str(program), str(HERE / "kernel.c")], check=True)
        initrd.write_bytes(archive(program.read_bytes()))
        qemu = "qemu-system-riscv64 -machine virt -m 128 -display none -serial stdio -kernel".split()
        systems = {
            "ours": [sys.executable, "-m", "trapline", "boot", "--initrd", str(initrd), "--append", APPEND, "--kernel"],
            "qemu": [*qemu, str(options.kernel), "-initrd", str(initrd), "-append", APPEND],
        }
        systems["ours"].append(str(options.kernel))
        rounds = [{each: measure(words, wall=options.wall) for each, words in systems.items()} for _ in range(options.rounds)]
    print(f"{'job':9} {'ours, s':>8} {'QEMU, s':>8} {'ratio':>6}")
    for job in JOBS:
        ours, theirs = (min(each[system][job] for each in rounds) for system in ("ours", "qemu"))
        print(f"{job:9} {ours:8.2f} {theirs:8.2f} {theirs / ours:6.2f}")


if __name__ == "__main__":
    main()
