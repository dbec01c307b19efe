"""The Python face: `trapline.run` and its kin against `subprocess`, and `Kernel` for those who look inside."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trapline
from trapline.abi.errno import EACCES, ENOENT, EPERM
from trapline.kernel.config import Identity
from trapline.scope.listener import Listener

pytestmark = pytest.mark.usefixtures("no_process_left")

Faces = Any  #: the module `subprocess` or the module `trapline`


# ---- the same as subprocess


def both(use: Callable[[Faces], Any]) -> Any:
    """What `use` gives with trapline, after subprocess gave the same; of exceptions, the kind and what they carry."""

    def outcome(module: Faces) -> Any:
        try:
            return use(module)
        except subprocess.SubprocessError as error:
            return type(error).__name__, {name: value for name, value in vars(error).items() if name != "timeout"}
        except OSError as error:
            return type(error).__name__, error.errno
        except (ValueError, TypeError, UnicodeError) as error:
            return type(error).__name__

    want = outcome(subprocess)
    assert outcome(trapline) == want
    return want


def pairs(done: Any) -> tuple[Any, ...]:
    return done.args, done.returncode, done.stdout, done.stderr


SAME: dict[str, Callable[[Faces], Any]] = {
    "run": lambda m: pairs(m.run(["true"])),
    "status": lambda m: m.run(["sh", "-c", "exit 7"]).returncode,
    "signal": lambda m: m.run(["sh", "-c", "kill -TERM $$"]).returncode,
    "capture": lambda m: pairs(m.run(["sh", "-c", "echo out; echo err >&2"], capture_output=True)),
    "text": lambda m: m.run(["printf", "a\\r\\nb\\n"], capture_output=True, text=True).stdout,
    "encoding": lambda m: m.run(["printf", "\\351"], stdout=m.PIPE, encoding="latin-1").stdout,
    "errors": lambda m: m.run(["printf", "\\351"], stdout=m.PIPE, encoding="utf-8", errors="replace").stdout,
    "bad text": lambda m: m.run(["printf", "\\351"], stdout=m.PIPE, encoding="utf-8").stdout,
    "universal newlines": lambda m: m.run(["printf", "a\\r\\nb\\n"], stdout=m.PIPE, universal_newlines=True).stdout,
    "input": lambda m: m.run(["tr", "a-z", "A-Z"], input=b"hello", stdout=m.PIPE).stdout,
    "text input": lambda m: m.run(["tr", "a-z", "A-Z"], input="hello", stdout=m.PIPE, text=True).stdout,
    "large input": lambda m: len(m.run(["cat"], input=b"x" * 3_000_000, stdout=m.PIPE).stdout),
    "input that nobody reads": lambda m: m.run(["true"], input=b"x" * 1_000_000).returncode,
    "no input": lambda m: m.run(["cat"], stdin=m.DEVNULL, stdout=m.PIPE).stdout,
    "stderr into stdout": lambda m: m.run(["sh", "-c", "echo a; echo b >&2; echo c"], stdout=m.PIPE, stderr=m.STDOUT).stdout,
    "output thrown away": lambda m: pairs(m.run(["echo", "x"], stdout=m.DEVNULL)),
    "check": lambda m: m.run(["sh", "-c", "echo x; exit 3"], check=True, stdout=m.PIPE),
    "check that is fine": lambda m: m.run(["true"], check=True).returncode,
    "check_call": lambda m: m.check_call(["false"]),
    "call": lambda m: (m.call(["false"]), m.check_call(["true"])),
    "check_output": lambda m: m.check_output(["echo", "hi"]),
    "check_output that fails": lambda m: m.check_output(["sh", "-c", "echo partly; exit 2"]),
    "check_output with input": lambda m: m.check_output(["cat"], input=b"in"),
    "check_output with empty input": lambda m: m.check_output(["cat"], input=None),
    "shell": lambda m: m.run("echo $((6 * 7)) | cat", shell=True, stdout=m.PIPE).stdout,
    "shell with arguments": lambda m: m.run(["echo $0 $1", "a", "b"], shell=True, stdout=m.PIPE).stdout,
    "environment": lambda m: m.run(["/usr/bin/env"], env={"A": "1", "B": "x=y"}, stdout=m.PIPE).stdout,
    "empty environment": lambda m: m.run(["/usr/bin/env"], env={}, stdout=m.PIPE).stdout,
    "directory": lambda m: m.run(["pwd"], cwd="/usr/lib", stdout=m.PIPE).stdout,
    "directory that is a path": lambda m: m.run(["pwd"], cwd=Path("/usr"), stdout=m.PIPE).stdout,
    "directory that is none": lambda m: m.run(["pwd"], cwd="/no/such/directory"),
    "directory that is a file": lambda m: m.run(["pwd"], cwd="/etc/passwd"),
    "program that is none": lambda m: m.run(["/no/such/program"]),
    "name that is none": lambda m: m.run(["nosuchprogram"]),
    "program that is no program": lambda m: m.run(["/etc/passwd"]),
    "directory as a program": lambda m: m.run(["/usr"]),
    "arguments that are bytes and paths": lambda m: m.run([b"echo", Path("/x"), "y"], stdout=m.PIPE).stdout,
    "string": lambda m: m.run("true").returncode,
    "both input and stdin": lambda m: m.run(["cat"], input=b"", stdin=m.PIPE),
    "both capture and stdout": lambda m: m.run(["cat"], capture_output=True, stdout=m.PIPE),
    "stdout to check_output": lambda m: m.check_output(["cat"], stdout=m.PIPE),
    "time-out of run": lambda m: m.run(["sleep", "100"], timeout=1.5),
    "time-out of call": lambda m: m.call(["sleep", "100"], timeout=1.5),
    "time-out with output": lambda m: m.run(["sh", "-c", "echo before; exec sleep 100"], timeout=2.5, stdout=m.PIPE),
    "time-out of check_output": lambda m: m.check_output(["sleep", "100"], timeout=1.5),
    "time enough": lambda m: m.run(["sleep", "0.1"], timeout=60).returncode,
    "null byte": lambda m: m.run(["echo", "a\0b"]),
    "argument that is a number": lambda m: m.run(["echo", 5]),
}  # fmt: skip


@pytest.mark.parametrize("use", SAME.values(), ids=SAME.keys())
def test_same_as_subprocess(use: Callable[[Faces], Any], capfd: pytest.CaptureFixture[str]) -> None:
    both(use)


def conversation(m: Faces) -> Any:
    with m.Popen(["cat"], stdin=m.PIPE, stdout=m.PIPE, text=True, bufsize=1) as p:
        assert p.poll() is None and p.pid > 0 and p.args == ["cat"]
        said = []
        for word in ("one", "two"):
            p.stdin.write(word + "\n")
            said.append(p.stdout.readline())
        p.stdin.close()
        return said, p.wait(), p.poll(), p.returncode


def terminated(m: Faces) -> Any:
    found = []
    for end in ("terminate", "kill"):
        p = m.Popen(["sleep", "100"])
        getattr(p, end)()
        found += [p.wait(), getattr(p, end)()]
    p = m.Popen(["sh", "-c", "trap 'echo got; exit 4' USR1; echo up; while :; do sleep 0.02; done"], stdout=m.PIPE)
    found.append(p.stdout.readline())
    p.send_signal(10)
    found += [p.communicate()[0], p.returncode]
    return found


def waited_in_pieces(m: Faces) -> Any:
    with m.Popen(["sh", "-c", "sleep 2; echo done"], stdout=m.PIPE) as p:
        try:
            p.wait(timeout=0.05)
        except m.TimeoutExpired as error:
            assert error.timeout == 0.05
        try:
            p.communicate(timeout=0.05)
        except m.TimeoutExpired:
            return p.communicate()


def chain(m: Faces) -> Any:
    first = m.Popen(["seq", "1", "1000"], stdout=m.PIPE)
    second = m.Popen(["tail", "-n", "1"], stdin=first.stdout, stdout=m.PIPE)
    first.stdout.close()
    return second.communicate()[0], first.wait(), second.returncode


def files(m: Faces) -> Any:
    with open("/etc/passwd", "rb") as source, open(os.devnull, "wb") as sink:
        assert m.run(["cat"], stdin=source, stdout=sink).returncode == 0
    with open("/etc/hostname", "rb") as source:
        return m.run(["wc", "-c"], stdin=source.fileno(), stdout=m.PIPE).stdout


def threads(m: Faces) -> Any:
    results: list[Any] = [None] * 3
    def work(n: int) -> None:
        results[n] = m.check_output(["echo", str(n)])
    workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    return results


@pytest.mark.parametrize("use", [conversation, terminated, waited_in_pieces, chain, files, threads])
def test_processes_like_those_of_subprocess(use: Callable[[Faces], Any]) -> None:
    both(use)


# ---- what only Trapline has


def test_options_of_a_guest(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("shown")
    for each in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        each.chmod(0o755)
    done = trapline.run(
        "hostname; nproc; id -u; cat /shown/in", shell=True,
        hostname="box", cpus=1, guest_user=7, memory="128M", pids=50, seed=1, aslr=False, binds=[f"{tmp_path}:/shown"],
        stdout=trapline.PIPE, text=True,
    )  # fmt: skip
    assert done.stdout == "box\n1\n7\nshown"


def test_seed_repeats_a_run() -> None:
    command = ["sh", "-c", "od -An -tx1 -N16 /dev/urandom"]
    first, second = (trapline.check_output(command, seed=42) for _ in range(2))
    assert first == second != trapline.check_output(command, seed=43)


def test_trace_and_saved_overlay(tmp_path: Path) -> None:
    trace, saved = tmp_path / "trace", tmp_path / "saved"
    trapline.run(["sh", "-c", "echo kept >/tmp/kept"], trace=str(trace), save_overlay=str(saved), check=True)
    assert 'openat(AT_FDCWD, "/tmp/kept", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3' in trace.read_text()
    assert (saved / "tmp/kept").read_text() == "kept\n"


@pytest.mark.parametrize("name", ["preexec_fn", "user", "group", "extra_groups", "process_group"])
def test_what_has_no_meaning_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        trapline.run(["true"], **{name: (lambda: None) if name == "preexec_fn" else 1})
    with pytest.raises(ValueError, match="pass_fds"):
        trapline.run(["true"], pass_fds=(5,))


def test_no_program_is_refused() -> None:
    with pytest.raises(ValueError, match="no program"):
        trapline.run([])


def test_failure_of_our_own_is_an_error_not_a_status(tmp_path: Path) -> None:
    for options in ({"root": "/no/such/root"}, {"machine": "pdp11"}, {"memory": "1"}, {"save_overlay": "/no/such/x"}):
        with pytest.raises(trapline.SubprocessError, match="trapline: "):
            trapline.run(["true"], **options)


def test_secrets_of_the_caller_do_not_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    assert b"hunter2" not in trapline.check_output(["env"])


# ---- a kernel in this process


@pytest.fixture
def output(tmp_path: Path) -> Any:
    """A file that stands for a kernel's stdout, and a function that reads what is in it."""
    with open(tmp_path / "output", "w+b") as file:
        def read() -> str:
            file.seek(0)
            return file.read().decode()

        yield file.fileno(), read


def test_kernel_runs_programs_one_after_the_other(output: Any) -> None:
    fd, read = output
    with trapline.Kernel(stdio=(-1, fd, fd), hostname="embedded") as kernel:
        assert kernel.run(["sh", "-c", "hostname; echo kept >/tmp/kept; exit 3"]) == 3
        assert kernel.run(["cat", "/tmp/kept"]) == 0
        assert kernel.run(["sh", "-c", "kill -9 $$"]) == -9
        assert kernel.read_file("/tmp/kept") == b"kept\n"
        with pytest.raises(ENOENT):
            kernel.run(["nosuchprogram"])
        with pytest.raises(EACCES):
            kernel.run(["/etc/passwd"])
        with pytest.raises(ENOENT):
            kernel.read_file("/no/such")
        with pytest.raises(ValueError):
            kernel.run([])
        assert kernel.run(["pwd"], cwd="/usr", env={b"PATH": b"/bin"}) == 0
    assert read() == "embedded\nkept\n/usr\n"


def test_files_put_into_a_guest(output: Any) -> None:
    fd, read = output
    with trapline.Kernel(stdio=(-1, fd, fd)) as kernel:
        kernel.add_file("/opt/deep/script", "#!/bin/sh\necho from $0\n", 0o755)
        kernel.add_file(b"/opt/data", b"\0\1\2")
        assert kernel.run(["/opt/deep/script"]) == 0
        assert kernel.run(["wc", "-c", "/opt/data"]) == 0
        with pytest.raises(ValueError, match="absolute"):
            kernel.add_file("relative", "")
    assert read() == "from /opt/deep/script\n3 /opt/data\n"


def test_system_calls_replaced_and_called_through(output: Any) -> None:
    fd, read = output
    with trapline.Kernel(stdio=(-1, fd, fd)) as kernel:
        uname = kernel.original("uname")
        seen = []

        def mine(task: Any, buf: int) -> int:
            result = uname(task, buf)
            seen.append(task.comm)
            task.mm.write(buf + 65, b"elsewhere\0")
            return int(result)

        def refuse(task: Any, *args: int) -> int:
            raise EPERM

        kernel.replace("uname", mine)
        kernel.replace("mkdir", refuse)
        kernel.replace("getppid", lambda task: 4242)
        assert kernel.run(["sh", "-c", "uname -n; echo $PPID; mkdir /tmp/x 2>&1; echo $?"]) == 0
    assert seen == [b"uname"]
    assert read().startswith("elsewhere\n4242\nmkdir: ") and read().endswith(": Operation not permitted\n1\n")


class Notes(Listener):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events: list[tuple[Any, ...]] = []

    def enter(self, task: Any, call: Any, args: Any) -> None:
        self.calls.append(call.name)

    def exit(self, task: Any, call: Any, args: Any, result: int) -> None:
        if call.name == "openat":
            self.events.append(("opened", result >= 0))

    def signal(self, task: Any, info: Any) -> None:
        self.events.append(("signal", info.signo))

    def started(self, task: Any) -> None:
        self.events.append(("started",))

    def exited(self, task: Any, status: int) -> None:
        self.events.append(("exited", status))

    def fault(self, task: Any, address: int, access: int, served: bool) -> None:
        self.events.append(("fault", served))


def test_listeners_hear_everything_until_they_leave() -> None:
    with trapline.Kernel(stdio=(-1, -1, -1)) as kernel:
        notes = Notes()
        kernel.subscribe(notes)
        assert kernel.run(["sh", "-c", "true & wait; cat /etc/passwd; kill -TERM $$"]) == -15
        assert {"clone", "wait4", "openat", "read", "write", "kill", "exit_group"} <= set(notes.calls)
        assert notes.events.count(("started",)) >= 2 and ("signal", 15) in notes.events and ("signal", 17) in notes.events
        assert ("exited", 15) in notes.events and ("exited", 0) in notes.events and ("fault", True) in notes.events
        kernel.unsubscribe(notes)
        heard = len(notes.calls)
        kernel.run(["true"])
        assert len(notes.calls) == heard


def test_memory_of_a_program_read_and_changed(output: Any) -> None:
    fd, read = output
    program = "import os, ctypes; b = ctypes.create_string_buffer(b'before the call'); os.getpriority(0, ctypes.addressof(b) & 0x7FFFFFFF); print(ctypes.addressof(b) >> 31); os.setpriority(0, 0, 0); print(b.value.decode())"
    with trapline.Kernel(stdio=(-1, fd, fd)) as kernel:
        found: dict[str, Any] = {}
        low: list[int] = []

        def peek(task: Any, which: int, who: int) -> int:
            low.append(who & 0x7FFFFFFF)
            return 20

        def poke(task: Any, which: int, who: int, nice: int) -> int:
            pid = task.group.pid
            start = next(run.start for run in kernel.page_table(pid))
            found["runs"] = len(kernel.page_table(pid))
            found["walk"] = [step.level for step in kernel.walk(pid, start)]
            for run in kernel.page_table(pid):
                at = run.start & ~0x7FFFFFFF | low[0]
                for guess in (at, at + 0x80000000):
                    if run.start <= guess < run.end and kernel.read_memory(pid, guess, 15) == b"before the call":
                        kernel.write_memory(pid, guess, b"after")
                        found["at"] = guess
            return 0

        kernel.replace("getpriority", peek)
        kernel.replace("setpriority", poke)
        assert kernel.run(["/usr/bin/python3", "-S", "-c", program]) == 0
        with pytest.raises(KeyError):
            kernel.read_memory(999, 0, 1)
    assert "at" in found and found["runs"] > 5 and found["walk"] == [3, 2, 1, 0]
    assert read().splitlines()[1] == "aftere the call"


def test_pipes_are_stdio() -> None:
    r, w = os.pipe()
    out_r, out_w = os.pipe()
    os.write(w, b"through the guest\n")
    os.close(w)
    with trapline.Kernel(stdio=(r, out_w, -1)) as kernel:
        assert kernel.run(["tr", "a-z", "A-Z"]) == 0
    os.close(r)
    os.close(out_w)
    with open(out_r, "rb") as file:
        assert file.read() == b"THROUGH THE GUEST\n"


def test_time_out_kills_everything(output: Any) -> None:
    with trapline.Kernel(stdio=(-1, output[0], -1)) as kernel:
        assert kernel.run(["sh", "-c", "sleep 1000 & sleep 1000"], timeout=0.3) == -9
        assert kernel.timed_out
        assert kernel.run(["echo", "alive"], timeout=60) == 0
        assert not kernel.timed_out
    assert output[1]() == "alive\n"


def test_words_and_environment_are_text_or_bytes(output: Any) -> None:
    with trapline.Kernel(stdio=(-1, output[0], -1)) as kernel:
        assert kernel.run([b"sh", "-c", "echo $A $B"], env={"A": "one", "PATH": "/bin"}) == 0
        assert kernel.run(b"printenv A".split(), env={b"A": b"two", b"PATH": b"/bin"}) == 0
        assert kernel.run("true") == 0
    assert output[1]() == "one\ntwo\n"


def test_use_after_close_and_of_no_process_is_told(output: Any) -> None:
    with trapline.Kernel() as kernel, pytest.raises(KeyError, match="no process has the number 999"):
        kernel.read_memory(999, 0, 1)
    with pytest.raises(ValueError, match="the kernel is closed"):
        kernel.run(["true"])


def test_kernel_in_a_thread_and_identity(output: Any) -> None:
    def work() -> None:
        with trapline.Kernel(stdio=(-1, output[0], -1), identity=Identity(12, 34, (34, 56), b"u", b"/")) as kernel:
            kernel.run(["sh", "-c", "id -u; id -G"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert output[1]() == "12\n34 56\n"


def test_close_leaves_nothing() -> None:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    kernel = trapline.Kernel(stdio=(-1, -1, -1))
    kernel.run(["sh", "-c", "sleep 1000 & exec true"])
    kernel.close()
    kernel.close()
    del kernel
    gc.collect()  # what threads of the guest shared with us goes with them
    assert set(os.listdir("/proc/self/fd")) == before


def test_kernel_log_is_heard() -> None:
    lines: list[str] = []
    with trapline.Kernel(stdio=(-1, -1, -1), log=lines.append) as kernel:
        kernel.run(["true"])
        kernel.system.log("a line")
    assert "a line" in lines[-1]
