"""`trapline trace -k` against strace's: the same frames, symbols and offsets, line by line; and on the RISC-V machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")

SOURCE = r"""
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
	getppid();
	return *(int *)a - *(int *)b;
}

__attribute__((noinline)) void inner(int n)
{
	char *room = __builtin_alloca(16 + n * 100);

	memset(room, n, 16 + n * 100);
	__asm__ volatile("" : : "r"(room) : "memory");
	if (n)
		inner(n - 1);
	else
		getppid();
	__asm__ volatile("" : : "r"(room) : "memory");
}

static void handler(int signo)
{
	inner(1);
}

__attribute__((noinline)) int outer(void)
{
	inner(3);
	__asm__ volatile("");
	return 0;
}

int main(void)
{
	int values[] = { 3, 1, 2 };
	char stack[SIGSTKSZ + 65536];
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };

	outer();
	qsort(values, 3, sizeof(int), compare);
	sigaltstack(&other, NULL);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	return 7;
}
"""


def trace(path: Path, *options: str) -> support.Result:
    assignments = [word for name, value in support.ENVIRONMENT.items() for word in ("--env", f"{name}={value}")]
    command = [
        sys.executable, "-m", "trapline", "trace", "--clear-env", *assignments, "--bind", f"{path.parent}:{path.parent}",
        *options, "--", str(path),
    ]  # fmt: skip
    done = subprocess.run(command, env=support.host_environment(), capture_output=True, timeout=60, check=False)
    return support.Result(done.returncode, done.stdout, done.stderr, " ".join(command))


def lines(text: str) -> list[str]:
    """Calls by name alone, and frames as they are."""
    return [each if each.startswith(" > ") else re.split(r"[({]", each)[0] for each in text.splitlines()]


@pytest.mark.skipif(bool(support.have("strace")), reason="not installed: strace")
@pytest.mark.parametrize("flags", ["-O2", "-O0", "-O1 -fomit-frame-pointer -s"])
def test_same_frames_as_strace(flags: str, tmp_path: Path) -> None:
    source = tmp_path / "stack.c"
    source.write_text(SOURCE)
    path = support.compile_c(source, flags.split())
    options = ["-k", "-e", "trace=!brk"]
    theirs = subprocess.run(
        ["strace", *options, "--", str(path)], env=support.ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    ours = trace(path, *options)
    if not any(" > " in each for each in theirs.stderr.splitlines()):
        pytest.skip("strace was built without an unwinder")
    assert theirs.returncode == ours.status == 7, ours.tail()
    assert lines(ours.stderr.decode()) == lines(theirs.stderr)
    assert "-s" in flags or ours.stderr.decode().count("(inner+") >= 4


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
def test_frames_of_riscv_programs(tmp_path: Path) -> None:
    source = tmp_path / "stack.c"
    source.write_text(SOURCE)
    path = support.compile_c(source, ["-static", "-O1", "-fasynchronous-unwind-tables"], compiler=support.RISCV_GCC)
    got = trace(path, "--machine", "riscv", "-k", "-e", "trace=getppid")
    assert got.status == 7, got.tail()
    stacks = got.stderr.decode().split("getppid()")[1:]
    names = [[line.partition("(")[2].partition("+")[0] for line in each.splitlines() if line.startswith(" > ")] for each in stacks]
    assert names[0][:7] == ["__getppid", "inner", "inner", "inner", "inner", "outer", "main"]
    assert all("compare" in each and "main" in each for each in names[1:-1]) and len(names) >= 4
    assert names[-1][:4] == ["__getppid", "inner", "inner", "handler"]
    assert os.fsencode(str(path)) in got.stderr
