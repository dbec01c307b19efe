#!/usr/bin/env python3
"""The boundary benchmark, side by side: native, Trapline, and the peers that are installed.

    python3 bench/run.py                 everything: about six minutes
    python3 bench/run.py --quick         one round: about a minute
    python3 bench/run.py --rows stat,fork-wait --peers runsc,uml --repeat 9

A round visits every system once, so that what else this computer does hits all alike; medians and minima are over rounds.
Quote a quiet run: nothing else busy, laptop on mains, the same --cpus for all. Each run adds a line to bench/history.jsonl.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from report import Samples, markdown, medians, report
from systems import PEERS, SYSTEMS, adopt_orphans, command, memory_of_descendants, missing, run
from workloads import MEMORY, ROWS, SCRIPTS, START, prepare

HERE = Path(__file__).resolve().parent
HISTORY = HERE / "history.jsonl"
REST_MS = "400"


class Bench:
    """One benchmark: what to run where. `complaints`: what went wrong, once for each system."""

    def __init__(self, systems: Sequence[str], rows: Sequence[str], cpus: str, here: Path) -> None:
        self.systems, self.rows, self.cpus = systems, rows, cpus
        self.program = here / "boundary"
        self.cache = here / "bytecode"
        shutil.copy(HERE / "boundary.c", here)
        subprocess.run(["gcc", "-O2", "-static", "-o", str(self.program), str(HERE / "boundary.c")], check=True)
        self.scripts = prepare(here, tuple(rows))
        self.complaints: dict[str, str] = {}

    def measure(self, rounds: int) -> Samples:
        samples: Samples = {system: {} for system in self.systems}
        for system in self.systems:  # caches warm, byte code written
            run(command(system, self.program, ["true"]), self.cache, self.cpus)
        for number in range(rounds):
            for system in self.systems:
                _progress(f"round {number + 1} of {rounds}: {system}")
                for row, value in self.visit(system).items():
                    samples[system].setdefault(row, []).append(value)
        _progress("")
        return samples

    def visit(self, system: str) -> dict[str, float]:
        """One round of one system: a sample per row."""
        found: dict[str, float] = {}
        words = [f"{row}:1" for row in self.rows if row not in (*SCRIPTS, START, MEMORY)]
        words += [f"{row}={self.scripts[row]}:1" for row in self.rows if row in self.scripts]
        if words:
            ran = run(command(system, self.program, words), self.cache, self.cpus)
            for name, value in re.findall(r"^([A-Za-z0-9_-]+) ([0-9.]+)\r?$", ran.output, re.MULTILINE):
                found[name] = float(value)
            absent = [word.split(":")[0].split("=")[0] for word in words]
            absent = [row for row in absent if row not in found]
            self.complain(system, ran.trouble or (f"no answer for {', '.join(absent)}" if absent else ""))
        if START in self.rows:
            ran = run(command(system, self.program, ["true"]), self.cache, self.cpus)
            self.complain(system, ran.trouble)
            found[START] = ran.seconds * 1e9
        if MEMORY in self.rows:
            ran = run(command(system, self.program, ["rest", REST_MS]), self.cache, self.cpus, memory_of_descendants)
            found[MEMORY] = ran.memory
        return found

    def complain(self, system: str, trouble: str) -> None:
        if trouble and system not in self.complaints:
            self.complaints[system] = trouble
            _progress("")
            print(f"{system}: {trouble}", file=sys.stderr)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


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


def names(option: str, text: str, known: Sequence[str]) -> list[str]:
    chosen = text.split(",") if text else []
    for each in chosen:
        if each not in known:
            raise SystemExit(f"{option} {each}: choose among {', '.join(known)}")
    return chosen


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="The boundary benchmark: native, Trapline and its peers, side by side.",
        epilog=f"rows: {', '.join(ROWS)}. peers: {', '.join(PEERS)}.",
    )
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rows", default="", help="comma-separated (default: all)")
    parser.add_argument("--peers", default=",".join(PEERS), help='comma-separated, "" for none (default: all)')
    parser.add_argument("--cpus", default="", help="pin every system to these CPUs (taskset's list)")
    parser.add_argument("--json", action="store_true", help="print samples and medians as JSON instead of tables")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/performance.md")
    parser.add_argument("--no-history", action="store_true", help="do not add a line to bench/history.jsonl")
    chosen = parser.parse_args()
    if chosen.repeat < 1:
        parser.error("--repeat: at least 1")
    chosen.repeat = 1 if chosen.quick else chosen.repeat
    chosen.rows = names("--rows", chosen.rows, ROWS) or list(ROWS)
    chosen.peers = names("--peers", chosen.peers, PEERS)
    return chosen


def main() -> int:
    chosen = options()
    absent = missing(chosen.peers)
    for line in absent:
        print(line, file=sys.stderr)
    peers = [peer for peer in chosen.peers if not any(line.startswith(f"{peer}:") for line in absent)]
    systems = [each for each in SYSTEMS if each not in PEERS or each in peers]
    adopt_orphans()
    about = {**machine(), "rounds": chosen.repeat, "cpus_pinned": chosen.cpus}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:  # user-mode Linux has a /tmp of its own
        os.chmod(scratch, 0o755)
        bench = Bench(systems, chosen.rows, chosen.cpus, Path(scratch))
        samples = bench.measure(chosen.repeat)
    if chosen.json:
        print(json.dumps({"machine": about, "medians": medians(samples), "samples": samples}, indent=1))
    elif chosen.markdown:
        print(markdown(samples, chosen.rows))
    else:
        print(f"{about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}")
        print(f"Python {about['python']}, {about['date']}, rounds: {chosen.repeat}, load before: {about['load']}")
        print(report(samples, chosen.rows))
    if not chosen.no_history:
        with HISTORY.open("a") as file:
            file.write(json.dumps({**about, "medians": medians(samples)}) + "\n")
    return 1 if bench.complaints else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # what was running has been ended
        sys.exit(130)
