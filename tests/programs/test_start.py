"""What starting a program imports: most of the time of a start is spent there, so it is counted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
before = set(sys.modules)
from trapline.cli.main import main
status = main({words!r})
print(status, *sorted(set(sys.modules) - before), file=sys.stderr)
"""
#: Standard modules that cost milliseconds.
HEAVY = frozenset(
    "argparse asyncio ctypes dataclasses enum inspect json logging pathlib random re shutil signal socket subprocess tarfile "
    "tempfile threading traceback typing".split()
)
#: Ours that a program which only starts and ends has no use for.
UNUSED = frozenset(
    f"trapline.{name}"
    for name in (
        "api kernel.bpf.classic kernel.drivers.chardev kernel.drivers.hosttty kernel.drivers.pty kernel.drivers.tty "
        "kernel.fs.nsfs kernel.fs.proc.rootfiles kernel.fs.proc.system kernel.fs.proc.taskfiles kernel.fs.proc.taskmm "
        "kernel.ipc.epoll kernel.ipc.futex.pi kernel.ipc.inotify kernel.ipc.pipe kernel.ipc.sysv.sem kernel.ipc.sysv.undo "
        "kernel.net.unix kernel.security.seccomp kernel.syscalls.prctl kernel.syscalls.wait kernel.task.itimers "
        "kernel.task.oom kernel.task.posix_timers kernel.task.signals.deliver kernel.task.signals.frame_x86_64 "
        "kernel.task.wait"
    ).split()
)
MOST = 235  #: modules in all; raise it only for what every program needs


def imported(words: list[str]) -> tuple[int, set[str]]:
    """(exit status, what was imported) of a command line in a fresh interpreter without terminals."""
    environment = {**os.environ, "PYTHONPATH": "src"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", SCRIPT.format(words=words)], env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, *modules = done.stderr.splitlines()[-1].split()
    return int(status), set(modules)


def test_a_program_that_does_nothing_imports_no_more_than_it_needs(no_process_left: None) -> None:
    status, modules = imported(["run", "--", "true"])
    assert status == 0
    assert modules & (HEAVY | UNUSED) == set()
    assert not [each for each in modules if each.startswith(("trapline.scope", "trapline.labs"))], "what nobody asked for is free"
    assert len(modules) <= MOST, f"{len(modules)} modules: what was added that could be imported later?"


@pytest.mark.parametrize(("words", "most"), [(["--version"], 20), (["help"], 20), (["help", "run"], 30)])
def test_saying_something_imports_no_kernel(words: list[str], most: int) -> None:
    status, modules = imported(words)
    assert status == 0
    assert {each for each in modules if each.startswith("trapline.kernel.")} <= {"trapline.kernel.config"}
    assert modules & HEAVY == set()
    assert len(modules) <= most, modules


def test_the_package_itself_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import trapline; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": "src"}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"__future__", "_collections", "trapline", "trapline.typed"}
