"""A short run of every fuzzer, with a fixed seed; the corpus, whole; and the engine itself, on a target with a known bug."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import support

from .__main__ import corpus_of
from .engine import Target, fuzz
from .targets import TARGETS

pytestmark = pytest.mark.usefixtures("no_process_left")
INPUTS = 300  #: besides the corpus


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    made = TARGETS[request.param]()
    yield made
    made.close()


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_corpus_and_a_few_mutations(target: Target) -> None:
    corpus = corpus_of(target.name)
    report = fuzz(target, corpus, seed=1, seconds=120, inputs=len(corpus) + len(target.seeds) + INPUTS)
    assert report.crash is None, f"{report}: {report.crash!r}"
    assert report.inputs >= INPUTS and report.edges > 50, report


def test_the_engine_finds_a_bug_and_repeats_itself() -> None:
    """A size that overflows: only an input that got as far as the units leads to it."""
    from trapline.cli import values
    from trapline.cli.options import UsageError

    def run(data: bytes) -> None:
        with suppress(UsageError):
            if values.size("--memory", data.decode("latin-1")) == 77 << 30:
                raise ZeroDivisionError

    target = Target("engine", "a bug", run, [b"1"], [b"7", b"G"])
    reports = [fuzz(target, [], seed=5, seconds=60, inputs=20_000) for _ in range(2)]
    assert isinstance(reports[0].error, ZeroDivisionError) and reports[0].crash is not None
    assert reports[0].crash == reports[1].crash and reports[0].inputs == reports[1].inputs
    assert reports[0].edges > reports[0].edges_at_start


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *words], cwd=support.ROOT, capture_output=True, text=True, timeout=60, check=False,
        env=support.host_environment(),
    )  # fmt: skip


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    done = command("cli", "--seed", "3", "--inputs", "200", "--crashes", str(tmp_path))
    assert done.returncode == 0, done
    assert "cli: seed 3, " in done.stdout and "200 inputs" in done.stdout and "edges" in done.stdout, done
    assert command("nothing").returncode == 2 and "targets:" in command("--help").stdout
    one = tmp_path / "input"
    one.write_bytes(b"--memory\x00nan")
    assert "no crash" in command("cli", str(one)).stdout
