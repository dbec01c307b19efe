#!/usr/bin/env python3
"""The boundary benchmark, side by side: native, Trapline, and the peers that are installed.

    python3 bench/run.py [--rounds 5] [--rows getppid,stat] [--systems native,trapline,runsc] [--cpus 0,1] [--json] [--record]

A round visits every system once, so that what else this computer does hits all alike; medians and minima are over rounds.
Quote a quiet run: nothing else busy (`--record` refuses when the load is high), laptop on mains, same `--cpus` for all.

The peers and the flags they need:
  runsc    --network=none --platform=ptrace --ignore-cgroups do PROGRAM   (as root; else also --rootless)
  uml      linux.uml rootfstype=hostfs ro init=PROGRAM bench=ROWS:1       (PROGRAM is init; rows come by its environment)
  proot    PROGRAM                                                        (intercepts; the host's kernel serves the calls)
  strace   -f -o /dev/null PROGRAM                                        (likewise)
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
HISTORY = HERE / "history.jsonl"
START = "start-true"
ROWS = (
    "getppid", "clock_gettime", "pread-4k", "open-close", "stat", "pipe", "pipe-2", "signal", "fork-wait", "exec-wait",
    "first-touch", "copy-on-write", "integer", "float", START,
)  # fmt: skip
SYSTEMS = ("native", "trapline", "runsc", "uml", "proot", "strace")
TIMEOUT_S = 180
Samples = dict[str, dict[str, list[float]]]  # system → row → nanoseconds per operation, one per round


def command(system: str, program: Path, words: Sequence[str]) -> list[str]:
    """The command line that runs the benchmark under a system."""
    inner = [str(program), *words]
    if system == "trapline":
        bind = ["--bind", f"{program.parent}:/bench:ro"]
        return [sys.executable, "-m", "trapline", "run", *bind, "--", f"/bench/{program.name}", *words]
    if system == "runsc":
        rootless = [] if os.getuid() == 0 else ["--rootless"]
        return ["runsc", *rootless, "--network=none", "--platform=ptrace", "--ignore-cgroups", "do", *inner]
    if system == "uml":
        rows = ",".join(word.partition(":")[0] for word in words if ":" in word) or "none"
        boot = ["mem=512M", "rootfstype=hostfs", "root=/dev/root", "ro", "quiet", "con=null", "con0=fd:0,fd:1"]
        return ["linux.uml", *boot, f"init={program}", f"bench={rows}:1"]
    if system == "proot":
        return ["proot", *inner]
    if system == "strace":
        return ["strace", "-f", "-o", "/dev/null", *inner]
    return inner


def installed(system: str) -> bool:
    tool = {"runsc": "runsc", "uml": "linux.uml", "proot": "proot", "strace": "strace"}.get(system)
    return tool is None or shutil.which(tool) is not None


def execute(words: Sequence[str], cpus: str) -> tuple[float, str, str]:
    """Run a command; seconds, standard output, and what went wrong ("" if nothing did)."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src")}
    words = ["taskset", "-c", cpus, *words] if cpus else list(words)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TIMEOUT_S, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return TIMEOUT_S, "", f"no answer in {TIMEOUT_S} s"
    seconds = time.perf_counter() - start
    trouble = "" if done.returncode == 0 else f"status {done.returncode}: {done.stderr.strip()[-300:]}"
    return seconds, done.stdout, trouble


def visit(system: str, program: Path, rows: Sequence[str], cpus: str) -> tuple[dict[str, float], str]:
    """One round of one system: a sample per row, and what went wrong."""
    found: dict[str, float] = {}
    inner = [row for row in rows if row != START]
    trouble = ""
    if inner:
        _, text, trouble = execute(command(system, program, [f"{row}:1" for row in inner]), cpus)
        for name, value in re.findall(r"^([a-z0-9_-]+) ([0-9.]+)\r?$", text, re.MULTILINE):
            found[name] = float(value)
        missing = [row for row in inner if row not in found]
        trouble = trouble or (f"no answer for {', '.join(missing)}" if missing else "")
    if START in rows:
        seconds, _, failed = execute(command(system, program, ["true"]), cpus)
        trouble = trouble or failed
        if not failed:
            found[START] = seconds * 1e9
    return found, trouble


def measure(systems: Sequence[str], rows: Sequence[str], rounds: int, cpus: str, program: Path) -> Samples:
    samples: Samples = {system: {} for system in systems}
    complained: set[str] = set()
    for number in range(rounds):
        for system in systems:
            found, trouble = visit(system, program, rows, cpus)
            for row, value in found.items():
                samples[system].setdefault(row, []).append(value)
            if trouble and system not in complained:
                complained.add(system)
                print(f"{system}: {trouble}", file=sys.stderr)
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {rounds}", end="\n" if number + 1 == rounds else "", file=sys.stderr)
    return samples


def amount(nanoseconds: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def table(title: str, columns: Sequence[str], rows: Sequence[str], cell: Callable[[str, str], str]) -> str:
    """At most 80 columns: 14 for the row's name, 11 for each system."""
    lines = ["", title, f"{'':14}" + "".join(f"{column:>11}" for column in columns)]
    lines += [f"{row:14}" + "".join(f"{cell(row, column):>11}" for column in columns) for row in rows]
    return "\n".join(lines)


def report(samples: Samples, rows: Sequence[str]) -> str:
    systems = list(samples)

    def statistic(reduce: Callable[[list[float]], float]) -> Callable[[str, str], str]:
        return lambda row, system: amount(reduce(samples[system][row])) if samples[system].get(row) else "-"

    def ratio(base: str) -> Callable[[str, str], str]:
        def cell(row: str, system: str) -> str:
            ours, theirs = samples[base].get(row), samples[system].get(row)
            return f"{statistics.median(ours) / statistics.median(theirs):.3g}" if ours and theirs else "-"

        return cell

    parts = [
        table("median, per operation", systems, rows, statistic(statistics.median)),
        table("minimum", systems, rows, statistic(min)),
    ]
    if "trapline" in systems:
        others = [system for system in systems if system != "trapline"]
        parts.append(table("trapline divided by … (medians; below 1: trapline is faster)", others, rows, ratio("trapline")))
    return "\n".join(parts)


def machine() -> dict[str, object]:
    """What a reader must know of the computer; no names, no paths."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model.group(1) if model else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def build(where: Path) -> Path:
    program = where / "boundary"
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(HERE / "boundary.c")], check=True)
    return program


def names(text: str, known: Sequence[str]) -> list[str]:
    chosen = text.split(",") if text else list(known)
    for each in chosen:
        if each not in known:
            raise SystemExit(f"{each}: choose among {', '.join(known)}")
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description="The boundary benchmark under several systems, side by side.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default="", help="comma-separated; default: all")
    parser.add_argument("--systems", default="", help="comma-separated; default: all that are installed")
    parser.add_argument("--cpus", default="", help="pin all systems to these CPUs (taskset's list)")
    parser.add_argument("--json", action="store_true", help="print samples and medians as JSON instead of tables")
    parser.add_argument("--record", action="store_true", help="append medians to bench/history.jsonl")
    options = parser.parse_args()
    systems = [each for each in names(options.systems, SYSTEMS) if installed(each)]
    rows = names(options.rows, ROWS)
    if options.record and os.getloadavg()[0] > 0.5:
        raise SystemExit(f"load average {os.getloadavg()[0]:.2f}: --record wants a quiet machine (below 0.5)")
    about = machine()
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        samples = measure(systems, rows, options.rounds, options.cpus, build(Path(scratch)))
    medians = {s: {r: round(statistics.median(v), 3) for r, v in found.items()} for s, found in samples.items()}
    if options.json:
        print(json.dumps({"machine": about, "rounds": options.rounds, "medians": medians, "samples": samples}, indent=1))
    else:
        print(f"{about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}, {options.rounds} rounds, load {about['load']}")
        print(report(samples, rows))
    if options.record:
        with HISTORY.open("a") as file:
            file.write(json.dumps({**about, "rounds": options.rounds, "cpus_pinned": options.cpus, "medians": medians}) + "\n")
    return 0 if all(samples[system] for system in systems) else 1


if __name__ == "__main__":
    sys.exit(main())
