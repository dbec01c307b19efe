"""The tour runs as it is written: every block of every experiment, and what the text says one will find is there.

That is what stands in **`bold`** behind a block, before the next one. White space may differ, as tables wrap.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

import support

TEXT = Path(support.ROOT, "docs/tour.md").read_text()
AROUND = 'trapline() {{ "{python}" -m trapline "$@"; }}\ntrap "test \\$? -lt 2 || exit 2" ERR\n{block}\ntrue\n'


class Block(NamedTuple):
    language: str
    code: str
    wanted: list[str]


def experiments() -> dict[str, list[Block]]:
    """Heading -> its blocks."""
    found = {}
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        if heading[0].isdigit():
            pieces = re.findall(r"^```(\w+)\n(.*?)^```$\n(.*?)(?=^```\w|\Z)", body, re.DOTALL | re.MULTILINE)
            found[heading] = [Block(language, code, marks(after)) for language, code, after in pieces]
    return found


def marks(text: str) -> list[str]:
    """What a reader is told to find."""
    return [" ".join(each.split()) for each in re.findall(r"\*\*`([^`]+)`\*\*", text)]


EXPERIMENTS = experiments()


def run(block: Block) -> str:
    python = support.python_for(os.getuid())
    words = [python, "-u", "-c", block.code]
    if block.language == "sh":
        words = ["bash", "-c", AROUND.format(python=python, block=block.code)]
    got = support.native(words, env={**support.host_environment(), "LC_ALL": "C.UTF-8"}, timeout_s=120)
    assert got.status == 0, got.tail()
    return " ".join((got.stdout + got.stderr).decode().split())


def test_there_are_twelve() -> None:
    assert [int(heading.split(".")[0]) for heading in EXPERIMENTS] == list(range(1, 13))
    assert all(block.wanted for blocks in EXPERIMENTS.values() for block in blocks), "nothing to look for"


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("heading", EXPERIMENTS)
def test_experiment(heading: str) -> None:
    for block in EXPERIMENTS[heading]:
        output = run(block)
        missing = [each for each in block.wanted if each not in output]
        assert not missing, f"{block.code}\nlooked for {missing} in:\n{output}"
