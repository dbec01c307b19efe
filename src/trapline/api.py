"""The Python face: run programs under Trapline as `subprocess` runs them natively.

    import trapline
    done = trapline.run(["ls", "-l", "/"], capture_output=True, text=True)

`Popen` is `subprocess.Popen`: it starts a Python of its own that is the kernel (`trapline run`), so pipes, time-outs, threads
and `kill` mean exactly what they mean there, and any number of kernels run side by side. To reach into a kernel, use
`Kernel`, which lives in your process.

What is different: the program is looked up, and `cwd` and `env` are meant, inside the guest; `env` replaces the guest's whole
environment, and without it only harmless variables of yours are passed on. `shell=True` runs the guest's /bin/sh.
`preexec_fn`, `user`, `group`, `extra_groups`, `umask`, `process_group` and `pass_fds` are refused: use `identity`, or `Kernel`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
)
from typing import Any

from trapline.embed import Kernel

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Kernel",
    "Popen",
    "SubprocessError",
    "TimeoutExpired",
    "call",
    "check_call",
    "check_output",
    "run",
]

_REFUSED = ("preexec_fn", "user", "group", "extra_groups", "process_group", "executable", "startupinfo", "creationflags")


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen` for a program under Trapline.

    More arguments: `root`, `binds`, `rw`, `memory`, `swap`, `cpus`, `pids`, `hostname`, `guest_user`, `seed`, `aslr`,
    `trace`, `log`, `save_overlay`, `machine`, as the options of `trapline run` have them. The constructor returns when the
    program runs. It raises what subprocess raises (FileNotFoundError, PermissionError, ...) if the guest does not have the
    program or `cwd`, SubprocessError if there is no kernel.
    """

    def __init__(
        self,
        args: str | bytes | os.PathLike[Any] | Sequence[Any],
        *,
        shell: bool = False,
        cwd: str | bytes | os.PathLike[Any] | None = None,
        env: Mapping[Any, Any] | None = None,
        root: str | os.PathLike[str] | None = None,
        binds: Iterable[str] = (),
        rw: Iterable[str | os.PathLike[str]] = (),
        memory: int | str | None = None,
        swap: int | str | None = None,
        cpus: int | None = None,
        pids: int | None = None,
        hostname: str | None = None,
        guest_user: str | int | None = None,
        seed: int | None = None,
        aslr: bool = True,
        trace: str | None = None,
        log: str | None = None,
        save_overlay: str | None = None,
        machine: str | None = None,
        **kwargs: Any,
    ) -> None:
        for name in _REFUSED:
            if kwargs.get(name):
                raise ValueError(f"{name} has no meaning under Trapline")
        if kwargs.get("pass_fds"):
            raise ValueError("pass_fds: only stdin, stdout and stderr reach the guest")
        program = _program(args, shell)
        options = _options(
            root=root, memory=memory, swap=swap, cpus=cpus, pids=pids, hostname=hostname, user=guest_user, seed=seed,
            trace=trace, log=log, save_overlay=save_overlay, machine=machine, workdir=cwd,
        )  # fmt: skip
        options += [] if aslr else ["--no-aslr"]
        for each in binds:
            options += ["--bind", each]
        for path in rw:
            options += ["--rw", os.fspath(path)]
        options += _environment(env)
        self.guest_args = args
        self._start(program, options, kwargs)

    def _start(self, program: list[Any], options: list[Any], kwargs: dict[str, Any]) -> None:
        """Start the kernel, and wait until the program runs in it."""
        ours, theirs = os.pipe()
        try:
            command = [sys.executable, "-P", "-m", "trapline", "run", "--report-fd", str(theirs), *options, "--", *program]
            try:
                super().__init__(command, pass_fds=(theirs,), env=_host_environment(), **kwargs)
            finally:
                os.close(theirs)
            self.args = self.guest_args
            report = _read_all(ours)
        finally:
            os.close(ours)
        if report:
            self._fail(report)

    def _fail(self, report: bytes) -> None:
        self.kill()
        self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        _, errno, why = os.fsdecode(report).split(" ", 2)
        if errno != "0":
            raise OSError(int(errno), why)  # FileNotFoundError, PermissionError, ...
        raise SubprocessError(f"trapline: {why}")


def _read_all(fd: int) -> bytes:
    data = b""
    while chunk := os.read(fd, 4096):
        data += chunk
    return data


def _program(args: Any, shell: bool) -> list[Any]:
    if isinstance(args, str | bytes | os.PathLike):
        words: list[Any] = [os.fspath(args)]
    else:
        words = [os.fspath(each) for each in args]
    if not words:
        raise ValueError("no program: args is empty")
    return ["/bin/sh", "-c", *words] if shell else words


def _options(**given: Any) -> list[Any]:
    options: list[Any] = []
    for name, value in given.items():
        if value is None:
            continue
        option = "--" + name.replace("_", "-")
        if name in ("trace", "log"):  # an optional value must be tied to its option
            options.append(f"{option}={value}" if value else option)
        else:
            options += [option, str(value) if isinstance(value, int) else os.fspath(value)]
    return options


def _environment(env: Mapping[Any, Any] | None) -> list[Any]:
    if env is None:
        return []
    words: list[Any] = ["--clear-env"]
    for name, value in env.items():
        words += ["--env", os.fsencode(name) + b"=" + os.fsencode(value)]
    return words


def _host_environment() -> dict[str, str]:
    """The kernel's own Python must find this very package, wherever it was imported from."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{path}" if path else here}


def run(
    args: Any,
    *,
    input: str | bytes | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: Any,
) -> CompletedProcess[Any]:
    """`subprocess.run` under Trapline; `kwargs` are those of `Popen`."""
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input may not both be used")
        kwargs["stdin"] = PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr may not be used with capture_output")
        kwargs["stdout"] = kwargs["stderr"] = PIPE
    with Popen(args, **kwargs) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except TimeoutExpired:
            process.kill()
            process.wait()
            raise
        except BaseException:
            process.kill()
            raise
        code = process.poll()
    assert code is not None
    done: CompletedProcess[Any] = CompletedProcess(args, code, stdout, stderr)
    if check:
        done.check_returncode()
    return done


def call(args: Any, *, timeout: float | None = None, **kwargs: Any) -> int:
    """`subprocess.call` under Trapline."""
    with Popen(args, **kwargs) as process:
        try:
            return process.wait(timeout=timeout)
        except BaseException:
            process.kill()
            raise


def check_call(args: Any, **kwargs: Any) -> int:
    """`subprocess.check_call` under Trapline."""
    code = call(args, **kwargs)
    if code:
        raise CalledProcessError(code, args)
    return 0


def check_output(args: Any, *, timeout: float | None = None, **kwargs: Any) -> Any:
    """`subprocess.check_output` under Trapline."""
    if kwargs.get("stdout") is not None:
        raise ValueError("stdout may not be used with check_output")
    return run(args, stdout=PIPE, timeout=timeout, check=True, **kwargs).stdout
