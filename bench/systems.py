"""The systems that the benchmark compares: how each is told to run a program, and running it without leaving anything behind.

  native    the program itself
  trapline  trapline run, from this checkout
  runsc     gVisor with its ptrace platform (as root; else rootless)
  uml       user-mode Linux: the program is init, and its arguments come by the kernel's command line
  proot     intercepts calls; the host's kernel serves them
  strace    likewise, with its output thrown away
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parent.parent / "src"
PEERS = ("runsc", "uml", "proot", "strace")
SYSTEMS = ("native", "trapline", *PEERS)
TOOLS = {"runsc": "runsc", "uml": "linux.uml", "proot": "proot", "strace": "strace"}
TIMEOUT_S = 120
SAMPLE_S = 0.02
_PR_SET_CHILD_SUBREAPER = 36


class Ran(NamedTuple):
    seconds: float
    output: str
    trouble: str  #: what went wrong; "": nothing
    memory: int  #: most bytes seen, if they were looked at


def missing(peers: Sequence[str]) -> list[str]:
    """What to say of each peer that is not installed."""
    return [
        f"{peer}: {TOOLS[peer]} is not installed: left out" for peer in peers if peer in TOOLS and not shutil.which(TOOLS[peer])
    ]


def command(system: str, program: Path, words: Sequence[str]) -> list[str]:
    """The command line that runs `program` with arguments `words` under a system."""
    here = program.parent
    inner = [str(program), *words]
    if system == "trapline":
        return [sys.executable, "-m", "trapline", "run", "--bind", f"{here}:{here}:ro", "--", *inner]
    if system == "runsc":
        rootless = [] if os.getuid() == 0 else ["--rootless"]
        state = f"--root={here}/runsc"
        return ["runsc", *rootless, state, "--network=none", "--platform=ptrace", "--ignore-cgroups", "do", *inner]
    if system == "uml":
        boot = ["mem=512M", "rootfstype=hostfs", "root=/dev/root", "ro", "quiet", "con=null", "con0=fd:0,fd:1"]
        if words[0] in ("true", "rest"):
            return ["linux.uml", *boot, f"init={program}", "bench=none:1" if words[0] == "true" else "bench=integer:8"]
        return ["linux.uml", *boot, f"init={program}", f"bench={','.join(words)}"]
    wrappers = {"proot": ["proot"], "strace": ["strace", "-f", "-o", "/dev/null"]}
    return [*wrappers.get(system, []), *inner]


def adopt_orphans() -> None:
    """Whatever the systems start and leave behind becomes our child, so that `run` can end it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(words: Sequence[str], cache: Path, cpus: str = "", watch: Callable[[int], int] | None = None) -> Ran:
    """Run a command line to its end, then end what it left. `watch(pid)`: a number of bytes, asked now and then."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its byte code
    words = ["taskset", "-c", cpus, *words] if cpus else list(words)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        try:
            most = _await(process, watch)
            trouble = ""
        except subprocess.TimeoutExpired:
            most, trouble = 0, f"no answer in {TIMEOUT_S} s"
        finally:
            seconds = time.perf_counter() - start
            end_descendants()
        out.seek(0)
        err.seek(0)
        output, errors = (each.read().decode(errors="replace") for each in (out, err))
    if not trouble and process.returncode:
        trouble = f"status {process.returncode}: {errors.strip()[-300:]}"
    return Ran(seconds, output, trouble, most)


def _await(process: subprocess.Popen[bytes], watch: Callable[[int], int] | None) -> int:
    if watch is None:
        process.wait(TIMEOUT_S)
        return 0
    most = 0
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        most = max(most, watch(process.pid))
        time.sleep(SAMPLE_S)
    process.wait(0)
    return most


def descendants() -> list[int]:
    """Every process below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def end_descendants() -> None:
    """Kill what a command left behind, and collect it."""
    while left := descendants():
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0]:
                pass


def memory_of_descendants(_pid: int) -> int:
    """Bytes of host memory that all descendants have, what they share counted once (PSS)."""
    total = 0
    for pid in descendants():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total
