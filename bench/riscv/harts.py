#!/usr/bin/env python3
"""Harts on threads: what a second one brings, and what code that is fit for it costs, bare metal, beside QEMU's threads.

    python3 bench/riscv/harts.py [--rounds 3] [--rows sieve,hash] [--harts 2] [--scale 0.5] [--json]

Each hart does the whole work on data of its own. `turns` is `trapline boot --harts N`, whose harts take turns on one thread;
`threads` adds `--harts-on threads`; `qemu` is qemu-system-riscv64 -smp N. Whole runs by the clock, the least of the rounds.
    gain   turns / threads, N harts: how much faster the same work is done
    scale  N * one hart's time on a thread / N harts' time: N, if each is as fast as one alone
    CPU    threads / turns, N harts, CPU time of all threads: what it costs to work side by side
    cost   threads / turns, one hart, CPU time: what order and slices cost who is alone
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import CC, HERE, ROWS, cpu_seconds, execute, geomean

FLAGS = ("-O2", "-w", "-static", "-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-pic", "-mcmodel=medany", "-march=rv64gc")
LINK = ("-Wl,--build-id=none", "-T", str(HERE / "link.ld"), "-Wl,-z,norelro", "-Wl,--no-warn-rwx-segments")
MOST = 4


def compile_harts(where: Path, name: str, rounds: int, harts: int) -> Path:
    """An image in which so many harts do the work, each with a copy of it."""
    target = where / f"harts-{name}-{harts}"
    objects = []
    for n in range(MOST if harts > 2 else harts):
        objects.append(str(where / f"work{n}.o"))
        defines = [f"-DWORK={name}", f"-DROUNDS={rounds}", f"-Dwork=work{n}"]
        subprocess.run([CC, *FLAGS, *defines, "-c", "-o", objects[-1], str(HERE / "work.c")], check=True)
    printing = str(where / "start.o")
    subprocess.run([CC, *FLAGS, "-Dput=put_alone", "-c", "-o", printing, str(HERE / "start.c")], check=True)
    start = str(HERE / "harts.S")
    subprocess.run([CC, *FLAGS, *LINK, f"-DHARTS={harts}", "-o", str(target), start, printing, *objects], check=True)
    return target


def systems(image: Path, harts: int, *, qemu: bool) -> dict[str, list[str]]:
    words = commands_of(image)
    ours = [*words["trapline"][:-1], "--harts", str(harts)]
    found = {"turns": [*ours, str(image)], "threads": [*ours, "--harts-on", "threads", str(image)]}
    if qemu:
        found["qemu"] = [*words["qemu"], "-smp", str(harts)]
    return found


def commands_of(image: Path) -> dict[str, list[str]]:
    """As run.py starts them."""
    qemu = ["qemu-system-riscv64", "-machine", "virt", "-bios", "none", "-display", "none", "-serial", "stdio"]
    return {"trapline": [sys.executable, "-m", "trapline", "boot", str(image)], "qemu": [*qemu, "-kernel", str(image)]}


def measure(name: str, size: int, harts: int, rounds: int, where: Path) -> dict[str, float]:
    """Seconds of each system, and of one hart in turns and on a thread."""
    todo = systems(compile_harts(where, name, size, harts), harts, qemu=True)
    alone = systems(compile_harts(where, name, size, 1), 1, qemu=False)
    todo |= {f"{system}, alone": words for system, words in alone.items()}
    best: dict[str, float] = {}
    for _ in range(rounds):
        for system, words in todo.items():
            before = cpu_seconds()
            seconds, sums = execute(words, time.perf_counter)
            used = cpu_seconds() - before
            if len(set(sums.split("\n"))) != 1:
                raise SystemExit(f"{name}, {system}: the harts disagree: {sums}")
            best[system] = min(seconds, best.get(system, seconds))
            best[f"{system}, CPU"] = min(used, best.get(f"{system}, CPU", used))
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(name for name, _, what in ROWS if what == "integer"))
    parser.add_argument("--harts", type=int, default=2, choices=(2, MOST))
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the size of every row")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = {name: size for name, size, _ in ROWS}
    found: dict[str, dict[str, float]] = {}
    print(f"{options.harts} harts, s, load {os.getloadavg()[0]:.1f}")
    print(f"{'row':<12}{'turns':>8}{'threads':>9}{'qemu':>8}{'gain':>7}{'scale':>7}{'qemu/threads':>14}{'CPU':>7}{'cost':>7}")
    with tempfile.TemporaryDirectory(prefix="trapline-bench-") as scratch:
        for name in options.rows.split(","):
            size = max(1, round(sizes[name] * options.scale))
            best = found[name] = measure(name, size, options.harts, options.rounds, Path(scratch))
            best["gain"], best["cpu"] = best["turns"] / best["threads"], best["threads, CPU"] / best["turns, CPU"]
            best["scale"] = options.harts * best["threads, alone"] / best["threads"]
            best["cost"] = best["threads, alone, CPU"] / best["turns, alone, CPU"]
            ratio = best["ratio"] = best["qemu"] / best["threads"]
            times = f"{best['turns']:>8.2f}{best['threads']:>9.2f}{best['qemu']:>8.2f}"
            print(f"{name:<12}{times}{best['gain']:>7.2f}{best['scale']:>7.2f}{ratio:>14.2f}", end="")
            print(f"{best['cpu']:>7.2f}{best['cost']:>7.2f}", flush=True)
    means = {key: geomean([each[key] for each in found.values()]) for key in ("gain", "scale", "ratio", "cpu", "cost")}
    print(f"{'mean':<37}{means['gain']:>7.2f}{means['scale']:>7.2f}{means['ratio']:>14.2f}", end="")
    print(f"{means['cpu']:>7.2f}{means['cost']:>7.2f}")
    if options.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
