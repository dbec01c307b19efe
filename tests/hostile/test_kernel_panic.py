"""A bug of the kernel's own is a panic: it says what happened, ends everything with status 125, and is never an errno."""

from __future__ import annotations

import subprocess
import sys

import pytest

import support
from trapline import Kernel
from trapline.kernel.panic import KernelPanic

pytestmark = pytest.mark.usefixtures("no_process_left")

#: A Trapline whose getpgid(2) has a bug, at once or after it might have slept.
BUGGY = """
import sys
from trapline.cli.main import main
from trapline.kernel.syscalls.declare import Pid
from trapline.kernel.syscalls.find import declaration
async def later():
    raise {error}
def buggy(task, pid: Pid):
    if {waits}:
        return later()
    raise {error}
declaration("getpgid").handler = buggy
sys.exit(main(sys.argv[1:]))
"""
GUEST = ["/usr/bin/python3", "-c", "import os; os.fork(); print('before', flush=True); os.getpgid(0); print('after')"]


@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "later"])
@pytest.mark.parametrize("error", ["ZeroDivisionError('x')", "IndexError", "KeyError(3)", "ValueError('v')", "FileNotFoundError('o')"])
def test_unexpected_exception_in_a_handler(error: str, waits: bool) -> None:
    script = BUGGY.format(error=error, waits=waits)
    done = subprocess.run(
        [sys.executable, "-c", script, "run", *GUEST],
        capture_output=True, text=True, timeout=60, check=False, env=support.host_environment(),
    )  # fmt: skip
    assert done.returncode == 125, done
    assert "after" not in done.stdout
    first, *state = done.stderr.splitlines()
    assert first.startswith("trapline: kernel panic: ") and error.split("(")[0] in first, done.stderr
    assert any("getpgid(0x0, " in line and "python3" in line for line in state), done.stderr
    assert any("in buggy" in line or "in later" in line for line in state), done.stderr


def test_an_embedded_kernel_raises_its_panic() -> None:
    with Kernel() as kernel:
        kernel.replace("getpgid", lambda task, pid: 1 // 0)
        with pytest.raises(KernelPanic, match="getpgid") as caught:
            kernel.run(GUEST)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert any("kernel panic: ZeroDivisionError" in line for _, line, _ in kernel.system.log_lines)
