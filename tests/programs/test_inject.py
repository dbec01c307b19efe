"""`-e inject=` beyond strace's: short transfers, paths, chances, one count for all calls, page faults."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")

VECTORS = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>
int main(void)
{
	char a[5] = "", b[5] = "";
	struct iovec iov[2] = { { a, 4 }, { b, 4 } };
	int fd = open("/etc/passwd", O_RDONLY);
	long first = readv(fd, iov, 2), second = preadv(fd, iov, 2, 2), third = preadv(fd, iov, 2, 1L << 62);
	struct iovec bad[1] = { { (void *)8, 4 } };
	printf("%ld %ld %ld %s %s %ld\n", first, second, third, a, b, (long)readv(fd, bad, 1));
	return 0;
}
"""


def trace(*words: str, cwd: str = "/usr") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trapline", "trace", *words],
        env=support.host_environment(), cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_short_write_is_written_again() -> None:
    done = trace("-e", "inject=write:short=4", "-e", "trace=write", "echo", "hello world")
    assert done.stdout == "hello world\n"
    assert re.findall(r"= (\d+) \(INJECTED: args\)", done.stderr) == ["4", "4", "4"], done.stderr


def test_short_vectors_are_cut_between_and_inside(tmp_path: Path) -> None:
    (tmp_path / "v.c").write_text(VECTORS)
    subprocess.run(["gcc", "-O2", "-static", "-o", tmp_path / "v", tmp_path / "v.c"], check=True)
    line = Path("/etc/passwd").read_bytes()
    for limit, want in ((2, (2, 2)), (4, (4, 4)), (6, (4, 4)), (8, (8, 8))):
        done = trace("-e", f"inject=readv,preadv:short={limit}", "-e", "trace=none", "./v", cwd=str(tmp_path))
        first, second, third, a, b, bad = (done.stdout.rstrip("\n") + " ").split(" ")[:6]
        assert (int(first), int(second)) == want and int(third) <= 0 and int(bad) == -1, (limit, done.stdout)
        assert a == line[2 : 2 + min(limit, 4)].decode() and len(b) == (4 if limit >= 8 else 0), (limit, done.stdout)


def test_only_calls_that_concern_a_path() -> None:
    done = trace("-e", "inject=read,openat:error=EACCES:path=/etc/pass*", "-e", "trace=none", "cat", "/etc/hostname", "/etc/passwd")
    assert done.returncode == 1 and done.stdout == Path("/etc/hostname").read_text() and "Permission denied" in done.stderr


def test_a_chance_is_drawn_from_its_seed() -> None:
    def hits(seed: int) -> list[int]:
        words = ["-e", f"inject=getppid:error=EIO:chance=0.5:seed={seed}", "-e", "trace=getppid"]
        done = trace(*words, "perl", "-e", "getppid for 1..40")
        return [n for n, line in enumerate(line for line in done.stderr.splitlines() if "getppid" in line) if "INJECTED" in line]

    assert hits(1) == hits(1) != hits(2) and 8 <= len(hits(1)) <= 32


def test_every_third_crossing_of_all() -> None:
    words = ["-f", "-e", "inject=getppid,umask:error=EIO:when=3+3:count=all", "-e", "trace=getppid,umask"]
    done = trace(*words, "perl", "-e", "if (my $p = fork) { waitpid $p, 0 } for (1..4) { getppid; umask }")
    lines = [line for line in done.stderr.splitlines() if "umask(" in line or "getppid(" in line]
    assert len(lines) >= 16 and ["INJECTED" in line for line in lines] == [n % 3 == 2 for n in range(len(lines))], done.stderr


@pytest.mark.parametrize(("error", "died"), [("ENOMEM", signal.SIGKILL), ("EIO", signal.SIGBUS)])
def test_a_page_that_is_not_to_be_had(error: str, died: int) -> None:
    done = trace("-e", f"fault=page_fault:error={error}:when=1", "-e", "trace=none", "perl", "-e", "print 1")
    assert done.returncode == -died and done.stdout == "", done.stderr
    done = trace("-e", f"fault=page_fault:error={error}:path=/nosuch", "-e", "trace=none", "perl", "-e", "print 1")
    assert (done.returncode, done.stdout) == (0, "1")


def test_a_signal_at_a_page_fault_is_sent_and_the_fault_served() -> None:
    done = trace("-e", "inject=page_fault:signal=WINCH:when=1", "-e", "trace=none", "perl", "-e", "print 1")
    assert (done.returncode, done.stdout) == (0, "1")
