"""The terminal of `trapline boot`: raw while the machine runs, given back however it ends, with keys that stay with us.

Every key goes to the guest, Ctrl-C too, but for Ctrl-A: X ends the machine, R resets it, S says what it has done,
W writes the checkpoint that --save asks for, H lists these, and Ctrl-A itself sends one Ctrl-A. A stop and a continuation from
outside (SIGTSTP, SIGCONT), SIGTERM and SIGHUP leave the terminal as it was found.
"""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Callable
from trapline.typed import Any
from types import FrameType

ESCAPE = 1
QUIT, RESET, STATUS, LIST, SAVE = "quit", "reset", "status", "help", "save"
_COMMANDS = {ord("w"): SAVE, ord("x"): QUIT, ord("r"): RESET, ord("s"): STATUS, ord("h"): LIST, ord("?"): LIST}
HELP_TEXT = (
    "Ctrl-A X ends the machine, R resets it, S says what it has done,\n"
    "W keeps a checkpoint, H lists this, Ctrl-A sends one Ctrl-A"
)


class Keys:
    """Splits what is typed into what the guest gets and what is meant for us."""

    def __init__(self) -> None:
        self._escaped = False

    def split(self, data: bytes) -> tuple[bytes, list[str]]:
        """(bytes for the guest, commands)."""
        out, commands = bytearray(), []
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == ESCAPE:
                    out.append(byte)
                elif (command := _COMMANDS.get(byte | 0x20, _COMMANDS.get(byte))) is not None:
                    commands.append(command)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                out.append(byte)
        return bytes(out), commands


class Window:
    """Tells when the terminal at `fd` has another size: a wire, as a session sees one. `resize(columns, rows)` is called."""

    full = False

    def __init__(self, resize: Callable[[int, int], object], fd: int = 0) -> None:
        self._resize, self._fd = resize, fd
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._before = signal.signal(signal.SIGWINCH, self._ring)

    def _ring(self, signo: int, frame: FrameType | None) -> None:
        os.eventfd_write(self._bell, 1)

    def fileno(self) -> int:
        return self._bell

    def ready(self) -> None:
        os.eventfd_read(self._bell)
        self._resize(*window(self._fd))

    def due(self) -> float | None:
        return None

    def flush(self) -> bool:
        return False

    def close(self) -> None:
        signal.signal(signal.SIGWINCH, self._before)
        os.close(self._bell)


def window(fd: int = 0) -> tuple[int, int]:
    """Columns and rows of a terminal; zeros if there is none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return size.columns, size.lines


class Ended(Exception):
    """A signal asks us to end."""

    def __init__(self, signo: int) -> None:
        super().__init__(signo)
        self.signo = signo


class Raw:
    """A context: the terminal at `fd` is raw within it. Raises Ended, within it, for SIGTERM and SIGHUP."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._found: list[Any] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> None:
        self._found = termios.tcgetattr(self._fd)
        for signo, handler in (
            (signal.SIGTERM, self._end), (signal.SIGHUP, self._end), (signal.SIGTSTP, self._stop),
            (signal.SIGCONT, self._continue),
        ):  # fmt: skip
            self._handlers[signo] = signal.signal(signo, handler)
        self._raw()

    def __exit__(self, *exc: object) -> None:
        for signo, handler in self._handlers.items():
            signal.signal(signo, handler)
        self._restore()

    def _raw(self) -> None:
        tty.setraw(self._fd, termios.TCSANOW)
        attributes = termios.tcgetattr(self._fd)
        attributes[1] |= termios.OPOST | termios.ONLCR
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def _restore(self) -> None:
        termios.tcsetattr(self._fd, termios.TCSANOW, self._found)

    def _end(self, signo: int, frame: FrameType | None) -> None:
        raise Ended(signo)

    def _stop(self, signo: int, frame: FrameType | None) -> None:
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _continue(self, signo: int, frame: FrameType | None) -> None:
        self._raw()
