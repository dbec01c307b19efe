"""`trapline run` as its user meets it, without a terminal: every option, every exit status, pipes that break, signals that come."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.usefixtures("no_process_left")


def run(*words: str, stdin: bytes = b"", cwd: str | Path = "/usr", uid: int | None = None) -> support.Result:
    """`words` are options and, after "--", the program."""
    at = words.index("--")
    return support.trapline(words[at + 1 :], words[:at], stdin=stdin, cwd=cwd, uid=uid)


def start(*words: str, **kwargs: object) -> subprocess.Popen[bytes]:
    command = support.trapline_command(list(words))
    return subprocess.Popen(command, env=support.host_environment(), cwd="/usr", **kwargs)  # type: ignore[call-overload]


def said(got: support.Result, status: int, *phrases: str) -> None:
    """One line of complaint, with what is wrong and what to do."""
    assert got.status == status, got.tail()
    assert got.stderr.startswith(b"trapline: ") and got.stderr.count(b"\n") == 1, got.tail()
    for phrase in phrases:
        assert phrase in got.stderr.decode(), got.tail()


# ---- what the guest is shown


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A root file system of one static busybox, as a directory."""
    if reason := support.have("busybox"):
        pytest.skip(reason)
    root = tmp_path / "root"
    for name in ("bin", "etc", "tmp", "proc", "dev", "sys", "home/user"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/usr/bin/busybox").resolve().read_bytes())
    (root / "bin/busybox").chmod(0o755)
    (root / "bin/sh").symlink_to("busybox")
    (root / "etc/motd").write_text("tiny\n")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    return root


SCRIPT = "cat /etc/motd; ls /; echo written >/etc/new && cat /etc/new"
EXPECTED = "tiny\nbin\ndev\netc\nhome\nproc\nsys\ntmp\nwritten\n"


def test_root_is_a_directory(tiny: Path) -> None:
    got = run("--root", str(tiny), "--user", "0", "--", "/bin/sh", "-c", SCRIPT)
    assert got.text == EXPECTED and got.status == 0, got.tail()
    assert not (tiny / "etc/new").exists()


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


@pytest.mark.parametrize("kind", ["", "gz", "xz", "bz2"])
def test_root_is_an_archive(kind: str, tiny: Path, tmp_path: Path) -> None:
    """As debootstrap and container exports make them: names begin with "./", links are relative and hard, owners are root's."""
    archive = tmp_path / f"root.tar.{kind}"
    with tarfile.open(archive, f"w:{kind}") as tar:  # type: ignore[call-overload]
        tar.add(tiny, ".", filter=_of_root)
        link = tarfile.TarInfo("./bin/busybox.hard")
        link.type, link.linkname = tarfile.LNKTYPE, "./bin/busybox"
        tar.addfile(link)
        text = b"from the archive\n"
        info = tarfile.TarInfo("./etc/later/file")
        info.size, info.mode, info.mtime = len(text), 0o640, 1_000_000_000
        tar.addfile(info, io.BytesIO(text))
    got = run("--root", str(archive), "--user", "0", "--", "/bin/sh", "-c", f"{SCRIPT}; /bin/busybox.hard stat -c '%a %Y %u' /etc/later/file")
    assert got.text == EXPECTED + "640 1000000000 0\n" and got.status == 0, got.tail()


def test_root_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    said(run("--root", str(tmp_path / "text"), "--", "true"), 125, "neither a directory nor a tar archive")
    said(run("--root", str(tmp_path / "none"), "--", "true"), 125, "no such file or directory on the host")
    (tmp_path / "empty").mkdir()
    said(run("--root", str(tmp_path / "empty"), "--", "true"), 127, "not found in the guest")


def test_whole_host_as_root(tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("seen")
    assert run("--root", "/", "--", "cat", str(tmp_path / "seen")).text == "seen"
    got = run("--", "cat", str(tmp_path / "seen"))
    assert got.status == 1 and b"No such file" in got.stderr, got.tail()


def test_binds(tmp_path: Path) -> None:
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "one").write_text("a single file")
    options = ("--bind", f"{tmp_path}/ro:/a", "--bind", f"{tmp_path}/rw:/deep/b:rw", "--bind", f"{tmp_path}/one:/etc/one", "--rw", f"{tmp_path}/rw")
    script = f"cat /a/file /deep/b/file /etc/one; echo x >/a/new; echo new >/deep/b/new; cat {tmp_path}/rw/new; rm /deep/b/file; ls /deep/b"
    got = run(*options, "--", "sh", "-c", script)
    assert got.text == "rorwa single filenew\nnew\n" and b"Read-only file system" in got.stderr, got.tail()
    assert (tmp_path / "rw/new").read_text() == "new\n" and not (tmp_path / "rw/file").exists()
    assert sorted(each.name for each in (tmp_path / "ro").iterdir()) == ["file"]


def test_current_directory_is_shown_and_kept(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("here\n")
    got = run("--", "sh", "-c", "pwd; cat data; echo gone >data; cat data", cwd=tmp_path)
    assert got.text == f"{tmp_path}\nhere\ngone\n", got.tail()
    assert (tmp_path / "data").read_text() == "here\n"


def test_workdir(tmp_path: Path) -> None:
    assert run("--workdir", "/usr/lib", "--", "pwd").text == "/usr/lib\n"
    assert run("--workdir", "lib", "--", "pwd").text == "/usr/lib\n"
    said(run("--workdir", "/no/such", "--", "pwd"), 125, "--workdir /no/such", "no such directory in the guest")
    said(run("--workdir", "/etc/passwd", "--", "pwd"), 125, "not a directory in the guest")


# ---- who, how much, how long


def test_environment() -> None:
    environ = {"A": "1", "HOME": "/h"}
    command = [*support.trapline_command([])[:-1], "--env", "B=x=y", "--env", "EMPTY=", "--", "/usr/bin/env"]
    done = subprocess.run(command, env=support.host_environment() | environ, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "B=x=y" in lines and "EMPTY=" in lines and "A=1" not in lines and "HOME=/tmp" in lines


def test_users() -> None:
    root = os.getuid() == 0
    assert run("--user", "12:34", "--", "sh", "-c", "id -u; id -g").text == "12\n34\n"
    assert run("--user", "root", "--", "id", "-un").text == "root\n"
    got = run("--user", "65534", "--", "sh", "-c", "cat /etc/shadow; echo x >/etc/x; echo x >/tmp/x && echo fine")
    assert got.text == "fine\n" and got.stderr.count(b"ermission denied") + got.stderr.count(b"No such file") == 2, got.tail()
    if root:
        assert run("--user", "1000", "--", "sh", "-c", "kill -0 1; echo $?").text == "1\n"
    said(run("--user", "nosuchuser", "--", "true"), 125, "no such user")


def test_hostname() -> None:
    assert run("--hostname", "box", "--", "uname", "-n").text == "box\n"
    assert run("--", "hostname").text == "trapline\n"


def test_memory_is_limited() -> None:
    fill = "import sys; b = bytearray(200 << 20); print(len(b))"
    assert run("--memory", "512M", "--", "/usr/bin/python3", "-c", fill).text == "209715200\n"
    got = run("--memory", "64M", "--", "/usr/bin/python3", "-c", fill)
    assert got.status in (1, 137) and not got.text, got.tail()
    assert run("--memory", "100M", "--", "sh", "-c", "grep -c MemTotal /proc/meminfo").text == "1\n"
    said(run("--memory", "900000T", "--", "true"), 125, "--memory")


def test_processors() -> None:
    assert run("--cpus", "1", "--", "nproc").text == "1\n"
    assert run("--cpus", "3", "--", "nproc", "--all").text == "3\n"


def test_process_limit() -> None:
    got = run("--pids", "5", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait")
    assert got.status == 2 and b"Cannot fork" in got.stderr, got.tail()


def test_time_out_kills_all_and_says_so_by_its_status() -> None:
    got = run("--timeout", "300ms", "--", "sh", "-c", "trap '' TERM; echo started; sleep 1000 & sleep 1000")
    assert got.status == 124 and got.text == "started\n", got.tail()
    assert run("--timeout", "1h", "--", "echo", "quick").text == "quick\n"


def test_seed_and_addresses() -> None:
    random = ("sh", "-c", "od -An -tx8 -N16 /dev/urandom; cat /proc/sys/kernel/random/uuid")
    assert run("--seed", "7", "--", *random).text == run("--seed", "7", "--", *random).text != run("--seed", "8", "--", *random).text
    stack = ("grep", "stack", "/proc/self/maps")
    assert run("--no-aslr", "--", *stack).text == run("--no-aslr", "--", *stack).text
    assert run("--", *stack).text != run("--", *stack).text


# ---- what is written


CHANGES = "echo new >/etc/new; rm /etc/issue; mkdir -p /opt/d; ln -s target /opt/d/link; chmod 600 /etc/new"


def test_overlay_is_saved_to_a_directory(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    got = run("--user", "0", "--save-overlay", str(saved), "--", "sh", "-c", CHANGES)
    assert got.status == 0, got.tail()
    assert (saved / "etc/new").read_text() == "new\n" and (saved / "etc/new").stat().st_mode & 0o777 == 0o600
    assert os.readlink(saved / "opt/d/link") == "target" and (saved / "etc/.wh.issue").read_bytes() == b""
    said(run("--save-overlay", str(saved), "--", "true"), 125, "it exists", "choose a new name")


@pytest.mark.parametrize("name", ["changes.tar", "changes.tar.gz", "changes.tgz"])
def test_overlay_is_saved_to_an_archive(name: str, tmp_path: Path) -> None:
    got = run("--user", "0", "--save-overlay", str(tmp_path / name), "--", "sh", "-c", CHANGES)
    assert got.status == 0, got.tail()
    with tarfile.open(tmp_path / name) as tar:
        members = {each.name: each for each in tar}
        assert tar.extractfile("etc/new").read() == b"new\n"  # type: ignore[union-attr]
    assert members["opt/d/link"].linkname == "target" and "etc/.wh.issue" in members


def test_overlay_that_cannot_be_saved_is_noticed_before_the_program_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.mkdir()
    got = run("--rw", str(mark), "--save-overlay", "/no/such/place", "--", "touch", f"{mark}/ran")
    said(got, 125, "--save-overlay /no/such/place", "make it first")
    assert not (mark / "ran").exists()


def test_trace(tmp_path: Path) -> None:
    got = run("--trace", "--", "echo", "hi")
    assert got.text == "hi\n" and got.stderr.startswith(b'execve("/usr/bin/echo", ["echo", "hi"], 0x'), got.tail()
    assert got.stderr.endswith(b"+++ exited with 0 +++\n") and b'write(1, "hi\\n", 3)                     = 3\n' in got.stderr, got.tail()
    file = tmp_path / "trace"
    got = run(f"--trace={file}", "--", "sh", "-c", "true & wait")
    assert got.stderr == b"" and got.status == 0, got.tail()
    lines = file.read_text().splitlines()
    assert len({line.split()[0] for line in lines}) == 2 and lines[-1].endswith("+++ exited with 0 +++")


def test_log_and_page_tables(tmp_path: Path) -> None:
    log, tables = tmp_path / "log", tmp_path / "tables"
    unknown = "import ctypes; ctypes.CDLL(None).syscall(180, 0, 0, 0)"
    got = run(f"--log={log}", f"--dump-pagetables={tables}", "--", "/usr/bin/python3", "-c", unknown)
    assert got.status == 0 and got.stderr == b"", got.tail()
    assert "nfsservctl" in log.read_text() or "180" in log.read_text()
    assert "page tables of process 2 (python3)" in tables.read_text() and "PTE@" in tables.read_text()


def test_trace_whose_reader_leaves_does_not_hurt_the_program(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = support.trapline_command(["sh", "-c", "for i in 1 2 3; do echo $i; done; exit 5"], ["--trace"])
    with open(out, "wb") as stdout:
        process = subprocess.Popen(command, env=support.host_environment(), cwd="/usr", stdout=stdout, stderr=subprocess.PIPE)
        process.stderr.close()  # type: ignore[union-attr]
        assert process.wait(60) == 5
    assert out.read_text() == "1\n2\n3\n"


def test_trace_onto_a_full_disk_is_said_at_the_end() -> None:
    got = run("--trace=/dev/full", "--", "sh", "-c", "echo done; exit 4")
    assert got.status == 4 and got.text == "done\n", got.tail()
    assert b"trapline: --trace /dev/full: not all was written: No space left on device\n" in got.stderr, got.tail()


# ---- wrong words


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        (["--cpus", "none"], ["--cpus none", "not a number"]),
        (["--cpus", "65"], ["from 1 to 64"]),
        (["--pids", "0"], ["--pids 0", "from 1"]),
        (["--memory", "lots"], ["--memory lots", "512M"]),
        (["--timeout", "-3"], ["--timeout -3"]),
        (["--seed", "x"], ["--seed x"]),
        (["--hostname", "h" * 65], ["from 1 to 64 bytes"]),
        (["--env", "=x"], ["NAME=VALUE"]),
        (["--env", "NOT_SET_HERE"], ["not set"]),
        (["--bind", "/etc"], ["SRC:DST"]),
        (["--bind", "/etc:relative"], ["absolute"]),
        (["--bind", "/etc:/x:rx"], ["--bind /etc:/x:rx"]),
        (["--bind", "/no/such:/x"], ["no such file"]),
        (["--rw", "/no/such"], ["--rw /no/such"]),
        (["--machine", "pdp11"], ["pdp11", "there is host"]),
        (["--trace=/no/such/file"], ["--trace /no/such/file", "choose another"]),
        (["--log="], ["leave out the ="]),
        (["--report-fd", "1"], ["from 3"]),
        (["--no-aslr=yes"], ["takes no value"]),
        (["--no-asrl"], ["did you mean --no-aslr"]),
        (["--memory", "64M", "--memory", "64M"], ["given twice"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_value_is_named_with_what_to_do(words: list[str], phrases: list[str]) -> None:
    said(run(*words, "--", "true"), 125, *phrases)


def test_program_that_cannot_be_run(tmp_path: Path) -> None:
    for name, text in (("text", "just words\n"), ("script", "#!/no/such/interpreter\n"), ("empty", "")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "locked").write_text("#!/bin/sh\n")
    (tmp_path / "locked").chmod(0o644)
    for name, status, phrase in (
        ("text", 126, "may run it"), ("empty", 126, "may run it"), ("script", 127, "interpreter that its first line names is not found"),
        ("locked", 126, "EACCES"), ("none", 127, "not found in the guest"),
    ):  # fmt: skip
        said(run("--", f"./{name}", cwd=tmp_path), status, f"./{name}: ", phrase)
    said(run("--", "", cwd=tmp_path), 127, "empty name")


# ---- signals and pipes


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signal_goes_to_the_program_and_its_death_is_passed_on(signo: signal.Signals) -> None:
    with start("sh", "-c", "echo up; exec sleep 100", stdout=subprocess.PIPE) as process:
        assert process.stdout.read(3) == b"up\n"  # type: ignore[union-attr]
        process.send_signal(signo)
        assert process.wait(30) == -signo


def test_death_of_sleepers_ends_the_run_at_once() -> None:
    """Nobody is in user mode when the signal comes, and nothing else happens after it."""
    with start("sh", "-c", "echo up; sleep 100; echo survived", stdout=subprocess.PIPE) as process:
        assert process.stdout.read(3) == b"up\n"  # type: ignore[union-attr]
        time.sleep(3)  # until the kernel has nothing to do
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(3) == -signal.SIGINT


def test_signal_that_the_program_handles() -> None:
    with start("sh", "-c", "trap 'echo caught; exit 9' TERM; echo up; while :; do sleep 0.05; done", stdout=subprocess.PIPE) as process:
        assert process.stdout.read(3) == b"up\n"  # type: ignore[union-attr]
        process.terminate()
        assert process.wait(30) == 9 and process.stdout.read() == b"caught\n"  # type: ignore[union-attr]


def test_signal_that_the_caller_ignores_stays_ignored() -> None:
    got = support.native(["sh", "-c", f"trap '' HUP; kill -HUP $$; exec {' '.join(support.trapline_command(['echo', 'alive']))}"], env=support.host_environment())
    assert got.text == "alive\n", got.tail()


def test_killed_kernel_leaves_no_stub_behind() -> None:
    with start("sh", "-c", "echo up; sleep 100 & while :; do :; done", stdout=subprocess.PIPE) as process:
        assert process.stdout.read(3) == b"up\n"  # type: ignore[union-attr]
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("signo", [6, 8, 11, 13, 14, 31])
def test_each_death_is_the_programs_own(signo: int) -> None:
    got = run("--", "sh", "-c", f"kill -{signo} $$")
    assert got.status == 128 + signo, got.tail()


def test_broken_pipe_ends_the_writer() -> None:
    command = " ".join(support.trapline_command(["yes"]))
    got = support.native(["bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[@]}}"], env=support.host_environment(), cwd="/usr")
    assert got.text == "y\n141 0\n" and got.stderr == b"", got.tail()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_closed(closed: str) -> None:
    """As natively: a program can neither read, write nor duplicate them, and the first file it opens gets the number."""
    script = "'echo out; echo err >&2; cat; echo $?; for fd in 0 1 2; do test -e /proc/self/fd/$fd; echo $? >>$1; done; cat $1 >&2'"
    told = [
        support.native(["bash", "-c", f"{command} {closed}"], env=support.host_environment(), cwd="/usr")
        for command in (f"sh -c {script} x $(mktemp)", " ".join(support.trapline_command(["sh", "-c", script, "x", "/tmp/told"])))
    ]
    assert (told[0].status, told[0].stdout, told[0].stderr) == (told[1].status, told[1].stdout, told[1].stderr), told[1].tail()


def test_full_disk_is_the_programs_affair() -> None:
    command = " ".join(support.trapline_command(["echo", "x"]))
    got = support.native(["bash", "-c", f"{command} >/dev/full"], env=support.host_environment(), cwd="/usr")
    assert got.status == 1 and b"No space left on device" in got.stderr, got.tail()


@pytest.mark.parametrize("how", ["<FILE", "cat FILE |"])
def test_input_from_a_file_and_a_pipe(how: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("one\ntwo\nthree\n")
    script = "read x; echo $x; tail -n 1"
    command = " ".join([*support.trapline_command(["sh", "-c", f"'{script}'"])])
    words = f"{command} <{tmp_path}/in" if how.startswith("<") else f"cat {tmp_path}/in | {command}"
    got = support.native(["bash", "-c", words], env=support.host_environment(), cwd="/usr")
    assert got.text == "one\nthree\n", got.tail()


def test_files_are_appended_and_shared_as_natively(tmp_path: Path) -> None:
    """stdout and stderr on one file, opened once: what both write comes in order, after what the shell wrote."""
    out = tmp_path / "out"
    command = " ".join(support.trapline_command(["sh", "-c", "'echo a; echo b >&2; echo c'"]))
    got = support.native(["bash", "-c", f"{{ echo before; {command}; echo after; }} >{out} 2>&1"], env=support.host_environment(), cwd="/usr")
    assert got.status == 0 and out.read_text() == "before\na\nb\nc\nafter\n", got.tail() + out.read_text()


def test_background_process_does_not_keep_the_run_alive() -> None:
    got = run("--", "sh", "-c", "sleep 1000 & echo bye")  # what outlives the time limit of a test fails it
    assert got.status == 0 and got.text == "bye\n", got.tail()


def test_a_32_bit_program_is_not_taken_for_a_script(tmp_path: Path) -> None:
    head = b"\x7fELF\1\1\1" + bytes(9) + b"\2\0\3\0\1\0\0\0" + bytes(100)
    (tmp_path / "old").write_bytes(head)
    (tmp_path / "old").chmod(0o755)
    tmp_path.chmod(0o755)
    got = run("--bind", f"{tmp_path}:/data", "--", "/data/old")
    assert got.status == 126 and b"/data/old: a program for i386 (32 bits), and this machine is x86_64" in got.stderr, got.tail()


def test_a_current_directory_that_is_gone_starts_in_the_root(tmp_path: Path) -> None:
    words = shlex.join(support.trapline_command(["pwd"]))
    got = support.native(["sh", "-c", f"cd {tmp_path} && rmdir {tmp_path} && {words}"], env=support.host_environment())
    assert got.status == 0 and got.text == "/\n" and got.stderr == b"", got.tail()


@pytest.mark.skipif(os.getuid() != 0, reason="needs a directory that is another user's")
def test_a_current_directory_that_may_not_be_read_starts_in_the_root(tmp_path: Path) -> None:
    here = tmp_path / "closed" / "here"
    here.mkdir(parents=True)
    here.parent.chmod(0o700)  # so it cannot be reached, whatever may be said of the directories above
    words = support.trapline_command(["pwd"], ["--log"], uid=support.NOBODY)
    done = subprocess.run(words, env=support.host_environment(), cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "/\n"), done.stderr
    assert f"the current directory {here} is not shown to the program (you may not read it)" in done.stderr


# ---- the doctor


def test_doctor_can_be_read_by_people_and_programs() -> None:
    words = [support.python_for(os.getuid()), "-m", "trapline", "doctor"]
    text = support.native(words, env=support.host_environment())
    assert text.status == 0 and "Programs will run on the host machine" in text.text, text.tail()
    assert max(map(len, text.text.splitlines())) <= 80 and "\x1b" not in text.text
    found = json.loads(support.native([*words, "--json"], env=support.host_environment()).text)
    assert found["machine"] == "host" and all(each["ok"] for each in found["checks"] if each["required"])
    assert {"seccomp", "memfd", "fsgsbase"} <= {each["name"] for each in found["checks"]}
