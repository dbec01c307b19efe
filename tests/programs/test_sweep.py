"""`trapline sweep`, from Python and from the command line: programs with a known fault each, which it must find and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import support
from trapline.abi.errno import ENOENT
from trapline.sandbox import STREAM_LIMIT, Sandbox
from trapline.sweep import Sweep, SweepError

pytestmark = pytest.mark.usefixtures("no_process_left")

#: Each way to deal with a failed read of /etc/hostname, or a failed write.
SOURCE = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void all(int fd, const char *data, long size)
{
	while (size > 0) {
		long done = write(fd, data, size);
		if (done < 0) { perror("write"); exit(1); }
		data += done, size -= done;
	}
}

int main(int count, char **argument)
{
	const char *how = argument[1];
	char data[100] = "";
	if (!strcmp(how, "child")) {
		if (!fork()) { char *page = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); page[5] = 1; _exit(0); }
		wait(0);
		return 0;
	}
	if (!strcmp(how, "short")) { (void)!write(1, "0123456789", 10); return 0; }
	if (!strcmp(how, "pipe")) {
		int fd[2];
		if (pipe(fd)) { perror("pipe"); return 1; }
		if (!fork()) { usleep(20000); all(fd[1], "x", 1); _exit(0); }
		close(fd[1]);
		if (read(fd[0], data, 1) != 1) { perror("read"); return 1; }
		return 0;
	}
	int fd = open("/etc/hostname", O_RDONLY);
	if (fd < 0) { perror("open"); return 1; }
	long size = read(fd, data, sizeof data);
	while (size < 0 && !strcmp(how, "hang"))
		size = read(fd, data, sizeof data), lseek(fd, 0, SEEK_SET), size = -1;
	if (size < 0 && !strcmp(how, "crash")) abort();
	if (size < 0 && !strcmp(how, "silent")) return 0;
	if (size < 0 && !strcmp(how, "warned")) { perror("read"); return 0; }
	if (size < 0) { perror("read"); return 1; }
	int out = open("/tmp/copy", O_WRONLY | O_CREAT, 0600);
	if (out < 0) { perror("open"); return 1; }
	all(out, data, size);
	return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sweep")
    directory.chmod(0o755)
    (directory / "p.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O1", "-static", "-o", directory / "p", directory / "p.c"], check=True)
    return directory / "p"


def sandbox(program: Path) -> Sandbox:
    return Sandbox(binds=[f"{program.parent}:/mnt"])


@pytest.mark.parametrize(
    ("how", "call", "outcome"),
    [
        ("crash", "read", "crashed: died of SIGABRT"), ("silent", "read", "silent: /tmp/copy differs"), ("warned", "read", "warned:"),
        ("hang", "read", "hung: still running after 0.5 s"), ("failed", "read", "failed: exit status 1 instead of 0"),
        ("child", "mmap", "crashed: a child of it died of SIGSEGV"), ("failed", "openat", "failed: exit status 1"),
        ("short", "write", "silent: the output differs"), ("failed", "write", "same: as if nothing had failed"),
    ],
)  # fmt: skip
def test_outcomes(program: Path, how: str, call: str, outcome: str) -> None:
    kinds = ("short",) if call == "write" else ("error",)
    sweep = Sweep(["/mnt/p", how], sandbox=sandbox(program), calls=call, kinds=kinds, timeout=0.5)
    cases = [each for each in sweep.cases if call != "openat" or "copy" in str(each.call)]
    report = sweep.run(cases[-1:])
    assert [f"{each.kind}: {each.why}".startswith(outcome) for each in report.outcomes] == [True], report
    survives = not outcome.startswith(("crashed", "silent", "hung"))
    assert (report.not_survived == []) == survives
    if survives:
        report.check()
    else:
        with pytest.raises(AssertionError, match=f"/mnt/p {how} does not survive 1 of 1 failures"):
            report.check()
        report.check(allow=lambda each: each.case.call.name == call)


def test_interrupts_only_where_the_program_waited(program: Path) -> None:
    sweep = Sweep(["/mnt/p", "pipe"], sandbox=sandbox(program), kinds=("interrupt",), calls="read")
    assert [each.failure.text for each in sweep.cases] == ["EINTR"]
    (outcome,) = sweep.run().outcomes
    assert outcome.kind == "failed" and b"Interrupted system call" in outcome.done.stderr


def test_every_crossing_is_tried_once(program: Path) -> None:
    sweep = Sweep(["/mnt/p", "failed"], sandbox=sandbox(program), kinds=("error",), every_error=True)
    names = [each.call.name for each in sweep.cases]
    assert {"openat", "read", "write"} <= set(names) and "exit_group" not in names
    assert len({(each.crossing, each.failure.text) for each in sweep.cases}) == len(sweep.cases)
    report = sweep.run()
    assert [each.done.trace.calls()[0].name for each in report.outcomes] and "missed" not in report.counts()
    assert all(sum(call.injected for call in each.done.trace.calls()) == 1 for each in report.outcomes)
    every_second = Sweep(["/mnt/p", "failed"], sandbox=sandbox(program), kinds=("error",), each=2)
    assert 0 < len(every_second.cases) < len(sweep.cases)


def test_a_program_that_differs_by_itself_is_refused() -> None:
    with pytest.raises(SweepError, match="the output differs from run to run"):
        Sweep(["date", "+%N"])
    assert Sweep(["date", "+%N"], status_only=True, calls="close").run().not_survived == []


def test_sandbox_keeps_streams_files_and_changes() -> None:
    box = Sandbox(files={"/tmp/in": "3\n1\n", "/tmp/gone": ""})
    done = box.run(["sh", "-c", "cat; echo e >&2; sort /tmp/in > /tmp/out; rm /tmp/gone; exit 3"], input="hello", collect=["/tmp/out", "/x"])
    assert (done.returncode, done.stdout, done.stderr, done.timed_out) == (3, b"hello", b"e\n", False)
    assert done.files == {"/tmp/out": b"1\n3\n", "/x": None}
    assert set(done.changes) == {b"/tmp/out", b"/tmp/gone"} and done.changes[b"/tmp/gone"].mode == 0
    done.trace.assert_called("unlink,unlinkat", times=1, path="/tmp/gone")
    done.trace.assert_not_called("%network")
    with pytest.raises(AssertionError, match="at least one call of fsync"):
        done.trace.assert_called("fsync")
    with pytest.raises(AssertionError, match="no call of read"):
        done.trace.assert_not_called("read")
    assert "SIGCHLD" in done.trace.signals()


def test_sandbox_bounds_output_and_time() -> None:
    done = Sandbox().run(["sh", "-c", "yes | head -c 100000000; echo end >&2"], timeout=30)
    assert len(done.stdout) <= STREAM_LIMIT + (1 << 16)
    assert Sandbox().run(["sleep", "20"], timeout=0.2).timed_out
    with pytest.raises(ENOENT):
        Sandbox().run(["nosuchprogram"])


def command(*words: str, cwd: str = "/usr") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trapline", "sweep", *words],
        env=support.host_environment(), cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_command(program: Path, tmp_path: Path) -> None:
    file = tmp_path / "o.jsonl"
    words = ["--bind", f"{program.parent}:/mnt", "--calls", "read,write", "--", "/mnt/p", "crash"]
    assert command("--json", "-o", str(file), *words).stdout == ""
    done = command(*words)
    assert done.returncode == 1 and done.stderr == "" and "crashed: died of SIGABRT" in done.stdout, done
    assert "to see one alone, add: --case 1" in done.stdout and "\x1b" not in done.stdout
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert {each["call"] for each in records} == {"read", "write"} and not records[0]["survived"]
    alone = command("--case", "1", *words)
    assert alone.returncode == 1 and "(INJECTED)" in alone.stdout and alone.stdout.rstrip().endswith("crashed: died of SIGABRT")
    assert command("--json", *words).stdout == file.read_text()
    with open("/dev/full", "w") as full:
        broken = subprocess.run(
            [sys.executable, "-m", "trapline", "sweep", *words], env=support.host_environment(), cwd="/usr", stdout=full,
            stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert broken.returncode == 125 and b"No space left" in broken.stderr
    listed = command("--list", *words)
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == len(records)


def test_what_makes_no_sense_is_refused_with_advice(capfd: pytest.CaptureFixture[str]) -> None:
    from trapline.cli.main import main

    refused = {
        "": "no program", "--calls nosuch true": "invalid system call", "--errors EODD true": "--errors EODD", "--with odd true": "--with odd",
        "--each 0 true": "--each", "--compare odd true": "all or status", "--input /nosuch true": "/nosuch", "--case 99999 true": "--case",
        "--timeout 0.1s sleep 5": "did not end by itself", "--rw /tmp true": "--rw", "--bind /tmp:/mnt:rw true": "leave out :rw",
    }  # fmt: skip
    for words, phrase in refused.items():
        assert main(["sweep", *words.split()]) == 125, words
        out, err = capfd.readouterr()
        assert out == "" and err.startswith("trapline: ") and phrase in err, (words, err)
    assert main(["sweep", "nosuchprogram"]) == 127


def test_ctrl_c_ends_it_with_what_is_known() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "trapline", "sweep", "--all", "--timeout", "30s", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do cat /dev/null; done"],
        env=support.host_environment(), cwd="/usr", text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline().startswith("#1 ")
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT and "interrupted after " in out and "Traceback" not in err, (out, err)


@pytest.mark.skipif(support.no_riscv() is not None, reason=str(support.no_riscv()))
def test_the_other_machine(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(SOURCE)
    tmp_path.chmod(0o755)
    subprocess.run([support.RISCV_GCC, "-O1", "-static", "-o", tmp_path / "p", tmp_path / "p.c"], check=True)
    box = Sandbox(machine="riscv:reference", binds=[f"{tmp_path}:/mnt"])
    (outcome,) = Sweep(["/mnt/p", "crash"], sandbox=box, calls="read", kinds=("error",)).run().outcomes
    assert outcome.kind == "crashed"
