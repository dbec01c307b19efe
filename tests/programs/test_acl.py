"""setfacl and getfacl, and what other programs make of access control lists, as natively."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from side_by_side import Same

import support

pytestmark = pytest.mark.usefixtures("no_process_left")

COMMANDS = r"""
setfacl -m u:1001:rw,g:2002:r fruit.txt && getfacl -cn fruit.txt && ls -l fruit.txt | cut -c1-11
setfacl -m u:1001:rwx numbers && chmod 640 numbers && getfacl -cn numbers
setfacl -m m::r,o::- table.csv && getfacl -cn table.csv && stat -c %a table.csv
setfacl -d -m u:1001:rwX,g::rx sub && touch sub/new && mkdir sub/dir && getfacl -cn sub sub/new sub/dir
setfacl -R -m u:1001:rX sub && getfacl -cn sub sub/one.c sub/deep sub/deep/two.h
setfacl -m u:1001:r text && cp -p text text2 && getfacl -cn text2
setfacl -m u:1001:r text && getfacl -n text | grep -v '^#' | setfacl --set-file=- fruit.txt && getfacl -cn fruit.txt
setfacl -m u:1001:r text && setfacl -b text && getfacl -cn text && ls -l text | cut -c1-11
setfacl -m u:1001:r text && setfacl -x u:1001 text && getfacl -cn text
setfacl -d -m u:1001:r fruit.txt; echo $?
setfacl -k sub; getfacl -cn sub
""".strip().splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, same: Same, tmp_path: Path) -> None:
    if missing := support.have("setfacl"):
        pytest.skip(missing)
    probe = tmp_path / "probe"
    probe.touch()
    if subprocess.run(["setfacl", "-m", "u:1001:r", probe], check=False, capture_output=True).returncode:
        pytest.skip("the host's file system has no access control lists here")
    # in a directory that the guest has in memory: those of the host show no lists
    same(["bash", "-c", f'here=$(mktemp -d) && cp -a . "$here" && cd "$here" && {command}; rm -r "$here"'])
