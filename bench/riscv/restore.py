#!/usr/bin/env python3
"""From a checkpoint to a shell: seconds from the start of `trapline boot --restore` to what a person sees of a typed command.

    python3 bench/riscv/restore.py [--rounds 5] [--linux ~/.cache/trapline/linux]

    echoed     the command's first character comes back    answered   so does what it prints     cpu    time of all its threads
    cold       the same, once, when the host's file cache has nothing of the checkpoint, of Trapline and of Python's packages

The guest is the small Linux of `tools/build-linux` with a disk of 64 MiB, whose overlay is kept in the checkpoint and made anew
by each run. It is typed at once, on a terminal. Median (and least) of the rounds.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import select
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from run import ROOT

READY = 60_000_000  #: instructions after which the shell waits
COMMAND = b"echo seen"
PATIENCE_S = 60.0


def trapline(*words: str) -> list[str]:
    return [sys.executable, "-m", "trapline", "boot", *words]


def checkpoint(where: Path, linux: Path) -> list[str]:
    """Make one; the words that restore it."""
    with (where / "disk").open("wb") as file:
        file.truncate(64 << 20)
    words = ["--kernel", str(linux / "Image"), "--initrd", str(linux / "initramfs.cpio.gz"), "--append", "console=ttyS0 quiet"]
    drive = ["--drive", f"{where / 'disk'},overlay"]
    command = trapline(*words, *drive, "--save", str(where / "kept"), "--save-at", str(READY))
    subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return [*drive, "--restore", str(where / "kept")]


def once(words: Sequence[str]) -> tuple[float, float, float]:
    """Seconds to the first character of the echo, and of the answer; CPU seconds. Raises SystemExit if neither comes."""
    ours, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[3] &= ~termios.ECHO  # the guest echoes
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    used, begin = _cpu(), time.perf_counter()
    with subprocess.Popen(trapline(*words), env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, COMMAND + b"\r")
        seen, echoed = b"", 0.0
        while b"\nseen" not in seen:
            if not select.select([ours], [], [], PATIENCE_S)[0]:
                raise SystemExit(f"nothing comes: {seen!r}")
            seen += os.read(ours, 4096)
            echoed = echoed or time.perf_counter() - begin
        answered = time.perf_counter() - begin
        process.kill()
    os.close(ours)
    return echoed, answered, _cpu() - used


def _cpu() -> float:
    """Of children that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def forget(*trees: Path) -> None:
    """Drop files from the host's cache, as far as nobody has mapped them."""
    os.sync()
    for path in (each for tree in trees for each in ([tree] if tree.is_file() else tree.rglob("*"))):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--linux", type=Path, default=Path.home() / ".cache/trapline/linux", help="what build-linux has made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        words = checkpoint(where, given.linux)
        once(words)
        found = [once(words) for _ in range(given.rounds)]
        for title, values in zip(("echoed", "answered", "cpu"), zip(*found, strict=True), strict=True):
            print(f"{title:10} {statistics.median(values):.3f} s   least {min(values):.3f} s")
        forget(where / "kept", ROOT / "src", Path(sysconfig.get_paths()["purelib"]), Path.home() / ".cache/trapline")
        print("cold       {:.3f} s echoed, {:.3f} s answered, {:.3f} s of CPU time".format(*once(words)))


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

if __name__ == "__main__":
    main()
