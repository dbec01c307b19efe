#!/usr/bin/env python3
"""The RISC-V machine beside QEMU: the same programs, bare metal and under Linux's system calls, in one run.

    python3 bench/riscv/run.py [--rounds 3] [--rows sieve,hash] [--kinds linux,bare] [--scale 1.0] [--cpu] [--json] [--record]

A row is a whole run of a program, start-up included: `linux` on `trapline run --machine riscv` and qemu-riscv64 (which
translates system calls, and needs no MMU), `bare` on `trapline boot` and qemu-system-riscv64. A round visits every system
once; medians and minima are over rounds. --cpu counts CPU time, of all threads, for a computer that others use too. Every
run's checksum is compared with the others'. Needs riscv64-linux-gnu-gcc, qemu-user, qemu-system-misc.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HISTORY = HERE.parent / "history.jsonl"
CC = "riscv64-linux-gnu-gcc"
#: (name, rounds of the work, kind of arithmetic), sized so that QEMU takes about a second (`cold`: a tenth, or it would be hot)
ROWS = (
    ("sieve", 240, "integer"), ("hash", 200_000, "integer"), ("list", 14_000, "integer"), ("blend", 90_000, "integer"),
    ("records", 14_000_000, "integer"), ("bytecode", 6_000_000, "integer"), ("recursion", 2700, "integer"),
    ("matmul", 400, "float"), ("nbody", 750_000, "float"), ("stream", 900, "float"), ("cold", 2000, "cold"),
)  # fmt: skip
TIMEOUT_S = 300


def compile_linux(where: Path) -> Path:
    target = where / "work"
    subprocess.run([CC, "-O2", "-static", "-o", str(target), str(HERE / "work.c")], check=True)
    return target


def compile_bare(where: Path, name: str, rounds: int) -> Path:
    target = where / f"bare-{name}"
    flags = ["-O2", "-w", "-static", "-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-pic", "-mcmodel=medany"]
    link = ["-Wl,--build-id=none", "-T", str(HERE / "link.ld"), "-Wl,-z,norelro", "-Wl,--no-warn-rwx-segments"]
    sources = [str(HERE / each) for each in ("start.S", "start.c", "work.c")]
    subprocess.run([CC, *flags, *link, f"-DWORK={name}", f"-DROUNDS={rounds}", "-o", str(target), *sources], check=True)
    return target


def cpu_seconds() -> float:
    """What children have used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def execute(words: Sequence[str], clock: Callable[[], float]) -> tuple[float, str]:
    """Seconds, and the checksum line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    start = clock()
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
    )
    seconds = clock() - start
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: status {done.returncode}\n{done.stderr}")
    return seconds, done.stdout.strip()


def commands(kind: str, where: Path, name: str, rounds: int, linux: Path) -> dict[str, list[str]]:
    if kind == "linux":
        ours = [sys.executable, "-m", "trapline", "run", "--machine", "riscv", "--bind", f"{where}:/bench", "--", "/bench/work"]
        return {"trapline": [*ours, name, str(rounds)], "qemu": ["qemu-riscv64", str(linux), name, str(rounds)]}
    image = str(compile_bare(where, name, rounds))
    qemu = ["qemu-system-riscv64", "-machine", "virt", "-bios", "none", "-display", "none", "-serial", "stdio", "-kernel"]
    return {"trapline": [sys.executable, "-m", "trapline", "boot", image], "qemu": [*qemu, image]}


def geomean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(row[0] for row in ROWS))
    parser.add_argument("--kinds", default="linux,bare")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the size of every row")
    parser.add_argument("--cpu", action="store_true", help="CPU time, not elapsed time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true", help=f"append the result to {HISTORY.name}")
    options = parser.parse_args()
    missing = [tool for tool in (CC, "qemu-riscv64", "qemu-system-riscv64") if shutil.which(tool) is None]
    if missing:
        packages = "gcc-riscv64-linux-gnu qemu-user qemu-system-misc"
        print(f"not installed: {', '.join(missing)}: apt-get install {packages}", file=sys.stderr)
        return 1
    wanted = options.rows.split(",")
    unknown = set(wanted) - {row[0] for row in ROWS}
    if unknown:
        print(f"no such row: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 1
    clock = cpu_seconds if options.cpu else time.perf_counter
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="trapline-bench-") as name:
        where = Path(name)
        where.chmod(0o755)
        linux = compile_linux(where)
        for kind in options.kinds.split(","):
            title = f"{kind}: whole run, s{' of CPU' if options.cpu else ''}"
            print(f"{title:28}{'trapline':>18}{'qemu':>18}{'qemu/trapline':>15}")
            for row, size, what in ROWS:
                if row in wanted:
                    scaled = max(1, round(size * options.scale))
                    results.append(measure(kind, row, scaled, what, options.rounds, where, linux, clock))
            for what in ("integer", "float", "cold"):
                ratios = [float(str(each["ratio"])) for each in results if each["kind"] == kind and each["what"] == what]
                if ratios:
                    print(f"  geometric mean, {what:<44}{geomean(ratios):>17.2f}")
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "bench": "riscv",
        "host": platform.processor() or platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "clock": "cpu" if options.cpu else "elapsed",
        "rows": results,
    }
    if options.json:
        print(json.dumps(record, indent=2))
    if options.record:
        with HISTORY.open("a") as file:
            file.write(json.dumps(record) + "\n")
    return 0


def measure(
    kind: str, row: str, size: int, what: str, rounds: int, where: Path, linux: Path, clock: Callable[[], float]
) -> dict[str, object]:
    """One row, interleaved; prints it."""
    words = commands(kind, where, row, size, linux)
    times: dict[str, list[float]] = {system: [] for system in words}
    sums: set[str] = set()
    for _ in range(rounds):
        for system, command in words.items():
            seconds, checksum = execute(command, clock)
            times[system].append(seconds)
            sums.add(checksum)
    if len(sums) != 1:
        raise SystemExit(f"{row}: the systems disagree: {sums}")
    best = {system: min(each) for system, each in times.items()}
    median = {system: statistics.median(each) for system, each in times.items()}
    ratio = best["qemu"] / best["trapline"]
    cells = "".join(f"{median[system]:>9.2f} ({best[system]:>5.2f})" for system in ("trapline", "qemu"))
    print(f"  {row:<24}{cells:>38}{ratio:>15.2f}", flush=True)
    return {"kind": kind, "row": row, "size": size, "what": what, "median": median, "min": best, "ratio": ratio}


if __name__ == "__main__":
    sys.exit(main())
