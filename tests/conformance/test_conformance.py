"""Conformance: each C program here passes on the host's own kernel, then under Trapline with the same output and status.

A program says how it is compiled in the first line of its first comment: "cc: FLAGS", and "; only ARCH" if it is about one
architecture. Programs that look at who runs them (they use IS_ROOT) run twice when the tests run as root: as root and as an
unprivileged user.

On the RISC-V machine, where its cross compiler is installed, the same programs must say what they say natively; those that
are only about riscv64 have qemu-riscv64 to pass on first. An emulated computer is slow, so by default only the programs of
QUICK run there; TRAPLINE_TEST_RISCV=all runs every one, 0 none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import support

HERE = Path(__file__).parent
SOURCES = sorted(HERE.glob("*/*.c"))
COMMON = ("-Wall", "-Wno-unused-result")


def head_of(source: Path) -> tuple[list[str], str]:
    """(compiler flags, the only architecture or "")."""
    match = re.match(r"/\* cc:([^\n*;]*)(?:; only (\w+))?", source.read_text())
    assert match, f"{source}: the first line must say how to compile: /* cc: FLAGS"
    return match.group(1).split(), match.group(2) or ""


def compiled(source: Path, compiler: str = "gcc") -> Path:
    flags = [*COMMON, *head_of(source)[0]]
    return support.compile_c(source, flags, [HERE / "check.h", *source.parent.glob("*.h")], compiler)


def cases() -> list[object]:
    found: list[object] = []
    for source in SOURCES:
        if head_of(source)[1] not in ("", "x86_64"):
            continue
        everyone = support.users() if "IS_ROOT" in source.read_text() else [os.getuid()]
        name = f"{source.parent.name}/{source.stem}"
        found += [pytest.param(source, uid, id=f"{name}-{support.user_name(uid)}") for uid in everyone]
    return found


@pytest.mark.parametrize(("source", "uid"), cases())
def test_program(source: Path, uid: int, tmp_path: Path, no_process_left: None) -> None:
    program = compiled(source)
    expected = natively(program, uid)
    assert expected.status == 0, "fails on the host's own kernel: " + expected.tail()
    got = support.trapline(
        [f"/conformance/{program.name}"],
        ["--bind", f"{program.parent}:/conformance:ro"],
        cwd="/usr",
        uid=uid,
    )
    failed = [line for line in got.text.splitlines() if not line.startswith(("ok ", "skip "))]
    assert not failed and got.status == 0, "\n".join(failed) + "\n" + got.tail()
    assert got.stdout == expected.stdout, got.tail()


def natively(program: Path, uid: int, emulator: str = "") -> support.Result:
    scratch = support.build_dir() / f"scratch-{os.getpid()}"
    scratch.mkdir(exist_ok=True)
    os.chmod(scratch, 0o1777)
    words = [emulator, str(program)] if emulator else [str(program)]
    try:
        return support.native(words, env={"TMPDIR": str(scratch)}, uid=uid, timeout_s=20)
    finally:
        scratch.rmdir()
