"""The pieces of Python in the documentation do what the text around them says."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest

import support


def blocks(page: str) -> list[str]:
    """The pieces of Python on a page, in order."""
    text = Path(support.ROOT, page).read_text()
    return [
        textwrap.dedent(each)
        for each in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    ]


def run(program: str) -> str:
    """What a Python program that has Trapline prints."""
    got = support.native([support.python_for(os.getuid()), "-u", "-c", program], env=support.host_environment())
    assert got.status == 0, got.tail()
    return got.text


pytestmark = pytest.mark.usefixtures("no_process_left")


def test_readme_runs_and_answers_a_call() -> None:
    (block,) = blocks("README.md")
    assert run(block) == "1\n2\n3\n\nhi\n42\n"


def test_python_page_runs_as_subprocess_does() -> None:
    assert run(blocks("docs/python.md")[0] + "print(out)") == "b'hello\\n'\n"


def test_python_page_counts_faults() -> None:
    answer, counted = run(blocks("docs/python.md")[1]).splitlines()
    status, faults = counted.split()
    assert (answer, status) == ("42", "0") and int(faults) > 10


def test_python_page_refuses_a_call_and_shortens_another() -> None:
    guest = "import os\ntry: os.unlink('/tmp')\nexcept PermissionError: print(len(os.getrandom(64)))"
    around = f"import trapline\nkernel = trapline.Kernel()\n{blocks('docs/python.md')[3]}\nkernel.run(['python3', '-c', {guest!r}])\nkernel.close()"
    assert run(around) == "16\n"


def test_python_page_runs_a_lab() -> None:
    block = next(each for each in blocks("docs/python.md") if "labs" in each)
    assert run(block) == "not supported 64\n"


def test_python_page_changes_refuses_and_fakes_calls() -> None:
    guest = "import os\ntry: os.unlink('/tmp')\nexcept PermissionError: print(len(os.getrandom(64)), os.getppid())"
    around = f"import trapline\nkernel = trapline.Kernel()\n{blocks('docs/python.md')[2]}\nkernel.run(['python3', '-c', {guest!r}])\nkernel.close()"
    assert run(around) == "8 7\n"


def test_tracing_page_refuses_deletions() -> None:
    (block,) = blocks("docs/tracing.md")
    assert run(block).splitlines()[-1] == "1"


def test_views_page_shows_a_loaded_program() -> None:
    sizes, walk = run(blocks("docs/views.md")[0]).splitlines()
    assert sizes.endswith("]") and "K [1, " in sizes
    assert walk.startswith("physical address 0x") and walk.endswith("| reads and writes need no kernel")


def test_ledger_page_prices_calls() -> None:
    (block,) = blocks("docs/ledger.md")
    names = [line.split()[0] for line in run(block).splitlines()]
    assert "mmap" in names and "exit_group" in names


def test_extending_page_adds_a_device() -> None:
    block = next(each for each in blocks("docs/extending.md") if "CountFile" in each)
    around = (
        "import trapline\nwith trapline.Kernel() as kernel: kernel.run(['head', '-n', '3', '/dev/count'])"
    )
    assert run(f"{block}\n{around}") == "1\n2\n3\n"


def test_extending_page_lights_a_led() -> None:
    block = next(each for each in blocks("docs/extending.md") if "Led" in each)
    before = (
        "from trapline.machine.riscv.board import Board\nboard = Board(4 << 20, send=print, native=False)\n"
    )
    after = (
        "for value in (3, 2): board.bus.write(0x1000_2000, 4, value); print(board.bus.read(0x1000_2000, 4))"
    )
    assert run(before + block + after) == "1\n0\n"


@pytest.mark.skipif(bool(support.have("riscv64-linux-gnu-gcc")), reason="not installed: riscv64-linux-gnu-gcc")
def test_riscv_page_boots_a_board(tmp_path: Path) -> None:
    text = Path(support.ROOT, "docs/riscv.md").read_text()
    source, commands = re.findall(r"```c\n(.*?)```\n\n((?:    [^\n]*\n)+)", text, re.DOTALL)[0]
    (tmp_path / "hello.c").write_text(source)
    compiler, boot = (line.split() for line in commands.splitlines())
    assert boot == ["trapline", "boot", "image.elf"]
    built = support.native(compiler, cwd=tmp_path)
    assert built.status == 0, built.tail()
    words = [support.python_for(os.getuid()), "-m", *boot]
    got = support.native(words, cwd=tmp_path, env=support.host_environment())
    assert got.status == 0 and got.text == "hello from the board\n", got.tail()
