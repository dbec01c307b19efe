#!/usr/bin/env python3
"""Host memory of the RISC-V machine beside QEMU: MiB (PSS) of all processes of a run, sampled every 10 ms.

    python3 bench/riscv/memory.py [--kernel ~/.cache/trapline/linux/Image]

`peak` is the most that all processes of a run had together, `emulator` the most of the emulator's own, `end` what all had in
the last sample. `first` runs have an empty cache of compiled code, and so a compiler beside them; `later` ones find what they
need there. Rows: a program that runs for a second, bare and under the kernel; Linux, through what bench/riscv/kernel.c does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from kernel import APPEND, LINUX, archive

from run import CC, HERE, ROOT, compile_bare, compile_linux

PERIOD_S = 0.01
ROUNDS = {"sieve": 240}


class Used(NamedTuple):
    """MiB."""

    peak: float
    emulator: float
    end: float


def below(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += [int(child), *below(int(child))]
    return found


def pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(words: list[str], cache: Path) -> Used:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRAPLINE_CACHE": str(cache)}
    peak = own = end = 0.0
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None:
            try:
                mine = pss(process.pid)
                end = mine + sum(map(pss, below(process.pid)))
            except OSError:  # somebody ended meanwhile
                continue
            peak, own = max(peak, end), max(own, mine)
            time.sleep(PERIOD_S)
    return Used(peak, own, end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=Path, default=LINUX)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        where.chmod(0o755)
        bare, linux, init = compile_bare(where, "sieve", ROUNDS["sieve"]), compile_linux(where), where / "init"
        subprocess.run([CC, "-O2", "-static", "-o", str(init), str(HERE / "kernel.c")], check=True)
        initrd = where / "initrd"
        initrd.write_bytes(archive(init.read_bytes()))
        ours = [sys.executable, "-m", "trapline"]
        qemu = "qemu-system-riscv64 -machine virt -m 128 -display none -serial stdio".split()
        work = ["sieve", str(ROUNDS["sieve"])]
        rows = {
            "bare": ([*ours, "boot", str(bare)], [*qemu, "-bios", "none", "-kernel", str(bare)]),
            "linux program": (
                [*ours, "run", "--machine", "riscv", "--bind", f"{where}:/bench", "--", "/bench/work", *work],
                ["qemu-riscv64", str(linux), *work],
            ),
        }
        if options.kernel.exists():
            kernel = ["-initrd", str(initrd), "-append", APPEND, "-kernel", str(options.kernel)]
            boot = ["boot", *("-" + each if each.startswith("-") else each for each in kernel)]
            rows["Linux"] = ([*ours, *boot], [*qemu, *kernel])
        print(f"{'MiB':14}{'run':>7}{'peak':>8}{'emulator':>10}{'end':>8}{'QEMU peak':>11}{'ratio':>7}")
        for row, (mine, theirs) in rows.items():
            reference = measure(theirs, where)
            for run in ("first", "later"):
                used = measure(mine, where / f"cache-{row.replace(' ', '-')}")
                ratio = used.peak / reference.peak
                print(f"{row:14}{run:>7}{used.peak:8.1f}{used.emulator:10.1f}{used.end:8.1f}{reference.peak:11.1f}{ratio:7.2f}")


if __name__ == "__main__":
    main()
