"""The compiler's process: LLVM is large and slow to load, and is not needed for long; whatever it does, this process goes on.

In a nutshell: `ask` writes a request into a pipe and waits for the reply, while Python's lock is free. The process is started
by the first request, and goes when it is not needed: its memory with it. It shares no memory with this process, is in a
session of its own, so that no key of a terminal reaches it, and ends when its pipe does.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the part of signal that needs no enum
import os
import sys
import threading
from contextlib import suppress
from importlib.machinery import PathFinder

from trapline.machine.riscv.jit.llvm import ASSEMBLE, ASSEMBLY, OBJECT, REGION, REPLY, REQUEST, read, write

__all__ = ["ASSEMBLE", "ASSEMBLY", "OBJECT", "REGION", "CompilerDied", "Worker"]

_PROGRAM = "import sys; sys.path += sys.argv[1:]; from trapline.machine.riscv.jit.llvm import serve; serve()"


class CompilerDied(ChildProcessError):
    """The compiler's process ended, could not be started, or refused its input; the text says which."""


class Worker:
    """One such process, or none. Any thread may ask; one at a time is served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fate = threading.Lock()  # guards `_pid`: nobody is killed who is buried
        self._pid = 0
        self._to = self._from = -1
        self._closed = False

    def ask(self, kind: int, text: bytes) -> bytes:
        """What the compiler makes of `text`. Raises CompilerDied."""
        with self._lock:
            if self._closed:
                raise CompilerDied("the machine is closed")
            if not self._pid:
                self._start()
            try:
                write(self._to, REQUEST.pack(kind, len(text)) + text)
                head = read(self._from, REPLY.size)
                fine, length = REPLY.unpack(head) if len(head) == REPLY.size else (False, -1)
                data = read(self._from, length) if length >= 0 else b""
            except OSError:
                length, data = -1, b""
            if length < 0 or len(data) < length:
                raise CompilerDied(f"the compiler's process ended ({self._end()})")
            if not fine:
                raise CompilerDied(data.decode(errors="replace"))
            return data

    def _start(self) -> None:
        if not sys.executable:
            raise CompilerDied("no Python to run the compiler with: sys.executable is empty")
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        words = [sys.executable, "-I", "-S", "-c", _PROGRAM, *_places()]
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, answers, 1), (os.POSIX_SPAWN_DUP2, nothing, 2)]
        try:
            self._pid = os.posix_spawn(sys.executable, words, _environment(), file_actions=actions, setsid=True)
        except OSError as error:
            self._shut()
            raise CompilerDied(f"{sys.executable}: {error.strerror}") from None
        finally:
            for fd in (theirs, answers, nothing):
                os.close(fd)

    @property
    def running(self) -> bool:
        return self._pid != 0

    def rest(self) -> None:
        """Let the process go: it is started again when it is needed."""
        with self._lock:
            self._end()

    def close(self) -> None:
        """End the process, whatever it is doing. Idempotent."""
        self._closed = True
        self._kill()
        with self._lock:
            self._end()

    def _kill(self) -> int:
        with self._fate:
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)
            return self._pid

    def _end(self) -> str:
        """Bury the process; what became of it, in words."""
        pid = self._kill()
        if not pid:
            return ""
        with self._fate:
            self._pid = 0
        self._shut()
        with suppress(ChildProcessError):
            status = os.waitpid(pid, 0)[1]
            return f"signal {status & 0x7F}" if status & 0x7F else f"status {status >> 8}"
        return "somebody else waited for it"

    def _shut(self) -> None:
        os.close(self._to)
        os.close(self._from)


def _places() -> list[str]:
    """Where the process finds our package and llvmlite."""
    here = os.path.abspath(__file__)
    for _ in __name__.split("."):
        here = os.path.dirname(here)
    spec = PathFinder.find_spec("llvmlite")
    return [here, *([os.path.dirname(os.path.dirname(spec.origin))] if spec is not None and spec.origin else [])]


def _environment() -> dict[str, str]:
    """What a dynamic linker may need, and nothing else."""
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
