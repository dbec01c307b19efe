"""Conformance: each C program here passes on the host's own kernel, then under Trapline with the same output and status.

A program says how it is compiled in the first line of its first comment: "cc: FLAGS", and "; only ARCH" if it is about one
architecture; "; on disk" if its scratch directory has to be the host's, bound read-write. Programs that look at who runs them
(they use IS_ROOT) run twice when the tests run as root: as root and as an unprivileged user. One that cannot say anything where
the tests run says "skip all: WHY" first.

On the RISC-V machine, where its cross compiler is installed, the same programs must say what they say natively; those that
are only about riscv64 have qemu-riscv64 to pass on first. An emulated computer is slow, so by default only the programs of
QUICK run there; TRAPLINE_TEST_RISCV=all runs every one, 0 none. They run on the best tier, or on the one that TRAPLINE_TEST_TIER
names; a few run on the reference tier, which needs no compiler, besides.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

import support

HERE = Path(__file__).parent
SOURCES = sorted(HERE.glob("*/*.c"))
#: what runs on the RISC-V machine by default: a few seconds each
NOT_HERE = "skip everything: "  #: what a program says first that cannot be judged on this computer: how it is set up forbids it
QUICK = frozenset(
    "riscv64/traps riscv64/frames exec/elf exec/image_static exec/image_dynamic files/stat files/splice ipc/epoll ipc/sysvsem "
    "memory/anonymous memory/cow memory/faults memory/swap process/clone process/groups signals/handlers signals/restart system/misc "
    "threads/membarrier threads/pthreads threads/rseq threads/signals time/clocks".split()
)
#: what runs on the reference tier besides: a second each
ON_REFERENCE = (
    "riscv64/traps", "riscv64/frames", "signals/handlers", "process/clone", "memory/cow", "memory/faults", "exec/image_static",
)  # fmt: skip
TIER = os.environ.get("TRAPLINE_TEST_TIER", "")  #: of the RISC-V machine, as `--tier` names them
RISCV_TIMEOUT_S = 300
COMMON = ("-Wall", "-Wno-unused-result")


def head_of(source: Path) -> tuple[list[str], str]:
    """(compiler flags, the only architecture or "")."""
    match = re.match(r"/\* cc:([^\n*;]*)(?:; only (\w+))?", source.read_text())
    assert match, f"{source}: the first line must say how to compile: /* cc: FLAGS"
    return match.group(1).split(), match.group(2) or ""


def on_disk(source: Path, scratch: Path) -> tuple[list[str], dict[str, str]]:
    """(options, variables) for `trapline`: a scratch directory on the host's disk, if the program needs one."""
    if "; on disk" not in source.read_text().partition("\n")[0]:
        return [], {}
    os.chmod(scratch, 0o1777)
    return ["--bind", f"{scratch}:/scratch:rw"], {"TMPDIR": "/scratch"}


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
def test_program(source: Path, uid: int, no_process_left: None) -> None:
    program = compiled(source)
    expected = natively(program, uid)
    if expected.text.startswith("skip all: "):
        pytest.skip(expected.text.strip())
    assert expected.status == 0, "fails on the host's own kernel: " + expected.tail()
    with tempfile.TemporaryDirectory(dir=support.build_dir()) as scratch:
        options, env = on_disk(source, Path(scratch))
        got = support.trapline(
            [f"/conformance/{program.name}"],
            ["--bind", f"{program.parent}:/conformance:ro", *options],
            cwd="/usr",
            uid=uid,
            env=env,
        )
    failed = [line for line in got.text.splitlines() if not line.startswith(("ok ", "skip "))]
    assert not failed and got.status == 0, "\n".join(failed) + "\n" + got.tail()
    if not expected.text.startswith(NOT_HERE):
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


# ---- on the RISC-V machine

ELSEWHERE = ": (only x86-64 has it|no shell of this architecture)"  #: why check.h skips what the host has


def riscv_cases() -> list[object]:
    found = []
    for source in SOURCES:
        name = f"{source.parent.name}/{source.stem}"
        if head_of(source)[1] in ("", "riscv64") and (support.riscv_tests() == "all" or name in QUICK):
            found.append(pytest.param(source, id=name))
    return found


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
@pytest.mark.parametrize("source", riscv_cases())
def test_program_on_the_riscv_machine(source: Path, no_process_left: None) -> None:
    on_the_riscv_machine(source, TIER)


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
@pytest.mark.skipif(TIER == "reference", reason="the reference tier runs every program")
@pytest.mark.parametrize("name", ON_REFERENCE)
def test_program_on_the_reference_tier(name: str, no_process_left: None) -> None:
    on_the_riscv_machine(HERE / f"{name}.c", "reference")


def on_the_riscv_machine(source: Path, tier: str) -> None:
    """Compare a program with what it says natively. `tier`: "" for the best there is."""
    if "-static-pie" in head_of(source)[0] and not _links_static_pie():
        pytest.skip(f"{support.RISCV_GCC} cannot link -static-pie")
    program = compiled(source, support.RISCV_GCC)
    if head_of(source)[1]:
        expected = natively(program, os.getuid(), support.RISCV_QEMU)
    else:
        expected = natively(compiled(source), os.getuid())
    if expected.text.startswith("skip all: "):
        pytest.skip(expected.text.strip())
    assert expected.status == 0, "fails natively: " + expected.tail()
    with tempfile.TemporaryDirectory(dir=support.build_dir()) as scratch:
        options, env = on_disk(source, Path(scratch))
        got = support.trapline(
            [f"/conformance/{program.name}"],
            ["--machine", "riscv", *(["--tier", tier] if tier else []), "--bind", f"{program.parent}:/conformance:ro", *options],
            cwd="/usr",
            env=env,
            timeout_s=RISCV_TIMEOUT_S,
        )
    failed = [line for line in got.text.splitlines() if not line.startswith(("ok ", "skip "))]
    assert not failed and got.status == 0, "\n".join(failed) + "\n" + got.tail()
    here = [re.sub(f"^skip (.*){ELSEWHERE}$", r"ok \1", line) for line in got.text.splitlines()]
    assert sorted(here) == sorted(expected.text.splitlines()), got.tail()  # on one CPU, processes speak in another order


def _links_static_pie() -> bool:
    words = [support.RISCV_GCC, "-print-file-name=rcrt1.o"]
    return "/" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
