"""What every test above the unit layer uses: run a command natively, run it under `trapline run`, compare the two.

Invariants: both runs get the same small environment and the same standard input; every run has a time limit, after which its
whole process group is killed; an assertion that fails carries the command line that repeats it by hand.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534


def _source() -> Path:
    """Where the commands under test find the package: in the checkout, or, when that lies where only root may go (as in /root), in
    a copy that everybody may read."""
    source = ROOT / "src"
    if os.getuid() or all(each.stat().st_mode & 0o005 == 0o005 for each in (source, *source.parents)):
        return source
    place = Path(tempfile.mkdtemp(prefix="trapline-source-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    return Path(shutil.copytree(source, place / "src"))


SRC = _source()
TIMEOUT_S = float(os.environ.get("TRAPLINE_TEST_TIMEOUT", "60"))
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "USER": "tester",
}


class Result(NamedTuple):
    """How a command ended. `status` is a shell's: the exit status, or 128 + the signal's number; -1 after a time-out."""

    status: int
    stdout: bytes
    stderr: bytes
    command: str

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")

    def tail(self, lines: int = 25) -> str:
        """For assertion messages: the command to repeat, and the end of what it printed."""
        both = self.stdout.decode(errors="replace") + self.stderr.decode(errors="replace")
        return f"status {self.status}\n$ {self.command}\n" + "\n".join(both.splitlines()[-lines:])


def build_dir() -> Path:
    """Where compiled test programs are kept between sessions, readable by every user."""
    path = Path(tempfile.gettempdir()) / f"trapline-tests-{os.getuid()}"
    path.mkdir(mode=0o755, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise RuntimeError(f"{path} belongs to someone else: remove it")
    return path


def identity(uid: int) -> list[str]:
    """The words before a native command that run it as another user, without any privilege to come back."""
    if uid == os.getuid():
        return []
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]


def python_for(uid: int) -> str:
    """A Python that the user may execute: this one, or the system's."""
    if uid == os.getuid():
        return sys.executable
    probe = subprocess.run([*identity(uid), sys.executable, "-c", "import trapline"], env=host_environment(), capture_output=True, check=False)
    return sys.executable if probe.returncode == 0 else "/usr/bin/python3"


def _execute(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | Path, stdin: bytes, timeout_s: float, shown: str
) -> Result:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout=timeout_s)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired as late:  # someone who left the group still holds the pipes
            out, err = late.stdout or b"", late.stderr or b""
        err += f"\ntimed out after {timeout_s:.0f} s".encode()
        return Result(-1, out, err, shown)
    return Result(128 - status if status < 0 else status, out, err, shown)


def native(
    argv: Sequence[str],
    *,
    cwd: str | Path = "/",
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    uid: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Result:
    """Run a command on the host's own kernel."""
    words = [*identity(os.getuid() if uid is None else uid), *argv]
    environment = {**ENVIRONMENT, **(env or {})}
    shown = f"cd {shlex.quote(str(cwd))} && {shlex.join(['env', '-i', *_assignments(environment), *words])}"
    return _execute(words, environment, cwd, stdin, timeout_s, shown)


def trapline_command(
    argv: Sequence[str],
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> list[str]:
    """The words of `trapline run` for a program that gets the tests' environment and nothing else."""
    environment = {**ENVIRONMENT, **(env or {})}
    user = os.getuid() if uid is None else uid
    words = [*identity(user), python_for(user), "-m", "trapline", "run", "--clear-env"]
    for each in _assignments(environment):
        words += ["--env", each]
    return [*words, *options, "--", *argv]


def host_environment() -> dict[str, str]:
    """The environment of the `trapline` command itself."""
    return {**ENVIRONMENT, "PYTHONPATH": str(SRC), "PYTHONDONTWRITEBYTECODE": "1"}


def trapline(
    argv: Sequence[str],
    options: Sequence[str] = (),
    *,
    cwd: str | Path = "/",
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    uid: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Result:
    """Run a command under Trapline, as `uid` on the host (and so, by default, in the sandbox)."""
    words = trapline_command(argv, options, env, uid)
    shown = f"cd {shlex.quote(str(cwd))} && PYTHONPATH={SRC} {shlex.join(words)}"
    return _execute(words, host_environment(), cwd, stdin, timeout_s, shown)


def _assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


def users() -> list[int]:
    """Whom to run tests as: ourselves, and, when that is root, also somebody without privilege."""
    return [0, NOBODY] if os.getuid() == 0 and shutil.which("setpriv") else [os.getuid()]


def user_name(uid: int) -> str:
    return "root" if uid == 0 else "nobody" if uid == NOBODY else "user"


def have(*programs: str) -> str | None:
    """None if all programs are installed, else what to say when skipping."""
    missing = [each for each in programs if not shutil.which(each)]
    return f"not installed: {', '.join(missing)}" if missing else None


RISCV_GCC, RISCV_QEMU = "riscv64-linux-gnu-gcc", "qemu-riscv64"


def riscv_tests() -> str:
    """What TRAPLINE_TEST_RISCV asks for: "quick" (the default), "all", or "" for none."""
    wanted = os.environ.get("TRAPLINE_TEST_RISCV", "quick")
    return {"0": "", "1": "quick"}.get(wanted, wanted)


def no_riscv() -> str | None:
    """None if riscv64 programs can be made and run here, else what to say when skipping."""
    return have(RISCV_GCC, RISCV_QEMU) if riscv_tests() else "TRAPLINE_TEST_RISCV is 0"


def compile_c(source: Path, flags: Sequence[str], headers: Sequence[Path] = (), compiler: str = "gcc") -> Path:
    """Compile one C file, or take it from the cache: the name carries a hash of all that goes in."""
    import hashlib

    key = hashlib.sha256(" ".join([compiler, *flags]).encode())
    for each in (source, *headers):
        key.update(each.read_bytes())
    target = build_dir() / f"{source.parent.name}-{source.stem}-{key.hexdigest()[:12]}"
    if not target.exists():
        scratch = target.with_name(f"{target.name}.{os.getpid()}")
        command = [compiler, "-O1", "-std=gnu17", "-o", str(scratch), str(source), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"$ {shlex.join(command)}\n{done.stderr}")
        scratch.chmod(0o755)
        scratch.replace(target)
    return target
