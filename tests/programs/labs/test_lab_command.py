"""`trapline lab` as one types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import support


def lab(*words: str, cwd: Path | None = None) -> support.Result:
    return support.native([support.python_for(os.getuid()), "-m", "trapline", "lab", *words], cwd=cwd, env=support.host_environment())


def needs_matplotlib() -> None:
    python = support.python_for(os.getuid())
    if support.native([python, "-c", "import matplotlib"], env=support.host_environment()).status:
        pytest.skip(f"not installed for {python}: matplotlib")


def test_list_names_every_lab() -> None:
    text = lab("list").text
    rows = json.loads(lab("list", "--json").text)
    assert {"id", "name", "question", "claim", "machines", "seconds"} <= rows[0].keys()
    for row in rows:
        assert row["id"] in text and row["name"] in text


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 125, "no lab"),
        (("--json",), 125, "name the lab first"),
        (("Z9",), 125, "no lab is called Z9"),
        (("M9", "--machine", "board"), 125, "runs on host and riscv only"),
        (("M9", "--nx=perhaps"), 125, "neither on nor off"),
        (("M9", "--without", "paging"), 125, "can do without nx"),
        (("M9", "--repeat", "0"), 125, "--repeat 0"),
        (("M9", "--plot", "x.gif"), 125, ".png, .svg or .html"),
        (("M9", "--plot", "/nosuch/x.svg"), 125, "--plot /nosuch/x.svg: cannot be written"),
        (("M9", "--json", "extra"), 125, "takes no extra"),
        (("M9", "--foo=1"), 125, "unknown option --foo: --help lists the options"),
    ],
)
def test_mistakes_are_named(words: tuple[str, ...], status: int, said: str) -> None:
    got = lab(*words)
    assert got.status == status and got.stderr.startswith(b"trapline: ") and said in got.stderr.decode(), got.tail()


def test_help_on_a_lab_lists_its_knobs() -> None:
    general, own = lab("--help").text, lab("M9", "--help").text
    assert own.startswith(general) and "knobs of M9:" in own and "--nx on|off" in own
    assert max(map(len, own.splitlines())) <= 80
    assert lab("P1", "--help").status == 0


def test_what_cannot_be_drawn_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['matplotlib'] = None\n")
    env = {**support.host_environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{support.SRC}"}
    tmp_path.chmod(0o755)
    got = support.native([support.python_for(os.getuid()), "-m", "trapline", "lab", "M9", "--plot", "x.svg"], cwd=tmp_path, env=env)
    assert got.status == 125 and b"pip install 'trapline[plot]'" in got.stderr and not got.stdout, got.tail()


def test_a_full_disk_is_no_success() -> None:
    command = [support.python_for(os.getuid()), "-m", "trapline", "lab", "M9", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=support.host_environment(), stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 125 and b"standard output: No space left on device" in done.stderr


def test_exit_status_is_the_verdict() -> None:
    assert lab("nx").status == 0
    got = lab("m9", "--without", "nx", "--repeat", "2")
    assert got.status == 1 and got.text.count("not supported: ") == 2, got.tail()


def test_json_has_the_figures_of_the_run() -> None:
    got = lab("M9", "--json", "--repeat", "2", "--nx=off")
    rows = [json.loads(line) for line in got.text.splitlines()]
    assert [row["verdict"] for row in rows] == ["not supported"] * 2
    assert rows[0]["knobs"] == {"nx": False} and rows[0]["figures"]["rows"][0]["returned"] == 42


def test_page_is_80_columns_wide_and_runs_nothing() -> None:
    text = lab("M9", "--page").text
    assert "--without nx" in text and "supported:" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_pipe_gets_neither_colour_nor_progress() -> None:
    got = lab("M9")
    assert b"\x1b" not in got.stdout and not got.stderr, got.tail()


def test_drawings(tmp_path: Path) -> None:
    needs_matplotlib()
    for kind, begin in (("png", b"\x89PNG"), ("html", b"<!doctype html>")):
        got = lab("M9", "--plot", f"out.{kind}", cwd=tmp_path)
        assert got.status == 0, got.tail()
        data = (tmp_path / f"out.{kind}").read_bytes()
        assert data.startswith(begin)
    assert b"SEGV_ACCERR" in data and b"http" not in data.replace(b"http-equiv", b"").replace(b"http://www.w3.org", b"")


def test_a_drawing_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    needs_matplotlib()
    got = lab("M9", "--plot", str(tmp_path / "none" / "x.html"))
    assert got.status == 125 and b"x.html: cannot be written" in got.stderr and not got.stdout, got.tail()
    (tmp_path / "x.html").symlink_to("/dev/full")
    got = lab("M9", "--plot", str(tmp_path / "x.html"))
    assert got.status == 125 and b"x.html: No space left on device" in got.stderr, got.tail()


def test_interrupt_ends_it(tmp_path: Path) -> None:
    command = [support.python_for(os.getuid()), "-m", "trapline", "lab", "M8", "--runs", "10000"]
    with subprocess.Popen(command, cwd=tmp_path, env=support.host_environment(), stdout=subprocess.PIPE) as process:
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT and not out


def test_ascii_where_the_locale_is() -> None:
    command = [support.python_for(os.getuid()), "-m", "trapline", "lab", "V3"]
    got = support.native(command, env=support.host_environment() | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert got.status == 0 and got.stdout.isascii(), got.tail()


def test_help_on_a_lab_has_its_knobs() -> None:
    text = lab("M4", "--help").text
    assert "--pages 32..480" in text and "--without KNOB" in text and max(map(len, text.splitlines())) <= 80
