"""`trapline run --trace` against Debian's strace(1): the same program, line by line.

Two kernels give different addresses, process numbers, inode times and random bytes; those are normalised, and nothing else is:
what is left must be equal, call for call. Lines of one thread are compared in their order; threads are matched by birth.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from pathlib import Path

import pytest

import support

pytestmark = [
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(bool(support.have("strace")), reason="not installed: strace"),
]

#: (what varies between two runs on two kernels, what stands for it), applied in order to each line
VARIES = [
    (re.compile(r"0x[0-9a-f]{7,}"), "ADDRESS"),
    (re.compile(r"(execve\(.*\], )\w+ /\* \d+ vars? \*/"), r"\1ENV"),
    (re.compile(r'getrandom\(".*"'), 'getrandom("RANDOM"'),
    (re.compile(r"\b(si_utime|si_stime)=\d+( /\* [\d.]+ s \*/)?"), r"\1=N"),
    (re.compile(r"\b(tv_sec|tv_usec|tv_nsec)=\d+"), r"\1=N"),
    (re.compile(r"^sysinfo\(\{.*\}"), "sysinfo({...}"),
    (re.compile(r"(st_mode=S_IFDIR\|\d+, st_size)=\d+"), r"\1=N"),
    (re.compile(r'read\(3, "nodev.*= \d+'), "read(3, /proc/filesystems)"),
    (re.compile(r"^(brk\()0x[0-9a-f]+(\) += )"), r"\1ADDRESS\2"),
    (re.compile(r"(?<== )0x[0-9a-f]+$|0x[0-9a-f]+(?= /\*)"), "ADDRESS"),
    (re.compile(r"\bu64=\d+"), "u64=N"),
    (re.compile(r"^(getpgid|getsid)\(0\) += \d+"), r"\1(0) = PARENT"),
    (re.compile(r"^(getppid|getpgrp)(\(\) +=) \d+"), r"\1\2 PARENT"),
    (re.compile(r"^(sched_getaffinity\(.*\) +=) \d+"), r"\1 SIZE"),
    (re.compile(r"^(f?statfs\(.*f_type=\w+).*\}"), r"\1, ...}"),
    (re.compile(r"^(prlimit64\(0, RLIMIT_(NPROC|NOFILE), NULL, ).*\}"), r"\1LIMITS"),
    (re.compile(r"^(setpgid\(0, 0\)) +=.*"), r"\1 = either"),  # the guest's first process leads its session
    (re.compile(r"\) +="), ") ="),
]
#: Where numbers of processes stand in a line.
PIDS = re.compile(
    r"(?<=si_pid=)\d+|(?<=parent_tid=\[)\d+|"
    r"(?<=^kill\()\d+|(?<=^wait4\()\d+|(?<=^tgkill\()\d+|(?<=^tkill\()\d+|"
    r"(?<=\) = )\d+(?=$)"
)
GIVE_PIDS = re.compile(r"(getpid|gettid|fork|vfork|clone|clone3|wait4|set_tid_address|rt_sigreturn|kill|tgkill)\(|---")
PYTHON = "/usr/bin/python3"
#: Calls that are there or not, and succeed or not, by who is faster, by what the vDSO answers without the kernel, or (Python's
#: arenas of 1 MiB) by how addresses happen to be aligned.
BY_CHANCE = ("futex(", "clock_gettime(CLOCK_MONOTONIC", "mmap(NULL, 1048576, ")
UNFINISHED = " <unfinished ...>"
RESUMED = re.compile(r"<\.\.\. \w+ resumed>")


def threads(text: str) -> list[list[str]]:
    """The lines of each thread, in order of its birth, calls that were interrupted by another's put together again."""
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        pid, rest = line.split(maxsplit=1)
        mine = lines.setdefault(pid, [])
        if found := RESUMED.match(rest):
            mine[-1] = mine[-1].removesuffix(UNFINISHED) + rest[found.end() :]
        else:
            mine.append(rest)
    names = {pid: f"PID{index}" for index, pid in enumerate(lines)}
    return [[_normal(line, names) for line in mine if not line.startswith(BY_CHANCE)] for mine in lines.values()]


def _normal(line: str, names: dict[str, str]) -> str:
    for pattern, stands_for in VARIES:
        line = pattern.sub(stands_for, line)
    if GIVE_PIDS.match(line):
        line = PIDS.sub(lambda found: names.get(found[0], found[0]), line)
    return line


def traces(argv: list[str], where: Path) -> tuple[list[list[str]], list[list[str]]]:
    """(strace's, ours), of `argv` started in two directories with equal contents."""
    env = support.ENVIRONMENT | {"MALLOC_ARENA_MAX": "1", "PYTHONHASHSEED": "0"}  # or heaps begin where chance has it
    for name in ("native", "ours"):
        (where / name).mkdir()
        (where / name / "fruit.txt").write_text("pear\napple\nfig\n")
    theirs, ours = where / "theirs.txt", where / "ours.txt"
    subprocess.run(
        ["strace", "-f", "-o", str(theirs), "--", *argv],
        cwd=where / "native", env=env, input=b"", capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    options = ["--hostname", os.uname().nodename]
    done = support.trapline(
        argv, [*options, f"--trace={ours}", "--bind", f"{where}/ours:{where}/native:rw", "--workdir", f"{where}/native"], env=env
    )
    assert done.status == 0, done.tail()
    return threads(theirs.read_text()), threads(ours.read_text())


PROGRAMS = {
    "cat": ["cat", "fruit.txt"],
    "ls": ["ls"],
    "cp": ["cp", "fruit.txt", "copy"],
    "mv and rm": ["sh", "-c", "mv fruit.txt fig; rm fig; mkdir -p a/b; rmdir a/b; ln -s a c; readlink c; touch f; chmod 600 f"],
    "sh": ["sh", "-c", "read x <fruit.txt; sort fruit.txt >sorted; echo $x $?; kill -0 $$; trap 'echo hit' USR1; kill -USR1 $$; cat nosuch; exit 0"],
    "death": ["sh", "-c", "sh -c 'kill -9 $$'; sh -c 'kill $$'; sh -c 'exit 3'; exit 0"],
    "bash": ["bash", "--norc", "-c", "set -o pipefail; x=$(<fruit.txt); [[ -f fruit.txt ]] && printf '%s' \"$x\" >copy; umask 077"],
    "find": ["find", ".", "-name", "*.txt", "-size", "-5", "-newer", "."],
    "dd": ["dd", "if=fruit.txt", "of=copy", "bs=4", "count=2", "conv=fsync,notrunc", "status=none"],
    "timeout": ["timeout", "10", "sleep", "0.01"],
    "python": [PYTHON, "-S", "-c", "import os, signal; print(open('fruit.txt').read()); os.mkdir('d'); os.listdir('.')"],
    "descriptors": [PYTHON, "-S", "-c", """
import os, fcntl, select, socket, mmap
r, w = os.pipe(); os.set_blocking(r, False); os.write(w, b"x" * 40); print(select.select([r], [], [], 0), os.read(r, 100))
try: os.read(r, 1)
except BlockingIOError: pass
p = select.poll(); p.register(r, select.POLLIN); p.poll(0); e = select.epoll(); e.register(r); e.poll(0); e.close()
a, b = socket.socketpair(); a.send(b"hi", socket.MSG_NOSIGNAL); b.recv(10); a.shutdown(socket.SHUT_WR); b.setsockopt(1, 9, 1); b.getsockopt(1, 3)
s = socket.socket(socket.AF_UNIX); s.bind("sock"); s.listen(3); c = socket.socket(socket.AF_UNIX); c.connect("sock"); d, _ = s.accept(); c.getpeername()
f = os.open("fruit.txt", os.O_RDWR); fcntl.flock(f, fcntl.LOCK_SH); fcntl.lockf(f, fcntl.LOCK_EX, 1); os.dup2(f, 20); os.preadv(f, [bytearray(3)], 1)
m = mmap.mmap(f, 5); m[0]; m.close(); os.lseek(f, 0, os.SEEK_END); os.ftruncate(f, 3); os.fsync(f); os.posix_fallocate(f, 0, 10); os.utime(f, (1, 2))
os.link("fruit.txt", "l"); os.rename("l", "k"); os.chmod("k", 0o640); os.access("k", os.X_OK); os.statvfs("k"); os.eventfd(3); os.memfd_create("m")
os.getpgid(0); os.getsid(0); os.getpriority(0, 0); os.sched_yield(); os.umask(0o22); os.getresuid(); os.getgroups(); os.sched_getparam(0)
"""],
    "leases": [PYTHON, "-S", "-c", """
import fcntl, os, mmap
from fcntl import F_SETLEASE, F_GETLEASE, F_NOTIFY, F_SETSIG, F_GETSIG, F_SETOWN, F_GETOWN, F_RDLCK, F_UNLCK
f = os.open("fruit.txt", os.O_RDONLY); d = os.open(".", os.O_RDONLY)
for arguments in ((f, F_SETLEASE, F_RDLCK), (f, F_GETLEASE), (f, F_SETLEASE, F_UNLCK), (d, F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_ACCESS), (d, F_NOTIFY, 0),
        (f, F_SETSIG, 10), (f, F_GETSIG), (f, F_SETSIG, 0), (f, F_GETSIG), (f, F_SETOWN, 0), (f, 15, bytes(8)), (f, 16, bytes(8))):
    fcntl.fcntl(*arguments)
try: mmap.mmap(-1, 4 << 20, flags=0x40022 | 20 << 26)
except OSError: pass
"""],
    "tar": ["tar", "cf", "t.tar", "fruit.txt"],
    "touch": ["touch", "-d", "@1700000000", "fruit.txt"],
    "make": ["sh", "-c", "printf 'all:\\n\\t@echo hi\\n' >Makefile; make"],
    "fifo": ["sh", "-c", "mkfifo f; echo x 1<>f; rm f"],
    "priorities": ["nice", "-n", "3", "ionice", "-c", "2", "ionice"],
    "limits": ["prlimit", "--nofile=10:20", "true"],
    "privileges": [PYTHON, "-S", "-c", """
import ctypes; call = ctypes.CDLL(None).prctl
for option, *rest in ((23, 0), (23, 40), (23, 63), (47, 1, 10), (47, 4), (28, 1), (27,), (4, 0), (3,), (8, 1), (15, b"name"), (38, 1), (39,), (1, 9)):
    call(option, *rest, *[0] * (4 - len(rest)))
"""],
    "messages": [PYTHON, "-S", "-c", """
import socket, struct
a, b = socket.socketpair(); a.setsockopt(1, 13, struct.pack("ii", 1, 5)); a.getsockopt(1, 13, 8); a.setsockopt(1, 7, 100000); a.getsockopt(1, 7)
a.sendmsg([b"x", b"yy"], [(1, 1, struct.pack("i", 2))]); b.recvmsg(10, 100); a.sendmsg([b"x" * 100]); b.recvmsg_into([bytearray(60), bytearray(60)])
u = socket.socket(1, 2); v = socket.socket(1, 2); u.bind(chr(0) + "abs"); v.sendto(b"hi", chr(0) + "abs"); u.recvfrom(10)
v.bind("named"); v.sendto(b"hi", chr(0) + "abs"); u.recvfrom(10); v.sendmsg([b"z"], [], 0, chr(0) + "abs"); u.recvmsg(3)
"""],
    "ignored signals": ["sh", "-c", "trap '' USR1; kill -USR1 $$; kill -CHLD $$; kill -WINCH $$; kill -CONT $$; kill -URG $$"],
    "children": [PYTHON, "-S", "-c", """
import os, signal
for action in signal.SIG_DFL, signal.SIG_IGN:
    signal.signal(signal.SIGCHLD, action)
    pid = os.fork()
    if not pid:
        os._exit(3)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
"""],
    "threads": [PYTHON, "-S", "-c", "import threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join()"],
}  # fmt: skip


@pytest.mark.parametrize("argv", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_same_lines(argv: list[str], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    theirs, ours = traces(argv, tmp_path)
    assert len(theirs) == len(ours)
    for expected, found in zip(theirs, ours, strict=True):
        differences = "\n".join(difflib.unified_diff(expected, found, "strace", "trapline", lineterm="", n=1))
        assert not differences, differences
