"""Core dumps, as gdb reads them on the host; and what they are called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import support

PROGRAM = r"""
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
static int marker = 0x1234567;
char *on_the_heap;
static pthread_barrier_t ready;
__attribute__((noinline)) static void *waits(void *arg) { pthread_barrier_wait(&ready); pause(); return arg; }
__attribute__((noinline)) static void falls(int depth)
{
    if (depth)
        falls(depth - 1);
    else
        *(volatile int *)0x10 = marker;
    marker++;
}
int main(void)
{
    pthread_t thread;
    setrlimit(RLIMIT_CORE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    on_the_heap = strdup("a string of the dead");
    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&thread, NULL, waits, NULL);
    pthread_barrier_wait(&ready);
    falls(3);
    return 0;
}
"""


@pytest.mark.skipif(support.have("gdb", "gcc") is not None, reason=str(support.have("gdb", "gcc")))
def test_gdb_reads_a_core_dump(tmp_path: Path) -> None:
    source = tmp_path / "falls.c"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-g", "-O1", "-pthread", "-o", tmp_path / "falls", source], check=True)
    got = support.trapline(["/w/falls"], ["--bind", f"{tmp_path}:/w:rw", "--workdir", "/w"])
    assert got.status == 128 + 11, got.tail()
    words = ["bt", "info threads", "thread apply all bt", "p on_the_heap", "p/x marker", "p $_siginfo._sifields._sigfault.si_addr"]
    gdb = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off"]
    gdb += [each for word in words for each in ("-ex", word)]
    gdb += [str(tmp_path / "falls"), str(tmp_path / "core")]
    said = subprocess.run(gdb, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "terminated with signal SIGSEGV" in said
    frames = [line for line in said.splitlines() if line.startswith("#")]
    assert all(f"#{n} " in line and "falls (" in line and f"={n})" in line for n, line in enumerate(frames[1:5])), said  # the first is told twice
    assert " main () " in said and '"a string of the dead"' in said and "= 0x1234567" in said and "(void *) 0x10" in said, said
    assert said.count("LWP") >= 4, said  # both threads


def test_core_pattern(tmp_path: Path) -> None:
    script = r"""
        set_pattern() { echo "$1" > /proc/sys/kernel/core_pattern; }
        ulimit -c unlimited; cd /tmp
        set_pattern '/tmp/%e.%s.%u.%%.%x%h'; sh -c 'kill -SEGV $$'; ls /tmp/*.11.*
        set_pattern 'dump'; echo 1 > /proc/sys/kernel/core_uses_pid; sh -c 'kill -QUIT $$'; ls | sed 's/[0-9]*$/N/'
        set_pattern '%E-%c-%d'; sh -c 'kill -ABRT $$'; ls | grep bin
        set_pattern '|/bin/cat' 2>/dev/null || echo no pipes
        cat /proc/sys/kernel/core_pattern
    """
    got = support.trapline(["bash", "-c", script], ["--user", "0:0", "--hostname", "a/b"], env={"TMPDIR": "/tmp"})
    lines = [line for line in got.text.splitlines() if "dumped" not in line]
    assert lines[0] == "/tmp/sh.11.0.%.a!b", got.tail()
    assert "dump.N" in lines and any(line.startswith("!usr!bin!") and "--1-1" in line for line in lines), got.tail()
    assert lines[-2:] == ["no pipes", "%E-%c-%d"], got.tail()
