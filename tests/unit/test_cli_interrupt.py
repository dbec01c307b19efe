"""Ctrl-C before any program runs ends the command by that signal, without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import sys
import trapline.machine.select as select
from trapline.cli.main import main

def interrupted(*args):
    raise KeyboardInterrupt

select.open_machine = interrupted
import trapline.embed
trapline.embed.open_machine = interrupted
sys.exit(main(["run", "true"]))
"""


def test_an_interrupt_while_the_machine_starts_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
