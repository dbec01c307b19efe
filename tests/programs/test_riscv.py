"""Unmodified riscv64 programs on the RISC-V machine, as the command line meets them: libraries, pipes, traces, and what goes wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))

DYNAMIC = r"""
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
int main(int argc, char **argv)
{
	struct utsname name;
	char line[100];
	uname(&name);
	printf("%s %d %.6f %s\n", name.machine, argc, cos(atof(argv[1])), getenv("LANG"));
	while (fgets(line, sizeof line, stdin))
		printf("%zu:%s", strlen(line), line);
	fprintf(stderr, "done\n");
	return 41;
}
"""
CPUINFO = r"""
#include <stdio.h>
int main(void)
{
	char line[300];
	FILE *file = fopen("/proc/cpuinfo", "r");
	while (fgets(line, sizeof line, file))
		fputs(line, stdout);
	return 0;
}
"""
SIGNALS = r"""
#include <signal.h>
#include <sys/stat.h>
static void handler(int signo) { (void)signo; }
int main(void)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	struct stat st;
	sigaction(SIGUSR1, &action, 0);
	raise(SIGUSR1);
	stat("/", &st);
	raise(SIGKILL);
}
"""


def program(tmp_path: Path, text: str, *flags: str, compiler: str = support.RISCV_GCC) -> Path:
    source = tmp_path / "program.c"
    source.write_text(text)
    return support.compile_c(source, flags, compiler=compiler)


def run(path: Path, *args: str, options: tuple[str, ...] = (), machine: str = "riscv", stdin: bytes = b"") -> support.Result:
    shown = ["--machine", machine, "--bind", f"{path.parent}:/programs:ro", *options]
    return support.trapline([f"/programs/{path.name}", *args], shown, cwd="/usr", stdin=stdin)


def test_a_dynamic_program_finds_the_hosts_cross_libraries(tmp_path: Path, no_process_left: None) -> None:
    got = run(program(tmp_path, DYNAMIC, "-lm"), "0.5", stdin=b"first\nthe second\n")
    assert (got.status, got.stderr) == (41, b"done\n"), got.tail()
    assert got.text == "riscv64 2 0.877583 C.UTF-8\n6:first\n11:the second\n"


def test_cpuinfo_tells_of_harts(tmp_path: Path, no_process_left: None) -> None:
    got = run(program(tmp_path, CPUINFO, "-static"), options=("--cpus", "2"))
    assert got.status == 0 and len(re.findall(r"^hart\t\t: [01]\nisa\t\t: rv64imafdc_\S+\nmmu\t\t: sv39$", got.text, re.M)) == 2, got.tail()


def test_a_trace_shows_the_architectures_structures(tmp_path: Path, no_process_left: None) -> None:
    got = run(program(tmp_path, SIGNALS, "-static"), options=("--trace",))
    assert got.status == 128 + 9, got.tail()
    trace = got.stderr.decode()
    assert re.search(r"^rt_sigaction\(SIGUSR1, \{sa_handler=0x\w+, sa_mask=\[\], sa_flags=SA_RESTART\}, NULL, 8\) += 0$", trace, re.M)
    assert re.search(r"^rt_sigreturn\(\{mask=\[\]\}\) += 0$", trace, re.M)
    assert re.search(r"^newfstatat\(AT_FDCWD, \"/\", \{st_mode=S_IFDIR\|0\d+, st_size=\d+, \.\.\.\}, 0\) += 0$", trace, re.M)


def test_a_program_for_the_other_machine_is_told_which(tmp_path: Path, no_process_left: None) -> None:
    riscv = run(program(tmp_path, CPUINFO, "-static"), machine="host")
    assert riscv.status == 126 and b"use --machine riscv" in riscv.stderr, riscv.tail()
    host = run(program(tmp_path, CPUINFO, "-static", compiler="gcc"))
    assert host.status == 126 and b"use --machine host" in host.stderr, host.tail()


@pytest.mark.parametrize("tier", ["reference", "interpreter", "baseline", "native"])
def test_every_tier_runs_programs(tmp_path: Path, tier: str, no_process_left: None) -> None:
    if tier != "reference":
        pytest.importorskip("llvmlite")
    got = run(program(tmp_path, DYNAMIC, "-lm"), "0.5", options=("--tier", tier, "--no-cache"), stdin=b"first\n")
    assert (got.status, got.stderr, got.text) == (41, b"done\n", "riscv64 2 0.877583 C.UTF-8\n6:first\n"), got.tail()


def test_tiers_are_the_riscv_machines(tmp_path: Path) -> None:
    for machine, tier, said in (("host", "native", "add `--machine riscv`"), ("riscv", "warp", "write native, baseline, interpreter or reference")):
        got = support.trapline(["true"], ["--machine", machine, "--tier", tier])
        assert got.status == 125 and said in got.stderr.decode(), got.tail()


def test_a_missing_interpreter_is_named(tmp_path: Path, no_process_left: None) -> None:
    path = program(tmp_path, DYNAMIC, "-lm")
    root = tmp_path / "root"
    root.mkdir()
    got = run(path, options=("--root", str(root)))
    assert got.status == 127, got.tail()
    assert b"its interpreter /lib/ld-linux-riscv64-lp64d.so.1 is missing" in got.stderr
    assert b"--bind /usr/riscv64-linux-gnu/lib:/lib" in got.stderr
    fixed = run(path, "0", options=("--root", str(root), "--bind", "/usr/riscv64-linux-gnu/lib:/lib"))
    assert fixed.status == 41 and fixed.text.startswith("riscv64 2 1.000000"), fixed.tail()
