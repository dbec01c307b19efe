"""A caller that closed its standard streams: no descriptor of the kernel's own may be taken for one of them.

(The first memfd that the kernel opened used to get the number 0, and the guest read all of RAM as its standard input.)
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import support

#: Runs a kernel in a process whose standard streams are closed, and writes what the guest read to a file.
EMBEDDED = """
import os, sys
import trapline
for fd in (0, 1, 2):
    os.close(fd)
with trapline.Kernel(memory=64 << 20) as kernel:
    kernel.run(["sh", "-c", "head -c 100000 | wc -c >/tmp/count; echo lost; echo lost >&2"])
    count = kernel.read_file("/tmp/count")
with open(sys.argv[1], "wb") as file:
    file.write(count)
"""


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-"])
def test_closed_input_reads_nothing(closed: str) -> None:
    command = " ".join(support.trapline_command(["sh", "-c", "'head -c 100000 | wc -c'"]))
    got = support.native(["bash", "-c", f"{command} {closed}"], env=support.host_environment(), cwd="/usr")
    assert got.status == 0 and got.text == "0\n", got.tail()


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_output_goes_nowhere(closed: str) -> None:
    """The kernel's own files are behind no number that the program can write to."""
    script = "'head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 7'"
    command = " ".join(support.trapline_command(["sh", "-c", script]))
    got = support.native(["bash", "-c", f"{command} {closed}"], env=support.host_environment(), cwd="/usr")
    assert got.status == 7 and b"panic" not in got.stderr, got.tail()


def test_embedder_without_streams(tmp_path: os.PathLike[str]) -> None:
    target = os.path.join(tmp_path, "count")
    environment = {**os.environ, "PYTHONPATH": str(support.SRC)}
    done = subprocess.run([sys.executable, "-c", EMBEDDED, target], env=environment, timeout=60, check=False)
    assert done.returncode == 0
    with open(target, "rb") as file:
        assert file.read() == b"0\n"
