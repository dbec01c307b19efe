"""Programs that show the system to its users print what is true of the guest, without complaints."""

from __future__ import annotations

import re
import time

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")

_SOCKET = """
import socket, subprocess
server = socket.socket(socket.AF_UNIX)
server.bind("/tmp/listening")
server.listen()
subprocess.run({words!r})
"""
_LOCK = "exec 9>/tmp/locked; flock -x 9; lslocks -o COMMAND,TYPE,MODE,START,END | grep -v lslocks"

#: the command, what its output matches from the start, in several lines
TOOLS = {
    "ps aux": r"USER +PID .*\nroot +2 .* bash .*\n(root .*\n)*root +\d+ .* ps aux\n$",
    "ps -ejf": r"UID +PID +PPID +PGID +SID .*\nroot +2 +1 +2 +2 (.*\n)+$",
    "ps -o pid,ppid,stat,ni,comm -p 2": r" +PID +PPID STAT +NI COMMAND\n +2 +1 Ss? +0 bash\n$",
    "top -b -n1": r"top - [\d:]+ up .* load average: [\d., ]+\nTasks: +\d+ total, +\d running.*\n%Cpu\(s\): (.*\n)+ +2 root .* bash\n",
    "free -k": r" +total +used .*\nMem: +\d+ +\d+ +\d+ +0 +\d+ +\d+\nSwap: +0 +0 +0\n$",
    "uptime": r" [\d:]+ up \d+ min, .* load average: \d+\.\d\d, \d+\.\d\d, \d+\.\d\d\n$",
    "vmstat": r"procs -+memory-+ .*\n r +b +swpd .*\n +\d+ +0 +0 +\d+ .*\n$",
    "w -h": r"$",
    "pgrep -x bash": r"2\n$",
    "pmap $$": r"2: +bash.*\n([0-9a-f]{16} +\d+K [rwxs-]{5} .*\n)+ total +\d+K\n$",
    "lsof -p $$": r"COMMAND PID USER +FD +TYPE .*\nbash +2 root +cwd +DIR .* /\n(.*\n)*bash +2 root +txt +REG .*bash\n",
    "df --output=source,fstype,target": r"Filesystem +Type +Mounted on\noverlay +overlay +/\n(.*\n)*tmpfs +tmpfs +/dev/shm\n",
    "mount": r"overlay on / type overlay \(rw,relatime\)\n(.*\n)*proc on /proc type proc \(rw,nosuid,nodev,noexec,relatime\)\n",
    "findmnt -rno TARGET,FSTYPE": r"/ overlay\n(.* .*\n)*/dev devtmpfs\n(.* .*\n)*/proc proc\n",
    "lsblk": r"$",
    "lsns -no TYPE,NPROCS": r"( *(cgroup|ipc|mnt|net|pid|time|user|uts) +\d+\n){8}$",
    "lscpu -p=CPU": r"(# .*\n)+0\n",
    "swapon --show": r"$",
    "stat -f -c %T / /proc /sys /dev /dev/pts": r"overlayfs\nproc\nsysfs\ntmpfs\ndevpts\n$",
}  # fmt: skip


def shell(script: str) -> support.Result:
    return support.trapline(["bash", "-c", f"{script}; exit $?"], ["--user", "0"], env={"TERM": "xterm"})


@pytest.mark.parametrize("command", TOOLS)
def test_tool(command: str) -> None:
    program = command.split()[0]
    if missing := support.have(program):
        pytest.skip(missing)
    got = shell(command)
    assert got.stderr == b"" and re.match(TOOLS[command], got.stdout.decode()), got.tail()


@pytest.mark.parametrize(
    ("words", "expected"), [(["lsof", "-U"], r"/tmp/listening type=STREAM \(LISTEN\)"), (["ss", "-xl"], r"LISTEN .*/tmp/listening")]
)
def test_sockets_are_listed(words: list[str], expected: str) -> None:
    if missing := support.have(words[0], "python3"):
        pytest.skip(missing)
    got = support.trapline(["python3", "-c", _SOCKET.format(words=words)])
    assert got.status == 0 and re.search(expected, got.stdout.decode()), got.tail()


def test_locks_are_listed() -> None:
    if missing := support.have("flock", "lslocks"):
        pytest.skip(missing)
    got = shell(_LOCK)
    assert re.search(r"FLOCK +WRITE +0 +0\n$", got.stdout.decode()), got.tail()


_SET_CLOCK = """
date -u -s '2001-02-03 04:05:06' +%F
touch /tmp/new; stat -c %y /tmp/new | cut -c-10
python3 -c '
import os, time
before = time.monotonic()
time.clock_settime(time.CLOCK_REALTIME, 2e9)
print(int(time.time()) // 100, int(time.monotonic() - before) // 100, int(os.stat("/proc/self").st_mtime) // 100)
'
"""


def test_the_guests_clock_can_be_set_and_only_the_guests() -> None:
    if missing := support.have("date", "python3"):
        pytest.skip(missing)
    got = support.trapline(["bash", "-c", _SET_CLOCK], options=["--user=0", "--env=TZ=UTC"])
    assert (got.status, got.stdout) == (0, b"2001-02-03\n2001-02-03\n20000000 0 20000000\n"), got.tail()
    assert time.time() < 2e9
    got = support.trapline(["date", "-s", "2001-02-03"], options=["--user=1000"])
    assert got.status == 1 and b"Operation not permitted" in got.stderr
