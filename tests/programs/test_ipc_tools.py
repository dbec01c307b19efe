"""ipcmk(1), ipcs(1), ipcrm(1), lsipc(1), Perl's System V calls, and /dev/mqueue, as their users see them."""

from __future__ import annotations

import os
import re

import pytest

import support

TOOLS = ("ipcs", "ipcmk", "ipcrm")
needs_tools = pytest.mark.skipif(support.have(*TOOLS) is not None, reason="ipcs, ipcmk and ipcrm are not installed")
needs_perl = pytest.mark.skipif(support.have("perl") is not None, reason="perl is not installed")


def shell(script: str) -> support.Result:
    return support.trapline(["/bin/sh", "-c", script])


@needs_tools
def test_what_ipcmk_makes_ipcs_lists_and_ipcrm_removes() -> None:
    got = shell("ipcmk -M 10000; ipcmk -S 3; ipcmk -Q; ipcs; ipcrm -a; echo then; ipcs")
    before, after = got.text.split("then\n")
    assert got.status == 0 and not got.stderr, got.tail()
    assert re.search(r"^0x[0-9a-f]{8} 0 +\w+ +644 +10000 +0 *$", before, re.MULTILINE), before
    assert re.search(r"^0x[0-9a-f]{8} 0 +\w+ +644 +3 *$", before, re.MULTILINE), before
    assert re.search(r"^0x[0-9a-f]{8} 0 +\w+ +644 +0 +0 *$", before, re.MULTILINE), before
    assert "0x" not in after, after


@needs_tools
@pytest.mark.skipif(os.getuid() != 0, reason="only root sets limits")
def test_limits_are_those_of_proc_sys() -> None:
    got = shell("echo 1000 > /proc/sys/kernel/shmmni; ipcs -m -l; ipcs -s -l; ipcs -q -l")
    for line in (
        "max number of segments = 1000", "semaphore max value = 32767", "max ops per semop call = 500",
        "max size of message (bytes) = 8192",
    ):  # fmt: skip
        assert line in got.text, got.tail(40)


@pytest.mark.skipif(support.have("lsipc") is not None, reason="lsipc is not installed")
def test_lsipc_counts_what_is_used() -> None:
    got = shell("ipcmk -M 8192 > /dev/null; lsipc -o RESOURCE,USED | grep -E 'SHMMNI|SEMMNI'")
    assert got.text.split() == ["SHMMNI", "1", "SEMMNI", "0"], got.tail()


@needs_perl
def test_perl_passes_a_string_through_shared_memory_and_a_queue() -> None:
    script = (
        "my $shm = shmget(0, 4096, 0600); my $queue = msgget(0, 0600); my $sem = semget(0, 1, 0600);"
        "if (!fork) { shmwrite($shm, 'through memory', 0, 14); msgsnd($queue, pack('l! a*', 3, 'through a queue'), 0);"
        " semop($sem, pack('s!3', 0, 1, 0)); exit }"
        "semop($sem, pack('s!3', 0, -1, 0)); shmread($shm, my $text, 0, 14); msgrcv($queue, my $got, 100, 3, 0);"
        "print $text, ', ', substr($got, 8), \"\\n\"; shmctl($shm, 0, 0); msgctl($queue, 0, 0); semctl($sem, 0, 0, 0)"
    )
    got = support.trapline(["/usr/bin/perl", "-e", script])
    assert got.stdout == b"through memory, through a queue\n" and got.status == 0, got.tail()


def test_queues_are_files_below_dev_mqueue() -> None:
    got = shell("umask 77; : > /dev/mqueue/here; cat /dev/mqueue/here; ls /dev/mqueue; rm /dev/mqueue/here; ls /dev/mqueue")
    assert got.stdout.split() == [b"QSIZE:0", b"NOTIFY:0", b"SIGNO:0", b"NOTIFY_PID:0", b"here"], got.tail()
