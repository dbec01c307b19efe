"""`trapline trace` against Debian's strace(1), option by option: the same words on the same program give the same lines.

What two runs on two kernels cannot share (addresses, numbers of processes and inodes, times) is normalised, and nothing else.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_strace import _normal

import support

pytestmark = [
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(bool(support.have("strace")), reason="not installed: strace"),
]

NUMBERS = [
    (re.compile(r"\[pid +\d+(<\w+>)?\]"), r"[pid N\1]"),
    (re.compile(r"^( +\d+\t)?\d+(<\w+>)? +"), r"\1N\2 "),
    (re.compile(r"Process \d+ attached"), "Process N attached"),
    (re.compile(r"(st_[amc]time)=\d+( /\* [^*]* \*/)?, (\w+)=\d+"), r"\1=T, \3=T"),
    (re.compile(r"^(strace|trapline): Req"), "Req"),
    (re.compile(r"(?<=\d)\.\d{9}\b(?!>)"), ".NANO"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "HH:MM:SS"),
    (re.compile(r"\b1\d{9}(?=[. ])"), "EPOCH"),
    (re.compile(r"\.\d{6}\b"), ".U"),
    (re.compile(r"<\d\.\d{9}>"), "<0.N>"),
    (re.compile(r"(pipe|socket):\[\d+\]"), r"\1:[INODE]"),
    (re.compile(r"STREAM:\[\d+->\d+\]"), "STREAM:[A->B]"),
    (re.compile(r"si_pid=\d+(<\w+>)?"), "si_pid=N"),  # strace names a child that it has not buried yet
    (re.compile(r"^((?:\[ *\d+\] )?\[)[0-9a-f]{16}\]"), r"\1POINTER]"),
    (re.compile(r"(d_ino|st_ino|d_off|st_nlink|st_blocks|st_blksize)=\d+"), r"\1=N"),
    (re.compile(r"makedev\(\w+, \w+\)"), "makedev(N)"),
    (re.compile(r"(wait4|clone|vfork|getpid|set_tid_address)(\(.*) = \d+"), r"\1\2 = PID"),
    (re.compile(r"(execve\(0x\w+, 0x\w+, )0x\w+"), r"\1ADDRESS"),
]


def normal(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        for pattern, stands_for in NUMBERS:
            line = pattern.sub(stands_for, line)
        lines.append(re.sub(r" +=", " =", _normal(line, {})))
    return lines


def both(options: list[str], argv: list[str], where: Path) -> tuple[support.Result, support.Result, dict[str, str], dict[str, str]]:
    """(strace's run, ours, strace's files, ours) in two directories with equal contents; {} in a word is the directory's name."""
    env = support.ENVIRONMENT | {"MALLOC_ARENA_MAX": "1", "PYTHONHASHSEED": "0"}
    results, files = [], []
    for name in ("native", "ours"):
        (where / name).mkdir()
        (where / name / "fruit.txt").write_text("pear\napple\nfig\n")
        (where / name / "bytes").write_bytes(bytes(range(256)))
    home = f"{where}/native"
    for name in ("native", "ours"):
        out = where / f"{name}-out"
        out.mkdir()
        words = [each.replace("{}", str(out)) for each in options]
        if name == "native":
            command, run_env = ["strace", *words, "--", *argv], env
        else:
            assignments = [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
            command = [
                sys.executable, "-m", "trapline", "trace", "--clear-env", *assignments, "--bind", f"{where}/ours:{home}:rw",
                "--workdir", home, "--hostname", os.uname().nodename, *words, "--", *argv,
            ]  # fmt: skip
            run_env = support.host_environment()
        done = subprocess.run(command, cwd=home, env=run_env, input=b"", capture_output=True, timeout=60, check=False)
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        results.append(support.Result(status, done.stdout, done.stderr, " ".join(command)))
        files.append({each.name: each.read_text() for each in sorted(out.iterdir())})
    return results[0], results[1], files[0], files[1]


def same(expected: list[str], found: list[str]) -> None:
    differences = "\n".join(difflib.unified_diff(expected, found, "strace", "trapline", lineterm="", n=1))
    assert not differences, differences


CAT = ["cat", "fruit.txt"]
CHILDREN = ["sh", "-c", "(exit 3); /bin/true; exit 0"]
OPENS = ["-e", "trace=openat,read,close"]
PYTHON = ["/usr/bin/python3", "-S", "-c"]
CONSTANTS = [*PYTHON, """
import os, socket, fcntl, signal, select, resource, time, mmap
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.setsockopt(1, 8, 4096); s.getsockopt(1, 3)
try: s.connect("/nosuch")
except OSError: pass
a.shutdown(1); b.send(b"hi", 0x4040); fcntl.fcntl(3, 2, 1); fcntl.fcntl(3, 1); fcntl.fcntl(3, 4, 2048); fcntl.fcntl(3, 10, 10)
p = select.poll(); p.register(b, 17); p.poll(0); e = select.epoll(); e.register(b, 0x80000001)
signal.signal(10, 1); signal.pthread_sigmask(0, {10, 12}); resource.getrusage(0); resource.setrlimit(7, (512, 1024))
os.lseek(os.open("fruit.txt", 0o400000), 5, 0); os.access("/etc", 5); os.access("/etc", 0); os.getpriority(0, 0)
os.mkfifo("ff"); time.clock_gettime(2); m = mmap.mmap(-1, 8192); m.madvise(4); os.memfd_create("x", 1); os.eventfd(0, 0x80800)
fcntl.flock(3, 6); f = open("lk", "w"); fcntl.lockf(f, 2); os.stat("/dev/null")
"""]  # fmt: skip
OF_CONSTANTS = ["-e", "trace=%network,fcntl,poll,epoll_ctl,rt_sigaction,rt_sigprocmask,getrusage,prlimit64,openat,lseek,access,"
                "mmap,mprotect,madvise,memfd_create,eventfd2,flock,mknodat,newfstatat,clock_gettime,getpriority,ioctl"]
MOVES = [*PYTHON, """
import os, socket; fd = os.open("fruit.txt", 0); x, y = bytearray(5), bytearray(50); os.readv(fd, [x, y]); os.pread(fd, 9, 1)
os.writev(1, [b"ab\\n", b"0123456789abcdefXYZ\\n"]); os.write(1, b""); a, b = socket.socketpair(); a.send(b"hello"); b.recv(10)
a.sendmsg([b"x", b"yy"]); b.recvmsg(10); a.send(bytes(range(40))); b.recv_into(bytearray(64)); os.preadv(fd, [x], 2)
"""]
CASES: dict[str, tuple[list[str], list[str]]] = {
    "without key": (["-e", "openat"], CAT),
    "class": (["-e", "trace=%file"], CAT),
    "all but": (["-e", "trace=!mmap,%desc"], CAT),
    "regular expression": (["-e", "trace=/^(p?read|open)"], CAT),
    "unknown name": (["-e", "trace=?nosuch,close"], CAT),
    "long": (["--trace=openat", "--string-limit=3", "--columns=60"], CAT),
    "none": (["-e", "trace=none"], CHILDREN),
    "width of strings": (["-s", "3", "-e", "trace=read,write,execve"], CAT),
    "column": (["-a", "8", *OPENS], CAT),
    "hexadecimal": (["-x", "-e", "trace=read,openat"], ["cat", "bytes", "fruit.txt"]),
    "all hexadecimal": (["-xx", "-e", "trace=read,openat,execve"], ["cat", "bytes"]),
    "hexadecimal characters": (["--strings-in-hex=non-ascii-chars", "-e", "trace=read", "-s", "300"], ["cat", "bytes"]),
    "paths": (["-y"], CAT),
    "paths of pipes": (["-y", "-e", "trace=pipe2,dup2,close,poll,pselect6,fcntl"], [*PYTHON, """
import os, select; r, w = os.pipe(); p = select.poll(); p.register(r, 1); p.poll(0); select.select([r], [], [], 0)
import fcntl; fcntl.fcntl(w, 0, 50); os.dup2(r, 40); os.memfd_create("<q>"); d = os.open(".", 0); os.stat("fruit.txt", dir_fd=d)
"""]),
    "all of descriptors": (["-yy", "-e", "trace=socketpair,sendmsg,recvmsg,openat,read,memfd_create,newfstatat,eventfd2,ftruncate"], [*PYTHON, """
import os, socket, struct; a, b = socket.socketpair(); z = os.open("/dev/zero", 0); os.read(z, 3); n = os.open("/dev/null", 1)
a.sendmsg([b"x"], [(1, 1, struct.pack("i", n))]); b.recvmsg(10, 100); m = os.memfd_create("q"); os.ftruncate(m, 3)
f = os.open("fruit.txt", 0); os.unlink("fruit.txt"); os.read(f, 3)
"""]),
    "succeeded": (["-z", "-e", "trace=openat,access"], CAT),
    "failed": (["-Z"], ["cat", "nosuch"]),
    "status": (["-e", "status=!successful"], ["cat", "nosuch"]),
    "of a path": (["-P", "fruit.txt"], CAT),
    "pointer and number": (["-i", "-n", *OPENS], CAT),
    "clock": (["-tt", *OPENS], CAT),
    "clock since 1970": (["-ttt", "-T", *OPENS], CAT),
    "both clocks": (["-r", "-t", *OPENS], CAT),
    "precision": (["--absolute-timestamps=unix,ns", "--syscall-times=ns", *OPENS], CAT),
    "numbers": (["-e", "raw=openat,read", "-e", "trace=openat,read,close"], CAT),
    "whole": (["-v", "-e", "trace=newfstatat,getdents64,uname"], ["sh", "-c", "cd /etc/apt; exec ls -d ."]),
    "whole by call": (["-e", "abbrev=!newfstatat", "-e", "trace=newfstatat,getdents64"], ["sh", "-c", "cd /etc/apt; exec ls -d ."]),
    "whole but some": (["-v", "-e", "abbrev=execve", "-e", "trace=execve,newfstatat"], ["sh", "-c", "cd /etc/apt; exec ls -d ."]),
    "pointers": (["-e", "verbose=none", "-e", "trace=!kill,getpid,getppid,set_tid_address"], ["sh", "-c", "trap : USR1; kill -USR1 $$; exit 0"]),
    "pointers of some": (["-e", "verbose=!rt_sigaction,execve", "-e", "trace=rt_sigaction,execve,prlimit64"], ["sh", "-c", ":"]),
    "constants as numbers": (["-X", "raw", *OF_CONSTANTS], CONSTANTS),
    "constants as both": (["--const-print-style=verbose", *OF_CONSTANTS], CONSTANTS),
    "constants of children": (["-X", "verbose", "-f", "-e", "trace=execve,exit_group,access"], CHILDREN),
    "numbers of children": (["-X", "raw", "-e", "trace=clone,wait4,pipe2,fcntl", "-e", "signal=none"], ["sh", "-c", "(exit 3); exit 0"]),
    "dumps of reads": (["-e", "read=all", "-e", "write=none", "-e", "trace=readv,pread64,recvmsg,recvfrom,preadv"], MOVES),
    "dumps of writes": (["-e", "write=!9", "-e", "trace=write,writev,sendto,sendmsg"], MOVES),
    "dumps of some": (["-e", "read=3", "-e", "write=1,2", "-e", "trace=read,write"], CAT),
    "quiet": (["-qq", "-f", "-e", "trace=execve"], CHILDREN),
    "follow": (["-f", "-e", "trace=execve,exit_group"], CHILDREN),
    "command names": (["-f", "-Y", "-e", "trace=exit_group"], CHILDREN),
    "to a file": (["-f", "-o", "{}/t", "-e", "trace=execve,exit_group"], CHILDREN),
    "to a command": (["-f", "-o", "|cat -n >{}/t", "-e", "trace=exit_group"], CHILDREN),
    "signals": (["-e", "trace=none", "-e", "signal=!chld"], ["sh", "-c", "(exit 1); kill -TERM $$"]),
    "no signals": (["-e", "signal=none", "-e", "trace=exit_group"], CHILDREN),
    "error": (["-e", "inject=read:error=EIO:when=2+", "-e", "trace=read"], CAT),
    "value": (["-e", "inject=read:retval=0:when=2+", "-e", "trace=read"], CAT),
    "signal sent": (["-A", "-o{}/t", "-e", "inject=read:signal=USR1:when=2", "-e", "trace=read"], CAT),
    "delayed": (["-e", "inject=openat:delay_enter=100:delay_exit=1ms", "-e", "trace=openat"], CAT),
    "range": (["-e", "inject=openat:error=ENOENT:when=3..7+2", "-e", "trace=openat"], CAT),
    "fault": (["-e", "fault=mprotect:when=1", "-e", "trace=mprotect"], ["true"]),
    "fault of a class": (["-e", "fault=%file:error=EACCES:when=2", "-e", "trace=%file"], ["true"]),
    "memory written": (["-e", "inject=write:poke_enter=@arg2=4142:when=1", "-e", "trace=write"], CAT),
    "memory written after": (["-e", "inject=read:poke_exit=@arg2=4142:when=4", "-e", "trace=read"], CAT),
    "counted for each task": (["-f", "-e", "inject=exit_group:delay_enter=1:when=1", "-e", "trace=exit_group"], CHILDREN),
}  # fmt: skip


@pytest.mark.parametrize(("options", "argv"), CASES.values(), ids=CASES.keys())
def test_same_lines(options: list[str], argv: list[str], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    theirs, ours, their_files, our_files = both(options, argv, tmp_path)
    assert theirs.status == ours.status, ours.tail()
    assert theirs.stdout == ours.stdout
    same(normal(theirs.stderr.decode(errors="replace")), normal(ours.stderr.decode(errors="replace")))
    assert set(their_files) == set(our_files)
    for name, text in their_files.items():
        same(normal(text), normal(our_files[name]))


def test_a_file_for_each_thread(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    _, ours, theirs, found = both(["-ff", "-o", "{}/t", "-e", "trace=execve,exit_group"], CHILDREN, tmp_path)
    assert ours.status == 0, ours.tail()
    assert len(theirs) == len(found) == 3

    def texts(files: dict[str, str]) -> list[list[str]]:
        return sorted(normal(text) for text in files.values())

    assert texts(theirs) == texts(found)


def _table(text: str) -> list[str]:
    """A table without its times: calls, errors and names, sorted where they decide the order."""
    return [re.sub(r"(^| +)[\d.]+ +\d\.\d{6} +\d+(?= )", "", re.sub(r"^ +", " ", line)) for line in text.splitlines()]


@pytest.mark.parametrize("options", [["-c"], ["-c", "-S", "name"], ["-c", "-f", "-S", "calls"], ["-c", "-w", "-U", "calls,errors,name"]])
def test_same_table(options: list[str], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    theirs, ours, _, _ = both(options, ["cat", "nosuch"], tmp_path)
    expected, found = _table(theirs.stderr.decode()), _table(ours.stderr.decode())
    assert expected[:3] == found[:3]
    assert sorted(expected) == sorted(found)
    if "name" in options:
        assert expected == found


def test_the_ledger_counts_the_calls_that_strace_counts(tmp_path: Path) -> None:
    script = "ls fruit.txt; cat bytes | wc -c; sort fruit.txt"
    table, ours, _, _ = both(["-f", "-c"], ["sh", "-c", script], tmp_path)
    assert ours.status == 0
    env = [word for name, value in support.ENVIRONMENT.items() for word in ("--env", f"{name}={value}")]
    home = f"{tmp_path}/native"
    command = [
        sys.executable, "-m", "trapline", "ledger", "-f", "--json", "--clear-env", *env, "--env", "MALLOC_ARENA_MAX=1",
        "--env", "PYTHONHASHSEED=0", "--bind", f"{tmp_path}/ours:{home}:rw", "--workdir", home, "--", "sh", "-c", script,
    ]  # fmt: skip
    done = subprocess.run(command, env=support.host_environment(), capture_output=True, timeout=60, check=True)
    counts: dict[str, list[int]] = {}
    for row in json.loads(done.stderr)["rows"]:
        if row["kind"] == "call":
            count = counts.setdefault(row["name"], [0, 0])
            count[0] += row["count"]
            count[1] += row["errors"]
    counts.setdefault("execve", [0, 0])[0] += 1  # the first one is the kernel's own doing
    del counts["exit_group"]  # strace counts what returns
    theirs = {
        words[-1]: [int(words[3]), int(words[4]) if len(words) == 6 else 0]
        for words in map(str.split, re.findall(r"^ +\d+\.\d+ .* \w+$", table.stderr.decode(), re.M))
        if words[-1] != "total"
    }
    varies = {"rt_sigreturn", "wait4", "restart_syscall", "read", "brk", "mmap", "munmap"}  # how output falls into reads; timing
    assert {k: v for k, v in counts.items() if k not in varies} == {k: v for k, v in theirs.items() if k not in varies}
    assert {k: counts.get(k, [0])[0] - v[0] for k, v in theirs.items() if abs(counts.get(k, [0])[0] - v[0]) > 3} == {}
