#!/usr/bin/env python3
"""What privileged work costs on the RISC-V machine, beside qemu-system-riscv64: nanoseconds for each time around a loop.

    python3 bench/riscv/privileged.py [--rounds 3] [--rows calls,faults]

    calls    a system call: U-mode to S-mode and back, with registers saved (37 instructions, nine of them privileged)
    faults   a store to a page that is not there: fault, map it, sfence.vma, again; all unmapped after each 64
    spaces   a write of satp (two spaces with ASIDs, in turn), and a load
    copies   setting sstatus.SUM, a load of a user page, clearing it

Each is the difference of two runs of a bare-metal program, one with more turns; the least of the rounds is shown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import CC, HERE, ROOT

#: Turns, of which one system takes so long that it gets fewer: (ours, QEMU's).
ROWS = {"calls": (4_000_000, 10**6), "faults": (10_000, 2500), "spaces": (8_000_000, 200_000), "copies": (8_000_000, 200_000)}
TURNS_INSIDE = {"faults": 64}


def build(where: Path, row: str, rounds: int) -> Path:
    target = where / f"{row}-{rounds}"
    flags = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-pic", "-mcmodel=medany", "-Wl,--build-id=none"]
    link = ["-T", str(HERE / "link.ld"), "-Wl,--no-warn-rwx-segments"]
    sources = [str(HERE / "privileged.S"), str(HERE / "privileged.c")]
    defines = [f"-DWORK={row}", f"-DROUNDS={rounds}ul"]
    subprocess.run([CC, *flags, *link, *defines, "-o", str(target), *sources], check=True)
    return target


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(words, capture_output=True, timeout=300, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: status {done.returncode}: {done.stderr.decode()}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(ROWS))
    options = parser.parse_args()
    systems = {
        "trapline": [sys.executable, "-m", "trapline", "boot"],
        "qemu": "qemu-system-riscv64 -machine virt -bios none -display none -serial null -kernel".split(),
    }
    print(f"{'row':8} {'ours, ns':>10} {'QEMU, ns':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as name:
        for row in options.rows.split(","):
            least = {}
            for (system, words), turns in zip(systems.items(), ROWS[row], strict=True):
                few, many = (build(Path(name), row, count) for count in (turns // 100, turns))
                spans = [seconds([*words, str(many)]) - seconds([*words, str(few)]) for _ in range(options.rounds)]
                least[system] = min(spans) / (turns * 0.99 * TURNS_INSIDE.get(row, 1)) * 1e9
            print(f"{row:8} {least['trapline']:10.0f} {least['qemu']:10.0f} {least['qemu'] / least['trapline']:6.2f}")


if __name__ == "__main__":
    main()
