"""Sandbox: run a program in a kernel of your own process, again and again, and keep all that there is to know of each run.

    sandbox = Sandbox(memory=64 << 20, files={"/tmp/in": b"3 1 2"})
    done = sandbox.run(["sort", "-n", "/tmp/in"])
    assert done.returncode == 0
    done.trace.assert_not_called("%network")

Each run has a kernel of its own: nothing of one is left for the next. A run costs some 10 ms, so that a test can make
hundreds. By default a run is as repeatable as it can be: one CPU, no ASLR, a fixed seed. The program reads its input from a
file, and writes into pipes, which nobody reads any more after STREAM_LIMIT bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import Errno
from trapline.embed import Environment, Kernel
from trapline.scope.changes import Changed, changed, since
from trapline.scope.collected import Trace
from trapline.scope.events import Recorder
from trapline.scope.strace.style import PLAIN

if TYPE_CHECKING:
    from trapline.scope.listener import Listener
    from trapline.scope.tamper.tamper import Interposer

STREAM_LIMIT = 64 << 20
REPEATABLE: dict[str, Any] = {"cpus": 1, "aslr": False, "seed": 0}
_STYLE = PLAIN._replace(paths=True)


class Done(NamedTuple):
    """How a run ended. `returncode` is minus the signal's number if one killed the program."""

    args: list[str]
    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    trace: Trace  #: every call, signal and end, of all its tasks
    changes: dict[bytes, Changed]  #: the files that it made, changed and removed
    files: dict[str, bytes | None]  #: the content of those that `collect` named; None: there is no such file
    log: list[str]  #: what the kernel had to say

    @property
    def text(self) -> str:
        """Its output, as text."""
        return self.stdout.decode(errors="replace")


class Sandbox:
    """The arguments are those of `trapline.Kernel`, besides `files` to put into each kernel: path -> content."""

    def __init__(self, *, files: Mapping[str, str | bytes] | None = None, **settings: Any) -> None:
        self.files = dict(files or {})
        self.settings = REPEATABLE | settings
        for refused in ("stdio", "log", "forward_signals"):
            if refused in settings:
                raise ValueError(f"{refused}: the sandbox takes care of it")

    def run(
        self,
        args: str | Sequence[str | bytes],
        *,
        input: str | bytes = b"",
        env: Environment | None = None,
        cwd: str | bytes = b"",
        timeout: float | None = 30.0,
        collect: Iterable[str] = (),
        interpose: Sequence[Interposer] = (),
        subscribe: Iterable[Listener] = (),
    ) -> Done:
        """Run a program to its end, or for `timeout` seconds. An interposer with a `mark`, as Injector has it, marks its calls.

        Raises what `Kernel.spawn` and the machine raise.
        """
        mark = next((each.mark for each in interpose if hasattr(each, "mark")), None)
        log: list[str] = []
        trace = Trace()
        words = [args] if isinstance(args, str) else [os.fsdecode(each) for each in args]
        stdin = _input(input.encode() if isinstance(input, str) else input)
        stdout, stderr = _Reader(), _Reader()
        try:
            stdio = stdin, stdout.fd, stderr.fd
            with Kernel(stdio=stdio, log=log.append, forward_signals=False, **self.settings) as kernel:
                for path, data in self.files.items():
                    kernel.add_file(path, data)
                before = changed(kernel.system)
                for interposer in interpose:
                    kernel.interpose(interposer)
                for listener in (Recorder(trace, style=_STYLE, mark=mark), *subscribe):
                    kernel.subscribe(listener)
                code = kernel.run(args, env=env, cwd=cwd, timeout=timeout)
                late = kernel.timed_out
                changes = since(kernel.system, before)
                files = {path: _read(kernel, path) for path in collect}
        finally:
            os.close(stdin)
            output, errors = stdout.end(), stderr.end()
        return Done(words, code, output, errors, late, trace, changes, files, log)


def _read(kernel: Kernel, path: str) -> bytes | None:
    try:
        return kernel.read_file(path)
    except Errno:
        return None


class _Reader:
    """Takes what the guest writes into a pipe, on a thread of its own: `fd` is the end to write to."""

    def __init__(self) -> None:
        self._ours, self.fd = os.pipe()
        self._data = bytearray()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while len(self._data) < STREAM_LIMIT and (chunk := os.read(self._ours, 1 << 16)):
            self._data += chunk
        os.close(self._ours)  # whoever goes on writing gets SIGPIPE

    def end(self) -> bytes:
        """All that was written; the guest is gone."""
        os.close(self.fd)
        self._thread.join()
        return bytes(self._data)


def _input(data: bytes) -> int:
    """A file to read `data` from."""
    fd = os.memfd_create("input", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
