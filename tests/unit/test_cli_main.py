"""The commands of the command line, without a machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from trapline import __version__
from trapline.cli import boot, doctor, run
from trapline.cli.main import COMMANDS, main
from trapline.cli.options import UsageError


class Check(NamedTuple):
    name: str
    ok: bool
    required: bool
    detail: str


def test_version_and_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"trapline {__version__}\n"
    assert main(["help"]) == 0
    assert "trapline run" in capfd.readouterr().out
    for words in (["help", "run"], ["run", "--help"]):
        assert main(words) == 0
        text = capfd.readouterr().out
        assert all(option.name in text for option in run.OPTIONS)
    assert main(["doctor", "--help"]) == 0


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help_that_fits_a_terminal(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["help", command] if command else ["help"]) == 0
    text = capfd.readouterr().out
    assert text.startswith(f"usage: trapline {command}")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "usage"), (["ls"], "trapline run ls"), (["run"], "no program"), (["run", "--memory", "1", "ls"], "too small"),
        (["run", "--wat", "ls"], "unknown option --wat"), (["help", "me"], "no help on me"),
        (["trac", "ls"], "`trapline trace`"), (["help", "docter"], "help doctor"), (["doctor", "x"], "leave out x"),
        (["run", "--bind", "/etc", "ls"], "--bind SRC:DST"), (["run", "--cpus", "0", "ls"], "from 1 to 64"),
        (["run", "--root", "/no/such", "ls"], "no such file"), (["run", "--trace=/no/such/file", "ls"], "--trace"),
        (["run", "--root", __file__, "ls"], "neither a directory nor a tar archive"), (["run", "--root", "", "ls"], "no such file"),
        (["run", "--save-overlay", "/no/such/place", "ls"], "make it first"), (["run", "--save-overlay", "/etc", "ls"], "it exists"),
        (["run", "--trace=", "ls"], "leave out the ="), (["run", "--report-fd", "999", "ls"], "no such descriptor"),
        (["run", "--workdir", "", "ls"], "needs a directory"), (["run", "--timeout", "soon", "ls"], "not a time"),
    ],
)  # fmt: skip
def test_our_own_failures_are_125_and_say_what_to_do(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 125
    err = capfd.readouterr().err
    assert says in err
    assert err.startswith(("trapline: ", "usage: "))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--memory 999999T", "give less --memory"), ("--dtb empty", "empty: it is empty"),
        ("--drive pipe,ro", "neither a file nor a block device"), ("--drive .,ro", "neither a file nor a block device"),
        ("--drive /dev/zero", "neither a file nor a block device"), ("--drive empty", "its size, 0 bytes"),
        ("--flash pipe,ro", "neither a file nor a block device"),
        ("--net listen:" + 200 * "a", "path too long"), ("--kernel /dev/zero", "a device: give a regular file"), ("--share empty:tag", "Not a directory"),
        ("--share .:one --share /usr:one", "the tag one is taken"), ("--net user,allow=nobody", "allow=nobody: write --net user"),
    ],
)  # fmt: skip
def test_boards_that_cannot_be_made_say_why_at_once(
    options: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("empty").touch()
    Path("rom").write_bytes(b"not run")
    assert main(["boot", "--tier", "reference", "--timeout", "5", *options.split(), "--bios", "rom"]) == 125
    err = capfd.readouterr().err
    assert says in err and err.startswith("trapline: ") and err.count("\n") == 1


@pytest.mark.parametrize("words", [["help"], ["run", "--help"], ["boot", "--help"], ["doctor", "--json"], ["--version"]], ids=" ".join)
def test_standard_output_that_is_full_or_closed_or_left_is_no_traceback(words: list[str]) -> None:
    command = [sys.executable, "-m", "trapline", *words]
    for redirection, status, says in ((">/dev/full", 125, "trapline: standard output: No space left on device\n"), (">&-", 0, "")):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", *command], env=os.environ | {"PYTHONPATH": "src"},
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (status, says)
    r, w = os.pipe()
    os.close(r)
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": "src"}, stdout=w, stderr=subprocess.PIPE, text=True, check=False)
    os.close(w)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["help"], ["help", "run"], ["help", "doctor"]], ids=" ".join)
def test_help_fits_a_terminal(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert [line for line in capfd.readouterr().out.splitlines() if len(line) > 80] == []


def test_machine_that_does_not_exist_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--machine", "pdp11", "true"]) == 125
    assert "pdp11: no such machine: there is host" in capfd.readouterr().err


def test_report_tells_the_caller_why(capfd: pytest.CaptureFixture[str]) -> None:
    ours, theirs = os.pipe()
    assert main(["run", "--report-fd", str(theirs), "--machine", "pdp11", "true"]) == 125
    assert os.read(ours, 1000).startswith(b"125 0 machine pdp11")
    assert os.read(ours, 1000) == b""
    os.close(ours)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3), (124, 124), (-15, -15), (-6, -6), (-9, -9), (-34, -34)])
def test_death_by_signal_is_passed_on(code: int, status: int) -> None:
    program = f"import sys; from trapline.cli.run import leave; sys.exit(leave({code}))"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": "src"}, check=False)
    assert done.returncode == status


def test_death_by_signal_that_the_caller_ignores_is_passed_on() -> None:
    program = "import signal, sys; signal.signal(15, signal.SIG_IGN); from trapline.cli.run import leave; sys.exit(leave(-15))"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": "src"}, check=False)
    assert done.returncode == -signal.SIGTERM


def test_doctor_says_what_is_missing_and_what_to_do() -> None:
    good = [Check("seccomp", True, True, "filters work"), Check("busybox", False, False, "install it")]
    bad = [*good, Check("FSGSBASE", False, True, "needs Linux 5.9 or later")]
    assert "host machine" in doctor.as_text(good) and "better with: busybox" in doctor.as_text(good)
    assert "MISSING" in doctor.as_text(bad) and "Missing: FSGSBASE" in doctor.as_text(bad)
    assert json.loads(doctor.as_json(good))["machine"] == "host"
    assert json.loads(doctor.as_json(bad))["machine"] is None
    assert json.loads(doctor.as_json(bad))["checks"][2] == {
        "name": "FSGSBASE", "ok": False, "required": True, "detail": "needs Linux 5.9 or later",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (None, "llvmlite is not installed: pip install 'llvmlite>=0.46'"),
        (SimpleNamespace(__version__="0.41.1"), "llvmlite 0.41.1 is too old: pip install 'llvmlite>=0.46'"),
        (SimpleNamespace(__version__="1.0.0rc1"), ""),
    ],
    ids=["absent", "old", "new"],
)
def test_doctor_says_which_tier_riscv_code_gets(module: object, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", module)
    found = doctor.riscv()
    assert found.detail.endswith(why or "native code") and found.ok is not bool(why) and not found.required
    assert doctor.machine_for([found]) == "host", "the host machine does without"
    assert all(len(line) <= 80 for line in doctor.as_text([found]).splitlines())
    assert boot._tier("") == ("reference" if why else "native")
    if why:
        with pytest.raises(UsageError, match="--tier native: llvmlite"):
            boot._tier("native")


def test_nothing_heavy_is_imported_before_the_kernel_is() -> None:
    """Start-up time: the face itself costs nothing but os and sys."""
    program = (
        "import sys; before = set(sys.modules); import trapline.cli.main, trapline.cli.run;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=os.environ | {"PYTHONPATH": "src"}, check=True, capture_output=True, text=True
    )
    heavy = {"subprocess", "argparse", "asyncio", "tempfile", "logging", "pathlib", "shutil", "json", "socket", "random"}
    assert not heavy & set(done.stdout.split())
