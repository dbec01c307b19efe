"""`%%trapline` in IPython, and in a real notebook: cells run, show what they print, and their results are objects."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import support

interactive = pytest.importorskip("IPython.core.interactiveshell", reason="not installed: IPython (pip install 'trapline[jupyter]')")
pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def cell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], tuple[Any, str, str]]]:
    """cell(text): the value, and what was written to stdout and stderr."""
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = interactive.InteractiveShell()
    shell.run_line_magic("load_ext", "trapline")

    def run(text: str) -> tuple[Any, str, str]:
        capsys.readouterr()
        done = shell.run_cell(text)
        out, err = capsys.readouterr()
        return done.result, out, err

    run.shell = shell  # type: ignore[attr-defined]
    yield run
    shell.history_manager.end_session()


def test_a_shell_script(cell: Any) -> None:
    result, out, err = cell("%%trapline -o done one 'two words'\necho \"$# $2\"; echo oops >&2; exit 3")
    assert out.startswith("2 two words\n") and err == "oops\n"
    assert result.returncode == 3 and result.text == "2 two words\n" and result.stderr == b"oops\n" and cell.shell.user_ns["done"] is result
    assert repr(result).startswith("<exit status 3, ")
    assert cell("_ is done")[0] is True


def test_python_and_what_was_asked_for(cell: Any) -> None:
    result, out, _ = cell("%%trapline --python --trace --ledger --maps --quiet\nimport os\nfor i in range(20): os.getppid()\nprint('<b>')")
    assert "<b>" not in out.partition("Out[")[0] and result.text == "<b>\n"
    assert len(result.trace.calls("getppid")) == 20
    assert result.ledger.by("call")["getppid"].count == 20
    assert result.space.command == "python3" and result.space.total("rss") > 1 << 20
    html = result._repr_html_()
    assert "getppid" in html and "flame graph" in html and "page tables" in html and "<script" not in html


@pytest.mark.skipif(support.have("gcc") is not None, reason="not installed: gcc")
def test_c_and_its_errors(cell: Any) -> None:
    result, out, _ = cell('%%trapline --c\n#include <stdio.h>\nint main(int argc, char **argv) { puts("hi"); return 40 + argc; }')
    assert out.startswith("hi\n") and result.returncode == 41
    result, _, err = cell("%%trapline --c\nint main( {")
    assert result is None and err.startswith("trapline: gcc failed with status 1:") and "/tmp/cell.c:1" in err


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
def test_c_on_the_riscv_machine(cell: Any) -> None:
    result, _, err = cell("%%trapline --c --machine riscv --maps --tier reference\nint main(void) { return sizeof(long); }")
    assert result.returncode == 8 and result.space.paging == "Sv39", err


def test_time_outs_signals_and_mistakes(cell: Any) -> None:
    result, _, _ = cell("%%trapline --timeout 0.2\nsleep 100")
    assert result.timed_out and "time-out" in result._repr_html_()
    assert cell("%%trapline\nkill -TERM $$")[0].returncode == -15
    for line, phrase in (
        ("--nosuch", "unknown option"), ("--python --c", "choose one"), ("-o 1x", "not a name"), ("--memory x", "not a size"),
        ("--machine warp", "no such machine"), ("--workdir /nosuch", "did not start"), ("--log x", "unknown option"),
    ):  # fmt: skip
        result, out, err = cell(f"%%trapline {line}\ntrue")
        assert result is None and out == "" and err.startswith("trapline: ") and phrase in err, (line, err)
    assert "usage" not in cell("%%trapline --help\n")[2] and "--ledger" in cell("%trapline")[1]


def test_the_stop_button_ends_it(cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write = sys.stdout.write

    def stop(text: str) -> int:
        if "started" in text:
            os.kill(os.getpid(), signal.SIGINT)
        return write(text)

    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "write", stop)
        result, out, err = cell("%%trapline\necho started; sleep 100")
    assert result is None and "started" in out and "KeyboardInterrupt" in out + err
    assert cell("%%trapline\nexit 4")[0].returncode == 4


def test_much_output_is_cut_and_ends(cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trapline.cli.notebook.STREAM_LIMIT", 1000)
    result, _, _ = cell("%%trapline --quiet\nhead -c 300000 /dev/zero")
    assert result.returncode == 0 and len(result.stdout) == 1000


def test_kernel_and_process_have_views(cell: Any) -> None:
    kernel, _, _ = cell("import trapline\nkernel = trapline.Kernel(stdio=(-1, -1, -1), memory=64 << 20)\nkernel")
    process, _, _ = cell("process = kernel.spawn(['cat', '<i>'])\nprocess")
    formatted = cell.shell.display_formatter.format
    assert "seccomp" in formatted(kernel)[0]["text/html"] and "&lt;i&gt;" in formatted(process)[0]["text/html"]
    walk, out, _ = cell("kernel.explain(process.pid, kernel.space(process.pid).entry['stack'])")
    assert walk.mapped and "PML4[255]" in out and "PML4[255]" in formatted(walk)[0]["text/html"]
    assert "root in frame" in cell("kernel.space(process.pid)")[1]
    cell("kernel.close()")
    assert "closed" in kernel._repr_html_()


def test_a_real_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An IPython kernel in a process of its own, driven as Jupyter does; what it displays is HTML."""
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name, reason=f"not installed: {name}")
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(support.SRC))
    spec = tmp_path / "JUPYTER_DATA_DIR" / "kernels" / "here"
    spec.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps(KernelSpec(argv=words, display_name="here", language="python").to_dict()))
    cells = ["%load_ext trapline", "%%trapline --trace -o r\necho '<u>'", "r.returncode, r.text"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    NotebookClient(notebook, timeout=60, kernel_name="here").execute(cwd="/usr")
    run = notebook.cells[1].outputs
    assert "".join(each["text"] for each in run if each.output_type == "stream") == "<u>\n"
    (shown,) = [each for each in run if each.output_type == "execute_result"]
    assert "write(1, " in shown["data"]["text/html"] and "&lt;u&gt;" in shown["data"]["text/html"]
    assert notebook.cells[2].outputs[0]["data"]["text/plain"] == "(0, '<u>\\n')"
