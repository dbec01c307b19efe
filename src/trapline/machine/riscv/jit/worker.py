"""The compiler's process: LLVM is large and slow to load, and is not needed for long; whatever it does, this process goes on.

In a nutshell: `ask` writes a request into a pipe and waits for the reply, while Python's lock is free. The process is started
by the first request, and goes when it has had none for a while (llvm.IDLE_S): its memory with it. It shares no memory with
this process, is in a session of its own, so that no key of a terminal reaches it, and ends when its pipe does.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the part of signal that needs no enum
import os
import sys
import threading
import weakref
from contextlib import suppress
from importlib.machinery import PathFinder

from trapline.machine.riscv.jit.llvm import ASSEMBLE, ASSEMBLY, OBJECT, REGION, REPLY, REQUEST, read, write

__all__ = ["ASSEMBLE", "ASSEMBLY", "OBJECT", "REGION", "CompilerDied", "Worker"]

_PROGRAM = "import sys; sys.path += sys.argv[1:]; from trapline.machine.riscv.jit.llvm import serve; serve()"


class CompilerDied(ChildProcessError):
    """The compiler's process ended, could not be started, or refused its input; the text says which."""


class _Process:
    """One such process: `pid`, and the ends of its pipes. Raises CompilerDied if it cannot be started.

    It ends with this object, at the latest.
    """

    def __init__(self) -> None:
        if not sys.executable:
            raise CompilerDied("no Python to run the compiler with: sys.executable is empty")
        theirs, self.requests = os.pipe()
        self.replies, answers = os.pipe()
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        words = [sys.executable, "-I", "-S", "-c", _PROGRAM, *_places()]
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, answers, 1), (os.POSIX_SPAWN_DUP2, nothing, 2)]
        try:
            self.pid = os.posix_spawn(sys.executable, words, _environment(), file_actions=actions, setsid=True)
            self._handle = _handle_of(self.pid)
        except OSError as error:
            os.close(self.requests)
            os.close(self.replies)
            raise CompilerDied(f"{sys.executable}: {error.strerror}") from None
        finally:
            for fd in (theirs, answers, nothing):
                os.close(fd)
        self._fate = threading.Lock()  # nobody is killed who is buried
        descriptors = self.requests, self.replies, self._handle
        self.end = weakref.finalize(self, _bury, self.pid, descriptors, self._fate)  #: what became of it

    def kill(self) -> None:
        """Let it end now, whatever it does; somebody else is going to call `end`."""
        with self._fate:
            if self.end.alive:
                _kill(self._handle)


def _bury(pid: int, descriptors: tuple[int, ...], fate: threading.Lock) -> tuple[bool, str]:
    """Kill and wait for a process: whether it may have gone by itself, and how it ended, in words."""
    with fate:
        _kill(descriptors[-1])
        for fd in descriptors:
            os.close(fd)
        with suppress(ChildProcessError):
            status = os.waitpid(pid, 0)[1]
            return not status, f"signal {status & 0x7F}" if status & 0x7F else f"status {status >> 8}"
    return True, "somebody else waited for it"


def _handle_of(pid: int) -> int:
    """A descriptor that stands for a new process of ours. Raises OSError, and the process is gone."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _kill(handle: int) -> None:
    """By its handle: its number may be another's by now, if somebody else has waited for it."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)


class Worker:
    """One such process, or none. Any thread may ask; one at a time is served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._closed = False

    def ask(self, kind: int, text: bytes) -> bytes:
        """What the compiler makes of `text`. Raises CompilerDied."""
        with self._lock:
            fresh = self._process is None
            while not self._closed:
                if self._process is None:
                    self._process = _Process()
                answer = self._exchange(self._process, kind, text)
                if answer is not None:
                    fine, data = answer
                    if fine:
                        return data
                    raise CompilerDied(data.decode(errors="replace"))
                process, self._process = self._process, None
                idle, why = process.end() or (False, "closed")
                if not idle or fresh:
                    raise CompilerDied(f"the compiler's process ended ({why})")
                fresh = True
            raise CompilerDied("the machine is closed")

    def _exchange(self, process: _Process, kind: int, text: bytes) -> tuple[bool, bytes] | None:
        """The answer of a process: whether it could, and what; None if it has ended."""
        try:
            write(process.requests, REQUEST.pack(kind, len(text)) + text)
            head = read(process.replies, REPLY.size)
            if len(head) < REPLY.size:
                return None
            fine, length = REPLY.unpack(head)
            data = read(process.replies, length)
        except OSError:
            return None
        return (fine, data) if len(data) == length else None

    @property
    def running(self) -> bool:
        """There is a process, unless it has gone meanwhile."""
        return self._process is not None

    def close(self) -> None:
        """End the process, whatever it is doing. Idempotent."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                process.end()


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
