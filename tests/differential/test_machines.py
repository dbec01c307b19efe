"""Machine = machine: the same C programs, compiled for each machine, write the same and end the same on both.

Each program in `machines/` avoids what the C standard leaves to the architecture; the host's own kernel says what is right.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import support

SOURCES = sorted((Path(__file__).parent / "machines").glob("*.c"))


def compiled(source: Path, compiler: str) -> Path:
    flags = source.read_text().split("cc:", 1)[1].split("\n", 1)[0].split()
    return support.compile_c(source, ["-Wall", *flags], compiler=compiler)


def run(source: Path, compiler: str, machine: str) -> support.Result:
    program = compiled(source, compiler)
    options = ["--machine", machine, "--bind", f"{program.parent}:/programs:ro"]
    return support.trapline([f"/programs/{program.name}"], options, cwd="/usr")


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
@pytest.mark.parametrize("source", SOURCES, ids=[each.stem for each in SOURCES])
def test_both_machines_agree(source: Path, no_process_left: None) -> None:
    host = run(source, "gcc", "host")
    riscv = run(source, support.RISCV_GCC, "riscv")
    assert host.stdout and not host.stderr, host.tail()
    assert (riscv.status, riscv.stdout, riscv.stderr) == (host.status, host.stdout, b""), riscv.tail()


@pytest.mark.parametrize("source", SOURCES, ids=[each.stem for each in SOURCES])
def test_the_host_machine_agrees_with_the_host(source: Path, tmp_path: Path, no_process_left: None) -> None:
    expected = support.native([str(compiled(source, "gcc"))], env={"TMPDIR": str(tmp_path)})
    got = run(source, "gcc", "host")
    assert (got.status, got.stdout) == (expected.status, expected.stdout), got.tail()
